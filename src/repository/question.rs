//! Questions whose body goes to upstream and whose answer is not kept (npm's audit).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::lookup::Lookup;
use super::{Reader, Repository, Snapshot};
use crate::connection::{Connection, Error, Refusals, UpstreamRequest};
use crate::fetch::{QUESTION_PATIENCE, media_type};
use crate::package::{Format, Location};
use crate::problem::{Kind, Problem};

/// A registry's words where it refuses a question.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;

/// A registry's answer to a question.
pub enum QuestionReply {
    Answer(Bytes),
    /// The question is at fault: the registry's own status and words.
    Refusal {
        status: u16,
        is_json: bool,
        body: Bytes,
    },
}

/// A question without an answer. A registry that throttles is passed on as one.
fn unanswered(error: &Error, connection: &Connection) -> Problem {
    let problem = error.problem(&connection.name, "the answer");
    match (error, problem.kind) {
        (Error::Throttled { .. }, Kind::Unavailable { retry_after }) => Problem {
            kind: Kind::TooMany { retry_after },
            ..problem
        },
        _ => problem,
    }
}

impl Reader {
    /// Asks the nearest source. Nothing of the client but the body goes there.
    ///
    /// # Errors
    /// Where it does not answer within `fetch.question_timeout`, throttles, or fails.
    pub async fn question(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        format: Format,
        location: &Location,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<QuestionReply, Problem> {
        let connection = repository
            .connections_of(format)
            .next()
            .ok_or_else(|| repository.no_source(format))?;
        let body = self
            .without_own_names(snapshot, repository, connection, body)
            .await?;
        let fetch = &snapshot.config.fetch;
        let asked = async {
            let ask = UpstreamRequest {
                method: Method::POST,
                body: Some((content_type, body)),
                refusals: Refusals::Answer,
                ..UpstreamRequest::get(
                    self.evidence.locate(connection, location).await?,
                    content_type,
                    QUESTION_PATIENCE,
                )
            };
            let failed = |error: Error| unanswered(&error, connection);
            let opened = connection.ask(&ask).await.map_err(failed)?;
            if opened.status.is_client_error() {
                let is_json = media_type(&opened.headers).contains("json");
                return Ok(QuestionReply::Refusal {
                    status: opened.status.as_u16(),
                    is_json,
                    body: opened.beginning(REFUSAL_BYTES_MAX).await.map_err(failed)?,
                });
            }
            let body = opened.body(fetch.document_bytes_max).await;
            Ok(QuestionReply::Answer(body.map_err(failed)?))
        };
        tokio::time::timeout(fetch.question_timeout, asked)
            .await
            .unwrap_or_else(|_| Err(unanswered(&Error::TimedOut, connection)))
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
