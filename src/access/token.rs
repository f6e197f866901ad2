//! Tokens: signed ones, which every process of the domain can check by itself (RFC 7519), and the
//! long-lived ones of machines, of which the hash alone is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::principal::Principal;
use crate::secret::Secret;
use crate::store::packages::TokenSigningKey;

/// How a machine's token begins, so that scanners know it when they see it.
pub const MACHINE_PREFIX: &str = "lrd_";
/// Longer ones are not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The claims of a signed token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The domain, as its ARN.
    pub iss: String,
    /// The principal's ARN.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: i64,
    pub exp: i64,
    /// By which it can be revoked.
    pub jti: String,
    /// The credential that the token was made with. Tokens of earlier versions do not say it, and
    /// hold no more: whether they still may is not known.
    #[serde(default)]
    pub by: Option<Maker>,
}

/// The credential that an authorization token was made with. The token ends when it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    /// An access key, by its id.
    Key(String),
    /// A machine's token, by its id.
    Token(String),
    /// An identity token that was exchanged, by a setting for its issuer and for this role.
    Oidc { issuer: String, role: String },
}

/// Why a signed token holds nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    #[error("it is no token of this domain")]
    Foreign,
    #[error("it has expired: get another")]
    Expired,
    #[error("it was made while this machine's clock was days ahead: get another")]
    Ahead,
    #[error("it was revoked")]
    Revoked,
    #[error("the key, token or [[oidc]] that it was made by holds no more: get another")]
    Unfounded,
}

/// Random bytes as text.
///
/// # Errors
/// Where the system has no randomness to give: then there are no secrets to be made.
pub fn random(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0u8; bytes];
    getrandom::fill(&mut random)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}

/// The hash of a machine's token; the token itself is not stored.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Signs the claims (HS256) with the key.
///
/// # Errors
/// Where the claims cannot be written as JSON.
pub fn sign(key: &TokenSigningKey, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
    let header = Header {
        kid: Some(key.id.clone()),
        ..Header::new(Algorithm::HS256)
    };
    let secret = EncodingKey::from_secret(key.secret.expose().as_bytes());
    jsonwebtoken::encode(&header, claims, &secret)
}

/// Checks a signed token; whether it was revoked is for the caller.
///
/// # Errors
/// Why it holds nothing.
pub fn check(
    token: &str,
    keys: &[TokenSigningKey],
    issuer: &str,
    now: i64,
) -> Result<Claims, TokenRefused> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRefused::Foreign)?;
    let kid = header.kid.ok_or(TokenRefused::Foreign)?;
    let key = keys.iter().find(|key| key.id == kid);
    let key = key.ok_or(TokenRefused::Foreign)?;
    // The algorithm is ours to say, not the token's.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    // By our own clock, below.
    validation.validate_exp = false;
    validation.validate_aud = false;
    let secret = DecodingKey::from_secret(key.secret.expose().as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &secret, &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenRefused::Expired,
            _ => TokenRefused::Foreign,
        })?
        .claims;
    if claims.exp <= now {
        return Err(TokenRefused::Expired);
    }
    if was_made_ahead(claims.iat, now) {
        return Err(TokenRefused::Ahead);
    }
    Ok(claims)
}

/// Whether a token that ends was made so far in the future that its end means nothing: the clock was
/// years ahead, and not the hour or the day by which clocks are corrected. In seconds.
pub(super) fn was_made_ahead(made: i64, now: i64) -> bool {
    made > now.saturating_add(AHEAD_SECONDS_MAX)
}

/// How far ahead of the clock a token may have been made.
const AHEAD_SECONDS_MAX: i64 = 25 * 3600;

/// The principal of a token's claims; they were signed here, so it is one.
#[must_use]
pub fn principal(claims: &Claims) -> Option<Principal> {
    Principal::parse(&claims.sub)
}

/// Whether the text has the form of a token of ours: only such a one can be a guess at one, and only
/// such a one could be one.
#[must_use]
pub fn has_our_form(text: &str, keys: &[TokenSigningKey], issuer: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        kid: Option<String>,
    }
    #[derive(Deserialize)]
    struct Body {
        iss: Option<String>,
    }
    if text.starts_with(MACHINE_PREFIX) {
        return true;
    }
    let mut parts = text.split('.');
    let (Some(head), Some(body), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let kid = read::<Head>(head).and_then(|head| head.kid);
    let is_of_our_key = kid.is_some_and(|kid| keys.iter().any(|key| key.id == kid));
    let iss = read::<Body>(body).and_then(|body| body.iss);
    is_of_our_key || iss.as_deref() == Some(issuer)
}

