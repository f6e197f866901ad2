//! The addresses that a credential is for: a scheme, a host, a port, and whole segments of a path.
//! Every comparison of a credential with an address is made here.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// How often a path is decoded while it is searched for steps upwards. Servers decode once, those
/// behind a proxy twice; what is encoded more often than this is refused.
const DECODINGS_MAX: usize = 8;

/// The addresses that a credential may be sent to.
///
/// Two spellings of one address are the same: hosts have no case and are compared in their ASCII
/// form, a port that is its scheme's default may be left out, `%`-encoded characters of a segment
/// are those characters, and a slash at the end means nothing. A user in an address is no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialScope {
    /// `None`: http or https.
    scheme: Option<Scheme>,
    host: Host<String>,
    port: Port,
    /// The path's segments, decoded; none covers the whole host.
    segments: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Whatever is the default of the scheme that is compared.
    Default,
    Is(u16),
    Any,
}

impl CredentialScope {
    /// The addresses below a registry's: its scheme, host and port, and its path's segments. `None`
    /// where the address is not one of HTTP.
    #[must_use]
    pub fn of_registry(url: &Url) -> Option<Self> {
        Some(Self {
            scheme: Some(Scheme::of(url)?),
            host: host(url)?,
            port: Port::Is(url.port_or_known_default()?),
            segments: segments(url),
        })
    }

    /// The addresses at the URL's scheme, host and port, whatever their path.
    #[must_use]
    pub fn of_origin(url: &Url) -> Option<Self> {
        let scope = Self::of_registry(url)?;
        Some(Self {
            segments: Vec::new(),
            ..scope
        })
    }

    /// A key of npm's credentials, `//host:port/path/`, with or without its last slash. It holds for
    /// http and https; without a port, for the default port of either.
    #[must_use]
    pub fn of_nerf_dart(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("//")?;
        if rest.starts_with(['/', '\\']) {
            return None;
        }
        // A URL drops a port that is its scheme's default: read with both, one keeps it.
        let secure = Url::parse(&format!("https:{text}")).ok()?;
        let plain = Url::parse(&format!("http:{text}")).ok()?;
        if secure.query().is_some() || secure.fragment().is_some() {
            return None;
        }
        Some(Self {
            scheme: None,
            host: host(&secure)?,
            port: secure
                .port()
                .or(plain.port())
                .map_or(Port::Default, Port::Is),
            segments: segments(&secure),
        })
    }

    /// `host` or `host:port`, over http and https; without a port, for the default port of either.
    #[must_use]
    fn of_authority(authority: &str) -> Option<Self> {
        if authority.contains(['/', '\\', '?', '#']) {
            return None;
        }
        Self::of_nerf_dart(&format!("//{authority}/"))
    }

    /// A host by its name, at every port, as a line of `.netrc` means it.
    #[must_use]
    pub fn of_machine(name: &str) -> Option<Self> {
        let scope = Self::of_authority(name)?;
        (scope.port == Port::Default).then_some(Self {
            port: Port::Any,
            ..scope
        })
    }

    /// Widens the scope to http and https. A default port becomes the default port of either.
    #[must_use]
    pub fn over_both_schemes(self) -> Self {
        let port = match (self.scheme, self.port) {
            (Some(scheme), Port::Is(port)) if port == scheme.default_port() => Port::Default,
            (_, port) => port,
        };
        Self {
            scheme: None,
            port,
            ..self
        }
    }

    /// Whether a credential of this scope may be sent to the address.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let Some(scheme) = Scheme::of(url) else {
            return false;
        };
        if self.scheme.is_some_and(|own| own != scheme) {
            return false;
        }
        let port_agrees = match self.port {
            Port::Any => true,
            Port::Default => url.port_or_known_default() == Some(scheme.default_port()),
            Port::Is(port) => url.port_or_known_default() == Some(port),
        };
        if !port_agrees || host(url).as_ref() != Some(&self.host) {
            return false;
        }
        if self.segments.is_empty() {
            return true;
        }
        let asked = segments(url);
        asked.starts_with(&self.segments) && !asked.iter().any(|segment| may_lead_up(segment))
    }

    /// How much of a path it names: of several scopes that cover an address, the longest is meant.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.segments.len()
    }
}

