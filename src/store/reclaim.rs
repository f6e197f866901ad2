//! Eviction: coldest rows first, then their files. Nobody else unlinks a blob.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::RwLock;
use tracing::{debug, info, warn};

use super::catalog::Catalog;
use super::packages::Packages;
use super::space::Space;
use super::{Held, blob};
use crate::package::BlobId;
use crate::task::Tasks;

const BATCH: u32 = 64;

#[allow(
    clippy::too_many_arguments,
    reason = "it is the store's, in a task of its own"
)]
pub fn start(
    tasks: &Tasks,
    catalog: &Catalog,
    packages: &Packages,
    space: &Arc<Space>,
    held: &Held,
    blobs: &Path,
    recording: &Arc<RwLock<()>>,
    reading: &Arc<RwLock<()>>,
    evictions: &Arc<AtomicU64>,
) {
    let (catalog, space, blobs) = (catalog.clone(), Arc::clone(space), blobs.to_owned());
    let (packages, recording) = (packages.clone(), Arc::clone(recording));
    let (held, evictions) = (held.clone(), Arc::clone(evictions));
    let reading = Arc::clone(reading);
    let own = tasks.clone();
    tasks.spawn_until_stop(async move {
        // Nothing is evicted before it is sure what must not be.
        let alone = recording.write().await;
        let settled = settle(&own, &catalog, &packages, &space, &blobs).await;
        drop(alone);
        if let Err(error) = settled {
            warn!(%error, "What is published cannot be told from what is cached: nothing is evicted");
            return;
        }
        loop {
            space.crowded.notified().await;
            if let Err(error) = reclaim(&own, &catalog, &space, &held, &blobs, &reading).await {
                warn!(%error, "Eviction failed, the cache stays larger than it should");
            }
            evictions.fetch_add(1, Ordering::Release);
        }
    });
}

/// Agrees the two catalogs, between whose transactions the last process may have ended: what is
/// published or held is kept from eviction, and what was kept for a publish that never was is not.
/// Published files that no row of the cache names, as where its catalog was begun anew, get theirs.
pub async fn settle(
    tasks: &Tasks,
    catalog: &Catalog,
    packages: &Packages,
    space: &Space,
    blobs: &Path,
) -> Result<(), sqlx::Error> {
    let mut kept: HashSet<BlobId> = catalog.blobs().kept().await?.into_iter().collect();
    let mut missing = HashMap::new();
    for blob in catalog.holds().blobs().await? {
        if !kept.remove(&blob) {
            missing.insert(blob, None);
        }
    }
    let held = missing.len();
    packages
        .needed(|blob, size| {
            if !kept.remove(&blob) {
                missing.insert(blob, Some(size));
            }
        })
        .await?;
    for blob in kept {
        if let Some(size) = catalog.blobs().let_go(blob).await? {
            space.add(size);
        }
    }
    debug!(held, needed = missing.len(), "The two catalogs agree");
    let mut unknown = Vec::new();
    for (blob, size) in missing {
        match (catalog.blobs().keep_known(blob).await?, size) {
            (Some(size), _) => space.remove(size),
            (None, Some(size)) => unknown.push((blob, size)),
            (None, None) => {}
        }
    }
    for (blob, size) in here(tasks, blobs, unknown).await {
        if catalog.blobs().keep(blob, size).await? {
            space.remove(size);
        }
    }
    Ok(())
}

/// Those of the blobs of which the files are here: a shared package catalog names others too.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
async fn here(tasks: &Tasks, blobs: &Path, mut these: Vec<(BlobId, u64)>) -> Vec<(BlobId, u64)> {
    let blobs = blobs.to_owned();
    let looked = tasks.spawn_blocking(move || {
        these.retain(|(id, _)| paths_of(&blobs, *id).iter().any(|path| path.exists()));
        these
    });
    looked.await.unwrap_or_default()
}

/// Forgets blobs that nothing needs, and unlinks them; says how many bytes that were.
pub async fn discard(
    tasks: &Tasks,
    catalog: &Catalog,
    space: &Space,
    held: &Held,
    blobs: &Path,
    unneeded: &[BlobId],
) -> Result<u64, sqlx::Error> {
    let mut freed = 0;
    for chunk in unneeded.chunks(BATCH as usize) {
        let gone = catalog.blobs().forget(chunk).await?;
        let paths = gone.iter().flat_map(|(id, ..)| paths_of(blobs, *id));
        let paths: Vec<PathBuf> = paths.collect();
        let _ = tasks.spawn_blocking(move || unlink(&paths)).await;
        for (id, size, was_kept) in gone {
            held.forget(id);
            if !was_kept {
                space.remove(size);
            }
            freed += size;
        }
    }
    Ok(freed)
}

fn paths_of(blobs: &Path, id: BlobId) -> [PathBuf; 2] {
    [blob::path(blobs, id), blob::sealed_path(blobs, id)]
}

async fn reclaim(
    tasks: &Tasks,
    catalog: &Catalog,
    space: &Space,
    held: &Held,
    blobs: &Path,
    reading: &RwLock<()>,
) -> Result<(), sqlx::Error> {
    let (mut count, mut freed) = (0u64, 0u64);
    while space.surplus() > 0 {
        // Not while somebody reads all that there is.
        let _alone = reading.write().await;
        let coldest = catalog.blobs().take_coldest(BATCH, space.surplus()).await?;
        if coldest.is_empty() {
            break;
        }
        let paths: Vec<PathBuf> = coldest
            .iter()
            .flat_map(|(id, _)| paths_of(blobs, *id))
            .collect();
        let _ = tasks.spawn_blocking(move || unlink(&paths)).await;
        for (id, size) in coldest {
            held.forget(id);
            space.remove(size);
            count += 1;
            freed += size;
        }
    }
    if count > 0 {
        info!(blobs = count, bytes = freed, "Evicted the coldest blobs");
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn unlink(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, path = %path.display(), "An evicted blob's file stays");
        }
    }
}
