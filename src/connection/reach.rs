//! Which addresses a connection may ask. It is decided in one place, just before a request is sent,
//! and once more on the addresses that a name resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::error::Error;
use super::proxy::Proxies;
use crate::config::{self, CredentialScope};

/// Networks that are nobody's business who writes a document: this machine, private ones, link-local
/// ones, and what is not one host (IANA's special-purpose address registries).
const INSIDE_V4: [Ipv4Net; 12] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4),
    // Azure's metadata, at a public address.
    Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32),
];

const INSIDE_V6: [Ipv6Net; 7] = [
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
    // NAT64 of a network's own (RFC 8215), Teredo: which IPv4 address is meant is not known.
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    // Link-local, and site-local before it was given up.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 9),
    Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// The IPv4 address that an IPv6 one stands for: mapped, compatible (RFC 4291), NAT64 (RFC 6052),
/// translated (RFC 2765), 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether only this machine, or its own network, leads there.
#[must_use]
pub fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => INSIDE_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) => {
            INSIDE_V6.iter().any(|net| net.contains(&ip))
                || embedded(ip).is_some_and(|ip| is_inside(IpAddr::V4(ip)))
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || embedded(ip).is_some_and(|ip| ip.is_loopback()),
    }
}

/// `localhost` and names below it mean this machine, whatever they resolve to (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name
            .rsplit_once('.')
            .is_some_and(|(_, top)| top.eq_ignore_ascii_case("localhost"))
}

/// Where a connection may go: to read, or to publish.
#[derive(Clone)]
pub struct Reach(Arc<Bounds>);

struct Bounds {
    /// The connection's own scheme, host and port; to publish, also where that was configured to
    /// go.
    configured: Vec<CredentialScope>,
    /// Hosts that may be inside, as they stand in a URL: the connection's own, and those that it
    /// lists.
    trusted_hosts: Vec<String>,
    /// The host that publishes were configured to go to. To publish, its name may resolve inside.
    upload_hosts: Vec<String>,
    /// The proxies' names, which may resolve to addresses inside. No document may name them.
    proxies: Vec<String>,
    /// The connection itself is on this machine: its files may be there too.
    is_on_loopback: bool,
    is_over_tls: bool,
}

impl Reach {
    /// Where it may read.
    #[must_use]
    pub fn to_read(connection: &config::ConnectionSettings) -> Self {
        // A registry keeps its files beside its index, so that a path does not bound it.
        let own = CredentialScope::of_origin(&connection.url);
        Self::of(
            connection,
            own.into_iter().collect(),
            Proxies::of(connection).hosts(&connection.url),
        )
    }

    /// Where it may publish: also at the address that was configured for that, of which no document
    /// says anything.
    #[must_use]
    pub fn to_publish(connection: &config::ConnectionSettings) -> Self {
        let own = CredentialScope::of_origin(&connection.url).into_iter();
        let publish_url = connection.publish_url.as_ref();
        let upload = publish_url.and_then(CredentialScope::of_registry);
        let target = publish_url.unwrap_or(&connection.url);
        let proxies = Proxies::of(connection).hosts(target);
        let mut reach = Self::of(connection, own.chain(upload).collect(), proxies);
        if let Some(bounds) = Arc::get_mut(&mut reach.0) {
            let host = publish_url.and_then(|url| url.host_str());
            bounds.upload_hosts.extend(host.map(str::to_lowercase));
        }
        reach
    }

    fn of(
        connection: &config::ConnectionSettings,
        configured: Vec<CredentialScope>,
        proxies: Vec<String>,
    ) -> Self {
        let own_host = connection.url.host_str().map(str::to_lowercase);
        let mut trusted_hosts: Vec<String> = own_host.into_iter().collect();
        trusted_hosts.extend(connection.hosts.iter().cloned());
        let is_on_loopback = match connection.url.host() {
            Some(Host::Ipv4(ip)) => is_loopback(ip.into()),
            Some(Host::Ipv6(ip)) => is_loopback(ip.into()),
            Some(Host::Domain(name)) => is_localhost(name),
            None => false,
        };
        Self(Arc::new(Bounds {
            is_over_tls: connection.url.scheme() == "https",
            configured,
            trusted_hosts,
            upload_hosts: Vec::new(),
            proxies,
            is_on_loopback,
        }))
    }

    /// Whether the address is the connection's own: its credential is for nobody else.
    #[must_use]
    pub fn is_configured(&self, url: &Url) -> bool {
        self.0.configured.iter().any(|own| own.covers(url))
    }

