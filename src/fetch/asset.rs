//! Fetches immutable files (assets): one download however many clients want the file. The last piece
//! is sent only after the digests were verified.

use std::sync::Arc;

use http::HeaderMap;
use http::header::LAST_MODIFIED;
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use super::absence::{Absences, asset_key};
use super::body::DownloadBody;
use super::document::media_type;
use super::outcome::Outcome;
use super::promise::PromiseReader;
use super::stock::Stocks;
use super::{ResourceKey, store_problem};
use crate::clock;
use crate::config;
use crate::connection::{Connection, Error, UpstreamRequest};
use crate::format::ArrivingDocument;
use crate::package::{
    Algorithm, AssetFacts, AssetId, Digester, Expectation, Expected, PackageId, Promise,
    UpstreamUrl,
};
use crate::problem::{Decider, Kind, Problem};
use crate::store::catalog::{AssetKey, AssetRow};
use crate::store::{
    self, Arrival, Arrivals, Blob, DownloadHead, DownloadProgress, Incoming, Keeping, Leader,
    NotKept, Phase, Store, Verified,
};
use crate::task::Tasks;

/// A request for an asset: the facts about it, with its addresses resolved.
#[derive(Clone)]
pub struct WantedAsset {
    pub connection: Arc<Connection>,
    pub key: AssetKey,
    pub facts: AssetFacts,
    pub url: UpstreamUrl,
    /// The resources that hold its digests, strongest first.
    pub promises: Vec<(Promise, UpstreamUrl)>,
}

impl WantedAsset {
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        match &self.facts.expectation {
            Expectation::Known(expected) => {
                expected.iter().map(|digest| digest.algorithm()).collect()
            }
            // Which algorithm such a promise uses is not known before the body is hashed.
            Expectation::Promised(promises) | Expectation::Required(promises)
                if promises.iter().any(|promise| promise.algorithm.is_none()) =>
            {
                vec![Algorithm::Sha512]
            }
            Expectation::Promised(promises) | Expectation::Required(promises) => promises
                .iter()
                .filter_map(|promise| promise.algorithm)
                .collect(),
            Expectation::FirstSeen => Vec::new(),
        }
    }

    fn what(&self) -> String {
        self.key.asset.to_string()
    }

    fn absence_key(&self) -> ResourceKey {
        asset_key(&self.connection, &self.key.asset)
    }

    /// Whether a promised digest is required. No byte is sent before the promise is known then.
    #[must_use]
    pub fn requires_promise(&self) -> bool {
        matches!(self.facts.expectation, Expectation::Required(_))
    }
}

/// The result of a download.
#[derive(Clone)]
pub struct Landed {
    pub row: Arc<AssetRow>,
    /// Whether upstream was asked for it.
    is_new: bool,
}

/// Fetches assets, each once however many want it.
pub struct AssetFetcher {
    pub(super) store: Arc<Store>,
    pub(super) tasks: Tasks,
    pub(super) config: config::Fetch,
    pub(super) promises: PromiseReader,
    stocks: Stocks,
    rows: Cache<AssetKey, Arc<AssetRow>>,
    absences: Absences,
    arrivals: Arrivals<AssetKey, Landed>,
}

