//! A dead upstream is not asked for every request: after some failures in a row it rests, then
//! one request tries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
struct State {
    failures: usize,
    rests: u32,
    until: Option<Instant>,
}

pub struct Breaker {
    failures_max: usize,
    rest: Duration,
    state: Mutex<State>,
}

impl Breaker {
    pub fn new(failures_max: usize, rest: Duration) -> Self {
        Self {
            failures_max,
            rest,
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
        state.failures > 0
    }

    /// Whether it is back: it rested before.
    pub fn succeeded(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).rests > 0
    }

    /// Whether it rests from now on, and did not before.
    pub fn failed(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures += 1;
        if state.failures < self.failures_max {
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
        assert!(!breaker.failed());
        assert_eq!(breaker.resting(), None);
        assert!(breaker.failed());
        assert!(breaker.resting().is_some());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(breaker.resting(), None);
        assert!(breaker.resting().is_some(), "only one tries");
        assert!(!breaker.failed(), "it rested before");
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
        assert_eq!(breaker.resting(), None);
    }
}
