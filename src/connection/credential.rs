//! The credential of a connection: a header from the configuration, or a token that is fetched from
//! CodeArtifact and renewed before it expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use super::error::Error;
use crate::aws::AwsAccount;
use crate::clock;
use crate::config::{self, Auth, CodeArtifact};
use crate::format::bounded::{Bounded, TooLong};
use crate::format::{TokenScheme, plain};
use crate::package::Format;
use crate::secret::Secret;

/// CodeArtifact must give a token within this time.
const PATIENCE: Duration = Duration::from_secs(15);
/// After a failed renewal nobody tries again for this long: many requests may be waiting.
const REST: Duration = Duration::from_secs(5);
/// A token is renewed this long before it expires, or in the last quarter of its lifetime.
const MARGIN_SECONDS_MAX: i64 = 600;
/// A real answer with a token is a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The credential that a connection's requests carry.
pub(super) enum Credential {
    StaticHeader(HeaderName, HeaderValue),
    CodeArtifact(Box<CodeArtifactToken>),
}

impl Credential {
    pub(super) fn new(auth: &Auth, format: Format, http: &reqwest::Client) -> Result<Self, String> {
        match auth {
            Auth::Header { name, value } => {
                let name = name
                    .parse::<HeaderName>()
                    .map_err(|_| format!("`{name}` is no header name"))?;
                Ok(Self::StaticHeader(name, sensitive(value)?))
            }
            Auth::CodeArtifact(place) => Ok(Self::CodeArtifact(Box::new(CodeArtifactToken::new(
                place, format, http,
            )))),
        }
    }

    /// The header of a request that is sent now.
    pub(super) async fn header(&self) -> Result<(HeaderName, HeaderValue), Error> {
        match self {
            Self::StaticHeader(name, value) => Ok((name.clone(), value.clone())),
            // Boxed, because a renewal is rare and its future would enlarge that of every request.
            Self::CodeArtifact(token) => Ok((AUTHORIZATION, Box::pin(token.value()).await?)),
        }
    }

    /// Takes note of upstream's status to a request with this credential. Returns whether to repeat
    /// the request with a new token.
    pub(super) fn answered(&self, status: StatusCode, value: Option<&HeaderValue>) -> bool {
        match self {
            Self::CodeArtifact(token) if status == StatusCode::UNAUTHORIZED => token.forget(value),
            Self::CodeArtifact(token) => token.was_taken(),
            Self::StaticHeader(..) => false,
        }
    }
}

fn sensitive(value: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value.expose())
        .map_err(|_| "the credential has characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A CodeArtifact token that is renewed in time (API reference, `GetAuthorizationToken`).
pub(super) struct CodeArtifactToken {
    place: CodeArtifact,
    format: Format,
    account: AwsAccount,
    http: reqwest::Client,
    held: ArcSwapOption<Token>,
    /// Held while a token is renewed. Remembers the last failure, so that waiters do not retry at
    /// once.
    renewal: Mutex<Option<(Instant, Error)>>,
}

struct Token {
    value: HeaderValue,
    /// Seconds since 1970.
    renew_at: i64,
    ends_at: i64,
    taken: AtomicBool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_token: String,
    /// Seconds since 1970.
    expiration: f64,
}

impl CodeArtifactToken {
    fn new(place: &CodeArtifact, format: Format, http: &reqwest::Client) -> Self {
        Self {
            place: place.clone(),
            format,
            account: AwsAccount::new(&place.region),
            http: http.clone(),
            held: ArcSwapOption::empty(),
            renewal: Mutex::new(None),
        }
    }

    /// Returns the header. While one request renews the token, the others go on with the old one.
    async fn value(&self) -> Result<HeaderValue, Error> {
        let now = clock::unix_now();
        let held = self.held.load_full().filter(|token| now < token.ends_at);
        if let Some(token) = held.as_ref().filter(|token| now < token.renew_at) {
            return Ok(token.value.clone());
        }
        let mut failed = match (&held, self.renewal.try_lock()) {
            (_, Ok(failed)) => failed,
            (Some(token), Err(_)) => return Ok(token.value.clone()),
            (None, Err(_)) => self.renewal.lock().await,
        };
        // Another request may have renewed it while this one waited.
        if let Some(token) = self.held.load_full().filter(|it| now < it.renew_at) {
            return Ok(token.value.clone());
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| at.elapsed() < REST) {
            return held
                .map(|token| token.value.clone())
                .ok_or_else(|| error.clone());
        }
        match self.ask().await {
            Ok(token) => {
                *failed = None;
                let value = token.value.clone();
                info!(
                    domain = self.place.domain,
                    seconds = token.ends_at - now,
                    "A CodeArtifact token was fetched"
                );
                self.held.store(Some(Arc::new(token)));
                Ok(value)
            }
            Err(error) => {
                warn!(domain = self.place.domain, %error, "Fetching a CodeArtifact token failed; an earlier one is used until it expires");
                *failed = Some((Instant::now(), error.clone()));
                held.map(|token| token.value.clone()).ok_or(error)
            }
        }
    }

    /// Notes that upstream accepted the token. If it is refused later, it was revoked.
    fn was_taken(&self) -> bool {
        if let Some(token) = self.held.load().as_ref() {
            token.taken.store(true, Ordering::Relaxed);
        }
        false
    }

    /// Drops a token that worked before and is refused now, so that the next request fetches a new
    /// one. A token that never worked is kept: a new one would not work either.
    fn forget(&self, value: Option<&HeaderValue>) -> bool {
        let held = self.held.load_full();
        match &held {
            Some(token) if Some(&token.value) == value => {
                let worked = token.taken.load(Ordering::Relaxed);
                if worked {
                    self.held.compare_and_swap(&held, None);
                }
                worked
            }
            _ => true,
        }
    }

    async fn ask(&self) -> Result<Token, Error> {
        let asked = async {
            let request = Request::builder()
                .method(Method::POST)
                .uri(self.address().as_str())
                .body(Bytes::new())
                .map_err(|error| no_token(error.to_string()))?;
            let request = self
                .account
                .sign("codeartifact", request)
                .await
                .map_err(|error| no_token(error.to_string()))?;
            let request =
                reqwest::Request::try_from(request).map_err(|error| no_token(error.to_string()))?;
            let response = self
                .http
                .execute(request)
                .await
                .map_err(|error| no_token(super::error::transport(&error).to_string()))?;
            let answer = read_answer(response).await?;
            self.token(&answer)
        };
        in_time(Box::pin(asked)).await
    }

    fn token(&self, answer: &Answer) -> Result<Token, Error> {
        let token = Secret::new(&answer.authorization_token);
        // The user name is ignored (CodeArtifact user guide, "Using CodeArtifact
        // with …").
        let value = match self.format.protocol().token_scheme() {
            TokenScheme::Bearer => config::bearer(&token),
            TokenScheme::Password => config::basic("aws", &token),
        };
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a point in time, which floats hold for ages to come; what is beyond saturates"
        )]
        let ends_at = answer.expiration as i64;
        Ok(Token {
            value: sensitive(&value).map_err(|cause| Error::NoToken { cause })?,
            renew_at: renew_at(clock::unix_now(), ends_at),
            ends_at,
            taken: AtomicBool::new(false),
        })
    }

    fn address(&self) -> Url {
        let mut url = self.place.endpoint.clone();
        let path = format!(
            "{}/v1/authorization-token",
            url.path().trim_end_matches('/')
        );
        url.set_path(&path);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("domain", &self.place.domain);
            if let Some(owner) = &self.place.owner {
                query.append_pair("domain-owner", owner);
            }
        }
        url
    }
}

