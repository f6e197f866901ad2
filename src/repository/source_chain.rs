//! The sources of one package, and the one walk that asks them in order. A version that a nearer
//! source has hides the same version of farther sources. Sources behind an offline connection are
//! not asked. A source that does not answer ends the walk: nobody knows what it has.

use std::sync::Arc;

use super::Repository;
use super::evidence::EvidenceReader;
use super::lookup::Lookup;
use super::outside::VersionsOutside;
use super::own::{OwnPackage, OwnPackages};
use super::source::Source;
use crate::connection::Connection;
use crate::fetch::StillCurrent;
use crate::package::{Format, Origin, PackageId};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::Entrance;

/// The versions that nearer sources have. Farther sources' files of these versions are not used.
#[derive(Clone, Default)]
pub(super) struct ShadowedVersions {
    own: Vec<Arc<OwnPackage>>,
    outside: Vec<VersionsOutside>,
}

impl ShadowedVersions {
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.outside.is_empty()
    }

    pub fn has(&self, version: &str) -> bool {
        self.own.iter().any(|held| held.has_version(version))
            || self.outside.iter().any(|source| source.has(version))
    }

    /// Bytes that change whenever these versions change. They are a part of a rendering's cache key.
    pub fn name(&self) -> Vec<u8> {
        let mut name = Vec::new();
        for held in &self.own {
            let revision = held.listing.as_ref().map(|listing| &listing.revision);
            name.extend(revision.into_iter().flat_map(|it| it.as_bytes()));
        }
        self.outside
            .iter()
            .for_each(|source| source.name(&mut name));
        name
    }

    /// Checks that `version` may be taken from `source`.
    ///
    /// # Errors
    /// Where a nearer source has the version.
    pub fn permit(&self, source: Decider, what: &str, version: &str) -> Result<(), Problem> {
        if !self.has(version) {
            return Ok(());
        }
        Err(Problem::not_found(
            source,
            format!("{what} is of a version that a nearer repository has, without this file"),
        ))
    }
}

/// A source that may have something of the package.
#[derive(Clone)]
pub(super) enum PackageSource {
    Own {
        repository: Arc<str>,
        held: Arc<OwnPackage>,
    },
    Outside(Arc<Connection>),
}

impl PackageSource {
    fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Own { .. } => None,
            Self::Outside(connection) => Some(connection),
        }
    }
}

/// The sources of one package, the nearest first.
pub(super) struct SourceChain {
    pub sources: Vec<PackageSource>,
    /// One for each own repository that was asked. It ends when the repository's packages change,
    /// so that a source that had nothing may have something.
    pub still_current: Vec<StillCurrent>,
    /// Why no connection is asked; `None` where connections are asked.
    blocked: Option<Problem>,
}

impl SourceChain {
    fn empty() -> Self {
        Self {
            sources: Vec::new(),
            still_current: Vec::new(),
            blocked: None,
        }
    }

    /// The chain for a document that is about no package: all connections of the format.
    pub fn of_connections(repository: &Repository, format: Format) -> Self {
        let connections = repository.connections_of(format);
        Self {
            sources: connections.cloned().map(PackageSource::Outside).collect(),
            ..Self::empty()
        }
    }

    /// The chain for a package: the own repositories that have it, and the connections that rules,
    /// origin control and package groups allow to be asked for it.
    ///
    /// # Errors
    /// Where a rule denies the name outright, or the package catalog cannot be read.
    pub async fn of_package(own: &OwnPackages, lookup: &Lookup<'_>) -> Result<Self, Problem> {
        let Lookup {
            snapshot,
            repository,
            package,
            now,
            ..
        } = *lookup;
        snapshot.config.rules.permit_name(package, now)?;
        let mut chain = Self::empty();
        let (mut seen, mut said) = (None, None);
        for source in &repository.sources {
            match source {
                Source::Own(name) => {
                    let held = own.package(name, package).await?;
                    // Where several repositories restrict the origin, the nearest one decides.
                    said = said.or(held.restrictions);
                    chain.still_current.push(held.still_current.clone());
                    let Some(listing) = &held.listing else {
                        continue;
                    };
                    if listing.origin == Origin::Internal {
                        seen = Some(Origin::Internal);
                    }
                    chain.sources.push(PackageSource::Own {
                        repository: Arc::clone(name),
                        held,
                    });
                }
                Source::Connection(connection) if connection.format == package.format() => {
                    let connection = Arc::clone(connection);
                    chain.sources.push(PackageSource::Outside(connection));
                }
                Source::Connection(_) => {}
            }
        }
        let control = snapshot.config.origins.control(package, said, seen);
        let before = chain.connections().count();
        chain.sources.retain(|source| {
            let connection = source.connection();
            connection.is_none_or(|connection| control.takes_from(&connection.name))
        });
        if before > 0 && chain.connections().next().is_none() {
            chain.blocked = Some(blocked_by_origin(repository, package));
        }
        if let Some(entrance) = snapshot.groups.entrance(package) {
            let open = snapshot.open_sources(&repository.name, &entrance);
            let before = chain.sources.len();
            chain.sources.retain(|source| match source {
                PackageSource::Own { repository, .. } => open.repositories.contains(&**repository),
                PackageSource::Outside(connection) => {
                    open.connections.contains(connection.name.as_str())
                }
            });
            if chain.sources.len() < before {
                let problem = blocked_by_group(repository, package, &entrance);
                chain.blocked.get_or_insert(problem);
            }
        }
        Ok(chain)
    }

