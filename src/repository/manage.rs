//! The operator's commands about repositories: list, copy, set a status, delete, retain, and manage
//! the spool. The command line and the running server share them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::change::{Committer, PackageChange};
use super::forward::Forwarder;
use super::list::Page;
use super::lookup::{Candidate, Lookup};
use super::receive::BodyReceiver;
use super::source::Source;
use super::{Reader, Repository, Snapshot};
use crate::format::package;
use crate::package::{
    Algorithm, BlobId, Format, Listing, Origin, PackageId, Release, Status, Summary, VersionId,
};
use crate::problem::{Decider, Problem};
use crate::store::Store;
use crate::store::catalog::PulledFile;
use crate::store::packages::{Delivery, NewRelease, Packages, Spooled, Step};
use crate::task::Tasks;

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum ManageCommand {
    /// The packages of a repository.
    List {
        repository: String,
        format: Option<String>,
        /// Behind this one.
        after: String,
        limit: usize,
        #[serde(default)]
        which: Which,
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
        /// The statuses that the versions may come from; none: any.
        #[serde(default)]
        from: Vec<Status>,
        status: Status,
    },
    /// The whole package where no versions are named.
    Delete {
        repository: String,
        package: String,
        versions: Vec<String>,
        /// The statuses that the versions may have; none: any.
        #[serde(default)]
        from: Vec<Status>,
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

/// Which packages of a repository are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// Its own and those pulled through it, by name.
    #[default]
    All,
    /// Packages that were published or copied into it.
    Own,
    /// Its own, and behind them those pulled through it.
    OwnAndCached,
}

/// The result of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum ManageOutcome {
    Packages {
        packages: Vec<Summary>,
        /// Packages pulled through the repository, where they were asked for apart.
        #[serde(default)]
        cached: Vec<Summary>,
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
    /// The publish date in milliseconds since 1970.
    pub published_at: Option<i64>,
    pub tags: Vec<String>,
    pub assets: Vec<VersionFile>,
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
pub struct VersionFile {
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

/// Carries out what an operator, or a caller of the API, does to repositories.
pub struct Manager {
    pub(super) reader: Arc<Reader>,
    pub(super) receiver: Arc<BodyReceiver>,
    pub(super) committer: Arc<Committer>,
    forwarder: Arc<Forwarder>,
}

impl Manager {
    #[must_use]
    pub fn new(
        reader: &Arc<Reader>,
        receiver: &Arc<BodyReceiver>,
        committer: &Arc<Committer>,
        forwarder: &Arc<Forwarder>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: Arc::clone(reader),
            receiver: Arc::clone(receiver),
            committer: Arc::clone(committer),
            forwarder: Arc::clone(forwarder),
        })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        self.reader.fetcher.store()
    }

    pub(super) fn packages(&self) -> &Packages {
        self.store().packages()
    }

    pub(super) fn tasks(&self) -> &Tasks {
        self.reader.fetcher.tasks()
    }

    /// Carries the command out.
    ///
    /// # Errors
    /// Where what it names is not there, or cannot be changed so.
    pub async fn execute(
        &self,
        snapshot: &Arc<Snapshot>,
        command: ManageCommand,
    ) -> Result<ManageOutcome, Problem> {
        match command {
            ManageCommand::List {
                repository,
                format,
                after,
                limit,
                which,
            } => {
                let format = format
                    .map(|format| format.parse::<Format>())
                    .transpose()
                    .map_err(|error| Problem::invalid(error.to_string()))?;
                let repository = snapshot.repository(&repository)?;
                let page = Page {
                    format,
                    after: &after,
                    limit,
                };
                self.list(repository, which, page).await
            }
            ManageCommand::Show {
                repository,
                package: name,
            } => {
                let repository = snapshot.repository(&repository)?;
                let versions = self.versions(repository, &package(&name)?).await?;
                Ok(ManageOutcome::Versions { versions })
            }
            ManageCommand::Copy {
                from,
                to,
                package: name,
                versions,
            } => {
                let (from, to) = (snapshot.repository(&from)?, snapshot.repository(&to)?);
                let package = package(&name)?;
                let versions = read_versions(&package, &versions)?;
                let lookup = Lookup::new(snapshot, from, &package);
                self.copy(&lookup, to, &versions).await
            }
            ManageCommand::Status {
                repository,
                package: name,
                versions,
                from,
                status,
            } => {
                let repository = snapshot.repository(&repository)?;
                let package = package(&name)?;
                let listing = self.reader.own.listing(&repository.name, &package).await?;
                let step = Step::SetStatus {
                    versions: stored(repository, &listing, &versions)?,
                    from,
                    to: status,
                };
                let change = PackageChange::of(&repository.name, &package).step(step);
                let versions = self.committer.commit(change).await?.changed;
                Ok(ManageOutcome::Changed { versions })
            }
            ManageCommand::Delete {
                repository,
                package: name,
                versions,
                from,
            } => {
                let repository = snapshot.repository(&repository)?;
                let package = package(&name)?;
                let listing = self.reader.own.listing(&repository.name, &package).await?;
                let all = listing.versions.iter().map(|it| it.version.to_string());
                let versions = if versions.is_empty() {
                    all.collect()
                } else {
                    stored(repository, &listing, &versions)?
                };
                let step = Step::Delete { versions, from };
                let change = PackageChange::of(&repository.name, &package).step(step);
                let versions = self.committer.commit(change).await?.changed;
                Ok(ManageOutcome::Changed { versions })
            }
            ManageCommand::Retain { dry_run } => self.retain(snapshot, dry_run).await,
            ManageCommand::Spool => {
                let waiting = self.forwarder.waiting().await?;
                Ok(ManageOutcome::Spool { waiting })
            }
            ManageCommand::SpoolRetry { id } => {
                self.forwarder.retry(id.as_deref()).await?;
                Ok(ManageOutcome::Done)
            }
            ManageCommand::Events { state, limit } => {
                let deliveries = self
                    .packages()
                    .deliveries()
                    .list(state.as_deref(), limit)
                    .await?;
                Ok(ManageOutcome::Events { deliveries })
            }
            ManageCommand::EventsReplay { event } => {
                let count = self
                    .packages()
                    .deliveries()
                    .replay(event.as_deref())
                    .await?;
                Ok(ManageOutcome::Replayed { count })
            }
            ManageCommand::SpoolDrop { id } => {
                self.forwarder.unspool(&id).await?;
                Ok(ManageOutcome::Done)
            }
        }
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
                    let held = self.reader.own.package(name, package).await?;
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
                        .files_pulled(&connection.registry, package)
                        .await?;
                    for pulled in pulled {
                        let PulledFile {
                            version,
                            file,
                            size,
                            blob,
                        } = pulled;
                        let asset = VersionFile {
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
        &self,
        lookup: &Lookup<'_>,
        to: &Repository,
        versions: &[VersionId],
    ) -> Result<ManageOutcome, Problem> {
        let mut change = PackageChange::of(&to.name, lookup.package);
        for version in versions {
            let release = match self.own_release(lookup, version).await? {
                Some(release) => release,
                None => self.pulled_release(lookup, version).await?,
            };
            change = change.record_stored(release);
        }
        let applied = self.committer.commit(change).await?;
        Ok(ManageOutcome::Copied {
            copied: applied.recorded,
            same: applied.same,
        })
    }

    async fn own_release(
        &self,
        lookup: &Lookup<'_>,
        version: &VersionId,
    ) -> Result<Option<NewRelease>, Problem> {
        let (from, package) = (lookup.repository, lookup.package);
        for name in from.own_names() {
            let Some(listing) = self.reader.own.with_manifests(name, package).await? else {
                continue;
            };
            let Some(release) = listing.find(version) else {
                continue;
            };
            let version = &*release.version;
            if !release.status.is_served() {
                return Err(Problem::invalid(format!(
                    "{package} {version} is {} in `{name}`: only what is served is copied",
                    release.status
                )));
            }
            lookup.permit(&Candidate::own(name, release))?;
            let packages = self.packages();
            let tags = listing.tags.iter();
            return Ok(Some(NewRelease {
                package: package.clone(),
                version: version.to_owned(),
                origin: release.origin,
                status: release.status,
                published: release.published,
                manifest: release.manifest.to_string(),
                readme: packages.releases().readme(name, package, version).await?,
                description: packages.releases().description(name, package).await?,
                keywords: String::new(),
                dependencies: packages
                    .releases()
                    .dependencies(name, package, version)
                    .await?,
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
}

/// The revision of a package from outside. It changes with each file that comes in.
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
            .map(|asset| VersionFile {
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

/// Versions of the package as people write them, each once.
fn read_versions(package: &PackageId, texts: &[String]) -> Result<Vec<VersionId>, Problem> {
    let mut versions = Vec::with_capacity(texts.len());
    for text in texts {
        let version = package.format().protocol().version(text)?;
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    Ok(versions)
}

/// The versions of the listing that are meant, in the spelling in which they are kept.
fn stored(
    repository: &Repository,
    listing: &Listing,
    texts: &[String],
) -> Result<Vec<String>, Problem> {
    let package = &listing.package;
    let kept = |version: VersionId| match listing.find(&version) {
        Some(release) => Ok(release.version.to_string()),
        None => Err(Problem::not_found(
            Decider::Repository(repository.name.clone()),
            format!("there is no {package} {version} in `{}`", repository.name),
        )),
    };
    let versions = read_versions(package, texts)?;
    versions.into_iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM, tool};
    use super::*;
    use crate::problem::Kind;

    const TWO: &str = "[[repository]]\nname = \"other\"\npublish = \"local\"\n";

    fn delete(versions: &[&str], from: &[Status]) -> ManageCommand {
        ManageCommand::Delete {
            repository: "team".to_owned(),
            package: tool().to_string(),
            versions: versions.iter().map(ToString::to_string).collect(),
            from: from.to_vec(),
        }
    }

    async fn versions(fixture: &Fixture, repository: &str) -> Vec<String> {
        let listing = fixture.reader.own.listing(repository, &tool()).await;
        let listing = listing.unwrap();
        let versions = listing.versions.iter();
        versions
            .map(|release| release.version.to_string())
            .collect()
    }

    #[tokio::test]
    async fn a_command_takes_versions_from_the_status_that_it_names_alone() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), "1.0", "one").await;
        let execute = async |command| fixture.manager.execute(&fixture.snapshot(), command).await;
        let problem = execute(delete(&["1.0"], &[Status::Archived]))
            .await
            .unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
        assert_eq!(versions(&fixture, "team").await, ["1.0"]);
        let problem = execute(delete(&["9.9"], &[])).await.unwrap_err();
        assert_eq!(problem.kind, Kind::NotFound);
        execute(delete(&["1.0"], &[Status::Published]))
            .await
            .unwrap();
        assert!(versions(&fixture, "team").await.is_empty());
        // Its bytes are the cache's now.
        assert_eq!(fixture.store.used_bytes(), 3);
    }

    #[tokio::test]
    async fn a_deleted_package_keeps_its_name_on_its_side() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), "1.0", "one").await;
        let all = delete(&[], &[]);
        fixture
            .manager
            .execute(&fixture.snapshot(), all)
            .await
            .unwrap();
        let origin = fixture
            .reader
            .own
            .listing("team", &tool())
            .await
            .unwrap()
            .origin;
        assert_eq!(origin, Origin::Internal);
    }

    #[tokio::test]
    async fn copies_name_the_same_bytes() {
        let fixture = Fixture::open(&format!("{TEAM}{TWO}")).await;
        fixture.publish(&tool(), "1.0", "one").await;
        let copy = || ManageCommand::Copy {
            from: "team".to_owned(),
            to: "other".to_owned(),
            package: tool().to_string(),
            versions: vec!["1.0".to_owned()],
        };
        for (new, known) in [(1, 0), (0, 1)] {
            let done = fixture.manager.execute(&fixture.snapshot(), copy()).await;
            let ManageOutcome::Copied { copied, same } = done.unwrap() else {
                panic!("a copy says what was copied")
            };
            assert_eq!((copied.len(), same.len()), (new, known));
        }
        let all = delete(&[], &[]);
        fixture
            .manager
            .execute(&fixture.snapshot(), all)
            .await
            .unwrap();
        assert_eq!(versions(&fixture, "other").await, ["1.0"]);
        assert_eq!(fixture.store.used_bytes(), 0);
    }
}
