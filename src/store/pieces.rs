//! A file read piece by piece: at once where the kernel has the bytes in memory, on a blocking
//! thread where they have to come from the disk.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::content::{BUFFER_BYTES, Content, Wait};
use crate::task::Tasks;

/// A piece that stays in the processor's own cache between being read and being sent: of 64 KiB
/// to 1 MiB, 64 KiB sent 100 MB with the least time of the processor.
const PIECE_BYTES: usize = 64 * 1024;
/// Buffers that are kept for the next piece.
const SPARE_MAX: usize = 4;

type Spares = Arc<Mutex<Vec<Vec<u8>>>>;

/// Reads one file for one reader.
pub struct Pieces {
    content: Content,
    spares: Spares,
}

/// A buffer that goes back when its bytes were sent.
struct Piece {
    buffer: Vec<u8>,
    place: Range<usize>,
    spares: Spares,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(self.place.clone()).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARE_MAX {
            spares.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Pieces {
    #[must_use]
    pub fn of(content: Content) -> Self {
        Self {
            content,
            spares: Spares::default(),
        }
    }

    /// The next bytes from `offset`, at least one and at most `limit` of them; none at the end of
    /// the file.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn read(&self, offset: u64, limit: u64, tasks: &Tasks) -> io::Result<Bytes> {
        let length = usize::try_from(limit)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        let mut buffer = self.spare();
        let at_once = self
            .content
            .piece(&mut buffer, offset, length, Wait::Never)?;
        if let Some(place) = at_once {
            return Ok(self.piece(buffer, place));
        }
        let content = self.content.clone();
        let read = move || {
            let wait = Wait::ForTheDisk;
            let place = content.piece(&mut buffer, offset, length, wait)?;
            Ok::<_, io::Error>((buffer, place.unwrap_or_default()))
        };
        let (buffer, place) = tasks
            .spawn_blocking(read)
            .await
            .map_err(io::Error::other)??;
        Ok(self.piece(buffer, place))
    }

    fn spare(&self) -> Vec<u8> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        spares.pop().unwrap_or_else(|| vec![0; BUFFER_BYTES])
    }

    fn piece(&self, buffer: Vec<u8>, place: Range<usize>) -> Bytes {
        if place.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Piece {
            buffer,
            place,
            spares: Arc::clone(&self.spares),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn pieces_are_the_file_and_end_with_it() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        file.write_all(&content).unwrap();
        let (pieces, tasks) = (Pieces::of(Content::Plain(Arc::new(file))), Tasks::default());
        let mut read = Vec::new();
        loop {
            let piece = pieces
                .read(read.len() as u64, 150_000, &tasks)
                .await
                .unwrap();
            if piece.is_empty() {
                break;
            }
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, content);
        assert_eq!(pieces.read(10, 3, &tasks).await.unwrap(), content[10..13]);
    }

    #[tokio::test]
    async fn a_piece_keeps_its_bytes_while_others_are_read() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        let (pieces, tasks) = (Pieces::of(Content::Plain(Arc::new(file))), Tasks::default());
        let first = pieces.read(0, 3, &tasks).await.unwrap();
        let second = pieces.read(3, 3, &tasks).await.unwrap();
        assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"def"[..]));
    }
}
