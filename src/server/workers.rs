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

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::net::TcpSocket;

    use super::super::place::Places;
    use super::*;

    /// Sockets that a listener holds and does not take.
    struct Sockets {
        listener: tokio::net::TcpListener,
        places: Arc<Places>,
    }

    impl Sockets {
        fn open() -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            Self {
                listener: socket.listen(1024).unwrap(),
                places: Places::new(1024, 0, 1024),
            }
        }

        async fn accepted(&self) -> Accepted {
            let address = self.listener.local_addr().unwrap();
            Accepted {
                socket: TcpStream::connect(address).await.unwrap(),
                place: self.places.take(None).unwrap(),
            }
        }
    }

    #[tokio::test]
    async fn a_socket_is_dealt_to_the_thread_that_has_the_fewest() {
        let sockets = Sockets::open();
        let (told, mut taken) = mpsc::unbounded_channel();
        let workers = Workers::start(2, &Tasks::default(), move |socket, place| {
            told.send((thread::current().id(), (socket, place)))
                .unwrap();
            std::future::pending().boxed()
        });
        let workers = workers.unwrap();
        let mut by_thread = std::collections::HashMap::<_, Vec<_>>::new();
        for _ in 0..6 {
            workers.hand(sockets.accepted().await).await;
            let (thread, held) = taken.recv().await.unwrap();
            by_thread.entry(thread).or_default().push(held);
        }
        let counts: Vec<usize> = by_thread.values().map(Vec::len).collect();
        assert_eq!(counts, [3, 3]);
    }

    #[tokio::test]
    async fn so_many_sockets_wait_for_a_thread_that_is_at_work() {
        let sockets = Sockets::open();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (begun, mut has_begun) = mpsc::unbounded_channel();
        let opened = Arc::clone(&gate);
        let workers = Workers::start(1, &Tasks::default(), move |_, place| {
            begun.send(()).unwrap();
            let (is_open, changed) = &*opened;
            let guard = is_open.lock().unwrap();
            drop(changed.wait_while(guard, |is_open| !*is_open).unwrap());
            async move { drop(place) }.boxed()
        });
        let workers = workers.unwrap();
        workers.hand(sockets.accepted().await).await;
        has_begun.recv().await.unwrap();
        for _ in 0..WAITING_MAX {
            workers.hand(sockets.accepted().await).await;
        }
        let mut one_more = Box::pin(workers.hand(sockets.accepted().await));
        let waited = tokio::time::timeout(Duration::from_millis(20), one_more.as_mut());
        assert!(waited.await.is_err(), "there is room for one more");
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        one_more.await;
    }
}
