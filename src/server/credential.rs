//! Reads a client's credentials, in every way in which the formats' clients send them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::access::{Access, PresentedCredential};
use crate::connection::Outbound;

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// NuGet's clients push with it.
static API_KEY: HeaderName = HeaderName::from_static("x-nuget-apikey");

/// npm's one-time password, which is for the registry behind and nothing to us.
static OTP: HeaderName = HeaderName::from_static("npm-otp");

/// The headers of a request that say who sends it. They are taken out before anything else sees the
/// headers, so that they go nowhere but through here.
#[derive(Default)]
pub struct CredentialHeaders {
    authorization: Vec<HeaderValue>,
    api_key: Vec<HeaderValue>,
}

impl CredentialHeaders {
    /// Takes it out of the headers.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let mut all = |name: &HeaderName| {
            let values = headers.get_all(name).iter().cloned().collect();
            headers.remove(name);
            values
        };
        Self {
            authorization: all(&AUTHORIZATION),
            api_key: all(&API_KEY),
        }
    }

    /// `Authorization` as it was sent, for who reads it in another way; empty where there is none,
    /// or more than one.
    pub fn authorization(&self) -> &str {
        match self.authorization.as_slice() {
            [one] => one.to_str().unwrap_or_default(),
            _ => "",
        }
    }

    /// The credential in the headers: a bearer's token, the password of any user (CodeArtifact's is
    /// `aws`), the user where there is no password, an API key.
    pub fn credential(&self) -> PresentedCredential<'_> {
        // Two of one kind may be read in two ways.
        if self.authorization.len() > 1 || self.api_key.len() > 1 {
            return PresentedCredential::Unknown;
        }
        let authorization = self.authorization.first().map(|value| credential(value));
        let api_key = self.api_key.first().map(|key| match key.to_str() {
            Ok("") => Word::Empty,
            Ok(key) => Word::Token(Cow::Borrowed(key)),
            Err(_) => Word::Unknown,
        });
        let mut said = PresentedCredential::Nothing;
        for word in [authorization, api_key].into_iter().flatten() {
            said = match (said, word) {
                (said, Word::Empty) => said,
                (PresentedCredential::Tokens(mut tokens), Word::Token(token)) => {
                    tokens.push(token);
                    PresentedCredential::Tokens(tokens)
                }
                (_, Word::Token(token)) => PresentedCredential::Tokens(vec![token]),
                (PresentedCredential::Nothing, Word::Unknown) => PresentedCredential::Unknown,
                (said, Word::Unknown) => said,
            };
        }
        said
    }

    /// Whether the request has no credential, right or wrong.
    pub fn is_nothing(&self) -> bool {
        matches!(self.credential(), PresentedCredential::Nothing)
    }

    /// The part of a request that may go on to a registry: the headers that are not about this
    /// socket, and the credentials that are not ours. What let the client in is ours by its form;
    /// so is what did not, because it has been revoked or nobody has to be let in.
    pub fn outbound(&self, headers: &HeaderMap, access: &Access) -> Outbound {
        let may_leave = |value: &HeaderValue| !is_ours(value, access);
        let presented = self
            .authorization
            .iter()
            .map(|value| (&AUTHORIZATION, value));
        let keys = self.api_key.iter().map(|value| (&API_KEY, value));
        let otp = headers.get(&OTP).map(|value| (&OTP, value));
        let credentials = presented.chain(keys).chain(otp);
        Outbound::new(
            headers.iter().filter(|(_, value)| may_leave(value)),
            credentials.filter(|(_, value)| may_leave(value)),
        )
    }
}

enum Word<'a> {
    Token(Cow<'a, str>),
    /// The header is there without a credential: NuGet's clients send `Basic Og==`.
    Empty,
    Unknown,
}

fn credential(authorization: &HeaderValue) -> Word<'_> {
    let Ok(text) = authorization.to_str() else {
        return Word::Unknown;
    };
    let (scheme, value) = text.split_once(' ').unwrap_or((text, ""));
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return word(Cow::Borrowed(value));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return if text.trim().is_empty() {
            Word::Empty
        } else {
            Word::Unknown
        };
    }
    match BASE64.decode(value) {
        Ok(pair) => of_pair(&pair),
        Err(_) => Word::Unknown,
    }
}

/// Reads `user:password`. The user may be in any encoding (RFC 7617 §2 leaves it open), and tokens are
/// ASCII.
fn of_pair(pair: &[u8]) -> Word<'static> {
    let Some(colon) = memchr::memchr(b':', pair) else {
        return if pair.is_empty() {
            Word::Empty
        } else {
            Word::Unknown
        };
    };
    let (user, password) = pair.split_at(colon);
    let token = match password.strip_prefix(b":").unwrap_or_default() {
        [] => user,
        password => password,
    };
    match String::from_utf8(token.to_vec()) {
        Ok(token) => word(Cow::Owned(token)),
        Err(_) => Word::Unknown,
    }
}

