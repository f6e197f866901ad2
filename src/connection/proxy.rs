//! The proxy that leads to a registry: the connection's own, the environment's, or none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;
use url::Url;

use super::hearing::{HearingConnector, HearingSocket};
use crate::config::{ConnectionSettings, ProxySetting};

/// The addresses that are asked by way of a proxy, and of which.
#[derive(Clone)]
pub struct Proxies(Arc<Matcher>);

impl Proxies {
    #[must_use]
    pub fn of(connection: &ConnectionSettings) -> Self {
        let matcher = match &connection.proxy {
            None => Matcher::from_env(),
            Some(ProxySetting::None) => Matcher::builder().build(),
            Some(ProxySetting::At(address)) => Matcher::builder().all(address.expose()).build(),
        };
        Self(Arc::new(matcher))
    }

    /// The hosts of the proxies for the connection's own address and others. A proxy resolves names by
    /// itself.
    #[must_use]
    pub fn hosts(&self, own: &Url) -> Vec<String> {
        [
            own.as_str(),
            "http://proxied.example/",
            "https://proxied.example/",
        ]
        .into_iter()
        .filter_map(|address| address.parse().ok())
        .filter_map(|uri| self.0.intercept(&uri)?.uri().host().map(str::to_lowercase))
        .collect()
    }

    /// Whether a proxy leads to the address: then addresses can be judged by how they are written
    /// alone.
    #[must_use]
    pub fn lead_to(&self, url: &Url) -> bool {
        let uri = url.as_str().parse();
        uri.is_ok_and(|uri| self.0.intercept(&uri).is_some())
    }

    /// The header by which a proxy lets a request in that it reads itself; through a tunnel, none is
    /// sent.
    pub(super) fn credential(&self, uri: &Uri) -> Option<HeaderValue> {
        let is_read = uri.scheme_str() == Some("http");
        let intercept = self.0.intercept(uri).filter(|_| is_read)?;
        let mut value = intercept.basic_auth()?.clone();
        value.set_sensitive(true);
        Some(value)
    }
}

/// Opens sockets to registries, through a proxy where one leads there.
#[derive(Clone)]
pub(super) struct ProxiedConnector {
    pub sockets: HearingConnector,
    pub proxies: Proxies,
}

impl Service<Uri> for ProxiedConnector {
    type Response = HearingSocket;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<HearingSocket, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sockets)
            .poll_ready(context)
            .map_err(Into::into)
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let mut sockets = self.sockets.clone();
        let Some(proxy) = self.proxies.0.intercept(&address) else {
            return Box::pin(async move { Ok(sockets.call(address).await?) });
        };
        if proxy.uri().scheme_str() != Some("http") {
            let scheme = proxy.uri().scheme_str().unwrap_or_default().to_owned();
            return Box::pin(async move {
                let said = format!(
                    "publishes go by way of http:// proxies alone, and the environment names one of {scheme}://"
                );
                Err(said.into())
            });
        }
        if address.scheme_str() == Some("https") {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), sockets);
            if let Some(value) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(value.clone());
            }
            return Box::pin(async move { Ok(tunnel.call(address).await?) });
        }
        Box::pin(async move { Ok(sockets.call(proxy.uri().clone()).await?.of_a_proxy()) })
    }
}