impl AssetFetcher {
    /// At most `rows_max` assets' rows are kept in memory.
    pub(super) fn new(
        store: &Arc<Store>,
        config: &config::Config,
        tasks: &Tasks,
        promises: &PromiseReader,
        stocks: &Stocks,
        absences: &Absences,
        rows_max: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            tasks: tasks.clone(),
            config: config.fetch.clone(),
            promises: promises.clone(),
            stocks: stocks.clone(),
            rows: Cache::new(rows_max),
            absences: absences.clone(),
            arrivals: Arrivals::new(tasks.clone()),
        })
    }

    /// Finds the asset among those fetched before: its row, and its blob unless it was evicted.
    ///
    /// # Errors
    /// Where the catalog or the disk fails.
    pub async fn find(
        &self,
        key: &AssetKey,
    ) -> Result<Option<(Arc<AssetRow>, Option<Blob>)>, Problem> {
        let row = match self.rows.get(key) {
            Some(row) => row,
            None => {
                let row = self.store.catalog().assets().find(key).await;
                match row? {
                    Some(row) => {
                        let row = Arc::new(row);
                        self.rows.insert(key.clone(), Arc::clone(&row));
                        row
                    }
                    None => return Ok(None),
                }
            }
        };
        let blob = self.store.blob_of(row.blob, row.size).await?;
        Ok(Some((row, blob)))
    }

    /// Waits for a download of the asset that may be under way, then finds it as `find` does.
    ///
    /// # Errors
    /// See [`AssetFetcher::find`].
    pub async fn find_when_done(
        &self,
        key: &AssetKey,
    ) -> Result<Option<(Arc<AssetRow>, Option<Blob>)>, Problem> {
        self.arrivals.wait_until_done(key).await;
        self.find(key).await
    }

    /// Files of the package that are coming from the connection and are not written down yet.
    #[must_use]
    pub fn arriving(&self, connection: &Connection, package: &PackageId) -> Vec<AssetId> {
        let keys = self.arrivals.arriving(|key| {
            *key.connection == *connection.registry && key.asset.package == *package
        });
        keys.into_iter().map(|key| key.asset).collect()
    }

    /// Joins the one download of the asset, or starts it: how far it is, and what that made of
    /// this request.
    pub async fn fetch(self: &Arc<Self>, wanted: &WantedAsset) -> (Phase<Landed>, Outcome) {
        if let Some(problem) = self.absences.fresh(&wanted.absence_key()) {
            return (Phase::Failed(problem), Outcome::Hit);
        }
        // Nobody else could follow it: each client gets its own.
        if let Some(why) = self.store.shortage() {
            return (Phase::Unkept(why), Outcome::Unkept(why));
        }
        let was_absent = self
            .absences
            .checked_at(&wanted.absence_key())
            .await
            .is_some();
        let given = || {
            let problem = Error::TimedOut.problem(&wanted.connection.name, &wanted.what());
            (Phase::Failed(problem.absent_before()), Outcome::Stale)
        };
        if was_absent && wanted.connection.is_silent() {
            self.probe(wanted);
            return given();
        }
        let (fetcher, job) = (Arc::clone(self), wanted.clone());
        let mut leads = false;
        let lead = |leader| {
            leads = true;
            async move { fetcher.lead(job, leader, was_absent).await }
        };
        let joined = self.arrivals.join(&wanted.key, lead);
        let phase = if was_absent {
            match tokio::time::timeout(self.config.stale_after, joined).await {
                Ok(phase) => phase,
                Err(_) => {
                    wanted.connection.note_silence();
                    return given();
                }
            }
        } else {
            joined.await
        };
        if let Phase::Failed(problem) = &phase
            && !leads
            && !wanted.requires_promise()
            && is_wrong_guess(problem)
        {
            // It says nothing of a file that a document names.
            return Box::pin(self.fetch(wanted)).await;
        }
        let outcome = match &phase {
            _ if !leads => Outcome::Collapsed,
            Phase::Stored(_, Landed { is_new: false, .. }) => Outcome::Hit,
            _ => Outcome::Miss,
        };
        (phase, outcome)
    }

    /// Asks a silent registry for the asset, in the background, unless somebody asks it already.
    fn probe(self: &Arc<Self>, wanted: &WantedAsset) {
        let Some(probe) = wanted.connection.probe() else {
            return;
        };
        let connection = Arc::clone(&wanted.connection);
        let ask = UpstreamRequest {
            patience: std::time::Duration::ZERO,
            ..self.ask_for(wanted, HeaderMap::new())
        };
        self.tasks.spawn(async move {
            let _probe = probe;
            // Whatever it says: that it answers is noted where it is heard, at its end.
            if let Ok(mut opened) = connection.ask(&ask).await {
                while let Ok(Some(_)) = opened.piece().await {}
            }
        });
    }

    async fn lead(self: Arc<Self>, wanted: WantedAsset, leader: Leader<Landed>, was_absent: bool) {
        // Another download may have ended between the look-up above and the start of this one.
        if let Ok(Some((row, Some(blob)))) = self.find(&wanted.key).await {
            leader.is_at(Phase::Stored(blob, Landed { row, is_new: false }));
            return;
        }
        let (progress, seen) = watch::channel(DownloadProgress::Flowing);
        match self.download(&wanted, &leader, &progress, seen).await {
            Ok((blob, row)) => {
                leader.is_at(Phase::Stored(blob, Landed { row, is_new: true }));
                self.absences.forget_if(was_absent, &wanted.absence_key());
            }
            Err(Ending::Unkept(why)) => {
                info!(asset = %wanted.key.asset, why = why.as_str(), "A file was not stored; it is passed on to the client");
                settle(&progress, disk_full(&wanted));
                leader.is_at(Phase::Unkept(why));
            }
            Err(Ending::Outgrown(outgrown)) => {
                let Outgrown {
                    why,
                    body,
                    digester,
                } = *outgrown;
                info!(asset = %wanted.key.asset, why = why.as_str(), at = body.at(), "A file is larger than there is room; the rest is passed on to the client");
                let onward = self.onward(&wanted, body, digester);
                progress.send_replace(DownloadProgress::Outgrown(onward));
                leader.is_at(Phase::Unkept(why));
            }
            Err(Ending::Problem(problem)) => {
                let problem = self.remember_absent(&wanted, problem).await;
                settle(&progress, problem.clone());
                leader.is_at(Phase::Failed(problem));
            }
        }
    }

    /// Remembers a real 404; where upstream is away, says whether there was one before.
    async fn remember_absent(&self, wanted: &WantedAsset, problem: Problem) -> Problem {
        if wanted.requires_promise() || wanted.connection.offline {
            return problem;
        }
        let key = wanted.absence_key();
        match problem.kind {
            Kind::NotFound => {
                self.absences.note(&key, &problem);
                problem
            }
            kind if kind.is_outage() && self.absences.checked_at(&key).await.is_some() => {
                problem.absent_before()
            }
            _ => problem,
        }
    }

    /// The problem with which the connection was said lately not to have the asset.
    #[must_use]
    pub fn known_absent(&self, connection: &Connection, asset: &AssetId) -> Option<Problem> {
        self.absences.fresh(&asset_key(connection, asset))
    }

    /// Remembers that the connection's documents do not name the asset.
    pub fn note_absent(&self, connection: &Connection, asset: &AssetId, problem: &Problem) {
        self.absences.note(&asset_key(connection, asset), problem);
    }

    /// Whether the connection said before that it does not have the asset, however long ago.
    pub async fn was_absent(&self, connection: &Connection, asset: &AssetId) -> bool {
        let key = asset_key(connection, asset);
        self.absences.checked_at(&key).await.is_some()
    }

    async fn download(
        &self,
        wanted: &WantedAsset,
        leader: &Leader<Landed>,
        progress: &watch::Sender<DownloadProgress>,
        seen: watch::Receiver<DownloadProgress>,
    ) -> Result<(Blob, Arc<AssetRow>), Ending> {
        let started = Instant::now();
        let name = &wanted.connection.name;
        let failed = |error: Error| Ending::Problem(error.problem(name, &wanted.what()));
        // The resource that holds the digests and the file itself are fetched at the same time.
        let ask = self.ask_for(wanted, HeaderMap::new());
        let (ahead, known) = if wanted.requires_promise() {
            let (opened, expected) =
                tokio::join!(wanted.connection.ask(&ask), self.expected(wanted));
            let expected = expected.map_err(failed)?;
            if expected.is_empty() {
                return Err(Ending::Problem(unpromised(wanted)));
            }
            (Some(opened.map_err(failed)?), Some(expected))
        } else {
            (None, None)
        };
        let (opened, expected) = tokio::join!(
            async {
                let opened = match ahead {
                    Some(opened) => opened,
                    None => wanted.connection.ask(&ask).await.map_err(failed)?,
                };
                let head = DownloadHead {
                    size: opened.length(),
                    media_type: media_type(&opened.headers),
                    last_modified: opened.header(LAST_MODIFIED),
                };
                let incoming = self
                    .store
                    .incoming(head.size, &wanted.algorithms(), Keeping::Cached)
                    .await
                    .map_err(|error| ending(error, wanted))?;
                leader.is_at(Phase::Arriving(Arrival::new(
                    head.clone(),
                    incoming.watch(),
                    seen,
                )));
                let body = DownloadBody::new(opened, self.config.retries);
                let incoming = self.pour(wanted, body, incoming).await?;
                Ok::<_, Ending>((incoming, head))
            },
            async {
                match known {
                    Some(known) => Ok(known),
                    None => self.expected(wanted).await,
                }
            }
        );
        let (incoming, head) = opened?;
        let expected = expected.map_err(failed)?;
        let verified = incoming.verify(&expected).await.map_err(|error| {
            if error.is_unverified() {
                self.promises
                    .note_broken(&wanted.connection, &wanted.what(), &error);
            }
            ending(error, wanted)
        })?;
        if expected.is_empty() && head.media_type == "text/html" {
            self.refuse_page(wanted, &verified).await.map_err(failed)?;
        }
        let row = AssetRow {
            version: wanted.facts.version.to_string(),
            blob: verified.digests().blob,
            size: verified.size(),
            media_type: head.media_type,
            published: wanted.facts.published,
            last_modified: head.last_modified,
            first_seen: clock::unix_now(),
            fetch_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
        };
        // The bytes are verified. Followers may send the end while the file is still being synced.
        progress.send_replace(DownloadProgress::Verified {
            blob: row.blob,
            size: row.size,
        });
        let blob = verified
            .keep(Keeping::Cached)
            .await
            .map_err(|error| ending(error, wanted))?;
        match self.store.records().add_asset(&wanted.key, &row).await {
            Ok(true) => self.tell_pulled(wanted, &row.version),
            Ok(false) => {}
            Err(error) => warn!(%error, "Writing a file's row failed; it may be fetched again"),
        }
        let row = Arc::new(row);
        self.rows.insert(wanted.key.clone(), Arc::clone(&row));
        self.stocks.forget(&wanted.key);
        Ok((blob, row))
    }

    /// Sends the event that a version came in for the first time, in the background.
    fn tell_pulled(&self, wanted: &WantedAsset, version: &str) {
        let packages = self.store.packages();
        if !packages.events().has_listeners() {
            return;
        }
        let (packages, version) = (packages.clone(), version.to_owned());
        let connection = wanted.connection.name.clone();
        let package = wanted.key.asset.package.to_string();
        self.tasks.spawn(async move {
            let told = packages
                .events()
                .tell_pulled(&connection, &package, &version);
            if let Err(error) = told.await {
                warn!(%error, package, version, "Recording the event of a pulled version failed; no target is told");
            }
        });
    }

    /// Refuses a web page in the place of a file for which no digest is promised: what gateways and
    /// login servers send would else be that file for good.
    async fn refuse_page(&self, wanted: &WantedAsset, verified: &Verified) -> Result<(), Error> {
        let protocol = wanted.connection.format.protocol();
        let key = format!("asset:{}", wanted.key.asset);
        let (url, mut reader) = (Url::clone(&wanted.url), verified.reader());
        let recognising = self.tasks.spawn_blocking(move || {
            protocol.recognise(&mut ArrivingDocument {
                key: &key,
                media_type: "text/html",
                url: &url,
                reader: &mut reader,
            })
        });
        match recognising.await {
            Ok(Err(error)) => Err(Error::NoDocument(error.to_string())),
            _ => Ok(()),
        }
    }

    pub(super) fn ask_for(&self, wanted: &WantedAsset, headers: HeaderMap) -> UpstreamRequest {
        UpstreamRequest {
            headers,
            identity: true,
            ..UpstreamRequest::get(wanted.url.clone(), "*/*", self.config.patience)
        }
    }

    /// Writes the body to the store, as far as there is room.
    async fn pour(
        &self,
        wanted: &WantedAsset,
        mut body: DownloadBody,
        mut incoming: Incoming,
    ) -> Result<Incoming, Ending> {
        let failed =
            |error: Error| Ending::Problem(error.problem(&wanted.connection.name, &wanted.what()));
        while let Some(piece) = body.piece(self, wanted).await.map_err(failed)? {
            if let Err(why) = incoming.make_room(&piece) {
                body.put_back(piece);
                let digester = incoming.stop().await;
                let digester = digester.map_err(|error| ending(error, wanted))?;
                return Err(Ending::Outgrown(Box::new(Outgrown {
                    why,
                    body,
                    digester,
                })));
            }
            let written = incoming.write(piece).await;
            written.map_err(|error| ending(error, wanted))?;
        }
        Ok(incoming)
    }

    /// The digests that the bytes must have.
    pub(super) async fn expected(&self, wanted: &WantedAsset) -> Result<Expected, Error> {
        let promised = match &wanted.facts.expectation {
            Expectation::Known(expected) => return Ok(expected.clone()),
            Expectation::Promised(_) | Expectation::Required(_) => {
                self.promises
                    .read(&wanted.connection, wanted.promises.clone())
                    .await?
            }
            Expectation::FirstSeen => Expected::none(),
        };
        if !promised.is_empty() || wanted.requires_promise() {
            return Ok(promised);
        }
        // Upstream promises no digest: later downloads must match the first one.
        let pinned = self
            .store
            .catalog()
            .assets()
            .find(&wanted.key)
            .await
            .ok()
            .flatten();
        Ok(pinned
            .and_then(|row| {
                crate::package::Digest::from_hex(Algorithm::Sha256, &row.blob.to_hex()).ok()
            })
            .into_iter()
            .collect())
    }

    /// Forgets what is held in memory of the connection's assets.
    pub(super) fn forget(&self, connection: &str) {
        for (key, _) in &self.rows {
            if *key.connection == *connection {
                self.rows.invalidate(key.as_ref());
            }
        }
    }
}

