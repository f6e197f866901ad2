//! What an operator does to repositories: list, copy, give a status, delete, retain, and see to the
//! spool. One set of commands, for the command line and for the running server.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::publish::{Publisher, newer, refused};
use super::source::Source;
use super::{Repository, Snapshot};
use crate::clock;
use crate::config::Retention;
use crate::format::package;
use crate::package::{
    Algorithm, BlobId, Format, Listing, Origin, PackageId, Release, Status, Summary,
};
use crate::problem::{Decider, Problem};
use crate::store::packages::{Delivery, NewRelease, Spooled};

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum Command {
    /// The packages of a repository, its own and those pulled through it.
    List {
        repository: String,
        format: Option<String>,
        /// Behind this one.
        after: String,
        limit: usize,
    },
    /// The versions of one package.
    Show {
        repository: String,
        package: String,
    },
    Copy {
        from: String,
        to: String,
        package: String,
        versions: Vec<String>,
    },
    Status {
        repository: String,
        package: String,
        versions: Vec<String>,
        status: Status,
    },
    /// The whole package where no versions are named.
    Delete {
        repository: String,
        package: String,
        versions: Vec<String>,
    },
    /// Deletes what the configuration does not keep.
    Retain {
        dry_run: bool,
    },
    Spool,
    /// Tries what waits at once: one, or all.
    SpoolRetry {
        id: Option<String>,
    },
    /// Events on their way to targets, the newest first.
    Events {
        /// `waiting`, `delivered` or `dead`; none: all.
        state: Option<String>,
        limit: usize,
    },
    /// Sends an event again, or all that were put aside.
    EventsReplay {
        event: Option<String>,
    },
    /// Gives one up.
    SpoolDrop {
        id: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    Packages {
        packages: Vec<Summary>,
    },
    Versions {
        versions: Vec<Version>,
    },
    Copied {
        copied: Vec<String>,
        same: Vec<String>,
    },
    Changed {
        versions: Vec<String>,
    },
    Retained {
        deleted: Vec<Deleted>,
        dry_run: bool,
    },
    Spool {
        waiting: Vec<Spooled>,
    },
    Events {
        deliveries: Vec<Delivery>,
    },
    Replayed {
        count: u64,
    },
    Done,
}

/// One version of a repository's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
    /// Another after each change to it.
    pub revision: String,
    /// The repository whose own it is, or through which it was pulled.
    pub repository: String,
    /// Published or copied into that repository, rather than pulled through it.
    pub is_own: bool,
    /// Through which it came, where it was pulled.
    pub connection: Option<String>,
    pub status: Status,
    pub origin: Origin,
    pub published: Option<String>,
    /// The same in milliseconds since 1970.
    pub published_at: Option<i64>,
    pub tags: Vec<String>,
    pub assets: Vec<Asset>,
}

impl Version {
    /// Whether all files of the other are among its own, byte for byte.
    #[must_use]
    pub fn has_files_of(&self, other: &Self) -> bool {
        other.assets.iter().all(|asset| {
            let digest = asset.digests.get("sha256");
            self.assets
                .iter()
                .any(|one| one.digests.get("sha256") == digest)
        })
    }
}

/// One file of a version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asset {
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// By the algorithm's name, hexadecimal.
    pub digests: BTreeMap<String, String>,
}

/// A version that retention deletes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deleted {
    pub repository: String,
    pub package: String,
    pub version: String,
    /// Bytes.
    pub size: u64,
}

/// Packages that are looked through at once.
const PAGE: usize = 1000;

