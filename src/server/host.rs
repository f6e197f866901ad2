//! The host that a request asks for: read once, here, and from then on a type. Addresses in
//! documents, the paths of runs and the names of answers are made of it and of nothing else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use crate::config::Config;
use crate::problem::{Decider, Kind, Problem};

/// The longest name of a host, and of a label in it (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host's name or address, with a port where one was said, in lower case:
/// `packages.corp.example:8443`, `127.0.0.1`, `[::1]:5273`. Never with a user, a path or a blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    authority: String,
    /// Where the port's colon stands, or the end.
    name_end: usize,
}

impl Host {
    /// The host that is asked. What stands in the request's target (`GET http://host/path`, and
    /// `:authority` in HTTP/2) goes before `Host` (RFC 9112 §3.2.2, RFC 9113 §8.3.1), which has to
    /// be right all the same (RFC 9112 §3.2). Who cannot say it, by HTTP/1.0, asks for the address
    /// that it reached.
    ///
    /// # Errors
    /// Where none is said that has to be, several are, or what is said is no host.
    pub fn of(request: &Parts, reached: SocketAddr) -> Result<Self, Problem> {
        let mut fields = request.headers.get_all(HOST).iter();
        let field = fields.next().map(Self::read).transpose()?;
        if fields.next().is_some() {
            return Err(Problem::invalid("the request has more than one `Host`"));
        }
        if let Some(authority) = request.uri.authority() {
            if !matches!(request.uri.scheme_str(), None | Some("http" | "https")) {
                return Err(Problem::invalid(
                    "an absolute address has to begin with http: or https:",
                ));
            }
            return Self::parse(authority.as_str());
        }
        match (field, request.version) {
            (Some(host), _) => Ok(host),
            (None, Version::HTTP_09 | Version::HTTP_10) => Self::parse(&reached.to_string()),
            (None, _) => Err(Problem::invalid("the request names no host")),
        }
    }

    fn read(field: &HeaderValue) -> Result<Self, Problem> {
        // A value that is not text cannot be shown in the message, so it is read as empty.
        Self::parse(field.to_str().unwrap_or_default())
    }

    /// Reads `host` or `host:port` (RFC 3986 §3.2.2 and §3.2.3); names are of letters, digits, `-`,
    /// `_` and `.`.
    fn parse(text: &str) -> Result<Self, Problem> {
        // Not shown: it may have a password in it.
        let wrong = || {
            let why = "the host that is asked has to be a name or an address, with a port at most";
            Problem::invalid(why)
        };
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
            let port = match port.strip_prefix(':') {
                None if port.is_empty() => None,
                None => return Err(wrong()),
                port => port,
            };
            (format!("[{address}]"), port)
        } else {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            if !is_name(name) {
                return Err(wrong());
            }
            (name.to_ascii_lowercase(), port)
        };
        let name_end = name.len();
        let authority = match port {
            // A colon with nothing behind it is the default port.
            None | Some("") => name,
            Some(port) => {
                let port = Some(port)
                    .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|port| port.parse::<u16>().ok())
                    .filter(|port| *port > 0);
                format!("{name}:{}", port.ok_or_else(wrong)?)
            }
        };
        Ok(Self {
            authority,
            name_end,
        })
    }

    /// The host as addresses and cache keys contain it.
    pub fn as_str(&self) -> &str {
        &self.authority
    }

    /// Without port, brackets and the dot at the end of a whole name.
    fn name(&self) -> &str {
        bare(self.authority.get(..self.name_end).unwrap_or_default())
    }

    /// Larder's address as the client reaches it, without a slash at its end.
    pub fn root(&self, config: &Config, over_tls: bool) -> String {
        match &config.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => {
                let scheme = if over_tls { "https" } else { "http" };
                format!("{scheme}://{}", self.authority)
            }
        }
    }

    /// On loopback, where nobody has to say who they are, whoever sits at the machine is let in by
    /// being there; so are the pages in their browser, which may have their own names lead to
    /// loopback (DNS rebinding) and then say those. Only names that are Larder's own are answered.
    ///
    /// # Errors
    /// Where the name is another.
    pub fn permit(&self, config: &Config, reached: IpAddr) -> Result<(), Problem> {
        if config.access.required || !config.listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let name = self.name();
        let is_here = match name.parse::<IpAddr>() {
            Ok(address) => address.to_canonical() == reached.to_canonical(),
            Err(_) => name == "localhost",
        };
        let public = config.public_url.as_ref().and_then(|url| url.host_str());
        let mut named = config.server.hosts.iter().map(String::as_str).chain(public);
        if is_here || named.any(|host| bare(host).eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        Err(Problem::new(
            Kind::Misdirected,
            Decider::Larder,
            format!("`{}` is no name of this Larder", self.authority),
        )
        .advice(format!(
            "ask for localhost or {reached}, or add the name to `server.hosts` (or say it in `public_url`, where clients know this Larder by it)"
        )))
    }
}

/// Without brackets, and without the dot at the end of a whole name.
fn bare(name: &str) -> &str {
    let name = name.strip_suffix('.').unwrap_or(name);
    let inside = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inside.unwrap_or(name)
}

