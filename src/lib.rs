//! Larder: a pull-through artifact proxy and repository. ARCHITECTURE.md shows the rooms.

pub mod access;
pub mod cli;
pub mod clock;
pub mod codeartifact;
pub mod config;
pub mod connection;
pub mod fetch;
pub mod format;
pub mod package;
pub mod problem;
pub mod repository;
pub mod rule;
pub mod secret;
pub mod server;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tool;

use std::sync::Arc;
use std::time::Duration;

use access::Access;

use config::Config;
use fetch::Fetcher;
use repository::{Publisher, Reader, Registry, Snapshot};
use store::Store;
use store::rendered::RenderedCache;
use task::Tasks;
use telemetry::{Metrics, Runs};

/// Why Larder does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Refused(#[from] problem::Problem),
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
        tracing::warn!(%error, "The limit of open files stays as it is");
    }
}

/// The running whole.
pub struct Larder {
    pub registry: Arc<Registry>,
    pub reader: Arc<Reader>,
    pub publisher: Arc<Publisher>,
    pub store: Arc<Store>,
    pub access: Arc<Access>,
    pub metrics: Arc<Metrics>,
    pub runs: Runs,
    pub tasks: Tasks,
}

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
        let registry = Registry::open(config, store.packages(), &metrics).await?;
        registry.watch(&tasks);
        let snapshot = registry.snapshot();
        let config = &snapshot.config;
        let rendered = RenderedCache::open(&config.data_dir, &config.cache).await;
        let fetcher = Fetcher::new(&store, config, &tasks, &metrics);
        let reader = Reader::new(&fetcher, rendered, config, &metrics);
        reader.look().await.map_err(store::Error::from)?;
        let access = Access::open(store.packages(), config, &tasks).await?;
        let publisher = Publisher::new(&reader, &config.upload);
        Ok(Arc::new(Self {
            reader,
            publisher,
            access,
            store,
            metrics,
            tasks,
            runs: Runs::default(),
            registry,
        }))
    }

    /// Passes on what waits for its upstream, from now on until Larder stops. A command that is
    /// done in a moment does not begin with it.
    pub fn work_off_spool(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        self.publisher
            .start_spool(move || weak.upgrade().map(|larder| larder.snapshot()));
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

    /// Puts a new configuration in force: connections, repositories and rules. The listener, the
    /// data directory and the sizes of caches stay as they were at the start.
    ///
    /// # Errors
    /// Why the old one stays in force.
    pub async fn reload(&self, config: Config) -> Result<(), problem::Problem> {
        self.registry.reload(config).await
    }

    /// Ends background work and writes down what is in memory alone.
    pub async fn stop(&self) {
        let drain = self.snapshot().config.server.drain;
        if !self.tasks.stop(drain.max(Duration::from_secs(1))).await {
            tracing::warn!("Downloads under way were given up");
        }
        self.store.flush().await;
        self.reader.close().await;
    }
}