    /// Whether a request may be sent there.
    ///
    /// # Errors
    /// Where the address is none that is fetched, goes from TLS to plain text, or leads inside.
    pub fn admit(&self, url: &Url) -> Result<(), Error> {
        let host = match (url.scheme(), url.host()) {
            ("http" | "https", Some(host)) => host,
            (scheme, _) => {
                return Err(Error::Unfetchable {
                    scheme: scheme.to_owned(),
                });
            }
        };
        if self.is_configured(url) {
            return Ok(());
        }
        if self.0.is_over_tls && url.scheme() == "http" {
            return Err(Error::PlainText {
                host: host.to_string(),
            });
        }
        if self.trusts(&host.to_string()) {
            return Ok(());
        }
        let is_inside = match host {
            Host::Ipv4(ip) => self.bars(ip.into()),
            Host::Ipv6(ip) => self.bars(ip.into()),
            Host::Domain(name) => {
                is_localhost(name) && !self.0.is_on_loopback || is_among(name, &self.0.proxies)
            }
        };
        if is_inside {
            return Err(Error::Inside {
                host: host.to_string(),
            });
        }
        Ok(())
    }

    fn trusts(&self, host: &str) -> bool {
        is_among(host, &self.0.trusted_hosts)
    }

    fn bars(&self, ip: IpAddr) -> bool {
        is_inside(ip) && !(self.0.is_on_loopback && is_loopback(ip))
    }

    /// The addresses of a name, without those that it must not lead to.
    ///
    /// # Errors
    /// Where it has none, or none that may be asked.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, std::io::Error> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
        if self.trusts(name)
            || is_among(name, &self.0.proxies)
            || is_among(name, &self.0.upload_hosts)
        {
            return Ok(found);
        }
        let open: Vec<SocketAddr> = found
            .iter()
            .filter(|address| !self.bars(address.ip()))
            .copied()
            .collect();
        if open.is_empty() && !found.is_empty() {
            return Err(std::io::Error::other(LeadsInside(name.to_owned())));
        }
        Ok(open)
    }
}

fn is_among(host: &str, hosts: &[String]) -> bool {
    let host = host.trim_end_matches('.');
    hosts
        .iter()
        .any(|own| own.trim_end_matches('.').eq_ignore_ascii_case(host))
}

/// Why a name was not connected to; found again among the causes of a client's error.
#[derive(Debug, thiserror::Error)]
#[error("{0} leads to an address that is inside")]
pub(super) struct LeadsInside(pub String);

