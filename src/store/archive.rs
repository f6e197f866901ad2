//! Tar archives of stored files: how bundles and backups are written, and read again.

use std::io::{self, BufReader, Read, Write};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use zstd::{Decoder, Encoder};

use crate::package::BlobId;

/// Packages are compressed already; more effort buys little.
const LEVEL: i32 = 3;
/// Windows of compressed bytes, as a power of two; a hostile archive gets no more memory.
const WINDOW_LOG_MAX: u32 = 23;

/// Compresses what is written, and lets whoever reads it notice a change.
///
/// # Errors
/// Where there is no memory for it.
pub fn packed<W: Write>(into: W) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(into, LEVEL)?;
    encoder.include_checksum(true)?;
    Ok(encoder)
}

/// Reads what was compressed.
///
/// # Errors
/// Where there is no memory for it.
pub fn unpacked<R: Read>(packed: R) -> io::Result<Decoder<'static, BufReader<R>>> {
    let mut decoder = Decoder::new(packed)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// Appends a file of so many bytes.
///
/// # Errors
/// Where it cannot be read, or nothing can be written.
pub fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    bytes: u64,
    created: Timestamp,
    reader: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(created.as_second()).unwrap_or(0));
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, reader)
}

/// Reads a blob, and fails at its end where it is not what its name says.
pub struct CheckedBlob<R> {
    reader: R,
    sha256: Option<Sha256>,
    id: BlobId,
}

impl<R: Read> CheckedBlob<R> {
    pub fn new(reader: R, id: BlobId) -> Self {
        Self {
            reader,
            sha256: Some(Sha256::new()),
            id,
        }
    }

    /// Reads on to the end. An archive stops at a file's size, and the digest is known behind it.
    ///
    /// # Errors
    /// Where there is more, or it is not what its name says.
    pub fn finish(mut self) -> io::Result<()> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(changed()),
        }
    }
}

impl<R: Read> Read for CheckedBlob<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        if count > 0 {
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(into.get(..count).unwrap_or_default());
            }
            return Ok(count);
        }
        let is_another = |sha256: Sha256| sha256.finalize().as_slice() != self.id.as_bytes();
        if self.sha256.take().is_some_and(is_another) {
            return Err(changed());
        }
        Ok(0)
    }
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "its bytes are not what its name says",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Digester;

    #[test]
    fn an_archive_gets_no_larger_window_than_may_be() {
        let read = |window_log: u32| {
            let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(b"text").unwrap();
            // A frame that is flushed before its end says how large its window is, not how long it is.
            encoder.flush().unwrap();
            let packed = encoder.finish().unwrap();
            let mut text = Vec::new();
            unpacked(&*packed).unwrap().read_to_end(&mut text)
        };
        assert_eq!(read(WINDOW_LOG_MAX).unwrap(), 4);
        assert!(read(WINDOW_LOG_MAX + 1).is_err());
    }

    #[test]
    fn a_blob_that_is_another_is_noticed_at_its_end() {
        let mut digester = Digester::new(&[]);
        digester.update(b"content");
        let id = digester.finish().blob;
        for (bytes, is_it) in [
            (&b"content"[..], true),
            (b"contenT", false),
            (b"more content", false),
        ] {
            let mut reader = CheckedBlob::new(bytes, id);
            let mut seven = [0; 7];
            reader.read_exact(&mut seven).unwrap();
            assert_eq!(reader.finish().is_ok(), is_it);
        }
    }
}
