//! Why a version is served or not: the walk and the decision of the doors, told in words.

use std::collections::HashSet;
use std::sync::Arc;

use super::lookup::{Candidate, Lookup};
use super::outside::VersionsOutside;
use super::source_chain::{PackageSource, ShadowedVersions};
use super::{Reader, Repository, Snapshot};
use crate::package::{Origin, PackageId, Status, VersionId};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::RuleQuestion;

/// Why a version is served or not.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    pub package: String,
    pub version: String,
    pub allowed: bool,
    pub rule: Option<String>,
    pub reason: String,
    pub published: Option<String>,
    /// The repository whose own it is, or the connection that has it.
    pub connection: Option<String>,
}

/// A version as the source has it that decides about it.
struct Found {
    source: String,
    published: Option<jiff::Timestamp>,
    origin: Origin,
    status: Status,
}

/// How many versions that are not served are told of, where none is named.
const HELD_MAX: usize = 20;
/// How many versions are looked at for that. A package may have thousands.
const LOOKED_AT_MAX: usize = 500;

/// One who says why versions of a package are served or not.
pub struct Explainer<'a> {
    reader: &'a Arc<Reader>,
    lookup: Lookup<'a>,
}

impl Reader {
    /// Says why versions of the package are served or not, by the same walk and the same decision as
    /// their files.
    #[must_use]
    pub fn explain<'a>(
        self: &'a Arc<Self>,
        snapshot: &'a Arc<Snapshot>,
        repository: &'a Repository,
        package: &'a PackageId,
    ) -> Explainer<'a> {
        Explainer {
            reader: self,
            lookup: Lookup::new(snapshot, repository, package),
        }
    }
}

