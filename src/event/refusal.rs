//! Which refusals are told: each once in a while, and no more of them than targets can take.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Refusals that are remembered as told.
const REMEMBERED_MAX: u64 = 4096;
/// Refusals that are told within [`TOLD_AGAIN_AFTER`]; further ones are in the log alone.
const TOLD_MAX: u32 = 1000;
/// How long the same refusal is not told again.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The refusals of late.
pub struct ToldRefusals {
    told: Cache<String, ()>,
    /// When the count began, and how many were told since.
    count: Mutex<(Instant, u32)>,
}

impl Default for ToldRefusals {
    fn default() -> Self {
        Self {
            told: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(TOLD_AGAIN_AFTER)
                .build(),
            count: Mutex::new((Instant::now(), 0)),
        }
    }
}

impl ToldRefusals {
    /// Whether this one is to be told. Whoever asks tells it.
    pub fn is_to_be_told(&self, refusal: String) -> bool {
        if !self.told.entry(refusal).or_insert(()).is_fresh() {
            return false;
        }
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.0.elapsed() >= TOLD_AGAIN_AFTER {
            *count = (Instant::now(), 0);
        }
        count.1 = count.1.saturating_add(1);
        count.1 <= TOLD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_in_a_while_and_no_flood_of_them_is() {
        let refusals = ToldRefusals::default();
        assert!(refusals.is_to_be_told("a".to_owned()));
        assert!(!refusals.is_to_be_told("a".to_owned()));
        let told = (0..5 * TOLD_MAX).filter(|n| refusals.is_to_be_told(n.to_string()));
        assert_eq!(told.count(), TOLD_MAX as usize - 1);
    }
}
