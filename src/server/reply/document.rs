//! Documents as answers.

use std::io::{BufReader, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG, VARY};
use http::{HeaderName, StatusCode};
use tokio::sync::mpsc;

use super::{Answer, Body, RequestHead, whole};
use crate::clock;
use crate::fetch::{Document, DocumentContent};
use crate::format::{DocumentId, StreamInput, StreamedIndex};
use crate::package::{Algorithm, BlobId, Digester, PackageId};
use crate::problem::{Decider, Problem};
use crate::repository::{Cached, DocumentBody, DocumentReply, Snapshot};
use crate::server::response_cache::{HeldBytes, Replay};
use crate::server::route::is_npm;
use crate::store::Blob;
use crate::task::Tasks;

/// How much of a streamed document is rendered before it is sent on.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces of it that wait for the client.
const PIECES_AHEAD: usize = 4;

pub fn document(
    head: &RequestHead<'_>,
    reply: DocumentReply,
    id: &DocumentId,
    snapshot: &Arc<Snapshot>,
    tasks: &Tasks,
) -> Answer {
    let last_modified = reply.last_modified.as_deref();
    // A rule may change the document at any time, so clients have to ask each time (and get 304).
    let mut cache_control = "no-cache";
    let mut answer = match reply.body {
        DocumentBody::Streamed {
            document,
            own,
            index,
        } => {
            let content_type = index.media_type(id);
            // The validator covers the sources' bytes and the form of the rendering.
            let names = BlobId::of(own.join(",").as_bytes());
            let of = document
                .as_ref()
                .map_or(names, |document| document.row.blob);
            let etag = format!(
                "\"{}-{}-{:x}\"",
                of.to_hex().get(..32).unwrap_or_default(),
                names.to_hex().get(..8).unwrap_or_default(),
                content_type.len()
            );
            let body = streamed(document, own, id.clone(), index, snapshot, tasks);
            let mut answer = Answer::new(StatusCode::OK, body);
            answer.content_type(content_type);
            answer.header(ETAG, &etag);
            if head.holds(&etag, None) {
                *answer.response.body_mut() = Body::empty();
                *answer.response.status_mut() = StatusCode::NOT_MODIFIED;
            }
            answer
        }
        DocumentBody::Rendered(rendered) => {
            let mut answer = if head.holds(&rendered.etag, last_modified) {
                Answer::new(StatusCode::NOT_MODIFIED, Body::empty())
            } else {
                let replay = reply.reuse.map(|reuse| Replay {
                    reuse,
                    source: HeldBytes::Rendered(Arc::downgrade(&rendered)),
                    blob: reply.of,
                });
                let mut answer = whole(
                    StatusCode::OK,
                    &rendered.content_type,
                    rendered.body.clone(),
                );
                if let Some(encoding) = &rendered.encoding {
                    answer.header(CONTENT_ENCODING, encoding);
                }
                answer.replay = replay;
                answer
            };
            answer.validators(&rendered.etag, last_modified);
            if let (Some(notice), Some(name)) = (
                &rendered.notice,
                id.view.format().protocol().notice_header(),
            ) {
                answer.header(HeaderName::from_static(name), notice);
                // npm prints no notice of an answer that it may put into its cache. Others, such as
                // another Larder, may keep it.
                if is_npm(head.headers) {
                    cache_control = "no-store";
                }
            }
            answer
        }
    };
    answer.header(VARY, "Accept, Accept-Encoding");
    answer.header(CACHE_CONTROL, cache_control);
    answer.cached(reply.cached)
}

/// Renders the document while it is sent, in memory that does not grow with it.
fn streamed(
    document: Option<Arc<Document>>,
    own: Vec<String>,
    id: DocumentId,
    index: &'static dyn StreamedIndex,
    snapshot: &Arc<Snapshot>,
    tasks: &Tasks,
) -> Body {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let snapshot = Arc::clone(snapshot);
    tasks.spawn_blocking(move || {
        let (blob, media_type) = match &document {
            Some(document) => {
                let blob = match &document.content {
                    DocumentContent::Stored(blob) => blob.clone(),
                    DocumentContent::Passing(bytes) => {
                        Blob::in_memory(document.row.blob, bytes.clone())
                    }
                };
                (blob, document.row.media_type.as_str())
            }
            None => {
                let nothing = Bytes::from_static(b"{}");
                (
                    Blob::in_memory(BlobId::of(&nothing), nothing),
                    "application/json",
                )
            }
        };
        let mut reader = BufReader::with_capacity(PIECE_BYTES, blob.reader());
        let now = clock::now();
        let rules = &snapshot.config.rules;
        let shows = |package: &PackageId| !rules.denies_name(package, now);
        let mut out = Sender {
            pieces: sender,
            piece: Vec::with_capacity(PIECE_BYTES),
        };
        let mut input = StreamInput {
            document: &id,
            media_type,
            reader: &mut reader,
            shows: &shows,
            own: &own,
        };
        if let Err(error) = index.stream(&mut input, &mut out) {
            let problem = Problem::internal("a document cannot be rendered", error);
            let _ = out.pieces.blocking_send(Err(problem));
        }
    });
    Body::pieces(
        stream::unfold(pieces, |mut pieces| async move {
            Some((pieces.recv().await?, pieces))
        }),
        None,
    )
}

struct Sender {
    pieces: mpsc::Sender<Result<Bytes, Problem>>,
    piece: Vec<u8>,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(Ok(piece.into()))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }
}

/// The digest of a document as it is rendered, as a file of its own.
pub fn document_checksum(reply: &DocumentReply, algorithm: Algorithm) -> Result<Answer, Problem> {
    let DocumentBody::Rendered(rendered) = &reply.body else {
        return Err(Problem::not_found(
            Decider::Larder,
            "a streamed document has no checksum file",
        ));
    };
    let mut digester = Digester::new(&[algorithm]);
    digester.update(&rendered.body);
    let digest = digester.finish().get(algorithm);
    Ok(checksum(
        &digest.map(|digest| digest.to_hex()).unwrap_or_default(),
        reply.cached.clone(),
    ))
}

/// A digest as a file.
pub fn checksum(digest: &str, cached: Cached) -> Answer {
    whole(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        digest.to_owned().into(),
    )
    .cached(cached)
}
