//! Room held back for a start on a full disk: SQLite cannot even read without some of it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tracing::{debug, warn};

use super::private;

const FILE: &str = "larder.reserve";
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;
/// Room is held back where so many times as much is free.
const FREE_TIMES: u64 = 3;

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Gives up the room where the disk is full.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn release_if_full(directory: &Path) {
    let Ok(fs) = rustix::fs::statvfs(directory) else {
        return;
    };
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    if free < RESERVE_BYTES && std::fs::remove_file(file(directory)).is_ok() {
        warn!(
            free,
            "The disk is full; Larder starts with the room that it held back for this. Make room on the disk of the data directory"
        );
    }
}

/// Holds room back, where there is enough. Blocks.
pub(super) fn hold_back(directory: &Path, free: u64) {
    let path = file(directory);
    let is_held = path.metadata().is_ok_and(|it| it.len() >= RESERVE_BYTES);
    if is_held || free < RESERVE_BYTES.saturating_mul(FREE_TIMES) {
        return;
    }
    let written = private::create(&path)
        .and_then(|mut file| io::copy(&mut io::repeat(0).take(RESERVE_BYTES), &mut file));
    if let Err(error) = written {
        debug!(%error, "No room is held back for a start on a full disk");
    }
}
