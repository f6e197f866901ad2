//! Addresses outside, made of a base and segments, so that nothing that a client writes changes
//! which scheme, host or port is asked, or leaves the base.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// The characters that have to be encoded in one segment of a URL path (RFC 3986 §3.3). A semicolon
/// too: servlet containers take what follows it for parameters and drop it.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b';')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Encodes one segment.
#[must_use]
pub fn encode_segment(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// Whether a server might read the segment as more than a name: `.` or `..`, a slash or backslash,
/// a control character; also once it has dropped path parameters, and however often it decodes.
#[must_use]
pub fn is_risky_segment(segment: &str) -> bool {
    // Each decoding makes the text shorter, so this ends.
    let mut text = segment.to_owned();
    loop {
        let name = text.split(';').next().unwrap_or_default();
        let climbs = matches!(name, "." | "..");
        if climbs || text.contains(['/', '\\']) || text.chars().any(char::is_control) {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
}

/// An address that a connection may be asked for. Whoever makes one says where it comes from, so
/// that no text of a client's becomes one by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl(Url);

impl UpstreamUrl {
    /// An address from the configuration, or from the settings of the machine's clients.
    #[must_use]
    pub fn configured(url: &Url) -> Self {
        Self(url.clone())
    }

    /// An address from a document of upstream's, or from a redirect.
    #[must_use]
    pub fn named(url: Url) -> Self {
        Self(url)
    }

    /// An address at the base's own scheme, host and port; `None` for any other.
    #[must_use]
    pub fn at(base: &Url, url: &Url) -> Option<Self> {
        (url.origin() == base.origin()).then(|| Self(url.clone()))
    }
}

impl std::ops::Deref for UpstreamUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

/// A path below an address of a connection, perhaps with a query. It is made of decoded segments
/// and encodes them itself; one that could climb leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamPath {
    /// Encoded; `None` where a segment could climb.
    encoded: Option<String>,
    query: Option<String>,
}

impl UpstreamPath {
    /// The base itself.
    #[must_use]
    pub fn base() -> Self {
        Self {
            encoded: Some(String::new()),
            query: None,
        }
    }

    /// The encoded path and the query, as [`UpstreamPath::from_parts`] takes them.
    pub(super) fn parts(&self) -> (Option<&str>, Option<&str>) {
        (self.encoded.as_deref(), self.query.as_deref())
    }

    pub(super) fn from_parts(encoded: Option<String>, query: Option<String>) -> Self {
        Self { encoded, query }
    }

    /// The decoded segments of `path`, parted by slashes; a slash at the end stays.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self {
            encoded: encoded_path(path),
            query: None,
        }
    }

    /// The path that a request asks for, still percent-encoded, with its query: to be passed on
    /// as it came, npm's scoped names in one segment included.
    #[must_use]
    pub fn from_request(rest: &str) -> Self {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut passed = Self::base();
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let Ok(decoded) = percent_decode_str(segment).decode_utf8() else {
                passed.encoded = None;
                break;
            };
            let scoped = decoded.strip_prefix('@').and_then(|it| it.split_once('/'));
            let is_end = segments.peek().is_none();
            passed = match scoped {
                Some((scope, name)) => passed.join_path(&Self::scoped(scope, name)),
                None if decoded.contains('/') || (decoded.is_empty() && !is_end) => Self {
                    encoded: None,
                    query: None,
                },
                // A slash at the end stays.
                None if decoded.is_empty() => passed.join_path(&Self::base()),
                None => passed.join(&decoded),
            };
        }
        passed.with_query(query)
    }

    /// npm's way of writing a scoped name as one segment: `@scope%2fname`.
    #[must_use]
    pub fn scoped(scope: &str, name: &str) -> Self {
        let encoded = match (encoded_path(scope), encoded_path(name)) {
            (Some(scope), Some(name)) if !scope.contains('/') && !name.contains('/') => {
                Some(format!("@{scope}%2f{name}"))
            }
            _ => None,
        };
        Self {
            encoded,
            query: None,
        }
    }

    /// Further segments behind these.
    #[must_use]
    pub fn join(self, path: &str) -> Self {
        self.join_path(&Self::new(path))
    }

    /// Another path behind this one, without its query.
    #[must_use]
    pub fn join_path(mut self, path: &Self) -> Self {
        self.encoded = match (self.encoded, &path.encoded) {
            (Some(own), Some(more)) if own.is_empty() || own.ends_with('/') => Some(own + more),
            (Some(own), Some(more)) => Some(format!("{own}/{more}")),
            _ => None,
        };
        self
    }

    /// An ending behind the last segment: `.sha1`.
    #[must_use]
    pub fn with_ending(mut self, ending: &str) -> Self {
        self.encoded = self
            .encoded
            .map(|own| format!("{own}.{}", encode_segment(ending)));
        self
    }

    /// With a query, as it is written in a URL.
    #[must_use]
    pub fn with_query(mut self, query: &str) -> Self {
        self.query = Some(query.to_owned()).filter(|query| !query.is_empty());
        self
    }

    /// The address below `base`. A base that ends in a slash is a folder, and so is one that
    /// names no `.json` file: beside such a file its neighbours lie. `None` where a segment could
    /// climb, or the address would not lie below the base after all.
    #[must_use]
    pub fn below(&self, base: &Url) -> Option<UpstreamUrl> {
        let encoded = self.encoded.as_deref()?;
        let mut url = base.clone();
        url.set_fragment(None);
        if !encoded.is_empty() {
            url.set_query(None);
            let own = base.path();
            let folder = if own.ends_with('/') {
                own
            } else if own.ends_with(".json") {
                crate::path::folder(own)
            } else {
                &format!("{own}/")
            };
            let path = format!("{folder}{encoded}");
            url.set_path(&path);
            if url.path() != path {
                return None;
            }
        }
        if self.query.is_some() {
            url.set_query(self.query.as_deref());
        }
        UpstreamUrl::at(base, &url)
    }
}

