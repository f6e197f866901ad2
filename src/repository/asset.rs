//! Assets: the same decision as the documents', then the store or the one download.

use std::sync::Arc;

use super::chain::{Link, Taken};
use super::document::{Cached, Lasting, own_cached};
use super::evidence::{permit, promises_of};
use super::own::OwnPackage;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Content, Freshen, Pass, Sought, Wanted};
use crate::format::{Evidence, Resource, Target};
use crate::package::{
    Algorithm, AssetFacts, AssetId, Expectation, Format, PackageId, ReleaseAsset,
};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{Concern, Question};
use crate::store::catalog::{AssetKey, AssetRow};
use crate::store::{Arrival, Blob, Phase};

/// An asset to answer with.
pub struct AssetReply {
    pub body: AssetBody,
    pub media_type: String,
    pub last_modified: Option<String>,
    pub cached: Cached,
    /// `None` where the next request has to be answered anew.
    pub lasting: Option<Lasting>,
}

pub enum AssetBody {
    Stored(Blob),
    Arriving(Arrival),
    Passing(Pass),
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
        let reply = self.asset_asked(snapshot, repository, asset).await;
        if let Err(problem) = &reply {
            self.wish(repository, &asset.package, Some(asset), problem);
        }
        reply
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

    async fn asset_asked(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        asset: &AssetId,
    ) -> Result<AssetReply, Problem> {
        let chain = self.chain(snapshot, repository, &asset.package).await?;
        let (mut absent, mut outside) = (chain.barred.clone(), Taken::default());
        let mut asks_first = true;
        for (index, link) in chain.links.iter().enumerate() {
            let connection = match link {
                Link::Own { repository, held } => {
                    let reply = self.own_asset(snapshot, repository, held, asset).await?;
                    match reply {
                        Some(mut reply) => {
                            reply.lasting = reply.lasting.map(|lasting| lasting.with(&chain));
                            return Ok(reply);
                        }
                        None => continue,
                    }
                }
                Link::Outside(connection) => connection,
            };
            let taken = chain.taken_before(index).and(&outside);
            match self
                .asset_of(snapshot, repository, connection, asset, &taken)
                .await
            {
                Ok(mut reply) => {
                    // A nearer connection that had nothing may have something next time.
                    let lasting = reply.lasting.filter(|_| asks_first);
                    reply.lasting = lasting.map(|lasting| lasting.with(&chain));
                    return Ok(reply);
                }
                Err(problem) if problem.kind == Kind::NotFound => {
                    absent = absent.or(Some(problem));
                    if chain.ends_at(index) {
                        break;
                    }
                }
                Err(problem) => return Err(problem),
            }
            asks_first = false;
            if index + 1 < chain.links.len() {
                self.take(&mut outside, connection, &asset.package).await?;
            }
        }
        Err(absent
            .unwrap_or_else(|| repository.has_none(asset.package.format(), &asset.to_string())))
    }

    /// An asset of our own packages; `None` where they have none of that name.
    async fn own_asset(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &str,
        held: &OwnPackage,
        asset: &AssetId,
    ) -> Result<Option<AssetReply>, Problem> {
        let Some(found) = own_facts(snapshot, repository, held, asset)? else {
            return Ok(None);
        };
        let blob = self.fetcher.store().blob(found.blob).await;
        let blob = blob
            .map_err(|error| Problem::internal("a stored file cannot be read", error))?
            .ok_or_else(|| {
                Problem::internal(
                    format!("{asset} is in the catalog of `{repository}`, and its bytes are gone"),
                    "no such blob",
                )
            })?;
        Ok(Some(AssetReply {
            body: AssetBody::Stored(blob),
            media_type: found.media_type.to_string(),
            last_modified: Some(httpdate::fmt_http_date(found.published.into())),
            cached: own_cached(repository),
            lasting: Some(Lasting::by_rules(snapshot, clock::now())),
        }))
    }

    async fn asset_of(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        connection: &Arc<Connection>,
        asset: &AssetId,
        taken: &Taken,
    ) -> Result<AssetReply, Problem> {
        self.asked_for_asset(snapshot, repository, connection, asset);
        let key = AssetKey {
            connection: connection.name.as_str().into(),
            asset: asset.clone(),
        };
        let now = clock::now();
        let concern = snapshot.config.rules.concern(&asset.package, now);
        let kept = self.fetcher.asset(&key).await?;
        if let Some((row, Some(blob))) = kept.as_ref()
            && (row.published.is_some() || !concern.dates)
        {
            outside(connection, asset, &row.version, taken)?;
            permit(
                snapshot,
                concern,
                &asset.package,
                &row.version,
                row.published,
            )?;
            return Ok(AssetReply {
                lasting: Some(Lasting::by_rules(snapshot, now)),
                ..stored(connection, row, blob.clone(), "hit")
            });
        }
        let is_here = kept.as_ref().is_some_and(|(_, blob)| blob.is_some());
        if !is_here
            && !concern.dates
            && taken.is_empty()
            && let Some(reply) = self.guessed(snapshot, connection, &key, concern).await?
        {
            return Ok(reply);
        }
        let facts = self
            .permitted_facts(snapshot, connection, asset, concern)
            .await?;
        outside(connection, asset, &facts.version, taken)?;
        if facts.mutable {
            return self.mutable(connection, asset, &facts).await;
        }
        if let Some((row, Some(blob))) = kept {
            return Ok(stored(connection, &row, blob, "hit"));
        }
        let wanted = self.wanted(connection, key, facts).await?;
        self.fetched(connection, &wanted).await
    }

