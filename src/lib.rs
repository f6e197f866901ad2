//! Larder: a pull-through artifact proxy and repository. ARCHITECTURE.md shows the rooms.

// A request goes through many async functions, one within another; whether all of that may move to
// another thread is more than the compiler follows by itself.
#![recursion_limit = "256"]

pub mod access;
pub mod airgap;
mod allocator;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod codeartifact;
pub mod config;
pub mod connection;
pub mod event;
pub mod fetch;
pub mod repository;
pub mod secret;
pub mod server;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tool;

// The rooms that know no file, socket or clock are a crate of their own.
pub use larder_format as format;
pub use larder_format::{package, problem, rule};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use airgap::Importer;

use config::Config;
use event::{Deliverer, ToldRefusals};
use fetch::Fetcher;
use jiff::Timestamp;
use problem::{Decider, Kind, Problem};
use repository::{
    BodyReceiver, Committer, Forwarder, Manager, Publisher, Reader, Registry, Repositories,
    Snapshot, upkeep,
};
use store::Store;
use store::packages::EventWriter;
use store::rendered::RenderedCache;
use task::Tasks;
use telemetry::{Audit, Metrics, Runs, SinceStart, UpstreamChange};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::warn;

/// Why Larder does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Refused(#[from] Problem),
}

/// Makes ring the TLS of every client and listener of this process; a second call finds the first
/// one's in place.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Lets this process have as many files open as the system allows it: sockets and blobs are files,
/// and the usual soft limit is from a time of fewer.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "Raising the limit of open files failed; the limit stays as it is");
    }
}

/// Writes an event when an upstream goes away, and when it is back.
async fn tell_of_upstreams(
    mut changes: Receiver<UpstreamChange>,
    events: EventWriter,
    domain: String,
) {
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(missed)) => {
                warn!(
                    missed,
                    "Events about upstreams were dropped, because they came too fast"
                );
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let what = format!("connection/{domain}/{}", change.connection);
        let (state, said) = match &change.cause {
            Some(cause) => ("Away", format!("{} is away: {cause}", change.connection)),
            None => ("Back", format!("{} is back", change.connection)),
        };
        let detail = serde_json::json!({
            "connectionName": change.connection,
            "upstreamState": state,
            "message": said,
        });
        let told = events.tell_of("Larder Upstream State Change", &what, detail);
        if let Err(error) = told.await {
            warn!(%error, "Recording an event about an upstream failed; no target is told");
        }
    }
}

/// Holds from eviction what repositories retain.
async fn retain(store: &Store, snapshot: &Snapshot) -> Result<(), store::Error> {
    let repositories = snapshot.config.repositories.iter();
    let retained = repositories.filter(|repository| repository.retain);
    let names: Vec<&str> = retained.flat_map(|it| it.connections()).collect();
    let connections = snapshot.connections.iter();
    let retained = connections.filter(|it| names.contains(&it.name.as_str()));
    let registries = retained.map(|it| it.registry.clone()).collect();
    store
        .retention()
        .retain(registries, &snapshot.formats())
        .await
}

/// How often what was asked for is written down.
const WRITTEN_EVERY: Duration = Duration::from_secs(10);

/// Writes down what was asked for now and then, until Larder stops.
async fn write_down(store: Arc<Store>, metrics: Arc<Metrics>, bounds: config::ReportSettings) {
    loop {
        tokio::time::sleep(WRITTEN_EVERY).await;
        store.write_down(&metrics.ledger, &bounds).await;
    }
}

/// The least time for background work to end, after requests took all of `server.drain`.
const ENDING_MIN: Duration = Duration::from_millis(200);
/// The time for writing the last notes, and for closing the databases then.
const WRITING_MAX: Duration = Duration::from_secs(2);
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// How long the last answers may take to leave.
const TOLD_MAX: Duration = Duration::from_millis(100);

/// The running whole.
pub struct Larder {
    pub registry: Arc<Registry>,
    deliverer: Arc<Deliverer>,
    pub repositories: Repositories,
    pub forwarder: Arc<Forwarder>,
    pub manager: Arc<Manager>,
    committer: Arc<Committer>,
    pub store: Arc<Store>,
    pub access: Arc<Access>,
    pub metrics: Arc<Metrics>,
    pub runs: Runs,
    pub audit: Audit,
    began: Timestamp,
    refusals: ToldRefusals,
    pub tasks: Tasks,
}

