//! Absences: resources that registries do not have. A real 404 is a fact like a document: fresh for a while, and given
//! again while the registry is away (RFC 9111 §4.2.4).

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tracing::warn;

use super::ResourceKey;
use crate::clock;
use crate::connection::Connection;
use crate::package::AssetId;
use crate::problem::Problem;
use crate::store::Store;

/// A resource that its registry does not have.
#[derive(Clone, Debug)]
struct Absence {
    /// Milliseconds since 1970.
    checked_at: i64,
    problem: Problem,
}

/// Remembers what registries do not have; clones share it.
#[derive(Clone)]
pub struct Absences {
    store: Arc<Store>,
    fresh_for: Duration,
    known: Cache<ResourceKey, Absence>,
}

impl Absences {
    /// At most `known_max` absences are kept in memory.
    pub(super) fn new(store: &Arc<Store>, fresh_for: Duration, known_max: u64) -> Self {
        Self {
            store: Arc::clone(store),
            fresh_for,
            known: Cache::new(known_max),
        }
    }

    /// The problem with which the resource was said to be absent lately, so that its registry need not
    /// be asked again.
    pub fn fresh(&self, key: &ResourceKey) -> Option<Problem> {
        let absence = self.known.get(key)?;
        let age = clock::unix_ms_now().saturating_sub(absence.checked_at);
        let fresh_for = i64::try_from(self.fresh_for.as_millis()).unwrap_or(i64::MAX);
        (0..fresh_for).contains(&age).then_some(absence.problem)
    }

    /// When the registry last said that it does not have the resource, however long ago; seconds since
    /// 1970.
    pub async fn checked_at(&self, key: &ResourceKey) -> Option<i64> {
        if let Some(absence) = self.known.get(key) {
            return Some(absence.checked_at / 1000);
        }
        let found = self.store.absences().find(&key.connection, &key.key).await;
        found.unwrap_or_else(|error| {
            warn!(%error, "Looking up an absence failed; it counts as unknown");
            None
        })
    }

    /// Remembers that the registry does not have the resource.
    pub fn note(&self, key: &ResourceKey, problem: &Problem) {
        let now = clock::unix_ms_now();
        let absence = Absence {
            checked_at: now,
            problem: problem.clone(),
        };
        self.known.insert(key.clone(), absence);
        let rows = self.store.absences();
        rows.note(&key.connection, &key.key, now / 1000);
    }

    /// Forgets an absence: the registry has the resource after all.
    pub fn forget(&self, key: &ResourceKey) {
        self.known.invalidate(key);
        self.store.absences().forget(&key.connection, &key.key);
    }

    /// Forgets an absence, where there was one before, or has been since.
    pub fn forget_if(&self, was_absent: bool, key: &ResourceKey) {
        if was_absent || self.known.contains_key(key) {
            self.forget(key);
        }
    }

    /// Forgets in memory what the connection did not have.
    pub(super) fn forget_known(&self, connection: &str) {
        for (key, _) in &self.known {
            if *key.connection == *connection {
                self.known.invalidate(key.as_ref());
            }
        }
    }

    /// Forgets all that the connection did not have.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub(super) async fn forget_all(&self, connection: &str) -> Result<(), Problem> {
        self.store.absences().forget_all(connection).await?;
        self.forget_known(connection);
        Ok(())
    }
}

/// The key of an asset's absence.
pub(super) fn asset_key(connection: &Connection, asset: &AssetId) -> ResourceKey {
    ResourceKey {
        connection: connection.registry.as_str().into(),
        key: format!("file:{asset}").into(),
    }
}
