//! Reads registries' documents, and the facts (versions, dates, digests) in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use tracing::debug;

use moka::sync::Cache;

use super::Snapshot;
use super::decision::View;
use super::lookup::{Candidate, Lookup};
use super::outside::VersionsOutside;
use super::render::upstream;
use crate::connection::{Connection, Error, UpstreamRequest};
use crate::fetch::{Document, DocumentRoom, Fetcher, Freshen, Outcome, Sought, WantedAsset};
use crate::format::{
    DocumentEvidence, DocumentId, Evidence, FactsPart, FormatError, Resource, Upstream,
};
use crate::package::{
    AssetFacts, AssetId, BlobId, Expectation, Facts, Location, PackageId, PackedFacts, UpstreamUrl,
};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::Concern;
use crate::store::catalog::AssetKey;

/// Names facts by the document that they were read from, so that they are read again when the
/// document changes. Facts from further documents change together with the one that links to them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FactsKey {
    connection: String,
    package: PackageId,
    document: BlobId,
}

/// Facts of a package, and the documents that they were read from.
#[derive(Debug)]
pub struct PackageFacts {
    pub facts: Facts,
    /// The documents' digests. They are a part of the cache key of every rendering that depends on
    /// these facts.
    pub documents: Vec<BlobId>,
}

/// Reads and remembers what registries say about packages.
pub(super) struct EvidenceReader {
    pub fetcher: Arc<Fetcher>,
    facts: Cache<FactsKey, Arc<PackageFacts>>,
    /// How many bytes of facts are kept at the most.
    memory: u64,
    /// Dates that one request asks for at the most, where no document has them.
    pub(super) dates_max: usize,
}

fn in_memory(bytes_max: u64) -> Cache<FactsKey, Arc<PackageFacts>> {
    Cache::builder()
        .max_capacity(bytes_max)
        .weigher(|_: &FactsKey, facts: &Arc<PackageFacts>| facts.facts.weight())
        .build()
}

/// Whether a document is what its registry has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Currency {
    Current,
    /// The registry did not answer, and this is what it had before.
    Stale,
}

impl Currency {
    fn of(document: &Document) -> Self {
        match document.outcome {
            Outcome::Stale => Self::Stale,
            _ => Self::Current,
        }
    }
}

impl EvidenceReader {
    /// `memory` is how many bytes of facts are kept at the most.
    pub fn new(fetcher: &Arc<Fetcher>, memory: u64, dates_max: usize) -> Arc<Self> {
        Arc::new(Self {
            fetcher: Arc::clone(fetcher),
            facts: in_memory(memory),
            memory,
            dates_max,
        })
    }

    /// Lets the cache drop at once what it does not keep.
    pub fn settle(&self) {
        self.facts.run_pending_tasks();
    }

    /// The address of a resource at its connection.
    pub async fn locate(
        &self,
        connection: &Arc<Connection>,
        location: &Location,
    ) -> Result<UpstreamUrl, Problem> {
        let nowhere = |what: &str| {
            Problem::not_found(
                Decider::Connection(connection.name.clone()),
                format!("connection `{}` has no {what}", connection.name),
            )
        };
        let Location::Service { types, path } = location else {
            let found = connection.locate(location);
            return found.ok_or_else(|| nowhere("such address"));
        };
        let no_service = || nowhere(types.first().copied().unwrap_or("such service"));
        let directory = connection.format.protocol().directory();
        let document = self.directory(connection).await?;
        let (Some(directory), Some(document)) = (directory, document) else {
            return Err(no_service());
        };
        let bytes = document.bytes(&self.fetcher).await?;
        directory.locate(&bytes, types, path).ok_or_else(no_service)
    }

    /// The resource's document, as fresh as asked for; `what` is how a problem calls it.
    pub async fn freshen(
        &self,
        connection: &Arc<Connection>,
        resource: &Resource,
        freshen: Freshen,
        what: &str,
    ) -> Result<Arc<Document>, Problem> {
        let url = self.locate(connection, &resource.location).await?;
        self.fetcher
            .documents()
            .freshen(
                connection,
                Sought {
                    key: &resource.key,
                    url: &url,
                    accept: resource.accept,
                    freshen,
                    promises: Vec::new(),
                    what,
                },
            )
            .await
    }

