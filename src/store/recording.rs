//! Bytes that are kept for good before a row names them, and what becomes of them where none does.
//!
//! A change keeps its bytes first and writes its rows then. It says at its end whether rows name the
//! bytes ([`Recording::settle`]) or not ([`Recording::release`]). A change that is cancelled in between
//! says neither: its blobs stay in a list, and a task lets them be evicted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::RwLockReadGuard;
use tracing::{info, warn};

use super::{Blob, Error, Keeping, Store, Verified};
use crate::package::BlobId;

/// Blobs in the list at which the next change sweeps it before it begins.
const UNSETTLED_MAX: usize = 4096;

/// How often the list is looked at.
const SWEPT_EVERY: Duration = Duration::from_secs(60);

/// Blobs that changes keep for good, by change, until these have said what becomes of them.
#[derive(Default)]
pub(super) struct Unsettled {
    next: AtomicU64,
    changes: Mutex<HashMap<u64, Vec<BlobId>>>,
}

impl Unsettled {
    fn changes(&self) -> MutexGuard<'_, HashMap<u64, Vec<BlobId>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: u64, blob: BlobId) {
        self.changes().entry(change).or_default().push(blob);
    }

    fn forget(&self, change: u64) {
        self.changes().remove(&change);
    }

    /// How many blobs changes have kept that are under way, or were cancelled of late.
    pub fn count(&self) -> usize {
        self.changes().values().map(Vec::len).sum()
    }

    fn snapshot(&self) -> HashMap<u64, Vec<BlobId>> {
        self.changes().clone()
    }
}

/// A change that keeps bytes for good. Nothing is let go of while there is one.
pub struct Recording<'a> {
    shared: RwLockReadGuard<'a, ()>,
    store: &'a Store,
    number: u64,
    kept: Vec<BlobId>,
}

impl Recording<'_> {
    /// Keeps bytes that came in, for good.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep(&mut self, file: Verified) -> Result<Blob, Error> {
        self.note(file.digests().blob);
        file.keep(Keeping::Published).await
    }

    /// Keeps bytes that are here, for good; says whether they are here.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn keep_stored(&mut self, id: BlobId) -> Result<bool, Error> {
        self.note(id);
        self.store.keep_for_good(id).await
    }

    // Before the bytes are kept: what is kept and not in the list would stay until the next start.
    fn note(&mut self, id: BlobId) {
        self.kept.push(id);
        self.store.unsettled.note(self.number, id);
    }

    /// Ends a change whose rows name all that it kept.
    pub fn settle(self) {
        self.store.unsettled.forget(self.number);
    }

    /// Ends a change that was refused: what it kept may be evicted, where nothing else needs it.
    ///
    /// # Errors
    /// Where a catalog fails; the blobs stay in the list then.
    pub async fn release(self) -> Result<(), Error> {
        let Self {
            shared,
            store,
            number,
            kept,
        } = self;
        drop(shared);
        store.retention().release_blobs(&kept).await?;
        store.unsettled.forget(number);
        Ok(())
    }
}

impl Store {
    /// Begins a change that keeps bytes for good.
    ///
    /// # Errors
    /// Where many changes were cancelled, and what they kept cannot be let go of.
    pub async fn recording(&self) -> Result<Recording<'_>, Error> {
        if self.unsettled.count() >= UNSETTLED_MAX {
            self.sweep_unsettled().await?;
        }
        Ok(Recording {
            shared: self.retention.shared().await,
            store: self,
            number: self.unsettled.next.fetch_add(1, Ordering::Relaxed),
            kept: Vec::new(),
        })
    }

    /// Lets blobs be evicted that changes kept which were cancelled; says how many there were in the
    /// list.
    ///
    /// # Errors
    /// Where a catalog fails; the blobs stay in the list then.
    pub async fn sweep_unsettled(&self) -> Result<usize, Error> {
        let _alone = self.retention.alone().await;
        // No change is under way: those that kept these are over.
        let cancelled = self.unsettled.snapshot();
        let mut count = 0;
        for (change, blobs) in cancelled {
            self.retention.release_alone(&blobs).await?;
            self.unsettled.forget(change);
            count += blobs.len();
        }
        Ok(count)
    }
}