impl Publisher {
    /// Carries the command out.
    ///
    /// # Errors
    /// Where what it names is not there, or cannot be changed so.
    pub async fn execute(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        command: Command,
    ) -> Result<Outcome, Problem> {
        match command {
            Command::List {
                repository,
                format,
                after,
                limit,
            } => {
                let format = format
                    .map(|format| format.parse::<Format>())
                    .transpose()
                    .map_err(|error| Problem::invalid(error.to_string()))?;
                let repository = snapshot.repository(&repository)?;
                let packages = self.list(repository, format, &after, limit).await?;
                Ok(Outcome::Packages { packages })
            }
            Command::Show {
                repository,
                package: name,
            } => {
                let repository = snapshot.repository(&repository)?;
                let versions = self.versions(repository, &package(&name)?).await?;
                Ok(Outcome::Versions { versions })
            }
            Command::Copy {
                from,
                to,
                package: name,
                versions,
            } => {
                let (from, to) = (snapshot.repository(&from)?, snapshot.repository(&to)?);
                self.copy(from, to, &package(&name)?, &versions).await
            }
            Command::Status {
                repository,
                package: name,
                versions,
                status,
            } => {
                let repository = snapshot.repository(&repository)?;
                let versions = self
                    .set_status(&repository.name, &package(&name)?, versions, status)
                    .await?;
                Ok(Outcome::Changed { versions })
            }
            Command::Delete {
                repository,
                package: name,
                versions,
            } => {
                let repository = snapshot.repository(&repository)?;
                let package = package(&name)?;
                let listing = self.listing(repository, &package).await?;
                let all = listing.versions.iter().map(|it| it.version.to_string());
                let chosen: Vec<String> = if versions.is_empty() {
                    all.collect()
                } else {
                    for version in &versions {
                        if listing.release(version).is_none() {
                            return Err(absent(repository, &package, version));
                        }
                    }
                    versions
                };
                self.delete(&repository.name, &package, &chosen).await?;
                Ok(Outcome::Changed { versions: chosen })
            }
            Command::Retain { dry_run } => self.retain(snapshot, dry_run).await,
            Command::Spool => self.spool_list().await,
            Command::SpoolRetry { id } => {
                let hurried = self.store().packages().hurry(id.as_deref()).await;
                hurried.map_err(|error| Problem::internal("the spool cannot be written", error))?;
                self.spooling.notify_one();
                Ok(Outcome::Done)
            }
            Command::Events { state, limit } => {
                let packages = self.store().packages();
                let deliveries = packages.deliveries(state.as_deref(), limit).await;
                let deliveries = deliveries
                    .map_err(|error| Problem::internal("the events cannot be read", error))?;
                Ok(Outcome::Events { deliveries })
            }
            Command::EventsReplay { event } => {
                let replayed = self.store().packages().replay(event.as_deref()).await;
                let count = replayed
                    .map_err(|error| Problem::internal("the events cannot be written", error))?;
                Ok(Outcome::Replayed { count })
            }
            Command::SpoolDrop { id } => {
                self.unspool(&id).await?;
                Ok(Outcome::Done)
            }
        }
    }

    async fn spool_list(&self) -> Result<Outcome, Problem> {
        let waiting = self.store().packages().spooled().await;
        let waiting =
            waiting.map_err(|error| Problem::internal("the spool cannot be read", error))?;
        Ok(Outcome::Spool { waiting })
    }

