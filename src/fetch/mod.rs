//! Brings a connection's documents and files into the store, each of them once.

mod absence;
mod asset;
mod body;
mod document;
mod freshness;
mod intake;
mod memory;
mod outcome;
mod pass;
mod promise;
mod stock;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use absence::Absences;
pub use asset::{AssetFetcher, Landed, WantedAsset};
pub use document::{
    Document, DocumentContent, DocumentFetcher, Freshen, QUESTION_PATIENCE, Sought, StillCurrent,
    media_type,
};
pub use memory::{DocumentMemory, DocumentRoom};
pub use outcome::Outcome;
pub use pass::PassThrough;
pub use promise::PromiseReader;
pub use stock::{Stock, Stocks};

use crate::config;
use crate::problem::Problem;
use crate::store::{self, Store};
use crate::task::Tasks;
use crate::telemetry::Metrics;

/// A resource of a connection, by both names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceKey {
    pub connection: Box<str>,
    pub key: Box<str>,
}

/// Fetches documents and assets, and knows what both rest on.
pub struct Fetcher {
    store: Arc<Store>,
    tasks: Tasks,
    documents: Arc<DocumentFetcher>,
    assets: Arc<AssetFetcher>,
    promises: PromiseReader,
    stocks: Stocks,
    absences: Absences,
    memory: Arc<DocumentMemory>,
}

impl Fetcher {
    #[must_use]
    pub fn new(
        store: &Arc<Store>,
        config: &config::Config,
        tasks: &Tasks,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        // A row takes some hundred bytes; the bound is that of what is known of packages.
        let rows_max = config.cache.facts_memory / 1024;
        let promises = PromiseReader::new(&config.fetch, metrics);
        let stocks = Stocks::new(store, rows_max);
        let absences = Absences::new(store, config.cache.absent_for, rows_max);
        let memory = DocumentMemory::new(config.fetch.render_memory, tasks);
        Arc::new(Self {
            store: Arc::clone(store),
            tasks: tasks.clone(),
            documents: DocumentFetcher::new(
                store, config, metrics, &promises, &absences, &memory, rows_max,
            ),
            assets: AssetFetcher::new(
                store, config, tasks, &promises, &stocks, &absences, rows_max,
            ),
            promises,
            stocks,
            absences,
            memory,
        })
    }

    /// Where documents are read and rendered.
    #[must_use]
    pub fn memory(&self) -> &Arc<DocumentMemory> {
        &self.memory
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Mutable resources.
    #[must_use]
    pub fn documents(&self) -> &Arc<DocumentFetcher> {
        &self.documents
    }

    /// Immutable resources.
    #[must_use]
    pub fn assets(&self) -> &Arc<AssetFetcher> {
        &self.assets
    }

    /// Digests that are resources themselves.
    #[must_use]
    pub fn promises(&self) -> &PromiseReader {
        &self.promises
    }

    /// Resources that registries do not have.
    #[must_use]
    pub fn absences(&self) -> &Absences {
        &self.absences
    }

    /// The stocks of offline connections.
    #[must_use]
    pub fn stocks(&self) -> &Stocks {
        &self.stocks
    }

    /// Has these documents of the connection asked for anew, or all of them, and forgets what the
    /// connection lately did not have: a publish made them old.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub async fn outdate(&self, connection: &str, keys: Option<&[String]>) -> Result<(), Problem> {
        let concerns = |key: &str| keys.is_none_or(|keys| keys.iter().any(|it| it == key));
        self.store
            .catalog()
            .documents()
            .outdate(connection, keys)
            .await?;
        self.documents.forget(connection, concerns);
        self.absences.forget_all(connection).await
    }

    /// Forgets what is held in memory of the connection: more of it is here than was.
    pub fn renew(&self, connection: &str) {
        self.documents.forget(connection, |_| true);
        self.assets.forget(connection);
        self.stocks.forget_all(connection);
        self.absences.forget_known(connection);
    }
}

/// How a failure of the store reads where it ends a download.
fn store_problem(error: store::Error, what: &str) -> Problem {
    Problem::internal(format!("{what} could not be stored"), error)
}
