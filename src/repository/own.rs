//! The packages that were published to our repositories. What was read lately is kept in memory.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use moka::sync::Cache;

use super::Repository;
use super::publish::not_ours;
use crate::fetch::StillCurrent;
use crate::package::{Format, Listing, PackageId, Release, VersionId};
use crate::problem::Problem;
use crate::rule::Restrictions;
use crate::store::packages::{self, Manifests, Packages};

type Key = (Box<str>, PackageId);

/// A package in a database elsewhere that is no larger is kept in memory with its manifests.
const WHOLE_WEIGHT_MAX: u32 = 1024 * 1024;

/// A repository's own versions of one package; there may be none.
pub struct OwnPackage {
    /// The versions, without their manifests; `None` where the repository has none.
    pub listing: Option<Arc<Listing>>,
    /// These versions with their manifests, where reading them again may fail, and they are not large.
    whole: Option<Arc<Listing>>,
    /// The package's origin restrictions, where somebody set them.
    pub restrictions: Option<Restrictions>,
    pub still_current: StillCurrent,
    /// Whether somebody tried to change it, and nobody knows whether that was done. It is read again as
    /// soon as it can be.
    is_doubted: AtomicBool,
    versions: OnceLock<HashSet<VersionId>>,
}

impl OwnPackage {
    /// Whether the version was published here. Versions of every status count.
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

/// The package catalog, with a cache of the packages that were read lately.
pub struct OwnPackages {
    packages: Packages,
    held: Cache<Key, Arc<OwnPackage>>,
    /// Counts changes. A package whose reading began before a change is not put in the cache after
    /// it.
    changes: AtomicU64,
    /// Which repositories have nothing. The catalog is not asked for their packages.
    contents: RwLock<Contents>,
}

/// Which repositories have something, and which have not.
#[derive(Default)]
struct Contents {
    /// Repositories that have, or had, something of their own; none where that is not known.
    filled: Option<HashSet<Box<str>>>,
    /// The others that were asked for, and what they have of any package: nothing.
    nothing: HashMap<Box<str>, Arc<OwnPackage>>,
}

impl OwnPackages {
    pub fn new(packages: &Packages, memory: u64) -> Self {
        Self {
            packages: packages.clone(),
            held: Cache::builder()
                .max_capacity(memory)
                .weigher(|_: &Key, held: &Arc<OwnPackage>| {
                    let listings = [&held.listing, &held.whole];
                    let listings = listings.into_iter().flatten();
                    listings.fold(300, |sum, listing| listing.weight().saturating_add(sum))
                })
                .eviction_listener(|_, held: Arc<OwnPackage>, _| held.still_current.end())
                .build(),
            changes: AtomicU64::new(0),
            contents: RwLock::default(),
        }
    }

    /// Finds out in which repositories anything was ever published or restricted. Called once, at the
    /// start.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn check_empty(&self) -> Result<(), packages::Error> {
        let counts = self.packages.releases().counts().await?;
        let restricted = self.packages.restrictions().repositories().await?;
        let filled = counts.into_keys().chain(restricted);
        let mut contents = self
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        contents.filled = Some(filled.map(Box::from).collect());
        Ok(())
    }