fn read<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A new secret for signing.
///
/// # Errors
/// Makes the secret of a new signing key.
pub fn signing_secret() -> Result<Secret, getrandom::Error> {
    random(32).map(|secret| Secret::new(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "arn:aws:codeartifact:us-east-1:111122223333:domain/corp";

    fn key(id: &str, secret: &str) -> TokenSigningKey {
        TokenSigningKey {
            id: id.to_owned(),
            secret: Secret::new(secret),
            created_at: 0,
        }
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            sub: "arn:aws:iam::111122223333:user/ada".to_owned(),
            iat: 1000,
            exp: 2000,
            jti: "j".to_owned(),
            by: Some(Maker::Key("AKLR1".to_owned())),
        }
    }

    #[test]
    fn a_token_holds_until_it_expires_and_under_the_keys_that_are_kept() {
        let (old, new) = (key("old", "a"), key("new", "b"));
        let token = sign(&old, &claims()).unwrap();
        let both = [new.clone(), old];
        assert_eq!(check(&token, &both, ISSUER, 1999).unwrap().jti, "j");
        assert_eq!(
            check(&token, &both, ISSUER, 2000).unwrap_err(),
            TokenRefused::Expired
        );
        assert_eq!(
            check(&token, &[new], ISSUER, 1999).unwrap_err(),
            TokenRefused::Foreign
        );
        assert_eq!(
            check(&token, &both, "another domain", 1999).unwrap_err(),
            TokenRefused::Foreign
        );
    }

    #[test]
    fn a_token_that_was_made_days_ahead_of_the_clock_holds_nothing() {
        const HOUR: i64 = 3600;
        let keys = [key("k", "a")];
        let now = 1_800_000_000;
        for (ahead, holds) in [
            (0, true),
            (HOUR, true),
            (24 * HOUR, true),
            (48 * HOUR, false),
            (10 * 365 * 24 * HOUR, false),
        ] {
            let made = Claims {
                iat: now + ahead,
                exp: now + ahead + 12 * HOUR,
                ..claims()
            };
            let checked = check(&sign(&keys[0], &made).unwrap(), &keys, ISSUER, now);
            assert_eq!(checked.is_ok(), holds, "{ahead} seconds ahead");
        }
    }

    #[test]
    fn a_token_of_ours_is_known_by_its_form_and_others_are_left_alone() {
        let keys = [key("k", "a")];
        let ours = sign(&keys[0], &claims()).unwrap();
        let rotated = sign(&key("gone", "a"), &claims()).unwrap();
        let mut theirs = claims();
        theirs.iss = "https://issuer.example".to_owned();
        let theirs = sign(&key("theirs", "a"), &theirs).unwrap();
        for (text, is) in [
            (ours.as_str(), true),
            (&rotated, true),
            ("lrd_x", true),
            (&theirs, false),
            ("az", false),
            ("npm_abc", false),
            ("a.b.c", false),
            ("", false),
        ] {
            assert_eq!(has_our_form(text, &keys, ISSUER), is, "{text}");
        }
    }

    #[test]
    fn what_is_signed_otherwise_is_no_token() {
        let keys = [key("k", "a")];
        let good = sign(&keys[0], &claims()).unwrap();
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let body = good.split('.').nth(1).unwrap();
        let none = format!("{}.{body}.", encode(r#"{"alg":"none","kid":"k"}"#));
        let other = sign(&key("k", "b"), &claims()).unwrap();
        let mut altered = claims();
        altered.sub = "arn:aws:iam::111122223333:root".to_owned();
        let altered = sign(&key("x", "x"), &altered).unwrap();
        let mixed = format!(
            "{}.{}.{}",
            good.split('.').next().unwrap(),
            altered.split('.').nth(1).unwrap(),
            good.split('.').nth(2).unwrap()
        );
        for token in [none.as_str(), &other, &mixed, "", "a.b.c", "lrd_x"] {
            assert_eq!(
                check(token, &keys, ISSUER, 1500).unwrap_err(),
                TokenRefused::Foreign,
                "{token}"
            );
        }
    }
}
