//! Bodies of requests.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::problem::{Decider, Kind, Problem};
use crate::repository::Body;

/// The body, which ends with an error where nothing comes for too long.
pub fn unstalled(body: Incoming, patience: Duration) -> Body {
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

/// Reads a question to its end (`server.question_bytes_max`).
pub async fn question(mut body: Body, bytes_max: u64) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|_| Problem::invalid("the request's body ended early"))?;
        if (whole.len() + piece.len()) as u64 > bytes_max {
            return Err(Problem::new(
                Kind::TooLarge,
                Decider::Larder,
                format!("the body has more than {bytes_max} bytes"),
            )
            .advice("raise `server.question_bytes_max`"));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.into())
}
