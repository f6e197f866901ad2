//! Garbage: files that nothing needs, and rows without their files.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::{FoundFile, Health};
use super::{Error, Store};
use crate::clock;
use crate::config;
use crate::package::BlobId;

/// A younger file may still get its row.
const YOUNG: Duration = Duration::from_secs(3600);

/// Files and rows that nothing refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waste {
    /// Files that no row names, and their bytes.
    pub unnamed: u64,
    pub unnamed_bytes: u64,
    /// Files that the catalog does not know.
    pub stray: u64,
    pub stray_bytes: u64,
    /// Rows of the catalog whose files are gone.
    pub gone: u64,
    /// Lines of reports older than they are remembered.
    pub old_lines: u64,
}

impl Store {
    /// Reads a stored file through; `None` where it is on record no more, as one that was evicted
    /// while it was read.
    ///
    /// # Errors
    /// Where the disk or the catalog fails.
    pub async fn examine(&self, id: BlobId) -> Result<Option<Health>, Error> {
        if self.files.examine(id).await? == Health::Whole {
            return Ok(Some(Health::Whole));
        }
        // A row goes before its file, and comes behind it.
        let _nothing_is_evicted = self.retention.reading().await;
        if !self.catalog.blobs().has(id).await? {
            return Ok(None);
        }
        self.files.examine(id).await.map(Some)
    }

    /// Takes away what nothing needs, or says what that would be.
    ///
    /// # Errors
    /// Where the disk or a catalog fails.
    pub async fn collect_garbage(
        &self,
        bounds: &config::ReportSettings,
        dry_run: bool,
    ) -> Result<Waste, Error> {
        // Files of an import have no rows until the whole bundle is checked.
        let _importing = self.imports.take_turn().await;
        let mut waste = Waste::default();
        let mut unneeded = Vec::new();
        let before = clock::unix_ms_now() - i64::try_from(YOUNG.as_millis()).unwrap_or(i64::MAX);
        let waiting = self.retention.waiting().await?;
        for (id, size) in self.catalog.blobs().unnamed(before).await? {
            if !waiting.contains(&id) && !self.packages.needs(id).await? {
                unneeded.push(id);
                waste.unnamed += 1;
                waste.unnamed_bytes += size;
            }
        }
        if !dry_run {
            self.retention.discard(&unneeded).await?;
        }
        let found = self.files.list().await?;
        let on_disk: HashSet<BlobId> = found.iter().filter_map(blob_of).collect();
        let mut known = HashSet::new();
        let mut after = None;
        loop {
            let page = self.catalog.blobs().after(after, 10_000).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, _) in page {
                known.insert(id);
                // A file that came in after the listing is not missing.
                if on_disk.contains(&id) || self.files.open(id).await?.is_some() {
                    continue;
                }
                // A published file stays on record, for `verify` to name it.
                if self.packages.needs(id).await? {
                    continue;
                }
                waste.gone += 1;
                if !dry_run {
                    self.retention.forget_lost(id).await?;
                }
            }
        }
        let now = clock::system_now();
        let is_old = |file: &FoundFile| {
            let age = file.modified.and_then(|at| now.duration_since(at).ok());
            age.is_some_and(|age| age > YOUNG)
        };
        let stray = found
            .into_iter()
            .filter(|file| is_old(file) && blob_of(file).is_none_or(|id| !known.contains(&id)));
        self.sweep(stray.collect(), dry_run, &mut waste).await?;
        self.retention.count_eviction();
        waste.old_lines = self.catalog.reports().old_lines(bounds, !dry_run).await?;
        Ok(waste)
    }

    /// Takes away files that the catalog did not know, but for what is published: its files stand in
    /// no row where the catalog was begun anew.
    async fn sweep(
        &self,
        stray: Vec<FoundFile>,
        dry_run: bool,
        waste: &mut Waste,
    ) -> Result<(), Error> {
        // Nothing is published meanwhile.
        let _alone = self.retention.alone().await;
        let mut paths = Vec::new();
        for file in stray {
            let is_needed = match file.named {
                Some(id) if file.is_blob => {
                    self.packages.needs(id).await? || self.catalog.blobs().has(id).await?
                }
                // Laid aside, and all that there is of it.
                Some(id) => {
                    self.packages.needs(id).await?
                        && self.files.existing(vec![id]).await?.is_empty()
                }
                None => false,
            };
            if !is_needed {
                waste.stray += 1;
                waste.stray_bytes += file.size;
                paths.push(file.path);
            }
        }
        if !dry_run {
            self.files.unlink_paths(paths).await;
        }
        Ok(())
    }
}

/// The blob that the file is; none where it was laid aside, or is no blob at all.
fn blob_of(file: &FoundFile) -> Option<BlobId> {
    file.named.filter(|_| file.is_blob)
}
