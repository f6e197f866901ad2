//! Reads promised digests that are resources of their own, such as Maven's checksum files.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::config;
use crate::connection::{Connection, Error, UpstreamRequest};
use crate::format::is_page;
use crate::package::{Algorithm, Expected, Promise, UpstreamUrl};
use crate::store;
use crate::telemetry::Metrics;

/// Reads digests from upstream, and tells where bytes do not have them.
#[derive(Clone)]
pub struct PromiseReader {
    patience: Duration,
    metrics: Arc<Metrics>,
}

impl PromiseReader {
    pub(super) fn new(config: &config::Fetch, metrics: &Arc<Metrics>) -> Self {
        Self {
            patience: config.patience,
            metrics: Arc::clone(metrics),
        }
    }

    /// Reads the resources that hold digests: all but MD5 at once, and that where nothing else is.
    ///
    /// # Errors
    /// Where upstream did not say whether there is one.
    pub async fn read(
        &self,
        connection: &Arc<Connection>,
        promises: Vec<(Promise, UpstreamUrl)>,
    ) -> Result<Expected, Error> {
        let (weak, strong): (Vec<_>, Vec<_>) = promises
            .into_iter()
            .partition(|(promise, _)| promise.algorithm == Some(Algorithm::Md5));
        let mut outage = None;
        for promises in [strong, weak] {
            let asked = promises
                .iter()
                .map(|(promise, url)| self.read_one(connection, promise, url));
            let mut expected = Expected::none();
            for answer in join_all(asked).await {
                match answer {
                    Ok(found) => found
                        .iter()
                        .for_each(|digest| expected.push(digest.clone())),
                    Err(error) if error.is_outage() => outage = Some(error),
                    Err(_) => {}
                }
            }
            if let Some(strongest) = expected.strongest() {
                return Ok(Expected::from_iter([strongest.clone()]));
            }
        }
        // Where upstream did not say whether there is a digest, nothing is taken unchecked.
        outage.map_or(Ok(Expected::none()), Err)
    }

    async fn read_one(
        &self,
        connection: &Arc<Connection>,
        promise: &Promise,
        url: &UpstreamUrl,
    ) -> Result<Expected, Error> {
        const CHECKSUM_BYTES_MAX: u64 = 1024 * 1024;
        let ask = UpstreamRequest::get(url.clone(), "*/*", self.patience);
        let body = connection.ask(&ask).await?.body(CHECKSUM_BYTES_MAX).await?;
        let promised = connection.format.protocol().promised(promise, &body);
        if promised.is_empty() && is_page(&body) {
            // A gateway's page says nothing of whether there is a digest.
            let what = "a web page in the place of a digest".to_owned();
            return Err(Error::NoDocument(what));
        }
        if promised.is_empty() && is_cut(promise, &body) {
            // Without it, whatever comes would be taken for the file.
            let what = "a digest that was cut short".to_owned();
            return Err(Error::NoDocument(what));
        }
        Ok(promised)
    }

    /// Says in the log and the metrics that bytes were not what was promised.
    pub(super) fn note_broken(&self, connection: &Connection, what: &str, error: &store::Error) {
        self.metrics.unverified.inc();
        warn!(connection = %connection.name, %error, "{what} from `{}` does not match its promised digest; nothing is stored", connection.name);
    }
}

/// Whether a body in which there is no digest is the begin of one that has it.
fn is_cut(promise: &Promise, body: &[u8]) -> bool {
    let text = body.trim_ascii();
    match text.first() {
        // Nothing is a checksum file of some registries, and no document at all.
        None => promise.algorithm.is_none(),
        Some(b'{') => serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err(),
        Some(_) => text.iter().all(u8::is_ascii_hexdigit),
    }
}
