//! AWS Signature Version 4, checked (IAM user guide, "Create a signed AWS API request").

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// How far a request's date may be from ours: until then it could be sent again, later not.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Why a signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    #[error("the Authorization header is no signature of version 4")]
    Malformed,
    #[error("`x-amz-date` is missing or no date")]
    NoDate,
    #[error("the request is dated {0}, which is more than five minutes from now: set the clock")]
    Skewed(Timestamp),
    #[error("the signature is for another day or service than the request")]
    Scope,
    #[error("`{0}` has to be among the signed headers")]
    Unsigned(&'static str),
    #[error("the signature does not match: the secret key, or the request on its way, is another")]
    Mismatch,
}

/// The parts of a request that are signed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// The path as the client sent it.
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// Where HTTP/2 names the host.
    pub authority: Option<&'a str>,
    /// SHA-256 of the body, hexadecimal.
    pub body_sha256: &'a str,
}

/// The `Authorization` header, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    pub access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Whether the header is meant to be a signature.
    #[must_use]
    pub fn is_one(authorization: &str) -> bool {
        authorization.starts_with(ALGORITHM)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(authorization: &'a str) -> Result<Self, SignatureRefused> {
        let rest = authorization
            .strip_prefix(ALGORITHM)
            .ok_or(SignatureRefused::Malformed)?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) if credential.is_none() => credential = Some(value),
                Some(("SignedHeaders", value)) if signed.is_none() => signed = Some(value),
                Some(("Signature", value)) if signature.is_none() => signature = Some(value),
                _ => return Err(SignatureRefused::Malformed),
            }
        }
        let (Some(credential), Some(signed), Some(signature)) = (credential, signed, signature)
        else {
            return Err(SignatureRefused::Malformed);
        };
        let scope: Vec<&str> = credential.split('/').collect();
        let &[access_key, date, region, service, "aws4_request"] = scope.as_slice() else {
            return Err(SignatureRefused::Malformed);
        };
        let signed: Vec<&str> = signed.split(';').collect();
        // In order and each once, as they are signed.
        if !signed.is_sorted_by(|a, b| a < b) || signature.len() != 64 {
            return Err(SignatureRefused::Malformed);
        }
        Ok(Self {
            access_key,
            date,
            region,
            service,
            signed,
            signature,
        })
    }

    /// Checks what needs no secret and no body: the service, the date, and which headers are signed.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_head(
        &self,
        headers: &HeaderMap,
        service: &str,
        now: Timestamp,
    ) -> Result<(), SignatureRefused> {
        let date = text(headers, "x-amz-date").ok_or(SignatureRefused::NoDate)?;
        let dated = instant(date).ok_or(SignatureRefused::NoDate)?;
        if self.service != service || !date.starts_with(self.date) {
            return Err(SignatureRefused::Scope);
        }
        if now.duration_since(dated).abs() > SKEW_MAX {
            return Err(SignatureRefused::Skewed(dated));
        }
        for name in ["host", "x-amz-date"] {
            if !self.signed.contains(&name) {
                return Err(SignatureRefused::Unsigned(name));
            }
        }
        // AWS's own headers have to be signed: nobody may add one on the way.
        for name in ["x-amz-content-sha256", "x-amz-security-token"] {
            if headers.contains_key(name) && !self.signed.contains(&name) {
                return Err(SignatureRefused::Unsigned(name));
            }
        }
        Ok(())
    }

    /// Checks the request against the secret of the key that it names.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check(
        &self,
        request: &Request<'_>,
        secret: &Secret,
        service: &str,
        now: Timestamp,
    ) -> Result<(), SignatureRefused> {
        self.check_head(request.headers, service, now)?;
        let date = text(request.headers, "x-amz-date").ok_or(SignatureRefused::NoDate)?;
        let canonical = self.canonical(request).ok_or(SignatureRefused::Mismatch)?;
        let to_sign = format!(
            "{ALGORITHM}\n{date}\n{}/{}/{}/aws4_request\n{}",
            self.date,
            self.region,
            self.service,
            hex::encode(Sha256::digest(canonical))
        );
        let mut key = format!("AWS4{}", secret.expose()).into_bytes();
        for part in [self.date, self.region, self.service, "aws4_request"] {
            key = mac(&key, part).finalize().into_bytes().to_vec();
        }
        let said = hex::decode(self.signature).map_err(|_| SignatureRefused::Malformed)?;
        // In constant time.
        mac(&key, &to_sign)
            .verify_slice(&said)
            .map_err(|_| SignatureRefused::Mismatch)
    }

    /// The canonical request; `None` where a signed header is not there.
    fn canonical(&self, request: &Request<'_>) -> Option<String> {
        let mut canonical = format!(
            "{}\n{}\n{}\n",
            request.method,
            canonical_path(request.path),
            canonical_query(request.query)
        );
        for name in &self.signed {
            let mut values: Vec<String> = request
                .headers
                .get_all(*name)
                .iter()
                .map(|value| value.to_str().map(one_space))
                .collect::<Result<_, _>>()
                .ok()?;
            if values.is_empty() && *name == "host" {
                values.push(request.authority?.to_owned());
            }
            if values.is_empty() {
                return None;
            }
            canonical.push_str(&format!("{name}:{}\n", values.join(",")));
        }
        canonical.push_str(&format!(
            "\n{}\n{}",
            self.signed.join(";"),
            request.body_sha256
        ));
        Some(canonical)
    }
}

