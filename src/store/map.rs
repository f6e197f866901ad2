//! Files as memory: what the kernel sends without our reading it. A file is mapped window by
//! window, and all windows together are bounded, however large the files are.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::MmapOptions;
use moka::sync::Cache;

/// Of a whole file. Larger pieces cost the processor no less: of 256 KiB to 16 MiB, 4 MiB sent
/// 100 MB with the least of it.
pub const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// Of a file that grows: its readers are spread over it, each in a window of its own, and what
/// bounds them is what is hashed.
pub const GROWING_WINDOW_BYTES: u64 = 1024 * 1024;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Windows of late, by file and place; clones share them.
#[derive(Clone)]
pub struct Windows(Cache<(u64, u64), Bytes>);

impl Windows {
    /// Keeps up to `bytes_max` mapped beside what is being sent.
    pub fn new(bytes_max: u64) -> Self {
        let windows = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|_: &(u64, u64), window: &Bytes| {
                u32::try_from(window.len()).unwrap_or(u32::MAX)
            })
            .build();
        Self(windows)
    }
}

/// A file whose bytes are immutable once they are written, and which has `size` of them, or will.
pub struct Pages {
    file: Arc<File>,
    size: u64,
    /// No two of a process have the same.
    number: u64,
    window_bytes: u64,
    windows: Windows,
}

impl Pages {
    pub fn of(file: Arc<File>, size: u64, window_bytes: u64, windows: &Windows) -> Self {
        Self {
            file,
            size,
            window_bytes,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            windows: windows.clone(),
        }
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Up to `limit` bytes from `offset`, at least one; none at the end. Nobody but the kernel
    /// should touch them, since that may wait for the disk, and nobody at all those that are not
    /// written yet. They stay readable when the file is unlinked.
    ///
    /// # Errors
    /// Where the file cannot be mapped.
    pub fn at(&self, offset: u64, limit: u64) -> std::io::Result<Bytes> {
        if offset >= self.size || limit == 0 {
            return Ok(Bytes::new());
        }
        let index = offset / self.window_bytes;
        let window = match self.windows.0.get(&(self.number, index)) {
            Some(window) => window,
            None => self.map(index)?,
        };
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(window.len());
        let start = offset - index * self.window_bytes;
        Ok(window.slice(place(start)..place(start.saturating_add(limit))))
    }

    #[expect(
        unsafe_code,
        reason = "mapping a file is a promise that the type system cannot check"
    )]
    fn map(&self, index: u64) -> std::io::Result<Bytes> {
        let start = index * self.window_bytes;
        let length =
            usize::try_from(self.window_bytes.min(self.size - start)).unwrap_or(usize::MAX);
        let mut options = MmapOptions::new();
        // SAFETY: what was written of a blob is immutable: its file grows under another name, is
        // renamed when it is whole, and from then on only ever unlinked, which leaves the pages as
        // they are.
        let map = unsafe { options.offset(start).len(length).map(&self.file)? };
        let window = Bytes::from_owner(map);
        self.windows.0.insert((self.number, index), window.clone());
        // Entries are few and large: the bound must not wait for more of them to come.
        self.windows.0.run_pending_tasks();
        Ok(window)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // An evicted file's space is free when nobody has it mapped any more.
        for index in 0..self.size.div_ceil(self.window_bytes) {
            self.windows.0.invalidate(&(self.number, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Arc<File>) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(content).unwrap();
        let file = Arc::new(named.reopen().unwrap());
        (named, file)
    }

    #[test]
    fn windows_are_the_file_and_outlive_its_name() {
        let content: Vec<u8> = (0..9_000_000u32).map(|n| n.to_be_bytes()[2]).collect();
        let (named, file) = file(&content);
        let pages = Pages::of(
            file,
            content.len() as u64,
            WINDOW_BYTES,
            &Windows::new(u64::MAX),
        );
        named.close().unwrap();
        let mut read = Vec::new();
        loop {
            let piece = pages.at(read.len() as u64, 3_000_000).unwrap();
            if piece.is_empty() {
                break;
            }
            read.extend_from_slice(&piece);
        }
        assert!(read == content);
    }

    #[test]
    fn what_is_mapped_stays_within_its_bound_and_goes_with_the_file() {
        let (_named, file) = file(&vec![1; 40_000_000]);
        let windows = Windows::new(9_000_000);
        let pages = Pages::of(file, 40_000_000, WINDOW_BYTES, &windows);
        for offset in (0..40_000_000).step_by(1_000_000) {
            assert_eq!(pages.at(offset, 10).unwrap(), vec![1; 10]);
        }
        windows.0.run_pending_tasks();
        assert!(windows.0.weighted_size() <= 9_000_000);
        drop(pages);
        windows.0.run_pending_tasks();
        assert_eq!(windows.0.weighted_size(), 0);
    }
}
