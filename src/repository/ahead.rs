//! Ahead of the client: a resolver reads a document and then asks for those of its dependencies,
//! one latency after another. Larder reads the same document and fetches them before they are
//! asked for: what resolvers read and nothing else, within bounds, with places of its own beside
//! those that clients wait for, never past a rule, and not while upstream has trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;
use tracing::debug;

use super::decision::Verdicts;
use super::evidence::unreadable;
use super::lookup::Lookup;
use super::render::upstream;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::config;
use crate::connection::Connection;
use crate::fetch::{DocumentRoom, Freshen, Outcome};
use crate::format::{
    DocumentId, FormatError, Prefetch, PrefetchHint, PrefetchInput, Subject, Target, Upstream,
};
use crate::package::AssetId;
use crate::problem::Problem;
use crate::store::Phase;
use crate::store::catalog::AssetKey;
use crate::telemetry::{AheadLabels, Metrics};

/// A target that was looked at is not looked at again for this long.
const SEEN_FOR: Duration = Duration::from_secs(60);
/// How many targets are remembered as looked at or not asked for yet, per place in the queue.
const SEEN_PER_WAITING: usize = 4;
/// A prefetched target that nobody asks for within this time counts as wasted.
const WANTED_FOR: Duration = Duration::from_secs(300);
/// An upstream that takes longer than this for an answer is left alone for a while.
const SLOW_AFTER: Duration = Duration::from_secs(3);
const RESTS_FOR: Duration = Duration::from_secs(10);

/// One thing to look at.
struct Step {
    snapshot: Arc<Snapshot>,
    repository: Box<str>,
    connection: Arc<Connection>,
    target: Target,
    range: Option<String>,
    /// How many documents stand between it and what a client asked for.
    depth: usize,
}

type StepKey = (Box<str>, String);

/// Fetches what a resolver will probably ask for next, before it asks.
pub struct Prefetcher {
    config: config::PrefetchSettings,
    waiting: mpsc::Sender<Step>,
    places: Arc<Semaphore>,
    /// Documents that are read at once.
    reading: Semaphore,
    seen: Cache<StepKey, ()>,
    /// Sizes of what was fetched and not asked for yet.
    unused: Cache<StepKey, u64>,
    unused_bytes: Arc<AtomicU64>,
    resting: Cache<Box<str>, ()>,
    metrics: Arc<Metrics>,
}

/// Steps on their way to the one who takes them.
pub struct Waiting(mpsc::Receiver<Step>);

impl Prefetcher {
    pub(super) fn new(
        config: &config::PrefetchSettings,
        metrics: &Arc<Metrics>,
    ) -> (Self, Waiting) {
        let (waiting, steps) = mpsc::channel(config.waiting_max);
        let seen_max = config.waiting_max.saturating_mul(SEEN_PER_WAITING) as u64;
        let unused_bytes = Arc::<AtomicU64>::default();
        let bytes = Arc::clone(&unused_bytes);
        // Counted where the cache holds its locks: the counters are looked up before, so that
        // nothing there waits for another lock.
        let counter = |outcome| {
            let counter = metrics.ahead.get_or_create(&AheadLabels { outcome });
            counter.clone()
        };
        let (used, wasted) = (counter("used"), counter("wasted"));
        let unused = Cache::builder()
            .max_capacity(seen_max)
            .time_to_live(WANTED_FOR)
            .eviction_listener(move |_, size: u64, cause| {
                bytes.fetch_sub(size, Ordering::Relaxed);
                match cause {
                    RemovalCause::Explicit => used.inc(),
                    RemovalCause::Expired | RemovalCause::Size => wasted.inc(),
                    RemovalCause::Replaced => return,
                };
            })
            .build();
        let ahead = Self {
            places: Arc::new(Semaphore::new(config.at_once)),
            reading: Semaphore::new(2),
            seen: Cache::builder()
                .max_capacity(seen_max)
                .time_to_live(SEEN_FOR)
                .build(),
            resting: Cache::builder()
                .max_capacity(1024)
                .time_to_live(RESTS_FOR)
                .build(),
            config: config.clone(),
            metrics: Arc::clone(metrics),
            waiting,
            unused,
            unused_bytes,
        };
        (ahead, Waiting(steps))
    }

    /// Takes a step, unless it was taken of late or too many wait.
    fn step(&self, step: Step) {
        if !self.config.enabled
            || step.connection.offline
            || step.depth > self.config.depth_max
            || !gives_hints(&step.connection, &step.target)
        {
            return;
        }
        let target = format!("{:?}", step.target);
        let mut keys = vec![name(&step.connection, &target)];
        if let Some(range) = &step.range {
            keys.push(name(&step.connection, &format!("{target} {range}")));
        }
        // A client that asks for what was looked at says nothing new of what it wants.
        if keys.last().is_some_and(|key| self.seen.contains_key(key)) {
            return;
        }
        for key in keys {
            self.seen.insert(key, ());
        }
        if self.waiting.try_send(step).is_err() {
            debug!("The prefetch queue is full; a hint is dropped");
        }
    }

