//! Assets: the same decision as the documents', then the store or the one download.

use std::sync::Arc;

use super::document::{Cached, ReuseCondition, own_cached};
use super::evidence::promises_of;
use super::lookup::{Candidate, Lookup};
use super::own::OwnPackage;
use super::source_chain::{PackageSource, ShadowedVersions};
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{DocumentContent, Freshen, Outcome, PassThrough, Sought, WantedAsset};
use crate::format::{Resource, Target};
use crate::package::{
    Algorithm, AssetFacts, AssetId, Expectation, Format, PackageId, ReleaseAsset,
};
use crate::problem::{Decider, Kind, Problem};
use crate::store::catalog::{AssetKey, AssetRow};
use crate::store::{Arrival, Blob, NotKept, Phase};

/// An asset to answer with.
pub struct AssetReply {
    pub body: AssetBody,
    pub media_type: String,
    pub last_modified: Option<String>,
    pub cached: Cached,
    /// `None` where the next request has to be answered anew.
    pub reuse: Option<ReuseCondition>,
}

pub enum AssetBody {
    Stored(Blob),
    Arriving(Arrival),
    Passing(PassThrough),
}

impl Reader {
    /// Reads an asset from the nearest source that has it.
    ///
    /// # Errors
    /// Where a rule denies it, no source has it, or it cannot be had.
    pub async fn asset(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        asset: &AssetId,
    ) -> Result<AssetReply, Problem> {
        let reply = self
            .asset_request(snapshot, repository, asset)
            .answer()
            .await;
        if let Err(problem) = &reply {
            self.wish(repository, &asset.package, Some(asset), problem);
        }
        reply
    }

    fn asset_request<'a>(
        self: &'a Arc<Self>,
        snapshot: &'a Arc<Snapshot>,
        repository: &'a Repository,
        asset: &'a AssetId,
    ) -> AssetRequest<'a> {
        AssetRequest {
            reader: self,
            lookup: Lookup::new(snapshot, repository, &asset.package),
            asset,
        }
    }

    /// The digest of an asset, in hexadecimal: our own where we hold the file, upstream's where
    /// we do not.
    ///
    /// # Errors
    /// See [`Reader::asset`].
    pub async fn checksum(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        asset: &AssetId,
        algorithm: Algorithm,
    ) -> Result<(String, Cached), Problem> {
        let request = self.asset_request(snapshot, repository, asset);
        request.checksum(algorithm).await
    }

    /// Finds the target of a stored alias. The address is upstream's, or one that Larder made up.
    ///
    /// # Errors
    /// Where nothing is known of it.
    pub async fn alias(
        &self,
        repository: &Repository,
        format: Format,
        path: &str,
    ) -> Result<Target, Problem> {
        let unknown = || {
            Problem::not_found(
                Decider::Repository(repository.name.clone()),
                format!("`{path}` is named in no document that Larder has"),
            )
            .advice("ask for the package's own document first")
        };
        for connection in repository.connections_of(format) {
            let target = self
                .fetcher
                .store()
                .catalog()
                .aliases()
                .target(&connection.registry, path)
                .await?;
            if let Some(target) = target.and_then(|target| format.protocol().alias(&target)) {
                return Ok(target);
            }
        }
        Err(unknown())
    }

    /// Notes what an offline connection does not have, for when there is a line.
    pub(super) fn wish(
        &self,
        repository: &Repository,
        package: &PackageId,
        asset: Option<&AssetId>,
        problem: &Problem,
    ) {
        let Decider::Connection(name) = &problem.decider else {
            return;
        };
        let mut connections = repository.connections_of(package.format());
        let is_offline = connections.any(|one| one.offline && one.name == *name);
        if problem.kind != Kind::NotFound || !is_offline {
            return;
        }
        let version = asset.and_then(|asset| package.format().protocol().version_of(asset));
        let file = asset.map_or("", |asset| &asset.file);
        let wishes = self.fetcher.store().wishes();
        wishes.note(
            &repository.name,
            package,
            &version.unwrap_or_default(),
            file,
        );
    }
}

