//! Which rows an export is about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::Order;
use crate::connection::Connection;
use crate::format;
use crate::package::{PackageId, VersionId};
use crate::problem::Problem;
use crate::repository::Snapshot;

/// Which rows are meant.
pub struct Choice {
    /// By the ids of registries, the connections that are about them, by their names: a bundle knows
    /// connections alone.
    pub connections: HashMap<String, BTreeMap<String, Arc<Connection>>>,
    pub repositories: BTreeSet<String>,
    /// By package, its versions; none: all.
    versions: Option<HashMap<String, Option<HashSet<VersionId>>>>,
    pub since: Option<i64>,
}

impl Choice {
    pub fn of(snapshot: &Snapshot, order: &Order, since: Option<i64>) -> Result<Self, Problem> {
        let repositories = match &order.repository {
            Some(name) => vec![Arc::clone(snapshot.repository(name)?)],
            None => snapshot.repositories().cloned().collect(),
        };
        let mut connections = HashMap::<String, BTreeMap<String, Arc<Connection>>>::new();
        for connection in repositories.iter().flat_map(|it| it.connections()) {
            let of = connections.entry(connection.registry.clone()).or_default();
            of.insert(connection.name.clone(), Arc::clone(connection));
        }
        let versions = order.wants.as_ref().map(|wants| {
            let mut versions = HashMap::<String, Option<HashSet<VersionId>>>::new();
            for want in wants {
                let of = versions.entry(want.package.clone());
                let held = of.or_insert_with(|| Some(HashSet::new()));
                match (&want.version, format::package(&want.package), held) {
                    (Some(version), Ok(package), Some(versions)) => {
                        versions.insert(package.format().protocol().known_version(version));
                    }
                    (None, _, held) => *held = None,
                    _ => {}
                }
            }
            versions
        });
        Ok(Self {
            connections,
            repositories: repositories
                .iter()
                .flat_map(|repository| repository.own_names())
                .map(str::to_owned)
                .collect(),
            versions,
            since,
        })
    }

    pub fn has_package(&self, package: &str) -> bool {
        self.versions
            .as_ref()
            .is_none_or(|versions| versions.contains_key(package))
    }

    pub fn has_version(&self, package: &PackageId, version: &str) -> bool {
        let Some(versions) = &self.versions else {
            return true;
        };
        match versions.get(&package.to_string()) {
            None => false,
            Some(None) => true,
            Some(Some(versions)) => {
                versions.contains(&package.format().protocol().known_version(version))
            }
        }
    }

    pub fn is_new(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since)
    }
}
