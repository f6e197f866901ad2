//! Assets as answers: whole or in part, stored or still coming in.

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};

use super::range::{self, WantedRange};
use super::{Answer, Body, RequestHead};
use crate::package::BlobId;
use crate::problem::Problem;
use crate::repository::{AssetBody, AssetReply};
use crate::server::response_cache::{HeldBytes, Replay};
use crate::store::{Arrival, Pieces};
use crate::task::Tasks;

pub fn asset(head: &RequestHead<'_>, reply: AssetReply, tasks: &Tasks) -> Answer {
    let (etag, size) = match &reply.body {
        AssetBody::Stored(blob) => (Some(etag_of(blob.id())), Some(blob.size())),
        // The digest, and with it the validator, is known only when all bytes are there.
        AssetBody::Arriving(arrival) => (arrival.blob().map(etag_of), arrival.head.size),
        AssetBody::Passing(pass) => (None, pass.head.size),
    };
    let last_modified = reply.last_modified.as_deref();
    let held = etag
        .as_deref()
        .is_some_and(|etag| head.holds(etag, last_modified));
    let can_range = !matches!(reply.body, AssetBody::Passing(_)) && size.is_some();
    let wanted = match size {
        Some(size) if can_range && range_holds(head, etag.as_deref(), last_modified) => {
            range::parse(head.text(RANGE), size)
        }
        _ => WantedRange::Whole,
    };
    let mut answer = match wanted {
        _ if held => Answer::new(StatusCode::NOT_MODIFIED, Body::empty()),
        WantedRange::Nothing => {
            let mut answer = Answer::new(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
            answer.header(CONTENT_RANGE, &format!("bytes */{}", size.unwrap_or(0)));
            answer
        }
        WantedRange::Whole => {
            let replay = replay(&reply);
            let content = body(head, reply.body, 0, size, size, tasks);
            let mut answer = Answer::new(StatusCode::OK, content);
            answer.replay = replay;
            if let Some(size) = size {
                answer.header(CONTENT_LENGTH, &size.to_string());
            }
            answer
        }
        WantedRange::Part { first, last } => {
            let length = last - first + 1;
            let content = body(head, reply.body, first, Some(last + 1), Some(length), tasks);
            let mut answer = Answer::new(StatusCode::PARTIAL_CONTENT, content);
            answer.header(CONTENT_LENGTH, &length.to_string());
            answer.header(
                CONTENT_RANGE,
                &format!("bytes {first}-{last}/{}", size.unwrap_or(0)),
            );
            answer
        }
    };
    if let Some(etag) = &etag {
        answer.validators(etag, last_modified);
    } else if let Some(last_modified) = last_modified {
        answer.header(http::header::LAST_MODIFIED, last_modified);
    }
    let media_type = if reply.media_type.is_empty() {
        "application/octet-stream"
    } else {
        &reply.media_type
    };
    answer.content_type(media_type);
    answer.header(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if can_range {
        answer.header(ACCEPT_RANGES, "bytes");
    }
    answer.header(CACHE_CONTROL, "no-cache");
    answer.cached(reply.cached)
}

fn etag_of(blob: BlobId) -> String {
    format!("\"{}\"", blob.to_hex().get(..32).unwrap_or_default())
}

/// Whether `If-Range` lets the range stand (RFC 9110 §13.1.5).
fn range_holds(head: &RequestHead<'_>, etag: Option<&str>, last_modified: Option<&str>) -> bool {
    let condition = head.text(IF_RANGE);
    condition.is_empty() || Some(condition) == etag || Some(condition) == last_modified
}

/// Bytes that are here and stay for a while may be given again.
fn replay(reply: &AssetReply) -> Option<Replay> {
    let AssetBody::Stored(blob) = &reply.body else {
        return None;
    };
    Some(Replay {
        reuse: reply.reuse.clone()?,
        source: HeldBytes::Blob(blob.downgrade()),
        blob: Some(blob.id()),
    })
}

fn body(
    head: &RequestHead<'_>,
    content: AssetBody,
    start: u64,
    end: Option<u64>,
    length: Option<u64>,
    tasks: &Tasks,
) -> Body {
    match content {
        AssetBody::Stored(blob) => {
            let end = end.unwrap_or(blob.size());
            // Under TLS, and where they are sealed, it is we who read the bytes, and that may wait for
            // the disk.
            let is_read = head.peer.socket_over_tls || !blob.has_pages();
            match blob.pieces().filter(|_| is_read) {
                Some(pieces) => Body::pieces(stored(pieces, start, end, tasks.clone()), length),
                None => Body::pages(blob, start, end),
            }
        }
        AssetBody::Arriving(arrival) => {
            let pieces = arriving(
                &arrival,
                start,
                end,
                head.peer.socket_over_tls,
                tasks.clone(),
            );
            Body::pieces(pieces, length)
        }
        AssetBody::Passing(pass) => Body::pieces(
            stream::unfold(Some(pass.pieces), |pieces| async move {
                let mut pieces = pieces?;
                match pieces.next().await {
                    Ok(Some(piece)) => Some((Ok(piece), Some(pieces))),
                    Ok(None) => None,
                    Err(problem) => Some((Err(problem), None)),
                }
            }),
            length,
        ),
    }
}

fn stored(
    pieces: Pieces,
    start: u64,
    end: u64,
    tasks: Tasks,
) -> impl Stream<Item = Result<Bytes, Problem>> {
    let broken = |error: std::io::Error| Problem::internal("a stored asset cannot be read", error);
    stream::unfold(Some((pieces, start)), move |reading| {
        let tasks = tasks.clone();
        async move {
            let (pieces, at) = reading.filter(|(_, at)| *at < end)?;
            Some(match pieces.read(at, end - at, &tasks).await {
                Ok(piece) if piece.is_empty() => {
                    let short = std::io::Error::other("it is shorter than it was");
                    (Err(broken(short)), None)
                }
                Ok(piece) => {
                    let next = at + piece.len() as u64;
                    (Ok(piece), Some((pieces, next)))
                }
                Err(error) => (Err(broken(error)), None),
            })
        }
    })
}

fn arriving(
    arrival: &Arrival,
    start: u64,
    end: Option<u64>,
    over_tls: bool,
    tasks: Tasks,
) -> impl Stream<Item = Result<Bytes, Problem>> + use<> {
    stream::unfold(Some(arrival.follow(start, end)), move |follower| {
        let tasks = tasks.clone();
        async move {
            let mut follower = follower?;
            let next = if over_tls {
                follower.next(&tasks).await
            } else {
                follower.next_pages(&tasks).await
            };
            match next {
                Ok(Some(piece)) => Some((Ok(piece), Some(follower))),
                Ok(None) => None,
                Err(problem) => Some((Err(problem), None)),
            }
        }
    })
}