    /// The document that says where the connection keeps its resources, where its format has one.
    pub async fn directory(
        &self,
        connection: &Arc<Connection>,
    ) -> Result<Option<Arc<Document>>, Problem> {
        let Some(directory) = connection.format.protocol().directory() else {
            return Ok(None);
        };
        let resource = directory.directory_document();
        self.fetcher
            .documents()
            .freshen(
                connection,
                Sought {
                    key: &resource.key,
                    url: &UpstreamUrl::configured(&connection.url),
                    accept: resource.accept,
                    freshen: Freshen::AsCached,
                    promises: Vec::new(),
                    what: "the service index",
                },
            )
            .await
            .map(Some)
    }

    /// Facts of the package at one connection. With `dates`, publish dates among them.
    pub async fn facts(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        dates: bool,
        freshen: Freshen,
    ) -> Result<Arc<PackageFacts>, Problem> {
        let read = self.current_facts(connection, package, dates, freshen);
        read.await.map(|(facts, _)| facts)
    }

    /// Facts of the package, and whether all that they were read from is what the registry has now, as
    /// far as that was asked for.
    async fn current_facts(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        dates: bool,
        freshen: Freshen,
    ) -> Result<(Arc<PackageFacts>, Currency), Problem> {
        let Evidence::Documents(evidence) = connection.format.protocol().evidence() else {
            let none = PackageFacts {
                facts: Facts::new(connection.format, PackedFacts::new()),
                documents: Vec::new(),
            };
            return Ok((Arc::new(none), Currency::Current));
        };
        let alternatives = evidence.documents_of(package, dates);
        let resource = self.first_cached(connection, &alternatives).await?;
        let Some(resource) = resource else {
            return Err(Problem::internal("no evidence", "a format names none"));
        };
        let directory = self.directory(connection).await?;
        let first = self
            .evidence(connection, package, &resource, freshen)
            .await?;
        let mut currency = Currency::of(&first);
        let key = FactsKey {
            connection: connection.registry.clone(),
            package: package.clone(),
            document: first.row.blob,
        };
        if let Some(cached) = self.facts.get(&key)
            && (freshen == Freshen::AsCached || cached.documents.len() == 1)
        {
            return Ok((cached, currency));
        }
        let room = self.fetcher.memory().room(first.row.size).await?;
        // Somebody else may have read it while this waited.
        if let Some(cached) = self.facts.get(&key)
            && cached.documents.len() == 1
        {
            return Ok((cached, currency));
        }
        let sought = FactsSought {
            connection,
            evidence,
            package,
            directory: directory.as_deref(),
        };
        let part = self
            .read_facts(sought, room, &first, PackedFacts::new())
            .await?;
        let more = part
            .more
            .iter()
            .map(|resource| self.evidence(connection, package, resource, freshen));
        let mut documents = vec![first.row.blob];
        let mut assets = part.assets;
        for document in try_join_all(more).await? {
            currency = currency.max(Currency::of(&document));
            let room = self.fetcher.memory().room(document.row.size).await?;
            assets = self
                .read_facts(sought, room, &document, assets)
                .await?
                .assets;
            documents.push(document.row.blob);
        }
        let facts = Arc::new(PackageFacts {
            facts: Facts::new(connection.format, assets),
            documents,
        });
        // Facts larger than the whole cache would stay in it until the cache next looks.
        if u64::from(facts.facts.weight()) <= self.memory {
            self.facts.insert(key, Arc::clone(&facts));
        }
        Ok((facts, currency))
    }

    /// Chooses among documents that say the same: the first that is stored here, else the first.
    pub async fn first_cached(
        &self,
        connection: &Connection,
        alternatives: &[Resource],
    ) -> Result<Option<Resource>, Problem> {
        for resource in alternatives {
            if self
                .fetcher
                .documents()
                .stored(connection, &resource.key)
                .await?
                .is_some()
            {
                return Ok(Some(resource.clone()));
            }
        }
        Ok(alternatives.first().cloned())
    }