    pub fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.sources.iter().filter_map(PackageSource::connection)
    }

    /// The connections that may be asked at the same time: all up to the first offline one. Whether
    /// those behind it are asked depends on what is stored of the offline one.
    pub fn connections_at_once(&self) -> Vec<&Arc<Connection>> {
        let mut at_once = Vec::new();
        for connection in self.connections() {
            at_once.push(connection);
            if connection.offline {
                break;
            }
        }
        at_once
    }

    /// Whether the connection may be asked for the package at all.
    pub fn may_ask(&self, connection: &Connection) -> bool {
        self.connections().any(|one| one.name == connection.name)
    }

    /// Whether the walk ends at the source at `index`: it is offline, so nobody knows what else it
    /// has, and a source behind it that is online might have somebody else's package of this name.
    fn ends_at(&self, index: usize) -> bool {
        let offline = |source: &PackageSource| source.connection().map(|it| it.offline);
        let mut farther = self.sources.iter().skip(index).map(offline);
        farther.next() == Some(Some(true)) && farther.any(|offline| offline == Some(false))
    }
}

/// How the walk goes on after a source's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The source has it.
    Take,
    /// The source has it, and no source behind it is asked.
    TakeLast,
    /// The source has nothing; the next source is asked.
    Next,
    /// The source failed or refused. No farther source may answer in its place.
    Stop,
}

/// Decides how the walk goes on; nothing else does. Only "not found" lets the walk go on to a
/// farther source.
fn judge<T>(outcome: &Result<Option<T>, Problem>, ends_here: bool) -> Step {
    match outcome {
        Ok(Some(_)) if ends_here => Step::TakeLast,
        Ok(Some(_)) => Step::Take,
        Ok(None) => Step::Next,
        Err(problem) if problem.kind == Kind::NotFound && !ends_here => Step::Next,
        Err(_) => Step::Stop,
    }
}

/// The first answer of a walk.
pub(super) struct First<T> {
    pub value: T,
    /// Whether no connection was asked before this answer. If one was, the answer must not be given
    /// again unasked: the nearer connection may have the package tomorrow.
    pub is_nearest_connection: bool,
}

/// The answers of all sources that had something.
pub(super) struct Collected<T> {
    /// The answers, the nearest source's first.
    pub values: Vec<T>,
    /// The "not found" of a source, if one said so.
    pub absent: Option<Problem>,
    /// The failure of a source that was passed over.
    pub away: Option<Problem>,
    /// Whether no connection was asked before the source at which the walk ended.
    is_nearest_connection: bool,
}

/// Whether a walk ends with the first answer or asks all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    First,
    All,
}

/// The consequence that a source that is away has for those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// It ends the walk: nobody knows what the source has.
    Ends,
    /// It is passed over: of a search or a list a part is worth having.
    PassedOver,
}

/// A walk over a chain of sources; `package` is `None` where the document is about no package.
pub(super) struct Walk<'a> {
    pub chain: &'a SourceChain,
    pub evidence: &'a Arc<EvidenceReader>,
    pub package: Option<&'a PackageId>,
}

