//! Accepts sockets, a bounded number at once, and drains them at the end.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::handle::handle;
use super::tls;
use crate::Larder;
use crate::config;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{address} is in use by another process; say --listen with another port, or stop that process"
    )]
    InUse { address: SocketAddr },
    #[error("{address} cannot be listened on: {cause}")]
    Address {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error("TLS: {0}")]
    Tls(String),
}

/// The bound socket.
pub struct Listener {
    larder: Arc<Larder>,
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    address: SocketAddr,
}

impl Listener {
    /// Binds the configured address.
    ///
    /// # Errors
    /// Where the port is taken or the certificate cannot be used.
    pub async fn bind(larder: &Arc<Larder>) -> Result<Self, ListenError> {
        let snapshot = larder.snapshot();
        let address = snapshot.config.listen;
        let socket = TcpListener::bind(address)
            .await
            .map_err(|cause| match cause.kind() {
                std::io::ErrorKind::AddrInUse => ListenError::InUse { address },
                _ => ListenError::Address { address, cause },
            })?;
        let tls = snapshot
            .config
            .tls
            .as_ref()
            .map(|config| tls::acceptor(config, &larder.tasks));
        let address = socket.local_addr().unwrap_or(address);
        Ok(Self {
            larder: Arc::clone(larder),
            socket,
            tls: tls.transpose().map_err(ListenError::Tls)?,
            address,
        })
    }

    /// Where it listens, `http://127.0.0.1:5273`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop`, then lets requests under way end, within the configured time.
    pub async fn serve(self, stop: CancellationToken) {
        let config = self.larder.snapshot().config.server.clone();
        let places = Arc::new(Semaphore::new(config.connections_max));
        let graceful = GracefulShutdown::new();
        let builder = builder(&config);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.socket, &places) => accepted,
            };
            let Some((socket, place)) = accepted else {
                continue;
            };
            let (larder, tls, builder) =
                (Arc::clone(&self.larder), self.tls.clone(), builder.clone());
            let watcher = graceful.watcher();
            self.larder.tasks.spawn(async move {
                let _place = place;
                larder.metrics.open_sockets.inc();
                let result = match tls {
                    None => converse(&larder, &builder, watcher, socket, false).await,
                    Some(tls) => {
                        match tokio::time::timeout(config.header_timeout, tls.accept(socket)).await
                        {
                            Ok(Ok(socket)) => {
                                converse(&larder, &builder, watcher, socket, true).await
                            }
                            Ok(Err(error)) => Err(error.into()),
                            Err(_) => Err("no TLS handshake in time".into()),
                        }
                    }
                };
                larder.metrics.open_sockets.dec();
                if let Err(error) = result {
                    debug!(%error, "A socket ended");
                }
            });
        }
        drop(self.socket);
        info!("Stopping: no new requests, those under way end");
        if tokio::time::timeout(config.drain, graceful.shutdown())
            .await
            .is_err()
        {
            warn!("Requests still under way after `server.drain` were cut off");
        }
    }
}

fn builder(config: &config::Server) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(config.header_bytes_max);
    let header_list = u32::try_from(config.header_bytes_max).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(header_list)
        .max_concurrent_streams(256)
        .keep_alive_interval(Some(config.header_timeout));
    builder
}

async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((socket, _)) => {
            let _ = socket.set_nodelay(true);
            Some((socket, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when sockets close.
            warn!(%error, "A socket could not be accepted");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

async fn converse<S>(
    larder: &Arc<Larder>,
    builder: &Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    socket: S,
    over_tls: bool,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let larder = Arc::clone(larder);
    let service = service_fn(move |request| {
        let larder = Arc::clone(&larder);
        async move { Ok::<_, std::convert::Infallible>(handle(larder, over_tls, request).await) }
    });
    let connection = builder
        .serve_connection(TokioIo::new(socket), service)
        .into_owned();
    watcher.watch(connection).await
}
