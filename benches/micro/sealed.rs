//! What sealing blobs on the disk costs: taking one in, and reading it in pieces as a server does,
//! beside the same with blobs that lie plain.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use larder::config::{ConfigSource, Learned, load};
use larder::store::{Blob, Keeping, Store};
use larder::task::Tasks;
use tokio::runtime::Runtime;

const SIZE: usize = 32 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// How blobs lie.
const WAYS: [&str; 2] = ["plain", "sealed"];

#[expect(clippy::disallowed_methods, reason = "the key is this bench's own")]
fn store(runtime: &Runtime, folder: &std::path::Path, way: &str, tasks: &Tasks) -> Arc<Store> {
    let file = folder.join("key");
    std::fs::write(&file, "07".repeat(32)).unwrap();
    let text = format!("[encryption]\nkey = {{ file = \"{}\" }}\n", file.display());
    let source = ConfigSource {
        file: "bench.toml".to_owned(),
        text: if way == "sealed" { text } else { String::new() },
        environment: Vec::new(),
    };
    let config = load(&source, &Learned::default()).unwrap();
    runtime
        .block_on(Store::open(&folder.join("data"), &config, tasks))
        .unwrap()
}

async fn take_in(store: &Store) -> Blob {
    let mut incoming = store
        .incoming(Some(SIZE as u64), &[], Keeping::Cached)
        .await
        .unwrap();
    for number in 0..SIZE / PIECE {
        let piece = Bytes::from(vec![number as u8; PIECE]);
        incoming.write(piece).await.unwrap();
    }
    let verified = incoming.verify(&std::iter::empty().collect()).await;
    verified.unwrap().keep(Keeping::Cached).await.unwrap()
}

#[divan::bench(args = WAYS)]
fn blob_taken_in(bencher: Bencher<'_, '_>, way: &str) {
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let (tasks, folder) = (Tasks::default(), tempfile::tempdir().unwrap());
    drop(entered);
    let store = store(&runtime, folder.path(), way, &tasks);
    bencher
        .counter(BytesCount::new(SIZE))
        .bench(|| runtime.block_on(take_in(&store)));
}

#[divan::bench(args = WAYS)]
fn blob_read_in_pieces(bencher: Bencher<'_, '_>, way: &str) {
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let (tasks, folder) = (Tasks::default(), tempfile::tempdir().unwrap());
    drop(entered);
    let store = store(&runtime, folder.path(), way, &tasks);
    let blob = runtime.block_on(take_in(&store));
    bencher.counter(BytesCount::new(SIZE)).bench(|| {
        runtime.block_on(async {
            let (pieces, mut at) = (blob.pieces().unwrap(), 0);
            while at < SIZE as u64 {
                let piece = pieces.read(at, SIZE as u64 - at, &tasks).await.unwrap();
                at += divan::black_box(piece).len() as u64;
            }
        });
    });
}