    async fn evidence(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        resource: &Resource,
        freshen: Freshen,
    ) -> Result<Arc<Document>, Problem> {
        let what = package.full_name();
        self.freshen(connection, resource, freshen, &what).await
    }

    /// Reads one document's facts behind those that are there already.
    async fn read_facts(
        &self,
        sought: FactsSought<'_>,
        room: DocumentRoom,
        document: &Arc<Document>,
        assets: PackedFacts,
    ) -> Result<FactsPart, Problem> {
        let FactsSought {
            connection,
            evidence,
            package,
            directory,
        } = sought;
        let bytes = document.bytes(&self.fetcher).await?;
        let directory = match directory {
            Some(directory) => Some(directory.bytes(&self.fetcher).await?),
            None => None,
        };
        let (of, owner, document) = (
            package.clone(),
            Arc::clone(connection),
            Arc::clone(document),
        );
        let part = room
            .run(move || {
                evidence.facts(
                    &of,
                    &Upstream {
                        bytes: &bytes,
                        media_type: &document.row.media_type,
                        url: &document.url,
                        base: &owner.url,
                        directory: directory.as_deref(),
                    },
                    assets,
                )
            })
            .await?;
        part.map_err(|error| unreadable(connection, &package.full_name(), error))
    }

    /// Facts of one asset that may be handed out.
    pub async fn permitted_facts(
        &self,
        lookup: &Lookup<'_>,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) -> Result<AssetFacts, Problem> {
        let dates = lookup.concern.dates;
        let facts = self.asset_facts(connection, asset, dates).await?;
        let (name, version) = (&connection.name, &facts.version);
        lookup.permit(&Candidate::outside(name, version, facts.published))?;
        Ok(facts)
    }

