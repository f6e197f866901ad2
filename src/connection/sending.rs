//! The body of a forwarded publish on its way: a registry may answer before it has all of it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::forward::ForwardBody;

/// A body that is being sent, as its sender sees it.
pub(super) struct Sending {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when nothing more is sent.
    ended: Notify,
}

struct State {
    /// `None` where nothing more is sent.
    body: Option<ForwardBody>,
    /// When the registry last took a piece, or waited for the client's next one.
    moved: Instant,
    waits_for_client: bool,
    /// The registry's answer came first. Its connection is kept until the answer has been read.
    is_withdrawn: bool,
    is_answered: bool,
    waker: Option<Waker>,
}

/// The half that the HTTP client reads.
struct Sent {
    shared: Arc<Shared>,
}

/// A registry's answer to a publish. While it is read, its connection is kept even where the rest of
/// the publish is not sent any more.
pub struct ForwardAnswer {
    body: Incoming,
    _connection: Sending,
}

/// Nothing moved for too long.
pub(super) struct Stalled;

impl Sending {
    pub(super) fn start(body: ForwardBody) -> (Self, ForwardBody) {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                body: Some(body),
                moved: Instant::now(),
                waits_for_client: false,
                is_withdrawn: false,
                is_answered: false,
                waker: None,
            }),
            ended: Notify::new(),
        });
        let sent = Sent {
            shared: Arc::clone(&shared),
        };
        (Self { shared }, ForwardBody::new(sent))
    }

    /// Waits for `work` while the body moves: the registry may be silent for `patience`. A client that is
    /// slow has bounds of its own.
    pub(super) async fn patiently<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let mut work = pin!(work);
        loop {
            let until = self.shared.lock().moved_now() + patience;
            if let Ok(done) = timeout_at(until, &mut work).await {
                return Ok(done);
            }
            if self.shared.lock().moved_now() + patience <= Instant::now() {
                return Err(Stalled);
            }
        }
    }

    /// Waits until nothing more is sent.
    pub(super) async fn ended(&self) {
        loop {
            let mut told = pin!(self.shared.ended.notified());
            told.as_mut().enable();
            if self.shared.lock().body.is_none() {
                return;
            }
            told.await;
        }
    }

    /// Sends nothing more, and lets go of the rest of the body.
    pub(super) fn withdraw(&self) {
        let rest = {
            let mut state = self.shared.lock();
            state.is_withdrawn = state.body.is_some();
            state.body.take()
        };
        drop(rest);
    }

    /// The answer, which keeps the connection until it is read.
    pub(super) fn answer(self, body: Incoming) -> ForwardAnswer {
        ForwardAnswer {
            body,
            _connection: self,
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.shared.lock();
            state.is_answered = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn moved_now(&self) -> Instant {
        if self.waits_for_client {
            Instant::now()
        } else {
            self.moved
        }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let mut state = self.shared.lock();
        let Some(body) = &mut state.body else {
            if !state.is_withdrawn {
                return Poll::Ready(None);
            }
            if state.is_answered {
                let error = std::io::ErrorKind::ConnectionAborted.into();
                return Poll::Ready(Some(Err(error)));
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let polled = Pin::new(body).poll_frame(context);
        state.moved = Instant::now();
        state.waits_for_client = polled.is_pending();
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            let ended = state.body.take();
            drop(state);
            drop(ended);
            self.shared.ended.notify_waiters();
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let rest = self.shared.lock().body.take();
        drop(rest);
        self.shared.ended.notify_waiters();
    }
}

impl Body for ForwardAnswer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
