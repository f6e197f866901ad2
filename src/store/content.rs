//! The bytes of a file, whether it holds them plain or sealed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::seal::{CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES, Seal, TAG_BYTES};

/// A buffer that holds any piece of a content, as it lies on the disk.
pub const BUFFER_BYTES: usize = SEALED_CHUNK_BYTES;

/// A stored file's bytes, plain or sealed.
#[derive(Clone)]
pub enum Content {
    Plain(Arc<File>),
    Sealed(Sealed),
}

/// A sealed file.
#[derive(Clone)]
pub struct Sealed {
    pub file: Arc<File>,
    pub seal: Arc<Seal>,
    /// Its plain bytes; none while it grows, when nobody but this process can have written it.
    pub size: Option<u64>,
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing is read that the kernel does not have in memory.
    Never,
    ForTheDisk,
}

impl Content {
    #[must_use]
    pub fn new(file: Arc<File>, seal: Option<Arc<Seal>>, size: Option<u64>) -> Self {
        match seal {
            None => Self::Plain(file),
            Some(seal) => Self::Sealed(Sealed { file, seal, size }),
        }
    }

    /// Up to `length` bytes from `offset`: where they are in the buffer then, an empty place at the
    /// end. `None` where that would have to wait.
    ///
    /// # Errors
    /// Where the disk fails, or a sealed file was altered.
    pub fn piece(
        &self,
        buffer: &mut [u8],
        offset: u64,
        length: usize,
        wait: Wait,
    ) -> io::Result<Option<Range<usize>>> {
        match self {
            Self::Plain(file) => {
                let length = length.min(buffer.len());
                let into = buffer.get_mut(..length).unwrap_or_default();
                Ok(read(file, into, offset, wait)?.map(|count| 0..count))
            }
            Self::Sealed(sealed) => {
                let Some(chunk) = sealed.chunk(buffer, offset / CHUNK_BYTES as u64, wait)? else {
                    return Ok(None);
                };
                let within = usize::try_from(offset % CHUNK_BYTES as u64).unwrap_or(0);
                let start = within.min(chunk);
                Ok(Some(start..start.saturating_add(length).min(chunk)))
            }
        }
    }

    /// Fills the buffer from `offset`; says how far, which is to the end of the content at most.
    /// Blocks.
    ///
    /// # Errors
    /// Reads into a buffer, as [`Content::piece`] does.
    pub fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut buffer = match self {
            Self::Plain(file) => return fill(file, into, offset),
            Self::Sealed(_) => vec![0; BUFFER_BYTES],
        };
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + filled as u64;
            let piece = self.piece(&mut buffer, at, rest.len(), Wait::ForTheDisk)?;
            let piece = buffer.get(piece.unwrap_or_default()).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            if let Some(rest) = rest.get_mut(..piece.len()) {
                rest.copy_from_slice(piece);
            }
            filled += piece.len();
        }
        Ok(filled)
    }
}

impl Sealed {
    /// Opens a chunk in the buffer; says how many plain bytes it has, 0 behind the last.
    fn chunk(&self, buffer: &mut [u8], index: u64, wait: Wait) -> io::Result<Option<usize>> {
        let last = self
            .size
            .map(|size| size.saturating_sub(1) / CHUNK_BYTES as u64);
        if last.is_some_and(|last| index > last) {
            return Ok(Some(0));
        }
        let place = HEADER_BYTES as u64 + index * SEALED_CHUNK_BYTES as u64;
        let length = SEALED_CHUNK_BYTES.min(buffer.len());
        let into = buffer.get_mut(..length).unwrap_or_default();
        let count = match wait {
            Wait::Never => read(&self.file, into, place, wait)?,
            Wait::ForTheDisk => Some(fill(&self.file, into, place)?),
        };
        let Some(count) = count else { return Ok(None) };
        let expected = self.size.map(|size| {
            let left = size.saturating_sub(index * CHUNK_BYTES as u64);
            usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES)) + TAG_BYTES
        });
        if wait == Wait::Never && count < expected.unwrap_or(SEALED_CHUNK_BYTES) {
            return Ok(None);
        }
        let chunk = buffer.get_mut(..count).unwrap_or_default();
        if let Some(last) = last {
            return self.seal.open(index, index == last, chunk).map(Some);
        }
        // While it grows, only a short chunk shows that it is the last.
        if count == 0 {
            return Ok(Some(0));
        }
        if count < SEALED_CHUNK_BYTES {
            return self.seal.open(index, true, chunk).map(Some);
        }
        match self.seal.open(index, false, chunk) {
            Ok(opened) => Ok(Some(opened)),
            Err(_) => {
                // A chunk that could not be decrypted must not stay in the buffer.
                fill(&self.file, chunk, place)?;
                self.seal.open(index, true, chunk).map(Some)
            }
        }
    }
}

