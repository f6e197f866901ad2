//! Counts requests, pulls and fetches in memory; the counts are written to the catalog now and
//! then.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::package::Format;

/// Pulls are counted in shards, so that threads do not wait for each other.
const SHARDS: usize = 16;
/// Pulls by different clients or of different versions that may wait to be written, in a shard;
/// further ones are not remembered.
const PULLS_MAX: usize = 4096;

/// Counters of the requests to one repository in one format.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    hits: AtomicU64,
    failures: AtomicU64,
    served: AtomicU64,
}

impl Traffic {
    /// Counts an answer and its bytes.
    pub fn add(&self, bytes: u64, is_hit: bool, is_failure: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.served.fetch_add(bytes, Ordering::Relaxed);
        if is_hit {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        if is_failure {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counters of the fetches from one connection.
#[derive(Debug, Default)]
pub struct Egress {
    fetches: AtomicU64,
    bytes: AtomicU64,
}

impl Egress {
    pub fn fetch(&self) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A version that clients take.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PulledVersion {
    pub repository: String,
    /// `npm:@scope/name`.
    pub package: String,
    pub version: String,
}

/// The taker of a version: a principal's name, or an address where nobody says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Named(Box<str>),
    At(IpAddr),
}

/// How often, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub times: u64,
    pub bytes: u64,
}

type Pulls = HashMap<(Arc<PulledVersion>, Who), Times>;

/// The counters since they were last written down.
pub struct Ledger {
    traffic: Mutex<HashMap<(String, Format), Arc<Traffic>>>,
    egress: Mutex<HashMap<(String, Format), Arc<Egress>>>,
    pulls: [Mutex<Pulls>; SHARDS],
    hasher: RandomState,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            traffic: Mutex::default(),
            egress: Mutex::default(),
            pulls: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }
}

/// The counts of a repository since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficCount {
    pub repository: String,
    pub format: Format,
    pub requests: u64,
    pub hits: u64,
    pub failures: u64,
    pub served: u64,
}

/// The counts of a connection since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressCount {
    pub connection: String,
    pub format: Format,
    pub fetches: u64,
    pub bytes: u64,
}

/// All that was counted since the last time.
#[derive(Default)]
pub struct LedgerPage {
    pub traffic: Vec<TrafficCount>,
    pub egress: Vec<EgressCount>,
    pub pulls: Vec<(Arc<PulledVersion>, Who, Times)>,
}

impl LedgerPage {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traffic.is_empty() && self.egress.is_empty() && self.pulls.is_empty()
    }
}

impl Ledger {
    /// The counters of a repository's answers in one format.
    #[must_use]
    pub fn traffic(&self, repository: &str, format: Format) -> Arc<Traffic> {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let of = traffic.entry((repository.to_owned(), format));
        Arc::clone(of.or_default())
    }

    /// The counters of what comes from a connection.
    #[must_use]
    pub fn egress(&self, connection: &str, format: Format) -> Arc<Egress> {
        let mut egress = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        let of = egress.entry((connection.to_owned(), format));
        Arc::clone(of.or_default())
    }

    /// Notes that somebody took a version.
    pub fn pull(&self, pulled: &Arc<PulledVersion>, who: &Who, bytes: u64) {
        let shard = self.hasher.hash_one((Arc::as_ptr(pulled) as usize, who));
        let shard = usize::try_from(shard % SHARDS as u64).unwrap_or(0);
        let Some(pulls) = self.pulls.get(shard) else {
            return;
        };
        let mut pulls = pulls.lock().unwrap_or_else(PoisonError::into_inner);
        if pulls.len() >= PULLS_MAX {
            return;
        }
        let times = pulls.entry((Arc::clone(pulled), who.clone())).or_default();
        times.times += 1;
        times.bytes += bytes;
    }

    /// Takes what was counted since the last time.
    #[must_use]
    pub fn take(&self) -> LedgerPage {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let mut page = LedgerPage::default();
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        for ((repository, format), counts) in traffic.iter() {
            let count = TrafficCount {
                repository: repository.clone(),
                format: *format,
                requests: take(&counts.requests),
                hits: take(&counts.hits),
                failures: take(&counts.failures),
                served: take(&counts.served),
            };
            if count.requests > 0 {
                page.traffic.push(count);
            }
        }
        drop(traffic);
        let egress = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        for ((connection, format), counts) in egress.iter() {
            let count = EgressCount {
                connection: connection.clone(),
                format: *format,
                fetches: take(&counts.fetches),
                bytes: take(&counts.bytes),
            };
            if count.fetches + count.bytes > 0 {
                page.egress.push(count);
            }
        }
        drop(egress);
        for pulls in &self.pulls {
            let pulls = std::mem::take(&mut *pulls.lock().unwrap_or_else(PoisonError::into_inner));
            page.pulls
                .extend(pulls.into_iter().map(|((of, who), times)| (of, who, times)));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_taken_once() {
        let ledger = Ledger::default();
        ledger.traffic("public", Format::Npm).add(10, true, false);
        ledger.traffic("public", Format::Npm).add(5, false, true);
        ledger.egress("up", Format::Npm).add(7);
        let pulled = Arc::new(PulledVersion {
            repository: "public".to_owned(),
            package: "npm:a".to_owned(),
            version: "1".to_owned(),
        });
        let who = Who::Named("ada".into());
        ledger.pull(&pulled, &who, 3);
        ledger.pull(&pulled, &who, 3);
        let page = ledger.take();
        let traffic = &page.traffic[0];
        assert_eq!(
            (
                traffic.requests,
                traffic.hits,
                traffic.failures,
                traffic.served
            ),
            (2, 1, 1, 15)
        );
        assert_eq!((page.egress[0].fetches, page.egress[0].bytes), (0, 7));
        assert_eq!(page.pulls[0].2, Times { times: 2, bytes: 6 });
        assert!(ledger.take().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let ledger = Ledger::default();
        for number in 0..200_000_u32 {
            let pulled = Arc::new(PulledVersion {
                repository: String::new(),
                package: number.to_string(),
                version: String::new(),
            });
            ledger.pull(&pulled, &Who::Named("ada".into()), 1);
        }
        assert!(ledger.take().pulls.len() <= SHARDS * PULLS_MAX);
    }
}
