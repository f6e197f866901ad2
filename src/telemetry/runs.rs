//! What one `larder run` got: counted by the id in its paths.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Begins the word of npm's `User-Agent` that says which run and repository it asks for: npm puts
/// our host, without our path, before the path of an address that a packument names.
pub const RUN_TAG: &str = "larder-run/";

/// Counters of one run.
#[derive(Debug, Default)]
pub struct Run {
    pub requests: AtomicU64,
    pub hits: AtomicU64,
    pub served_bytes: AtomicU64,
    pub fetched_bytes: AtomicU64,
    pub saved_ms: AtomicU64,
    pub failures: AtomicU64,
    /// The registry that the run's npm would have published to.
    pub publish_to: OnceLock<String>,
}

/// The counters, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReport {
    pub requests: u64,
    pub hits: u64,
    pub served_bytes: u64,
    pub fetched_bytes: u64,
    pub saved_ms: u64,
    pub failures: u64,
}

/// What a run got, and where its lockfiles should point.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    #[serde(flatten)]
    pub counts: RunReport,
    /// The first upstream of each format.
    pub upstreams: BTreeMap<String, String>,
}

impl Run {
    #[must_use]
    pub fn report(&self) -> RunReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RunReport {
            requests: read(&self.requests),
            hits: read(&self.hits),
            served_bytes: read(&self.served_bytes),
            fetched_bytes: read(&self.fetched_bytes),
            saved_ms: read(&self.saved_ms),
            failures: read(&self.failures),
        }
    }
}

/// The runs of late, a bounded number of them.
pub struct Runs {
    runs: Cache<String, Arc<Run>>,
    leases: watch::Sender<usize>,
}

/// Held by a run that uses another run's private Larder.
pub struct Lease(watch::Sender<usize>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0
            .send_modify(|leases| *leases = leases.saturating_sub(1));
    }
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            runs: Cache::builder()
                .max_capacity(1024)
                .time_to_idle(Duration::from_secs(24 * 3600))
                .build(),
            leases: watch::Sender::new(0),
        }
    }
}

impl Runs {
    /// The run of that id; a new id begins one.
    #[must_use]
    pub fn run(&self, id: &str) -> Arc<Run> {
        self.runs.get_with_by_ref(id, Arc::default)
    }

    /// Counts one more run that uses this Larder, until the lease is dropped.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.leases.send_modify(|leases| *leases += 1);
        Lease(self.leases.clone())
    }

    /// How many runs use this Larder beside its own.
    #[must_use]
    pub fn leases(&self) -> usize {
        *self.leases.borrow()
    }

    /// Resolves when no other run uses this Larder.
    pub async fn unused(&self) {
        let _ = self
            .leases
            .subscribe()
            .wait_for(|leases| *leases == 0)
            .await;
    }
}
