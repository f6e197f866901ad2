//! `[[oidc]]`: whose identity tokens are exchanged for Larder's.

use std::time::Duration;

use toml::de::DeValue;
use url::Url;

use super::document::{FromValue, Section, Span};

/// One issuer's tokens, with claims that they have to have, for one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// As the token's `iss` says it, to the letter.
    pub issuer: String,
    pub audience: String,
    /// Claims and what they have to be; `*` and `?` stand for others.
    pub claims: Vec<(String, String)>,
    /// Of the domain's owner.
    pub role: String,
    /// How long the token that is given holds.
    pub expires: Duration,
}

/// Names with strings.
struct Claims(Vec<(String, String)>);

impl FromValue for Claims {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let wrong =
            || "has to be a table of claims, such as { repository = \"acme/*\" }".to_owned();
        value
            .as_table()
            .ok_or_else(wrong)?
            .iter()
            .map(|(name, value)| {
                let text = value.get_ref().as_str().ok_or_else(wrong)?;
                Ok((name.get_ref().to_string(), text.to_owned()))
            })
            .collect::<Result<_, String>>()
            .map(Self)
    }
}

/// The longest time for which a token is given.
const EXPIRES_MAX: Duration = Duration::from_secs(43_200);

pub(super) fn read(section: Section<'_>) -> Option<Oidc> {
    let issuer = section.require::<String>("issuer");
    if let Some((text, place)) = &issuer {
        let is_right = Url::parse(text).is_ok_and(|url| {
            let is_near = url.host_str().is_some_and(|host| host == "127.0.0.1");
            url.scheme() == "https" || (url.scheme() == "http" && is_near)
        });
        if !is_right {
            section.fault(place, "`oidc.issuer` has to begin with https:// and a host");
        }
    }
    let audience = section.require::<String>("audience");
    let claims = section.require::<Claims>("claims");
    if let Some((claims, place)) = &claims
        && claims.0.is_empty()
    {
        section.fault(
            place,
            "`oidc.claims` has to name at least one claim: anybody has tokens of a public issuer",
        );
    }
    let role = section.require::<String>("role");
    let expires = section.take_placed::<Span>("expires");
    if let Some((Span(time), place)) = &expires
        && *time > EXPIRES_MAX
    {
        section.fault(place, "`oidc.expires` has to be 12h or less");
    }
    section.finish();
    Some(Oidc {
        issuer: issuer?.0,
        audience: audience?.0,
        claims: claims?.0.0,
        role: role?.0,
        expires: expires.map_or(Duration::from_secs(3600), |(time, _)| time.0),
    })
}
