//! The package catalog: what repositories have of their own, in SQLite or PostgreSQL. Each noun has a
//! type of its own; [`Packages`] is all of them over one database.

mod access;
mod change;
mod database;
mod delivery;
mod domain;
mod door;
mod error;
mod group;
mod moved;
mod outbox;
pub(super) mod outside;
mod pin;
mod release;
mod remote;
mod repository;
mod restriction;
mod rows;
mod spool;
pub(super) mod tables;
mod tag;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, warn};

pub use access::{AccessKey, AccessRecords, AccessRows, MachineToken, PolicyRow, TokenSigningKey};
pub use change::{Applied, NewRelease, Step};
pub use database::{Examined, examine};
pub use delivery::{Deliveries, Delivery};
pub use domain::DomainFacts;
pub use door::Absence;
pub use error::{Error, Refusal};
pub use group::PackageGroups;
pub(super) use moved::{ARRIVING, CatalogMark};
pub use outbox::EventWriter;
pub use outside::{OutsideNames, OutsideRows, SeenOutside};
pub use pin::{Pin, Pins};
pub use release::{Manifests, OwnRows, Releases};
pub use remote::Tables;
pub use repository::{Managed, RepositoryRows};
pub use restriction::OriginRestrictions;
pub use spool::{Spool, Spooled};
pub use tag::ResourceTags;

use super::markers::Markers;
use super::sql::Column;
use crate::config::PackageCatalogSettings;
use crate::package::BlobId;
use crate::secret::Secret;
use crate::task::Tasks;
use database::Database;

/// The package catalog; clones share it.
#[derive(Clone)]
pub struct Packages {
    database: Arc<Database>,
    access: AccessRecords,
    deliveries: Deliveries,
    events: EventWriter,
    groups: PackageGroups,
    outside_names: OutsideRows,
    pins: Pins,
    releases: Releases,
    repositories: RepositoryRows,
    restrictions: OriginRestrictions,
    spool: Spool,
    tags: ResourceTags,
}

/// Random enough that no two changes share one.
pub fn random_name() -> String {
    let mut bytes = [0u8; 16];
    // Without the system's randomness there is no process to speak of.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = crate::clock::now().as_nanosecond().to_le_bytes();
    }
    hex::encode(bytes)
}

impl Packages {
    /// Opens or makes the catalog: at the address where there is one (`postgres://…`), else in this
    /// file.
    ///
    /// # Errors
    /// Where the database cannot be had.
    pub(super) async fn open(
        file: &Path,
        settings: &PackageCatalogSettings,
        place: String,
        markers: &Markers,
    ) -> Result<Self, super::Error> {
        Ok(Self::of(
            Database::open(file, settings, place, markers).await?,
        ))
    }

    /// Opens or makes the catalog as [`Packages::open`] does, without asking whether it is this data
    /// directory's.
    ///
    /// # Errors
    /// Where the database cannot be had.
    pub(super) async fn open_to_move(
        file: &Path,
        url: Option<&Secret>,
        place: String,
        markers: &Markers,
    ) -> Result<Self, super::Error> {
        let settings = PackageCatalogSettings {
            database: url.cloned(),
            ..PackageCatalogSettings::default()
        };
        let database = Database::open_to_move(file, &settings, place, markers).await?;
        Ok(Self::of(database))
    }

    fn of(database: Database) -> Self {
        let database = Arc::new(database);
        let shared = || Arc::clone(&database);
        Self {
            access: AccessRecords { database: shared() },
            deliveries: Deliveries { database: shared() },
            events: EventWriter { database: shared() },
            groups: PackageGroups { database: shared() },
            outside_names: OutsideRows { database: shared() },
            pins: Pins { database: shared() },
            releases: Releases { database: shared() },
            repositories: RepositoryRows { database: shared() },
            restrictions: OriginRestrictions { database: shared() },
            spool: Spool { database: shared() },
            tags: ResourceTags { database: shared() },
            database,
        }
    }

