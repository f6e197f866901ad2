//! Bodies of requests that are read on behind their answers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::Version;
use http::header::EXPECT;
use http::request::Parts;
use http_body::Body as _;
use tokio::time::Instant;

use super::request_body::RequestBody;
use crate::config::UploadSettings;
use crate::repository::BodyStream;
use crate::task::Tasks;

/// The least that is read of a body behind its answer, however small `upload.body_bytes_max` is. A
/// client that sends too much should hear so too, and what is read is thrown away at once.
const REST_BYTES_MIN: u64 = 1024 * 1024 * 1024;

/// A request's body, shared by whoever answers and whoever reads what they leave:
/// [`SharedBody::pieces`], then [`SharedBody::read_on`].
pub struct SharedBody {
    reading: Arc<Mutex<Reading>>,
    bounds: BodyBounds,
}

#[derive(Clone, Copy)]
struct BodyBounds {
    /// The longest silence before a piece.
    stall: Duration,
    /// The longest time from the first piece that is asked for to the last.
    whole: Duration,
    rest_bytes_max: u64,
}

struct Reading {
    state: State,
    /// When a piece was first asked for.
    begun: Option<Instant>,
    /// The client sends nothing until it is told to go on, or is answered (RFC 9110 §10.1.1).
    waits_for_go: bool,
}

enum State {
    Open(RequestBody),
    Ended,
    /// There is an answer: what is left is read by nobody who wants it.
    Answered,
}

impl SharedBody {
    pub fn new(body: RequestBody, head: &Parts, upload: &UploadSettings) -> Self {
        let state = if body.is_end_stream() {
            State::Ended
        } else {
            State::Open(body)
        };
        Self {
            reading: Arc::new(Mutex::new(Reading {
                state,
                begun: None,
                // A stream of HTTP/2 whose body nobody reads is reset, which some clients take for a failure.
                waits_for_go: head.version < Version::HTTP_2 && head.headers.contains_key(EXPECT),
            })),
            bounds: BodyBounds {
                stall: upload.stall_timeout,
                whole: upload.body_timeout,
                rest_bytes_max: upload.body_bytes_max.max(REST_BYTES_MIN),
            },
        }
    }

    /// The body, which ends with an error where nothing comes for too long, or the whole takes too long.
    pub fn pieces(&self) -> BodyStream {
        pieces(Arc::clone(&self.reading), self.bounds)
    }

    /// Reads what is left of the body and throws it away, beside the answer. Many clients listen only when
    /// they have sent everything: one whose body is not read sees a broken connection and no reason.
    pub fn read_on(self, tasks: &Tasks) {
        let Self { reading, bounds } = self;
        let rest = {
            let mut reading = lock(&reading);
            let rest = match std::mem::replace(&mut reading.state, State::Answered) {
                State::Open(body) => body,
                State::Ended | State::Answered => return,
            };
            if reading.waits_for_go && reading.begun.is_none() {
                return;
            }
            Arc::new(Mutex::new(Reading {
                state: State::Open(rest),
                begun: reading.begun,
                waits_for_go: false,
            }))
        };
        tasks.spawn_until_stop(async move {
            let (mut pieces, mut left) = (pieces(rest, bounds), bounds.rest_bytes_max);
            while let Some(Ok(piece)) = pieces.next().await {
                match left.checked_sub(piece.len() as u64) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        });
    }
}

impl Reading {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<std::io::Result<Bytes>>> {
        loop {
            let body = match &mut self.state {
                State::Open(body) => body,
                State::Ended => return Poll::Ready(None),
                State::Answered => {
                    let error = std::io::ErrorKind::ConnectionAborted.into();
                    return Poll::Ready(Some(Err(error)));
                }
            };
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    // Trailers are not for us.
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Some(Err(error)) => {
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(std::io::Error::other(error))));
                }
                None => self.state = State::Ended,
            }
        }
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pieces(reading: Arc<Mutex<Reading>>, bounds: BodyBounds) -> BodyStream {
    stream::unfold(Some(reading), move |reading| async move {
        let reading = reading?;
        let now = Instant::now();
        let begun = *lock(&reading).begun.get_or_insert(now);
        let until = (now + bounds.stall).min(begun + bounds.whole);
        let piece = std::future::poll_fn(|context| lock(&reading).poll(context));
        match tokio::time::timeout_at(until, piece).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(reading))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
    .boxed()
}
