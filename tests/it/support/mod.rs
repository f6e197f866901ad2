//! What tests are written with: a Larder, an upstream that misbehaves on command, packages, and
//! the real clients.

pub mod chance;
pub mod database;
pub mod disk;
pub mod larder;
pub mod npm;
pub mod nuget;
pub mod postgres;
pub mod proxy;
pub mod pypi;
pub mod tool;
pub mod upstream;

pub use chance::Chance;
pub use larder::TestLarder;
pub use upstream::{Fault, Reply, Upstream};

pub const KIB: usize = 1024;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks again and again until there is something; a test that waits in vain says for what.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Looks again and again until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(())).await;
}

use std::time::Duration;

use sha2::Digest as _;

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}

pub fn sha1(bytes: &[u8]) -> String {
    hex::encode(sha1::Sha1::digest(bytes))
}

/// `sha512-…`, as npm writes it.
pub fn integrity(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let digest = sha2::Sha512::digest(bytes);
    format!(
        "sha512-{}",
        base64::engine::general_purpose::STANDARD.encode(digest)
    )
}

/// Bytes that do not compress and are the same in every run.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
