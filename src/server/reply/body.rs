//! Bodies of answers, and the account that is closed when one ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};

use crate::problem::Problem;
use crate::server::account::AnswerAccount;
use crate::server::place::UnderWay;
use crate::store::Blob;

type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Problem>> + Send>>;

enum Content {
    Whole(Bytes),
    /// A part of a stored blob, which the kernel sends.
    Pages {
        blob: Blob,
        at: u64,
        end: u64,
    },
    Pieces {
        pieces: Pieces,
        left: Option<u64>,
    },
}

/// The body of an answer. An error in it cuts the connection, so that nobody takes it for whole.
pub struct Body {
    content: Content,
    sent: u64,
    account: Option<AnswerAccount>,
    under_way: Option<UnderWay>,
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Content::Whole(Bytes::new()))
    }

    pub fn whole(bytes: Bytes) -> Self {
        Self::of(Content::Whole(bytes))
    }

    /// From one place of a blob up to another, sent without being read. Not for TLS, which reads.
    pub fn pages(blob: Blob, start: u64, end: u64) -> Self {
        let end = end.min(blob.size());
        Self::of(Content::Pages {
            blob,
            at: start,
            end,
        })
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
            under_way: None,
        }
    }

    /// Closes `account` when the body has ended or is dropped.
    pub fn accounted(mut self, account: AnswerAccount) -> Self {
        self.account = Some(account);
        self
    }

    /// Ends `request` when the body has ended or is dropped.
    pub fn under_way(mut self, mut request: UnderWay) -> Self {
        if self.is_all_given() {
            request.has_ended();
        }
        self.under_way = Some(request);
        self
    }

    /// Whether nothing is left to give. What has a length is not asked again at its end.
    fn is_all_given(&self) -> bool {
        match &self.content {
            Content::Pieces { left, .. } => *left == Some(0),
            _ => http_body::Body::is_end_stream(self),
        }
    }

    fn close(&mut self, result: Result<(), Problem>) {
        if let Some(account) = self.account.take() {
            account.close(self.sent, result);
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
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Content::Pages { at, end, .. } if *at >= *end => None,
            Content::Pages { blob, at, end } => Some(match blob.pages_at(*at, *end - *at) {
                Ok(piece) => {
                    *at += piece.len() as u64;
                    Ok(piece)
                }
                Err(error) => Err(Problem::internal("a stored asset cannot be read", error)),
            }),
            Content::Pieces { pieces, .. } => match pieces.poll_next_unpin(context) {
                Poll::Pending => {
                    if let Some(under_way) = &mut self.under_way {
                        under_way.has_to_bring();
                    }
                    return Poll::Pending;
                }
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
                let is_last = self.is_all_given();
                if let Some(under_way) = &mut self.under_way {
                    under_way.has_given(is_last);
                }
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(problem)) => {
                self.close(Err(problem.clone()));
                Some(Err(problem))
            }
            None => {
                if let Some(under_way) = &mut self.under_way {
                    under_way.has_ended();
                }
                self.close(Ok(()));
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Pages { at, end, .. } => at >= end,
            Content::Pieces { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pages { at, end, .. } => SizeHint::with_exact(end.saturating_sub(*at)),
            Content::Pieces {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            Content::Pieces { left: None, .. } => SizeHint::default(),
        }
    }
}
