//! Seeing to what lies on the disk: whether it is what it says, and whether anything needs it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, Store, blob, reclaim};
use crate::clock;
use crate::config;
use crate::package::BlobId;

/// What is younger may be on its way to its row.
const YOUNG: Duration = Duration::from_secs(3600);

/// What nothing needs.
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

/// What a stored file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Whole,
    /// Its bytes are not what its name says.
    Damaged,
    /// Its row is here, and its file is not.
    Gone,
}

impl Store {
    /// Reads a stored file through.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn examine(&self, id: BlobId) -> Result<Health, Error> {
        let blob = match self.look_at(id).await {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(Health::Gone),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Ok(Health::Damaged);
            }
            Err(error) => return Err(error),
        };
        match blob.digests(&self.tasks, &[]).await {
            Ok(digests) if digests.blob == id => Ok(Health::Whole),
            Ok(_) => Ok(Health::Damaged),
            // A seal that does not fit.
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                Ok(Health::Damaged)
            }
            Err(error) => Err(error),
        }
    }

    /// Lays a damaged file aside, under a name that nothing reads, so that it is a miss. Says
    /// whether what it was is published here.
    ///
    /// # Errors
    /// Where the disk or a catalog fails.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub async fn lay_aside(&self, id: BlobId) -> Result<bool, Error> {
        let _alone = self.recording.write().await;
        let is_published = self.packages.needs(id).await?;
        let (blobs, held) = (self.blobs.clone(), self.held.clone());
        let laid = self.tasks.spawn_blocking(move || {
            for path in [blob::path(&blobs, id), blob::sealed_path(&blobs, id)] {
                let aside = path.with_extension("damaged");
                match std::fs::rename(&path, &aside) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            held.forget(id);
            Ok(())
        });
        laid.await.map_err(|_| Error::Stopped)??;
        if let Some((size, was_kept)) = self.catalog.blobs().lose(id).await?
            && !was_kept
        {
            self.space.remove(size);
        }
        self.evicted();
        Ok(is_published)
    }

    /// Takes away what nothing needs, or says what that would be.
    ///
    /// # Errors
    /// Where the disk or a catalog fails.
    pub async fn collect_garbage(
        &self,
        bounds: &config::Report,
        dry_run: bool,
    ) -> Result<Waste, Error> {
        // What a bundle brings is named by no row until it is whole.
        let _importing = self.importing().await;
        let mut waste = Waste::default();
        let mut unneeded = Vec::new();
        let before = clock::unix_ms_now() - i64::try_from(YOUNG.as_millis()).unwrap_or(i64::MAX);
        for (id, size) in self.catalog.blobs().unnamed(before).await? {
            if !self.packages.needs(id).await? {
                unneeded.push(id);
                waste.unnamed += 1;
                waste.unnamed_bytes += size;
            }
        }
        if !dry_run {
            self.discard(&unneeded).await?;
        }
        let found = self.files().await?;
        let on_disk: HashSet<BlobId> = found.iter().filter_map(|file| file.id).collect();
        let mut known = HashSet::new();
        let mut after = None;
        loop {
            let page = self.catalog.blobs().after(after, 10_000).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (id, _) in page {
                known.insert(id);
                // What came since the files were listed is no loss.
                if on_disk.contains(&id) || self.look_at(id).await?.is_some() {
                    continue;
                }
                waste.gone += 1;
                if !dry_run && let Some((size, false)) = self.catalog.blobs().lose(id).await? {
                    self.space.remove(size);
                }
            }
        }
        let stray = found
            .into_iter()
            .filter(|file| file.is_old && file.id.is_none_or(|id| !known.contains(&id)));
        self.sweep(stray.collect(), dry_run, &mut waste).await?;
        self.evicted();
        waste.old_lines = self.catalog.reports().old_lines(bounds, !dry_run).await?;
        Ok(waste)
    }

    /// Takes away files that the catalog did not know, but for what is published: its files stand in
    /// no row where the catalog was begun anew.
    async fn sweep(
        &self,
        stray: Vec<Found>,
        dry_run: bool,
        waste: &mut Waste,
    ) -> Result<(), Error> {
        // Nothing is published meanwhile.
        let _alone = self.recording.write().await;
        let mut paths = Vec::new();
        for file in stray {
            let is_needed = match file.of {
                Some(id) => self.packages.needs(id).await? || self.catalog.blobs().has(id).await?,
                None => false,
            };
            if !is_needed {
                waste.stray += 1;
                waste.stray_bytes += file.size;
                paths.push(file.path);
            }
        }
        if !dry_run {
            let unlinked = self.tasks.spawn_blocking(move || reclaim::unlink(&paths));
            unlinked.await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    /// All files below the blobs' folder.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    async fn files(&self) -> Result<Vec<Found>, Error> {
        let blobs = self.blobs.clone();
        let now = clock::system_now();
        let found = self.tasks.spawn_blocking(move || {
            let mut found = Vec::new();
            for folder in std::fs::read_dir(blobs)? {
                for file in std::fs::read_dir(folder?.path())? {
                    let file = file?;
                    let metadata = file.metadata()?;
                    let path = file.path();
                    let is_blob = path.extension().is_none_or(|it| it == blob::SEALED);
                    let name = path.file_stem().and_then(|name| name.to_str());
                    let bytes = name.and_then(|name| hex::decode(name).ok());
                    let of = bytes.and_then(|bytes| BlobId::from_slice(&bytes));
                    let age = metadata
                        .modified()
                        .ok()
                        .and_then(|at| now.duration_since(at).ok());
                    found.push(Found {
                        of,
                        id: of.filter(|_| is_blob),
                        size: metadata.len(),
                        is_old: age.is_some_and(|age| age > YOUNG),
                        path,
                    });
                }
            }
            Ok::<_, std::io::Error>(found)
        });
        Ok(found.await.map_err(|_| Error::Stopped)??)
    }
}

/// A file below the blobs' folder.
struct Found {
    path: PathBuf,
    /// The blob that it is.
    id: Option<BlobId>,
    /// The blob that its name begins with, also where it was laid aside.
    of: Option<BlobId>,
    size: u64,
    is_old: bool,
}
