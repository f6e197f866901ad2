//! Identity tokens of other issuers, exchanged for Larder's own: CI without secrets (OpenID Connect
//! Core 1.0 §3.1.3.7, Discovery 1.0 §4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use wildmatch::WildMatch;

use super::principal::Principal;
use super::token::Maker;
use crate::config::{IssuerReach, Oidc};
use crate::format::bounded::Bounded;
use crate::format::plain;
use crate::task::{Flight, Flights, Tasks};

/// How long an issuer's keys are taken for its keys.
const KEYS_FOR: Duration = Duration::from_secs(600);
/// How long an issuer is not asked again after it was asked for a key that it was not known to have:
/// keys are rotated, but not for everybody who makes one up.
const ROTATED_AFTER: Duration = Duration::from_secs(60);
/// How long an issuer that could not be asked is left alone.
const REST: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest document of an issuer.
const DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;
/// How far an issuer's clock may be from ours, in seconds.
const LEEWAY: u64 = 60;

/// Signed by a key that the issuer keeps for itself: with the others whoever checks could sign.
const ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Why a token is not exchanged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExchangeRefused {
    #[error("it is no identity token")]
    Malformed,
    #[error("no [[oidc]] is for its issuer")]
    Issuer,
    #[error("it is signed by {0:?}, which is not taken")]
    Algorithm(Algorithm),
    #[error("its issuer has no such key")]
    Key,
    #[error("it does not hold: {0}")]
    Invalid(String),
    #[error("its claims are those of no [[oidc]]: {0}")]
    Claims(String),
    #[error("its issuer cannot be asked for its keys: {0}")]
    Away(String),
}

/// The holder of an identity token.
pub struct Session {
    pub principal: Principal,
    /// The setting that says so.
    pub maker: Maker,
    /// For how long.
    pub seconds: i64,
}

/// The issuers' keys, as they are known of late. Only issuers of the configuration have an entry.
pub struct Issuers {
    http: Arc<OnceCell<reqwest::Client>>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    /// Requests that need an issuer at the same time share one call, which ends with none of them.
    flights: Flights<String, Result<Arc<JwkSet>, ExchangeRefused>>,
}

/// The result of the last call to an issuer.
struct Known {
    keys: Result<Arc<JwkSet>, ExchangeRefused>,
    asked_at: Instant,
    /// When it was last asked for a key that was not among those that it had.
    sought_at: Option<Instant>,
}

/// A look-up of a key among those that are known of its issuer.
enum Answer {
    Key(Arc<JwkSet>),
    Refused(ExchangeRefused),
    Ask,
}

impl Known {
    /// Looks the key up. Notes when the issuer has to be asked, so that unknown keys do not have it
    /// asked each time.
    fn answer(&mut self, kid: &str) -> Answer {
        let age = self.asked_at.elapsed();
        match &self.keys {
            Ok(keys) if age < KEYS_FOR && keys.find(kid).is_some() => Answer::Key(Arc::clone(keys)),
            Ok(_) if age < KEYS_FOR => {
                let rests = |at: Instant| at.elapsed() < ROTATED_AFTER;
                if self.sought_at.is_some_and(rests) {
                    return Answer::Refused(ExchangeRefused::Key);
                }
                self.sought_at = Some(Instant::now());
                Answer::Ask
            }
            Err(why) if age < REST => Answer::Refused(why.clone()),
            _ => Answer::Ask,
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuers {
    pub fn new(tasks: &Tasks) -> Self {
        Self {
            http: Arc::default(),
            known: Arc::default(),
            flights: Flights::new(tasks.clone()),
        }
    }

    /// Checks the token; whom it stands for by the first setting that its claims fulfil.
    ///
    /// # Errors
    /// Why it is not exchanged.
    pub async fn check(
        &self,
        token: &str,
        settings: &[Oidc],
        owner: &str,
    ) -> Result<Session, ExchangeRefused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| ExchangeRefused::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(ExchangeRefused::Algorithm(header.alg));
        }
        let claimed = unchecked_issuer(token).ok_or(ExchangeRefused::Malformed)?;
        let settings: Vec<&Oidc> = settings.iter().filter(|it| it.issuer == claimed).collect();
        if settings.is_empty() {
            return Err(ExchangeRefused::Issuer);
        }
        let kid = header.kid.unwrap_or_default();
        let key = self.key(&claimed, &kid).await?;
        let audiences: Vec<&str> = settings.iter().map(|it| it.audience.as_str()).collect();
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&claimed]);
        validation.set_audience(&audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
            .map_err(|error| ExchangeRefused::Invalid(error.to_string()))?
            .claims;
        let mut unmet = String::new();
        for setting in settings {
            match fulfils(&claims, setting) {
                Ok(()) => {
                    let principal = Principal::session_of(owner, &setting.role, &session(&claims));
                    let principal =
                        principal.map_err(|error| ExchangeRefused::Invalid(error.to_string()))?;
                    let seconds = i64::try_from(setting.expires.as_secs()).unwrap_or(3600);
                    return Ok(Session {
                        principal,
                        maker: Maker::Oidc {
                            issuer: setting.issuer.clone(),
                            role: setting.role.clone(),
                        },
                        seconds,
                    });
                }
                Err(why) => unmet = why,
            }
        }
        Err(ExchangeRefused::Claims(unmet))
    }

