//! Bodies of requests.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;

use super::place::Presence;
use crate::format::bounded::{self, Bounded, ReadError, TooLong};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::BodyStream;

/// A request's body, which tells its socket when it waits for the client.
pub struct RequestBody {
    body: Incoming,
    presence: Arc<Presence>,
    is_awaited: bool,
}

impl RequestBody {
    pub fn new(body: Incoming, presence: &Arc<Presence>) -> Self {
        Self {
            body,
            presence: Arc::clone(presence),
            is_awaited: false,
        }
    }

    fn awaits(&mut self, is_awaited: bool) {
        if self.is_awaited != is_awaited {
            self.is_awaited = is_awaited;
            self.presence.awaits_body(is_awaited);
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.awaits(false);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.awaits(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body, which ends with an error where nothing comes for too long.
pub fn unstalled(body: RequestBody, patience: Duration) -> BodyStream {
    let pieces = body.into_data_stream().map_err(std::io::Error::other);
    stream::unfold(Some(pieces), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(patience, pieces.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
    .boxed()
}

/// A permit of the memory for bodies stands for so many bytes.
const UNIT_BYTES: u64 = 1024;

/// The memory for bodies of questions and calls, of all sockets together (`server.question_memory`).
pub struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let units = usize::try_from(bytes_max / UNIT_BYTES).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Reads a body to its end, within the time in which a whole body has to come.
    ///
    /// # Errors
    /// Where it has more than `bytes_max` bytes, ends early, comes too slowly, or where others have
    /// taken all the memory.
    pub async fn read<E>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        bytes_max: u64,
        patience: Duration,
    ) -> Result<HeldBody, Problem> {
        let mut held = self.nothing();
        let mut whole = Bounded::new(bytes_max);
        let read = tokio::time::timeout(patience, async {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|_| ended_early())?;
                whole.push(&piece).map_err(too_long)?;
                self.grow(&mut held, piece.len())?;
            }
            Ok::<_, Problem>(())
        });
        read.await
            .map_err(|_| Problem::invalid("the body did not come in time"))??;
        held.bytes = whole.finish().map_err(too_long)?.into();
        Ok(held)
    }

    /// The body without its coding; npm compresses what it asks `audit` about.
    ///
    /// # Errors
    /// Where it is not what its coding says, or has more than `bytes_max` bytes without it.
    pub fn decoded(
        &self,
        body: HeldBody,
        encoding: &str,
        bytes_max: u64,
    ) -> Result<HeldBody, Problem> {
        if encoding != "gzip" {
            return Ok(body);
        }
        let decoded = bounded::read(flate2::read::GzDecoder::new(&body.bytes[..]), bytes_max);
        let decoded = decoded.map_err(|error| match error {
            ReadError::TooLong(error) => too_long(error),
            ReadError::Io(_) => {
                Problem::invalid("the request's body is not the gzip that it says it is")
            }
        })?;
        let mut held = self.nothing();
        self.grow(&mut held, decoded.len())?;
        held.bytes = decoded.into();
        Ok(held)
    }

    fn nothing(&self) -> HeldBody {
        HeldBody {
            bytes: Bytes::new(),
            length: 0,
            units: 0,
            memory: Arc::clone(&self.0),
        }
    }

    fn grow(&self, held: &mut HeldBody, by: usize) -> Result<(), Problem> {
        held.length += by as u64;
        let units = u32::try_from(held.length.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let more = self.0.try_acquire_many(units - held.units).map_err(|_| {
            let retry_after = Duration::from_secs(1);
            Problem::new(
                Kind::Unavailable { retry_after },
                Decider::Larder,
                "too many questions are under way",
            )
            .advice("ask again, or raise `server.question_memory`")
        })?;
        more.forget();
        held.units = units;
        Ok(())
    }
}

/// A body in memory, which counts against the bound until it is dropped.
pub struct HeldBody {
    pub bytes: Bytes,
    length: u64,
    units: u32,
    memory: Arc<Semaphore>,
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.memory.add_permits(self.units as usize);
    }
}

/// Reads a body to its end.
///
/// # Errors
/// Where it has more than `bytes_max` bytes, or ends early.
pub async fn read_to_end<E>(
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    bytes_max: u64,
) -> Result<Bytes, Problem> {
    let mut whole = Bounded::new(bytes_max);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| ended_early())?;
        whole.push(&piece).map_err(too_long)?;
    }
    Ok(whole.finish().map_err(too_long)?.into())
}

fn ended_early() -> Problem {
    Problem::invalid("the request's body ended early")
}

/// Why a request's body is not taken.
fn too_long(error: TooLong) -> Problem {
    error.problem("the request's body")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn body(bytes: usize) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin {
        let pieces = vec![7_u8; bytes];
        let pieces: Vec<_> = pieces.chunks(700).map(Bytes::copy_from_slice).collect();
        stream::iter(pieces.into_iter().map(Ok))
    }

    #[tokio::test]
    async fn bodies_in_memory_have_one_bound_together() {
        let memory = BodyMemory::new(8 * 1024);
        let first = memory.read(body(5000), 6000, PATIENCE).await.unwrap();
        assert_eq!(first.bytes.len(), 5000);
        let refused = memory.read(body(5000), 6000, PATIENCE).await.err().unwrap();
        assert!(matches!(refused.kind, Kind::Unavailable { .. }));
        drop(first);
        assert_eq!(memory.0.available_permits(), 8);
        assert!(memory.read(body(5000), 6000, PATIENCE).await.is_ok());
    }

    #[tokio::test]
    async fn what_a_body_is_without_its_coding_counts() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![0; 20_000]).unwrap();
        let packed = Bytes::from(packed.finish().unwrap());
        let memory = BodyMemory::new(8 * 1024);
        let one = || stream::iter([Ok::<_, std::io::Error>(packed.clone())]);
        let held = memory.read(one(), 1000, PATIENCE).await.unwrap();
        let refused = memory.decoded(held, "gzip", 100_000).err().unwrap();
        assert!(matches!(refused.kind, Kind::Unavailable { .. }));
        let held = memory.read(one(), 1000, PATIENCE).await.unwrap();
        let refused = memory.decoded(held, "gzip", 10_000).err().unwrap();
        assert_eq!(refused.kind, Kind::TooLarge);
        assert_eq!(memory.0.available_permits(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_ends() {
        let memory = BodyMemory::new(8 * 1024);
        let never = stream::pending::<Result<Bytes, std::io::Error>>();
        let refused = memory.read(never, 10, PATIENCE).await.err().unwrap();
        assert_eq!(refused.kind, Kind::Invalid);
    }
}
