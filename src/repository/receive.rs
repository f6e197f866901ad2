//! Bodies of publishes: streamed to disk, their words kept in memory within a bound.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::change::not_kept;
use super::form;
use super::places::{BodySender, Place, Places};
use crate::config;
use crate::format::upload::Parted;
use crate::format::{DocumentPublish, path};
use crate::package::{Algorithm, Expected};
use crate::problem::{Decider, Kind, Problem};
use crate::store::{Error, Incoming, Keeping, Store, Verified};
use crate::task::Tasks;

/// The body of a request as a stream of pieces.
pub type BodyStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Roughly the memory that a form's field takes beside its name and value.
const FIELD_BYTES: usize = 64;

/// The most fields of a form: a package's metadata, a field for each line, and its file.
const FIELDS_MAX: usize = 20_000;

/// At most this many pieces of a body are read ahead of the parser.
const PIECES_AHEAD: usize = 8;

/// The body of a publish, read to its end.
#[derive(Default)]
pub struct Received {
    pub file: Option<Verified>,
    /// The file's name, without folders.
    pub name: String,
    pub fields: BTreeMap<String, String>,
    pub words: Vec<u8>,
}

/// Reads the bodies of publishes: so many at a time, each no longer than its bound.
pub struct BodyReceiver {
    store: Arc<Store>,
    bounds: config::UploadSettings,
    places: Places,
}

