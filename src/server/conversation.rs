//! The conversation at one socket, from its first byte to its end: each wait in it has a bound.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::place::{Presence, Signal, UnderWay};
use super::reply::Body;
use crate::config::ServerSettings;

/// Requests under way at one socket of HTTP/2.
const STREAMS_MAX: u32 = 128;
/// Streams that a client resets before they are looked at; then the socket ends (`CVE-2023-44487`).
const UNSEEN_RESETS_MAX: usize = 20;
/// Streams that Larder resets for their mistakes; then the socket ends.
const OWN_RESETS_MAX: usize = 256;
/// A client of HTTP/2 that takes no more than this within `server.write_timeout` takes nothing: it
/// sends and answers pings alone.
const PINGS_BYTES: u64 = 1024;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How a socket's conversations are held.
#[derive(Clone)]
pub struct Manners {
    builder: Builder<TokioExecutor>,
    pub header_timeout: Duration,
    pub write_timeout: Duration,
}

impl Manners {
    #[must_use]
    pub fn new(config: &ServerSettings) -> Self {
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
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
            .max_local_error_reset_streams(OWN_RESETS_MAX)
            .keep_alive_interval(Some(config.header_timeout));
        Self {
            builder,
            header_timeout: config.header_timeout,
            write_timeout: config.write_timeout,
        }
    }

    /// Answers the requests of a socket until it ends: by its client, after `server.header_timeout`
    /// without a request, or where it is told to.
    ///
    /// # Errors
    /// Where the client broke off, or broke the protocol.
    pub async fn converse<S, A>(
        &self,
        socket: S,
        presence: &Arc<Presence>,
        answer: impl Fn(Request<Incoming>, UnderWay) -> A,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let service = service_fn(|request| {
            let answered = answer(request, UnderWay::begin(presence));
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(socket), service);
        let mut connection = pin!(connection);
        let mut silence = Silence::default();
        let mut look = pin!(tokio::time::sleep(self.header_timeout));
        let mut least = Signal::Drain;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                signal = presence.told(least) => match signal {
                    Signal::GiveUp => return Ok(()),
                    Signal::Drain => {
                        connection.as_mut().graceful_shutdown();
                        least = Signal::GiveUp;
                    }
                },
                () = look.as_mut() => match silence.look(presence, self) {
                    Found::Life { look_in } => look.as_mut().reset(Instant::now() + look_in),
                    Found::NoRequest if least == Signal::Drain => {
                        connection.as_mut().graceful_shutdown();
                        least = Signal::GiveUp;
                        look.as_mut().reset(Instant::now() + self.header_timeout);
                    }
                    Found::NoRequest => return Ok(()),
                    Found::NothingTaken => return Err("the client takes nothing (`server.write_timeout`)".into()),
                },
            }
        }
    }
}

/// The outcome of a look at a socket.
enum Found {
    Life {
        look_in: Duration,
    },
    /// No request came in time.
    NoRequest,
    /// Every answer is ready, and the client takes none of them.
    NothingTaken,
}

/// The state of a socket at the last look.
#[derive(Default)]
struct Silence {
    /// Bytes that the client had taken.
    written: Option<u64>,
    /// Whether nothing was left to do but for the client to take more.
    all_was_given: bool,
}

impl Silence {
    fn look(&mut self, presence: &Presence, manners: &Manners) -> Found {
        let written = presence.written();
        let before = self.written.replace(written);
        // HTTP/2 has windows of its own: the socket's may be open while nothing is taken, and what is
        // in them is taken after the answer has ended here.
        let takes = before.is_some_and(|before| written - before > PINGS_BYTES);
        if let Some(idle) = presence.idle_for() {
            self.all_was_given = false;
            let look_in = manners.header_timeout.saturating_sub(idle);
            return match look_in.is_zero() {
                true if takes => Found::Life {
                    look_in: manners.header_timeout,
                },
                true => Found::NoRequest,
                false => Found::Life { look_in },
            };
        }
        let all_is_given = presence.all_is_given();
        let all_was_given = std::mem::replace(&mut self.all_was_given, all_is_given);
        if all_was_given && all_is_given && !takes {
            return Found::NothingTaken;
        }
        let look_in = if all_is_given {
            manners.write_timeout
        } else {
            manners.write_timeout.min(manners.header_timeout)
        };
        Found::Life { look_in }
    }
}
