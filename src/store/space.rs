//! How much there is, and how much there may be.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::warn;

use super::{Keeping, reserve};
use crate::config;

/// Why bytes are passed on without being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Larger than all that may be kept.
    TooLarge,
    /// Less is free than `cache.min_free`, or nothing.
    DiskFull,
    /// The disk failed, is read-only, or has no files left to give.
    Unwritable,
}

impl NotKept {
    /// The word in logs and `Cache-Status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::DiskFull => "disk-full",
            Self::Unwritable => "unwritable",
        }
    }

    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "it is larger than `cache.max_size`",
            Self::DiskFull => {
                "the disk of the data directory is full: less would be free than `cache.min_free` asks for"
            }
            Self::Unwritable => "the disk of the data directory takes nothing",
        }
    }
}

/// Where nothing is kept: why, and until when the disk is not tried again.
struct Shortage {
    why: NotKept,
    /// None: it lasts until enough is free.
    until: Option<Instant>,
}

/// How much there is, how much there may be, and whether anything new is kept.
pub struct Space {
    directory: PathBuf,
    used: AtomicU64,
    max: u64,
    free_min: u64,
    /// Told when more is used than may be.
    pub crowded: Notify,
    shortage: Mutex<Option<Shortage>>,
}

/// After a write that failed, the disk is tried again this much later.
const RESTS_FOR: Duration = Duration::from_secs(5);
/// With less free space than this a disk is full, however little is to be left free.
const FULL_BELOW: u64 = 64 * 1024;

impl Space {
    pub fn new(directory: &Path, config: &config::Cache, used: u64) -> Self {
        let space = Self {
            directory: directory.to_owned(),
            used: AtomicU64::new(used),
            max: config.max_size,
            free_min: config.min_free,
            crowded: Notify::new(),
            shortage: Mutex::default(),
        };
        if used > space.max {
            space.crowded.notify_one();
        }
        space
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes that are cached.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Whether bytes of that size may come in. What is published counts for no bound but the
    /// disk's.
    pub fn admit(&self, size: u64, keeping: Keeping) -> Result<(), NotKept> {
        self.admit_more(size, size, keeping)
    }

    /// Whether `more` bytes may come in of a body that has `size` with them.
    pub fn admit_more(&self, size: u64, more: u64, keeping: Keeping) -> Result<(), NotKept> {
        if size > self.max && keeping == Keeping::Cached {
            return Err(NotKept::TooLarge);
        }
        if keeping == Keeping::Cached
            && let Some(why) = self.shortage()
        {
            return Err(why);
        }
        if self.free() < more.saturating_add(self.free_min) {
            self.crowded.notify_one();
            return Err(NotKept::DiskFull);
        }
        Ok(())
    }

    fn free(&self) -> u64 {
        // A file system that does not say how full it is shows it when it is written to.
        rustix::fs::statvfs(&self.directory)
            .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    /// Holds room back for a start on a full disk. Blocks.
    pub fn hold_back(&self) {
        reserve::hold_back(&self.directory, self.free());
    }

    fn state(&self) -> MutexGuard<'_, Option<Shortage>> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing new is kept at present; `None` where something is, or is worth an attempt. The log
    /// says when that begins and when it ends.
    pub fn shortage(&self) -> Option<NotKept> {
        let free = self.free();
        let mut state = self.state();
        match &*state {
            None if free < self.free_min.max(FULL_BELOW) => {
                let why = NotKept::DiskFull;
                *state = Some(Shortage { why, until: None });
                drop(state);
                self.crowded.notify_one();
                warn!(
                    free,
                    min_free = self.free_min,
                    "The disk is full: less is free than `cache.min_free` asks for. Nothing new is kept; what is here is served, and the rest is passed on"
                );
                Some(why)
            }
            None => None,
            // Somewhat more, so that it does not begin again with the next file.
            Some(Shortage { until: None, .. })
                if free
                    >= self
                        .free_min
                        .saturating_add(self.free_min / 20)
                        .max(FULL_BELOW) =>
            {
                *state = None;
                drop(state);
                warn!(free, "The disk has room again; new files are kept");
                None
            }
            // Whether it takes something shows when it is tried.
            Some(Shortage {
                until: Some(until), ..
            }) if Instant::now() >= *until => None,
            Some(shortage) => Some(shortage.why),
        }
    }

    /// Notes that the disk did not take what came.
    pub fn note_failure(&self, why: NotKept, error: &std::io::Error) {
        let until = Some(Instant::now() + RESTS_FOR);
        let before = self.state().replace(Shortage { why, until });
        if before.is_none() {
            warn!(%error, why = why.as_str(), "The disk did not take a file. Nothing new is kept until it takes one again; what is here is served, and the rest is passed on");
        }
    }

    /// Notes that the disk took a file.
    pub fn note_success(&self) {
        let failed = self.state().take_if(|shortage| shortage.until.is_some());
        if failed.is_some() {
            warn!("The disk takes files again; new ones are kept");
        }
    }

    pub fn add(&self, size: u64) {
        if self
            .used
            .fetch_add(size, Ordering::Relaxed)
            .saturating_add(size)
            > self.max
        {
            self.crowded.notify_one();
        }
    }

    pub fn remove(&self, size: u64) {
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used.saturating_sub(size))
            });
    }

    /// Bytes to make room for, down to a mark somewhat below the bound, so that eviction comes
    /// in batches.
    pub fn surplus(&self) -> u64 {
        if self.used() <= self.max {
            return 0;
        }
        self.used().saturating_sub(self.max - self.max / 20)
    }
}
