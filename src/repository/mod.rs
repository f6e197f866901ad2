//! What Larder exists for: documents and assets of a repository, by one decision at both doors.

mod ahead;
mod asset;
mod chain;
mod change;
mod document;
mod encoding;
mod evidence;
#[cfg(test)]
mod fixture;
mod forward;
mod gather;
mod generic;
mod inspect;
pub mod manage;
mod own;
mod promote;
mod publish;
mod question;
mod receive;
mod registry;
mod render;
mod retain;
mod revise;
mod source;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Semaphore;

pub use asset::{AssetBody, AssetReply};
pub use change::Committer;
pub use document::{Cached, DocumentBody, DocumentReply, Lasting, is_hit};
pub use encoding::{Encoding, Encodings};
pub use evidence::{Explanation, PackageFacts};
pub use forward::{Forwarded, Forwarder, Passed, Sent};
pub use gather::{Gathered, Known};
pub use generic::Addition;
pub use inspect::Words;
pub use manage::Manager;
pub use publish::{ChangeRecord, Changed, Permit, Publisher, Submission, drain};
pub use receive::{Body, BodyReceiver, piped};
pub use registry::{Registry, group_of};
pub use source::{Publish, Repository, Snapshot, Source};

use crate::config;
use crate::fetch::Fetcher;
use crate::problem::Problem;
use crate::store::rendered::{RenderKey, Rendered, RenderedCache};
use crate::task::Flights;
use crate::telemetry::Metrics;
use ahead::Ahead;
use evidence::FactsKey;
use own::OwnPackages;

/// Reads what repositories have.
pub struct Reader {
    fetcher: Arc<Fetcher>,
    rendered: RenderedCache,
    renders: Flights<RenderKey, Result<Arc<Rendered>, Problem>>,
    /// Documents that are parsed or rendered at once.
    render_places: Arc<Semaphore>,
    facts: Cache<FactsKey, Arc<PackageFacts>>,
    ahead: Ahead,
    own: Arc<OwnPackages>,
    /// Which connections promise digests in resources smaller than a package's document.
    promising: Cache<String, bool>,
}

/// What a connection was seen to have is looked for anew after so long.
const PROMISING_FOR: Duration = Duration::from_secs(3600);

impl Reader {
    #[must_use]
    pub fn new(
        fetcher: &Arc<Fetcher>,
        rendered: RenderedCache,
        config: &config::Config,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let (ahead, waiting) = Ahead::new(&config.ahead, metrics);
        let reader = Arc::new(Self {
            fetcher: Arc::clone(fetcher),
            rendered,
            renders: Flights::new(fetcher.tasks().clone()),
            render_places: Arc::new(Semaphore::new(config.fetch.renders_max)),
            facts: Cache::builder()
                .max_capacity(config.cache.facts_memory)
                .weigher(|_: &FactsKey, facts: &Arc<PackageFacts>| facts.facts.weight())
                .build(),
            ahead,
            own: Arc::new(OwnPackages::new(
                fetcher.store().packages(),
                config.cache.facts_memory,
            )),
            promising: Cache::builder()
                .max_capacity(1024)
                .time_to_live(PROMISING_FOR)
                .build(),
        });
        waiting.start(&reader);
        reader
    }

    /// Looks whether repositories have anything of their own.
    ///
    /// # Errors
    /// Where the package catalog cannot be read.
    pub async fn look(&self) -> Result<(), crate::store::packages::Error> {
        self.own.look().await
    }

    #[must_use]
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Writes what is kept in memory alone.
    pub async fn close(&self) {
        self.rendered.close().await;
    }

    /// Runs `work` where it may take its time, a bounded number at once.
    async fn rendering<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(&self.render_places).acquire_owned().await;
        let place = place.map_err(|error| Problem::internal("rendering stopped", error))?;
        self.fetcher
            .tasks()
            .spawn_blocking(move || {
                let _place = place;
                work()
            })
            .await
            .map_err(|error| Problem::internal("rendering a document failed", error))
    }
}