    /// What the repository has, its own before what was pulled through it, by name.
    async fn list(
        &self,
        repository: &Repository,
        format: Option<Format>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Summary>, Problem> {
        let failed = |error| Problem::internal("the catalog cannot be read", error);
        let mut found = BTreeMap::new();
        for source in &repository.sources {
            let page = match source {
                Source::Own(name) => self
                    .store()
                    .packages()
                    .list(name, format, after, limit)
                    .await
                    .map_err(failed)?,
                Source::Connection(connection)
                    if format.is_none_or(|format| format == connection.format) =>
                {
                    let catalog = self.store().catalog();
                    catalog
                        .assets()
                        .packages_pulled(&connection.name, after, limit)
                        .await
                        .map_err(failed)?
                }
                Source::Connection(_) => Vec::new(),
            };
            for one in page {
                found.entry(one.package.clone()).or_insert(one);
            }
        }
        Ok(found.into_values().take(limit).collect())
    }

    async fn versions(
        &self,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Vec<Version>, Problem> {
        let mut found: Vec<Version> = Vec::new();
        for source in &repository.sources {
            match source {
                Source::Own(name) => {
                    let held = self.reader.own.of(name, package).await?;
                    let Some(listing) = &held.listing else {
                        continue;
                    };
                    for release in &listing.versions {
                        if !found.iter().any(|it| it.version == *release.version) {
                            found.push(own_version(name, listing, release));
                        }
                    }
                }
                Source::Connection(connection) if connection.format == package.format() => {
                    let catalog = self.store().catalog();
                    let pulled = catalog
                        .assets()
                        .files_pulled(&connection.name, package)
                        .await;
                    let pulled = pulled
                        .map_err(|error| Problem::internal("the catalog cannot be read", error))?;
                    for (version, file, size, blob) in pulled {
                        let asset = Asset {
                            file,
                            size,
                            digests: BTreeMap::from([("sha256".to_owned(), blob.to_hex())]),
                        };
                        match found.iter_mut().find(|it| it.version == version) {
                            Some(one) if !one.is_own => {
                                one.revision = revision_after(&one.revision, blob);
                                one.assets.push(asset);
                            }
                            Some(_) => {}
                            None => found.push(Version {
                                version,
                                revision: revision_after("", blob),
                                repository: repository.name.clone(),
                                is_own: false,
                                connection: Some(connection.name.clone()),
                                status: Status::Published,
                                origin: Origin::External,
                                published: None,
                                published_at: None,
                                tags: Vec::new(),
                                assets: vec![asset],
                            }),
                        }
                    }
                }
                Source::Connection(_) => {}
            }
        }
        if found.is_empty() {
            return Err(Problem::not_found(
                Decider::Repository(repository.name.clone()),
                format!("`{}` has nothing of {package}", repository.name),
            ));
        }
        Ok(found)
    }

    /// Copies versions that one repository has into another; no bytes move.
    async fn copy(
        self: &Arc<Self>,
        from: &Repository,
        to: &Repository,
        package: &PackageId,
        versions: &[String],
    ) -> Result<Outcome, Problem> {
        let mut releases = Vec::new();
        for version in versions {
            let release = match self.own_release(from, package, version).await? {
                Some(release) => release,
                None => self.pulled_release(from, package, version).await?,
            };
            releases.push(release);
        }
        let recording = self.store().retention().recording().await;
        for asset in releases.iter().flat_map(|release| &release.assets) {
            let kept = self.store().keep_for_good(asset.blob).await;
            let is_here =
                kept.map_err(|error| Problem::internal("a stored file cannot be read", error))?;
            if !is_here {
                return Err(Problem::not_found(
                    Decider::Repository(from.name.clone()),
                    format!("the bytes of {package} {} are not here", asset.file),
                )
                .advice("fetch it once through the repository, then copy it"));
            }
        }
        let newer = newer(package.format());
        let done = self
            .store()
            .packages()
            .copy(&to.name, &releases, &newer)
            .await;
        drop(recording);
        self.reader.own.changed(&to.name, package).await;
        let copied = done.map_err(|error| refused(&to.name, package, error))?;
        Ok(Outcome::Copied {
            copied: copied.copied,
            same: copied.same,
        })
    }

    async fn own_release(
        &self,
        from: &Repository,
        package: &PackageId,
        version: &str,
    ) -> Result<Option<NewRelease>, Problem> {
        for name in from.own_names() {
            let Some(listing) = self.reader.own.whole(name, package).await? else {
                continue;
            };
            let Some(release) = listing.release(version) else {
                continue;
            };
            if !release.status.is_served() {
                return Err(Problem::invalid(format!(
                    "{package} {version} is {} in `{name}`: only what is served is copied",
                    release.status
                )));
            }
            let packages = self.store().packages();
            let failed = |error| Problem::internal("the package catalog cannot be read", error);
            let tags = listing.tags.iter();
            return Ok(Some(NewRelease {
                package: package.clone(),
                version: version.to_owned(),
                origin: release.origin,
                status: release.status,
                published: release.published,
                manifest: release.manifest.to_string(),
                readme: packages
                    .readme(name, package, version)
                    .await
                    .map_err(failed)?,
                description: packages.description(name, package).await.map_err(failed)?,
                keywords: String::new(),
                dependencies: packages
                    .dependencies(name, package, version)
                    .await
                    .map_err(failed)?,
                assets: release.served().cloned().collect(),
                tags: tags
                    .filter(|(_, tagged)| tagged.as_str() == version)
                    .map(|(tag, _)| tag.clone())
                    .collect(),
                is_whole: false,
            }));
        }
        Ok(None)
    }

    async fn delete(
        &self,
        repository: &str,
        package: &PackageId,
        versions: &[String],
    ) -> Result<(), Problem> {
        let newer = newer(package.format());
        let done = self
            .store()
            .packages()
            .delete(repository, package, versions, &newer)
            .await;
        self.reader.own.changed(repository, package).await;
        let freed = done.map_err(|error| refused(repository, package, error))?;
        self.let_go(&freed).await;
        Ok(())
    }

    /// Deletes the versions that no rule of retention keeps, or says which they would be.
    async fn retain(&self, snapshot: &Snapshot, dry_run: bool) -> Result<Outcome, Problem> {
        let mut deleted = Vec::new();
        for repository in snapshot.repositories() {
            let of_repository = |rule: &&Retention| {
                rule.repository
                    .as_ref()
                    .is_none_or(|name| *name == repository.name)
            };
            let rules: Vec<&Retention> = snapshot
                .config
                .retain
                .iter()
                .filter(of_repository)
                .collect();
            if rules.is_empty() {
                continue;
            }
            let mut after = String::new();
            loop {
                let page = self
                    .store()
                    .packages()
                    .list(&repository.name, None, &after, PAGE)
                    .await
                    .map_err(|error| Problem::internal("the catalog cannot be read", error))?;
                let Some(last) = page.last() else { break };
                after = last.package.clone();
                for one in &page {
                    let package = package(&one.package)?;
                    let rule = rules
                        .iter()
                        .find(|rule| rule.packages.iter().any(|it| it.names(&package)));
                    if let Some(rule) = rule {
                        deleted.extend(self.expire(repository, &package, rule, dry_run).await?);
                    }
                }
            }
        }
        Ok(Outcome::Retained { deleted, dry_run })
    }

    async fn expire(
        &self,
        repository: &Repository,
        package: &PackageId,
        rule: &Retention,
        dry_run: bool,
    ) -> Result<Vec<Deleted>, Problem> {
        let listing = self.listing(repository, package).await?;
        let expired: Vec<&Release> = expired(&listing, rule);
        let versions: Vec<String> = expired.iter().map(|it| it.version.to_string()).collect();
        if !dry_run && !versions.is_empty() {
            self.delete(&repository.name, package, &versions).await?;
        }
        Ok(expired
            .into_iter()
            .map(|release| Deleted {
                repository: repository.name.clone(),
                package: package.to_string(),
                version: release.version.to_string(),
                size: release.assets.iter().map(|asset| asset.size).sum(),
            })
            .collect())
    }
}

/// The versions that the rule does not keep: each of its conditions keeps by itself. What a tag
/// points to stays.
fn expired<'a>(listing: &'a Listing, rule: &Retention) -> Vec<&'a Release> {
    let protocol = listing.package.format().protocol();
    let mut versions: Vec<&Release> = listing
        .versions
        .iter()
        .filter(|release| !matches!(release.status, Status::Disposed | Status::Unfinished))
        .collect();
    versions.sort_by(|a, b| {
        if protocol.is_newer(&a.version, &b.version) {
            std::cmp::Ordering::Less
        } else if protocol.is_newer(&b.version, &a.version) {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        }
    });
    let now = clock::now();
    versions
        .into_iter()
        .enumerate()
        .filter(|(index, release)| {
            let among_last = rule.keep_last.is_some_and(|count| *index < count);
            let is_young = rule.keep_newer_than.is_some_and(|age| {
                now.duration_since(release.published)
                    .try_into()
                    .is_ok_and(|passed: std::time::Duration| passed < age)
            });
            let is_tagged = listing
                .tags
                .values()
                .any(|tagged| *tagged == *release.version);
            !among_last && !is_young && !is_tagged
        })
        .map(|(_, release)| release)
        .collect()
}

