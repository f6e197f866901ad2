//! The promises of a store, each checked with plain and with sealed files, in a folder of its own,
//! without a server or an upstream.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::clock;
use crate::config::{ConfigSource, Learned, load};
use crate::package::{AssetId, Expected, Origin, PackageId, ReleaseAsset, Status};
use crate::rule::Pattern;
use catalog::{AssetKey, AssetRow};
use packages::{NewRelease, Step};

/// How the files of a store lie on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    Plain,
    Sealed,
}

/// Makes a test of each promise for each way in which files lie.
macro_rules! promises {
    ($($promise:ident,)*) => {
        mod plain {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(super::Files::Plain).await;
                }
            )*
        }

        mod sealed {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise(super::Files::Sealed).await;
                }
            )*
        }
    };
}

promises! {
    what_is_kept_is_read_back_whole_and_by_ranges,
    a_stranger_is_not_here,
    an_interrupted_arrival_leaves_nothing,
    what_a_killed_process_left_of_an_arrival_is_gone,
    a_reopened_store_has_it_all,
    the_coldest_goes_and_what_is_held_or_our_own_stays,
    what_was_kept_for_a_publish_that_never_was_can_be_evicted,
    what_no_catalog_names_at_a_start_stays_for_a_day,
    only_a_blob_that_is_here_is_kept_for_good,
    a_pin_keeps_the_recorded_asset_out_of_what_may_be_evicted,
    a_bundle_that_is_refused_leaves_nothing,
    a_damaged_file_is_found_and_laid_aside,
    a_damaged_file_of_our_own_is_told_of,
    garbage_is_told_before_it_is_taken_away,
    a_directory_belongs_to_one_store_at_a_time,
}

struct Fixture {
    store: Arc<Store>,
    directory: PathBuf,
    folder: TempDir,
    config: config::Config,
    files: Files,
}

impl Fixture {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    async fn open(files: Files, cache: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("master.key");
        std::fs::write(&key, "07".repeat(32)).unwrap();
        let encryption = match files {
            Files::Plain => String::new(),
            Files::Sealed => format!("[encryption]\nkey = {{ file = {key:?} }}\n"),
        };
        let source = ConfigSource {
            file: "larder.toml".to_owned(),
            text: format!("[cache]\n{cache}{encryption}"),
            environment: Vec::new(),
        };
        let config = load(&source, &Learned::default()).unwrap();
        Self::begin(folder, config, files).await
    }

    async fn begin(folder: TempDir, config: config::Config, files: Files) -> Self {
        let (directory, tasks) = (folder.path().join("data"), Tasks::default());
        Self {
            store: Store::open(&directory, &config, &tasks).await.unwrap(),
            directory,
            folder,
            config,
            files,
        }
    }

    /// The store as the next process finds it.
    async fn reopen(self) -> Self {
        self.store.close(Duration::from_secs(10)).await;
        assert!(self.store.tasks().stop(Duration::from_secs(10)).await);
        drop(self.store);
        Self::begin(self.folder, self.config, self.files).await
    }

