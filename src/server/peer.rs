//! Finds out whom a request comes from. Proxies that stand before Larder say it in headers, which are
//! believed from the networks of the configuration alone (`server.trusted_proxies`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::access::network_of;
use crate::problem::Problem;

static FORWARDED: HeaderName = HeaderName::from_static("forwarded");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// No address: of a socket that is gone, or of a client that its proxy does not name. No network of
/// a policy has it.
pub const NOBODY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The address that sockets and requests are counted by (`server.connections_per_address_max`): none on
/// this machine, and none of a proxy that speaks for many.
pub fn counted_by(address: IpAddr, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_exempt = address.is_loopback() || trusted.iter().any(|net| net.contains(&address));
    (!is_exempt).then(|| network_of(address))
}

/// The sender of a request: the other end of the socket, or the client of a trusted proxy there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// Whether the client speaks TLS, be it to us or to the proxy.
    pub over_tls: bool,
    /// Whether the socket itself does.
    pub socket_over_tls: bool,
    is_near: bool,
}

impl Peer {
    /// The other end of a socket.
    #[must_use]
    pub fn at(address: IpAddr, over_tls: bool) -> Self {
        let address = address.to_canonical();
        Self {
            address,
            over_tls,
            socket_over_tls: over_tls,
            is_near: address.is_loopback(),
        }
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_near(self) -> bool {
        self.is_near
    }

    /// Finds the sender of this request: the nearest address that is not a trusted proxy.
    ///
    /// # Errors
    /// Where a trusted proxy says two things at once: one of the two headers it has let through from
    /// the client, and which one is not to be seen.
    pub fn of_request(self, headers: &HeaderMap, trusted: &[IpNet]) -> Result<Self, Problem> {
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        if trusted.is_empty() || !is_trusted(self.address) {
            return Ok(self);
        }
        let by_forwarded = nearest(&forwarded(headers), is_trusted);
        let by_x = nearest(&x_forwarded(headers), is_trusted);
        let hop = match (by_forwarded, by_x) {
            (Some(one), Some(other)) if one.address != other.address => {
                return Err(Problem::invalid(
                    "`Forwarded` and `X-Forwarded-For` name different clients",
                )
                .advice(
                    "a proxy of `server.trusted_proxies` has to set one and take the other out",
                ));
            }
            (Some(one), Some(other)) => Hop {
                over_tls: one.over_tls.or(other.over_tls),
                ..one
            },
            (Some(one), None) => one,
            (None, Some(other)) => other,
            // The scheme may be all that is said.
            (None, None) => Hop {
                address: self.address,
                over_tls: proto_from_right(headers, 0),
            },
        };
        Ok(Self {
            address: hop.address,
            over_tls: hop.over_tls.unwrap_or(self.socket_over_tls),
            socket_over_tls: self.socket_over_tls,
            // Loopback of the proxy's machine is not ours.
            is_near: self.address.is_loopback() && hop.address.is_loopback(),
        })
    }
}

/// One that a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    address: IpAddr,
    over_tls: Option<bool>,
}

/// The last that is not trusted, for what is before it may be made up by it; where all are, the first.
fn nearest(hops: &[Hop], is_trusted: impl Fn(IpAddr) -> bool) -> Option<Hop> {
    let mut from_right = hops.iter().rev();
    from_right
        .find(|hop| !is_trusted(hop.address))
        .or_else(|| hops.first())
        .copied()
}

/// The elements of a header that may stand there several times, each with commas in it.
fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    let values = headers.get_all(name).iter();
    let lists = values.map(|value| value.to_str().unwrap_or("unreadable"));
    lists
        .flat_map(|list| outside_quotes(list, ','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .collect()
}

/// Splits where the separator stands outside of quoted strings (RFC 9110 §5.6.4).
fn outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_end = c == separator && !is_quoted;
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        is_end
    })
    .collect()
}

/// RFC 7239 §4: an element for each proxy, with pairs of a name and a token or quoted string.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    elements(headers, &FORWARDED)
        .into_iter()
        .map(|element| {
            let value = |wanted: &str| {
                let mut pairs = outside_quotes(element, ';').into_iter();
                pairs.find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    let is_it = name.trim().eq_ignore_ascii_case(wanted);
                    is_it.then(|| value.trim().trim_matches('"'))
                })
            };
            Hop {
                address: value("for").map_or(NOBODY, node),
                over_tls: value("proto").and_then(is_tls),
            }
        })
        .collect()
}

