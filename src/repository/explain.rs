//! Why a version is served or not: the walk and the decision of the doors, told in words.

use std::sync::Arc;

use super::lookup::{Candidate, Lookup};
use super::source_chain::{PackageSource, ShadowedVersions};
use super::{Reader, Repository, Snapshot};
use crate::package::{Origin, PackageId, Status};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{RuleQuestion, Ruling};

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

impl Reader {
    /// Says why a version is served or not, by the same walk and the same decision as its files.
    ///
    /// # Errors
    /// Where a source that has to be asked is away.
    pub async fn explain(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        package: &PackageId,
        version: &str,
    ) -> Result<Explanation, Problem> {
        let lookup = Lookup::new(snapshot, repository, package);
        let mut explanation = Explanation {
            package: package.to_string(),
            version: version.to_owned(),
            allowed: false,
            rule: None,
            reason: String::new(),
            published: None,
            connection: None,
        };
        let found = match self.version_found(&lookup, version).await {
            Ok(found) => found,
            Err(problem) if matches!(problem.kind, Kind::NotFound | Kind::Denied) => {
                if let Decider::Rule(name) = &problem.decider {
                    explanation.rule = Some(name.clone());
                }
                explanation.reason = problem.message;
                return Ok(explanation);
            }
            Err(problem) => return Err(problem),
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
        match (lookup.permit(&candidate), &decision.ruling) {
            (Err(_), _) if !found.status.is_served() => {
                explanation.rule = None;
                explanation.reason = format!("its status is {}", found.status);
            }
            (Err(problem), _) => explanation.reason = problem.message,
            (Ok(()), Ruling::Denied { why, .. }) => explanation.reason = why.clone(),
            (Ok(()), Ruling::Allowed) => {
                explanation.allowed = true;
                explanation.reason = match decision.rule {
                    Some(_) => "allowed".to_owned(),
                    None => "no rule matches".to_owned(),
                };
            }
        }
        Ok(explanation)
    }

    async fn version_found(
        self: &Arc<Self>,
        lookup: &Lookup<'_>,
        version: &str,
    ) -> Result<Found, Problem> {
        let wanted = &lookup.package.format().protocol().known_version(version);
        let chain = self.chain(lookup).await?;
        let walk = self.walk(&chain, Some(lookup.package));
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
                    let facts = self.evidence.version(lookup, &connection, version).await?;
                    Ok(facts.map(|facts| Found {
                        source: connection.name.clone(),
                        published: facts.published,
                        origin: Origin::External,
                        status: Status::Published,
                    }))
                }
            }
        };
        let nothing = || {
            let (package, name) = (lookup.package, &lookup.repository.name);
            Problem::not_found(
                Decider::Repository(name.clone()),
                format!("no source of `{name}` has {package} {version}"),
            )
        };
        Ok(walk.first(ask, nothing).await?.value)
    }
}
