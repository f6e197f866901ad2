//! An answer of a registry, whose body is read piece by piece.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::error::{Error, transport};
use super::silence::Silence;
use crate::format::bounded::{Bounded, TooLong};
use crate::telemetry::{Egress, Metrics};

/// An answer whose body is still to come. It holds its place among the requests under way.
pub struct Opened {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// After redirects.
    pub url: Url,
    /// The request's headers, which freshness depends on.
    pub asked: HeaderMap,
    pub(super) response: reqwest::Response,
    /// The rest of a piece of which the beginning was skipped.
    pub(super) ahead: Option<Bytes>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) egress: Arc<Egress>,
    /// The registry's, where the answer is its own.
    pub(super) silence: Option<Arc<Silence>>,
    pub(super) _place: OwnedSemaphorePermit,
}

impl Opened {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// Where the body breaks off or stalls.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(piece) = self.ahead.take() {
            return Ok(Some(piece));
        }
        let piece = self
            .response
            .chunk()
            .await
            .map_err(|error| transport(&error))?;
        if let Some(piece) = &piece {
            self.metrics.fetched_bytes.inc_by(piece.len() as u64);
            self.egress.add(piece.len() as u64);
        } else if let Some(silence) = &self.silence {
            silence.end();
        }
        Ok(piece)
    }

    /// Gives back the piece that was given last, to be given once more.
    pub fn put_back(&mut self, piece: Bytes) {
        self.ahead = Some(piece);
    }

    /// Passes over the first bytes of the body.
    ///
    /// # Errors
    /// Where it breaks off, or has fewer.
    pub async fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut left = count;
        while left > 0 {
            let Some(mut piece) = self.piece().await? else {
                return Err(Error::Body("it became shorter".to_owned()));
            };
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let rest = piece.split_off(take);
            left -= take as u64;
            if !rest.is_empty() {
                self.ahead = Some(rest);
            }
        }
        Ok(())
    }

    /// The length that upstream promises; none where the body is coded or chunked.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response
            .content_length()
            .filter(|_| self.headers.contains_key(http::header::CONTENT_LENGTH))
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    /// The whole body, up to `max` bytes.
    ///
    /// # Errors
    /// Where it breaks off or is longer.
    pub async fn body(mut self, max: u64) -> Result<Bytes, Error> {
        let too_long = |error: TooLong| Error::Body(error.to_string());
        let mut body = Bounded::new(max);
        while let Some(piece) = self.piece().await? {
            body.push(&piece).map_err(too_long)?;
        }
        Ok(body.finish().map_err(too_long)?.into())
    }
}
