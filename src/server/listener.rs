//! Accepts sockets, a bounded number at once, and drains them at the end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::control::ControlSocket;
use super::conversation::{self, Manners};
use super::handle::{Server, handle};
use super::peer::{NOBODY, Peer, counted_by};
use super::place::{LATE_MAX, Places, Signal, SocketPlace};
use super::request_body::BodyMemory;
use super::response_cache::ResponseCache;
use super::socket::WatchedSocket;
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
    places: Arc<Places>,
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
        let bounds = &snapshot.config.server;
        let places = Places::new(
            bounds.connections_max,
            LATE_MAX,
            bounds.connections_per_address_max,
        );
        Ok(Self {
            workers: workers(larder, &snapshot.config, tls, &places)
                .map_err(ListenError::Threads)?,
            places,
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
        self.larder.work_off_spool();
        self.larder.read_files_through();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.socket) => accepted,
                commander = self.control.accept() => {
                    self.control.converse(commander, &stop);
                    continue;
                }
            };
            if let Some((socket, address)) = accepted {
                match self.places.take(self.counted_by(address)) {
                    Some(place) => self.workers.hand(Accepted { socket, place }).await,
                    None => {
                        debug!(%address, "A socket is refused: its address has too many (`server.connections_per_address_max`)")
                    }
                }
            }
        }
        drop(self.socket);
        self.places.drain();
        let commanders = self.control.close();
        let ended = async {
            self.places.closed().await;
            commanders.closed().await;
        };
        info!("Stopping: no new requests are accepted; those under way may end");
        let deadline = Instant::now() + config.server.drain;
        if tokio::time::timeout_at(deadline, ended).await.is_err() {
            warn!("Requests that were still under way after `server.drain` were cut off");
        }
        deadline
    }

    /// The address that a socket is counted by: none for this machine, and for a proxy that speaks for
    /// many.
    fn counted_by(&self, address: IpAddr) -> Option<IpAddr> {
        let trusted = &self.larder.snapshot().config.server.trusted_proxies;
        counted_by(address.to_canonical(), trusted)
    }
}

/// The threads that serve.
fn workers(
    larder: &Arc<Larder>,
    config: &config::Config,
    tls: Option<TlsAcceptor>,
    places: &Arc<Places>,
) -> std::io::Result<Workers> {
    let count = match config.server.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let manners = Manners::new(&config.server);
    let server = Arc::new(Server {
        larder: Arc::clone(larder),
        answers: ResponseCache::new(config.cache.answers_max),
        places: Arc::clone(places),
        place_timeout: config.server.header_timeout,
        bodies: BodyMemory::new(config.server.question_memory),
    });
    Workers::start(count, &larder.tasks, move |socket, place| {
        let (server, tls, manners) = (Arc::clone(&server), tls.clone(), manners.clone());
        Box::pin(async move {
            let open_sockets = server.larder.metrics.open_sockets.clone();
            open_sockets.inc();
            if let Err(error) = converse(server, &manners, tls, socket, &place).await {
                debug!(%error, "A socket ended");
            }
            open_sockets.dec();
        })
    })
}

async fn accept(socket: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match socket.accept().await {
        Ok((socket, address)) => {
            let _ = socket.set_nodelay(true);
            Some((socket, address.ip()))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when sockets close.
            warn!(%error, "Accepting a connection failed; it is tried again");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            None
        }
    }
}

async fn converse(
    server: Arc<Server>,
    manners: &Manners,
    tls: Option<TlsAcceptor>,
    socket: TcpStream,
    place: &SocketPlace,
) -> Result<(), conversation::Error> {
    let presence = &place.presence;
    let address = socket.peer_addr().map_or(NOBODY, |address| address.ip());
    let reached = socket
        .local_addr()
        .unwrap_or_else(|_| (std::net::Ipv6Addr::UNSPECIFIED, 0).into());
    let peer = Peer::at(address, tls.is_some());
    let answer =
        |request, under_way| handle(Arc::clone(&server), peer, reached, request, under_way);
    let socket = WatchedSocket::new(socket, Arc::clone(presence), manners.write_timeout);
    let Some(tls) = tls else {
        return manners.converse(socket, presence, answer).await;
    };
    let handshake = tokio::time::timeout(manners.header_timeout, tls.accept(socket));
    let socket = tokio::select! {
        shaken = handshake => shaken.map_err(|_| "no TLS handshake in time")??,
        _ = presence.told(Signal::Drain) => return Ok(()),
    };
    manners.converse(socket, presence, answer).await
}