/// Looks at the list now and then, as long as there is a store.
pub(super) fn start(store: &Arc<Store>) {
    let weak = Arc::downgrade(store);
    store.tasks.spawn_until_stop(sweep_now_and_then(weak));
}

async fn sweep_now_and_then(store: Weak<Store>) {
    loop {
        tokio::time::sleep(SWEPT_EVERY).await;
        let Some(store) = store.upgrade() else { return };
        if store.unsettled.count() == 0 {
            continue;
        }
        match store.sweep_unsettled().await {
            Ok(0) => {}
            Ok(blobs) => info!(blobs, "Files of cancelled changes may be evicted now"),
            Err(error) => {
                warn!(%error, "Sweeping the files of cancelled changes failed; they stay until the next attempt");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::{ConfigSource, Learned, load};
    use crate::package::{Algorithm, Expected};
    use crate::task::Tasks;

    async fn open(folder: &tempfile::TempDir) -> Arc<Store> {
        let config = load(&ConfigSource::default(), &Learned::default()).unwrap();
        let tasks = Tasks::default();
        let store = Store::open(folder.path(), &config, &tasks).await.unwrap();
        // A start deletes the files that no row names. It has to be over before the test's files
        // come in.
        store.retention().settle().await.unwrap();
        store
    }

    async fn bytes(store: &Store, text: &'static str) -> Verified {
        let incoming = store.incoming(None, &Algorithm::ALL, Keeping::Published);
        let mut incoming = incoming.await.unwrap();
        incoming
            .write(Bytes::from_static(text.as_bytes()))
            .await
            .unwrap();
        incoming.verify(&Expected::none()).await.unwrap()
    }

    async fn is_kept(store: &Store, id: BlobId) -> bool {
        store.catalog().blobs().kept().await.unwrap().contains(&id)
    }

    #[tokio::test]
    async fn what_a_refused_change_kept_may_be_evicted() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let mut recording = store.recording().await.unwrap();
        let id = recording
            .keep(bytes(&store, "refused").await)
            .await
            .unwrap()
            .id();
        assert!(is_kept(&store, id).await);
        recording.release().await.unwrap();
        assert!(!is_kept(&store, id).await);
        assert_eq!(store.unsettled.count(), 0);
    }

    #[tokio::test]
    async fn what_a_cancelled_change_kept_is_known_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let mut recording = store.recording().await.unwrap();
        let id = recording
            .keep(bytes(&store, "cancelled").await)
            .await
            .unwrap()
            .id();
        drop(recording);
        assert!(is_kept(&store, id).await);
        assert_eq!(store.sweep_unsettled().await.unwrap(), 1);
        assert!(!is_kept(&store, id).await);
        assert_eq!(store.unsettled.count(), 0);
    }

    #[tokio::test]
    async fn a_sweep_waits_for_the_changes_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let mut recording = store.recording().await.unwrap();
        let id = recording
            .keep(bytes(&store, "under way").await)
            .await
            .unwrap()
            .id();
        let mut sweep = Box::pin(store.sweep_unsettled());
        assert!(sweep.as_mut().now_or_never().is_none());
        recording.settle();
        assert_eq!(sweep.await.unwrap(), 0);
        assert!(is_kept(&store, id).await);
    }

    #[tokio::test]
    async fn a_list_of_cancelled_changes_that_is_full_is_swept_before_the_next_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let cancelled = BlobId::of(b"cancelled");
        for _ in 1..UNSETTLED_MAX {
            store.unsettled.note(u64::MAX, cancelled);
        }
        store.recording().await.unwrap().settle();
        assert_eq!(store.unsettled.count(), UNSETTLED_MAX - 1);
        store.unsettled.note(u64::MAX, cancelled);
        store.recording().await.unwrap().settle();
        assert_eq!(store.unsettled.count(), 0);
    }
}
