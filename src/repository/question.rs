//! Questions whose body goes to upstream and whose answer is not kept (npm's audit).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::lookup::Lookup;
use super::{Reader, Repository, Snapshot};
use crate::connection::{Connection, UpstreamRequest};
use crate::package::{Format, Location};
use crate::problem::Problem;

impl Reader {
    /// Asks the nearest source. Nothing of the client but the body goes there.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn question(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        format: Format,
        location: &Location,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Problem> {
        let connection = repository
            .connections_of(format)
            .next()
            .ok_or_else(|| repository.no_source(format))?;
        let body = self
            .without_own_names(snapshot, repository, connection, body)
            .await?;
        let ask = UpstreamRequest {
            method: Method::POST,
            body: Some((content_type, body)),
            ..UpstreamRequest::get(
                self.evidence.locate(connection, location).await?,
                content_type,
                snapshot.config.fetch.patience,
            )
        };
        let what = "the answer";
        let failed = |error: crate::connection::Error| error.problem(&connection.name, what);
        let opened = connection.ask(&ask).await.map_err(failed)?;
        opened
            .body(snapshot.config.fetch.document_bytes_max)
            .await
            .map_err(failed)
    }

    /// The question without the packages that nobody outside is asked for: what is ours is not
    /// told.
    async fn without_own_names(
        &self,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        connection: &Connection,
        body: Bytes,
    ) -> Result<Bytes, Problem> {
        let protocol = connection.format.protocol();
        let Some(question) = protocol.audit_question() else {
            return Ok(body);
        };
        let mut own = HashSet::new();
        for name in question.names(&body) {
            let Ok(package) = protocol.package(&name) else {
                continue;
            };
            let lookup = Lookup::new(snapshot, repository, &package);
            if !self.may_ask(&lookup, connection).await? {
                own.insert(name);
            }
        }
        if own.is_empty() {
            return Ok(body);
        }
        question
            .without(&body, &own)
            .map(Bytes::from)
            .map_err(|error| Problem::invalid(format!("the question cannot be read: {error}")))
    }
}