fn word(text: Cow<'_, str>) -> Word<'_> {
    if text.is_empty() {
        Word::Empty
    } else {
        Word::Token(text)
    }
}

/// Whether the value has one of our tokens in it, in any of the ways in which clients write them: as
/// it is, behind a scheme or a name, or within `user:password` in base64, whatever the user's encoding;
/// or whether it signs a request to us.
fn is_ours(value: &HeaderValue, access: &Access) -> bool {
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.trim_start().starts_with("AWS4-") {
        return true;
    }
    let has = |text: &str| {
        text.split([' ', '\t', ',', ';', ':', '=', '"'])
            .any(|word| access.has_our_form(word))
    };
    let decoded = |word: &str| {
        let bytes = BASE64.decode(word).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    has(&text)
        || text
            .split([' ', '\t', ',', ';', '"'])
            .filter_map(decoded)
            .any(|pair| has(&pair))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    fn basic(pair: &str) -> String {
        basic_of(pair.as_bytes())
    }

    fn basic_of(pair: &[u8]) -> String {
        format!("Basic {}", BASE64.encode(pair))
    }

    #[test]
    fn every_way_of_the_clients_is_read() {
        let none: &[&str] = &[];
        for (headers, tokens) in [
            (vec![("authorization", "Bearer t")], Some(&["t"][..])),
            (vec![("authorization", "bearer  t")], Some(&["t"])),
            (vec![("authorization", &*basic("aws:t"))], Some(&["t"])),
            (vec![("authorization", &basic("__token__:t"))], Some(&["t"])),
            (vec![("authorization", &basic("t:"))], Some(&["t"])),
            (vec![("authorization", &basic("aws:a:b"))], Some(&["a:b"])),
            (vec![("authorization", &basic("jürgen:t"))], Some(&["t"])),
            // ISO-8859-1, as older libraries send it.
            (
                vec![("authorization", &basic_of(b"j\xfcrgen:t"))],
                Some(&["t"]),
            ),
            (
                vec![("authorization", &basic_of(b"\xff\xfe:t"))],
                Some(&["t"]),
            ),
            // A password or token that is no text is none of ours.
            (vec![("authorization", &basic_of(b"aws:\xfc"))], None),
            (vec![("authorization", &basic_of(b"\xfc:"))], None),
            (
                vec![("authorization", basic("aws:t").trim_end_matches('='))],
                Some(&["t"]),
            ),
            (vec![("x-nuget-apikey", "t")], Some(&["t"])),
            (
                vec![("authorization", &basic("aws:t")), ("x-nuget-apikey", "az")],
                Some(&["t", "az"]),
            ),
            (
                vec![("authorization", "Negotiate x"), ("x-nuget-apikey", "t")],
                Some(&["t"]),
            ),
            (vec![("authorization", "Negotiate x")], None),
            (vec![("authorization", "Basic ???")], None),
            (vec![("authorization", "t")], None),
            (
                vec![("authorization", "Bearer a"), ("authorization", "Bearer b")],
                None,
            ),
            (vec![], Some(none)),
            (vec![("authorization", "Basic Og==")], Some(none)),
            (vec![("authorization", "Basic ")], Some(none)),
            (vec![("authorization", "Bearer ")], Some(none)),
            (vec![("x-nuget-apikey", "")], Some(none)),
            (
                vec![("authorization", "Basic Og=="), ("x-nuget-apikey", "t")],
                Some(&["t"]),
            ),
        ] {
            let presented = CredentialHeaders::take(&mut with(&headers));
            let said = match presented.credential() {
                PresentedCredential::Nothing => Some(Vec::new()),
                PresentedCredential::Tokens(tokens) => Some(tokens),
                PresentedCredential::Unknown => None,
            };
            assert_eq!(said.as_deref(), tokens.map(owned).as_deref(), "{headers:?}");
        }
    }

    fn owned(tokens: &[&'static str]) -> Vec<Cow<'static, str>> {
        tokens.iter().map(|token| Cow::Borrowed(*token)).collect()
    }

    #[test]
    fn what_is_presented_is_in_the_headers_no_more() {
        let mut headers = with(&[
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("x-nuget-apikey", "c"),
            ("accept", "d"),
        ]);
        let presented = CredentialHeaders::take(&mut headers);
        assert_eq!(headers, with(&[("accept", "d")]));
        assert_eq!(presented.authorization(), "", "there are two");
    }
}