/// Tells the followers that the download failed. Does nothing where they were already told that the
/// bytes are verified: then only storing them failed.
fn settle(progress: &watch::Sender<DownloadProgress>, problem: Problem) {
    progress.send_if_modified(|progress| {
        let flowing = matches!(progress, DownloadProgress::Flowing);
        if flowing {
            *progress = DownloadProgress::Failed(problem);
        }
        flowing
    });
}

/// How a download failed.
enum Ending {
    Unkept(NotKept),
    Outgrown(Box<Outgrown>),
    Problem(Problem),
}

/// A download for whose rest there is no room.
struct Outgrown {
    why: NotKept,
    body: DownloadBody,
    /// It has seen what the body has given so far.
    digester: Digester,
}

fn ending(error: store::Error, wanted: &WantedAsset) -> Ending {
    match error {
        store::Error::NotKept(why) => Ending::Unkept(why),
        error if error.is_unverified() => Ending::Problem(unverified(wanted, error)),
        error => Ending::Problem(store_problem(error, &wanted.what())),
    }
}

pub(super) fn unverified(
    wanted: &WantedAsset,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Problem {
    Problem::new(
        Kind::Unverified,
        Decider::Connection(wanted.connection.name.clone()),
        format!(
            "{} is not what its registry promised: {error}",
            wanted.key.asset
        ),
    )
    .advice("nothing of it was kept; try again, and if it stays so, the registry is to blame")
    .caused_by(error)
}

/// A file was looked for by a guess, and nothing promises it there.
#[derive(Debug, thiserror::Error)]
#[error("no digest is where one was looked for")]
struct WrongGuess;

fn unpromised(wanted: &WantedAsset) -> Problem {
    Problem::not_found(
        Decider::Connection(wanted.connection.name.clone()),
        format!(
            "{} has no digest where one was looked for",
            wanted.key.asset
        ),
    )
    .caused_by(WrongGuess)
}

fn is_wrong_guess(problem: &Problem) -> bool {
    let cause = problem.cause.as_deref();
    cause.is_some_and(|cause| cause.is::<WrongGuess>())
}

fn disk_full(wanted: &WantedAsset) -> Problem {
    Problem::new(
        Kind::Unavailable {
            retry_after: std::time::Duration::from_secs(1),
        },
        Decider::Larder,
        format!("the disk filled up while {} came in", wanted.key.asset),
    )
    .advice("ask again: it is passed on without being kept then")
}