/// `None` where a segment is empty or could climb. A slash at the end is no segment.
fn encoded_path(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(String::new());
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let encoded: Option<Vec<String>> = trimmed
        .split('/')
        .map(|segment| {
            let is_name = !segment.is_empty() && !is_risky_segment(segment);
            is_name.then(|| encode_segment(segment))
        })
        .collect();
    let mut encoded = encoded?.join("/");
    if trimmed.len() < path.len() {
        encoded.push('/');
    }
    Some(encoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn below(base: &str, path: &str) -> Option<String> {
        UpstreamPath::new(path)
            .below(&Url::parse(base).unwrap())
            .map(|url| url.to_string())
    }

    #[test]
    fn a_path_lies_below_its_base_and_keeps_its_letters() {
        for (base, path, url) in [
            (
                "https://r.example/up/",
                "a/b.jar",
                "https://r.example/up/a/b.jar",
            ),
            (
                "https://r.example/flat",
                "n/index.json",
                "https://r.example/flat/n/index.json",
            ),
            (
                "https://r.example/c/index.json",
                "page0.json",
                "https://r.example/c/page0.json",
            ),
            ("https://r.example/?sig=s", "", "https://r.example/?sig=s"),
            ("https://r.example/?sig=s", "a", "https://r.example/a"),
            (
                "https://r.example/simple/",
                "foo/",
                "https://r.example/simple/foo/",
            ),
            (
                "https://r.example/",
                "a;x=1/b?c#d",
                "https://r.example/a%3Bx=1/b%3Fc%23d",
            ),
            ("https://r.example/", "50%/x", "https://r.example/50%25/x"),
            (
                "https://r.example/",
                "http:/evil.example/x",
                "https://r.example/http:/evil.example/x",
            ),
        ] {
            assert_eq!(below(base, path).as_deref(), Some(url), "{path}");
        }
    }

    #[test]
    fn what_could_climb_leads_nowhere() {
        for path in [
            "..",
            "a/../b",
            "a//b",
            "/a",
            "%2e%2e/a",
            "%252e%252e/a",
            ".%2e",
            "..;/a",
            "..;x=1/a",
            "..%3b/a",
            "a/.",
            "a\\b",
            "a%2fb",
            "a%5cb",
            "a/%00",
            "a\nb",
            "http://evil.example/",
        ] {
            assert_eq!(below("https://r.example/up/", path), None, "{path}");
        }
        assert!(
            UpstreamPath::scoped("a", "..")
                .below(&Url::parse("https://r.example/").unwrap())
                .is_none()
        );
    }

    #[test]
    fn a_request_is_passed_on_as_it_came() {
        let base = Url::parse("https://r.example/up/").unwrap();
        for (rest, url) in [
            ("", "https://r.example/up/"),
            ("@a%2fb", "https://r.example/up/@a%2fb"),
            ("@a%2Fb/-rev/1-x", "https://r.example/up/@a%2fb/-rev/1-x"),
            ("legacy/", "https://r.example/up/legacy/"),
            ("a?q=1&r=%2e%2e", "https://r.example/up/a?q=1&r=%2e%2e"),
        ] {
            let passed = UpstreamPath::from_request(rest).below(&base);
            assert_eq!(passed.unwrap().as_str(), url, "{rest}");
        }
        for rest in [
            "%2e%2e/x",
            "a//b",
            "//evil.example/",
            "a%2fb",
            "@a%2f..",
            "%ff",
        ] {
            assert_eq!(
                UpstreamPath::from_request(rest).below(&base),
                None,
                "{rest}"
            );
        }
    }

    #[test]
    fn scoped_names_and_endings_are_written_as_clients_write_them() {
        let base = Url::parse("https://r.example/").unwrap();
        let name = UpstreamPath::scoped("a", "b").join("1.0.0");
        assert_eq!(name.below(&base).unwrap().path(), "/@a%2fb/1.0.0");
        let checksum = UpstreamPath::new("g/a.jar").with_ending("sha1");
        assert_eq!(checksum.below(&base).unwrap().path(), "/g/a.jar.sha1");
        let query = UpstreamPath::base().with_query("q=a#b");
        assert_eq!(
            query.below(&base).unwrap().as_str(),
            "https://r.example/?q=a%23b"
        );
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_base(
            path in "[-a-zA-Z0-9./\\\\%;:?#@&=+ \u{0}-\u{1f}\u{7f}é]{0,40}",
            file in any::<bool>(),
        ) {
            let base = if file { "http://u.example:81/b/c/index.json" } else { "http://u.example:81/b/c/" };
            let base = Url::parse(base).unwrap();
            if let Some(url) = UpstreamPath::new(&path).below(&base) {
                prop_assert_eq!(url.origin(), base.origin());
                prop_assert!(url.path().starts_with("/b/c/"));
                prop_assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }
}
