//! Fetches mutable resources (documents). An answer is fresh from the cache, confirmed by upstream
//! (304), fetched anew, or stale while upstream fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use moka::sync::Cache;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use super::absence::Absences;
use super::intake::Taking;
use super::memory::DocumentMemory;
use super::outcome::Outcome;
use super::promise::PromiseReader;
use super::{Fetcher, ResourceKey};
use crate::clock;
use crate::config;
use crate::connection::{Connection, Error, Opened, UpstreamRequest};
use crate::package::{Promise, UpstreamUrl};
use crate::problem::Problem;
use crate::store::catalog::DocumentRow;
use crate::store::{self, Blob, Store};
use crate::task::{Flights, Tasks};
use crate::telemetry::Metrics;

/// A document of this age is fetched again in full, without `If-None-Match`: a registry that wrongly
/// answers 304 for ever would otherwise hide all new versions.
const REFETCH_AFTER_SECONDS: i64 = 24 * 3600;
/// How long a question that cannot be answered from here waits before it is asked again, or for a
/// registry that throttles.
pub const QUESTION_PATIENCE: Duration = Duration::from_secs(2);
/// With [`Freshen::Now`] upstream is not asked again within this many seconds of the last check.
const NOW_SECONDS: i64 = 2;
/// Documents of which an event was told lately, and for how long it is not told again.
pub(super) const TOLD_MAX: u64 = 4096;
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How fresh a document has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshen {
    AsCached,
    /// Upstream is asked at once, because somebody wants something that the stored document does not
    /// name.
    Now,
}

/// Where a document's bytes are.
#[derive(Clone, Debug)]
pub enum DocumentContent {
    Stored(Blob),
    /// In memory, because the store had no room.
    Passing(Bytes),
}

/// A flag that everything made from a document shares. It ends when a newer document takes the
/// place of this one, or this one is forgotten.
#[derive(Clone, Debug, Default)]
pub struct StillCurrent(Arc<AtomicBool>);

impl StillCurrent {
    /// Marks the document, and everything made from it, as out of date.
    pub fn end(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A document of a connection.
#[derive(Clone, Debug)]
pub struct Document {
    pub row: DocumentRow,
    pub content: DocumentContent,
    pub outcome: Outcome,
    pub url: Url,
    pub still_current: StillCurrent,
}

/// A document that was used lately: its row without its bytes, so that no file is kept open.
#[derive(Clone, Debug)]
pub struct KnownDocument {
    row: DocumentRow,
    url: Url,
    /// [`Outcome::Stale`] shortly after upstream failed; it is not asked again in this time.
    outcome: Outcome,
    still_current: StillCurrent,
}

impl Document {
    /// Reads the whole document into memory.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn bytes(&self, fetcher: &Fetcher) -> Result<Bytes, Problem> {
        match &self.content {
            DocumentContent::Passing(bytes) => Ok(bytes.clone()),
            DocumentContent::Stored(blob) => {
                let read = blob.read_all(&fetcher.tasks).await;
                if let Err(store::Error::Damaged(id)) = &read {
                    fetcher.store.files().set_aside(*id).await;
                }
                Ok(read?)
            }
        }
    }

    fn is_fresh(&self, now: i64) -> bool {
        now < self.row.fresh_until && clock::has_come(self.row.checked_at, now)
    }

    /// Whether upstream allows the old document to be served while a new one is fetched (RFC 5861
    /// §3, `stale-while-revalidate`).
    fn may_be_served(&self, now: i64) -> bool {
        self.outcome != Outcome::Stale
            && now < self.row.fresh_until.saturating_add(self.row.stale_for)
            && clock::has_come(self.row.checked_at, now)
    }
}

/// A request for a mutable resource.
#[derive(Clone, Debug)]
pub struct Sought<'a> {
    /// The resource's key, unique within its connection.
    pub key: &'a str,
    pub url: &'a UpstreamUrl,
    pub accept: &'static str,
    pub freshen: Freshen,
    /// The resources that hold the digests of the content; empty for documents.
    pub promises: Vec<Promise>,
    /// The resource's name in error messages.
    pub what: &'a str,
}

/// One resource to bring up to date.
pub(super) struct Job {
    pub connection: Arc<Connection>,
    pub key: ResourceKey,
    url: UpstreamUrl,
    accept: &'static str,
    pub promises: Vec<Promise>,
    pub what: String,
    pub started: Instant,
    pub kept: Kept,
}

/// The part of a resource that may be given while upstream is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Document,
    /// Upstream said that it does not have it, later than it gave what may be stored.
    Absence,
    Nothing,
}