    /// Ends when no connection is open any more; whoever asks afterwards is refused.
    pub(super) async fn close(&self) {
        self.database.close().await;
    }

    /// Says again and again that this Larder uses the database, where others could reach it too.
    pub(super) fn hold(&self, tasks: &Tasks) {
        if !self.is_shared() {
            return;
        }
        let (database, stopping) = (Arc::clone(&self.database), tasks.clone());
        tasks.spawn(async move {
            // It is not cut off within a statement: one that was sent may be carried out after the
            // database was left.
            let stopped = || {
                let is_away = database.door.absence().is_some();
                let pause = if is_away {
                    remote::SOUGHT_EVERY
                } else {
                    remote::TAKEN_EVERY
                };
                tokio::time::timeout(pause, stopping.stopped())
            };
            while stopped().await.is_err() {
                match remote::take(&database.door, &database.place).await {
                    Ok(None) => {}
                    Ok(Some(machine)) => {
                        error!(
                            machine,"Another Larder uses the database of packages now; this one has to be stopped");
                        return database.door.give_up();
                    }
                    // The log says already that it does not answer.
                    Err(_) if database.door.absence().is_some() => {}
                    Err(error) => warn!(%error, "Telling the database of packages that it is in use failed"),
                }
            }
        });
    }

    /// Whether it is in a database elsewhere, which may be away.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.database.is_shared
    }

    /// Why it takes nothing at present; `None` where it does.
    #[must_use]
    pub fn absence(&self) -> Option<Absence> {
        self.database.door.absence()
    }

    /// Looks at what was read of it each time when its database answers again after it did not: what
    /// was asked of it may have been done, and the answer lost.
    pub fn look_after_outages<Looking, E>(
        &self,
        what: &'static str,
        tasks: &Tasks,
        mut look: impl FnMut() -> Looking + Send + 'static,
    ) where
        Looking: Future<Output = Result<(), E>> + Send,
        E: fmt::Display + Send,
    {
        let mut returns = self.database.door.returns();
        tasks.spawn_until_stop(async move {
            while returns.changed().await.is_ok() {
                if let Err(error) = look().await {
                    warn!(%error, what, "Reading again failed; the previous state stays in force");
                }
            }
        });
    }

    /// Whether a package version or a waiting publish needs the blob.
    pub(super) async fn needs(&self, blob: BlobId) -> Result<bool, Error> {
        let found = sqlx::query(
            "SELECT 1 FROM package_asset WHERE blob = $1 UNION ALL SELECT 1 FROM spool WHERE blob = $1 LIMIT 1",
        )
        .bind(Column(blob))
        .fetch_optional(&self.database.door)
        .await?;
        Ok(found.is_some())
    }

    /// Tokens, keys and policies.
    #[must_use]
    pub fn access(&self) -> &AccessRecords {
        &self.access
    }

    /// Events on their way to their targets.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Events as they happen, for those who are told of them.
    #[must_use]
    pub fn events(&self) -> &EventWriter {
        &self.events
    }

    /// Package groups that something was said of.
    #[must_use]
    pub fn groups(&self) -> &PackageGroups {
        &self.groups
    }

    /// The rows of names that were seen outside.
    pub(super) fn outside_names(&self) -> &OutsideRows {
        &self.outside_names
    }

    /// Packages from outside that are never evicted.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Packages, their versions and files.
    #[must_use]
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Repositories: those that were made by the API, and when each was first seen.
    #[must_use]
    pub fn repositories(&self) -> &RepositoryRows {
        &self.repositories
    }

    /// Origin restrictions of packages.
    #[must_use]
    pub fn restrictions(&self) -> &OriginRestrictions {
        &self.restrictions
    }

    /// Publishes that wait for their upstream.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The tags of resources.
    #[must_use]
    pub fn tags(&self) -> &ResourceTags {
        &self.tags
    }
}
