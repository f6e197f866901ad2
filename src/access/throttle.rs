//! Guesses, counted by address. What is right is let in without asking here; a wrong credential
//! counts once, however often its client sends it.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

/// For how long guesses are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted at once.
const COUNTED_MAX: u64 = 65_536;
/// Wrong credentials of one address that are known again.
const KNOWN_MAX: usize = 32;

/// Whether an attempt counts, or was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Counted,
    TooMany,
}

/// The different wrong credentials of one address.
#[derive(Default)]
struct Guesses {
    count: u32,
    /// Hashes of the latest.
    known: VecDeque<u64>,
}

/// The counters: a bounded number, each gone a minute after its first guess.
pub struct GuessThrottle {
    counted: Cache<IpAddr, Arc<Mutex<Guesses>>>,
    /// Hashes with a key of this process, so that they tell nobody what was sent.
    hasher: RandomState,
    failures_max: u32,
}

impl GuessThrottle {
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self {
            counted: Cache::builder()
                .max_capacity(COUNTED_MAX)
                .time_to_live(WINDOW)
                .build(),
            hasher: RandomState::new(),
            failures_max,
        }
    }

    /// Counts a wrong credential, unless it is one that was counted before.
    pub fn failed(&self, address: IpAddr, credential: &[u8]) -> Attempt {
        let hash = self.hasher.hash_one(credential);
        let guesses = self.counted.get_with(network_of(address), Arc::default);
        let mut guesses = guesses.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.known.contains(&hash) {
            return Attempt::Counted;
        }
        if guesses.count >= self.failures_max {
            return Attempt::TooMany;
        }
        guesses.count += 1;
        if guesses.known.len() >= KNOWN_MAX {
            guesses.known.pop_front();
        }
        guesses.known.push_back(hash);
        Attempt::Counted
    }

    /// When another attempt is looked at, at the latest.
    #[must_use]
    pub fn retry_after() -> Duration {
        WINDOW
    }
}

/// One host of IPv6 has all addresses of a network (RFC 6177).
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_wrong_credentials_of_one_address_are_limited_and_one_sent_often_is_one() {
        let throttle = GuessThrottle::new(3);
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        for _ in 0..40 {
            assert_eq!(throttle.failed(one, b"a"), Attempt::Counted);
        }
        assert_eq!(throttle.failed(one, b"b"), Attempt::Counted);
        assert_eq!(throttle.failed(one, b"c"), Attempt::Counted);
        assert_eq!(throttle.failed(one, b"d"), Attempt::TooMany);
        assert_eq!(throttle.failed(one, b"a"), Attempt::Counted);
        assert_eq!(throttle.failed(other, b"d"), Attempt::Counted);
    }

    #[test]
    fn what_is_remembered_of_an_address_is_bounded() {
        let throttle = GuessThrottle::new(u32::MAX);
        let address = [192, 0, 2, 1].into();
        for n in 0..10_000_u32 {
            throttle.failed(address, &n.to_be_bytes());
        }
        let guesses = throttle.counted.get(&address).unwrap();
        let guesses = guesses.lock().unwrap();
        assert_eq!((guesses.count, guesses.known.len()), (10_000, KNOWN_MAX));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let throttle = GuessThrottle::new(1);
        throttle.failed("2001:db8::1".parse().unwrap(), b"a");
        let next = throttle.failed("2001:db8::2".parse().unwrap(), b"b");
        assert_eq!(next, Attempt::TooMany);
        let far = throttle.failed("2001:db8:0:1::1".parse().unwrap(), b"b");
        assert_eq!(far, Attempt::Counted);
    }
}