fn no_token(cause: String) -> Error {
    Error::NoToken { cause }
}

/// Waits for a token as long as a request may.
async fn in_time(asked: impl Future<Output = Result<Token, Error>>) -> Result<Token, Error> {
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(no_token("no answer in time".to_owned())))
}

async fn read_answer(mut response: reqwest::Response) -> Result<Answer, Error> {
    let too_long = |error: TooLong| no_token(format!("the answer: {error}"));
    let mut body = Bounded::new(ANSWER_BYTES_MAX);
    while let Ok(Some(piece)) = response.chunk().await {
        body.push(&piece).map_err(too_long)?;
    }
    let body = body.finish().map_err(too_long)?;
    let status = response.status();
    if !status.is_success() {
        let said = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|it| Some(it.get("message")?.as_str()?.to_owned()));
        let said = said.unwrap_or_else(|| "nothing more is said".to_owned());
        return Err(no_token(format!("status {}, {said}", status.as_u16())));
    }
    serde_json::from_slice(&body).map_err(|error| {
        no_token(format!(
            "its answer cannot be read: {}",
            plain::json(&error)
        ))
    })
}

/// When to renew a token that was given `now`.
fn renew_at(now: i64, ends_at: i64) -> i64 {
    let margin = (ends_at.saturating_sub(now) / 4).min(MARGIN_SECONDS_MAX);
    ends_at.saturating_sub(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        assert_eq!(renew_at(0, 43_200), 42_600);
        assert_eq!(renew_at(0, 900), 675);
        assert!(renew_at(10, 5) <= 10);
    }

    #[tokio::test]
    async fn an_answer_with_a_token_is_read_up_to_its_bound() {
        let read = async |bytes: u64| {
            let mut body = br#"{"authorizationToken":"a","expiration":1}"#.to_vec();
            body.resize(usize::try_from(bytes).unwrap(), b' ');
            read_answer(reqwest::Response::from(http::Response::new(body))).await
        };
        let answer = read(ANSWER_BYTES_MAX).await.unwrap();
        assert_eq!(answer.authorization_token, "a");
        assert!(read(ANSWER_BYTES_MAX + 1).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_waited_for_so_long() {
        let token = || Token {
            value: HeaderValue::from_static("a"),
            renew_at: 1,
            ends_at: 1,
            taken: AtomicBool::new(false),
        };
        let after = |time: Duration| async move {
            tokio::time::sleep(time).await;
            Ok(token())
        };
        assert!(in_time(after(PATIENCE.mul_f64(0.99))).await.is_ok());
        assert!(in_time(after(PATIENCE.mul_f64(1.01))).await.is_err());
    }
}
