//! Threads that serve sockets, each with a reactor of its own: a warm answer is given by the
//! thread that its socket belongs to, and no other is woken for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tracing::warn;

use super::place::SocketPlace;
use crate::task::Tasks;

/// Sockets that wait for their thread.
const WAITING_MAX: usize = 256;

/// A socket with its place among those that may be open.
pub struct Accepted {
    pub socket: TcpStream,
    pub place: SocketPlace,
}

struct Handed {
    socket: std::net::TcpStream,
    place: SocketPlace,
    /// Dropped with the socket: its thread has one less.
    load: Load,
}

struct Load(Arc<AtomicUsize>);

impl Load {
    fn of(sockets: &Arc<AtomicUsize>) -> Self {
        sockets.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sockets))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Worker {
    sockets: Arc<AtomicUsize>,
    handed: mpsc::Sender<Handed>,
}

/// The threads. Dropped, they end what they serve.
pub struct Workers(Vec<Worker>);

impl Workers {
    /// Starts `count` threads that `serve` each socket handed to them.
    ///
    /// # Errors
    /// Where a thread or its reactor cannot be had.
    pub fn start<S>(count: usize, tasks: &Tasks, serve: S) -> std::io::Result<Self>
    where
        S: Fn(TcpStream, SocketPlace) -> Pin<Box<dyn Future<Output = ()> + Send>>
            + Clone
            + Send
            + 'static,
    {
        let mut workers = Vec::with_capacity(count);
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handed, mut arriving) = mpsc::channel::<Handed>(WAITING_MAX);
            let (serve, tasks) = (serve.clone(), tasks.clone());
            thread::Builder::new()
                .name("larder-serve".to_owned())
                .spawn(move || {
                    runtime.block_on(async move {
                        while let Some(Handed {
                            socket,
                            place,
                            load,
                        }) = arriving.recv().await
                        {
                            match TcpStream::from_std(socket) {
                                Ok(socket) => {
                                    let served = serve(socket, place);
                                    tasks.spawn_here(async move {
                                        served.await;
                                        drop(load);
                                    });
                                }
                                Err(error) => warn!(%error, "Taking over a connection failed; its client has to connect again"),
                            }
                        }
                    });
                })?;
            workers.push(Worker {
                sockets: Arc::default(),
                handed,
            });
        }
        Ok(Self(workers))
    }

    /// Gives the socket to the thread that has the fewest.
    pub async fn hand(&self, accepted: Accepted) {
        let idlest = self
            .0
            .iter()
            .min_by_key(|worker| worker.sockets.load(Ordering::Relaxed));
        let (Some(worker), Ok(socket)) = (idlest, accepted.socket.into_std()) else {
            return;
        };
        let handed = Handed {
            socket,
            place: accepted.place,
            load: Load::of(&worker.sockets),
        };
        if worker.handed.send(handed).await.is_err() {
            warn!("A worker thread has ended; a client's connection is dropped");
        }
    }
}