impl Scheme {
    fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

fn host(url: &Url) -> Option<Host<String>> {
    url.host().map(|host| host.to_owned())
}

/// The path's segments, each decoded by itself so that `%2f` does not part two. Empty ones at the end
/// mean nothing. `.` and `..`, also encoded, are gone when a [`Url`] is parsed.
fn segments(url: &Url) -> Vec<Vec<u8>> {
    let mut segments: Vec<Vec<u8>> = url
        .path_segments()
        .into_iter()
        .flatten()
        .map(|segment| percent_decode_str(segment).collect())
        .collect();
    while segments.last().is_some_and(Vec::is_empty) {
        segments.pop();
    }
    segments
}

/// Whether a server that decodes once more, or that drops path parameters, might take a part of the
/// segment for `..`: the credential would then reach what lies beside its path.
fn may_lead_up(segment: &[u8]) -> bool {
    let mut current = segment.to_vec();
    for _ in 0..=DECODINGS_MAX {
        let steps_up = current
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .filter_map(|part| part.split(|byte| *byte == b';').next())
            .any(|name| name == b"..");
        if steps_up {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&current).collect();
        if decoded == current {
            return false;
        }
        current = decoded;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covers(scope: &str, url: &str) -> bool {
        let scope = if scope.starts_with("//") {
            CredentialScope::of_nerf_dart(scope)
        } else {
            CredentialScope::of_registry(&Url::parse(scope).unwrap())
        };
        scope.unwrap().covers(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_scope_covers_its_own_addresses_in_every_spelling() {
        for (scope, url) in [
            ("//registry.corp/", "https://registry.corp/"),
            ("//registry.corp/", "http://registry.corp/lib"),
            ("//registry.corp", "https://registry.corp:443/lib"),
            ("//REGISTRY.Corp/", "https://registry.corp/lib"),
            ("//registry.corp:443/", "https://registry.corp/lib"),
            ("//registry.corp:80/", "http://registry.corp/lib"),
            ("//registry.corp:8443/", "https://registry.corp:8443/"),
            ("//bücher.example/", "https://xn--bcher-kva.example/"),
            ("//xn--bcher-kva.example/", "https://BÜCHER.example/"),
            ("//registry.corp/team/", "https://registry.corp/team"),
            ("//registry.corp/team", "https://registry.corp/team/"),
            ("//registry.corp/team", "https://registry.corp/team/@a%2fb"),
            ("//registry.corp/a/../team/", "https://registry.corp/team/x"),
            ("//registry.corp/team/", "https://registry.corp/./team/x"),
            ("//registry.corp/t%65am/", "https://registry.corp/team/x"),
            ("//registry.corp/team/", "https://registry.corp/%74eam/x"),
            ("//registry.corp/a b/", "https://registry.corp/a%20b/x"),
            ("//[::1]:4873/", "http://[0:0:0:0:0:0:0:1]:4873/lib"),
            ("//user:secret@registry.corp/", "https://registry.corp/"),
            ("//registry.corp/", "https://somebody@registry.corp/"),
            ("//127.1/", "http://127.0.0.1/"),
            ("https://registry.corp/", "https://registry.corp:443/x"),
            ("https://u:p@registry.corp/a/", "https://registry.corp/a/b"),
        ] {
            assert!(covers(scope, url), "{scope} covers {url}");
        }
    }

    #[test]
    fn a_scope_covers_no_look_alike() {
        for (scope, url) in [
            ("//registry.corp/", "https://registry.corp.evil.example/"),
            ("//registry.corp/", "https://registry.corpevil/"),
            ("//registry.corp/", "https://evil.example/registry.corp/"),
            ("//registry.corp/", "https://registry.corp@evil.example/"),
            ("//registry.corp/", "https://sub.registry.corp/"),
            ("//registry.corp/", "https://registry.corp:8443/"),
            ("//registry.corp:443/", "http://registry.corp/"),
            ("//registry.corp:80/", "https://registry.corp/"),
            ("//registry.corp:80/", "https://registry.corp:8080/"),
            ("//registry.corp:808/", "https://registry.corp:8080/"),
            ("//registry.corp/te", "https://registry.corp/team/"),
            ("//registry.corp/team/", "https://registry.corp/"),
            ("//registry.corp/team/", "https://registry.corp/teams/"),
            ("//registry.corp/team/", "https://registry.corp/Team/"),
            ("//registry.corp/team/", "https://registry.corp/team/../x"),
            (
                "//registry.corp/team/",
                "https://registry.corp/team/%2e%2e/x",
            ),
            (
                "//registry.corp/team/",
                "https://registry.corp/team/%252e%252e/x",
            ),
            ("//registry.corp/team/", "https://registry.corp/team/..%2fx"),
            ("//registry.corp/team/", "https://registry.corp/team/..;/x"),
            ("//registry.corp/team/", "https://registry.corp/team/..\\x"),
            ("//registry.corp/a/b/", "https://registry.corp/a%2fb/"),
            ("//registry.corp/a%2fb/", "https://registry.corp/a/b/"),
            ("//registry.corp/a/", "https://registry.corp//a/"),
            ("//bücher.example/", "https://bucher.example/"),
            ("//[::1]/", "https://127.0.0.1/"),
            ("//registry.corp/", "ftp://registry.corp/"),
            ("https://registry.corp/", "http://registry.corp/"),
            ("https://registry.corp/", "http://registry.corp:443/"),
        ] {
            assert!(!covers(scope, url), "{scope} does not cover {url}");
        }
    }

    #[test]
    fn what_names_no_host_is_no_scope() {
        for text in ["", "/", "//", "///", "////evil.example/", "registry.corp/"] {
            assert_eq!(CredentialScope::of_nerf_dart(text), None, "{text}");
        }
        for text in ["a/b", "a\\b", "a?b", "a b", ""] {
            assert_eq!(CredentialScope::of_authority(text), None, "{text}");
        }
        let file = Url::parse("file:///etc/passwd").unwrap();
        assert_eq!(CredentialScope::of_registry(&file), None);
    }

    #[test]
    fn an_authority_a_machine_and_an_origin_have_no_path() {
        let is_covered = |scope: Option<CredentialScope>, url: &str| {
            scope.is_some_and(|scope| scope.covers(&Url::parse(url).unwrap()))
        };
        let authority = || CredentialScope::of_authority("registry.corp:81");
        assert!(is_covered(authority(), "https://registry.corp:81/a/b"));
        assert!(!is_covered(authority(), "https://registry.corp/"));
        let machine = || CredentialScope::of_machine("registry.corp");
        assert!(is_covered(machine(), "https://registry.corp:81/simple/"));
        assert!(!is_covered(machine(), "https://registry.corp.example/"));
        assert_eq!(CredentialScope::of_machine("registry.corp:81"), None);
        let url = Url::parse("https://registry.corp/team/").unwrap();
        let origin = || CredentialScope::of_origin(&url);
        assert!(is_covered(origin(), "https://registry.corp/other/"));
        assert!(!is_covered(origin(), "http://registry.corp/other/"));
        let both = || origin().map(CredentialScope::over_both_schemes);
        assert!(is_covered(both(), "http://registry.corp/other/"));
        assert!(!is_covered(both(), "http://registry.corp:443/other/"));
    }

    #[test]
    fn a_path_is_decoded_so_often_and_one_that_is_encoded_more_often_is_refused() {
        let encoded = |times: usize| format!("%{}61", "25".repeat(times - 1));
        assert!(!may_lead_up(encoded(DECODINGS_MAX).as_bytes()));
        assert!(may_lead_up(encoded(DECODINGS_MAX + 1).as_bytes()));
        let upwards = format!("%{}2e.", "25".repeat(DECODINGS_MAX - 1));
        assert!(may_lead_up(upwards.as_bytes()));
    }

    proptest! {
        /// Whatever is written behind a host, or in a path's last segment, is another place unless it
        /// begins a new segment.
        #[test]
        fn nothing_written_behind_it_is_covered(
            host in "[a-z]{1,8}\\.[a-z]{2,5}",
            path in "(/[a-zA-Z0-9]{1,6}){0,3}",
            more in "[a-zA-Z0-9.@:%-]{1,12}",
            rest in "[a-z0-9/%.;]{0,12}",
        ) {
            let scope = CredentialScope::of_nerf_dart(&format!("//{host}{path}/")).unwrap();
            let own = Url::parse(&format!("https://{host}{path}/lib")).unwrap();
            prop_assert!(scope.covers(&own));
            if let Ok(url) = Url::parse(&format!("https://{host}{path}{more}/{rest}")) {
                let same_host = url.host_str() == Some(host.as_str());
                let same_port = url.port().is_none();
                // `%74`, say, is a letter like any other, and `x/../` leads back.
                let below = format!("{path}/");
                let is_below = url.path().starts_with(&below) || url.path() == path || path.is_empty();
                if scope.covers(&url) {
                    prop_assert!(same_host && same_port && is_below, "{url}");
                }
            }
        }

        /// A scope covers what a URL of its own path resolves to, and no step upwards from there.
        #[test]
        fn steps_upwards_leave_it(
            steps in proptest::collection::vec("(a|b|\\.\\.|%2e%2E|%252e%252e|\\.\\.;x|\\.\\.%2f|\\.)", 0..6),
        ) {
            let scope = CredentialScope::of_nerf_dart("//registry.corp/team/").unwrap();
            let url = Url::parse(&format!("https://registry.corp/team/{}", steps.join("/"))).unwrap();
            if scope.covers(&url) {
                prop_assert!(url.path() == "/team" || url.path().starts_with("/team/"));
                prop_assert!(!url.path().contains("..") && !url.path().contains("%252e"));
            }
        }
    }
}
