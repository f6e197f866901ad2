//! Bringing in what somebody will ask for where there is no line: documents, and files whole.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::evidence::PackageFacts;
use super::lookup::Lookup;
use super::source_chain::PackageSource;
use super::{AssetBody, Reader, Repository, Snapshot};
use crate::connection::Connection;
use crate::fetch::{Freshen, Outcome};
use crate::format::Evidence;
use crate::package::{AssetId, PackageId};
use crate::problem::{Decider, Kind, Problem};
use crate::store::Blob;
use crate::store::catalog::AssetKey;

/// A file that is here now.
#[derive(Clone, Debug)]
pub struct Gathered {
    pub blob: Blob,
    /// It was not here before.
    pub is_new: bool,
}

/// The facts about a package from all sources of a repository.
#[derive(Default)]
pub struct GatheredFacts {
    /// The facts from each connection that has the package, the nearest first.
    pub facts: Vec<Arc<PackageFacts>>,
    /// Versions that were published to our repositories; their files are always stored here.
    pub own: Vec<String>,
    /// Documents that came in.
    pub documents: usize,
}

/// One source's part of the facts.
enum Part {
    /// Its versions.
    Own(Vec<String>),
    /// The facts, and how many documents came in for them.
    Outside(Arc<PackageFacts>, usize),
}

impl Reader {
    /// Brings in what resolvers read of a package, and says what stands in it. With `whole`, also
    /// what has more than they need.
    ///
    /// # Errors
    /// Where no source has the package, or one is away.
    pub async fn gather(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        package: &PackageId,
        whole: bool,
    ) -> Result<GatheredFacts, Problem> {
        let lookup = Lookup::new(snapshot, repository, package);
        let chain = self.chain(&lookup).await?;
        let walk = self.walk(&chain, Some(package));
        let collected = walk
            .all(|source, _| async {
                match source {
                    PackageSource::Own { held, .. } => {
                        let versions = held.listing.iter().flat_map(|it| &it.versions);
                        let versions = versions.map(|it| it.version.to_string());
                        Ok(Some(Part::Own(versions.collect())))
                    }
                    PackageSource::Outside(connection) => {
                        self.gather_from(&lookup, connection, whole).await.map(Some)
                    }
                }
            })
            .await?;
        let mut known = GatheredFacts::default();
        for part in collected.values {
            match part {
                Part::Own(versions) => known.own.extend(versions),
                Part::Outside(facts, documents) => {
                    known.facts.push(facts);
                    known.documents += documents;
                }
            }
        }
        if known.facts.is_empty() && known.own.is_empty() {
            let nothing = || repository.has_none(package.format(), &package.full_name());
            return Err(collected.absent.unwrap_or_else(nothing));
        }
        Ok(known)
    }

    async fn gather_from(
        self: &Arc<Self>,
        lookup: &Lookup<'_>,
        connection: Arc<Connection>,
        whole: bool,
    ) -> Result<Part, Problem> {
        let (package, dates, evidence) = (lookup.package, lookup.concern.dates, &self.evidence);
        let protocol = connection.format.protocol();
        let what = package.full_name();
        let resources = protocol.prefetch().map_or_else(Vec::new, |prefetch| {
            prefetch.read_beforehand(package, whole || dates)
        });
        let asked = resources
            .iter()
            .map(|resource| evidence.freshen(&connection, resource, Freshen::AsCached, &what));
        // A package whose facts are read from paths may have no document.
        let count = match try_join_all(asked).await {
            Ok(documents) => documents
                .iter()
                .filter(|document| document.outcome == Outcome::Miss)
                .count(),
            Err(problem)
                if problem.kind == Kind::NotFound
                    && matches!(protocol.evidence(), Evidence::Path(_)) =>
            {
                0
            }
            Err(problem) => return Err(problem),
        };
        let facts = evidence.facts(&connection, package, dates, Freshen::AsCached);
        let facts = facts.await?;
        self.seen_outside(&connection, package);
        Ok(Part::Outside(facts, count))
    }

    /// The versions that the package's documents name, where a format has them in a list.
    ///
    /// # Errors
    /// Where an upstream is away.
    pub async fn listed_versions(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Vec<String>, Problem> {
        let lookup = Lookup::new(snapshot, repository, package);
        let chain = self.chain(&lookup).await?;
        let walk = self.walk(&chain, Some(package));
        let collected = walk.all(|source, _| async {
            match source {
                PackageSource::Own { .. } => Ok(None),
                PackageSource::Outside(connection) => {
                    let listed = self.evidence.listed_versions(&connection, package);
                    listed.await.map(Some)
                }
            }
        });
        Ok(collected.await?.values.concat())
    }

    /// The file whole, from the nearest source that has it.
    ///
    /// # Errors
    /// Where a rule denies it, no source has it, or it cannot be had or kept.
    pub async fn gather_asset(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        asset: &AssetId,
    ) -> Result<Gathered, Problem> {
        let reply = self.asset(snapshot, repository, asset).await?;
        let is_new = !reply.cached.outcome.was_here();
        let arrival = match reply.body {
            AssetBody::Stored(blob) => return Ok(Gathered { blob, is_new }),
            AssetBody::Arriving(arrival) => arrival,
            AssetBody::Passing(_) => {
                return Err(Problem::new(
                    Kind::Upstream,
                    Decider::Larder,
                    format!("{asset} cannot be kept: {}", reply.cached.outcome.as_str()),
                )
                .advice("make room: cache.max_size, or the disk"));
            }
        };
        let key = AssetKey {
            connection: snapshot.registry_of(&reply.cached.connection).into(),
            asset: asset.clone(),
        };
        arrival.wait_until_verified().await?;
        match self.fetcher.assets().find_when_done(&key).await? {
            Some((_, Some(blob))) => Ok(Gathered { blob, is_new }),
            _ => Err(Problem::new(
                Kind::Upstream,
                Decider::Larder,
                format!("{asset} came, and could not be kept"),
            )),
        }
    }
}