    async fn key(&self, issuer: &str, kid: &str) -> Result<DecodingKey, ExchangeRefused> {
        let flight = {
            // Held until the flight is joined: nobody starts a second one in between.
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = known
                .get_mut(issuer)
                .map_or(Answer::Ask, |known| known.answer(kid));
            match answer {
                Answer::Key(keys) => return find(&keys, kid),
                Answer::Refused(why) => return Err(why),
                Answer::Ask => self.ask(issuer),
            }
        };
        let keys = flight
            .await
            .unwrap_or_else(|| Err(ExchangeRefused::Away("asking it failed".to_owned())));
        find(&*keys?, kid)
    }

    fn ask(&self, issuer: &str) -> Flight<Result<Arc<JwkSet>, ExchangeRefused>> {
        let issuer = issuer.to_owned();
        self.flights.join(&issuer.clone(), || {
            let (http, known) = (Arc::clone(&self.http), Arc::clone(&self.known));
            async move {
                let keys = fetch(&http, &issuer).await;
                note(&known, issuer, &keys);
                keys
            }
        })
    }
}

fn note(
    known: &Mutex<HashMap<String, Known>>,
    issuer: String,
    keys: &Result<Arc<JwkSet>, ExchangeRefused>,
) {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let before = known.get(&issuer);
    let is_good = |it: &Known| it.keys.is_ok() && it.asked_at.elapsed() < KEYS_FOR;
    // Keys that still hold are not given up because the issuer is away.
    if keys.is_err() && before.is_some_and(is_good) {
        return;
    }
    let now = Known {
        keys: keys.clone(),
        asked_at: Instant::now(),
        sought_at: before.and_then(|it| it.sought_at),
    };
    known.insert(issuer, now);
}

/// An issuer's keys, by way of its discovery document.
#[allow(
    clippy::disallowed_methods,
    reason = "issuers are asked by a client of their own"
)]
async fn fetch(
    http: &OnceCell<reqwest::Client>,
    issuer: &str,
) -> Result<Arc<JwkSet>, ExchangeRefused> {
    let http = http.get_or_try_init(|| async {
        reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
    });
    let http = http
        .await
        .map_err(|error| ExchangeRefused::Away(error.to_string()))?;
    let base = issuer.trim_end_matches('/');
    let url = format!("{base}/.well-known/openid-configuration");
    let discovery: Discovery = document(http, &url).await?;
    if discovery.issuer != issuer {
        return Err(ExchangeRefused::Away(format!("{url} is of another issuer")));
    }
    // An issuer on this machine may have its keys there as well; one beyond may not send us there,
    // nor from TLS to plain text.
    let allowed = match (
        IssuerReach::of(issuer),
        IssuerReach::of(&discovery.jwks_uri),
    ) {
        (_, Some(IssuerReach::Tls)) => true,
        (from, Some(IssuerReach::Loopback)) => from == Some(IssuerReach::Loopback),
        (_, None) => false,
    };
    if !allowed {
        return Err(ExchangeRefused::Away(
            "its keys are neither at an https:// address nor, as it itself, on this machine".into(),
        ));
    }
    document(http, &discovery.jwks_uri).await.map(Arc::new)
}

