//! Files as memory: what the kernel sends without our reading it. A file is mapped window by
//! window, and all windows together are bounded, however large the files are.
//!
//! Each file owns its windows; what is shared is a count of bytes and a list of who has one. Caches
//! hold files and let go of them inside their own locks, so dropping a file takes no lock and calls
//! nothing: it unmaps, and takes its bytes off the count.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::MmapOptions;

/// The window on a whole file. Of 256 KiB to 16 MiB, 4 MiB took the least processor time to send
/// 100 MB.
pub const WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// The window on a file that is still growing. Its readers are spread over it, each in a window of
/// its own, and hashing bounds their speed.
pub const GROWING_WINDOW_BYTES: u64 = 1024 * 1024;

/// How many windows are looked at, at most, to make room for one.
const LOOKS_MAX: usize = 16;
/// The list of windows is not swept while it is shorter.
const SWEPT_MIN: usize = 256;

/// The bound on all files' windows together; clones share it.
#[derive(Clone)]
pub struct Windows(Arc<Shared>);

struct Shared {
    bytes_max: u64,
    /// Bytes of the windows that files keep.
    kept: Arc<AtomicU64>,
    ring: Mutex<Ring>,
}

/// The files that keep windows, the oldest first. Files that are gone stay in the list until they
/// are met or swept.
#[derive(Default)]
struct Ring {
    places: VecDeque<Place>,
    sweep_at: usize,
}

struct Place {
    file: Weak<Kept>,
    index: u64,
}

/// The windows that a file keeps, by their place in it.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<u64, Window>>);

struct Window {
    bytes: Bytes,
    /// Asked for again since it was mapped, or since somebody looked for room.
    is_used: bool,
    _counted: Counted,
}

/// Bytes on the count, until it is dropped.
struct Counted {
    count: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Kept {
    fn windows(&self) -> MutexGuard<'_, BTreeMap<u64, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fate of a window whose room was wanted.
enum Look {
    /// It was asked for since the last look, and stays.
    Stays,
    Goes(Option<Window>),
}

impl Place {
    fn look(&self) -> Look {
        let Some(file) = self.file.upgrade() else {
            return Look::Goes(None);
        };
        let mut windows = file.windows();
        match windows.get_mut(&self.index) {
            Some(window) if window.is_used => {
                window.is_used = false;
                Look::Stays
            }
            _ => Look::Goes(windows.remove(&self.index)),
        }
    }
}

impl Ring {
    fn push(&mut self, place: Place) {
        if self.places.len() >= self.sweep_at.max(SWEPT_MIN) {
            self.places.retain(|place| place.file.strong_count() > 0);
            self.sweep_at = self.places.len() * 2;
        }
        self.places.push_back(place);
    }
}

impl Windows {
    /// Keeps up to `bytes_max` mapped beside what is being sent.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Shared {
            bytes_max,
            kept: Arc::default(),
            ring: Mutex::default(),
        }))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts so many bytes on the count, making room for them; `None` where there is too little that
    /// nobody uses.
    fn count(&self, bytes: u64) -> Option<Counted> {
        let shared = &self.0;
        if bytes > shared.bytes_max {
            return None;
        }
        let counted = Counted {
            count: Arc::clone(&shared.kept),
            bytes,
        };
        shared.kept.fetch_add(bytes, Ordering::Relaxed);
        for _ in 0..LOOKS_MAX {
            if shared.kept.load(Ordering::Relaxed) <= shared.bytes_max {
                return Some(counted);
            }
            let Some(place) = self.ring().places.pop_front() else {
                break;
            };
            // The list is not locked here: no two locks of this module are ever held at once, and
            // what goes is unmapped under none of them.
            match place.look() {
                Look::Stays => self.ring().push(place),
                Look::Goes(window) => drop(window),
            }
        }
        (shared.kept.load(Ordering::Relaxed) <= shared.bytes_max).then_some(counted)
    }

    #[cfg(test)]
    fn kept_bytes(&self) -> u64 {
        self.0.kept.load(Ordering::Relaxed)
    }
}

