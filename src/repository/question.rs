//! Questions whose body goes to upstream and whose answer is not kept (npm's audit).

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::{Reader, Repository, Snapshot};
use crate::connection::Ask;
use crate::package::{Format, Location};
use crate::problem::Problem;

impl Reader {
    /// Asks the nearest source. Nothing of the client but the body goes there.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn question(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &Repository,
        format: Format,
        location: &Location,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Problem> {
        let sources = repository.sources(format)?;
        let Some(connection) = sources.first() else {
            return Err(Problem::internal(
                "no source",
                "a repository without connections",
            ));
        };
        let ask = Ask {
            method: Method::POST,
            body: Some((content_type, body)),
            ..Ask::get(
                self.locate(connection, location).await?,
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
}