async fn document<T: serde::de::DeserializeOwned>(
    http: &reqwest::Client,
    url: &str,
) -> Result<T, ExchangeRefused> {
    let away = |why: String| ExchangeRefused::Away(format!("{url}: {why}"));
    let asked = http.get(url).send().await;
    let asked = asked.map_err(|error| away(plain::cause(&error)))?;
    answered(url, asked).await
}

/// The document in an issuer's answer.
async fn answered<T: serde::de::DeserializeOwned>(
    url: &str,
    mut asked: reqwest::Response,
) -> Result<T, ExchangeRefused> {
    let away = |why: String| ExchangeRefused::Away(format!("{url}: {why}"));
    let status = asked.status();
    if status.is_client_error() || status.is_server_error() {
        return Err(away(format!("it answers with status {}", status.as_u16())));
    }
    let mut body = Bounded::new(DOCUMENT_BYTES_MAX);
    while let Some(piece) = asked
        .chunk()
        .await
        .map_err(|error| away(plain::cause(&error)))?
    {
        body.push(&piece).map_err(|error| away(error.to_string()))?;
    }
    let body = body.finish().map_err(|error| away(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| away(plain::json(&error)))
}

fn find(keys: &JwkSet, kid: &str) -> Result<DecodingKey, ExchangeRefused> {
    let key = keys.find(kid).ok_or(ExchangeRefused::Key)?;
    DecodingKey::from_jwk(key).map_err(|error| ExchangeRefused::Invalid(error.to_string()))
}

/// The issuer that a token claims, before its signature is checked: nothing is believed by it.
fn unchecked_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let mut validation = Validation::default();
    validation.insecure_disable_signature_validation();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation.algorithms = ALGORITHMS.to_vec();
    let none = DecodingKey::from_secret(&[]);
    let claims = jsonwebtoken::decode::<Issuer>(token, &none, &validation).ok()?;
    Some(claims.claims.iss)
}

fn fulfils(claims: &Value, setting: &Oidc) -> Result<(), String> {
    // Several settings may have one issuer; the audience tells them apart.
    let is_for = |value: &Value| value == setting.audience.as_str();
    let is_meant = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(is_for),
        Some(one) => is_for(one),
        None => false,
    };
    if !is_meant {
        return Err("`aud` is for another".to_owned());
    }
    for (name, wanted) in &setting.claims {
        let pattern = WildMatch::new(wanted);
        let matches = |value: &Value| match value {
            Value::String(text) => pattern.matches(text),
            Value::Bool(_) | Value::Number(_) => pattern.matches(&value.to_string()),
            _ => false,
        };
        let is_met = match claims.get(name) {
            Some(Value::Array(all)) => all.iter().any(matches),
            Some(one) => matches(one),
            None => false,
        };
        if !is_met {
            return Err(format!("`{name}` has to be {wanted}"));
        }
    }
    Ok(())
}

/// The subject as the name of a session.
fn session(claims: &Value) -> String {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or("ci");
    let name: String = subject
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "+=,.@_-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if name.is_empty() {
        "ci".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_document_of_an_issuer_is_read_up_to_its_bound() {
        let read = async |bytes: u64| {
            let mut body = b"{}".to_vec();
            body.resize(usize::try_from(bytes).unwrap(), b' ');
            let answer = reqwest::Response::from(http::Response::new(body));
            answered::<Value>("https://issuer.ci.example", answer).await
        };
        assert_eq!(
            read(DOCUMENT_BYTES_MAX).await.unwrap(),
            serde_json::json!({})
        );
        let refused = read(DOCUMENT_BYTES_MAX + 1).await.unwrap_err();
        assert!(matches!(refused, ExchangeRefused::Away(why) if why.contains("more than")));
    }
}
