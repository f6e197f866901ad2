//! The bundle, written as it is taken.

use std::io::{BufRead as _, BufReader, Read, Seek as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Prepared, failed, head_bytes};
use crate::airgap::bundle::{BLOBS, HEAD, MANIFEST, ManifestLine, SBOM, SIGNATURE, SeenBlobs};
use crate::airgap::seal::seal;
use crate::package::BlobId;
use crate::problem::{Decider, Kind, Problem};
use crate::store::Store;
use crate::store::archive::{CheckedBlob, append, packed};

/// How large the pieces of a bundle are.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces on their way to who takes them.
struct Pieces<'a> {
    sender: &'a mpsc::Sender<Result<Bytes, Problem>>,
    piece: BytesMut,
    /// The digest of all bytes that were written.
    sha256: Sha256,
}

impl Pieces<'_> {
    fn send(&mut self) -> std::io::Result<()> {
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.sha256.update(bytes);
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

/// Writes the bundle. Blocks.
///
/// # Errors
/// Where a file is not what its name says, or nobody takes it any more.
pub fn write(
    store: &Store,
    prepared: Prepared,
    sender: &mpsc::Sender<Result<Bytes, Problem>>,
) -> Result<(), Problem> {
    let Prepared {
        head,
        key,
        mut manifest,
        sbom,
        _reading: reading,
    } = prepared;
    let pieces = Pieces {
        sender,
        piece: BytesMut::with_capacity(2 * PIECE_BYTES),
        sha256: Sha256::new(),
    };
    let mut archive = tar::Builder::new(packed(pieces).map_err(failed)?);
    let mut add = |name: &str, size: u64, reader: &mut dyn Read| {
        append(&mut archive, name, size, head.created, reader)
    };
    let bytes = head_bytes(&head)?;
    let signature = STANDARD.encode(key.sign(&bytes));
    add(HEAD, bytes.len() as u64, &mut bytes.as_slice()).map_err(failed)?;
    add(SIGNATURE, signature.len() as u64, &mut signature.as_bytes()).map_err(failed)?;
    add(MANIFEST, head.manifest.size, &mut &manifest).map_err(failed)?;
    add(SBOM, head.sbom.size, &mut &sbom).map_err(failed)?;
    manifest.rewind().map_err(failed)?;
    let mut seen = SeenBlobs::default();
    for line in BufReader::new(manifest).lines() {
        let entry: ManifestLine = serde_json::from_str(&line.map_err(failed)?).map_err(failed)?;
        for (id, size) in entry.blobs()? {
            if !seen.is_first(id) {
                continue;
            }
            let blob = Handle::current()
                .block_on(store.files().open(id))
                .map_err(failed)?;
            let blob = blob.filter(|blob| blob.size() == size);
            let Some(blob) = blob else {
                return Err(damaged(id, "its file is gone, or of another length"));
            };
            let mut reader = CheckedBlob::new(blob.reader(), id);
            let added = add(&format!("{BLOBS}{}", id.to_hex()), size, &mut reader);
            added.and_then(|()| reader.finish()).map_err(|error| {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    damaged(id, &error.to_string())
                } else {
                    failed(error)
                }
            })?;
        }
    }
    let encoder = archive.into_inner().map_err(failed)?;
    let mut pieces = encoder.finish().map_err(failed)?;
    let sha256 = std::mem::take(&mut pieces.sha256).finalize().into();
    pieces.write_all(&seal(&sha256, &key)).map_err(failed)?;
    pieces.flush().map_err(failed)?;
    drop(reading);
    Ok(())
}

fn damaged(id: BlobId, why: &str) -> Problem {
    Problem::new(
        Kind::Unverified,
        Decider::Larder,
        format!("the stored file {} cannot be exported: {why}", id.to_hex()),
    )
    .advice("`larder verify --repair` fetches it again")
}
