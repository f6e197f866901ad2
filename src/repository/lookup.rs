//! A question about one package in a repository, and the one decision about its versions.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Repository, Snapshot};
use crate::clock;
use crate::package::{Origin, PackageId, Release, Status};
use crate::problem::{Decider, Problem};
use crate::rule::{Concern, RuleQuestion};

/// A question about a package: what every door passes along.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub snapshot: &'a Arc<Snapshot>,
    pub repository: &'a Repository,
    pub package: &'a PackageId,
    pub now: Timestamp,
    /// The facts that the rules need about the package.
    pub concern: Concern,
}

/// One version as one source has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// The repository or connection that has it.
    pub source: &'a str,
    pub version: &'a str,
    pub published: Option<Timestamp>,
    pub origin: Origin,
    pub status: Status,
}

impl<'a> Candidate<'a> {
    /// A version of the repository's own.
    pub fn own(repository: &'a str, release: &'a Release) -> Self {
        Self {
            source: repository,
            version: &release.version,
            published: Some(release.published),
            origin: release.origin,
            status: release.status,
        }
    }

    /// A version that a connection has.
    pub fn outside(connection: &'a str, version: &'a str, published: Option<Timestamp>) -> Self {
        Self {
            source: connection,
            version,
            published,
            origin: Origin::External,
            status: Status::Published,
        }
    }
}

impl<'a> Lookup<'a> {
    pub fn new(
        snapshot: &'a Arc<Snapshot>,
        repository: &'a Repository,
        package: &'a PackageId,
    ) -> Self {
        let now = clock::now();
        Self {
            snapshot,
            repository,
            package,
            now,
            concern: snapshot.config.rules.concern(package, now),
        }
    }

    /// Whether the version may be handed out: its status has to serve it, and the rules have to let
    /// it through. Files, checksums, signatures and documents of a version all ask here; documents
    /// of many versions ask the same rules version by version (`render::Verdicts`).
    ///
    /// # Errors
    /// The refusal as the client reads it.
    pub fn permit(&self, candidate: &Candidate<'_>) -> Result<(), Problem> {
        let Candidate {
            source,
            version,
            published,
            origin,
            status,
        } = *candidate;
        if !status.is_served() {
            return Err(Problem::not_found(
                Decider::Repository(source.to_owned()),
                format!("{} {version} is {status}", self.package),
            )
            .advice("its status decides; `larder status` shows and changes it"));
        }
        if !self.concern.versions {
            return Ok(());
        }
        let question = RuleQuestion {
            package: self.package,
            version,
            published,
            origin,
        };
        let rules = &self.snapshot.config.rules;
        rules.decide(&question, self.now).permit(&question)
    }
}
