//! Pieces of a download that are handed on to one reader without being stored.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::arrival::left;
use crate::problem::Problem;

/// Pieces as they come. Only what was sent an end to has ended: a sender that is gone has failed.
pub struct Relay(mpsc::Receiver<Result<Option<Bytes>, Problem>>);

/// The other end of a [`Relay`].
pub struct RelaySender(mpsc::Sender<Result<Option<Bytes>, Problem>>);

impl Relay {
    /// At most `pieces_ahead_max` pieces wait for the reader.
    #[must_use]
    pub fn new(pieces_ahead_max: usize) -> (RelaySender, Self) {
        let (sender, receiver) = mpsc::channel(pieces_ahead_max);
        (RelaySender(sender), Self(receiver))
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Where the download failed: what was handed out so far must not pass for the whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        self.0.recv().await.unwrap_or_else(|| Err(left()))
    }
}

impl RelaySender {
    /// Sends a piece, waiting while the reader is behind; false where it has gone.
    pub async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Ok(Some(piece))).await.is_ok()
    }

    /// Says how it ended.
    pub async fn end(self, result: Result<(), Problem>) {
        // A reader that has gone wants to know nothing.
        let _ = self.0.send(result.map(|()| None)).await;
    }
}

/// The way on of a download for whose rest there is no room.
#[derive(Clone)]
pub struct Onward {
    /// Bytes that are in the file.
    at: u64,
    relay: Arc<dyn Fn() -> Relay + Send + Sync>,
}

impl Onward {
    /// `relay` begins to bring the bytes from `at` on to one reader.
    #[must_use]
    pub fn new(at: u64, relay: impl Fn() -> Relay + Send + Sync + 'static) -> Self {
        Self {
            at,
            relay: Arc::new(relay),
        }
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn relay(&self) -> Relay {
        (self.relay)()
    }
}
