//! Counts what each `larder run` fetched, by the run's id in the paths.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use url::Url;

use super::work::{Counters, Failures, WorkReport};
use crate::secret::Secret;

/// Begins the word of npm's `User-Agent` that says which run and repository it asks for: npm puts
/// our host, without our path, before the path of an address that a packument names.
pub const RUN_TAG: &str = "larder-run/";

/// The header in which `larder run` gives a running Larder its [`PublishGrant`], as JSON.
pub const GRANT_HEADER: &str = "larder-publish-grant";

/// How long a lease lasts. A run takes it anew before that, so that one that was stopped or hangs
/// keeps another's Larder from ending no longer than this.
pub const LEASE_LASTS: Duration = Duration::from_secs(600);

/// One run: what was done for it, and what it may do.
#[derive(Debug, Default)]
pub struct Run {
    pub counters: Counters,
    pub failures: Failures,
    /// Where the run's publishes may go; none: nowhere.
    pub publish: OnceLock<PublishGrant>,
}

/// A run's permission to pass publishes on: the registry that the client itself is set to, and the
/// client's credential for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishGrant {
    /// The registry's address.
    pub registry: String,
    /// A keyed digest of the value of `Authorization` that the client has for the registry.
    credential: String,
    key: String,
    /// The beginnings of the `User-Agent`s of clients that are set to this registry.
    clients: Vec<String>,
}

impl PublishGrant {
    #[must_use]
    pub fn new(registry: &Url, authorization: &Secret, key: &str, clients: Vec<String>) -> Self {
        Self {
            registry: registry.to_string(),
            credential: digest(key, authorization.expose().as_bytes()),
            key: key.to_owned(),
            clients,
        }
    }

    /// Whether a client with this `User-Agent` is set to the registry.
    #[must_use]
    pub fn is_for_client(&self, user_agent: &str) -> bool {
        self.clients
            .iter()
            .any(|client| user_agent.starts_with(client.as_str()))
    }

    /// Whether this is the credential that the client has for the registry.
    #[must_use]
    pub fn is_credential(&self, authorization: &[u8]) -> bool {
        digest(&self.key, authorization) == self.credential
    }
}

fn digest(key: &str, value: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hash.update([0]);
    hash.update(value);
    hex::encode(hash.finalize())
}

/// The work done for a run, and the addresses that its lockfiles should name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClosingReport {
    #[serde(flatten)]
    pub work: WorkReport,
    /// The first upstream of each format.
    pub upstreams: BTreeMap<String, String>,
    /// The formats that the repository can have anything of.
    #[serde(default)]
    pub formats: Vec<String>,
}

impl Run {
    #[must_use]
    pub fn report(&self) -> WorkReport {
        self.failures.report(self.counters.read())
    }
}

/// The runs of late, a bounded number of them.
pub struct Runs {
    runs: Cache<String, Arc<Run>>,
    leases: watch::Sender<usize>,
}

/// Held by a run that uses another run's private Larder.
pub struct RunLease(watch::Sender<usize>);

impl Drop for RunLease {
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

    /// The run of that id, where one began here.
    #[must_use]
    pub fn begun(&self, id: &str) -> Option<Arc<Run>> {
        self.runs.get(id)
    }

    /// Counts one more run that uses this Larder, until the lease is dropped.
    #[must_use]
    pub fn lease(&self) -> RunLease {
        self.leases.send_modify(|leases| *leases += 1);
        RunLease(self.leases.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_knows_its_client_and_its_credential_and_keeps_no_secret() {
        let registry = Url::parse("https://npm.example/").unwrap();
        let token = Secret::new("Bearer hunter2");
        let grant = PublishGrant::new(&registry, &token, "7a", vec!["npm/".to_owned()]);
        assert!(grant.is_for_client("npm/11.0.0 node/v24"));
        assert!(!grant.is_for_client("yarn/4.0.0 npm/? node/v24"));
        assert!(!grant.is_for_client(""));
        assert!(grant.is_credential(b"Bearer hunter2"));
        assert!(!grant.is_credential(b"Bearer other"));
        assert!(!grant.is_credential(b""));
        let sent = serde_json::to_string(&grant).unwrap();
        assert!(!sent.contains("hunter2"));
        assert_eq!(serde_json::from_str::<PublishGrant>(&sent).unwrap(), grant);
    }
}
