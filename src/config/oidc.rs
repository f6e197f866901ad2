//! `[[oidc]]`: whose identity tokens are exchanged for Larder's.

use std::time::Duration;

use toml::de::DeValue;
use url::{Host, Url};

use super::document::{FromValue, Section, Span};

/// One issuer's tokens, with claims that they have to have, for one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// The issuer, exactly as the token's `iss` writes it.
    pub issuer: String,
    pub audience: String,
    /// Claims and what they have to be; `*` and `?` stand for others.
    pub claims: Vec<(String, String)>,
    /// A role of the domain's owner.
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

/// How an address of an issuer's is reached, where that is safe enough for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerReach {
    Tls,
    /// In plain text, and on this machine.
    Loopback,
}

impl IssuerReach {
    /// Judges the address by its host and not by how its text begins. `None` where nothing is to be
    /// believed that comes from there.
    #[must_use]
    pub fn of(address: &str) -> Option<Self> {
        let url = Url::parse(address).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        match (url.scheme(), url.host()?) {
            ("https", _) => Some(Self::Tls),
            ("http", host) => is_loopback(&host).then_some(Self::Loopback),
            _ => None,
        }
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.to_canonical().is_loopback(),
    }
}

/// The longest time for which a token is given.
const EXPIRES_MAX: Duration = Duration::from_secs(43_200);

pub(super) fn read(section: Section<'_>) -> Option<Oidc> {
    let issuer = section.require::<String>("issuer");
    if let Some((text, place)) = &issuer
        && IssuerReach::of(text).is_none()
    {
        section.fault(place, "`oidc.issuer` has to begin with https:// and a host");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_on_this_machine_by_its_host_and_not_by_how_its_text_begins() {
        for (address, reach) in [
            ("https://issuer.ci.example", Some(IssuerReach::Tls)),
            ("https://127.0.0.1/keys", Some(IssuerReach::Tls)),
            ("http://127.0.0.1:80/keys", Some(IssuerReach::Loopback)),
            ("http://127.9.9.9/keys", Some(IssuerReach::Loopback)),
            ("http://[::1]:1/keys", Some(IssuerReach::Loopback)),
            (
                "http://[::ffff:127.0.0.1]/keys",
                Some(IssuerReach::Loopback),
            ),
            ("http://LOCALHOST/keys", Some(IssuerReach::Loopback)),
            ("http://127.0.0.1.example/keys", None),
            ("http://127.0.0.1x.example/keys", None),
            ("http://127.0.0.1@issuer.example/keys", None),
            ("http://localhost@127.0.0.1/keys", None),
            ("http://localhost.example/keys", None),
            ("http://issuer.example/127.0.0.1", None),
            ("http://10.0.0.1/keys", None),
            ("http://0.0.0.0/keys", None),
            ("ftp://127.0.0.1/keys", None),
            ("file:///keys", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(IssuerReach::of(address), reach, "{address}");
        }
    }
}