    /// A client asked for it.
    fn used(&self, connection: &Connection, key: &str) {
        if self.unused_bytes.load(Ordering::Relaxed) > 0 {
            self.unused.invalidate(&name(connection, key));
        }
    }

    fn fetched(&self, connection: &Connection, key: &str, size: u64) {
        let outcome = "fetched";
        self.metrics
            .ahead
            .get_or_create(&AheadLabels { outcome })
            .inc();
        self.unused_bytes.fetch_add(size, Ordering::Relaxed);
        self.unused.insert(name(connection, key), size);
    }

    fn may_go(&self, connection: &Connection) -> bool {
        self.unused_bytes.load(Ordering::Relaxed) < self.config.bytes_max
            && !connection.has_trouble()
            && !self.resting.contains_key(connection.registry.as_str())
    }
}

/// Whether a resolver that asks the connection for the target asks for more by what stands in it.
fn gives_hints(connection: &Connection, target: &Target) -> bool {
    let prefetch = connection.format.protocol().prefetch();
    prefetch.is_some_and(|prefetch| prefetch.gives_hints(target))
}

fn name(connection: &Connection, key: &str) -> StepKey {
    (connection.registry.as_str().into(), key.to_owned())
}

impl Waiting {
    /// Takes the steps, so many at once, until Larder stops.
    pub(super) fn start(mut self, reader: &Arc<Reader>) {
        let reader = Arc::clone(reader);
        let tasks = reader.fetcher.tasks().clone();
        let own = tasks.clone();
        tasks.spawn_until_stop(async move {
            while let Some(step) = self.0.recv().await {
                let Ok(place) = Arc::clone(&reader.ahead.places).acquire_owned().await else {
                    return;
                };
                let reader = Arc::clone(&reader);
                own.spawn_until_stop(async move {
                    let walker = Walker {
                        reader: &reader,
                        step: &step,
                    };
                    if let Err(problem) = walker.go().await {
                        debug!(target = ?step.target, %problem, "A prefetch failed");
                    }
                    drop(place);
                });
            }
        });
    }
}

impl Reader {
    /// A client asked for the document.
    pub(super) fn asked_for_document(
        &self,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        connection: &Arc<Connection>,
        id: &DocumentId,
        key: &str,
    ) {
        self.ahead.used(connection, key);
        self.ahead.step(Step {
            snapshot: Arc::clone(snapshot),
            repository: repository.name.as_str().into(),
            connection: Arc::clone(connection),
            target: Target::Document(id.clone()),
            range: None,
            depth: 0,
        });
    }

    /// A client asked for the asset.
    pub(super) fn asked_for_asset(
        &self,
        lookup: &Lookup<'_>,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) {
        let target = Target::Asset(asset.clone());
        if !gives_hints(connection, &target) {
            return;
        }
        self.ahead.used(connection, &asset.to_string());
        self.ahead.step(Step {
            snapshot: Arc::clone(lookup.snapshot),
            repository: lookup.repository.name.as_str().into(),
            connection: Arc::clone(connection),
            target,
            range: None,
            depth: 0,
        });
    }
}

/// A document's place among those that are read ahead of clients, and its room.
struct Reading<'a> {
    place: SemaphorePermit<'a>,
    room: DocumentRoom,
}

/// A step that is taken.
struct Walker<'a> {
    reader: &'a Arc<Reader>,
    step: &'a Step,
}

