//! Eviction: coldest rows first, then their files. Nobody else unlinks a blob.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::RwLock;
use tracing::{info, warn};

use super::catalog::Catalog;
use super::packages::Packages;
use super::space::Space;
use super::{Held, blob};
use crate::package::BlobId;
use crate::task::Tasks;

const BATCH: u32 = 64;

pub fn start(
    tasks: &Tasks,
    catalog: &Catalog,
    packages: &Packages,
    space: &Arc<Space>,
    held: &Held,
    blobs: &Path,
    recording: &Arc<RwLock<()>>,
) {
    let (catalog, space, blobs) = (catalog.clone(), Arc::clone(space), blobs.to_owned());
    let (packages, recording) = (packages.clone(), Arc::clone(recording));
    let held = held.clone();
    let own = tasks.clone();
    tasks.spawn_until_stop(async move {
        // Nothing is evicted before it is sure what must not be.
        let alone = recording.write().await;
        let settled = settle(&catalog, &packages, &space).await;
        drop(alone);
        if let Err(error) = settled {
            warn!(%error, "What is published cannot be told from what is cached: nothing is evicted");
            return;
        }
        loop {
            space.crowded.notified().await;
            if let Err(error) = reclaim(&own, &catalog, &space, &held, &blobs).await {
                warn!(%error, "Eviction failed, the cache stays larger than it should");
            }
        }
    });
}

/// Agrees the two catalogs, between whose transactions the last process may have ended: what is
/// published is kept from eviction, and what was kept for a publish that never was is not.
async fn settle(catalog: &Catalog, packages: &Packages, space: &Space) -> Result<(), sqlx::Error> {
    let mut kept: HashSet<BlobId> = catalog.kept_blobs().await?.into_iter().collect();
    let mut missing = Vec::new();
    packages
        .needed(|blob| {
            if !kept.remove(&blob) {
                missing.push(blob);
            }
        })
        .await?;
    for blob in kept {
        if let Some(size) = catalog.let_go(blob).await? {
            space.add(size);
        }
    }
    for blob in missing {
        // Of a blob without a row nothing is evicted.
        if let Some(size) = catalog.keep_known(blob).await? {
            space.remove(size);
        }
    }
    Ok(())
}

async fn reclaim(
    tasks: &Tasks,
    catalog: &Catalog,
    space: &Space,
    held: &Held,
    blobs: &Path,
) -> Result<(), sqlx::Error> {
    let (mut count, mut freed) = (0u64, 0u64);
    while space.surplus() > 0 {
        let coldest = catalog.take_coldest(BATCH, space.surplus()).await?;
        if coldest.is_empty() {
            break;
        }
        let paths: Vec<PathBuf> = coldest
            .iter()
            .flat_map(|(id, _)| [blob::path(blobs, *id), blob::sealed_path(blobs, *id)])
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
fn unlink(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, path = %path.display(), "An evicted blob's file stays");
        }
    }
}