impl LeadsInside {
    /// The name, where it is the cause of an error.
    pub(super) fn caused<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a str> {
        let mut next = Some(error);
        while let Some(cause) = next {
            let inner = cause
                .downcast_ref::<std::io::Error>()
                .and_then(|error| error.get_ref())
                .and_then(|inner| inner.downcast_ref::<Self>());
            if let Some(Self(name)) = inner.or_else(|| cause.downcast_ref::<Self>()) {
                return Some(name);
            }
            next = cause.source();
        }
        None
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let found = reach.addresses(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Format;

    fn reach(url: &str, hosts: &[&str]) -> Reach {
        let mut connection = config::ConnectionSettings::new("c", Format::Npm, url).unwrap();
        connection.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Reach::to_read(&connection)
    }

    fn says(reach: &Reach, url: &str) -> &'static str {
        match reach.admit(&Url::parse(url).unwrap()) {
            Ok(()) => "yes",
            Err(error) => error.as_str(),
        }
    }

    #[test]
    fn what_a_document_names_is_not_fetched_inside() {
        let reach = reach("http://registry.example/", &["files.corp", "10.1.2.3"]);
        for (url, answer) in [
            ("http://cdn.example/a.tgz", "yes"),
            ("http://1.1.1.1/a.tgz", "yes"),
            ("http://registry.example:81/a.tgz", "yes"),
            ("http://files.corp/a.tgz", "yes"),
            ("http://FILES.corp./a.tgz", "yes"),
            ("http://10.1.2.3:8080/a.tgz", "yes"),
            ("http://10.1.2.4/a.tgz", "inside"),
            ("http://127.0.0.1/a.tgz", "inside"),
            ("http://127.1/a.tgz", "inside"),
            ("http://2130706433/a.tgz", "inside"),
            ("http://0x7f000001/a.tgz", "inside"),
            ("http://0/a.tgz", "inside"),
            ("http://localhost/a.tgz", "inside"),
            ("http://a.LOCALHOST./a.tgz", "inside"),
            ("http://100.100.100.200/a.tgz", "inside"),
            ("http://169.254.169.254/a.tgz", "inside"),
            ("http://172.31.255.255/a.tgz", "inside"),
            ("http://192.168.1.1/a.tgz", "inside"),
            ("http://168.63.129.16/a.tgz", "inside"),
            ("http://224.0.0.1/a.tgz", "inside"),
            ("http://255.255.255.255/a.tgz", "inside"),
            ("http://[::]/a.tgz", "inside"),
            ("http://[::1]/a.tgz", "inside"),
            ("http://[::ffff:10.0.0.1]/a.tgz", "inside"),
            ("http://[::ffff:0:127.0.0.1]/a.tgz", "inside"),
            ("http://[::10.0.0.1]/a.tgz", "inside"),
            ("http://[64:ff9b::169.254.169.254]/a.tgz", "inside"),
            ("http://[64:ff9b:1::1]/a.tgz", "inside"),
            ("http://[2002:7f00:1::]/a.tgz", "inside"),
            ("http://[fd00:ec2::254]/a.tgz", "inside"),
            ("http://[fe80::1]/a.tgz", "inside"),
            ("http://[ff02::1]/a.tgz", "inside"),
            ("http://[2606:4700::1111]/a.tgz", "yes"),
            ("file:///etc/hostname", "unfetchable"),
            ("gopher://cdn.example/", "unfetchable"),
        ] {
            assert_eq!(says(&reach, url), answer, "{url}");
        }
    }

    #[test]
    fn a_registry_that_is_inside_has_its_own_host_and_on_this_machine_every_port() {
        let near = reach("http://localhost:4873/", &[]);
        assert_eq!(says(&near, "http://127.0.0.1:9000/a.tgz"), "yes");
        assert_eq!(says(&near, "http://[::1]:9000/a.tgz"), "yes");
        assert_eq!(says(&near, "http://10.0.0.1/a.tgz"), "inside");
        let private = reach("http://10.0.0.5:8081/", &[]);
        assert_eq!(says(&private, "http://10.0.0.5/a.tgz"), "yes");
        assert_eq!(says(&private, "http://10.0.0.6/a.tgz"), "inside");
        assert_eq!(says(&private, "http://127.0.0.1/a.tgz"), "inside");
    }

    #[test]
    fn from_tls_nothing_leads_to_plain_text() {
        let secure = reach("https://registry.example/", &["files.corp"]);
        for (url, answer) in [
            ("https://cdn.example/a.tgz", "yes"),
            ("http://cdn.example/a.tgz", "plain-text"),
            ("http://registry.example/a.tgz", "plain-text"),
            ("http://files.corp/a.tgz", "plain-text"),
        ] {
            assert_eq!(says(&secure, url), answer, "{url}");
        }
    }

    #[test]
    fn a_proxys_host_is_open_to_no_document() {
        let connection =
            config::ConnectionSettings::new("c", Format::Npm, "http://registry.example/").unwrap();
        let own = CredentialScope::of_origin(&connection.url).into_iter();
        let proxies = ["127.0.0.1", "10.0.0.5", "proxy.corp", "localhost"];
        let proxies = proxies.map(str::to_owned).to_vec();
        let reach = Reach::of(&connection, own.collect(), proxies);
        for url in [
            "http://127.0.0.1:8080/admin",
            "http://10.0.0.5/a.tgz",
            "http://proxy.corp/a.tgz",
            "http://localhost/a.tgz",
        ] {
            assert_eq!(says(&reach, url), "inside", "{url}");
        }
        assert_eq!(says(&reach, "http://cdn.example/a.tgz"), "yes");
    }

    #[test]
    fn where_publishes_go_is_nothing_to_reads() {
        let mut connection =
            config::ConnectionSettings::new("c", Format::Npm, "https://registry.example/npm/")
                .unwrap();
        let publish_url = Url::parse("http://10.0.0.5:81/upload/").unwrap();
        connection.publish_url = Some(publish_url.clone());
        let (read, publish) = (Reach::to_read(&connection), Reach::to_publish(&connection));
        assert_eq!(says(&read, publish_url.as_str()), "plain-text");
        assert!(!read.is_configured(&publish_url));
        assert_eq!(says(&publish, publish_url.as_str()), "yes");
        assert_eq!(says(&publish, "http://10.0.0.5:81/other"), "plain-text");
        assert!(publish.is_configured(&connection.url));
    }

    #[tokio::test]
    async fn the_resolved_address_decides() {
        let far = reach("http://registry.example/", &[]);
        let refused = far.addresses("localhost").await.unwrap_err();
        assert_eq!(LeadsInside::caused(&refused), Some("localhost"));
        let near = reach("http://127.0.0.1:4873/", &[]);
        assert!(!near.addresses("localhost").await.unwrap().is_empty());
    }
}
