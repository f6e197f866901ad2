//! A rendered document, and a small blob's name, found in memory.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use larder::config::{ConfigSource, Learned, load};
use larder::package::BlobId;
use larder::store::rendered::{Rendered, RenderedCache};
use larder::store::{Keeping, Store};
use larder::task::Tasks;

fn source() -> ConfigSource {
    ConfigSource {
        file: "bench.toml".to_owned(),
        text: "[cache]\nrendered_disk = 0\n".to_owned(),
        environment: Vec::new(),
    }
}

#[divan::bench(threads = [1, 2])]
fn rendered_document_among_ten_thousand(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = load(&source(), &Learned::default()).unwrap();
    let (cache, key) = runtime.block_on(async {
        let cache = RenderedCache::open(folder.path(), &config).await;
        let mut key = [0; 32];
        for n in 0..10_000_u32 {
            key[..4].copy_from_slice(&n.to_le_bytes());
            let body = Bytes::from_static(b"{}");
            let rendered = Rendered::new(body, "application/json", None, None);
            cache.keep(key, Arc::new(rendered));
        }
        (cache, key)
    });
    let now = jiff::Timestamp::UNIX_EPOCH;
    bencher.bench(|| futures_executor(cache.get(divan::black_box(&key), now, async |_| {})));
}

#[divan::bench(threads = [1, 2])]
fn small_blob(bencher: Bencher<'_, '_>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = load(&source(), &Learned::default()).unwrap();
    let (store, id) = runtime.block_on(async {
        let store = Store::open(folder.path(), &config, &Tasks::default())
            .await
            .unwrap();
        let mut incoming = store.incoming(Some(3), &[], Keeping::Cached).await.unwrap();
        incoming.write(Bytes::from_static(b"abc")).await.unwrap();
        let verified = incoming
            .verify(&std::iter::empty().collect())
            .await
            .unwrap();
        verified.keep(Keeping::Cached).await.unwrap();
        let id = BlobId::of(b"abc");
        store.blob(id).await.unwrap();
        (store, id)
    });
    bencher.bench(|| futures_executor(store.blob(divan::black_box(id))).unwrap());
}

/// Polls what is ready at once, without a runtime's cost.
fn futures_executor<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match work.as_mut().poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => unreachable!("what is in memory is there at once"),
    }
}
