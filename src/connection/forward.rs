//! Publishes passed on byte for byte: a client that streams, follows nothing and tries nothing
//! twice, since a body comes but once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, EXPECT, HOST, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, REFERER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use super::cdn_loop::CDN_LOOP;
use super::client::{Connection, UNUSABLE_CLIENT_CERT};
use super::error::Error;
use super::hearing::HearingConnector;
use super::proxy::{ProxiedConnector, Proxies};
use super::reach::{LeadsInside, Reach};
use super::sending::{ForwardAnswer, Sending, Stalled};
use crate::config::ConnectionSettings;
use crate::format::plain;
use crate::package::{Format, UpstreamUrl};

/// A body on its way upstream.
pub type ForwardBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The streaming client.
pub(super) type Forwarder = Client<HttpsConnector<ProxiedConnector>, ForwardBody>;

/// Resolves names as [`Reach`] lets it.
#[derive(Clone)]
pub(super) struct Resolver(Reach);

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let reach = self.0.clone();
        Box::pin(async move { Ok(reach.addresses(name.as_str()).await?.into_iter()) })
    }
}

/// A publish to be passed on.
pub struct Forward {
    pub method: Method,
    pub url: UpstreamUrl,
    pub headers: Outbound,
    pub body: ForwardBody,
    /// It carries the client's credentials, not the connection's.
    pub as_client: bool,
    /// The longest that upstream may neither take a piece nor answer.
    pub patience: Duration,
}

/// Headers about one socket, which are not passed on to the next.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Ours, or about who came to us.
static NOT_PASSED_ON: [HeaderName; 10] = [
    HOST,
    EXPECT,
    COOKIE,
    ORIGIN,
    REFERER,
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// The headers of a client's request that may go to a registry. The credentials that let the client
/// in here are taken out before this is made.
#[derive(Default)]
pub struct Outbound {
    headers: HeaderMap,
    /// The client's own for the registry, which go where a connection publishes as its client.
    credentials: HeaderMap,
}

impl Outbound {
    /// Takes the headers that are passed on. The credentials pass unchanged.
    pub fn new<'a>(
        headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        credentials: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
    ) -> Self {
        let owned = |(name, value): (&HeaderName, &HeaderValue)| (name.clone(), value.clone());
        let headers: HeaderMap = headers.map(owned).collect();
        Self {
            headers: passed_on(&headers),
            credentials: credentials.map(owned).collect(),
        }
    }

    /// The headers, without credentials.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// Whether the header says who the client is, in any format.
fn is_credential(name: &HeaderName) -> bool {
    let has = |format: &Format| format.protocol().credential_headers().contains(name);
    *name == AUTHORIZATION || Format::SERVED.iter().any(has)
}

/// The headers that are passed on, without credentials.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let named = hop_by_hop_of(headers);
    headers
        .iter()
        .filter(|(name, _)| {
            !HOP_BY_HOP.contains(name)
                && !NOT_PASSED_ON.contains(name)
                && !is_credential(name)
                && !named.iter().any(|it| it == name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Headers that `Connection` names (RFC 9110 §7.6.1), lower case.
fn hop_by_hop_of(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_lowercase())
        .collect()
}

/// Upstream's headers as the client gets them.
#[must_use]
pub fn answered(headers: &HeaderMap) -> HeaderMap {
    let named = hop_by_hop_of(headers);
    headers
        .iter()
        .filter(|(name, _)| {
            !HOP_BY_HOP.contains(name)
                && *name != SET_COOKIE
                && !named.iter().any(|it| it == name.as_str())
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn forwarder(
    config: &ConnectionSettings,
    connect_timeout: Duration,
    reach: &Reach,
) -> Result<Forwarder, String> {
    let mut http = HttpConnector::new_with_resolver(Resolver(reach.clone()));
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    http.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(config)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(ProxiedConnector {
            sockets: HearingConnector(http),
            proxies: Proxies::of(config),
        });
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The system's trust, and the configuration's own certificates beside it.
fn tls(config: &ConnectionSettings) -> Result<ClientConfig, String> {
    let own: Vec<CertificateDer<'static>> = match config.ca_file.as_deref() {
        None => Vec::new(),
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|_| format!("{} holds no certificates in PEM", file.display()))?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(own, Arc::clone(&provider))
        .map_err(|error| error.to_string())?;
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some(client_cert) = &config.client_cert else {
        return Ok(tls.with_no_client_auth());
    };
    let pem = client_cert.expose().as_bytes();
    let unusable = || UNUSABLE_CLIENT_CERT.to_owned();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable())?;
    tls.with_client_auth_cert(chain.map_err(|_| unusable())?, key)
        .map_err(|_| unusable())
}

impl Connection {
    /// Passes a publish on, once, and gives upstream's answer as it is. What upstream refuses before it
    /// has all of it is not sent on.
    ///
    /// # Errors
    /// Where upstream cannot be reached or does not answer: whether it took the publish is then
    /// for it to say.
    pub async fn forward(&self, forward: Forward) -> Result<Response<ForwardAnswer>, Error> {
        if self.offline {
            return Err(Error::Offline);
        }
        self.publish_reach().admit(&forward.url)?;
        let Outbound {
            mut headers,
            credentials,
        } = forward.headers;
        let mut sent = None;
        if forward.as_client {
            headers.extend(credentials);
        } else if let Some(credential) = self.publish_credential_for(&forward.url) {
            let (name, value) = credential.header().await?;
            headers.insert(name, value.clone());
            sent = Some((credential, value));
        }
        headers.insert(CDN_LOOP.clone(), self.loop_header());
        let uri: Uri = self
            .signed(&forward.url)
            .as_str()
            .parse()
            .map_err(|_| Error::Redirected)?;
        let (sending, body) = Sending::start(forward.body);
        let mut request = Request::new(body);
        *request.method_mut() = forward.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        if let Some(value) = self.proxies.credential(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let client = self.forwarder()?;
        let patience = forward.patience;
        let answer = sending.patiently(patience, client.request(request));
        match answer.await {
            Err(Stalled) => Err(Error::TimedOut),
            Ok(Ok(response)) => {
                if response.status().is_success() {
                    // It may have begun to take the publish: then it gets the rest.
                    let _ = sending.patiently(patience, sending.ended()).await;
                }
                sending.withdraw();
                if let Some((credential, value)) = sent {
                    credential.answered(response.status(), Some(&value));
                }
                Ok(response.map(|body| sending.answer(body)))
            }
            Ok(Err(error)) => {
                if let Some(host) = LeadsInside::caused(&error) {
                    let host = host.to_owned();
                    return Err(Error::Inside { host });
                }
                let cause = plain::cause(&error);
                Err(Error::Unreachable { cause })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_one_socket_or_says_who_somebody_is_is_not_passed_on() {
        let headers: HeaderMap = [
            ("content-type", "a"),
            ("npm-command", "publish"),
            ("authorization", "s"),
            ("npm-otp", "s"),
            ("x-nuget-apikey", "s"),
            ("cookie", "s"),
            ("host", "h"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
        ]
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        })
        .collect();
        let passed = passed_on(&headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "npm-command"]);
    }
}
