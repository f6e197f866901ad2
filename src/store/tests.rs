//! The store in a folder of its own: no server, no upstream.

use std::collections::HashMap;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::config::{Learned, Source, load};
use crate::package::Expected;
use crate::rule::Pattern;

struct Fixture {
    store: Arc<Store>,
    folder: TempDir,
    config: config::Config,
}

impl Fixture {
    async fn open(cache: &str) -> Self {
        let source = Source {
            file: "larder.toml".to_owned(),
            text: format!("[cache]\n{cache}"),
            environment: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        let config = load(&source, &Learned::default()).unwrap();
        let tasks = Tasks::default();
        Self {
            store: Store::open(folder.path(), &config, &tasks).await.unwrap(),
            folder,
            config,
        }
    }

    async fn keep(&self, bytes: &[u8], keeping: Keeping) -> BlobId {
        let size = Some(bytes.len() as u64);
        let mut incoming = self.store.incoming(size, &[], keeping).await.unwrap();
        incoming.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        let verified = incoming.verify(&Expected::none()).await.unwrap();
        verified.keep(keeping).await.unwrap().id()
    }

    async fn has(&self, id: BlobId) -> bool {
        self.store.files().open(id).await.unwrap().is_some()
    }

    /// Waits until something was evicted.
    async fn evicted(&self) {
        while self.store.retention().evictions() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_is_kept_is_read_back_and_a_stranger_is_not_here() {
    let it = Fixture::open("").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    let blob = it.store.blob(id).await.unwrap().unwrap();
    assert_eq!(blob.read_all(it.store.tasks()).await.unwrap(), "abc");
    assert_eq!(it.store.used_bytes(), 3);
    assert!(it.store.blob(BlobId::of(b"x")).await.unwrap().is_none());
}

#[tokio::test]
async fn the_coldest_goes_and_what_is_published_stays() {
    let it = Fixture::open("max_size = \"10KiB\"\n").await;
    let published = it.keep(&[1; 8 * 1024], Keeping::Published).await;
    let first = it.keep(&[2; 8 * 1024], Keeping::Cached).await;
    let second = it.keep(&[3; 8 * 1024], Keeping::Cached).await;
    it.evicted().await;
    assert!(it.store.used_bytes() <= 10 * 1024);
    assert!(it.has(published).await);
    assert!(!(it.has(first).await && it.has(second).await));
}

#[tokio::test]
async fn what_was_kept_for_a_publish_that_never_was_can_be_evicted() {
    let it = Fixture::open("").await;
    it.keep(b"abc", Keeping::Published).await;
    assert_eq!(it.store.used_bytes(), 0);
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 3);
}

#[tokio::test]
async fn only_a_blob_that_is_here_is_kept_for_good() {
    let it = Fixture::open("").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    assert!(it.store.keep_for_good(id).await.unwrap());
    assert_eq!(it.store.used_bytes(), 0);
    let stranger = BlobId::of(b"x");
    assert!(!it.store.keep_for_good(stranger).await.unwrap());
    it.store.retention().release_blobs(&[id]).await.unwrap();
    assert_eq!(it.store.used_bytes(), 3);
}

#[tokio::test]
async fn a_pin_keeps_the_recorded_asset_out_of_what_may_be_evicted() {
    use catalog::{AssetKey, AssetRow};
    let it = Fixture::open("").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    let key = AssetKey {
        connection: "public:npmjs".into(),
        asset: crate::package::AssetId {
            package: crate::format::package("npm:left-pad").unwrap(),
            file: "-/left-pad-1.3.0.tgz".into(),
        },
    };
    let row = AssetRow {
        version: "1.3.0".to_owned(),
        blob: id,
        size: 3,
        media_type: String::new(),
        published: None,
        last_modified: None,
        first_seen: 0,
        fetch_ms: 0,
    };
    let records = it.store.records();
    assert!(records.add_asset(&key, &row).await.unwrap());
    assert!(!records.add_asset(&key, &row).await.unwrap());
    assert_eq!(it.store.used_bytes(), 3);

    let (retention, formats) = (it.store.retention(), HashMap::new());
    let pattern = Pattern::parse("npm:left-pad").unwrap();
    retention.pin(&[pattern], &[], &formats).await.unwrap();
    assert_eq!(it.store.used_bytes(), 0);
    let pins = ["npm:left-pad".to_owned()];
    let removed = retention.pin(&[], &pins, &formats).await.unwrap();
    assert_eq!(removed, pins);
    assert_eq!(it.store.used_bytes(), 3);
}

#[tokio::test]
async fn a_bundle_that_is_refused_leaves_nothing() {
    let it = Fixture::open("").await;
    let _turn = it.store.imports().take_turn().await;
    let id = it.keep(b"abc", Keeping::Staged).await;
    it.store.imports().stage(id).await.unwrap();
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 0);
    assert_eq!(it.store.imports().discard_staged().await.unwrap(), 3);
    assert!(!it.has(id).await);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
async fn a_damaged_file_is_found_and_laid_aside() {
    let it = Fixture::open("").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    let files = it.store.files();
    assert_eq!(files.examine(id).await.unwrap(), Health::Whole);
    let path = blob::path(&it.folder.path().join("blobs/sha256"), id);
    std::fs::write(&path, b"abd").unwrap();
    assert_eq!(files.examine(id).await.unwrap(), Health::Damaged);
    assert!(!it.store.retention().lay_aside(id).await.unwrap());
    assert_eq!(files.examine(id).await.unwrap(), Health::Gone);
    assert_eq!(it.store.used_bytes(), 0);
}

#[tokio::test]
async fn garbage_is_told_before_it_is_taken_away() {
    let it = Fixture::open("").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    it.store.files().unlink([id]).await;
    for dry_run in [true, false] {
        let waste = it.store.collect_garbage(&it.config.report, dry_run).await;
        assert_eq!(waste.unwrap().gone, 1);
    }
    let waste = it.store.collect_garbage(&it.config.report, true).await;
    assert_eq!(waste.unwrap(), Waste::default());
    assert_eq!(it.store.used_bytes(), 0);
}

#[tokio::test]
async fn a_directory_belongs_to_one_store_at_a_time() {
    let it = Fixture::open("").await;
    let second = Store::open(it.folder.path(), &it.config, it.store.tasks()).await;
    assert!(matches!(second, Err(Error::Held { .. })));
}