/// `X-Forwarded-For`, with the scheme that each proxy says where each says one.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let nodes = elements(headers, &X_FORWARDED_FOR);
    let count = nodes.len();
    nodes
        .into_iter()
        .enumerate()
        .map(|(at, text)| Hop {
            address: node(text),
            over_tls: proto_from_right(headers, count - 1 - at),
        })
        .collect()
}

/// The scheme at this place from the right, or the first where not every proxy says one.
fn proto_from_right(headers: &HeaderMap, place: usize) -> Option<bool> {
    let protos = elements(headers, &X_FORWARDED_PROTO);
    let proto = protos.iter().rev().nth(place).or_else(|| protos.first())?;
    is_tls(proto)
}

fn is_tls(proto: &str) -> Option<bool> {
    if proto.eq_ignore_ascii_case("https") {
        Some(true)
    } else {
        proto.eq_ignore_ascii_case("http").then_some(false)
    }
}

/// An address, with or without a port (RFC 7239 §6); what is none is nobody's.
fn node(text: &str) -> IpAddr {
    let text = text.trim().trim_matches('"');
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|it| it.ip()))
        .map_or(NOBODY, |address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(
        from: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<(String, bool), Problem> {
        let trusted = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        let peer = Peer::at(from.parse().unwrap(), false);
        let peer = peer.of_request(&headers, &trusted)?;
        Ok((peer.address.to_string(), peer.over_tls))
    }

    /// The socket's other end, headers, the client's address, and whether it speaks TLS.
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        bool,
    );

    #[test]
    fn the_nearest_that_is_no_trusted_proxy_is_the_client() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            // Nothing is believed from others.
            ("192.0.2.9", &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")], "192.0.2.9", false),
            ("192.0.2.9", &[("forwarded", "for=192.0.2.1;proto=https")], "192.0.2.9", false),
            ("10.0.0.1", &[], "10.0.0.1", false),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.1")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1")], "192.0.2.1", false),
            // The client can write any addresses before its own; they are not believed.
            ("10.0.0.1", &[("x-forwarded-for", "127.0.0.1, 192.0.2.1")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.7, 192.0.2.1, 10.0.0.2")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3", false),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1:4711")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1", false),
            ("10.0.0.1", &[("x-forwarded-for", "2001:db8::1")], "2001:db8::1", false),
            ("10.0.0.1", &[("x-forwarded-for", "::ffff:192.0.2.1")], "192.0.2.1", false),
            // Where the proxy names no address, the client has none: neither the proxy's nor one
            // before it.
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1, unknown")], "::", false),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1, for=_hidden")], "::", false),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1, proto=https")], "::", true),
            ("10.0.0.1", &[("forwarded", "For=\"[2001:db8::1]:4711\";Proto=https;by=10.0.0.1")], "2001:db8::1", true),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")], "192.0.2.1", true),
            ("10.0.0.1", &[("forwarded", "for=\"x, for=127.0.0.1\";proto=http, for=192.0.2.1")], "192.0.2.1", false),
            ("10.0.0.1", &[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.1")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")], "192.0.2.1", true),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https, http")], "192.0.2.1", true),
            ("10.0.0.1", &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https, http")], "192.0.2.1", false),
            ("10.0.0.1", &[("x-forwarded-proto", "https")], "10.0.0.1", true),
            ("fd00::1", &[("x-forwarded-for", "192.0.2.1")], "192.0.2.1", false),
        ];
        for (from, headers, address, over_tls) in cases {
            let asked = asked(from, headers).unwrap();
            assert_eq!(
                asked,
                ((*address).to_owned(), *over_tls),
                "{from} {headers:?}"
            );
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_read_in_none() {
        let both = [
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
        ];
        assert!(asked("10.0.0.1", &both).is_err());
        assert!(asked("192.0.2.9", &both).is_ok());
    }

    #[test]
    fn only_who_is_on_this_machine_is_near() {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8"].map(|net| net.parse().unwrap());
        let near = |from: &str, says: &str| {
            let headers = HeaderMap::from_iter([(X_FORWARDED_FOR.clone(), says.parse().unwrap())]);
            let peer = Peer::at(from.parse().unwrap(), false);
            peer.of_request(&headers, &trusted).unwrap().is_near()
        };
        assert!(near("127.0.0.1", "127.0.0.1"));
        assert!(!near("127.0.0.1", "192.0.2.1"));
        assert!(!near("10.0.0.1", "127.0.0.1"));
        assert!(!near("192.0.2.1", "127.0.0.1"));
    }
}
