//! Eviction: coldest rows first, then their files. Nobody else unlinks a blob.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::catalog::Catalog;
use super::space::Space;
use super::{Held, blob};
use crate::task::Tasks;

const BATCH: u32 = 64;

pub fn start(tasks: &Tasks, catalog: &Catalog, space: &Arc<Space>, held: &Held, blobs: &Path) {
    let (catalog, space, blobs) = (catalog.clone(), Arc::clone(space), blobs.to_owned());
    let held = held.clone();
    let own = tasks.clone();
    tasks.spawn_until_stop(async move {
        loop {
            space.crowded.notified().await;
            if let Err(error) = reclaim(&own, &catalog, &space, &held, &blobs).await {
                warn!(%error, "Eviction failed, the cache stays larger than it should");
            }
        }
    });
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
            .map(|(id, _)| blob::path(blobs, *id))
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