/// A file whose bytes are immutable once they are written, and which has `size` of them, or will.
pub struct Pages {
    file: Arc<File>,
    size: u64,
    window_bytes: u64,
    kept: Arc<Kept>,
    windows: Windows,
}

impl Pages {
    pub fn of(file: Arc<File>, size: u64, window_bytes: u64, windows: &Windows) -> Self {
        Self {
            file,
            size,
            window_bytes,
            kept: Arc::default(),
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
        let window = match self.kept(index) {
            Some(window) => window,
            None => self.keep(index, self.map(index)?),
        };
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(window.len());
        let start = offset - index * self.window_bytes;
        Ok(window.slice(place(start)..place(start.saturating_add(limit))))
    }

    fn kept(&self, index: u64) -> Option<Bytes> {
        let mut windows = self.kept.windows();
        let window = windows.get_mut(&index)?;
        window.is_used = true;
        Some(window.bytes.clone())
    }

    /// Keeps a window for the next who asks, where the bound allows it; else it is for this one
    /// sending.
    fn keep(&self, index: u64, bytes: Bytes) -> Bytes {
        let Some(counted) = self.windows.count(bytes.len() as u64) else {
            return bytes;
        };
        let window = Window {
            bytes: bytes.clone(),
            is_used: false,
            _counted: counted,
        };
        // Where two map the same window at once, the later one takes the place of the first.
        let replaced = self.kept.windows().insert(index, window);
        if replaced.is_none() {
            self.windows.ring().push(Place {
                file: Arc::downgrade(&self.kept),
                index,
            });
        }
        bytes
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
        Ok(Bytes::from_owner(map))
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
            assert!(windows.kept_bytes() <= 9_000_000);
        }
        assert!(windows.kept_bytes() > 4_000_000);
        drop(pages);
        assert_eq!(windows.kept_bytes(), 0);
    }

    #[test]
    fn what_is_asked_for_again_stays_and_what_was_read_once_goes() {
        let (_named, file) = file(&[1; 1000]);
        let windows = Windows::new(10_000);
        let open = || Pages::of(Arc::clone(&file), 1000, WINDOW_BYTES, &windows);
        let warm = open();
        warm.at(0, 1).unwrap();
        let read_once: Vec<Pages> = (0..100)
            .map(|_| {
                let pages = open();
                pages.at(0, 1).unwrap();
                assert!(warm.kept(0).is_some());
                pages
            })
            .collect();
        let kept = read_once.iter().filter(|pages| pages.kept(0).is_some());
        assert_eq!(kept.count(), 9);
        assert_eq!(windows.kept_bytes(), 10_000);
    }

    #[test]
    fn what_has_no_room_is_mapped_for_the_one_sending() {
        let (_named, file) = file(&[1; 1000]);
        let windows = Windows::new(999);
        let pages = Pages::of(file, 1000, WINDOW_BYTES, &windows);
        assert_eq!(pages.at(990, 100).unwrap(), vec![1; 10]);
        assert_eq!(windows.kept_bytes(), 0);
    }

    #[test]
    fn files_that_are_gone_leave_nothing_in_the_list() {
        let (_named, file) = file(&[1; 1000]);
        let windows = Windows::new(u64::MAX);
        for _ in 0..10_000 {
            let pages = Pages::of(Arc::clone(&file), 1000, WINDOW_BYTES, &windows);
            pages.at(0, 1).unwrap();
        }
        assert!(windows.ring().places.len() <= SWEPT_MIN);
        assert_eq!(windows.kept_bytes(), 0);
    }

    #[test]
    fn a_file_may_be_let_go_of_while_the_list_is_locked() {
        let (_named, file) = file(&[1; 1000]);
        let windows = Windows::new(u64::MAX);
        let pages = Pages::of(file, 1000, WINDOW_BYTES, &windows);
        pages.at(0, 1).unwrap();
        // A cache drops its entries inside its own locks: this would wait for ever if it took one.
        let kept = Arc::clone(&pages.kept);
        let (ring, held) = (windows.ring(), kept.windows());
        drop(pages);
        drop((ring, held));
    }
}
