//! Builds answers: statuses, validators, ranges, `Cache-Status`.

mod asset;
mod body;
mod change;
mod document;
mod problem;
mod range;

use bytes::Bytes;
use futures_util::Stream;
use http::header::{
    AGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;

pub use asset::asset;
pub use body::Body;
pub use change::{changed, forwarded};
pub use document::{checksum, document, document_checksum};
pub use problem::problem;

use super::credential::CredentialHeaders;
use super::peer::Peer;
use super::response_cache::Replay;
use crate::fetch::Outcome;
use crate::problem::{Kind, Problem};
use crate::repository::Cached;
use crate::telemetry::AnswerSource;

/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The parts of a request's head that its answer depends on.
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// All but what is `presented`.
    pub headers: &'a HeaderMap,
    pub presented: &'a CredentialHeaders,
    pub peer: Peer,
}

impl RequestHead<'_> {
    pub fn text(&self, name: HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether the client holds these very bytes already (RFC 9110 §13.2.2).
    fn holds(&self, etag: &str, last_modified: Option<&str>) -> bool {
        if self.headers.contains_key(IF_NONE_MATCH) {
            let held = self.text(IF_NONE_MATCH);
            return held.trim() == "*"
                || held
                    .split(',')
                    .any(|one| one.trim().trim_start_matches("W/") == etag);
        }
        let since = httpdate::parse_http_date(self.text(IF_MODIFIED_SINCE));
        let modified = last_modified.map(httpdate::parse_http_date);
        matches!((since, modified), (Ok(since), Some(Ok(modified))) if modified <= since)
    }
}

/// How a request was answered: the word for it in the access log and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// The cache's outcome, for a document or an asset.
    Cache(Outcome),
    Problem(Kind),
    Published,
    /// A publish that waits for its upstream.
    Spooled,
    Forwarded,
    /// The API's own words.
    Answered,
    /// Larder's own pages, and what is known without asking.
    Plain,
}

impl AnswerOutcome {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache(outcome) => outcome.as_str(),
            Self::Problem(kind) => kind.as_str(),
            Self::Published => "published",
            Self::Spooled => "spooled",
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
            Self::Plain => "-",
        }
    }

    /// Where the bytes came from; `saved_ms` is the waiting that they spared if they were here.
    pub fn source(self, saved_ms: u64) -> AnswerSource {
        match self {
            Self::Cache(outcome) if outcome.was_here() => AnswerSource::Here { saved_ms },
            Self::Cache(_) => AnswerSource::Fetched,
            _ => AnswerSource::Own,
        }
    }
}

/// An answer in the making.
pub struct Answer {
    pub response: Response<Body>,
    /// For the access line and the counters.
    pub outcome: AnswerOutcome,
    pub cached: Option<Cached>,
    /// For the response cache; `None` where the answer may not be given again.
    pub replay: Option<Replay>,
}

impl Answer {
    fn new(status: StatusCode, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self {
            response,
            outcome: AnswerOutcome::Plain,
            cached: None,
            replay: None,
        }
    }

    /// Sets a header; a value that no header can carry is left out.
    pub fn header(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().insert(name, value);
        }
    }

    pub fn content_type(&mut self, media_type: &str) {
        self.header(CONTENT_TYPE, media_type);
    }

    fn validators(&mut self, etag: &str, last_modified: Option<&str>) {
        self.header(ETAG, etag);
        if let Some(last_modified) = last_modified {
            self.header(LAST_MODIFIED, last_modified);
        }
    }

    /// Says what the cache did.
    fn cached(mut self, cached: Cached) -> Self {
        self.outcome = AnswerOutcome::Cache(cached.outcome);
        let status = cached.outcome.cache_status(&cached.connection);
        self.header(CACHE_STATUS, &status);
        self.header(AGE, &cached.age.to_string());
        self.cached = Some(cached);
        self
    }

    /// A `HEAD` answer has the headers of the `GET` and no body.
    pub fn for_method(mut self, method: &Method) -> Self {
        if method == Method::HEAD {
            if let Some(length) = http_body::Body::size_hint(self.response.body()).exact()
                && !self.response.headers().contains_key(CONTENT_LENGTH)
            {
                self.header(CONTENT_LENGTH, &length.to_string());
            }
            *self.response.body_mut() = Body::empty();
        }
        self
    }
}

/// A short text.
pub fn text(status: StatusCode, body: &str) -> Answer {
    whole(
        status,
        "text/plain; charset=utf-8",
        Bytes::copy_from_slice(body.as_bytes()),
    )
}

/// A text that comes piece by piece.
pub fn pieces(pieces: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static) -> Answer {
    let mut answer = Answer::new(StatusCode::OK, Body::pieces(pieces, None));
    answer.content_type("text/plain; charset=utf-8");
    answer
}

/// A value of Larder's own as JSON.
pub fn json(value: &impl Serialize) -> Result<Answer, Problem> {
    let body = serde_json::to_vec(value)
        .map_err(|error| Problem::internal("an answer cannot be written", error))?;
    Ok(whole(StatusCode::OK, "application/json", body.into()))
}

/// A body in hand.
pub fn whole(status: StatusCode, content_type: &str, body: Bytes) -> Answer {
    let mut answer = Answer::new(status, Body::whole(body));
    answer.content_type(content_type);
    answer
}

/// To the same thing under its right address.
pub fn redirect(location: &str) -> Answer {
    let mut answer = text(StatusCode::MOVED_PERMANENTLY, "moved\n");
    answer.header(http::header::LOCATION, location);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_holds_the_bytes_is_told_so() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:49:38 GMT";
        for (name, value, holds) in [
            (IF_NONE_MATCH, "\"a\"", true),
            (IF_NONE_MATCH, "\"x\", W/\"a\"", true),
            (IF_NONE_MATCH, "*", true),
            (IF_NONE_MATCH, "\"b\"", false),
            (IF_MODIFIED_SINCE, date, true),
            (IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT", false),
            (IF_MODIFIED_SINCE, later, true),
            (IF_MODIFIED_SINCE, "yesterday", false),
        ] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            let head = RequestHead {
                method: &Method::GET,
                headers: &headers,
                presented: &CredentialHeaders::default(),
                peer: Peer::at([127, 0, 0, 1].into(), false),
            };
            assert_eq!(head.holds("\"a\"", Some(date)), holds, "{value}");
        }
    }
}
