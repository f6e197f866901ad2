//! Accepts sockets, a bounded number at once, and drains them at the end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::control::ControlSocket;
use super::handle::{Server, handle};
use super::peer::{NOBODY, Peer};
use super::response_cache::ResponseCache;
use super::tls;
use super::workers::{Accepted, Workers};
use crate::Larder;
use crate::config;
use crate::format::plain;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{address} is in use by another process; say --listen with another port, or stop that process"
    )]
    InUse { address: SocketAddr },
    #[error("{address} cannot be listened on: {}", plain::io(cause))]
    Address {
        address: SocketAddr,
        cause: std::io::Error,
    },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("the threads that serve do not start: {0}")]
    Threads(std::io::Error),
}

/// The bound sockets.
pub struct Listener {
    larder: Arc<Larder>,
    socket: TcpListener,
    control: ControlSocket,
    workers: Workers,
    over_tls: bool,
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
        let tls = tls.transpose().map_err(ListenError::Tls)?;
        let address = socket.local_addr().unwrap_or(address);
        let over_tls = tls.is_some();
        Ok(Self {
            workers: workers(larder, &snapshot.config, tls).map_err(ListenError::Threads)?,
            control: ControlSocket::open(larder),
            larder: Arc::clone(larder),
            socket,
            over_tls,
            address,
        })
    }

    /// Where it listens, `http://127.0.0.1:5273`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.over_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop`, then lets requests under way end, within the configured time. Says when
    /// that is over: background work has what is left of it.
    pub async fn serve(self, stop: CancellationToken) -> Instant {
        let config = self.larder.snapshot().config.clone();
        let places = Arc::new(Semaphore::new(config.server.connections_max));
        let graceful = GracefulShutdown::new();
        self.larder.work_off_spool();
        self.larder.read_files_through();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.socket, &places) => accepted,
                commander = self.control.accept() => {
                    self.control.converse(commander, &graceful, &stop);
                    continue;
                }
            };
            if let Some((socket, place)) = accepted {
                let watcher = graceful.watcher();
                self.workers
                    .hand(Accepted {
                        socket,
                        place,
                        watcher,
                    })
                    .await;
            }
        }
        drop(self.socket);
        self.control.close();
        info!("Stopping: no new requests are accepted; those under way may end");
        let deadline = Instant::now() + config.server.drain;
        if tokio::time::timeout_at(deadline, graceful.shutdown())
            .await
            .is_err()
        {
            warn!("Requests that were still under way after `server.drain` were cut off");
        }
        deadline
    }
}

/// The threads that serve.
fn workers(
    larder: &Arc<Larder>,
    config: &config::Config,
    tls: Option<TlsAcceptor>,
) -> std::io::Result<Workers> {
    let count = match config.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let server = Arc::new(Server {
        larder: Arc::clone(larder),
        answers: ResponseCache::new(config.cache.answers_max),
    });
    let builder = builder(&config.server);
    let timeout = config.server.header_timeout;
    Workers::start(count, &larder.tasks, move |socket, watcher| {
        let (server, tls, builder) = (Arc::clone(&server), tls.clone(), builder.clone());
        Box::pin(async move {
            let address = address_of(&socket);
            let (plain, secured) = (Peer::at(address, false), Peer::at(address, true));
            let reached = socket
                .local_addr()
                .unwrap_or_else(|_| (std::net::Ipv6Addr::UNSPECIFIED, 0).into());
            let open_sockets = &server.larder.metrics.open_sockets;
            open_sockets.inc();
            let result = match tls {
                None => converse(&server, &builder, watcher, socket, plain, reached).await,
                Some(tls) => match tokio::time::timeout(timeout, tls.accept(socket)).await {
                    Ok(Ok(socket)) => {
                        converse(&server, &builder, watcher, socket, secured, reached).await
                    }
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err("no TLS handshake in time".into()),
                },
            };
            open_sockets.dec();
            if let Err(error) = result {
                debug!(%error, "A socket ended");
            }
        })
    })
}

pub(super) fn builder(config: &config::ServerSettings) -> Builder<TokioExecutor> {
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
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match socket.accept().await {
        Ok((socket, _)) => {
            let _ = socket.set_nodelay(true);
            Some((socket, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when sockets close.
            warn!(%error, "Accepting a connection failed; it is tried again");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

/// The other end's; of a socket that is gone already, nobody's.
fn address_of(socket: &TcpStream) -> IpAddr {
    socket.peer_addr().map_or(NOBODY, |address| address.ip())
}

async fn converse<S>(
    server: &Arc<Server>,
    builder: &Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
    socket: S,
    peer: Peer,
    reached: SocketAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = Arc::clone(server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, std::convert::Infallible>(handle(server, peer, reached, request).await) }
    });
    let connection = builder
        .serve_connection(TokioIo::new(socket), service)
        .into_owned();
    watcher.watch(connection).await
}
