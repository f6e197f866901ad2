//! What a client says to prove who it is, in every way that the formats' clients have.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::access::Said;

/// NuGet's clients push with it.
pub const API_KEY: &str = "x-nuget-apikey";

/// Reads the headers: a bearer's token, the password of any user (CodeArtifact's is `aws`), the
/// user where there is no password, or an API key.
pub fn said(headers: &HeaderMap) -> Said<'_> {
    let Some(authorization) = headers.get(AUTHORIZATION) else {
        let key = headers.get(API_KEY).map(|key| key.to_str());
        return match key {
            None => Said::Nothing,
            Some(Ok(key)) => Said::Token(Cow::Borrowed(key)),
            Some(Err(_)) => Said::Unknown,
        };
    };
    // Two of them may be read in two ways.
    if headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return Said::Unknown;
    }
    let Some((scheme, value)) = authorization
        .to_str()
        .ok()
        .and_then(|said| said.split_once(' '))
    else {
        return Said::Unknown;
    };
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Said::Token(Cow::Borrowed(value));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Said::Unknown;
    }
    let decoded = STANDARD.decode(value).ok();
    let Some(pair) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Said::Unknown;
    };
    match pair.split_once(':') {
        Some((user, "")) => Said::Token(Cow::Owned(user.to_owned())),
        Some((_, password)) => Said::Token(Cow::Owned(password.to_owned())),
        None => Said::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn every_way_of_the_clients_is_read() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (name, value, token) in [
            ("authorization", "Bearer t".to_owned(), Some("t")),
            ("authorization", "bearer  t".to_owned(), Some("t")),
            ("authorization", basic("aws:t"), Some("t")),
            ("authorization", basic("__token__:t"), Some("t")),
            ("authorization", basic("t:"), Some("t")),
            ("authorization", basic("aws:a:b"), Some("a:b")),
            ("x-nuget-apikey", "t".to_owned(), Some("t")),
            ("authorization", "Negotiate x".to_owned(), None),
            ("authorization", "Basic ???".to_owned(), None),
            ("authorization", "t".to_owned(), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(&value).unwrap(),
            );
            match (said(&headers), token) {
                (Said::Token(said), Some(token)) => assert_eq!(said, token, "{value}"),
                (Said::Unknown, None) => {}
                _ => panic!("{name}: {value}"),
            }
        }
        assert!(matches!(said(&HeaderMap::new()), Said::Nothing));
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert!(matches!(said(&twice), Said::Unknown));
    }
}
