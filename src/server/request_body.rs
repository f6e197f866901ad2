//! Bodies of requests.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::format::bounded::{self, Bounded, ReadError, TooLong};
use crate::problem::Problem;
use crate::repository::BodyStream;

/// The body, which ends with an error where nothing comes for too long.
pub fn unstalled(body: Incoming, patience: Duration) -> BodyStream {
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
        let piece = piece.map_err(|_| Problem::invalid("the request's body ended early"))?;
        whole.push(&piece).map_err(too_long)?;
    }
    Ok(whole.finish().map_err(too_long)?.into())
}

/// Why a request's body is not taken.
fn too_long(error: TooLong) -> Problem {
    error.problem("the request's body")
}

/// The body without its coding; npm compresses what it asks `audit` about.
///
/// # Errors
/// Where it is not what its coding says, or has more than `bytes_max` bytes without it.
pub fn decoded(body: Bytes, encoding: &str, bytes_max: u64) -> Result<Bytes, Problem> {
    if encoding != "gzip" {
        return Ok(body);
    }
    let decoded = bounded::read(flate2::read::GzDecoder::new(&body[..]), bytes_max);
    decoded.map(Bytes::from).map_err(|error| match error {
        ReadError::TooLong(error) => too_long(error),
        ReadError::Io(_) => {
            Problem::invalid("the request's body is not the gzip that it says it is")
        }
    })
}