fn is_name(name: &str) -> bool {
    let whole = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    whole.len() <= NAME_BYTES_MAX && whole.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::{ConfigSource, Learned, load};

    const REACHED: ([u8; 4], u16) = ([127, 0, 0, 1], 5273);

    fn of(version: Version, target: &str, fields: &[&str]) -> Result<String, Kind> {
        let mut request = Request::builder().version(version).uri(target);
        for field in fields {
            request = request.header(HOST, *field);
        }
        let request = request.body(()).unwrap().into_parts().0;
        Host::of(&request, REACHED.into())
            .map(|host| host.as_str().to_owned())
            .map_err(|problem| problem.kind)
    }

    #[test]
    fn the_target_goes_before_the_field_and_the_field_before_the_socket() {
        let (old, new, two) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, target, fields, host) in [
            (new, "/a", ["a.example"].as_slice(), Some("a.example")),
            (
                new,
                "http://b.example:81/a",
                &["a.example"],
                Some("b.example:81"),
            ),
            (two, "http://b.example/a", &[], Some("b.example")),
            (two, "http://b.example/a", &["a.example"], Some("b.example")),
            (two, "/a", &["a.example"], Some("a.example")),
            (old, "/a", &[], Some("127.0.0.1:5273")),
            (new, "/a", &[], None),
            (two, "/a", &[], None),
            (new, "/a", &[""], None),
            (new, "/a", &["a.example", "a.example"], None),
            // A wrong field is wrong even where it does not count.
            (new, "http://b.example/a", &["a.example", "b.example"], None),
            (new, "http://b.example/a", &["u@a.example"], None),
            (new, "http://u:p@b.example/a", &["b.example"], None),
            (two, "http://u:p@b.example/a", &[], None),
        ] {
            assert_eq!(
                of(version, target, fields).ok().as_deref(),
                host,
                "{target} {fields:?}"
            );
        }
        assert_eq!(of(new, "/a", &["a b"]), Err(Kind::Invalid));
    }

    #[test]
    fn an_absolute_target_has_a_scheme_of_the_web() {
        let field = ["a.example"];
        for (target, is_answered) in [
            ("http://b.example/a", true),
            ("HTTPS://b.example/a", true),
            ("ftp://b.example/a", false),
            ("file://b.example/a", false),
            ("ws://b.example/a", false),
            ("httpx://b.example/a", false),
        ] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let host = of(version, target, &field);
                let expected = is_answered.then(|| "b.example".to_owned());
                assert_eq!(host, expected.ok_or(Kind::Invalid), "{target}");
            }
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (text, host) in [
            ("localhost", Some("localhost")),
            ("LocalHost:5273", Some("localhost:5273")),
            ("a.example.", Some("a.example.")),
            ("my_larder:080", Some("my_larder:80")),
            ("a.example:", Some("a.example")),
            ("[::1]:80", Some("[::1]:80")),
            ("[0:0::0:1]", Some("[::1]")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("u:p@a.example", None),
            ("u@a.example", None),
            ("a.example/p", None),
            ("a.example?q", None),
            ("a.example#f", None),
            ("a.example\\b", None),
            ("a b", None),
            ("a,b", None),
            ("a.example:99999", None),
            ("a.example:0", None),
            ("a.example:+80", None),
            ("a.example:80:80", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[fe80::1%25eth0]", None),
            ("a..example", None),
            (".", None),
            ("%61.example", None),
            ("bücher.example", None),
            ("\"><script>", None),
        ] {
            let read = Host::parse(text).ok();
            assert_eq!(read.as_ref().map(Host::as_str), host, "{text}");
        }
        assert!(Host::parse(&"a".repeat(64)).is_err());
        assert!(Host::parse(&"a.".repeat(200)).is_err());
    }

    fn config(text: &str) -> Config {
        let source = ConfigSource {
            file: "t".to_owned(),
            text: format!("data_dir = \"/x\"\n{text}"),
            environment: Vec::new(),
        };
        load(&source, &Learned::default()).unwrap()
    }

    #[test]
    fn on_loopback_only_names_of_our_own_are_answered() {
        let answers = |config: &Config, host: &str, reached: &str| {
            let host = Host::parse(host).unwrap();
            host.permit(config, reached.parse().unwrap()).is_ok()
        };
        let alone = config("");
        for (host, reached, is_answered) in [
            ("localhost:5273", "127.0.0.1", true),
            ("LOCALHOST.", "127.0.0.1", true),
            ("127.0.0.1:5273", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.2", "127.0.0.2", true),
            ("[::1]:5273", "::1", true),
            ("[::ffff:127.0.0.1]", "127.0.0.1", true),
            ("127.0.0.2", "127.0.0.1", false),
            ("10.0.0.1", "127.0.0.1", false),
            ("evil.example:5273", "127.0.0.1", false),
            ("127.0.0.1.evil.example", "127.0.0.1", false),
            ("localhost.evil.example", "127.0.0.1", false),
            ("evil.localhost", "127.0.0.1", false),
            ("host.docker.internal:5273", "127.0.0.1", false),
            ("packages.corp.example", "127.0.0.1", false),
        ] {
            assert_eq!(answers(&alone, host, reached), is_answered, "{host}");
        }
        let named = config(
            "public_url = \"https://Packages.corp.example:8443/larder\"\n[server]\nhosts = [\"host.docker.internal\"]\n",
        );
        for host in [
            "packages.corp.example",
            "packages.corp.example.:80",
            "host.docker.internal:5273",
        ] {
            assert!(answers(&named, host, "127.0.0.1"), "{host}");
        }
        assert!(!answers(&named, "corp.example", "127.0.0.1"));
        for open in [
            "[access]\nrequired = true\n",
            "listen = \"0.0.0.0:5273\"\nanyone_may_read = true\n",
        ] {
            assert!(answers(&config(open), "larder.lan", "127.0.0.1"), "{open}");
        }
    }

    #[test]
    fn addresses_are_made_of_it() {
        let host = Host::parse("A.example:81").unwrap();
        assert_eq!(host.root(&config(""), false), "http://a.example:81");
        assert_eq!(host.root(&config(""), true), "https://a.example:81");
        let public = config("public_url = \"https://p.example/larder/\"\n");
        assert_eq!(host.root(&public, false), "https://p.example/larder");
    }
}