/// An asset that is asked for.
pub(super) struct AssetRequest<'a> {
    pub reader: &'a Arc<Reader>,
    pub lookup: Lookup<'a>,
    pub asset: &'a AssetId,
}

impl AssetRequest<'_> {
    async fn answer(&self) -> Result<AssetReply, Problem> {
        let chain = self.reader.chain(&self.lookup).await?;
        let walk = self.reader.walk(&chain, Some(self.lookup.package));
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { repository, held } => {
                    self.of_own(&repository, &held, &shadowed).await
                }
                PackageSource::Outside(connection) => {
                    let reply = self.of_connection(&connection, &shadowed).await?;
                    Ok(Some(Ok(reply)))
                }
            }
        };
        let found = walk.first(ask, || self.nothing()).await?;
        let mut reply = found.value?;
        // A nearer connection that had nothing may have something next time.
        let reuse = reply.reuse.filter(|_| found.is_nearest_connection);
        reply.reuse = reuse.map(|reuse| reuse.with(&chain));
        Ok(reply)
    }

    fn nothing(&self) -> Problem {
        let format = self.lookup.package.format();
        let repository = self.lookup.repository;
        repository.has_none(format, &self.asset.to_string())
    }

    /// The asset of our own packages; `None` where they have none of that name, and a refusal, which
    /// no farther source's answer may take the place of, where it is not handed out.
    async fn of_own(
        &self,
        repository: &str,
        held: &OwnPackage,
        shadowed: &ShadowedVersions,
    ) -> Result<Option<Result<AssetReply, Problem>>, Problem> {
        let Some(found) = self.own_facts(repository, held, shadowed)? else {
            return Ok(None);
        };
        let found = match found {
            Ok(found) => found,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        let asset = self.asset;
        let store = self.reader.fetcher.store();
        let blob = store.blob_of(found.blob, found.size).await?;
        let blob = blob.ok_or_else(|| {
            Problem::internal(
                format!(
                    "{asset} is published in `{repository}`, and its stored file is gone or damaged"
                ),
                found.blob.to_hex(),
            )
            .advice(
                "`larder verify` names such files; bring it back from a copy of the data directory",
            )
        })?;
        Ok(Some(Ok(AssetReply {
            body: AssetBody::Stored(blob),
            media_type: found.media_type.to_string(),
            last_modified: Some(httpdate::fmt_http_date(found.published.into())),
            cached: own_cached(repository),
            reuse: Some(ReuseCondition::by_rules(
                self.lookup.snapshot,
                self.lookup.now,
            )),
        })))
    }

    /// The facts about an asset of our own; `None` where there is no such asset.
    fn own_facts<'h>(
        &self,
        repository: &str,
        held: &'h OwnPackage,
        shadowed: &ShadowedVersions,
    ) -> Result<Option<Result<&'h ReleaseAsset, Problem>>, Problem> {
        let listing = held.listing.as_ref();
        let found = listing.and_then(|listing| listing.asset(&self.asset.file));
        let Some((release, found)) = found.filter(|(_, found)| !found.staged) else {
            return Ok(None);
        };
        let decider = Decider::Repository(repository.to_owned());
        shadowed.permit(decider, &self.asset.to_string(), &release.version)?;
        let permitted = self.lookup.permit(&Candidate::own(repository, release));
        Ok(Some(permitted.map(|()| found)))
    }

    /// Facts of the asset at the connection, which may hand it out.
    async fn facts(
        &self,
        connection: &Arc<Connection>,
        shadowed: &ShadowedVersions,
    ) -> Result<AssetFacts, Problem> {
        let evidence = &self.reader.evidence;
        let facts = evidence.permitted_facts(&self.lookup, connection, self.asset);
        let facts = facts.await?;
        self.not_shadowed(connection, &facts.version, shadowed)?;
        Ok(facts)
    }

    fn not_shadowed(
        &self,
        connection: &Connection,
        version: &str,
        shadowed: &ShadowedVersions,
    ) -> Result<(), Problem> {
        let decider = Decider::Connection(connection.name.clone());
        shadowed.permit(decider, &self.asset.to_string(), version)
    }

    fn key(&self, connection: &Connection) -> AssetKey {
        AssetKey {
            connection: connection.registry.as_str().into(),
            asset: self.asset.clone(),
        }
    }

    async fn of_connection(
        &self,
        connection: &Arc<Connection>,
        shadowed: &ShadowedVersions,
    ) -> Result<AssetReply, Problem> {
        let (reader, lookup) = (self.reader, &self.lookup);
        reader.asked_for_asset(lookup, connection, self.asset);
        let reply = self.answer_of(connection, shadowed).await?;
        reader.seen_outside(connection, lookup.package);
        Ok(reply)
    }

    async fn answer_of(
        &self,
        connection: &Arc<Connection>,
        shadowed: &ShadowedVersions,
    ) -> Result<AssetReply, Problem> {
        let (reader, lookup) = (self.reader, &self.lookup);
        let key = self.key(connection);
        let kept = reader.fetcher.assets().find(&key).await?;
        if let Some((row, Some(blob))) = kept.as_ref()
            && (row.published.is_some() || !lookup.concern.dates)
        {
            self.not_shadowed(connection, &row.version, shadowed)?;
            lookup.permit(&Candidate::outside(
                &connection.name,
                &row.version,
                row.published,
            ))?;
            return Ok(AssetReply {
                reuse: Some(ReuseCondition::by_rules(lookup.snapshot, lookup.now)),
                ..stored(connection, row, blob.clone(), Outcome::Hit)
            });
        }
        let is_here = kept.as_ref().is_some_and(|(_, blob)| blob.is_some());
        if !is_here
            && !lookup.concern.dates
            && shadowed.is_empty()
            && let Some(reply) = self.guessed(connection, &key).await?
        {
            return Ok(reply);
        }
        let facts = self.facts(connection, shadowed).await?;
        if facts.mutable {
            return self.mutable(connection, &facts).await;
        }
        if let Some((row, Some(blob))) = kept {
            return Ok(stored(connection, &row, blob, Outcome::Hit));
        }
        let wanted = reader.evidence.wanted(connection, key, facts).await?;
        self.fetched(connection, &wanted).await
    }

    /// The asset by what a registry of the usual form says of it in a small resource, where its
    /// package's document is not here already; `None` where the guess is wrong.
    async fn guessed(
        &self,
        connection: &Arc<Connection>,
        key: &AssetKey,
    ) -> Result<Option<AssetReply>, Problem> {
        let reader = self.reader;
        let evidence = connection.format.protocol().evidence().documents();
        let predicted = evidence.and_then(|it| Some((it, it.predicted()?.predict(&key.asset)?)));
        let Some((evidence, mut facts)) = predicted else {
            return Ok(None);
        };
        let documents = evidence.documents_of(&key.asset.package, false);
        let promises_here = reader.promising.get(&connection.registry);
        if promises_here == Some(false) {
            return Ok(None);
        }
        for document in &documents {
            let stored = reader
                .fetcher
                .documents()
                .stored(connection, &document.key)
                .await?;
            if stored.is_some() {
                return Ok(None);
            }
        }
        let name = &connection.name;
        let candidate = Candidate::outside(name, &facts.version, None);
        self.lookup.permit(&candidate)?;
        let evidence = &reader.evidence;
        if promises_here.is_none() {
            // Whether this registry has such resources is seen once, before content is asked for.
            let wanted = evidence.wanted(connection, key.clone(), facts.clone());
            // Whatever goes wrong here, the package's document is still to be asked.
            let asked = reader
                .fetcher
                .promises()
                .read(connection, wanted.await?.promises);
            let Ok(expected) = asked.await else {
                return Ok(None);
            };
            let has_them = !expected.is_empty();
            reader
                .promising
                .insert(connection.registry.clone(), has_them);
            if !has_them {
                return Ok(None);
            }
            facts.expectation = Expectation::Known(expected);
        }
        let wanted = evidence.wanted(connection, key.clone(), facts).await?;
        // Its document will say what is right, or what is wrong.
        Ok(self.fetched(connection, &wanted).await.ok())
    }

    async fn fetched(
        &self,
        connection: &Arc<Connection>,
        wanted: &WantedAsset,
    ) -> Result<AssetReply, Problem> {
        let (phase, outcome) = self.reader.fetcher.assets().fetch(wanted).await;
        match phase {
            Phase::Stored(blob, landed) => Ok(stored(connection, &landed.row, blob, outcome)),
            Phase::Arriving(arrival) => match arrival.begun().await {
                Ok(()) => Ok(AssetReply {
                    media_type: arrival.head.media_type.clone(),
                    last_modified: arrival.head.last_modified.clone(),
                    body: AssetBody::Arriving(arrival),
                    cached: cached(connection, outcome, 0, 0),
                    reuse: None,
                }),
                // The disk failed before a byte was sent.
                Err(problem) => match self.reader.fetcher.store().shortage() {
                    Some(why) => self.passed(connection, wanted, why).await,
                    None => Err(problem),
                },
            },
            Phase::Unkept(why) => self.passed(connection, wanted, why).await,
            Phase::Failed(problem) => Err(problem),
            Phase::Opening => Err(Problem::internal("the download stopped", "it never began")),
        }
    }

    /// The asset by a download of this client's own, because the store keeps nothing.
    async fn passed(
        &self,
        connection: &Arc<Connection>,
        wanted: &WantedAsset,
        why: NotKept,
    ) -> Result<AssetReply, Problem> {
        if wanted.requires_promise() {
            // A file that is not stored is sent before its promise is known; not so here.
            return Err(Problem::internal("a guess is not passed on", "no room"));
        }
        let pass = self.reader.fetcher.assets().pass(wanted).await?;
        Ok(AssetReply {
            media_type: pass.head.media_type.clone(),
            last_modified: pass.head.last_modified.clone(),
            body: AssetBody::Passing(pass),
            cached: cached(connection, Outcome::Unkept(why), 0, 0),
            reuse: None,
        })
    }

    /// An asset whose bytes may change is revalidated as a document is.
    async fn mutable(
        &self,
        connection: &Arc<Connection>,
        facts: &AssetFacts,
    ) -> Result<AssetReply, Problem> {
        let reader = self.reader;
        let url = reader.evidence.locate(connection, &facts.location).await?;
        let what = self.asset.to_string();
        let document = reader
            .fetcher
            .documents()
            .freshen(
                connection,
                Sought {
                    key: &mutable_key(self.asset),
                    url: &url,
                    accept: "*/*",
                    freshen: Freshen::AsCached,
                    promises: promises_of(facts),
                    what: &what,
                },
            )
            .await?;
        let age = u64::try_from(clock::unix_now() - document.row.checked_at).unwrap_or(0);
        let fetch_ms = u64::try_from(document.row.fetch_ms).unwrap_or(0);
        let blob = match &document.content {
            DocumentContent::Stored(blob) => blob.clone(),
            DocumentContent::Passing(bytes) => Blob::in_memory(document.row.blob, bytes.clone()),
        };
        Ok(AssetReply {
            body: AssetBody::Stored(blob),
            media_type: document.row.media_type.clone(),
            last_modified: document.row.last_modified.clone(),
            cached: cached(connection, document.outcome, age, fetch_ms),
            reuse: None,
        })
    }

    async fn checksum(&self, algorithm: Algorithm) -> Result<(String, Cached), Problem> {
        let chain = self.reader.chain(&self.lookup).await?;
        let walk = self.reader.walk(&chain, Some(self.lookup.package));
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { repository, held } => {
                    let found = self.own_facts(&repository, &held, &shadowed)?;
                    let digest =
                        |found: &ReleaseAsset| (found.digest(algorithm), own_cached(&repository));
                    Ok(found.map(|found| found.map(digest)))
                }
                PackageSource::Outside(connection) => {
                    let facts = self.facts(&connection, &shadowed).await?;
                    let digest = self.checksum_of(&connection, &facts, algorithm).await?;
                    self.reader.seen_outside(&connection, self.lookup.package);
                    Ok(Some(Ok(digest)))
                }
            }
        };
        walk.first(ask, || self.nothing()).await?.value
    }

    /// The digest of the file that is here, or what upstream says of it.
    async fn checksum_of(
        &self,
        connection: &Arc<Connection>,
        facts: &AssetFacts,
        algorithm: Algorithm,
    ) -> Result<(String, Cached), Problem> {
        let (reader, asset) = (self.reader, self.asset);
        let held = if facts.mutable {
            let key = mutable_key(asset);
            let stored = reader.fetcher.documents().stored(connection, &key).await?;
            stored.and_then(|document| match &document.content {
                DocumentContent::Stored(blob) => Some(blob.clone()),
                DocumentContent::Passing(_) => None,
            })
        } else {
            let key = self.key(connection);
            let at_rest = reader.fetcher.assets().find_when_done(&key).await?;
            at_rest.and_then(|(_, blob)| blob)
        };
        if let Some(blob) = held {
            let digest = reader.fetcher.store().digest(&blob, algorithm).await?;
            return Ok((digest.to_hex(), cached(connection, Outcome::Hit, 0, 0)));
        }
        let file = promises_of(facts)
            .into_iter()
            .find(|promise| promise.algorithm == Some(algorithm))
            .ok_or_else(|| {
                Problem::not_found(
                    Decider::Connection(connection.name.clone()),
                    format!("{asset} has no {} file", algorithm.as_str()),
                )
            })?;
        let resource = Resource {
            key: format!("checksum:{}:{asset}", algorithm.as_str()),
            location: file.location,
            accept: "*/*",
        };
        let what = asset.to_string();
        let document = reader
            .evidence
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await;
        let document = match document {
            // A file that was absent before an outage had no checksum either.
            Err(problem) if problem.kind.is_outage() => {
                let assets = reader.fetcher.assets();
                let was_absent = assets.was_absent(connection, asset).await;
                return Err(if was_absent {
                    problem.absent_before()
                } else {
                    problem
                });
            }
            document => document?,
        };
        let text = document.bytes(&reader.fetcher).await?;
        let age = u64::try_from(clock::unix_now() - document.row.checked_at).unwrap_or(0);
        let cached = cached(connection, document.outcome, age, 0);
        Ok((String::from_utf8_lossy(&text).trim().to_owned(), cached))
    }
}

/// Names an asset whose bytes may change among its connection's documents.
fn mutable_key(asset: &AssetId) -> String {
    format!("asset:{asset}")
}

fn stored(connection: &Connection, row: &AssetRow, blob: Blob, outcome: Outcome) -> AssetReply {
    let age = u64::try_from(clock::unix_now() - row.first_seen).unwrap_or(0);
    AssetReply {
        body: AssetBody::Stored(blob),
        media_type: row.media_type.clone(),
        last_modified: row.last_modified.clone(),
        cached: cached(
            connection,
            outcome,
            age,
            u64::try_from(row.fetch_ms).unwrap_or(0),
        ),
        reuse: None,
    }
}

fn cached(connection: &Connection, outcome: Outcome, age: u64, fetch_ms: u64) -> Cached {
    Cached {
        outcome,
        connection: connection.name.clone(),
        age,
        fetch_ms,
    }
}