    /// The package of an empty repository, whatever its name; `None` where the catalog has to be asked.
    fn nothing(&self, repository: &str) -> Option<Arc<OwnPackage>> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        if contents.filled.as_ref()?.contains(repository) {
            return None;
        }
        if let Some(nothing) = contents.nothing.get(repository) {
            return Some(Arc::clone(nothing));
        }
        drop(contents);
        let mut contents = self
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Something may have come meanwhile.
        if contents.filled.as_ref()?.contains(repository) {
            return None;
        }
        let nothing = contents.nothing.entry(repository.into());
        let nothing = nothing.or_insert_with(|| Arc::new(own_package(None, None)));
        Some(Arc::clone(nothing))
    }

    pub fn packages(&self) -> &Packages {
        &self.packages
    }

    /// Whether no repository has anything of its own.
    pub fn is_empty(&self) -> bool {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        contents.filled.as_ref().is_some_and(HashSet::is_empty)
    }

    /// Reads what the repository itself has of the package; its upstreams are not looked at.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn package(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Arc<OwnPackage>, Problem> {
        if let Some(nothing) = self.nothing(repository) {
            return Ok(nothing);
        }
        let key: Key = (repository.into(), package.clone());
        // One Larder alone changes the catalog, wherever that is: what was read stays true.
        let held = self.held.get(&key);
        if let Some(held) = &held
            && !held.is_doubted.load(Ordering::Acquire)
        {
            return Ok(Arc::clone(held));
        }
        match (Box::pin(self.read(key, package)).await, held) {
            (Err(problem), Some(held)) if problem.kind.is_outage() => Ok(held),
            (read, _) => read,
        }
    }

    async fn read(&self, key: Key, package: &PackageId) -> Result<Arc<OwnPackage>, Problem> {
        let repository = &*key.0;
        let before = self.changes.load(Ordering::Acquire);
        let is_elsewhere = self.packages.is_shared();
        let manifests = if is_elsewhere {
            Manifests::Read
        } else {
            Manifests::Left
        };
        let releases = self.packages.releases();
        let read = releases.read(repository, package, manifests).await?;
        let (listing, restrictions) = (read.listing, read.restrictions);
        let whole = listing
            .as_ref()
            .filter(|listing| is_elsewhere && is_kept_whole(listing))
            .map(|listing| Arc::new(listing.clone()));
        let listing = listing.map(|mut listing| {
            for release in &mut listing.versions {
                release.manifest = Box::default();
            }
            Arc::new(listing)
        });
        let held = Arc::new(OwnPackage {
            whole,
            ..own_package(listing, restrictions)
        });
        self.held.insert(key.clone(), Arc::clone(&held));
        if self.changes.load(Ordering::Acquire) != before {
            self.held.invalidate(&key);
        }
        Ok(held)
    }

    /// Reads a package that the repository itself must have.
    ///
    /// # Errors
    /// Where it has none, or the catalog cannot be read.
    pub async fn listing(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Arc<Listing>, Problem> {
        let held = self.package(repository, package).await?;
        let listing = held.listing.clone();
        listing.ok_or_else(|| not_ours(repository, package))
    }

    /// Cuts a listing down to one version, with its manifest and the tags that point to it.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn with_one_version(
        &self,
        repository: &str,
        listing: &Listing,
        version: &str,
    ) -> Result<Option<Listing>, Problem> {
        let whole = self.whole(repository, &listing.package, &listing.revision);
        let manifest = match &whole {
            Some(whole) => {
                let release = whole.release(version);
                release.map(|release| release.manifest.to_string())
            }
            None => {
                let releases = self.packages.releases();
                releases
                    .manifest(repository, &listing.package, version)
                    .await?
            }
        };
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

    /// Reads what the repository itself has of the package, with all manifests, past the cache.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn with_manifests(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Listing>, Problem> {
        if let Some(held) = self.held.get(&(repository.into(), package.clone()))
            && let Some(whole) = &held.whole
        {
            return Ok(Some(Listing::clone(whole)));
        }
        let releases = self.packages.releases();
        Ok(releases
            .listing(repository, package, Manifests::Read)
            .await?)
    }

    /// The package with its manifests, where they are in memory, in that revision.
    fn whole(&self, repository: &str, package: &PackageId, revision: &str) -> Option<Arc<Listing>> {
        let held = self.held.get(&(repository.into(), package.clone()))?;
        held.whole
            .clone()
            .filter(|whole| whole.revision == revision)
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
            if self.nothing(name).is_some() {
                continue;
            }
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

    /// Forgets all packages of a repository that was deleted.
    pub fn forget(&self, repository: &str) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let gone: Vec<Key> = self
            .held
            .iter()
            .filter(|(key, _)| *key.0 == *repository)
            .map(|(key, _)| key.as_ref().clone())
            .collect();
        for key in gone {
            self.held.invalidate(&key);
        }
    }

    /// Reads a package anew as soon as that is possible: a change may have been made whose answer was
    /// lost.
    pub fn doubt(&self, repository: &str, package: &PackageId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        if let Some(held) = self.held.get(&(repository.into(), package.clone())) {
            held.is_doubted.store(true, Ordering::Release);
            held.still_current.end();
        }
        self.note_that_something_is_here(repository);
    }

    fn note_that_something_is_here(&self, repository: &str) {
        let mut contents = self
            .contents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(filled) = &mut contents.filled {
            filled.insert(repository.into());
        }
        let nothing = contents.nothing.remove(repository);
        drop(contents);
        if let Some(nothing) = nothing {
            nothing.still_current.end();
        }
    }

    /// Forgets a package that changed, so that nobody is given its earlier state.
    pub fn changed(&self, repository: &str, package: &PackageId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.held.invalidate(&(repository.into(), package.clone()));
        self.note_that_something_is_here(repository);
    }
}

fn is_kept_whole(listing: &Listing) -> bool {
    listing.weight() <= WHOLE_WEIGHT_MAX
}

fn own_package(listing: Option<Arc<Listing>>, restrictions: Option<Restrictions>) -> OwnPackage {
    OwnPackage {
        listing,
        whole: None,
        restrictions,
        still_current: StillCurrent::default(),
        is_doubted: AtomicBool::new(false),
        versions: OnceLock::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Origin;

    #[test]
    fn a_large_package_is_not_kept_with_its_manifests() {
        let mut listing = Listing {
            package: crate::format::package("npm:acme").unwrap(),
            origin: Origin::Internal,
            revision: String::new(),
            changed: jiff::Timestamp::UNIX_EPOCH,
            versions: vec![Release {
                version: "1.0.0".into(),
                status: crate::package::Status::Published,
                origin: Origin::Internal,
                published: jiff::Timestamp::UNIX_EPOCH,
                manifest: Box::default(),
                revision: Box::default(),
                assets: Vec::new(),
            }],
            tags: std::collections::BTreeMap::new(),
        };
        let room = (WHOLE_WEIGHT_MAX - listing.weight()) as usize;
        listing.versions[0].manifest = "x".repeat(room).into();
        assert!(is_kept_whole(&listing));
        listing.versions[0].manifest = "x".repeat(room + 1).into();
        assert!(!is_kept_whole(&listing));
    }
}