    /// Which versions the connection has, for those behind it; `None` where it has nothing of the
    /// package.
    pub async fn versions_of(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
    ) -> Result<Option<VersionsOutside>, Problem> {
        let protocol = connection.format.protocol();
        let versions = if matches!(protocol.evidence(), Evidence::Path(_)) {
            self.versions_listed_or_given(connection, package).await
        } else {
            let facts = self.facts(connection, package, false, Freshen::AsCached);
            facts.await.map(VersionsOutside::Facts)
        };
        match versions {
            Ok(versions) => Ok(Some(versions)),
            Err(problem) if problem.kind == Kind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    async fn versions_listed_or_given(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
    ) -> Result<VersionsOutside, Problem> {
        // A registry may keep files of which it has no list, or none that can be read; whether it has
        // a file it has said itself.
        let listed = self.listed_versions(connection, package).await;
        let listed = listed.unwrap_or_else(|problem| {
            debug!(connection = connection.name, %package, %problem, "No list of versions; files that were given stand for it");
            Vec::new()
        });
        let protocol = package.format().protocol();
        // A client may have the whole of a file before its row is written.
        let arriving = self.fetcher.assets().arriving(connection, package);
        let arriving = arriving.iter().filter_map(|it| protocol.version_of(it));
        let named = listed.into_iter().chain(arriving);
        let versions: BTreeSet<_> = named
            .map(|it: String| protocol.known_version(&it))
            .collect();
        let stocks = self.fetcher.stocks();
        Ok(VersionsOutside::Listed {
            package: package.clone(),
            versions: Arc::new(versions),
            given: stocks.of_package(connection, package).await?,
        })
    }

    /// Facts of one asset, with its publish date where rules ask for one.
    async fn asset_facts(
        &self,
        connection: &Arc<Connection>,
        asset: &AssetId,
        dates: bool,
    ) -> Result<AssetFacts, Problem> {
        let evidence = connection.format.protocol().evidence();
        if let Some(facts) = evidence.path().and_then(|it| it.path_facts(asset)) {
            if !dates {
                return Ok(facts);
            }
            let version = facts.version.to_string();
            let published = self
                .dates(connection, &asset.package, std::slice::from_ref(&version))
                .await?;
            return Ok(AssetFacts {
                published: published.get(&version).copied(),
                ..facts
            });
        }
        if !dates && let Some(facts) = self.fact(connection, asset).await? {
            return Ok(facts);
        }
        let cached = self
            .facts(connection, &asset.package, dates, Freshen::AsCached)
            .await?;
        if let Some(facts) = cached.facts.file(&asset.file).and_then(|it| it.facts()) {
            return Ok(facts);
        }
        let assets = self.fetcher.assets();
        if let Some(problem) = assets.known_absent(connection, asset) {
            return Err(problem);
        }
        // An asset that the stored document does not name may have been published since it was
        // fetched.
        let (now, currency) = self
            .current_facts(connection, &asset.package, dates, Freshen::Now)
            .await?;
        if let Some(facts) = now.facts.file(&asset.file).and_then(|it| it.facts()) {
            return Ok(facts);
        }
        if let Some(denied) = self.denied_upstream(connection, asset).await {
            return Err(denied);
        }
        let problem = Problem::not_found(
            Decider::Connection(connection.name.clone()),
            format!("{} has no file {}", asset.package.full_name(), asset.file),
        )
        .advice("the registry's document of the package does not name it");
        // An outage is no answer to whether it is there by now.
        if !connection.offline && !connection.has_trouble() {
            assets.note_absent(connection, asset, &problem);
        }
        if currency == Currency::Stale && !assets.was_absent(connection, asset).await {
            return Err(problem.doubtful());
        }
        Err(problem)
    }

    /// Why upstream does not name an asset, where it is a Larder whose rules hold it back.
    async fn denied_upstream(
        &self,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) -> Option<Problem> {
        let evidence = connection.format.protocol().evidence().documents()?;
        let location = evidence.usual_place(asset)?;
        let url = self.locate(connection, &location).await.ok()?;
        let ask = UpstreamRequest {
            identity: true,
            ..UpstreamRequest::get(url, "*/*", std::time::Duration::from_secs(5))
        };
        if connection.is_silent() {
            return None;
        }
        match tokio::time::timeout(ask.patience, connection.ask(&ask)).await {
            Ok(Err(error @ Error::Denied { .. })) => {
                Some(error.problem(&connection.name, &asset.to_string()))
            }
            _ => None,
        }
    }

    /// Facts of one asset out of its package's document, those of all others left where they are.
    async fn fact(
        &self,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) -> Result<Option<AssetFacts>, Problem> {
        let evidence = connection.format.protocol().evidence().documents();
        let Some((evidence, predicted)) = evidence.and_then(|it| Some((it, it.predicted()?)))
        else {
            return Ok(None);
        };
        // A name that shows no version does not lead to one.
        if predicted.predict(asset).is_none() {
            return Ok(None);
        }
        let alternatives = evidence.documents_of(&asset.package, false);
        let Some(resource) = self.first_cached(connection, &alternatives).await? else {
            return Ok(None);
        };
        let document = self
            .evidence(connection, &asset.package, &resource, Freshen::AsCached)
            .await?;
        let room = self.fetcher.memory().room(document.row.size).await?;
        let bytes = document.bytes(&self.fetcher).await?;
        let (owner, asset) = (Arc::clone(connection), asset.clone());
        room.run(move || {
            let upstream = upstream(&owner, &document, &bytes, None);
            predicted.find(&asset, &upstream)
        })
        .await
    }

    /// All that decides which versions the connection's document shows.
    pub async fn view(
        &self,
        snapshot: &Arc<Snapshot>,
        connection: &Arc<Connection>,
        id: &DocumentId,
        document: &Arc<Document>,
        concern: Concern,
    ) -> Result<View, Problem> {
        let mut view = View::new(snapshot, concern);
        view.directory = self.directory(connection).await?;
        if let Some(package) = id.package.as_ref().filter(|_| connection.offline) {
            view.stock = Some(
                self.fetcher
                    .stocks()
                    .of_package(connection, package)
                    .await?,
            );
        }
        // Names and versions stand in the document itself; dates may not.
        let Some(package) = id.package.as_ref().filter(|_| concern.dates) else {
            return Ok(view);
        };
        if let Evidence::Path(evidence) = connection.format.protocol().evidence() {
            let versions = self
                .versions_in(connection, evidence, id.clone(), document)
                .await?
                .map_err(|error| unreadable(connection, &package.full_name(), error))?;
            view.dates = self.dates(connection, package, &versions).await?;
        } else {
            let facts = self.facts(connection, package, true, Freshen::AsCached);
            view.facts = Some(facts.await?);
        }
        Ok(view)
    }

    /// Describes the fetch of an asset: its addresses, and the resources that promise its digests.
    pub async fn wanted(
        &self,
        connection: &Arc<Connection>,
        key: AssetKey,
        facts: AssetFacts,
    ) -> Result<WantedAsset, Problem> {
        let url = self.locate(connection, &facts.location).await?;
        let mut promises = Vec::new();
        for promise in promises_of(&facts) {
            let url = self.locate(connection, &promise.location).await?;
            promises.push((promise, url));
        }
        Ok(WantedAsset {
            connection: Arc::clone(connection),
            key,
            facts,
            url,
            promises,
        })
    }

    /// Reads what the connection says about one version, with its date where rules need one; `None`
    /// where it has no such version.
    pub async fn version(
        &self,
        lookup: &Lookup<'_>,
        connection: &Arc<Connection>,
        version: &str,
    ) -> Result<Option<VersionFacts>, Problem> {
        let (package, dates) = (lookup.package, lookup.concern.dates);
        let protocol = connection.format.protocol();
        if matches!(protocol.evidence(), Evidence::Path(_)) {
            // Whether it is there shows when its files are asked for.
            let published = if dates {
                let versions = [version.to_owned()];
                let dates = self.dates(connection, package, &versions).await?;
                dates.get(version).copied()
            } else {
                None
            };
            return Ok(Some(VersionFacts { published }));
        }
        let facts = self
            .facts(connection, package, dates, Freshen::AsCached)
            .await?;
        let asset = facts.facts.version(version);
        Ok(asset.map(|asset| VersionFacts {
            published: asset.published,
        }))
    }
}

/// The package whose facts are read.
#[derive(Clone, Copy)]
struct FactsSought<'a> {
    connection: &'a Arc<Connection>,
    evidence: &'static dyn DocumentEvidence,
    package: &'a PackageId,
    /// Where the connection keeps its resources, if its format says so.
    directory: Option<&'a Document>,
}

/// One version as a connection describes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct VersionFacts {
    pub published: Option<Timestamp>,
}

