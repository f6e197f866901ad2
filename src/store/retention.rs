//! Keeps the store within its size: deletes the coldest rows first, then their files. Nobody else
//! unlinks a blob.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tracing::{debug, info, warn};

use super::Error;
use super::catalog::Catalog;
use super::files::BlobFiles;
use super::packages::Packages;
use super::space::Space;
use crate::clock;
use crate::package::{BlobId, Format};
use crate::rule::Pattern;
use crate::task::Tasks;

/// Blobs that are evicted at once.
const BATCH: u32 = 64;

/// Under which name the connections are remembered whose files are never evicted.
const RETAINED: &str = "retain";

/// Under which name it is remembered since when files are kept that no catalog names.
pub(super) const UNNEEDED: &str = "unneeded files";
/// How long they stay.
const GRACE_SECONDS: i64 = 24 * 3600;
const GRACE: Duration = Duration::from_secs(24 * 3600 + 60);

/// The fate of files that were kept for good, and that no catalog names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unneeded {
    /// At the start of a process, which may have been given another catalog.
    Waits,
    /// By the process that took the reason away.
    IsLetGo,
}

/// Decides by the two catalogs which files stay.
pub struct BlobRetention {
    files: BlobFiles,
    catalog: Catalog,
    packages: Packages,
    space: Arc<Space>,
    /// Read by those who keep bytes and record them, written by those who let go of some.
    recording: RwLock<()>,
    /// Read by those who read all that there is: nothing is evicted meanwhile.
    reading: Arc<RwLock<()>>,
    evictions: AtomicU64,
}

impl BlobRetention {
    pub(super) fn new(
        files: &BlobFiles,
        catalog: &Catalog,
        packages: &Packages,
        space: &Arc<Space>,
    ) -> Arc<Self> {
        Arc::new(Self {
            files: files.clone(),
            catalog: catalog.clone(),
            packages: packages.clone(),
            space: Arc::clone(space),
            recording: RwLock::default(),
            reading: Arc::default(),
            evictions: AtomicU64::default(),
        })
    }

    /// Settles what stays, and then evicts whenever there is too little space, until Larder stops.
    pub(super) fn start(self: &Arc<Self>, tasks: &Tasks) {
        let later = Arc::clone(self);
        tasks.spawn_until_stop(async move {
            tokio::time::sleep(GRACE).await;
            if let Err(error) = later.settle().await {
                warn!(%error, "Reading which blobs are published failed; those that nothing needs stay");
            }
        });
        let retention = Arc::clone(self);
        tasks.spawn_until_stop(async move {
            // Nothing is evicted before it is sure what must not be.
            if let Err(error) = retention.agree(Unneeded::Waits).await {
                warn!(%error, "Reading which blobs are published failed; nothing is evicted");
                return;
            }
            loop {
                retention.space.crowded.notified().await;
                if let Err(error) = retention.evict().await {
                    warn!(%error, "Eviction failed; the cache stays larger than its bound");
                }
                retention.count_eviction();
            }
        });
    }