impl BodyReceiver {
    #[must_use]
    pub fn new(store: &Arc<Store>, bounds: &config::UploadSettings) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            bounds: bounds.clone(),
            places: Places::new(bounds),
        })
    }

    fn tasks(&self) -> &Tasks {
        self.store.tasks()
    }

    pub(super) fn bounds(&self) -> &config::UploadSettings {
        &self.bounds
    }

    /// Waits for a place of the client's, which is held until its publish is done.
    pub(super) async fn place(&self, sender: &BodySender) -> Result<Place, Problem> {
        self.places.take(sender).await
    }

    /// Stores bytes that are in memory as a file.
    pub(super) async fn take_bytes(&self, bytes: &[u8]) -> Result<Verified, Problem> {
        let mut incoming = self.incoming().await?;
        self.write(&mut incoming, Bytes::copy_from_slice(bytes))
            .await?;
        verified(incoming).await
    }

    /// Reads a body that is a file.
    pub(super) async fn receive_file(&self, mut body: BodyStream) -> Result<Verified, Problem> {
        let mut incoming = self.incoming().await?;
        while let Some(piece) = body.next().await {
            self.write(&mut incoming, piece.map_err(cut)?).await?;
        }
        verified(incoming).await
    }

    /// Reads a body that is text, into memory.
    pub(super) async fn receive_words(&self, mut body: BodyStream) -> Result<Vec<u8>, Problem> {
        let mut words = Vec::new();
        while let Some(piece) = body.next().await {
            words.extend_from_slice(&piece.map_err(cut)?);
            self.words_fit(words.len())?;
        }
        Ok(words)
    }

    /// Reads a form with a file in it. A body that is no form is taken for the file itself.
    pub(super) async fn receive_form(
        &self,
        body: BodyStream,
        content_type: &str,
    ) -> Result<Received, Problem> {
        let Ok(boundary) = multer::parse_boundary(content_type) else {
            return Ok(Received {
                file: Some(self.receive_file(body).await?),
                ..Received::default()
            });
        };
        let wrong = |error: multer::Error| match error {
            multer::Error::StreamReadFailed(error) => match error.downcast::<std::io::Error>() {
                Ok(error) => cut(*error),
                Err(error) => Problem::invalid("the form cannot be read").caused_by(error),
            },
            error => Problem::invalid(format!("the form cannot be read: {error}")),
        };
        let (pieces, reading) = form::pieces(body);
        let mut form = multer::Multipart::new(pieces, boundary);
        let mut received = Received::default();
        let (mut words, mut fields) = (0, 0);
        while let Some(mut field) = reading.head(form.next_field()).await.map_err(wrong)? {
            fields += 1;
            if fields > FIELDS_MAX {
                return Err(Problem::invalid(format!(
                    "the form has more than {FIELDS_MAX} fields"
                )));
            }
            let name = field.name().unwrap_or_default().to_owned();
            let is_file = field.file_name().is_some();
            if is_file && received.file.is_none() && name != "gpg_signature" {
                let called = field.file_name().unwrap_or_default();
                received.name = path::client_file_name(called).to_owned();
                let mut incoming = self.incoming().await?;
                while let Some(piece) = reading.content(field.chunk()).await.map_err(wrong)? {
                    self.write(&mut incoming, piece).await?;
                }
                received.file = Some(verified(incoming).await?);
                continue;
            }
            // A field without a value takes room too.
            words += name.len() + FIELD_BYTES;
            let mut text = Vec::new();
            while let Some(piece) = reading.content(field.chunk()).await.map_err(wrong)? {
                words += piece.len();
                self.words_fit(words)?;
                text.extend_from_slice(&piece);
            }
            if !is_file {
                // The first of several of one name stands; which ones there are the file says itself.
                let text = String::from_utf8_lossy(&text).into_owned();
                received.fields.entry(name).or_insert(text);
            }
        }
        Ok(received)
    }

    /// Words with a file in them.
    pub(super) async fn receive_parted(
        &self,
        publish: &'static dyn DocumentPublish,
        mut body: BodyStream,
    ) -> Result<Received, Problem> {
        let (writer, mut reader) = piped(PIECES_AHEAD);
        let mut file = FileWriter {
            incoming: self.incoming().await?,
            runtime: Handle::current(),
            failed: None,
        };
        let words_max = self.bounds.document_bytes_max;
        let parting = self.tasks().spawn_blocking(move || {
            let parted = publish.take_apart(&mut reader, &mut file, words_max);
            match (parted, file.failed) {
                (_, Some(error)) => Err(not_kept(error)),
                (Ok(parted), None) => Ok((parted, file.incoming)),
                (Err(problem), None) => Err(problem),
            }
        });
        let mut sent = 0;
        while let Some(piece) = body.next().await {
            if let Ok(piece) = &piece {
                sent += piece.len() as u64;
            }
            // Base64 takes a third more than what it stands for.
            if sent / 4 * 3 > self.bounds.body_bytes_max {
                return Err(self.too_large());
            }
            if !writer.write(piece).await {
                break;
            }
        }
        writer.end().await;
        let parted = parting
            .await
            .map_err(|error| Problem::internal("taking a body in failed", error))?;
        let (
            Parted {
                words,
                file,
                length,
            },
            incoming,
        ) = parted?;
        let Some(name) = file else {
            return Ok(Received {
                words,
                ..Received::default()
            });
        };
        if length.is_some_and(|length| length != incoming.sent()) {
            return Err(Problem::invalid(format!(
                "{name} was said to have another length than its {} bytes",
                incoming.sent()
            )));
        }
        Ok(Received {
            file: Some(verified(incoming).await?),
            name,
            words,
            fields: BTreeMap::new(),
        })
    }

    async fn incoming(&self) -> Result<Incoming, Problem> {
        self.store
            .incoming(None, &Algorithm::ALL, Keeping::Published)
            .await
            .map_err(not_kept)
    }

    async fn write(&self, incoming: &mut Incoming, piece: Bytes) -> Result<(), Problem> {
        if incoming.sent() + piece.len() as u64 > self.bounds.body_bytes_max {
            return Err(self.too_large());
        }
        incoming.write(piece).await.map_err(not_kept)
    }

    fn words_fit(&self, length: usize) -> Result<(), Problem> {
        let max = self.bounds.document_bytes_max;
        if length as u64 <= max {
            return Ok(());
        }
        Err(Problem::new(
            Kind::TooLarge,
            Decider::Larder,
            format!("what is said beside the file has more than {max} bytes"),
        )
        .advice("raise `upload.document_bytes_max`"))
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            Kind::TooLarge,
            Decider::Larder,
            format!(
                "the file has more than {} bytes",
                self.bounds.body_bytes_max
            ),
        )
        .advice("raise `upload.body_bytes_max`")
    }
}

async fn verified(incoming: Incoming) -> Result<Verified, Problem> {
    incoming.verify(&Expected::none()).await.map_err(not_kept)
}

/// The client's body ended before its end.
fn cut(error: std::io::Error) -> Problem {
    let problem = match error.kind() {
        std::io::ErrorKind::TimedOut => Problem::invalid("the request's body did not come in time")
            .advice("`upload.stall_timeout` and `upload.body_timeout` are its bounds"),
        std::io::ErrorKind::InvalidData => Problem::invalid(error.to_string()),
        _ => Problem::invalid("the request's body ended early"),
    };
    problem.caused_by(error)
}