#[allow(clippy::disallowed_methods, reason = "Larder itself, and its operator")]
impl Larder {
    /// Opens the store and makes the connections; nothing listens yet.
    ///
    /// # Errors
    /// Where the data directory cannot be had, or a connection cannot be made.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        use_ring();
        raise_file_limit();
        let tasks = Tasks::default();
        let metrics = Arc::new(Metrics::default());
        let store = Store::open(&config.data_dir, &config, &tasks).await?;
        let registry = Registry::open(config, &store, &metrics).await?;
        registry.watch(&tasks);
        let snapshot = registry.snapshot();
        let config = &snapshot.config;
        retain(&store, &snapshot).await?;
        tasks.spawn_until_stop(write_down(
            Arc::clone(&store),
            Arc::clone(&metrics),
            config.report.clone(),
        ));
        let rendered = RenderedCache::open(&config.data_dir, config).await;
        let deliverer = Deliverer::start(store.packages(), &config.events, &tasks);
        tasks.spawn_until_stop(tell_of_upstreams(
            metrics.upstreams.listen(),
            store.packages().events().clone(),
            config.domain.name.clone(),
        ));
        let fetcher = Fetcher::new(&store, config, &tasks, &metrics);
        let reader = Reader::new(&fetcher, rendered, config, &metrics);
        reader.check_empty().await.map_err(store::Error::from)?;
        let audit = Audit::open(config.access.audit.as_deref(), &metrics.audit_missed)
            .map_err(|error| Problem::invalid(format!("`access.audit`: {error}")))?;
        let access = Access::open(store.packages(), config, &tasks).await?;
        let receiver = BodyReceiver::new(&store, &config.upload);
        let committer = Committer::new(&reader);
        let forwarder = Forwarder::new(&reader, &receiver, &committer);
        Ok(Arc::new(Self {
            manager: Manager::new(&reader, &receiver, &committer, &forwarder),
            repositories: Repositories::new(
                Arc::clone(&reader),
                Publisher::new(&reader, &receiver, &committer),
                Arc::clone(&forwarder),
            ),
            forwarder,
            committer,
            access,
            store,
            metrics,
            tasks,
            runs: Runs::default(),
            began: clock::now(),
            audit,
            refusals: ToldRefusals::default(),
            registry,
            deliverer,
        }))
    }

    /// Passes on what waits for its upstream, from now on until Larder stops. A command that is
    /// done in a moment does not begin with it.
    pub fn work_off_spool(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.forwarder
            .start_spool(move || weak.upgrade().map(|larder| larder.snapshot()));
    }

    /// Reads stored files through in the background, from now on until Larder stops.
    pub fn read_files_through(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let reader = Arc::downgrade(self.repositories.reader());
        let current = move || weak.upgrade().map(|larder| larder.snapshot());
        self.tasks
            .spawn_until_stop(repository::scrub::scrub(reader, current));
    }

    /// Does the tasks of the configuration at their times, from now on until Larder stops. What serves
    /// one `larder run` alone does none.
    pub fn keep_schedule(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let current = move || weak.upgrade().map(|larder| larder.snapshot());
        self.tasks.spawn(repository::schedule::keep(
            Arc::downgrade(&self.manager),
            self.tasks.clone(),
            Arc::clone(&self.metrics),
            current,
        ));
    }

    /// The configuration in force; a request keeps the one it began with.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.registry.snapshot()
    }

    /// Which configuration is in force.
    #[must_use]
    pub fn snapshot_number(&self) -> u64 {
        self.registry.number()
    }

    /// Puts a new configuration in force: connections, repositories and rules, and opens the audit's
    /// file anew. The listener, the data directory and the sizes of caches stay as they were at the
    /// start.
    ///
    /// # Errors
    /// Why the old one stays in force.
    pub async fn reload(&self, config: Config) -> Result<(), Problem> {
        let audit = self.audit.reopen(config.access.audit.as_deref());
        audit.map_err(|error| Problem::invalid(format!("`access.audit`: {error}")))?;
        self.registry.reload(config).await?;
        let snapshot = self.snapshot();
        self.deliverer.reload(&snapshot.config.events);
        Ok(retain(&self.store, &snapshot).await?)
    }

    /// Tells who wants to know that a package was refused: by a rule, because its bytes were not
    /// what was promised, or because its name belongs to the other side.
    pub fn tell_refused(&self, repository: &str, package: &str, asset: &str, problem: &Problem) {
        let reason = match (problem.kind, &problem.decider) {
            (Kind::Denied, Decider::Rule(_)) => "rule",
            (Kind::Denied, Decider::Repository(_)) => "origin",
            (Kind::Unverified, _) => "integrity",
            _ => return,
        };
        let snapshot = self.snapshot();
        if package.is_empty() || snapshot.config.events.targets.is_empty() {
            return;
        }
        let decider = problem.decider.to_string();
        let key = format!("{repository}|{package}|{asset}|{decider}");
        if !self.refusals.is_to_be_told(key) {
            return;
        }
        let what = format!("repository/{}/{repository}", snapshot.config.domain.name);
        let detail = serde_json::json!({
            "repositoryName": repository,
            "package": package,
            "asset": asset,
            "reason": reason,
            "decider": decider,
            "message": problem.message,
        });
        let events = self.store.packages().events().clone();
        self.tasks.spawn(async move {
            let told = events.tell_of("Larder Package Refused", &what, detail);
            if let Err(error) = told.await {
                warn!(%error, "Recording the event of a refused package failed; no target is told");
            }
        });
    }

    /// Carries out what the operator says about tokens, keys and policies.
    ///
    /// # Errors
    /// Where what the command names is not there or cannot be.
    pub async fn administer(
        &self,
        command: access::manage::AccessCommand,
    ) -> Result<access::manage::AccessOutcome, Problem> {
        let names = self.snapshot().repository_names();
        self.access.execute(command, &names).await
    }

    /// Sees to the store, or says how it is used.
    ///
    /// # Errors
    /// Where what the command names cannot be read, or the store fails.
    pub async fn upkeep(
        &self,
        command: upkeep::UpkeepCommand,
    ) -> Result<upkeep::UpkeepOutcome, Problem> {
        let snapshot = self.snapshot();
        let bounds = &snapshot.config.report;
        self.store.write_down(&self.metrics.ledger, bounds).await;
        let upkeep = upkeep::Upkeep::new(self.repositories.reader(), &snapshot);
        upkeep.execute(command).await
    }

    /// The work of this Larder since it began.
    #[must_use]
    pub fn since_start(&self) -> SinceStart {
        let counts = self.metrics.ledger.since_start();
        SinceStart {
            since: self.began,
            work: self.metrics.failures.report(counts),
        }
    }

    /// The counts of a run, and the upstreams that its lockfiles should name.
    ///
    /// # Errors
    /// Where there is no such repository.
    pub fn report(&self, run: &str, repository: &str) -> Result<telemetry::ClosingReport, Problem> {
        let snapshot = self.snapshot();
        let mut upstreams = BTreeMap::new();
        let repository = snapshot.repository(repository)?;
        for connection in repository.connections() {
            upstreams
                .entry(connection.format.to_string())
                .or_insert_with(|| connection.url.to_string());
        }
        Ok(telemetry::ClosingReport {
            work: self.runs.run(run).report(),
            upstreams,
            formats: snapshot
                .formats_of(repository)
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
    }

    /// One who takes a bundle in; these keys are trusted beside the configuration's.
    #[must_use]
    pub fn importer(&self, trusted: Vec<String>) -> Importer {
        Importer {
            store: Arc::clone(&self.store),
            reader: Arc::clone(self.repositories.reader()),
            committer: Arc::clone(&self.committer),
            snapshot: self.snapshot(),
            trusted,
        }
    }

    /// Ends background work and writes down what is in memory alone, as if it stopped serving now.
    pub async fn stop(&self) {
        let drain = self.snapshot().config.server.drain;
        self.stop_by(Instant::now() + drain.max(ENDING_MIN)).await;
    }

    /// Ends background work by then, and writes down what is in memory alone. Nothing that hangs keeps
    /// it: what is not written down is looked for at the next start.
    pub async fn stop_by(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        if !self.tasks.stop(left.max(ENDING_MIN)).await {
            warn!("Downloads that were still under way were aborted; they begin anew next time");
        }
        let written = async {
            let bounds = &self.snapshot().config.report;
            self.store.write_down(&self.metrics.ledger, bounds).await;
            self.repositories.reader().close().await;
        };
        if tokio::time::timeout(WRITING_MAX, written).await.is_err() {
            warn!(
                "Writing down rendered documents and what was counted took too long; what is missing of it is rendered again, or not in reports"
            );
        }
        self.store.close(CLOSING_MAX).await;
        if self.metrics.open_sockets.get() > 0 {
            // Changes are made or refused by now; whoever asked for one is told.
            tokio::time::sleep(TOLD_MAX).await;
        }
    }
}