/// Fetches documents, each once however many want it.
pub struct DocumentFetcher {
    pub(super) store: Arc<Store>,
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) config: config::Fetch,
    /// The domain's name, as events have it.
    pub(super) domain: String,
    /// For how long a document is fresh where upstream sends no `Cache-Control`.
    pub(super) fresh_for: Duration,
    pub(super) promises: PromiseReader,
    known: Cache<ResourceKey, Arc<KnownDocument>>,
    pub(super) absences: Absences,
    pub(super) memory: Arc<DocumentMemory>,
    flights: Flights<ResourceKey, Result<Arc<Document>, Problem>>,
    /// Events that were told lately.
    pub(super) told: Cache<(&'static str, ResourceKey), ()>,
}

impl DocumentFetcher {
    /// At most `rows_max` documents' rows are kept in memory.
    pub(super) fn new(
        store: &Arc<Store>,
        config: &config::Config,
        metrics: &Arc<Metrics>,
        promises: &PromiseReader,
        absences: &Absences,
        memory: &Arc<DocumentMemory>,
        rows_max: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            tasks: store.tasks().clone(),
            metrics: Arc::clone(metrics),
            config: config.fetch.clone(),
            domain: config.domain.name.clone(),
            fresh_for: config.cache.fresh_for,
            promises: promises.clone(),
            known: Cache::builder()
                .max_capacity(rows_max)
                .eviction_listener(|_, known: Arc<KnownDocument>, _| known.still_current.end())
                .build(),
            absences: absences.clone(),
            memory: Arc::clone(memory),
            flights: Flights::new(store.tasks().clone()),
            told: Cache::builder()
                .max_capacity(TOLD_MAX)
                .time_to_live(TOLD_AGAIN_AFTER)
                .build(),
        })
    }

    /// Returns the document, as fresh as `sought` asks for.
    ///
    /// # Errors
    /// Where upstream does not have it, its bytes are not what was promised, or upstream fails
    /// and nothing is kept.
    pub async fn freshen(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        sought: Sought<'_>,
    ) -> Result<Arc<Document>, Problem> {
        let key = ResourceKey {
            connection: connection.registry.as_str().into(),
            key: sought.key.into(),
        };
        let what = sought.what;
        if sought.freshen == Freshen::AsCached
            && let Some(problem) = self.absences.fresh(&key)
        {
            return Err(problem);
        }
        let known = self.find(&key).await?;
        let now = clock::unix_now();
        if let Some(known) = &known {
            let fresh = match sought.freshen {
                Freshen::AsCached => known.is_fresh(now) || connection.offline,
                Freshen::Now => {
                    let age = now.saturating_sub(known.row.checked_at);
                    (0..NOW_SECONDS).contains(&age) || connection.offline
                }
            };
            if fresh {
                return Ok(Arc::clone(known));
            }
        }
        let meanwhile = known
            .as_ref()
            .filter(|known| sought.freshen == Freshen::AsCached && known.may_be_served(now))
            .cloned();
        let kept = self.kept(&key, known.as_deref()).await;
        let job = Job {
            connection: Arc::clone(connection),
            key: key.clone(),
            url: sought.url.clone(),
            accept: sought.accept,
            promises: sought.promises,
            what: what.to_owned(),
            started: Instant::now(),
            kept,
        };
        let is_question = connection.format.protocol().is_question(sought.key);
        let silent = || Error::TimedOut.problem(&connection.name, what);
        // This is given where upstream does not answer in time.
        let given = match (kept, &known) {
            (Kept::Document, Some(known)) => Some(Ok(stale(known))),
            (Kept::Absence, _) => Some(Err(silent().absent_before())),
            _ => None,
        };
        let fetcher = Arc::clone(self);
        // A question that cannot be answered from here is not waited for either.
        let known_silence = given.clone().or_else(|| is_question.then(|| Err(silent())));
        if let (Some(given), true) = (known_silence, connection.is_silent()) {
            if let Some(probe) = connection.probe() {
                // Nobody waits for it.
                drop(self.flights.join(&key, || async move {
                    let _probe = probe;
                    fetcher.update(job, known).await
                }));
            }
            return given;
        }
        let mut leads = false;
        let flight = self.flights.join(&key, || {
            leads = true;
            async move { fetcher.update(job, known).await }
        });
        if let Some(known) = meanwhile {
            return Ok(Arc::new(Document {
                outcome: Outcome::Revalidating,
                ..known.as_ref().clone()
            }));
        }
        let landed = match given {
            None if !is_question => flight.await,
            None => {
                let timeout = self.config.question_timeout;
                let landed = tokio::time::timeout(timeout, flight).await;
                landed.map_err(|_| {
                    connection.note_silence();
                    silent()
                })?
            }
            // The fetch goes on, and is what finds out whether upstream is back.
            Some(given) => match tokio::time::timeout(self.config.stale_after, flight).await {
                Ok(landed) => landed,
                Err(_) => {
                    connection.note_silence();
                    return given;
                }
            },
        };
        let document = landed.unwrap_or_else(|| {
            Err(Problem::internal(
                format!("fetching {what} failed"),
                "the task panicked",
            ))
        })?;
        if leads || document.outcome != Outcome::Miss {
            return Ok(document);
        }
        Ok(Arc::new(Document {
            outcome: Outcome::Collapsed,
            ..document.as_ref().clone()
        }))
    }

    /// Returns the stored document, whatever its age; upstream is not asked.
    ///
    /// # Errors
    /// Where the catalog or the disk fails.
    pub async fn stored(
        &self,
        connection: &Connection,
        key: &str,
    ) -> Result<Option<Arc<Document>>, Problem> {
        let key = ResourceKey {
            connection: connection.registry.as_str().into(),
            key: key.into(),
        };
        self.find(&key).await
    }

    async fn find(&self, key: &ResourceKey) -> Result<Option<Arc<Document>>, Problem> {
        let known = match self.known.get(key) {
            Some(known) => known,
            None => match self.recall(key).await? {
                Some(known) => known,
                None => return Ok(None),
            },
        };
        let blob = self.store.blob_of(known.row.blob, known.row.size).await?;
        // A document whose blob was evicted counts as a miss.
        Ok(blob.map(|blob| {
            Arc::new(Document {
                row: known.row.clone(),
                content: DocumentContent::Stored(blob),
                outcome: known.outcome,
                url: known.url.clone(),
                still_current: known.still_current.clone(),
            })
        }))
    }

    /// Reads the document's row from the catalog.
    async fn recall(&self, key: &ResourceKey) -> Result<Option<Arc<KnownDocument>>, Problem> {
        let row = self
            .store
            .catalog()
            .documents()
            .find(&key.connection, &key.key)
            .await?;
        let Some(known) = row.and_then(|row| {
            let url = Url::parse(&row.url).ok()?;
            Some(Arc::new(KnownDocument {
                row,
                url,
                outcome: Outcome::Hit,
                still_current: StillCurrent::default(),
            }))
        }) else {
            return Ok(None);
        };
        self.known.insert(key.clone(), Arc::clone(&known));
        Ok(Some(known))
    }

    async fn update(
        self: Arc<Self>,
        job: Job,
        known: Option<Arc<Document>>,
    ) -> Result<Arc<Document>, Problem> {
        // Another fetch may have ended between the look-up above and the start of this one.
        if known.is_none()
            && self.known.contains_key(&job.key)
            && let Some(landed) = self.find(&job.key).await?
            && landed.is_fresh(clock::unix_now())
        {
            return Ok(landed);
        }
        let answer = self.ask(&job, known.as_deref()).await;
        let error = match answer {
            Ok(opened) if opened.status == StatusCode::NOT_MODIFIED => match known {
                Some(known) => return self.revalidated(&job, &known, &opened).await,
                None => Error::Broken { status: 304 },
            },
            Ok(opened) => {
                let mut taken = self.take(&job, opened, known.as_deref(), None).await;
                if let Err(Taking::Unkept(why)) = taken {
                    // Once more, through memory, whether or not the disk has room by now.
                    taken = match self.ask(&job, None).await {
                        Ok(opened) => self.take(&job, opened, known.as_deref(), Some(why)).await,
                        Err(error) => Err(Taking::Failed(error)),
                    };
                }
                let problem = match taken {
                    Ok(document) => return Ok(document),
                    Err(Taking::Failed(error)) => return self.failed(&job, known, error),
                    Err(Taking::Refused(problem)) => problem,
                    Err(Taking::Unkept(_)) => Problem::internal(
                        format!("{} could not be passed on", job.what),
                        "the disk takes nothing",
                    ),
                };
                let known = known.filter(|_| job.kept == Kept::Document);
                return known.map_or(Err(problem), |known| Ok(stale(&known)));
            }
            Err(error) => error,
        };
        self.failed(&job, known, error)
    }

    /// Gives the document that is kept, or the problem, where upstream or its answer failed.
    fn failed(
        &self,
        job: &Job,
        known: Option<Arc<Document>>,
        error: Error,
    ) -> Result<Arc<Document>, Problem> {
        let name = &job.connection.name;
        if matches!(error, Error::TimedOut) && job.kept != Kept::Nothing {
            job.connection.note_silence();
        }
        if let (true, Kept::Document, Some(known)) = (error.is_outage(), job.kept, &known) {
            warn!(connection = %name, document = %job.key.key, %error, "Connection `{name}` failed; a stale document is served");
            // Requests within the next second get the stale document at once, instead of waiting for
            // the same failure.
            let mut rested = stale(known).as_ref().clone();
            let now = clock::unix_now();
            rested.row.fresh_until = now + 1;
            rested.row.checked_at = rested.row.checked_at.min(now);
            let rested = Arc::new(rested);
            self.note(&job.key, &rested);
            return Ok(rested);
        }
        let problem = error.problem(name, &job.what);
        if matches!(error, Error::Absent) {
            self.absences.note(&job.key, &problem);
        }
        if error.is_outage() && job.kept == Kept::Absence {
            return Err(problem.absent_before());
        }
        Err(problem)
    }

    /// Decides what may be given of the resource while upstream is away.
    async fn kept(&self, key: &ResourceKey, known: Option<&Document>) -> Kept {
        let absent_at = self.absences.checked_at(key).await;
        match (known, absent_at) {
            (Some(known), Some(absent_at)) if absent_at > known.row.checked_at => Kept::Absence,
            (Some(_), _) => Kept::Document,
            (None, Some(_)) => Kept::Absence,
            (None, None) => Kept::Nothing,
        }
    }

    async fn ask(&self, job: &Job, known: Option<&Document>) -> Result<Opened, Error> {
        let mut ask = UpstreamRequest::get(job.url.clone(), job.accept, self.config.patience);
        if let Some(known) = known
            && clock::has_come(known.row.fetched_at, clock::unix_now())
            && clock::unix_now().saturating_sub(known.row.fetched_at) < REFETCH_AFTER_SECONDS
        {
            ask.headers = validators(&known.row);
        }
        if job.kept != Kept::Nothing {
            ask.patience = self.config.stale_after;
        } else if job.connection.format.protocol().is_question(&job.key.key) {
            ask.patience = QUESTION_PATIENCE;
        }
        job.connection.ask(&ask).await
    }

    async fn revalidated(
        &self,
        job: &Job,
        known: &Document,
        opened: &Opened,
    ) -> Result<Arc<Document>, Problem> {
        let validity = self.validity(&job.connection, opened, Some(&known.row));
        let now = clock::unix_now();
        let row = DocumentRow {
            checked_at: now,
            fresh_until: now.saturating_add(seconds(validity.fresh_for)),
            stale_for: seconds(validity.stale_for),
            policy: validity.policy,
            ..known.row.clone()
        };
        let document = Arc::new(Document {
            outcome: Outcome::Hit,
            row,
            ..known.clone()
        });
        self.remember(&job.connection, &job.key, &document).await;
        Ok(Arc::new(Document {
            outcome: Outcome::Revalidated,
            ..document.as_ref().clone()
        }))
    }

    pub(super) async fn remember(
        &self,
        connection: &Connection,
        key: &ResourceKey,
        document: &Arc<Document>,
    ) {
        let package = connection.format.protocol().package_of(&key.key);
        if let Err(error) = self
            .store
            .records()
            .add_document(&key.connection, &key.key, package.as_ref(), &document.row)
            .await
        {
            warn!(%error, "Writing a document's row failed; it may be fetched again");
        }
        self.note(key, document);
    }

    /// Remembers the document in memory, without its bytes.
    fn note(&self, key: &ResourceKey, document: &Document) {
        let known = KnownDocument {
            row: document.row.clone(),
            url: document.url.clone(),
            outcome: document.outcome,
            still_current: StillCurrent::default(),
        };
        self.known.insert(key.clone(), Arc::new(known));
    }

    /// Forgets the connection's documents for whose keys `concerns` returns true. Replies made from
    /// them are no longer given again, and their rows are read from the catalog anew.
    pub(super) fn forget(&self, connection: &str, concerns: impl Fn(&str) -> bool) {
        for (key, _) in &self.known {
            if *key.connection == *connection && concerns(&key.key) {
                self.known.invalidate(key.as_ref());
            }
        }
    }
}

fn stale(known: &Document) -> Arc<Document> {
    Arc::new(Document {
        outcome: Outcome::Stale,
        ..known.clone()
    })
}

fn validators(row: &DocumentRow) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (IF_NONE_MATCH, &row.etag),
        (IF_MODIFIED_SINCE, &row.last_modified),
    ] {
        if let Some(value) = value
            .as_deref()
            .and_then(|value| HeaderValue::from_str(value).ok())
        {
            headers.insert(name, value);
        }
    }
    headers
}

/// The media type without its parameters, lower case.
pub fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}
