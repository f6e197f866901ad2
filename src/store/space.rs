//! How much there is, and how much there may be.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Keeping;
use crate::config;

/// Why bytes are passed on without being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// Larger than all that may be kept.
    TooLarge,
    DiskFull,
}

impl NotKept {
    /// The word in logs and `Cache-Status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::DiskFull => "disk-full",
        }
    }
}

pub struct Space {
    directory: PathBuf,
    used: AtomicU64,
    max: u64,
    free_min: u64,
    /// Told when more is used than may be.
    pub crowded: Notify,
}

impl Space {
    pub fn new(directory: &Path, config: &config::Cache, used: u64) -> Self {
        let space = Self {
            directory: directory.to_owned(),
            used: AtomicU64::new(used),
            max: config.max_size,
            free_min: config.min_free,
            crowded: Notify::new(),
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
        // A file system that does not say how full it is shows it when it is written to.
        let free = rustix::fs::statvfs(&self.directory)
            .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        if free < more.saturating_add(self.free_min) {
            self.crowded.notify_one();
            return Err(NotKept::DiskFull);
        }
        Ok(())
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