/// A body's pieces for a reader that blocks, of which `ahead` may wait.
#[must_use]
pub fn piped(ahead: usize) -> (PieceWriter, PieceReader) {
    let (sender, pieces) = mpsc::channel(ahead);
    let reader = PieceReader {
        pieces,
        piece: Bytes::new(),
        is_at_end: false,
    };
    (PieceWriter { pieces: sender }, reader)
}

/// Where the pieces go in. Dropped before the end it leaves its reader with an error: a request that
/// went away must not pass for a body that ended.
pub struct PieceWriter {
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
}

impl PieceWriter {
    /// Says whether anybody still reads.
    pub async fn write(&self, piece: std::io::Result<Bytes>) -> bool {
        // An empty piece means the end, and is sent by `end` alone.
        let is_empty = piece.as_ref().is_ok_and(Bytes::is_empty);
        is_empty || self.pieces.send(piece).await.is_ok()
    }

    pub async fn end(self) {
        // The reader may have hung up already, having read all that it wanted.
        let _ = self.pieces.send(Ok(Bytes::new())).await;
    }
}

/// A body as a reader that blocks.
pub struct PieceReader {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    piece: Bytes,
    is_at_end: bool,
}

impl Read for PieceReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() && !self.is_at_end {
            let piece = self.pieces.blocking_recv();
            self.piece = piece.ok_or(std::io::ErrorKind::ConnectionAborted)??;
            self.is_at_end = self.piece.is_empty();
        }
        let count = self.piece.len().min(into.len());
        if let Some(into) = into.get_mut(..count) {
            into.copy_from_slice(&self.piece.split_to(count));
        }
        Ok(count)
    }
}

/// Bytes on their way into the store as a writer that blocks.
struct FileWriter {
    incoming: Incoming,
    runtime: Handle,
    failed: Option<Error>,
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        match self.runtime.block_on(self.incoming.write(piece)) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(std::io::Error::other("the store takes no more"))
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM, body};
    use super::*;

    const SMALL: &str = "[upload]\nbody_bytes_max = 8\ndocument_bytes_max = 8\n";

    #[tokio::test]
    async fn bodies_and_words_have_bounds() {
        let fixture = Fixture::open(&format!("{SMALL}{TEAM}")).await;
        let receiver = &fixture.receiver;
        let file = receiver.receive_file(body(b"12345678")).await.unwrap();
        assert_eq!(file.size(), 8);
        let larger = receiver.receive_file(body(b"123456789")).await;
        assert_eq!(larger.err().unwrap().kind, Kind::TooLarge);
        assert_eq!(
            receiver.receive_words(body(b"words")).await.unwrap(),
            b"words"
        );
        let longer = receiver.receive_words(body(b"123456789")).await;
        assert_eq!(longer.unwrap_err().kind, Kind::TooLarge);
    }

    #[tokio::test]
    async fn a_body_cut_short_is_no_file() {
        let fixture = Fixture::open(TEAM).await;
        let receiver = &fixture.receiver;
        let pieces = [
            Ok(Bytes::from_static(b"half")),
            Err(std::io::ErrorKind::ConnectionReset.into()),
        ];
        let cut = receiver.receive_file(futures_util::stream::iter(pieces).boxed());
        assert_eq!(cut.await.err().unwrap().kind, Kind::Invalid);
    }

    #[tokio::test]
    async fn a_form_has_its_file_without_folders_and_its_fields() {
        let fixture = Fixture::open(TEAM).await;
        let receiver = &fixture.receiver;
        let form = "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nacme\r\n\
                    --x\r\nContent-Disposition: form-data; name=\"content\"; filename=\"C:\\a/acme.whl\"\r\n\r\nbytes\r\n--x--\r\n";
        let received = receiver
            .receive_form(body(form.as_bytes()), "multipart/form-data; boundary=x")
            .await
            .unwrap();
        assert_eq!(received.name, "acme.whl");
        assert_eq!(
            received.fields.get("name").map(String::as_str),
            Some("acme")
        );
        assert_eq!(received.file.unwrap().size(), 5);
    }
}
