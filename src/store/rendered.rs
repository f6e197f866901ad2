//! Rendered documents: decoded in memory (moka), and beneath it on disk (foyer), so that a
//! restart is warm. Named by what decided their bytes, so that nothing ever has to be forgotten.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use foyer::{
    BlockEngineConfig, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    PsyncIoEngineConfig,
};
use jiff::Timestamp;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;

use crate::config;

/// The hash of all that decided the bytes.
pub type RenderKey = [u8; 32];

/// A document ready to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rendered {
    pub body: Bytes,
    pub content_type: String,
    /// Strong, with its quotes: of the bytes sent.
    pub etag: String,
    /// The content coding of `body`.
    pub encoding: Option<String>,
    /// When a rule's answer may change; seconds since 1970.
    pub valid_until: Option<i64>,
    /// The notice to clients about the versions that rules hid in it.
    pub notice: Option<String>,
    /// The addresses of Larder's own making in it, and what they stand for.
    pub aliases: Vec<KeptAlias>,
}

/// An address in a document, with the connection whose document it is. The catalog knows it too, and
/// may be lost, or begun anew, while the rendering is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAlias {
    pub connection: String,
    pub path: String,
    pub target: String,
}

impl Rendered {
    #[must_use]
    pub fn new(
        body: Bytes,
        content_type: &str,
        encoding: Option<&str>,
        valid_until: Option<Timestamp>,
    ) -> Self {
        let hash = hex::encode(Sha256::digest(&body));
        Self {
            etag: format!("\"{}\"", hash.get(..32).unwrap_or_default()),
            body,
            content_type: content_type.to_owned(),
            encoding: encoding.map(str::to_owned),
            valid_until: valid_until.map(Timestamp::as_second),
            notice: None,
            aliases: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_notice(self, notice: Option<String>) -> Self {
        Self { notice, ..self }
    }

    #[must_use]
    pub fn with_aliases(self, aliases: Vec<KeptAlias>) -> Self {
        Self { aliases, ..self }
    }

    fn weight(&self) -> u32 {
        let alias = |it: &KeptAlias| it.connection.len() + it.path.len() + it.target.len() + 100;
        let aliases: usize = self.aliases.iter().map(alias).sum();
        u32::try_from(self.body.len().saturating_add(aliases + 300)).unwrap_or(u32::MAX)
    }
}

/// Both tiers.
pub struct RenderedCache {
    memory: Cache<RenderKey, Arc<Rendered>>,
    /// A rendering that is larger than the whole tier is not put in it.
    memory_bytes: u64,
    disk: Option<HybridCache<Vec<u8>, Rendered>>,
}

/// Takes the disk tier away.
///
/// # Errors
/// Where the disk fails.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory.join(FOLDER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the disk tier lies.
const FOLDER: &str = "rendered";

const MIB: usize = 1024 * 1024;

/// Smaller renderings wait in the disk tier's own memory until there is time to write them.
const BUFFERED_BYTES_MAX: usize = 64 * 1024;
/// Larger renderings are not put in the disk tier: its buffers would have to be larger than that, and
/// stay in memory.
const ON_DISK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Renderings on their way to the disk tier go through buffers of this size, all of them together.
const WRITTEN_AT_ONCE_BYTES: usize = 4 * MIB;

/// The disk tier is written in blocks. With fewer than a handful it waits for a free one for ever, also
/// when Larder ends.
const BLOCKS_MIN: usize = 8;
const BLOCK_BYTES_MAX: usize = 16 * MIB;
/// A smaller block holds too few documents to be of use.
const BLOCK_BYTES_MIN: usize = 256 * 1024;
/// A block's size is a multiple of this.
const PAGE_BYTES: usize = 4096;

/// The size of the disk tier's blocks; `None` where there is no room for enough of them.
fn block_bytes(capacity: usize) -> Option<usize> {
    let bytes = (capacity / BLOCKS_MIN).min(BLOCK_BYTES_MAX) / PAGE_BYTES * PAGE_BYTES;
    (bytes >= BLOCK_BYTES_MIN).then_some(bytes)
}

impl RenderedCache {
    /// Opens the cache; without its disk tier where that cannot be had.
    pub async fn open(directory: &Path, config: &config::Config) -> Self {
        let is_sealed = config.encryption.is_some();
        let config = &config.cache;
        let memory = in_memory(config.rendered_memory);
        let capacity = usize::try_from(config.rendered_disk).unwrap_or(usize::MAX);
        let disk = match block_bytes(capacity) {
            _ if is_sealed => {
                // Renderings of sealed blobs would lie on the disk unencrypted.
                if let Err(error) = remove(directory) {
                    warn!(%error, "Deleting old rendered documents failed; they stay on the disk");
                }
                None
            }
            None => None,
            Some(block_bytes) => {
                let opened = open_disk(&directory.join(FOLDER), capacity, block_bytes).await;
                if let Err(error) = &opened {
                    warn!(
                        error,
                        "Rendered documents cannot be stored on disk; they are kept in memory alone"
                    );
                }
                opened.ok()
            }
        };
        Self {
            memory,
            memory_bytes: config.rendered_memory,
            disk,
        }
    }

    /// The rendering, where it is here and holds. One that came from the disk is shown to `recalled`
    /// first.
    pub async fn get(
        &self,
        key: &RenderKey,
        now: Timestamp,
        recalled: impl AsyncFnOnce(&Rendered),
    ) -> Option<Arc<Rendered>> {
        let valid = |rendered: &Rendered| {
            rendered
                .valid_until
                .is_none_or(|until| now.as_second() < until)
        };
        if let Some(rendered) = self.memory.get(key) {
            return valid(&rendered).then_some(rendered);
        }
        let entry = self.disk.as_ref()?.get(&key.to_vec()).await.ok()??;
        let rendered = Arc::new(entry.value().clone());
        if !valid(&rendered) {
            return None;
        }
        recalled(&rendered).await;
        self.remember(*key, &rendered);
        Some(rendered)
    }

    pub fn keep(&self, key: RenderKey, rendered: Arc<Rendered>) {
        if let Some(disk) = &self.disk
            && rendered.body.len() <= ON_DISK_BYTES_MAX
        {
            let (key, copy) = (key.to_vec(), rendered.as_ref().clone());
            if rendered.body.len() < BUFFERED_BYTES_MAX {
                disk.insert(key, copy);
            } else {
                // The tier's own memory would hold a large one however little it may hold.
                disk.storage_writer(key).force().insert(copy);
            }
        }
        self.remember(key, &rendered);
    }

    fn remember(&self, key: RenderKey, rendered: &Arc<Rendered>) {
        if u64::from(rendered.weight()) <= self.memory_bytes {
            self.memory.insert(key, Arc::clone(rendered));
        }
    }

    /// Lets the memory's tier drop at once what it does not keep.
    pub fn settle(&self) {
        self.memory.run_pending_tasks();
    }

    /// Writes what is still in flight to disk.
    pub async fn close(&self) {
        if let Some(disk) = &self.disk
            && let Err(error) = disk.close().await
        {
            warn!(%error, "Writing rendered documents to disk failed; they are rendered again when needed");
        }
    }
}

fn in_memory(bytes_max: u64) -> Cache<RenderKey, Arc<Rendered>> {
    Cache::builder()
        .max_capacity(bytes_max)
        .weigher(|_: &RenderKey, rendered: &Arc<Rendered>| rendered.weight())
        .build()
}

async fn open_disk(
    directory: &Path,
    capacity: usize,
    block_bytes: usize,
) -> Result<HybridCache<Vec<u8>, Rendered>, String> {
    super::private::folder(directory).map_err(|error| error.to_string())?;
    let device = FsDeviceBuilder::new(directory)
        .with_capacity(capacity)
        .build()
        .map_err(|error| error.to_string())?;
    HybridCacheBuilder::new()
        .with_name("rendered")
        // moka holds what is hot; this tier's own memory is a buffer on the way to disk.
        .memory(MIB)
        .with_weighter(|_: &Vec<u8>, rendered: &Rendered| rendered.weight() as usize)
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(
            BlockEngineConfig::new(device)
                .with_block_size(block_bytes)
                .with_buffer_pool_size(WRITTEN_AT_ONCE_BYTES),
        )
        .build()
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rendered(number: u8, size: usize) -> Rendered {
        Rendered::new(vec![number; size].into(), "text/plain", None, None)
    }

    #[tokio::test]
    async fn so_many_bytes_of_renderings_are_in_memory() {
        let one = u64::from(rendered(0, 500).weight());
        let cache = RenderedCache {
            memory: in_memory(4 * one),
            memory_bytes: 4 * one,
            disk: None,
        };
        for number in 0..10 {
            cache.keep([number; 32], Arc::new(rendered(number, 500)));
        }
        cache.keep([10; 32], Arc::new(rendered(10, 5000)));
        cache.settle();
        let mut there = 0;
        for number in 0..11 {
            let key = [number; 32];
            let kept = cache.get(&key, Timestamp::UNIX_EPOCH, async |_| {});
            there += usize::from(kept.await.is_some());
        }
        assert_eq!(there, 4);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_many_bytes_of_renderings_are_on_disk_and_the_oldest_go() {
        let folder = tempfile::TempDir::new().unwrap();
        let open = async || open_disk(folder.path(), 4 * MIB, MIB / 2).await.unwrap();
        let disk = open().await;
        let size = 200 * 1024;
        for number in 0..60u8 {
            let writer = disk.storage_writer(vec![number; 32]).force();
            writer.insert(rendered(number, size));
            // Each waits for a block of its own; none is dropped because many come at once.
            disk.storage().wait().await;
        }
        disk.close().await.unwrap();
        drop(disk);
        let disk = open().await;
        let mut there = Vec::new();
        for number in 0..60u8 {
            if disk.get(&vec![number; 32]).await.unwrap().is_some() {
                there.push(number);
            }
        }
        assert!(there.len() * size <= 4 * MIB, "{there:?}");
        assert!(!there.is_empty() && there[0] > 30, "{there:?}");
        disk.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn renderings_too_large_for_the_disk_tier_are_in_memory_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let open = async || open_disk(folder.path(), 64 * MIB, 8 * MIB).await.unwrap();
        let cache = RenderedCache {
            memory: Cache::new(8),
            memory_bytes: u64::MAX,
            disk: Some(open().await),
        };
        let sizes = [100, BUFFERED_BYTES_MAX, ON_DISK_BYTES_MAX + 1];
        for (number, size) in (0u8..).zip(sizes) {
            let body = vec![number; size].into();
            let rendered = Rendered::new(body, "text/plain", None, None);
            cache.keep([number; 32], Arc::new(rendered));
            let kept = cache
                .get(&[number; 32], Timestamp::UNIX_EPOCH, async |_| {})
                .await;
            assert_eq!(kept.unwrap().body.len(), size);
        }
        cache.close().await;
        drop(cache);
        let disk = open().await;
        for (number, is_on_disk) in [(0u8, true), (1, true), (2, false)] {
            let found = disk.get(&vec![number; 32]).await.unwrap();
            assert_eq!(found.is_some(), is_on_disk, "{number}");
        }
        disk.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_tier_of_any_size_comes_to_an_end() {
        assert_eq!(block_bytes(0), None);
        assert_eq!(block_bytes(MIB), None);
        assert_eq!(block_bytes(256 * MIB), Some(BLOCK_BYTES_MAX));
        for mib in [2, 4, 17] {
            let folder = tempfile::TempDir::new().unwrap();
            let capacity = mib * MIB + 1;
            let bytes = block_bytes(capacity).unwrap();
            let disk = open_disk(folder.path(), capacity, bytes).await.unwrap();
            let closed = tokio::time::timeout(Duration::from_secs(20), disk.close());
            closed.await.expect("it ends").unwrap();
        }
    }
}