fn mac(key: &[u8], text: &str) -> Hmac<Sha256> {
    #[allow(
        clippy::expect_used,
        reason = "HMAC takes keys of every length (RFC 2104)"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `20150830T123600Z`.
fn instant(text: &str) -> Option<Timestamp> {
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// Trimmed, with one space where there were several.
fn one_space(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without dot segments and empty ones, and each segment encoded once more.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut out = format!("/{}", segments.join("/"));
    if path.ends_with('/') && !segments.is_empty() {
        out.push('/');
    }
    utf8_percent_encode(&out, ENCODED_IN_PATH).to_string()
}

/// Decoded, encoded in the one way, and in order.
fn canonical_query(query: &str) -> String {
    let encoded = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&decoded, ENCODED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(name), encoded(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const DATE: &str = "20150830T123600Z";

    struct Sent<'a> {
        method: &'a str,
        target: &'a str,
        headers: Vec<(&'a str, &'a str)>,
        body: &'a str,
        signed: &'a str,
        signature: &'a str,
        now: &'a str,
    }

    impl Sent<'_> {
        fn check(&self) -> Result<(), SignatureRefused> {
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={}",
                self.signed, self.signature
            );
            let mut headers = HeaderMap::new();
            let standing = [("Host", "example.amazonaws.com"), ("X-Amz-Date", DATE)];
            for (name, value) in self.headers.iter().chain(&standing) {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
            Claim::parse(&authorization)?.check(
                &Request {
                    method: self.method,
                    path,
                    query,
                    headers: &headers,
                    authority: None,
                    body_sha256: &hex::encode(Sha256::digest(self.body)),
                },
                &Secret::new(SECRET),
                "service",
                self.now.parse().unwrap(),
            )
        }
    }

    fn vanilla() -> Sent<'static> {
        Sent {
            method: "GET",
            target: "/",
            headers: Vec::new(),
            body: "",
            signed: "host;x-amz-date",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            now: "2015-08-30T12:36:00Z",
        }
    }

    /// Signatures of AWS's own test suite (aws-sig-v4-test-suite).
    #[test]
    fn the_vectors_of_the_test_suite_are_taken() {
        const ALL: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let unreserved = (format!("/?{ALL}={ALL}"), format!("/{ALL}"));
        let plain = "host;x-amz-date";
        let one = "host;my-header1;x-amz-date";
        let two = "host;my-header1;my-header2;x-amz-date";
        let typed = "content-type;host;x-amz-date";
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let form_utf8 = (
            "Content-Type",
            "application/x-www-form-urlencoded; charset=utf8",
        );
        let header = |value| ("My-Header1", value);
        let trimmed = vec![header(" value1"), ("My-Header2", " \"a   b   c\"")];
        let many = vec![header("value2"), header("value2"), header("value1")];
        let unordered = vec![
            header("value4"),
            header("value1"),
            header("value3"),
            header("value2"),
        ];
        #[rustfmt::skip]
        let vectors = [
            ("get-vanilla", "GET", "/", vec![], "", plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("get-vanilla-empty-query-key", "GET", "/?Param1=value1", vec![], "", plain, "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
            ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", vec![], "", plain, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            ("get-vanilla-query-order-value", "GET", "/?Param1=value2&Param1=value1", vec![], "", plain, "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"),
            ("get-vanilla-query-unreserved", "GET", unreserved.0.as_str(), vec![], "", plain, "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
            ("get-vanilla-utf8-query", "GET", "/?ሴ=bar", vec![], "", plain, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
            ("get-unreserved", "GET", unreserved.1.as_str(), vec![], "", plain, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
            ("get-utf8", "GET", "/ሴ", vec![], "", plain, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            ("get-space", "GET", "/example space/", vec![], "", plain, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
            ("get-relative", "GET", "/example/..", vec![], "", plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("get-slash-dot-slash", "GET", "/./", vec![], "", plain, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("get-header-key-duplicate", "GET", "/", many, "", one, "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
            ("get-header-value-order", "GET", "/", unordered, "", one, "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
            ("get-header-value-trim", "GET", "/", trimmed, "", two, "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
            ("post-vanilla", "POST", "/", vec![], "", plain, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            ("post-vanilla-query", "POST", "/?Param1=value1", vec![], "", plain, "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
            ("post-header-key-sort", "POST", "/", vec![header("value1")], "", one, "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
            ("post-header-value-case", "POST", "/", vec![header("VALUE1")], "", one, "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
            ("post-x-www-form-urlencoded", "POST", "/", vec![form], "Param1=value1", typed, "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            ("post-x-www-form-urlencoded-parameters", "POST", "/", vec![form_utf8], "Param1=value1", typed, "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"),
        ];
        for (name, method, target, headers, body, signed, signature) in vectors {
            let sent = Sent {
                method,
                target,
                headers,
                body,
                signed,
                signature,
                ..vanilla()
            };
            assert_eq!(sent.check(), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_was_altered_late_or_half_signed_is_refused() {
        assert_eq!(vanilla().check(), Ok(()));
        for (what, sent, refused) in [
            (
                "the body",
                Sent {
                    body: "x",
                    ..vanilla()
                },
                SignatureRefused::Mismatch,
            ),
            (
                "the method",
                Sent {
                    method: "DELETE",
                    ..vanilla()
                },
                SignatureRefused::Mismatch,
            ),
            (
                "the path",
                Sent {
                    target: "/x",
                    ..vanilla()
                },
                SignatureRefused::Mismatch,
            ),
            (
                "the query",
                Sent {
                    target: "/?a=b",
                    ..vanilla()
                },
                SignatureRefused::Mismatch,
            ),
            (
                "a second host",
                Sent {
                    headers: vec![("Host", "other.example")],
                    ..vanilla()
                },
                SignatureRefused::Mismatch,
            ),
            (
                "a token that was added",
                Sent {
                    headers: vec![("X-Amz-Security-Token", "x")],
                    ..vanilla()
                },
                SignatureRefused::Unsigned("x-amz-security-token"),
            ),
            (
                "a host that is not signed",
                Sent {
                    signed: "x-amz-date",
                    ..vanilla()
                },
                SignatureRefused::Unsigned("host"),
            ),
            (
                "headers out of order",
                Sent {
                    signed: "x-amz-date;host",
                    ..vanilla()
                },
                SignatureRefused::Malformed,
            ),
            (
                "the next day's replay",
                Sent {
                    now: "2015-08-30T12:41:01Z",
                    ..vanilla()
                },
                SignatureRefused::Skewed("2015-08-30T12:36:00Z".parse().unwrap()),
            ),
            (
                "a clock that is ahead",
                Sent {
                    now: "2015-08-30T12:30:59Z",
                    ..vanilla()
                },
                SignatureRefused::Skewed("2015-08-30T12:36:00Z".parse().unwrap()),
            ),
        ] {
            assert_eq!(sent.check(), Err(refused), "{what}");
        }
    }
}
