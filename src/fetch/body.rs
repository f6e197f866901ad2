//! The body of a download, resumed where it breaks off.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tracing::info;

use super::asset::{AssetFetcher, WantedAsset};
use crate::connection::{Error, Opened};
use crate::package::Expectation;

/// A body under way from upstream.
pub struct DownloadBody {
    /// None where what is left of it has to be asked for.
    opened: Option<Opened>,
    /// Bytes that were given out.
    at: u64,
    length: Option<u64>,
    validator: Option<HeaderValue>,
    resumes_left: usize,
}

impl DownloadBody {
    pub fn new(opened: Opened, resumes_max: usize) -> Self {
        Self {
            length: opened.length(),
            validator: strong_validator(&opened.headers),
            opened: Some(opened),
            at: 0,
            resumes_left: resumes_max,
        }
    }

    /// Bytes that were given out so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Gives a piece back, to be given out once more.
    pub fn put_back(&mut self, piece: Bytes) {
        self.at = self.at.saturating_sub(piece.len() as u64);
        if let Some(opened) = &mut self.opened {
            opened.put_back(piece);
        }
    }

    /// The rest of the same body for somebody else, asked for anew.
    pub fn rest(&self) -> Self {
        Self {
            opened: None,
            at: self.at,
            length: self.length,
            validator: self.validator.clone(),
            resumes_left: self.resumes_left,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Where the body breaks off once more than it may, or cannot be resumed.
    pub async fn piece(
        &mut self,
        fetcher: &AssetFetcher,
        wanted: &WantedAsset,
    ) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(opened) = &mut self.opened else {
                let validator = self.validator.as_ref();
                self.opened = Some(resume(fetcher, wanted, self.at, validator).await?);
                continue;
            };
            let broken = match opened.piece().await {
                Ok(Some(piece)) => {
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Ok(None) if self.length.is_none_or(|length| self.at >= length) => return Ok(None),
                Ok(None) => Error::Body("it ended early".to_owned()),
                Err(error) => error,
            };
            if self.resumes_left == 0 {
                return Err(broken);
            }
            self.resumes_left -= 1;
            info!(asset = %wanted.key.asset, at = self.at, error = %broken, "A download broke off and is resumed");
            self.opened = None;
        }
    }
}

/// Asks for the rest of the body. Where upstream sends the whole body again, the part that we
/// have is skipped; the digest will show whether both halves belong together.
async fn resume(
    fetcher: &AssetFetcher,
    wanted: &WantedAsset,
    at: u64,
    validator: Option<&HeaderValue>,
) -> Result<Opened, Error> {
    let mut headers = HeaderMap::new();
    if at > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={at}-"))
    {
        headers.insert(RANGE, range);
        if let Some(validator) = validator {
            headers.insert(IF_RANGE, validator.clone());
        }
    }
    let ask = fetcher.ask_for(wanted, headers);
    let mut opened = wanted.connection.ask(&ask).await?;
    if opened.status == StatusCode::PARTIAL_CONTENT {
        let begins = opened.header(CONTENT_RANGE).and_then(|range| {
            let (begins, _) = range.strip_prefix("bytes ")?.split_once('-')?;
            begins.parse::<u64>().ok()
        });
        return if begins == Some(at) {
            Ok(opened)
        } else {
            Err(Error::Body("it resumes somewhere else".to_owned()))
        };
    }
    if matches!(wanted.facts.expectation, Expectation::FirstSeen) && at > 0 {
        // No digest is promised, so halves of two different bodies would not be noticed.
        return Err(Error::Body("it changed while it was fetched".to_owned()));
    }
    opened.skip(at).await?;
    Ok(opened)
}

/// The strong validator for `If-Range` (RFC 9110 §13.1.5), where upstream sent one.
fn strong_validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let etag = headers
        .get(ETAG)
        .filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    etag.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}
