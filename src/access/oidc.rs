//! Identity tokens of other issuers, exchanged for Larder's own: CI without secrets (OpenID Connect
//! Core 1.0 §3.1.3.7, Discovery 1.0 §4).

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use moka::future::Cache;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use wildmatch::WildMatch;

use super::principal::Principal;
use crate::config::Oidc;

/// How long an issuer's keys are taken for its keys.
const KEYS_FOR: Duration = Duration::from_secs(600);
/// How long an issuer is not asked again for a key that it did not have.
const MISSING_FOR: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest document of an issuer.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
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
pub enum Refused {
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

/// The issuers' keys, as they are known of late.
pub struct Issuers {
    http: OnceCell<reqwest::Client>,
    keys: Cache<String, Arc<JwkSet>>,
    /// Keys that an issuer did not have.
    missing: Cache<(String, String), ()>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Default for Issuers {
    fn default() -> Self {
        Self {
            http: OnceCell::new(),
            keys: Cache::builder()
                .max_capacity(64)
                .time_to_live(KEYS_FOR)
                .build(),
            missing: Cache::builder()
                .max_capacity(1024)
                .time_to_live(MISSING_FOR)
                .build(),
        }
    }
}

impl Issuers {
    /// Checks the token; whom it stands for by the first setting that its claims fulfil, and for
    /// how many seconds.
    ///
    /// # Errors
    /// Why it is not exchanged.
    pub async fn check(
        &self,
        token: &str,
        settings: &[Oidc],
        owner: &str,
    ) -> Result<(Principal, i64), Refused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Refused::Algorithm(header.alg));
        }
        let claimed = unchecked_issuer(token).ok_or(Refused::Malformed)?;
        let settings: Vec<&Oidc> = settings.iter().filter(|it| it.issuer == claimed).collect();
        if settings.is_empty() {
            return Err(Refused::Issuer);
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
            .map_err(|error| Refused::Invalid(error.to_string()))?
            .claims;
        let mut unmet = String::new();
        for setting in settings {
            match fulfils(&claims, setting) {
                Ok(()) => {
                    let principal = Principal::session_of(owner, &setting.role, &session(&claims));
                    let principal =
                        principal.map_err(|error| Refused::Invalid(error.to_string()))?;
                    let seconds = i64::try_from(setting.expires.as_secs()).unwrap_or(3600);
                    return Ok((principal, seconds));
                }
                Err(why) => unmet = why,
            }
        }
        Err(Refused::Claims(unmet))
    }

    async fn key(&self, issuer: &str, kid: &str) -> Result<DecodingKey, Refused> {
        let named = (issuer.to_owned(), kid.to_owned());
        if let Some(keys) = self.keys.get(issuer).await {
            if let Some(key) = find(&keys, kid) {
                return key;
            }
            // Keys are rotated; but not for everybody who makes one up.
            if self.missing.contains_key(&named) {
                return Err(Refused::Key);
            }
        }
        let keys = Arc::new(self.fetch(issuer).await?);
        self.keys.insert(issuer.to_owned(), Arc::clone(&keys)).await;
        match find(&keys, kid) {
            Some(key) => key,
            None => {
                self.missing.insert(named, ()).await;
                Err(Refused::Key)
            }
        }
    }

    async fn fetch(&self, issuer: &str) -> Result<JwkSet, Refused> {
        let base = issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let discovery: Discovery = self.document(&url).await?;
        if discovery.issuer != issuer {
            return Err(Refused::Away(format!("{url} is of another issuer")));
        }
        let is_near = discovery.jwks_uri.starts_with("http://127.0.0.1");
        if !discovery.jwks_uri.starts_with("https://") && !is_near {
            return Err(Refused::Away(
                "its keys are not at an https:// address".into(),
            ));
        }
        self.document(&discovery.jwks_uri).await
    }

    async fn document<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Refused> {
        let away = |error: &dyn std::fmt::Display| Refused::Away(format!("{url}: {error}"));
        let http = self.http.get_or_try_init(|| async {
            reqwest::Client::builder()
                .timeout(TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .build()
        });
        let http = http.await.map_err(|error| away(&error))?;
        let asked = http.get(url).send().await.map_err(|error| away(&error))?;
        let mut asked = asked.error_for_status().map_err(|error| away(&error))?;
        let mut body = Vec::new();
        while let Some(piece) = asked.chunk().await.map_err(|error| away(&error))? {
            if body.len() + piece.len() > DOCUMENT_BYTES_MAX {
                return Err(away(&"its answer is too long"));
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).map_err(|error| away(&error))
    }
}

fn find(keys: &JwkSet, kid: &str) -> Option<Result<DecodingKey, Refused>> {
    let key = keys.find(kid)?;
    Some(DecodingKey::from_jwk(key).map_err(|error| Refused::Invalid(error.to_string())))
}

/// Whose token it claims to be: by this alone nothing is believed.
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
    // Of several settings of one issuer each has its own audience.
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