/// What is pulled through is in another revision with each file that comes.
fn revision_after(before: &str, blob: BlobId) -> String {
    let both = format!("{before}{}", blob.to_hex());
    let hex = BlobId::of(both.as_bytes()).to_hex();
    hex.chars().take(32).collect()
}

fn own_version(repository: &str, listing: &Listing, release: &Release) -> Version {
    let tags = listing.tags.iter();
    Version {
        version: release.version.to_string(),
        revision: release.revision.to_string(),
        repository: repository.to_owned(),
        is_own: true,
        connection: None,
        status: release.status,
        origin: release.origin,
        published: Some(release.published.to_string()),
        published_at: Some(release.published.as_millisecond()),
        tags: tags
            .filter(|(_, version)| **version == *release.version)
            .map(|(tag, _)| tag.clone())
            .collect(),
        assets: release
            .assets
            .iter()
            .map(|asset| Asset {
                file: asset.file.to_string(),
                size: asset.size,
                digests: Algorithm::ALL
                    .into_iter()
                    .map(|algorithm| (algorithm.as_str().to_owned(), asset.digest(algorithm)))
                    .collect(),
            })
            .collect(),
    }
}

fn absent(repository: &Repository, package: &PackageId, version: &str) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.name.clone()),
        format!("there is no {package} {version} in `{}`", repository.name),
    )
}