    /// The asset by what a registry of the usual form says of it in a small resource, where its
    /// package's document is not here already; `None` where the guess is wrong.
    async fn guessed(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        connection: &Arc<Connection>,
        key: &AssetKey,
        concern: Concern,
    ) -> Result<Option<AssetReply>, Problem> {
        let protocol = connection.format.protocol();
        let (Some(mut facts), Evidence::Documents(documents)) = (
            protocol.guess(&key.asset),
            protocol.evidence(&key.asset.package, false),
        ) else {
            return Ok(None);
        };
        let promises_here = self.promising.get(&connection.name).await;
        if promises_here == Some(false) {
            return Ok(None);
        }
        for document in &documents {
            if self
                .fetcher
                .stored(connection, &document.key)
                .await?
                .is_some()
            {
                return Ok(None);
            }
        }
        permit(snapshot, concern, &key.asset.package, &facts.version, None)?;
        if promises_here.is_none() {
            // Whether this registry has such resources is seen once, before content is asked for.
            let wanted = self.wanted(connection, key.clone(), facts.clone()).await?;
            // Whatever goes wrong here, the package's document is still to be asked.
            let asked = self.fetcher.promised(connection, wanted.promises).await;
            let Ok(expected) = asked else { return Ok(None) };
            let has_them = !expected.is_empty();
            self.promising
                .insert(connection.name.clone(), has_them)
                .await;
            if !has_them {
                return Ok(None);
            }
            facts.expectation = Expectation::Known(expected);
        }
        let wanted = self.wanted(connection, key.clone(), facts).await?;
        // Its document will say what is right, or what is wrong.
        Ok(self.fetched(connection, &wanted).await.ok())
    }

    async fn fetched(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        wanted: &Wanted,
    ) -> Result<AssetReply, Problem> {
        let (phase, outcome) = self.fetcher.fetch(wanted).await;
        let outcome = outcome.as_str();
        match phase {
            Phase::Stored(blob, landed) => Ok(stored(connection, &landed.row, blob, outcome)),
            Phase::Arriving(arrival) => {
                arrival.begun().await?;
                Ok(AssetReply {
                    media_type: arrival.head.media_type.clone(),
                    last_modified: arrival.head.last_modified.clone(),
                    body: AssetBody::Arriving(arrival),
                    cached: cached(connection, outcome, 0, 0),
                    lasting: None,
                })
            }
            // What passes unkept is handed out while its promise is still to come.
            Phase::Unkept(_) if wanted.is_guess() => {
                Err(Problem::internal("a guess is not passed on", "no room"))
            }
            Phase::Unkept(why) => {
                let pass = self.fetcher.pass(wanted).await?;
                Ok(AssetReply {
                    media_type: pass.head.media_type.clone(),
                    last_modified: pass.head.last_modified.clone(),
                    body: AssetBody::Passing(pass),
                    cached: cached(connection, why.as_str(), 0, 0),
                    lasting: None,
                })
            }
            Phase::Failed(problem) => Err(problem),
            Phase::Opening => Err(Problem::internal("the download stopped", "it never began")),
        }
    }

    /// An asset whose bytes may change is revalidated as a document is.
    async fn mutable(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        asset: &AssetId,
        facts: &AssetFacts,
    ) -> Result<AssetReply, Problem> {
        let url = self.locate(connection, &facts.location).await?;
        let key = format!("asset:{asset}");
        let document = self
            .fetcher
            .freshen(
                connection,
                Sought {
                    key: &key,
                    url: &url,
                    accept: "*/*",
                    freshen: Freshen::AsCached,
                    promises: promises_of(facts),
                    what: &asset.to_string(),
                },
            )
            .await?;
        let age = u64::try_from(clock::unix_now() - document.row.checked_at).unwrap_or(0);
        let fetch_ms = u64::try_from(document.row.fetch_ms).unwrap_or(0);
        let blob = match &document.content {
            Content::Stored(blob) => blob.clone(),
            Content::Passing(bytes) => Blob::in_memory(document.row.blob, bytes.clone()),
        };
        Ok(AssetReply {
            body: AssetBody::Stored(blob),
            media_type: document.row.media_type.clone(),
            last_modified: document.row.last_modified.clone(),
            cached: cached(connection, document.outcome.as_str(), age, fetch_ms),
            lasting: None,
        })
    }

    pub(super) async fn wanted(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        key: AssetKey,
        facts: AssetFacts,
    ) -> Result<Wanted, Problem> {
        let url = self.locate(connection, &facts.location).await?;
        let mut promises = Vec::new();
        for promise in promises_of(&facts) {
            let url = self.locate(connection, &promise.location).await?;
            promises.push((promise, url));
        }
        Ok(Wanted {
            connection: Arc::clone(connection),
            key,
            facts,
            url,
            promises,
        })
    }

