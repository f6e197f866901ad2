//! A dead upstream is not asked for every request: when connecting to it fails, or different
//! resources of it fail, some times in a row, it rests. Then one request tries. One resource that
//! always fails says nothing about the others.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The part of the upstream that failed.
#[derive(Clone, Copy, Debug)]
pub enum UpstreamFailure<'a> {
    Connecting,
    /// The host answered that this resource fails, or did not answer in time.
    Resource(&'a str),
}

#[derive(Debug, Default)]
struct State {
    /// Connections in a row that failed.
    connecting: usize,
    /// Hashes of the resources that failed since the last success, at most `failures_max`.
    resources: HashSet<u64>,
    rests: u32,
    until: Option<Instant>,
}

pub struct Breaker {
    failures_max: usize,
    rest: Duration,
    hasher: RandomState,
    state: Mutex<State>,
}

impl Breaker {
    pub fn new(failures_max: usize, rest: Duration) -> Self {
        Self {
            failures_max,
            rest,
            hasher: RandomState::new(),
            state: Mutex::default(),
        }
    }

    /// How much longer it rests; `None` lets the request through. At the end of a rest one
    /// request goes through, and the others wait for what it finds.
    pub fn resting(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = state.until?;
        let now = Instant::now();
        if now < until {
            return Some(until - now);
        }
        state.until = Some(now + self.length(state.rests));
        None
    }

    /// Whether the last request failed.
    pub fn has_failures(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.connecting > 0 || !state.resources.is_empty()
    }

    /// Whether it is back: it rested before.
    pub fn succeeded(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).rests > 0
    }

    /// Whether it rests from now on, and did not before.
    pub fn failed(&self, failure: UpstreamFailure<'_>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            UpstreamFailure::Connecting => state.connecting = state.connecting.saturating_add(1),
            UpstreamFailure::Resource(resource) => {
                if state.resources.len() < self.failures_max {
                    state.resources.insert(self.hasher.hash_one(resource));
                }
            }
        }
        if state.connecting + state.resources.len() < self.failures_max {
            return false;
        }
        state.until = Some(Instant::now() + self.length(state.rests));
        state.rests = state.rests.saturating_add(1);
        state.rests == 1
    }

    fn length(&self, rests: u32) -> Duration {
        self.rest.saturating_mul(1 << rests.min(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_failures_in_a_row_it_rests_and_then_one_tries() {
        let breaker = Breaker::new(2, Duration::from_secs(5));
        assert!(!breaker.failed(UpstreamFailure::Connecting));
        assert_eq!(breaker.resting(), None);
        assert!(breaker.failed(UpstreamFailure::Connecting));
        assert!(breaker.resting().is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(breaker.resting(), None);
        assert!(breaker.resting().is_some(), "only one tries");
        assert!(
            !breaker.failed(UpstreamFailure::Connecting),
            "it rested before"
        );
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
        assert_eq!(breaker.resting(), None);
    }

    #[tokio::test]
    async fn one_resource_that_fails_again_and_again_is_not_the_whole_upstream() {
        let breaker = Breaker::new(2, Duration::from_secs(5));
        for _ in 0..10 {
            assert!(!breaker.failed(UpstreamFailure::Resource("/a")));
        }
        assert_eq!(breaker.resting(), None);
        assert!(breaker.failed(UpstreamFailure::Resource("/b")));
        assert!(breaker.resting().is_some());
    }
}
