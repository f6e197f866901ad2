//! Bringing in what somebody will ask for where there is no line: documents, and files whole.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::chain::Link;
use super::evidence::{PackageFacts, unreadable};
use super::render::upstream;
use super::{AssetBody, Reader, Repository, Snapshot};
use crate::clock;
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

/// What the sources of a repository say of a package.
#[derive(Default)]
pub struct Known {
    /// Of each connection that has it, the nearest first.
    pub facts: Vec<Arc<PackageFacts>>,
    /// Versions that are a repository's own, which is always here.
    pub own: Vec<String>,
    /// Documents that came in.
    pub documents: usize,
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
    ) -> Result<Known, Problem> {
        let chain = self.chain(snapshot, repository, package).await?;
        let concern = snapshot.config.rules.concern(package, clock::now());
        let (mut known, mut absent) = (Known::default(), chain.barred.clone());
        for link in &chain.links {
            let connection = match link {
                Link::Own { held, .. } => {
                    let listing = held.listing.iter();
                    let versions = listing.flat_map(|listing| &listing.versions);
                    known.own.extend(versions.map(|it| it.version.to_string()));
                    continue;
                }
                Link::Outside(connection) => connection,
            };
            let gathered = self
                .gather_from(connection, package, whole || concern.dates, concern.dates)
                .await;
            match gathered {
                Ok((facts, count)) => {
                    known.facts.push(facts);
                    known.documents += count;
                }
                Err(problem) if problem.kind == Kind::NotFound => absent = absent.or(Some(problem)),
                Err(problem) => return Err(problem),
            }
        }
        if known.facts.is_empty() && known.own.is_empty() {
            return Err(absent
                .unwrap_or_else(|| repository.has_none(package.format(), &package.full_name())));
        }
        Ok(known)
    }

    async fn gather_from(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        package: &PackageId,
        whole: bool,
        dates: bool,
    ) -> Result<(Arc<PackageFacts>, usize), Problem> {
        let protocol = connection.format.protocol();
        let what = package.full_name();
        let resources = protocol.read_beforehand(package, whole);
        let asked = resources
            .iter()
            .map(|resource| self.freshen(connection, resource, Freshen::AsCached, &what));
        // What is read from paths may have no document at all.
        let count = match try_join_all(asked).await {
            Ok(documents) => documents
                .iter()
                .filter(|document| document.outcome == Outcome::Miss)
                .count(),
            Err(problem)
                if problem.kind == Kind::NotFound
                    && matches!(protocol.evidence(package, false), Evidence::Path) =>
            {
                0
            }
            Err(problem) => return Err(problem),
        };
        let facts = self
            .facts(connection, package, dates, Freshen::AsCached)
            .await?;
        Ok((facts, count))
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
        let protocol = package.format().protocol();
        let chain = self.chain(snapshot, repository, package).await?;
        let mut versions = Vec::new();
        for link in &chain.links {
            let Link::Outside(connection) = link else {
                continue;
            };
            for id in protocol.listings(package) {
                let resource = protocol.resource(&id, false);
                let what = package.full_name();
                let document = self
                    .freshen(connection, &resource, Freshen::AsCached, &what)
                    .await;
                let document = match document {
                    Ok(document) => document,
                    Err(problem) if problem.kind == Kind::NotFound => continue,
                    Err(problem) => return Err(problem),
                };
                let bytes = document.bytes(&self.fetcher).await?;
                let upstream = upstream(connection, &document, &bytes, None);
                let named = protocol.versions(&id, &upstream);
                versions.extend(named.map_err(|error| unreadable(connection, &what, error))?);
            }
        }
        Ok(versions)
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
        let is_new = !reply.cached.was_here();
        let arrival = match reply.body {
            AssetBody::Stored(blob) => return Ok(Gathered { blob, is_new }),
            AssetBody::Arriving(arrival) => arrival,
            AssetBody::Passing(_) => {
                return Err(Problem::new(
                    Kind::Upstream,
                    Decider::Larder,
                    format!("{asset} cannot be kept: {}", reply.cached.outcome),
                )
                .advice("make room: cache.max_size, or the disk"));
            }
        };
        let key = AssetKey {
            connection: reply.cached.connection.into(),
            asset: asset.clone(),
        };
        arrival.over().await?;
        match self.fetcher.asset_at_rest(&key).await? {
            Some((_, Some(blob))) => Ok(Gathered { blob, is_new }),
            _ => Err(Problem::new(
                Kind::Upstream,
                Decider::Larder,
                format!("{asset} came, and could not be kept"),
            )),
        }
    }
}
