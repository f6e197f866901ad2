//! Digests in one pass, and with those beside SHA-256 on a thread of their own.

use divan::Bencher;
use divan::counter::BytesCount;
use larder::package::{Algorithm, Digester};

const BYTES: usize = 16 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

fn noise() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..BYTES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

#[divan::bench(args = ["sha256", "sha256 md5", "sha256 sha1", "sha256 sha512"])]
fn one_pass(bencher: Bencher<'_, '_>, digests: &str) {
    let bytes = noise();
    let others: Vec<Algorithm> = digests.split(' ').filter_map(Algorithm::parse).collect();
    bencher.counter(BytesCount::new(BYTES)).bench(|| {
        let mut digester = Digester::new(&others);
        bytes.chunks(PIECE).for_each(|piece| digester.update(piece));
        digester.finish()
    });
}

#[divan::bench]
fn sha256_and_sha512_on_two_threads(bencher: Bencher<'_, '_>) {
    let bytes = noise();
    bencher.counter(BytesCount::new(BYTES)).bench(|| {
        let mut digester = Digester::new(&[Algorithm::Sha512]);
        let mut others = digester.part().unwrap();
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                bytes.chunks(PIECE).for_each(|piece| others.update(piece));
                others
            });
            bytes.chunks(PIECE).for_each(|piece| digester.update(piece));
            digester.join(beside.join().unwrap());
            digester.finish()
        })
    });
}