impl Explainer<'_> {
    /// The newest versions that are not served, and the first that is, in the order in which clients
    /// choose. Prereleases are behind all others there, and a version may be held back behind one that
    /// is served, so the walk goes on behind the first.
    ///
    /// # Errors
    /// Where a source that has to be asked is away.
    pub async fn newest(&self) -> Result<Vec<Explanation>, Problem> {
        let versions = match self.versions().await {
            Ok(versions) if versions.is_empty() => Err(self.absent("")),
            named => named,
        };
        let versions = match versions {
            Ok(versions) => versions,
            Err(problem) => return Ok(vec![self.refused("", problem)?]),
        };
        let (mut told, mut is_one_served, mut held) = (Vec::new(), false, 0);
        for version in versions.iter().take(LOOKED_AT_MAX) {
            if is_one_served && held == HELD_MAX {
                break;
            }
            let explanation = self.version(version.as_str()).await?;
            let is_told = if explanation.allowed {
                !std::mem::replace(&mut is_one_served, true)
            } else {
                held += 1;
                held <= HELD_MAX
            };
            if is_told {
                told.push(explanation);
            }
        }
        Ok(told)
    }

    /// # Errors
    /// Where a source that has to be asked is away.
    pub async fn version(&self, version: &str) -> Result<Explanation, Problem> {
        let lookup = &self.lookup;
        let (snapshot, package) = (lookup.snapshot, lookup.package);
        let mut explanation = self.empty(version);
        let found = match self.version_found(version).await {
            Ok(found) => found,
            Err(problem) => return self.refused(version, problem),
        };
        explanation.published = found.published.map(|published| published.to_string());
        explanation.connection = Some(found.source.clone());
        let candidate = Candidate {
            source: &found.source,
            version,
            published: found.published,
            origin: found.origin,
            status: found.status,
        };
        let question = RuleQuestion {
            package,
            version,
            published: found.published,
            origin: found.origin,
        };
        let decision = snapshot.config.rules.decide(&question, lookup.now);
        explanation.rule = decision.rule.map(|rule| rule.name.clone());
        match (lookup.permit(&candidate), decision.ruling.reason()) {
            (Err(_), _) if !found.status.is_served() => {
                explanation.rule = None;
                explanation.reason = format!("its status is {}", found.status);
            }
            (_, Some(reason)) => explanation.reason = reason,
            (Err(problem), None) => explanation.reason = problem.message,
            (Ok(()), None) => {
                explanation.allowed = true;
                explanation.reason = match decision.rule {
                    Some(_) => "allowed".to_owned(),
                    None => "no rule matches".to_owned(),
                };
            }
        }
        Ok(explanation)
    }

    fn empty(&self, version: &str) -> Explanation {
        Explanation {
            package: self.lookup.package.to_string(),
            version: version.to_owned(),
            allowed: false,
            rule: None,
            reason: String::new(),
            published: None,
            connection: None,
        }
    }

    /// Why nothing is served, where that is what a source or a rule says.
    fn refused(&self, version: &str, problem: Problem) -> Result<Explanation, Problem> {
        if !matches!(problem.kind, Kind::NotFound | Kind::Denied) {
            return Err(problem);
        }
        let (rules, lookup) = (&self.lookup.snapshot.config.rules, &self.lookup);
        let (rule, reason) = match rules.name_refusal(lookup.package, lookup.now) {
            Some((rule, why)) => (Some(rule.name.clone()), why.to_owned()),
            None => (None, problem.message),
        };
        Ok(Explanation {
            rule,
            reason,
            ..self.empty(version)
        })
    }

    /// The versions that all sources have together, those first that clients choose first.
    async fn versions(&self) -> Result<Vec<VersionId>, Problem> {
        let (reader, package) = (self.reader, self.lookup.package);
        let protocol = package.format().protocol();
        let chain = reader.chain(&self.lookup).await?;
        let walk = reader.walk(&chain, Some(package));
        let ask = |source: PackageSource, _| async move {
            let named: Vec<VersionId> = match source {
                PackageSource::Own { held, .. } => {
                    let releases = held.listing.iter().flat_map(|it| &it.versions);
                    let versions = releases.map(|it| protocol.known_version(&it.version));
                    versions.collect()
                }
                PackageSource::Outside(connection) => {
                    let versions = reader.evidence.versions_of(&connection, package).await?;
                    versions
                        .iter()
                        .flat_map(VersionsOutside::versions)
                        .collect()
                }
            };
            Ok(Some(named))
        };
        let collected = walk.all(ask).await?;
        if let (true, Some(absent)) = (collected.values.concat().is_empty(), collected.absent) {
            return Err(absent);
        }
        let named: HashSet<VersionId> = collected.values.into_iter().flatten().collect();
        let mut versions: Vec<VersionId> = named.into_iter().collect();
        versions.sort_by(|a, b| protocol.compare_choice(b.as_str(), a.as_str()));
        Ok(versions)
    }

    fn absent(&self, version: &str) -> Problem {
        let (package, name) = (self.lookup.package, &self.lookup.repository.name);
        let what = format!("{package} {version}");
        Problem::not_found(
            Decider::Repository(name.clone()),
            format!("no source of `{name}` has {}", what.trim_end()),
        )
    }

    async fn version_found(&self, version: &str) -> Result<Found, Problem> {
        let (reader, lookup) = (self.reader, &self.lookup);
        let wanted = &lookup.package.format().protocol().known_version(version);
        let chain = reader.chain(lookup).await?;
        let walk = reader.walk(&chain, Some(lookup.package));
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { repository, held } => {
                    let listing = held.listing.as_ref();
                    let release = listing.and_then(|listing| listing.find(wanted));
                    Ok(release.map(|release| Found {
                        source: repository.to_string(),
                        published: Some(release.published),
                        origin: release.origin,
                        status: release.status,
                    }))
                }
                PackageSource::Outside(connection) => {
                    let decider = Decider::Connection(connection.name.clone());
                    let what = format!("{} {version}", lookup.package);
                    shadowed.permit(decider, &what, version)?;
                    let evidence = &reader.evidence;
                    let facts = evidence.version(lookup, &connection, version).await?;
                    Ok(facts.map(|facts| Found {
                        source: connection.name.clone(),
                        published: facts.published,
                        origin: Origin::External,
                        status: Status::Published,
                    }))
                }
            }
        };
        let nothing = || self.absent(version);
        Ok(walk.first(ask, nothing).await?.value)
    }
}
