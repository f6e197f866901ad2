//! Larder's own addresses. After a login a client is set to this very Larder, which is nobody's
//! upstream.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::{Mutex, PoisonError};

use url::{Host, Url};

use crate::config::{Config, CredentialScope};
use crate::package::Format;

/// The addresses at which this Larder is reached.
#[derive(Debug, Default)]
pub struct OwnAddresses {
    listens: Vec<SocketAddr>,
    public: Vec<CredentialScope>,
    met: Mutex<Vec<(Format, String)>>,
}

impl OwnAddresses {
    /// The configuration's addresses, and that of the Larder that holds the data directory.
    #[must_use]
    pub fn of(config: &Config, holder: Option<&str>) -> Self {
        let mut own = Self::default();
        own.add_listen(config.listen);
        own.public.extend(
            config
                .public_url
                .as_ref()
                .and_then(CredentialScope::of_registry)
                .map(CredentialScope::over_both_schemes),
        );
        let holder = holder.and_then(|address| Url::parse(address).ok());
        match holder.as_ref().and_then(Url::host) {
            Some(Host::Ipv4(ip)) => own.add_port(ip.into(), holder.as_ref()),
            Some(Host::Ipv6(ip)) => own.add_port(ip.into(), holder.as_ref()),
            _ => own.public.extend(
                holder
                    .as_ref()
                    .and_then(CredentialScope::of_registry)
                    .map(CredentialScope::over_both_schemes),
            ),
        }
        own
    }

    /// Adds an address that Larder listens at.
    pub fn add_listen(&mut self, listen: SocketAddr) {
        if listen.port() != 0 {
            self.listens.push(listen);
        }
    }

    fn add_port(&mut self, ip: IpAddr, url: Option<&Url>) {
        if let Some(port) = url.and_then(Url::port_or_known_default) {
            self.add_listen(SocketAddr::new(ip, port));
        }
    }

    /// Whether the address leads to this Larder. May ask for a host's addresses, where its port is
    /// one of ours; blocks.
    #[must_use]
    pub fn contains(&self, url: &Url) -> bool {
        if self.public.iter().any(|scope| scope.covers(url)) {
            return true;
        }
        let Some(port) = url.port_or_known_default() else {
            return false;
        };
        let listens: Vec<&SocketAddr> = self
            .listens
            .iter()
            .filter(|listen| listen.port() == port)
            .collect();
        if listens.is_empty() {
            return false;
        }
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) => vec![IpAddr::V4(ip)],
            Some(Host::Ipv6(ip)) => vec![IpAddr::V6(ip)],
            Some(Host::Domain(name)) if is_localhost(name) => return true,
            Some(Host::Domain(name)) => (name, port)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect())
                .unwrap_or_default(),
            None => Vec::new(),
        };
        addresses.iter().map(IpAddr::to_canonical).any(|ip| {
            ip.is_loopback()
                || ip.is_unspecified()
                || listens.iter().any(|listen| {
                    let own = listen.ip().to_canonical();
                    own == ip || own.is_unspecified() && is_of_this_machine(ip)
                })
        })
    }

    /// Whether a client's setting leads to this Larder; then it is remembered, to be told.
    pub(super) fn leaves_out(&self, format: Format, url: &str) -> bool {
        let is_own = Url::parse(url).is_ok_and(|url| self.contains(&url));
        if is_own {
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            if !met.iter().any(|(of, _)| *of == format) {
                // Without a user and a password, which the address may carry.
                let shown = Url::parse(url).map(|mut url| {
                    let _ = url.set_username("");
                    let _ = url.set_password(None);
                    url.to_string()
                });
                met.push((format, shown.unwrap_or_default()));
            }
        }
        is_own
    }

    /// A line for each format whose client is set to this Larder.
    #[must_use]
    pub fn remarks(&self, has_upstream: impl Fn(Format) -> bool) -> Vec<String> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(format, url): &(Format, String)| {
            let instead = if has_upstream(*format) {
                "the next of its settings is the upstream instead".to_owned()
            } else {
                format!(
                    "no upstream is left; name it in a [[connection]] with format = \"{format}\""
                )
            };
            format!(
                "this machine's {format} client is set to this Larder itself ({url}): {instead}"
            )
        };
        met.iter().map(line).collect()
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listen: &str, public_url: Option<&str>) -> OwnAddresses {
        let mut own = OwnAddresses::default();
        own.add_listen(listen.parse().unwrap());
        own.public.extend(
            public_url
                .and_then(|url| CredentialScope::of_registry(&Url::parse(url).unwrap()))
                .map(CredentialScope::over_both_schemes),
        );
        own
    }

    #[test]
    fn every_name_of_this_larder_is_its_own() {
        for (listen, public_url, url, is_own) in [
            (
                "127.0.0.1:5273",
                None,
                "http://127.0.0.1:5273/npm/public/",
                true,
            ),
            (
                "127.0.0.1:5273",
                None,
                "http://localhost:5273/npm/public/",
                true,
            ),
            ("127.0.0.1:5273", None, "http://LOCALHOST.:5273/", true),
            ("127.0.0.1:5273", None, "http://a.localhost:5273/", true),
            ("127.0.0.1:5273", None, "http://[::1]:5273/", true),
            (
                "127.0.0.1:5273",
                None,
                "http://[::ffff:127.0.0.1]:5273/",
                true,
            ),
            ("127.0.0.1:5273", None, "http://127.9.9.9:5273/", true),
            ("127.0.0.1:5273", None, "https://127.0.0.1:5273/", true),
            ("127.0.0.1:5273", None, "http://u:p@127.0.0.1:5273/", true),
            ("127.0.0.1:5273", None, "http://127.0.0.1:5274/", false),
            ("127.0.0.1:80", None, "http://localhost/npm/", true),
            ("127.0.0.1:443", None, "http://localhost/npm/", false),
            ("0.0.0.0:5273", None, "http://0.0.0.0:5273/", true),
            ("0.0.0.0:5273", None, "http://localhost:5273/", true),
            ("[::]:5273", None, "http://127.0.0.1:5273/", true),
            ("0.0.0.0:5273", None, "http://203.0.113.9:5273/", false),
            (
                "203.0.113.9:5273",
                None,
                "http://203.0.113.9:5273/npm/",
                true,
            ),
            ("127.0.0.1:0", None, "http://localhost:0/", false),
            (
                "127.0.0.1:5273",
                Some("https://packages.corp.example"),
                "https://Packages.corp.example/npm/public/",
                true,
            ),
            (
                "127.0.0.1:5273",
                Some("https://packages.corp.example"),
                "http://packages.corp.example/npm/public/",
                true,
            ),
            (
                "127.0.0.1:5273",
                Some("https://corp.example/larder"),
                "https://corp.example/larder/npm/public/",
                true,
            ),
            (
                "127.0.0.1:5273",
                Some("https://corp.example/larder"),
                "https://corp.example/npm/",
                false,
            ),
        ] {
            let url = Url::parse(url).unwrap();
            let found = own(listen, public_url).contains(&url);
            assert_eq!(found, is_own, "{url} of {listen} and {public_url:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_told_once_without_its_password() {
        let own = own("127.0.0.1:5273", None);
        for _ in 0..2 {
            assert!(own.leaves_out(
                Format::Pypi,
                "http://u:secret@localhost:5273/pypi/public/simple/"
            ));
        }
        assert!(!own.leaves_out(Format::Npm, "https://npm.example/"));
        let remarks = own.remarks(|_| false);
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].contains("pypi") && remarks[0].contains("[[connection]]"));
        assert!(!remarks[0].contains("secret"));
    }
}