    async fn incoming(&self, bytes: &[u8], keeping: Keeping) -> Incoming {
        let size = Some(bytes.len() as u64);
        let mut incoming = self.store.incoming(size, &[], keeping).await.unwrap();
        for piece in bytes.chunks(100_000) {
            incoming.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        incoming
    }

    async fn keep(&self, bytes: &[u8], keeping: Keeping) -> BlobId {
        let incoming = self.incoming(bytes, keeping).await;
        let verified = incoming.verify(&Expected::none()).await.unwrap();
        verified.keep(keeping).await.unwrap().id()
    }

    /// Keeps bytes that a package of our own has as a file.
    async fn publish(&self, bytes: &[u8]) -> BlobId {
        let blob = self.keep(bytes, Keeping::Published).await;
        let new = NewRelease {
            package: package("npm:acme"),
            version: "1.0.0".to_owned(),
            origin: Origin::Internal,
            status: Status::Published,
            published: Timestamp::UNIX_EPOCH,
            manifest: "{}".to_owned(),
            readme: None,
            description: String::new(),
            keywords: String::new(),
            dependencies: Vec::new(),
            assets: vec![ReleaseAsset {
                file: "acme-1.0.0.tgz".into(),
                blob,
                size: bytes.len() as u64,
                md5: "".into(),
                sha1: "".into(),
                sha512: "".into(),
                media_type: "".into(),
                published: Timestamp::UNIX_EPOCH,
                facts: "".into(),
                staged: false,
            }],
            tags: Vec::new(),
            is_whole: true,
        };
        let (package, steps) = (new.package.clone(), [Step::Record(Box::new(new))]);
        let packages = self.store.packages();
        packages
            .apply("team", &package, None, &steps)
            .await
            .unwrap();
        blob
    }

    /// Keeps bytes that a connection gave as a file of `npm:left-pad`.
    async fn pull(&self, bytes: &[u8]) -> BlobId {
        let blob = self.keep(bytes, Keeping::Cached).await;
        let (key, row) = left_pad(blob, bytes.len() as u64);
        let records = self.store.records();
        assert!(records.add_asset(&key, &row).await.unwrap());
        assert!(!records.add_asset(&key, &row).await.unwrap());
        blob
    }

    async fn pin(&self, pattern: &str) {
        let (retention, formats) = (self.store.retention(), HashMap::new());
        let pattern = Pattern::parse(pattern).unwrap();
        retention.pin(&[pattern], &[], &formats).await.unwrap();
    }

    async fn has(&self, id: BlobId) -> bool {
        self.store.files().open(id).await.unwrap().is_some()
    }

    /// The bytes of a blob, as the next request gets them.
    async fn read(&self, id: BlobId) -> Option<Bytes> {
        let blob = self.store.blob(id).await.unwrap()?;
        Some(blob.read_all(self.store.tasks()).await.unwrap())
    }

    fn file(&self, id: BlobId) -> PathBuf {
        let blobs = self.directory.join("blobs/sha256");
        match self.files {
            Files::Plain => blob::path(&blobs, id),
            Files::Sealed => blob::sealed_path(&blobs, id),
        }
    }

    /// Nothing came in, nothing is coming in.
    async fn assert_empty(&self, why: &str) {
        let partial = self.directory.join("partial");
        assert_eq!(std::fs::read_dir(partial).unwrap().count(), 0, "{why}");
        let files = self.store.files().list().await.unwrap();
        assert!(files.is_empty(), "{why}");
        let total = self.store.catalog().blobs().total().await.unwrap();
        assert_eq!(total, (0, 0), "{why}");
        assert_eq!(self.store.used_bytes(), 0, "{why}");
    }

    /// Waits until something was evicted.
    async fn evicted(&self) {
        while self.store.retention().evictions() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn package(name: &str) -> PackageId {
    crate::format::package(name).unwrap()
}

fn left_pad(blob: BlobId, size: u64) -> (AssetKey, AssetRow) {
    let key = AssetKey {
        connection: "public:npmjs".into(),
        asset: AssetId {
            package: package("npm:left-pad"),
            file: "-/left-pad-1.3.0.tgz".into(),
        },
    };
    let row = AssetRow {
        version: "1.3.0".to_owned(),
        blob,
        size,
        media_type: String::new(),
        published: None,
        last_modified: None,
        first_seen: 0,
        fetch_ms: 0,
    };
    (key, row)
}

/// Bytes of which no two places are alike for long.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn what_is_kept_is_read_back_whole_and_by_ranges(files: Files) {
    let it = Fixture::open(files, "").await;
    let chunk = seal::CHUNK_BYTES;
    // Around a chunk's border, beyond what is held in memory, and beyond one thread's hashing.
    for length in [
        0,
        1,
        chunk - 1,
        chunk,
        chunk + 1,
        3 * chunk + 7,
        1024 * 1024 + 5,
    ] {
        let bytes = noise(length);
        let id = it.keep(&bytes, Keeping::Cached).await;
        assert_eq!(id, BlobId::of(&bytes));
        let shared = it.store.blob(id).await.unwrap().unwrap();
        let opened = it.store.files().open(id).await.unwrap().unwrap();
        for blob in [shared, opened] {
            assert_eq!(blob.size(), length as u64);
            assert!(
                blob.read_all(it.store.tasks()).await.unwrap() == bytes,
                "{length}"
            );
            let mut reader = blob.reader();
            for at in [
                0,
                1,
                chunk - 1,
                chunk,
                length / 2,
                length.saturating_sub(1),
                length,
                length + 1,
            ] {
                for limit in [0, 1, 2, chunk, length + 1] {
                    let start = at.min(length);
                    let expected = &bytes[start..start.saturating_add(limit).min(length)];
                    let said = format!("{limit} at {at} of {length}");
                    let read = blob.read_at(at as u64, limit).unwrap();
                    assert!(read == expected, "{said}");
                    reader.seek(SeekFrom::Start(at as u64)).unwrap();
                    let mut read = Vec::new();
                    let mut part = reader.by_ref().take(limit as u64);
                    part.read_to_end(&mut read).unwrap();
                    assert!(read == expected, "{said} by its reader");
                    let Some(pieces) = blob.pieces() else {
                        continue;
                    };
                    let (mut read, tasks) = (Vec::new(), it.store.tasks());
                    while read.len() < expected.len() {
                        let left = (expected.len() - read.len()) as u64;
                        let from = (at + read.len()) as u64;
                        read.extend(pieces.read(from, left, tasks).await.unwrap());
                    }
                    assert!(read == expected, "{said} by its pieces");
                }
            }
        }
    }
}

async fn a_stranger_is_not_here(files: Files) {
    let it = Fixture::open(files, "").await;
    it.keep(b"abc", Keeping::Cached).await;
    assert_eq!(it.store.used_bytes(), 3);
    assert_eq!(it.read(BlobId::of(b"x")).await, None);
}

async fn an_interrupted_arrival_leaves_nothing(files: Files) {
    let it = Fixture::open(files, "").await;
    for keeping in [Keeping::Cached, Keeping::Published, Keeping::Staged] {
        let start = || async {
            let mut incoming = it.store.incoming(Some(6), &[], keeping).await.unwrap();
            incoming.write(Bytes::from_static(b"abc")).await.unwrap();
            incoming
        };
        drop(start().await);
        it.assert_empty("the client hung up").await;

        let cut = start().await.verify(&Expected::none()).await;
        assert!(cut.err().unwrap().is_unverified());
        it.assert_empty("less came than was promised").await;

        let mut more = start().await;
        let taken = more.write(Bytes::from_static(b"defg")).await;
        assert!(taken.err().unwrap().is_unverified());
        drop(more);
        it.assert_empty("more came than was promised").await;

        let mut promise = Expected::none();
        let other = BlobId::of(b"others").to_hex();
        promise.push(Digest::from_hex(Algorithm::Sha256, &other).unwrap());
        let other = it.incoming(b"abcdef", keeping).await.verify(&promise).await;
        assert!(other.err().unwrap().is_unverified());
        it.assert_empty("other bytes came than were promised").await;

        let whole = it.incoming(b"abcdef", keeping).await;
        drop(whole.verify(&Expected::none()).await.unwrap());
        it.assert_empty("nobody kept what came").await;
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
async fn what_a_killed_process_left_of_an_arrival_is_gone(files: Files) {
    let it = Fixture::open(files, "").await;
    std::fs::write(it.directory.join("partial/0"), b"abc").unwrap();
    it.reopen()
        .await
        .assert_empty("it was begun by another process")
        .await;
}

async fn a_reopened_store_has_it_all(files: Files) {
    let it = Fixture::open(files, "").await;
    let (large, small, own) = (noise(200_000), noise(10), noise(100_000));
    let pulled = it.pull(&large).await;
    let cached = it.keep(&small, Keeping::Cached).await;
    let published = it.publish(&own).await;
    let used = 200_010;
    // The room that an arrival had asked for is given back by its own thread.
    let settled = async {
        while it.store.used_bytes() != used {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
    assert!(settled.is_ok(), "{}", it.store.used_bytes());

    let it = it.reopen().await;
    assert_eq!(it.store.used_bytes(), used);
    for (id, bytes) in [(pulled, large), (cached, small), (published, own)] {
        assert!(it.read(id).await.unwrap() == bytes);
        assert_eq!(it.store.files().examine(id).await.unwrap(), Health::Whole);
    }
    let (key, _) = left_pad(pulled, 0);
    let row = it.store.catalog().assets().find(&key).await.unwrap();
    assert_eq!(row.unwrap().blob, pulled);
    let needed = it.store.packages().needs(published).await;
    assert!(needed.unwrap());
}

async fn the_coldest_goes_and_what_is_held_or_our_own_stays(files: Files) {
    let it = Fixture::open(files, "max_size = \"10KiB\"\n").await;
    let bytes = |of: u8| vec![of; 8 * 1024];
    let own = it.publish(&bytes(1)).await;
    it.pin("npm:left-pad").await;
    let pinned = it.pull(&bytes(2)).await;
    let _turn = it.store.imports().take_turn().await;
    let staged = it.keep(&bytes(3), Keeping::Staged).await;
    it.store.imports().stage(staged).await.unwrap();
    let for_good = it.keep(&bytes(4), Keeping::Cached).await;
    assert!(it.store.keep_for_good(for_good).await.unwrap());
    assert_eq!(it.store.retention().evictions(), 0);

    let first = it.keep(&bytes(5), Keeping::Cached).await;
    // Uses are told apart by milliseconds.
    let kept = clock::unix_ms_now();
    while clock::unix_ms_now() == kept {
        std::hint::spin_loop();
    }
    let second = it.keep(&bytes(6), Keeping::Cached).await;
    it.evicted().await;
    assert!(it.store.used_bytes() <= 10 * 1024);
    for (id, of) in [(own, 1), (pinned, 2), (staged, 3), (for_good, 4)] {
        assert!(it.read(id).await.unwrap() == bytes(of), "{of}");
    }
    assert!(!(it.has(first).await && it.has(second).await));
    assert_eq!(it.read(first).await, None);
}

async fn what_was_kept_for_a_publish_that_never_was_can_be_evicted(files: Files) {
    let it = Fixture::open(files, "").await;
    it.keep(b"abc", Keeping::Published).await;
    assert_eq!(it.store.used_bytes(), 0);
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 3);
}

async fn what_no_catalog_names_at_a_start_stays_for_a_day(files: Files) {
    let it = Fixture::open(files, "").await;
    // The package catalog is an older copy that was brought back.
    let id = it.keep(b"abc", Keeping::Published).await;
    let it = it.reopen().await;
    let work = it.store.catalog().work();
    while work.of(retention::UNNEEDED).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 0);
    let waste = it.store.collect_garbage(&it.config.report, false).await;
    assert_eq!(waste.unwrap(), Waste::default());
    assert!(it.has(id).await);
    let yesterday = (clock::unix_now() - 25 * 3600).to_string();
    work.set(retention::UNNEEDED, Some(&yesterday))
        .await
        .unwrap();
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 3);
}

async fn only_a_blob_that_is_here_is_kept_for_good(files: Files) {
    let it = Fixture::open(files, "").await;
    let id = it.keep(b"abc", Keeping::Cached).await;
    assert!(it.store.keep_for_good(id).await.unwrap());
    assert_eq!(it.store.used_bytes(), 0);
    let stranger = BlobId::of(b"x");
    assert!(!it.store.keep_for_good(stranger).await.unwrap());
    it.store.retention().release_blobs(&[id]).await.unwrap();
    assert_eq!(it.store.used_bytes(), 3);
}

async fn a_pin_keeps_the_recorded_asset_out_of_what_may_be_evicted(files: Files) {
    let it = Fixture::open(files, "").await;
    it.pull(b"abc").await;
    assert_eq!(it.store.used_bytes(), 3);
    it.pin("npm:left-pad").await;
    assert_eq!(it.store.used_bytes(), 0);
    let (retention, pins) = (it.store.retention(), ["npm:left-pad".to_owned()]);
    let removed = retention.pin(&[], &pins, &HashMap::new()).await.unwrap();
    assert_eq!(removed, pins);
    assert_eq!(it.store.used_bytes(), 3);
}

async fn a_bundle_that_is_refused_leaves_nothing(files: Files) {
    let it = Fixture::open(files, "").await;
    let _turn = it.store.imports().take_turn().await;
    let id = it.keep(b"abc", Keeping::Staged).await;
    it.store.imports().stage(id).await.unwrap();
    it.store.retention().settle().await.unwrap();
    assert_eq!(it.store.used_bytes(), 0);
    assert_eq!(it.store.imports().discard_staged().await.unwrap(), 3);
    assert!(!it.has(id).await);
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
async fn a_damaged_file_is_found_and_laid_aside(files: Files) {
    type Damage = fn(&mut Vec<u8>);
    let it = Fixture::open(files, "").await;
    let other = it.keep(&noise(150_000), Keeping::Cached).await;
    let other = std::fs::read(it.file(other)).unwrap();
    let used = it.store.used_bytes();
    let damages: [(&str, Damage); 7] = [
        ("the first bit", |bytes| bytes[0] ^= 1),
        ("a bit in the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("the last bit", |bytes| *bytes.last_mut().unwrap() ^= 0x80),
        ("cut by a byte", |bytes| bytes.truncate(bytes.len() - 1)),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("a byte more", |bytes| bytes.push(0)),
    ];
    let exchanged: (&str, Option<Damage>) = ("another's file", None);
    let damages = damages.map(|(what, damage)| (what, Some(damage)));
    for length in [3, 100_000] {
        for (what, damage) in damages.into_iter().chain([exchanged]) {
            let id = it.keep(&noise(length), Keeping::Cached).await;
            assert_eq!(it.store.files().examine(id).await.unwrap(), Health::Whole);
            assert!(it.read(id).await.is_some());
            let mut bytes = std::fs::read(it.file(id)).unwrap();
            match damage {
                Some(damage) => damage(&mut bytes),
                None => bytes.clone_from(&other),
            }
            std::fs::write(it.file(id), &bytes).unwrap();
            let health = it.store.files().examine(id).await.unwrap();
            assert_eq!(health, Health::Damaged, "{what} of {length}");
            assert!(!it.store.retention().lay_aside(id).await.unwrap());
            assert!(!it.has(id).await, "{what} of {length}");
            let health = it.store.files().examine(id).await.unwrap();
            assert_eq!(health, Health::Damaged, "{what} of {length}");
            assert_eq!(it.read(id).await, None, "{what} of {length}");
            assert_eq!(it.store.used_bytes(), used, "{what} of {length}");
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
async fn a_damaged_file_of_our_own_is_told_of(files: Files) {
    let it = Fixture::open(files, "").await;
    let id = it.publish(b"abc").await;
    std::fs::write(it.file(id), b"abd").unwrap();
    assert_eq!(it.store.files().examine(id).await.unwrap(), Health::Damaged);
    assert!(it.store.retention().lay_aside(id).await.unwrap());
    assert_eq!(it.read(id).await, None);
}

async fn garbage_is_told_before_it_is_taken_away(files: Files) {
    let it = Fixture::open(files, "").await;
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

async fn a_directory_belongs_to_one_store_at_a_time(files: Files) {
    let it = Fixture::open(files, "").await;
    let second = Store::open(&it.directory, &it.config, it.store.tasks()).await;
    assert!(matches!(second, Err(Error::Held { .. })));
}
