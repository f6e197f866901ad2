//! Failed attempts, counted by address and by who they claim to be.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

/// For how long failures are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses and names that are counted at once.
const COUNTED_MAX: u64 = 65_536;

/// Whose failures are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Whose {
    Address(IpAddr),
    /// An access key's id, a user's name: as claimed.
    Claimed(Box<str>),
}

/// The counters: a bounded number, each gone a minute after its first failure.
pub struct Throttle {
    counted: Cache<Whose, Arc<AtomicU32>>,
    failures_max: u32,
}

impl Throttle {
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self {
            counted: Cache::builder()
                .max_capacity(COUNTED_MAX)
                .time_to_live(WINDOW)
                .build(),
            failures_max,
        }
    }

    fn of(address: Option<IpAddr>, claimed: Option<&str>) -> impl Iterator<Item = Whose> {
        let claimed = claimed.map(|name| Whose::Claimed(name.chars().take(128).collect()));
        address.map(Whose::Address).into_iter().chain(claimed)
    }

    /// Whether there were too many failures to look at another attempt.
    #[must_use]
    pub fn is_full(&self, address: Option<IpAddr>, claimed: Option<&str>) -> bool {
        Self::of(address, claimed).any(|whose| {
            let counter = self.counted.get(&whose);
            counter.is_some_and(|it| it.load(Ordering::Relaxed) >= self.failures_max)
        })
    }

    /// Counts a failure.
    pub fn failed(&self, address: Option<IpAddr>, claimed: Option<&str>) {
        for whose in Self::of(address, claimed) {
            let counter = self.counted.get_with(whose, Arc::default);
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// When another attempt is looked at, at the latest.
    #[must_use]
    pub fn retry_after() -> Duration {
        WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_limited_by_address_and_by_name() {
        let throttle = Throttle::new(3);
        let (one, other) = (Some([127, 0, 0, 1].into()), Some([127, 0, 0, 2].into()));
        for _ in 0..3 {
            assert!(!throttle.is_full(one, Some("ada")));
            throttle.failed(one, Some("ada"));
        }
        assert!(throttle.is_full(one, Some("bob")), "the address");
        assert!(throttle.is_full(other, Some("ada")), "the name");
        assert!(!throttle.is_full(other, Some("bob")));
    }
}
