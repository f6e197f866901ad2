//! Reads stored files through in the background, slowly, and lays aside what is damaged before
//! somebody asks for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::json;
use tracing::warn;

use super::upkeep::{Damage, Upkeep};
use super::{Reader, Snapshot};
use crate::problem::Problem;

/// Under which name it is remembered how far it has come.
const SCRUB: &str = "scrub";
/// Bytes after which it rests, unless one file has more.
const BYTES_AT_ONCE: u64 = 4 * 1024 * 1024;
/// After the start, which has enough to do.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Between two steps at least, and between a pass and the next.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PASS_PAUSE: Duration = Duration::from_secs(3600);
/// After a failure of the store.
const FAILED_PAUSE: Duration = Duration::from_secs(600);

/// How long it rests after so many bytes, to read no more than `rate` a second.
fn pause(bytes: u64, rate: u64) -> Duration {
    let seconds = bytes.checked_div(rate).unwrap_or_default();
    Duration::from_secs(seconds).max(PAUSE_MIN)
}

/// Reads on and on, until Larder stops; `current` is the configuration in force.
pub async fn scrub(reader: Weak<Reader>, current: impl Fn() -> Option<Arc<Snapshot>>) {
    let mut rest = FIRST_PAUSE;
    loop {
        tokio::time::sleep(rest).await;
        let (Some(reader), Some(snapshot)) = (reader.upgrade(), current()) else {
            return;
        };
        let rate = snapshot.config.scrub.rate;
        if rate == 0 {
            // The next configuration may have another.
            rest = PASS_PAUSE;
            continue;
        }
        rest = match step(&reader, &snapshot, rate).await {
            Ok(rest) => rest,
            Err(problem) => {
                warn!(%problem, "Reading stored files through failed; it goes on later");
                FAILED_PAUSE
            }
        };
    }
}

/// Reads the next files through, and tells of those that are damaged; says how long to rest then.
///
/// # Errors
/// Where the store fails.
pub async fn step(
    reader: &Arc<Reader>,
    snapshot: &Arc<Snapshot>,
    rate: u64,
) -> Result<Duration, Problem> {
    let upkeep = Upkeep::new(reader, snapshot);
    let step = upkeep.check_files(SCRUB, BYTES_AT_ONCE, false).await?;
    for damage in &step.damaged {
        tell(reader, snapshot, damage).await;
    }
    let rest = pause(step.bytes, rate);
    Ok(if step.is_done {
        rest.max(PASS_PAUSE)
    } else {
        rest
    })
}

/// Tells the log and the targets of a stored file that is not what its name says.
pub(super) async fn tell(reader: &Arc<Reader>, snapshot: &Snapshot, damage: &Damage) {
    let Damage {
        sha256,
        assets,
        found,
        message,
        is_repaired,
    } = damage;
    let state = if *is_repaired {
        "repaired"
    } else {
        "served to nobody"
    };
    warn!(
        blob = sha256,
        ?assets,
        found,
        "A stored file is {found}; it is {state}: {message}"
    );
    let events = reader.fetcher.store().packages().events();
    let what = format!("file/{}/{sha256}", snapshot.config.domain.name);
    let detail = json!({
        "sha256": sha256,
        "assets": assets,
        "found": found,
        "message": message,
    });
    let told = events.tell_of("Larder Stored File Damaged", &what, detail);
    if let Err(error) = told.await {
        warn!(%error, "Recording the event of a damaged file failed; no target is told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_in_a_second_than_the_rate() {
        const MIB: u64 = 1024 * 1024;
        for (bytes, rate, seconds) in [
            (0, MIB, 1),
            (MIB, MIB, 1),
            (4 * MIB, MIB, 4),
            (1024 * MIB, MIB, 1024),
            (4 * MIB, 100 * MIB, 1),
            (4 * MIB, 1, 4 * MIB),
        ] {
            assert_eq!(pause(bytes, rate).as_secs(), seconds, "{bytes} at {rate}");
        }
    }
}
