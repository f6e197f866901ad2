//! What repositories have of their own, with what was read of late kept in memory.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moka::future::Cache;

use super::Repository;
use super::publish::not_ours;
use crate::clock;
use crate::fetch::StillCurrent;
use crate::package::{Format, Listing, Origin, PackageId, Release, VersionId};
use crate::problem::Problem;
use crate::rule::Restrictions;
use crate::store::packages::{self, Manifests, Packages};

type Key = (Box<str>, PackageId);

/// How long what another process may change is taken for what it was; seconds.
const SHARED_FOR: i64 = 2;

/// What a repository has of one package, which may be nothing.
pub struct OwnPackage {
    /// Without manifests.
    pub listing: Option<Arc<Listing>>,
    /// What was said of its origins.
    pub restrictions: Option<Restrictions>,
    pub still_current: StillCurrent,
    /// Until when it may be relied upon; seconds since 1970.
    pub until: i64,
    versions: OnceLock<HashSet<VersionId>>,
}

impl OwnPackage {
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
    held: Cache<Key, Arc<OwnPackage>>,
    /// Counts changes: what was read before one is not remembered after it.
    changes: AtomicU64,
    /// Whether nothing was ever published here: then the catalog is not asked.
    is_empty: AtomicBool,
    nothing: Arc<OwnPackage>,
}

impl OwnPackages {
    pub fn new(packages: &Packages, memory: u64) -> Self {
        Self {
            packages: packages.clone(),
            held: Cache::builder()
                .max_capacity(memory)
                .weigher(|_: &Key, held: &Arc<OwnPackage>| {
                    held.listing
                        .as_ref()
                        .map_or(300, |listing| listing.weight())
                })
                .eviction_listener(|_, held: Arc<OwnPackage>, _| held.still_current.end())
                .build(),
            changes: AtomicU64::new(0),
            is_empty: AtomicBool::new(false),
            nothing: Arc::new(own_package(None, None, i64::MAX)),
        }
    }

    /// Looks whether there is anything at all.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn look(&self) -> Result<(), packages::Error> {
        if !self.packages.is_shared()
            && self.packages.releases().counts().await?.is_empty()
            && !self.packages.restrictions().exist().await?
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
    pub async fn of(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Arc<OwnPackage>, Problem> {
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
            .releases()
            .listing(repository, package, Manifests::Left)
            .await;
        let listing = listing?;
        let restrictions = self.packages.restrictions().of(repository, package).await?;
        let until = if self.packages.is_shared() {
            clock::unix_now() + SHARED_FOR
        } else {
            i64::MAX
        };
        let held = Arc::new(own_package(listing.map(Arc::new), restrictions, until));
        self.held.insert(key.clone(), Arc::clone(&held)).await;
        if self.changes.load(Ordering::Acquire) != before {
            self.held.invalidate(&key).await;
        }
        Ok(held)
    }

    /// What the repository itself has of a package that it has to have.
    ///
    /// # Errors
    /// Where it has none, or the catalog cannot be read.
    pub async fn listing(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Arc<Listing>, Problem> {
        let held = self.of(repository, package).await?;
        let listing = held.listing.clone();
        listing.ok_or_else(|| not_ours(repository, package))
    }

    /// One version of a listing alone, with its manifest, and the tags that point to it.
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
            .releases()
            .manifest(repository, &listing.package, version)
            .await?;
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

    /// What the repository itself has of the package, with all manifests, read anew.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn whole(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Listing>, Problem> {
        let packages = &self.packages;
        Ok(packages
            .releases()
            .listing(repository, package, Manifests::Read)
            .await?)
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
        Ok(self.packages.releases().origin(repository, package).await?)
    }

    /// Whether these repositories have no package of the format.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn has_none_of(
        &self,
        repository: &Repository,
        format: Format,
    ) -> Result<bool, Problem> {
        if self.is_empty() {
            return Ok(true);
        }
        for name in repository.own_names() {
            let first = self
                .packages
                .releases()
                .list(name, Some(format), "", 1)
                .await?;
            if !first.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Forgets all packages of a repository that is gone.
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

    /// Forgets a package that changed: nobody is given what it was.
    pub async fn changed(&self, repository: &str, package: &PackageId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.held
            .invalidate(&(repository.into(), package.clone()))
            .await;
        if self.is_empty.swap(false, Ordering::AcqRel) {
            self.nothing.still_current.end();
        }
    }
}

fn own_package(
    listing: Option<Arc<Listing>>,
    restrictions: Option<Restrictions>,
    until: i64,
) -> OwnPackage {
    OwnPackage {
        listing,
        restrictions,
        still_current: StillCurrent::default(),
        until,
        versions: OnceLock::new(),
    }
}