    /// To be held from keeping bytes for good until they are recorded: nothing is let go of
    /// meanwhile.
    pub(super) async fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.recording.read().await
    }

    /// To be held by who reads all that there is: nothing is evicted meanwhile.
    pub async fn reading(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.reading).read_owned().await
    }

    /// Grows each time that something was evicted.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Acquire)
    }

    pub(super) fn count_eviction(&self) {
        self.evictions.fetch_add(1, Ordering::Release);
    }

    /// Pins and unpins packages; says which of the patterns to unpin there were.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn pin(
        &self,
        add: &[Pattern],
        remove: &[String],
        formats: &HashMap<String, Format>,
    ) -> Result<Vec<String>, Error> {
        let removed = self.packages.pins().change(add, remove).await?;
        self.recall_pins().await?;
        self.catalog.holds().write_anew(formats).await?;
        self.settle().await?;
        Ok(removed)
    }

    /// Holds what is pinned from now on. Pins that an earlier Larder kept beside the cache are carried
    /// over first: a lost cache must not lose the operator's word.
    pub(super) async fn recall_pins(&self) -> Result<(), Error> {
        let holds = self.catalog.holds();
        let earlier = holds.earlier_pins().await?;
        if !earlier.is_empty() {
            self.packages.pins().bring(&earlier).await?;
            holds.forget_earlier_pins().await?;
        }
        holds.set_pins(&self.packages.pins().all().await?);
        Ok(())
    }

    /// Never evicts what comes from these connections, from now on; of all others, what is held for
    /// another reason alone. `formats` are those of all connections.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn retain(
        &self,
        connections: BTreeSet<String>,
        formats: &HashMap<String, Format>,
    ) -> Result<(), Error> {
        let names: Vec<&str> = connections.iter().map(String::as_str).collect();
        let names = names.join(" ");
        self.catalog.holds().set_retained(connections);
        // The rows hold for the connections that were retained at the last start.
        let before = self.catalog.work().of(RETAINED).await?;
        if before.unwrap_or_default() != names {
            self.catalog.holds().write_anew(formats).await?;
            self.settle().await?;
            self.catalog.work().set(RETAINED, Some(&names)).await?;
        }
        Ok(())
    }

    /// Keeps a blob from eviction that a row holds.
    pub(super) async fn hold(&self, blob: BlobId) -> Result<(), Error> {
        if let Some(size) = self.catalog.blobs().keep_known(blob).await? {
            self.space.remove(size);
        }
        Ok(())
    }

    /// Keeps a blob from eviction that somebody found here; says whether it is still here.
    pub(super) async fn keep(&self, blob: BlobId, size: u64) -> Result<bool, Error> {
        if self.catalog.blobs().keep(blob, size).await? {
            self.space.remove(size);
        }
        // Between looking and keeping it may have been evicted; its name says so.
        Ok(!self.files.existing(vec![blob]).await?.is_empty())
    }

    /// Lets those of the blobs be evicted that nothing published needs any more.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn release_blobs(&self, blobs: &[BlobId]) -> Result<(), Error> {
        let _alone = self.alone().await;
        self.release_alone(blobs).await
    }

    /// Lets blobs be evicted that nothing needs, for a caller who holds off all changes.
    pub(super) async fn release_alone(&self, blobs: &[BlobId]) -> Result<(), Error> {
        for blob in blobs {
            if !self.packages.needs(*blob).await?
                && !self.catalog.holds().is_held(*blob).await?
                && let Some(size) = self.catalog.blobs().make_evictable(*blob).await?
            {
                self.space.add(size);
            }
        }
        Ok(())
    }

    /// Agrees the two catalogs, between whose transactions the last process may have ended: what is
    /// published or held is kept from eviction, and what was kept for a publish that never was is
    /// not. Published files that no row of the cache names, as where its catalog was begun anew, get
    /// theirs.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn settle(&self) -> Result<(), Error> {
        self.agree(Unneeded::IsLetGo).await
    }

    async fn agree(&self, unneeded: Unneeded) -> Result<(), Error> {
        let _alone = self.alone().await;
        let blobs = self.catalog.blobs();
        let mut kept: HashSet<BlobId> = blobs.kept().await?.into_iter().collect();
        let mut missing = HashMap::new();
        for blob in self.catalog.holds().blobs().await? {
            if !kept.remove(&blob) {
                missing.insert(blob, None);
            }
        }
        let held = missing.len();
        self.packages
            .releases()
            .needed(|blob, size| {
                if !kept.remove(&blob) {
                    missing.insert(blob, Some(size));
                }
            })
            .await?;
        if self.may_let_go(kept.len(), unneeded).await? {
            for blob in kept {
                if let Some(size) = blobs.make_evictable(blob).await? {
                    self.space.add(size);
                }
            }
        }
        debug!(held, needed = missing.len(), "The two catalogs agree");
        let mut unknown = HashMap::new();
        for (blob, size) in missing {
            match (blobs.keep_known(blob).await?, size) {
                (Some(size), _) => self.space.remove(size),
                (None, Some(size)) => {
                    unknown.insert(blob, size);
                }
                (None, None) => {}
            }
        }
        let here = self.files.existing(unknown.keys().copied().collect());
        let here = here.await?.len();
        // With a row, `verify` names what is not here.
        for (blob, size) in &unknown {
            if blobs.keep(*blob, *size).await? {
                self.space.remove(*size);
            }
        }
        let gone = unknown.len().saturating_sub(here);
        if gone > 0 {
            warn!(
                files = gone,
                "Published files are not in this data directory, and cannot be served until they are brought back; `larder verify` names them"
            );
        }
        Ok(())
    }

    /// The files that were kept for good and are not let go of yet, though no catalog may name them.
    pub(super) async fn waiting(&self) -> Result<HashSet<BlobId>, Error> {
        match self.catalog.work().of(UNNEEDED).await? {
            None => Ok(HashSet::new()),
            Some(_) => Ok(self.catalog.blobs().kept().await?.into_iter().collect()),
        }
    }

    /// Whether files that were kept for good, and that no catalog names any more, may be let go of. A
    /// start finds them after a publish that a crash cut off, and also where an older copy of the
    /// package catalog was brought back: then the right one still needs them.
    async fn may_let_go(&self, files: usize, unneeded: Unneeded) -> Result<bool, Error> {
        let work = self.catalog.work();
        if files == 0 {
            work.set(UNNEEDED, None).await?;
            return Ok(true);
        }
        let now = clock::unix_now();
        let since = work.of(UNNEEDED).await?;
        let since = since.and_then(|since| since.parse::<i64>().ok());
        match since.filter(|since| clock::has_come(*since, now)) {
            None if unneeded == Unneeded::IsLetGo => Ok(true),
            None => {
                warn!(
                    files,
                    "Some files were kept for packages that no catalog names. They were left by a publish that was cut off, or packages.sqlite is older than they are: they stay for a day, and may be evicted then"
                );
                work.set(UNNEEDED, Some(&now.to_string())).await?;
                Ok(false)
            }
            Some(since) if now.saturating_sub(since) < GRACE_SECONDS => Ok(false),
            Some(_) => {
                work.set(UNNEEDED, None).await?;
                Ok(true)
            }
        }
    }

    /// Forgets those of the blobs that nothing names, and their files; says how many bytes that were.
    ///
    /// # Errors
    /// Where a catalog fails.
    pub async fn discard(&self, blobs: &[BlobId]) -> Result<u64, Error> {
        // A reader of all that there is may have seen a row that needed one of them.
        let _nobody_reads = self.reading.write().await;
        let _alone = self.alone().await;
        let mut unneeded = Vec::new();
        for blob in blobs {
            if !self.packages.needs(*blob).await? {
                unneeded.push(*blob);
            }
        }
        let freed = self.discard_unneeded(&unneeded).await;
        self.count_eviction();
        freed
    }

    async fn discard_unneeded(&self, unneeded: &[BlobId]) -> Result<u64, Error> {
        let mut freed = 0;
        for chunk in unneeded.chunks(BATCH as usize) {
            let gone = self.catalog.blobs().forget(chunk).await?;
            self.files.unlink(gone.iter().map(|blob| blob.id)).await;
            for blob in gone {
                if !blob.was_kept {
                    self.space.remove(blob.size);
                }
                freed += blob.size;
            }
        }
        Ok(freed)
    }

    /// Lays a damaged file aside, under a name that nothing reads, so that it is a miss. One that
    /// can be had again is forgotten; one that is published here keeps its row, and is damaged until
    /// it is brought back. Says whether it is published.
    ///
    /// # Errors
    /// Where the disk or a catalog fails.
    pub async fn lay_aside(&self, id: BlobId) -> Result<bool, Error> {
        let _alone = self.alone().await;
        let is_published = self.packages.needs(id).await?;
        self.files.lay_aside(id).await?;
        if !is_published {
            self.forget_lost(id).await?;
        }
        self.count_eviction();
        Ok(is_published)
    }

    /// Forgets a blob whose file is gone.
    pub(super) async fn forget_lost(&self, id: BlobId) -> Result<(), Error> {
        if let Some((size, false)) = self.catalog.blobs().lose(id).await? {
            self.space.remove(size);
        }
        Ok(())
    }

    /// To be held by who lets go of blobs or files: nothing is published meanwhile.
    pub(super) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.recording.write().await
    }

    async fn evict(&self) -> Result<(), Error> {
        let (mut count, mut freed) = (0u64, 0u64);
        while self.space.surplus() > 0 {
            // Not while somebody reads all that there is.
            let _alone = self.reading.write().await;
            let surplus = self.space.surplus();
            let coldest = self.catalog.blobs().take_coldest(BATCH, surplus).await?;
            if coldest.is_empty() {
                break;
            }
            self.files.unlink(coldest.iter().map(|(id, _)| *id)).await;
            for (_, size) in coldest {
                self.space.remove(size);
                count += 1;
                freed += size;
            }
        }
        if count > 0 {
            info!(blobs = count, bytes = freed, "Evicted the coldest blobs");
        }
        Ok(())
    }
}
