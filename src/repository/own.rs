//! What repositories have of their own, as it is known of late.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moka::future::Cache;

use crate::clock;
use crate::fetch::Currency;
use crate::package::{Listing, Origin, PackageId, Release, VersionId};
use crate::problem::Problem;
use crate::rule::Restrictions;
use crate::store::packages::{Manifests, Packages};

type Key = (Box<str>, PackageId);

/// How long what another process may change is taken for what it was; seconds.
const SHARED_FOR: i64 = 2;

/// What a repository has of one package, which may be nothing.
pub struct Held {
    /// Without manifests.
    pub listing: Option<Arc<Listing>>,
    /// What was said of its origins.
    pub restrictions: Option<Restrictions>,
    pub currency: Currency,
    /// Until when it may be relied upon; seconds since 1970.
    pub until: i64,
    versions: OnceLock<HashSet<VersionId>>,
}

impl Held {
    /// Whether the version is one of ours, whatever its status.
    pub fn has_version(&self, version: &str) -> bool {
        let Some(listing) = &self.listing else {
            return false;
        };
        let protocol = listing.package.format().protocol();
        let versions = self.versions.get_or_init(|| {
            let all = listing.versions.iter();
            all.map(|release| protocol.known_version(&release.version))
                .collect()
        });
        versions.contains(&protocol.known_version(version))
    }
}

/// The package catalog, with what was read of it of late in memory.
pub struct OwnPackages {
    packages: Packages,
    held: Cache<Key, Arc<Held>>,
    /// Counts changes: what was read before one is not remembered after it.
    changes: AtomicU64,
    /// Nothing was ever published here, which spares asking.
    is_empty: AtomicBool,
    nothing: Arc<Held>,
}

impl OwnPackages {
    pub fn new(packages: &Packages, memory: u64) -> Self {
        Self {
            packages: packages.clone(),
            held: Cache::builder()
                .max_capacity(memory)
                .weigher(|_: &Key, held: &Arc<Held>| {
                    held.listing
                        .as_ref()
                        .map_or(300, |listing| listing.weight())
                })
                .eviction_listener(|_, held: Arc<Held>, _| held.currency.end())
                .build(),
            changes: AtomicU64::new(0),
            is_empty: AtomicBool::new(false),
            nothing: Arc::new(held(None, None, i64::MAX)),
        }
    }

    /// Looks whether there is anything at all.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn look(&self) -> Result<(), sqlx::Error> {
        if !self.packages.is_shared()
            && self.packages.counts().await?.is_empty()
            && !self.packages.has_restrictions().await?
        {
            self.is_empty.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Acquire)
    }

    /// What the repository itself has of the package.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn of(&self, repository: &str, package: &PackageId) -> Result<Arc<Held>, Problem> {
        if self.is_empty() {
            return Ok(Arc::clone(&self.nothing));
        }
        let key: Key = (repository.into(), package.clone());
        if let Some(held) = self.held.get(&key).await
            && clock::unix_now() < held.until
        {
            return Ok(held);
        }
        let before = self.changes.load(Ordering::Acquire);
        let listing = self
            .packages
            .listing(repository, package, Manifests::Left)
            .await;
        let listing = listing
            .map_err(|error| Problem::internal("the package catalog cannot be read", error))?;
        let restrictions = self.packages.restrictions(repository, package).await;
        let restrictions = restrictions
            .map_err(|error| Problem::internal("the package catalog cannot be read", error))?;
        let until = if self.packages.is_shared() {
            clock::unix_now() + SHARED_FOR
        } else {
            i64::MAX
        };
        let held = Arc::new(held(listing.map(Arc::new), restrictions, until));
        self.held.insert(key.clone(), Arc::clone(&held)).await;
        if self.changes.load(Ordering::Acquire) != before {
            self.held.invalidate(&key).await;
        }
        Ok(held)
    }

    /// Of a listing the one version alone, with its manifest, and the tags that point to it.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn only(
        &self,
        repository: &str,
        listing: &Listing,
        version: &str,
    ) -> Result<Option<Listing>, Problem> {
        let manifest = self
            .packages
            .manifest(repository, &listing.package, version)
            .await
            .map_err(|error| Problem::internal("the package catalog cannot be read", error))?;
        let Some((release, manifest)) = listing.release(version).zip(manifest) else {
            return Ok(None);
        };
        let tags = listing.tags.iter().filter(|(_, of)| of.as_str() == version);
        Ok(Some(Listing {
            package: listing.package.clone(),
            origin: listing.origin,
            revision: listing.revision.clone(),
            changed: listing.changed,
            versions: vec![Release {
                manifest: manifest.into(),
                ..release.clone()
            }],
            tags: tags.map(|(tag, of)| (tag.clone(), of.clone())).collect(),
        }))
    }

    /// The same with all manifests, read anew.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn whole(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Listing>, Problem> {
        self.packages
            .listing(repository, package, Manifests::Read)
            .await
            .map_err(|error| Problem::internal("the package catalog cannot be read", error))
    }

    /// On which side the repository's package is, without reading all of it; `None` where it never
    /// had any.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn origin(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Origin>, Problem> {
        if self.is_empty() {
            return Ok(None);
        }
        let origin = self.packages.origin(repository, package).await;
        origin.map_err(|error| Problem::internal("the package catalog cannot be read", error))
    }

    /// A repository is gone with all its packages.
    pub async fn forget(&self, repository: &str) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let gone: Vec<Key> = self
            .held
            .iter()
            .filter(|(key, _)| *key.0 == *repository)
            .map(|(key, _)| key.as_ref().clone())
            .collect();
        for key in gone {
            self.held.invalidate(&key).await;
        }
    }

    /// The package changed: nobody is given what it was.
    pub async fn changed(&self, repository: &str, package: &PackageId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.held
            .invalidate(&(repository.into(), package.clone()))
            .await;
        if self.is_empty.swap(false, Ordering::AcqRel) {
            self.nothing.currency.end();
        }
    }
}

fn held(listing: Option<Arc<Listing>>, restrictions: Option<Restrictions>, until: i64) -> Held {
    Held {
        listing,
        restrictions,
        currency: Currency::default(),
        until,
        versions: OnceLock::new(),
    }
}
