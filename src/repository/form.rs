//! The pieces of a form, which are handed to its reader one at a time: it keeps all that it can get, and
//! looks for the end of a head without a bound of its own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};

use super::receive::BodyStream;

/// The longest head of a field, and what may stand before the first one.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// How the reader of a form reads its next part. It looks at what it has before it is given more.
pub(super) struct Reading {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    in_head: AtomicBool,
    /// The reader has not looked at what it has yet.
    is_to_look: AtomicBool,
    /// Bytes handed out since the head began, before the last piece: a large one may have the whole head
    /// and much of the content.
    bytes: AtomicU64,
    last: AtomicU64,
}

impl Reading {
    /// Reads a piece of a field's content.
    pub(super) async fn content<T>(&self, piece: impl Future<Output = T>) -> T {
        self.counts.is_to_look.store(true, Ordering::Relaxed);
        piece.await
    }

    /// Reads a head, which has a bound.
    pub(super) async fn head<T>(&self, head: impl Future<Output = T>) -> T {
        self.counts.is_to_look.store(true, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
        self.counts.last.store(0, Ordering::Relaxed);
        self.counts.in_head.store(true, Ordering::Relaxed);
        let read = head.await;
        self.counts.in_head.store(false, Ordering::Relaxed);
        read
    }
}

impl Counts {
    /// The error where the head that is read has more bytes than it may have.
    fn fits(&self) -> std::io::Result<()> {
        let is_over = self.in_head.load(Ordering::Relaxed)
            && self.bytes.load(Ordering::Relaxed) > HEAD_BYTES_MAX;
        if is_over {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("a field's head has more than {HEAD_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }
}

/// The body for a reader of forms.
pub(super) fn pieces(
    mut body: BodyStream,
) -> (impl Stream<Item = std::io::Result<Bytes>> + Send, Reading) {
    let counts = Arc::new(Counts::default());
    let reading = Reading {
        counts: Arc::clone(&counts),
    };
    let pieces = stream::poll_fn(move |context| {
        if counts.is_to_look.swap(false, Ordering::Relaxed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Err(error) = counts.fits() {
            return Poll::Ready(Some(Err(error)));
        }
        let piece = std::task::ready!(body.poll_next_unpin(context));
        if let Some(Ok(piece)) = &piece {
            counts.is_to_look.store(true, Ordering::Relaxed);
            let last = counts.last.swap(piece.len() as u64, Ordering::Relaxed);
            counts.bytes.fetch_add(last, Ordering::Relaxed);
        }
        Poll::Ready(piece)
    });
    (pieces, reading)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM};
    use super::*;
    use crate::problem::Kind;

    const TYPE: &str = "multipart/form-data; boundary=x";
    const FIELD: &str = "--x\r\nContent-Disposition: form-data; name=\"a\"";

    /// Sends a form that goes on with the same piece; gives the problem and how many pieces were read.
    async fn endless(begin: String, piece: Vec<u8>) -> (Option<Kind>, u64) {
        let fixture = Fixture::open(TEAM).await;
        let given = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&given);
        let piece = Bytes::from(piece);
        let pieces = stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(piece.clone())
        });
        let body = stream::iter([Ok(Bytes::from(begin))])
            .chain(pieces)
            .take(1 << 20);
        let received = fixture.receiver.receive_form(body.boxed(), TYPE).await;
        let kind = received.err().map(|problem| problem.kind);
        (kind, given.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_head_without_end_is_read_up_to_its_bound() {
        for begin in ["", "--x", &format!("{FIELD}\r\nX-More: ")] {
            let (kind, given) = endless(begin.to_owned(), vec![b'a'; 4096]).await;
            assert_eq!(kind, Some(Kind::Invalid), "{begin}");
            assert!(given < 40, "{begin}: {given}");
        }
    }

    #[tokio::test]
    async fn a_form_of_fields_without_end_is_read_up_to_its_bound() {
        let field = format!("{FIELD}\r\n\r\n\r\n").repeat(100);
        let (kind, given) = endless(String::new(), field.into_bytes()).await;
        assert_eq!(kind, Some(Kind::Invalid));
        assert!(given < 250, "{given}");
    }
}