/// The resources that hold an asset's digests.
pub fn promises_of(facts: &AssetFacts) -> Vec<crate::package::Promise> {
    match &facts.expectation {
        Expectation::Promised(promises) | Expectation::Required(promises) => promises.clone(),
        Expectation::Known(_) | Expectation::FirstSeen => Vec::new(),
    }
}

/// A document that cannot be read, as the client learns of it.
pub fn unreadable(connection: &Connection, what: &str, error: FormatError) -> Problem {
    let decider = Decider::Connection(connection.name.clone());
    match error {
        FormatError::Absent(message) => Problem::not_found(decider, message),
        error => Problem::new(
            Kind::Upstream,
            decider,
            format!("the registry's document of {what} cannot be read: {error}"),
        )
        .advice("check the connection's `url` with `larder check`")
        .caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Format, PackedFacts};

    #[test]
    fn so_many_bytes_of_facts_are_known() {
        let facts = || PackageFacts {
            facts: Facts::new(Format::Npm, PackedFacts::default()),
            documents: Vec::new(),
        };
        let bytes_max = 10 * u64::from(facts().facts.weight());
        let known = in_memory(bytes_max);
        for number in 0..30u8 {
            let key = FactsKey {
                connection: "up:npm".to_owned(),
                package: crate::format::package("npm:acme").unwrap(),
                document: BlobId::from_slice(&[number; 32]).unwrap(),
            };
            known.insert(key, Arc::new(facts()));
        }
        known.run_pending_tasks();
        assert_eq!(known.entry_count(), 10);
        assert_eq!(known.weighted_size(), bytes_max);
    }
}
