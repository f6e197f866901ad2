//! Brings a connection's resources into the store.

mod asset;
mod document;
mod freshness;
mod outcome;
mod outdate;
mod pass;
mod stock;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

pub use asset::{Landed, Wanted};
pub use document::{Content, Currency, Document, Freshen, Known, Sought};
pub use outcome::Outcome;
pub use pass::Pass;
pub use stock::Stock;

use crate::config;
use crate::problem::Problem;
use crate::store::catalog::{AssetKey, AssetRow};
use crate::store::{Arrivals, Store};
use crate::task::{Flights, Tasks};
use crate::telemetry::Metrics;
use stock::StockKey;

/// A resource of a connection, by both names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceKey {
    pub connection: Box<str>,
    pub key: Box<str>,
}

/// Fetches, each once however many ask for it.
pub struct Fetcher {
    store: Arc<Store>,
    tasks: Tasks,
    config: config::Fetch,
    fresh_for: Duration,
    metrics: Arc<Metrics>,
    documents: Cache<ResourceKey, Arc<Known>>,
    document_flights: Flights<ResourceKey, Result<Arc<Document>, Problem>>,
    /// Real 404s of late.
    absent: Cache<ResourceKey, ()>,
    absent_assets: Cache<AssetKey, Problem>,
    assets: Cache<AssetKey, Arc<AssetRow>>,
    /// Of offline connections.
    stocks: Cache<StockKey, Arc<Stock>>,
    arrivals: Arrivals<AssetKey, Landed>,
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
        Arc::new(Self {
            store: Arc::clone(store),
            tasks: tasks.clone(),
            config: config.fetch.clone(),
            fresh_for: config.cache.fresh_for,
            metrics: Arc::clone(metrics),
            documents: Cache::builder()
                .max_capacity(rows_max)
                .eviction_listener(|_, known: Arc<Known>, _| known.end())
                .build(),
            document_flights: Flights::new(tasks.clone()),
            absent: Cache::builder()
                .max_capacity(rows_max)
                .time_to_live(config.cache.absent_for)
                .build(),
            absent_assets: Cache::builder()
                .max_capacity(rows_max)
                .time_to_live(config.cache.absent_for)
                .build(),
            assets: Cache::new(rows_max),
            stocks: Cache::new(rows_max),
            arrivals: Arrivals::new(tasks.clone()),
        })
    }

    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// What a download's end has to be checked against, and how the store's failure reads.
    fn store_problem(error: crate::store::Error, what: &str) -> Problem {
        Problem::internal(format!("{what} could not be stored"), error)
    }
}