impl Walker<'_> {
    async fn go(&self) -> Result<(), Problem> {
        let (reader, step) = (self.reader, self.step);
        // A document that cannot be kept would be fetched once more for the client.
        if !reader.ahead.may_go(&step.connection) || reader.fetcher.store().shortage().is_some() {
            return Ok(());
        }
        let package = match &step.target {
            Target::Document(id) => id.package.as_ref(),
            Target::Asset(asset) => Some(&asset.package),
            _ => None,
        };
        // A name of our own is told to nobody.
        let repository = step.snapshot.repository(&step.repository)?;
        if let Some(package) = package {
            let lookup = Lookup::new(&step.snapshot, repository, package);
            if !reader.may_ask(&lookup, &step.connection).await? {
                return Ok(());
            }
        }
        let started = Instant::now();
        let hints = match &step.target {
            Target::Document(id) => self.leads_of_document(id, started).await?,
            Target::Asset(asset) => self.leads_of_asset(asset, started).await?,
            _ => Vec::new(),
        };
        for PrefetchHint { target, range } in hints {
            reader.ahead.step(Step {
                snapshot: Arc::clone(&step.snapshot),
                repository: step.repository.clone(),
                connection: Arc::clone(&step.connection),
                target,
                range,
                depth: step.depth + 1,
            });
        }
        Ok(())
    }

    async fn leads_of_document(
        &self,
        id: &DocumentId,
        started: Instant,
    ) -> Result<Vec<PrefetchHint>, Problem> {
        let (reader, step) = (self.reader, self.step);
        let (connection, rules) = (&step.connection, &step.snapshot.config.rules);
        let now = clock::now();
        let Some(package) = &id.package else {
            return Ok(Vec::new());
        };
        let concern = rules.concern(package, now);
        let resource = connection.format.protocol().resource(id, concern.dates);
        let what = package.full_name();
        let document = reader
            .evidence
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await?;
        if step.depth > 0 && document.outcome == Outcome::Miss {
            self.arrived(connection, &resource.key, document.row.size, started);
        }
        let view = reader
            .evidence
            .view(&step.snapshot, connection, id, &document, concern)
            .await?;
        let (owner, of, range) = (
            Arc::clone(connection),
            step.target.clone(),
            step.range.clone(),
        );
        let package = package.clone();
        let place = self.place().await?;
        let room = reader.fetcher.memory().room(document.row.size).await?;
        let bytes = document.bytes(&reader.fetcher).await?;
        let reading = Reading { place, room };
        self.read_in(reading, connection, &what, move |prefetch| {
            let verdicts = Verdicts::new(&view, Some(&package), now);
            let shows = |subject: Subject<'_>| verdicts.shows(subject);
            prefetch.prefetch_hints(&PrefetchInput {
                of: &of,
                upstream: upstream(&owner, &document, &bytes, None),
                range: range.as_deref(),
                shows: concern.versions.then_some(&shows),
            })
        })
        .await
    }

    async fn leads_of_asset(
        &self,
        asset: &AssetId,
        started: Instant,
    ) -> Result<Vec<PrefetchHint>, Problem> {
        let (reader, step) = (self.reader, self.step);
        let connection = &step.connection;
        let key = AssetKey {
            connection: connection.registry.as_str().into(),
            asset: asset.clone(),
        };
        let blob = match reader.fetcher.assets().find_when_done(&key).await? {
            Some((_, Some(blob))) => blob,
            _ => {
                let repository = step.snapshot.repository(&step.repository)?;
                let lookup = Lookup::new(&step.snapshot, repository, &asset.package);
                let evidence = &reader.evidence;
                let facts = evidence.permitted_facts(&lookup, connection, asset).await?;
                if facts.mutable {
                    return Ok(Vec::new());
                }
                let wanted = evidence.wanted(connection, key.clone(), facts).await?;
                if let (Phase::Failed(problem), _) = reader.fetcher.assets().fetch(&wanted).await {
                    return Err(problem);
                }
                let Some((row, Some(blob))) = reader.fetcher.assets().find_when_done(&key).await?
                else {
                    return Ok(Vec::new());
                };
                if step.depth > 0 {
                    self.arrived(connection, &asset.to_string(), row.size, started);
                }
                blob
            }
        };
        let (owner, of) = (Arc::clone(connection), step.target.clone());
        let place = self.place().await?;
        let room = reader.fetcher.memory().room(blob.size()).await?;
        let bytes = blob.read_all(reader.fetcher.tasks()).await?;
        let reading = Reading { place, room };
        self.read_in(reading, connection, &asset.to_string(), move |prefetch| {
            prefetch.prefetch_hints(&PrefetchInput {
                of: &of,
                upstream: Upstream {
                    bytes: &bytes,
                    media_type: "",
                    url: &owner.url,
                    base: &owner.url,
                    directory: None,
                },
                range: None,
                shows: None,
            })
        })
        .await
    }

    /// Not all the room that clients' documents need is taken.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let place = self.reader.ahead.reading.acquire().await;
        place.map_err(|error| Problem::internal("reading stopped", error))
    }

    /// Reads where reading may take its time.
    async fn read_in(
        &self,
        reading: Reading<'_>,
        connection: &Connection,
        what: &str,
        read: impl FnOnce(&dyn Prefetch) -> Result<Vec<PrefetchHint>, FormatError> + Send + 'static,
    ) -> Result<Vec<PrefetchHint>, Problem> {
        let Some(prefetch) = connection.format.protocol().prefetch() else {
            return Ok(Vec::new());
        };
        let Reading { place, room } = reading;
        let read = room.run(move || read(prefetch)).await?;
        drop(place);
        read.map_err(|error| unreadable(connection, what, error))
    }

    /// Notes what was fetched, and leaves a slow upstream alone.
    fn arrived(&self, connection: &Connection, key: &str, size: u64, started: Instant) {
        self.reader.ahead.fetched(connection, key, size);
        if started.elapsed() > SLOW_AFTER {
            self.reader
                .ahead
                .resting
                .insert(connection.registry.as_str().into(), ());
        }
    }
}