impl Walk<'_> {
    /// Returns the answer of the nearest source that has one. `ask` is given the source and the
    /// versions that nearer sources have; it returns `None` where the source has nothing.
    ///
    /// # Errors
    /// The problem of the source at which the walk ended; `nothing` where no source had any.
    pub async fn first<T, F, Asking>(
        &self,
        ask: F,
        nothing: impl FnOnce() -> Problem,
    ) -> Result<First<T>, Problem>
    where
        F: Fn(PackageSource, ShadowedVersions) -> Asking,
        Asking: Future<Output = Result<Option<T>, Problem>>,
    {
        let visited = self.visit(ask, Wanted::First, Away::Ends).await?;
        let Collected {
            values,
            absent,
            is_nearest_connection,
            ..
        } = visited;
        match values.into_iter().next() {
            Some(value) => Ok(First {
                value,
                is_nearest_connection,
            }),
            None => Err(absent.unwrap_or_else(nothing).or_outage()),
        }
    }

    /// Returns the answers of all sources, the nearest first.
    ///
    /// # Errors
    /// Where a source does not answer.
    pub async fn all<T, F, Asking>(&self, ask: F) -> Result<Collected<T>, Problem>
    where
        F: Fn(PackageSource, ShadowedVersions) -> Asking,
        Asking: Future<Output = Result<Option<T>, Problem>>,
    {
        self.visit(ask, Wanted::All, Away::Ends).await
    }

    /// Returns the answers of the sources that answer, the nearest first. For documents that are about
    /// no single package alone: half an answer about a package is a wrong one.
    ///
    /// # Errors
    /// Where a source refuses.
    pub async fn answering<T, F, Asking>(&self, ask: F) -> Result<Collected<T>, Problem>
    where
        F: Fn(PackageSource, ShadowedVersions) -> Asking,
        Asking: Future<Output = Result<Option<T>, Problem>>,
    {
        self.visit(ask, Wanted::All, Away::PassedOver).await
    }

    /// Returns the answer of the nearest source that answers and has one, if any; see
    /// [`Walk::answering`].
    ///
    /// # Errors
    /// Where a source refuses.
    pub async fn first_answering<T, F, Asking>(&self, ask: F) -> Result<Collected<T>, Problem>
    where
        F: Fn(PackageSource, ShadowedVersions) -> Asking,
        Asking: Future<Output = Result<Option<T>, Problem>>,
    {
        self.visit(ask, Wanted::First, Away::PassedOver).await
    }

    async fn visit<T, F, Asking>(
        &self,
        ask: F,
        wanted: Wanted,
        away: Away,
    ) -> Result<Collected<T>, Problem>
    where
        F: Fn(PackageSource, ShadowedVersions) -> Asking,
        Asking: Future<Output = Result<Option<T>, Problem>>,
    {
        let mut shadowed = ShadowedVersions::default();
        let mut collected = Collected {
            values: Vec::new(),
            absent: self.chain.blocked.clone(),
            away: None,
            is_nearest_connection: true,
        };
        for (index, source) in self.chain.sources.iter().enumerate() {
            let outcome = ask(source.clone(), shadowed.clone()).await;
            // Where nobody farther could answer, what was absent before an outage is absent in it.
            let is_last = index + 1 == self.chain.sources.len();
            let outcome = match outcome {
                Err(problem) if is_last => Err(problem.or_absent()),
                outcome => outcome,
            };
            let step = match &outcome {
                Err(problem) if away == Away::PassedOver && problem.kind.is_outage() => Step::Next,
                outcome => judge(outcome, self.chain.ends_at(index)),
            };
            match outcome {
                Ok(value) => collected.values.extend(value),
                Err(problem) if problem.kind == Kind::NotFound => {
                    if problem.is_doubtful || collected.absent.is_none() {
                        collected.absent = Some(problem);
                    }
                }
                Err(problem) if step == Step::Next => {
                    collected.away.get_or_insert(problem);
                }
                Err(problem) => return Err(problem),
            }
            let is_over = match step {
                Step::Take => wanted == Wanted::First,
                Step::TakeLast | Step::Stop => true,
                Step::Next => false,
            };
            if is_over {
                break;
            }
            collected.is_nearest_connection &= source.connection().is_none();
            self.pass(index, &mut shadowed).await?;
        }
        Ok(collected)
    }

    /// Notes which versions the source at `index` has, for those behind it.
    async fn pass(&self, index: usize, shadowed: &mut ShadowedVersions) -> Result<(), Problem> {
        let mut rest = self.chain.sources.iter().skip(index);
        let (Some(source), true) = (rest.next(), rest.next().is_some()) else {
            return Ok(());
        };
        match (source, self.package) {
            (PackageSource::Own { held, .. }, _) => shadowed.own.push(Arc::clone(held)),
            (PackageSource::Outside(connection), Some(package)) => {
                let versions = self.evidence.versions_of(connection, package).await?;
                shadowed.outside.extend(versions);
            }
            (PackageSource::Outside(_), None) => {}
        }
        Ok(())
    }
}

fn blocked_by_group(
    repository: &Repository,
    package: &PackageId,
    entrance: &Entrance<'_>,
) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.name.clone()),
        format!(
            "{package} does not come here from outside: its package group `{}` says so",
            entrance.group.pattern
        ),
    )
    .advice("`aws codeartifact update-package-group-origin-configuration` changes that")
}

fn blocked_by_origin(repository: &Repository, package: &PackageId) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.name.clone()),
        format!("{package} is a name of our own: versions from outside are not taken"),
    )
    .advice("if they are meant, say so with [[origin]] packages = [\"…\"], upstream = \"allow\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_says_decides_who_is_asked_next() {
        let not_found = || Problem::not_found(Decider::Larder, "absent");
        let denied = || Problem::denied(Decider::Larder, "denied");
        let away = |kind| Problem::new(kind, Decider::Larder, "away");
        for (outcome, ends_here, step) in [
            (Ok(Some(())), false, Step::Take),
            // Only what an offline source has is shown; sources behind it are not asked.
            (Ok(Some(())), true, Step::TakeLast),
            (Ok(None), false, Step::Next),
            (Err(not_found()), false, Step::Next),
            // An offline source, with a farther one that is online.
            (Err(not_found()), true, Step::Stop),
            (Err(denied()), false, Step::Stop),
            (Err(away(Kind::Upstream)), false, Step::Stop),
            (Err(away(Kind::Unverified)), false, Step::Stop),
            (Err(away(Kind::Loop)), false, Step::Stop),
            (Err(away(Kind::Invalid)), false, Step::Stop),
        ] {
            assert_eq!(judge(&outcome, ends_here), step, "{outcome:?} {ends_here}");
        }
    }
}