    /// The digest of an asset, in hexadecimal: our own where we hold the file, upstream's where
    /// we do not.
    ///
    /// # Errors
    /// As [`Reader::asset`].
    pub async fn checksum(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &Repository,
        asset: &AssetId,
        algorithm: Algorithm,
    ) -> Result<(String, Cached), Problem> {
        let chain = self.chain(snapshot, repository, &asset.package).await?;
        let mut absent = chain.barred.clone();
        for link in &chain.links {
            match link {
                Link::Own { repository, held } => {
                    if let Some(found) = own_facts(snapshot, repository, held, asset)? {
                        return Ok((found.digest(algorithm), own_cached(repository)));
                    }
                }
                Link::Outside(connection) => {
                    match self
                        .checksum_of(snapshot, connection, asset, algorithm)
                        .await
                    {
                        Err(problem) if problem.kind == Kind::NotFound => {
                            absent = absent.or(Some(problem));
                        }
                        result => return result,
                    }
                }
            }
        }
        Err(absent
            .unwrap_or_else(|| repository.has_none(asset.package.format(), &asset.to_string())))
    }

    async fn checksum_of(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        connection: &Arc<Connection>,
        asset: &AssetId,
        algorithm: Algorithm,
    ) -> Result<(String, Cached), Problem> {
        let concern = snapshot.config.rules.concern(&asset.package, clock::now());
        let facts = self
            .permitted_facts(snapshot, connection, asset, concern)
            .await?;
        let held = if facts.mutable {
            let document = self
                .fetcher
                .stored(connection, &format!("asset:{asset}"))
                .await?;
            document.and_then(|document| match &document.content {
                Content::Stored(blob) => Some(blob.clone()),
                Content::Passing(_) => None,
            })
        } else {
            let key = AssetKey {
                connection: connection.name.as_str().into(),
                asset: asset.clone(),
            };
            self.fetcher
                .asset_at_rest(&key)
                .await?
                .and_then(|(_, blob)| blob)
        };
        if let Some(blob) = held {
            let digest = self.fetcher.store().digest(&blob, algorithm).await;
            let digest =
                digest.map_err(|error| Problem::internal("a digest cannot be computed", error))?;
            return Ok((digest.to_hex(), cached(connection, "hit", 0, 0)));
        }
        let file = promises_of(&facts)
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
        let document = self
            .freshen(connection, &resource, Freshen::AsCached, &asset.to_string())
            .await?;
        let text = document.bytes(&self.fetcher).await?;
        let age = u64::try_from(clock::unix_now() - document.row.checked_at).unwrap_or(0);
        let cached = cached(connection, document.outcome.as_str(), age, 0);
        Ok((String::from_utf8_lossy(&text).trim().to_owned(), cached))
    }

    /// What a stored alias leads to; the address is upstream's own, or one that we made up.
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
                .alias(&connection.name, path)
                .await;
            let target =
                target.map_err(|error| Problem::internal("the catalog cannot be read", error))?;
            if let Some(target) = target.and_then(|target| format.protocol().alias(&target)) {
                return Ok(target);
            }
        }
        Err(unknown())
    }
}

/// A version that a nearer source has is not taken from here.
fn outside(
    connection: &Connection,
    asset: &AssetId,
    version: &str,
    taken: &Taken,
) -> Result<(), Problem> {
    if !taken.has(version) {
        return Ok(());
    }
    Err(Problem::not_found(
        Decider::Connection(connection.name.clone()),
        format!("{asset} is of a version that a nearer repository has, without this file"),
    ))
}

/// What the catalog says of an asset of our own that may be handed out; `None` where there is none.
fn own_facts<'a>(
    snapshot: &Snapshot,
    repository: &str,
    held: &'a OwnPackage,
    asset: &AssetId,
) -> Result<Option<&'a ReleaseAsset>, Problem> {
    let found = held
        .listing
        .as_ref()
        .and_then(|listing| listing.asset(&asset.file));
    let Some((release, found)) = found.filter(|(_, found)| !found.staged) else {
        return Ok(None);
    };
    if !release.status.is_served() {
        return Err(Problem::not_found(
            Decider::Repository(repository.to_owned()),
            format!(
                "{} {} is {}",
                asset.package, release.version, release.status
            ),
        )
        .advice("its status decides; `larder status` shows and changes it"));
    }
    let rules = &snapshot.config.rules;
    let question = Question {
        package: &asset.package,
        version: &release.version,
        published: Some(release.published),
        origin: release.origin,
    };
    rules.decide(&question, clock::now()).permit(&question)?;
    Ok(Some(found))
}

fn stored(
    connection: &Connection,
    row: &AssetRow,
    blob: Blob,
    outcome: &'static str,
) -> AssetReply {
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
        lasting: None,
    }
}

fn cached(connection: &Connection, outcome: &'static str, age: u64, fetch_ms: u64) -> Cached {
    Cached {
        outcome,
        connection: connection.name.clone(),
        age,
        fetch_ms,
    }
}
