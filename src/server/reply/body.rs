//! Bodies of answers, and the account that is closed when one ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};

use crate::problem::Problem;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;

/// Called once with the bytes sent and whether the body came to its end.
pub type Account = Box<dyn FnOnce(u64, Result<(), Problem>) + Send>;

enum Content {
    Whole(Option<Bytes>),
    Pieces { pieces: Pieces, left: Option<u64> },
}

/// The body of an answer. An error in it cuts the connection, so that nobody takes it for whole.
pub struct Body {
    content: Content,
    sent: u64,
    account: Option<Account>,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Content::Whole(None))
    }

    pub fn whole(bytes: Bytes) -> Self {
        Self::of(Content::Whole(
            Some(bytes).filter(|bytes| !bytes.is_empty()),
        ))
    }

    /// Pieces as they come; `length` where it is known.
    pub fn pieces(
        pieces: impl Stream<Item = Result<Bytes, Problem>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self::of(Content::Pieces {
            pieces: Box::pin(pieces),
            left: length,
        })
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            sent: 0,
            account: None,
        }
    }

    /// Calls `account` when the body has ended or is dropped.
    pub fn accounted(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    fn close(&mut self, result: Result<(), Problem>) {
        if let Some(account) = self.account.take() {
            account(self.sent, result);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.close(Ok(()));
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Problem;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Problem>>> {
        let piece = match &mut self.content {
            Content::Whole(bytes) => bytes.take().map(Ok),
            Content::Pieces { pieces, .. } => match pieces.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(piece) => piece,
            },
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => {
                self.sent += piece.len() as u64;
                if let Content::Pieces {
                    left: Some(left), ..
                } = &mut self.content
                {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(problem)) => {
                self.close(Err(problem.clone()));
                Some(Err(problem))
            }
            None => {
                self.close(Ok(()));
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Content::Pieces { left: None, .. } => SizeHint::default(),
        }
    }
}