fn fill(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads once; `None` where it would have to wait.
fn read(file: &File, into: &mut [u8], offset: u64, wait: Wait) -> io::Result<Option<usize>> {
    if wait == Wait::Never {
        return Ok(read_at_once(file, into, offset));
    }
    loop {
        match file.read_at(into, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(Some),
        }
    }
}

/// Reads the bytes that the kernel has in memory. No bytes may also mean the end of the file.
#[cfg(target_os = "linux")]
fn read_at_once(file: &File, into: &mut [u8], offset: u64) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut into = [io::IoSliceMut::new(into)];
    let read = preadv2(file, &mut into, offset, ReadWriteFlags::NOWAIT).ok();
    read.filter(|length| *length > 0)
}

/// Other systems cannot tell.
#[cfg(not(target_os = "linux"))]
fn read_at_once(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

/// A content as a reader that can go anywhere. Blocks. It keeps the chunk that it read last, as
/// archives are read in small pieces.
pub struct ContentReader {
    content: Content,
    size: u64,
    at: u64,
    /// Where what the buffer holds of it begins.
    buffer: Vec<u8>,
    held: Range<usize>,
    held_at: u64,
}

impl ContentReader {
    #[must_use]
    pub fn new(content: Content, size: u64) -> Self {
        Self {
            content,
            size,
            at: 0,
            buffer: Vec::new(),
            held: 0..0,
            held_at: 0,
        }
    }
}

impl io::Read for ContentReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Content::Sealed(_) = &self.content else {
            let wait = Wait::ForTheDisk;
            let piece = self.content.piece(into, self.at, into.len(), wait)?;
            let count = piece.unwrap_or_default().len();
            self.at += count as u64;
            return Ok(count);
        };
        let held_end = self.held_at + self.held.len() as u64;
        if !(self.held_at..held_end).contains(&self.at) {
            self.buffer.resize(BUFFER_BYTES, 0);
            let begin = self.at - self.at % CHUNK_BYTES as u64;
            let wait = Wait::ForTheDisk;
            let piece = self
                .content
                .piece(&mut self.buffer, begin, CHUNK_BYTES, wait)?;
            (self.held, self.held_at) = (piece.unwrap_or_default(), begin);
        }
        let within = usize::try_from(self.at - self.held_at).unwrap_or(usize::MAX);
        let held = self.buffer.get(self.held.clone()).unwrap_or_default();
        let rest = held.get(within..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(into), Some(rest)) = (into.get_mut(..count), rest.get(..count)) {
            into.copy_from_slice(rest);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl io::Seek for ContentReader {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            io::SeekFrom::Start(at) => (at, 0),
            io::SeekFrom::Current(offset) => (self.at, offset),
            io::SeekFrom::End(offset) => (self.size, offset),
        };
        self.at = base
            .checked_add_signed(offset)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// Writes a content, plain or sealed, from its beginning to its end.
pub enum ContentWriter<'a> {
    Plain(&'a File),
    Sealed {
        file: &'a File,
        seal: &'a Seal,
        chunk: Vec<u8>,
        index: u64,
    },
}

impl<'a> ContentWriter<'a> {
    #[must_use]
    pub fn new(file: &'a File, seal: Option<&'a Seal>) -> Self {
        match seal {
            None => Self::Plain(file),
            Some(seal) => Self::Sealed {
                file,
                seal,
                chunk: Vec::with_capacity(SEALED_CHUNK_BYTES),
                index: 0,
            },
        }
    }

    /// Takes the next bytes; says how many can be read by now that could not before.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn write(&mut self, mut piece: &[u8]) -> io::Result<u64> {
        use io::Write as _;
        let (file, seal, chunk, index) = match self {
            Self::Plain(file) => {
                file.write_all(piece)?;
                return Ok(piece.len() as u64);
            }
            Self::Sealed {
                file,
                seal,
                chunk,
                index,
            } => (file, seal, chunk, index),
        };
        let mut readable = 0;
        while !piece.is_empty() {
            // A full chunk waits for what follows: it may be the last.
            if chunk.len() == CHUNK_BYTES {
                seal.seal(*index, false, chunk)?;
                file.write_all(chunk)?;
                chunk.clear();
                *index += 1;
                readable += CHUNK_BYTES as u64;
            }
            let (now, later) = piece.split_at(piece.len().min(CHUNK_BYTES - chunk.len()));
            chunk.extend_from_slice(now);
            piece = later;
        }
        Ok(readable)
    }

    /// Ends the content; says how many bytes can be read by now that could not before.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn finish(self) -> io::Result<u64> {
        use io::Write as _;
        let Self::Sealed {
            mut file,
            seal,
            mut chunk,
            index,
        } = self
        else {
            return Ok(0);
        };
        let readable = chunk.len() as u64;
        seal.seal(index, true, &mut chunk)?;
        file.write_all(&chunk)?;
        Ok(readable)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::super::seal::Sealer;
    use super::*;
    use crate::package::{BlobId, Digester};

    fn id_of(bytes: &[u8]) -> BlobId {
        let mut digester = Digester::new(&[]);
        digester.update(bytes);
        digester.finish().blob
    }

    fn bytes(length: usize) -> Vec<u8> {
        [0u8, 1, 2, 3, 5, 7, 11]
            .into_iter()
            .cycle()
            .take(length)
            .collect()
    }

    /// A sealed file, with what seals it.
    fn sealed(sealer: &Sealer, bytes: &[u8]) -> (Arc<File>, Arc<Seal>) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let seal = sealer.begin(&file).unwrap();
        let mut writer = ContentWriter::new(&file, Some(&seal));
        let mut readable = 0;
        for piece in bytes.chunks(1000) {
            readable += writer.write(piece).unwrap();
        }
        readable += writer.finish().unwrap();
        assert_eq!(readable, bytes.len() as u64);
        seal.name(&file, id_of(bytes)).unwrap();
        (file, seal)
    }

    fn read_all(content: &Content, size: u64) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        ContentReader::new(content.clone(), size).read_to_end(&mut read)?;
        Ok(read)
    }

    #[test]
    fn what_was_sealed_is_read_back_at_every_place() {
        let sealer = Sealer::random();
        for length in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
            200_000,
        ] {
            let bytes = bytes(length);
            let (file, seal) = sealed(&sealer, &bytes);
            let (opened, size) = sealer.seal_of(&file, id_of(&bytes)).unwrap();
            assert_eq!(size, length as u64);
            let whole = Content::new(Arc::clone(&file), Some(opened), Some(size));
            let growing = Content::new(file, Some(seal), None);
            for content in [whole, growing] {
                assert!(read_all(&content, size).unwrap() == bytes, "{length}");
                for offset in [
                    0,
                    1,
                    length / 2,
                    length.saturating_sub(1),
                    length,
                    length + 7,
                ] {
                    let mut into = vec![0; 70_000];
                    let filled = content.fill(&mut into, offset as u64).unwrap();
                    let expected = bytes.get(offset..).unwrap_or_default();
                    let expected = &expected[..expected.len().min(70_000)];
                    assert!(into[..filled] == *expected, "{length} from {offset}");
                }
                let mut reader = ContentReader::new(content, size);
                reader.seek(io::SeekFrom::End(0)).unwrap();
                assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
            }
        }
    }

    #[test]
    fn what_was_altered_cut_moved_or_renamed_is_not_read() {
        let sealer = Sealer::random();
        let bytes = bytes(3 * CHUNK_BYTES + 5);
        let place = |chunk: usize| (HEADER_BYTES + chunk * SEALED_CHUNK_BYTES) as u64;
        type Harm = fn(&File, &dyn Fn(usize) -> u64);
        let harms: [(&str, Harm); 5] = [
            ("one bit", |file, place| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, place(1) + 9).unwrap();
                file.write_all_at(&[byte[0] ^ 1], place(1) + 9).unwrap();
            }),
            ("the last chunk is gone", |file, place| {
                file.set_len(place(3)).unwrap()
            }),
            ("its end is gone", |file, place| {
                file.set_len(place(3) + 18).unwrap()
            }),
            ("two chunks changed places", |file, place| {
                let (mut a, mut b) = (vec![0; SEALED_CHUNK_BYTES], vec![0; SEALED_CHUNK_BYTES]);
                file.read_exact_at(&mut a, place(0)).unwrap();
                file.read_exact_at(&mut b, place(1)).unwrap();
                file.write_all_at(&b, place(0)).unwrap();
                file.write_all_at(&a, place(1)).unwrap();
            }),
            ("another salt", |file, _| {
                let mut salt = [0];
                file.read_exact_at(&mut salt, 10).unwrap();
                file.write_all_at(&[!salt[0]], 10).unwrap();
            }),
        ];
        for (harm, harmed) in harms {
            let (file, _) = sealed(&sealer, &bytes);
            harmed(&file, &place);
            let read = sealer
                .seal_of(&file, id_of(&bytes))
                .and_then(|(seal, size)| {
                    read_all(&Content::new(file, Some(seal), Some(size)), size)
                });
            assert_eq!(
                read.unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{harm}"
            );
        }
        let (file, _) = sealed(&sealer, &bytes);
        assert!(
            sealer.seal_of(&file, id_of(b"other")).is_err(),
            "another name"
        );
        let other = Sealer::random();
        assert!(other.seal_of(&file, id_of(&bytes)).is_err(), "another key");
    }
}
