//! Counts requests, pulls and fetches in memory; the counts are written to the catalog now and
//! then.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::work::{Counters, Counts};
use crate::package::Format;

/// Pulls are counted in shards, so that threads do not wait for each other.
const SHARDS: usize = 16;
/// Pulls by different clients or of different versions that may wait to be written, in a shard;
/// further ones are not remembered.
const PULLS_MAX: usize = 4096;

/// Counters of the answers of one repository in one format, and what of them was taken already.
#[derive(Default)]
struct Traffic {
    counters: Arc<Counters>,
    taken: Counts,
}

/// Counters of the fetches from one connection, and what of them was taken already.
#[derive(Default)]
struct ConnectionEgress {
    counters: Arc<Egress>,
    taken: Fetches,
}

/// Counters of the fetches from one connection. They only grow.
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

    fn read(&self) -> Fetches {
        Fetches {
            fetches: self.fetches.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// An [`Egress`], read at one moment.
#[derive(Clone, Copy, Default)]
struct Fetches {
    fetches: u64,
    bytes: u64,
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

/// All counters since Larder began. What was counted since the last time is taken from them to be
/// written down.
pub struct Ledger {
    traffic: Mutex<HashMap<(String, Format), Traffic>>,
    egress: Mutex<HashMap<(String, Format), ConnectionEgress>>,
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
    pub counts: Counts,
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
    pub fn traffic(&self, repository: &str, format: Format) -> Arc<Counters> {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let of = traffic.entry((repository.to_owned(), format));
        Arc::clone(&of.or_default().counters)
    }

    /// The counters of what comes from a connection.
    #[must_use]
    pub fn egress(&self, connection: &str, format: Format) -> Arc<Egress> {
        let mut egress = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        let of = egress.entry((connection.to_owned(), format));
        Arc::clone(&of.or_default().counters)
    }

    /// All answers since Larder began. Bytes fetched are those that came from registries, for
    /// clients or ahead of them.
    #[must_use]
    pub fn since_start(&self) -> Counts {
        let mut sum = Counts::default();
        let traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        for one in traffic.values() {
            sum += one.counters.read();
        }
        drop(traffic);
        let egress = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        sum.fetched_bytes = egress.values().map(|one| one.counters.read().bytes).sum();
        sum
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
        let mut page = LedgerPage::default();
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        for ((repository, format), one) in traffic.iter_mut() {
            let now = one.counters.read();
            let counts = now - std::mem::replace(&mut one.taken, now);
            if counts.requests > 0 {
                page.traffic.push(TrafficCount {
                    repository: repository.clone(),
                    format: *format,
                    counts,
                });
            }
        }
        drop(traffic);
        let mut egress = self.egress.lock().unwrap_or_else(PoisonError::into_inner);
        for ((connection, format), one) in egress.iter_mut() {
            let now = one.counters.read();
            let before = std::mem::replace(&mut one.taken, now);
            let count = EgressCount {
                connection: connection.clone(),
                format: *format,
                fetches: now.fetches - before.fetches,
                bytes: now.bytes - before.bytes,
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
    use super::super::work::{AnswerCount, AnswerSource};
    use super::*;

    #[test]
    fn what_is_counted_is_taken_once() {
        let ledger = Ledger::default();
        for (bytes, source, is_failure) in [
            (10, AnswerSource::Here { saved_ms: 2 }, false),
            (5, AnswerSource::Own, true),
        ] {
            ledger.traffic("public", Format::Npm).add(AnswerCount {
                bytes,
                source,
                is_failure,
            });
        }
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
        let traffic = page.traffic[0].counts;
        assert_eq!(
            (
                traffic.requests,
                traffic.hits,
                traffic.failures,
                traffic.served_bytes
            ),
            (2, 1, 1, 15)
        );
        assert_eq!((page.egress[0].fetches, page.egress[0].bytes), (0, 7));
        assert_eq!(page.pulls[0].2, Times { times: 2, bytes: 6 });
        assert!(ledger.take().is_empty());
        let all = ledger.since_start();
        assert_eq!(
            (all.requests, all.saved_bytes, all.fetched_bytes),
            (2, 10, 7)
        );
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
