//! Answers what clients ask of a repository, and changes its own packages. One decision holds
//! for documents and for files.

mod addition;
mod admitted;
mod ahead;
mod asset;
mod change;
mod dates;
mod decision;
mod document;
mod encoding;
mod evidence;
mod explain;
#[cfg(test)]
mod fixture;
mod form;
mod forward;
mod gather;
mod inspect;
mod list;
mod lookup;
pub mod manage;
mod notice;
mod outside;
mod own;
mod places;
mod promote;
mod publish;
mod question;
mod receive;
mod registry;
mod render;
mod retain;
mod revise;
pub mod schedule;
pub mod scrub;
mod source;
mod source_chain;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

pub use addition::Addition;
pub use admitted::{ChangeableRepository, ReadableRepository, Repositories};
pub use asset::{AssetBody, AssetReply};
pub use change::Committer;
pub use document::{Cached, DocumentBody, DocumentReply, ReuseCondition};
pub use encoding::{Encoding, Encodings};
pub use evidence::PackageFacts;
pub use explain::{Explainer, Explanation};
pub use forward::{Forwarded, Forwarder, Passed, Sent};
pub use gather::{Gathered, GatheredFacts};
pub use inspect::Words;
pub use manage::Manager;
pub use places::BodySender;
pub use publish::{ChangeRecord, Changed, Permit, Publisher, Submission};
pub use question::QuestionReply;
pub use receive::{BodyReceiver, BodyStream, piped};
pub use registry::{Registry, group_of};
pub use source::{Publish, Repository, Snapshot, Source};

use crate::allocator;
use crate::config;
use crate::connection::Connection;
use crate::fetch::Fetcher;
use crate::package::{Origin, PackageId};
use crate::problem::{Kind, Problem};
use crate::rule::OriginControl;
use crate::store::rendered::RenderedCache;
use crate::telemetry::Metrics;
use ahead::Prefetcher;
use evidence::EvidenceReader;
use lookup::Lookup;
use own::OwnPackages;
use render::Renderer;
use source_chain::{SourceChain, Walk};

/// How long after work on a large document its memory is given back. What was made of it is sent by
/// then, and several documents that come in turn are given back together.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(1);

/// Gives memory back after each large document, until Larder stops.
async fn give_back(evidence: Arc<EvidenceReader>, renderer: Arc<Renderer>) {
    let fetcher = &evidence.fetcher;
    loop {
        fetcher.memory().large_work_done().await;
        tokio::time::sleep(GIVEN_BACK_AFTER).await;
        evidence.settle();
        renderer.settle();
        let trimming = fetcher.tasks().spawn_blocking(allocator::give_back);
        if trimming.await.is_err() {
            return;
        }
    }
}

/// Reads what repositories have.
pub struct Reader {
    fetcher: Arc<Fetcher>,
    evidence: Arc<EvidenceReader>,
    renderer: Arc<Renderer>,
    ahead: Prefetcher,
    own: Arc<OwnPackages>,
    /// Which connections promise digests in resources smaller than a package's document.
    promising: Cache<String, bool>,
}

/// After this long it is found out anew whether a connection has manifests.
const PROMISING_FOR: Duration = Duration::from_secs(3600);

impl Reader {
    #[must_use]
    pub fn new(
        fetcher: &Arc<Fetcher>,
        rendered: RenderedCache,
        config: &config::Config,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let (ahead, waiting) = Prefetcher::new(&config.ahead, metrics);
        let memory = config.cache.facts_memory;
        let own = Arc::new(OwnPackages::new(fetcher.store().packages(), memory));
        let reader = Arc::new(Self {
            fetcher: Arc::clone(fetcher),
            evidence: EvidenceReader::new(fetcher, memory, config.fetch.dates_max),
            renderer: Renderer::new(fetcher, rendered, &own),
            ahead,
            own,
            promising: Cache::builder()
                .max_capacity(1024)
                .time_to_live(PROMISING_FOR)
                .build(),
        });
        waiting.start(&reader);
        let tasks = fetcher.tasks();
        tasks.spawn_until_stop(give_back(
            Arc::clone(&reader.evidence),
            Arc::clone(&reader.renderer),
        ));
        reader
    }

    /// Finds out whether anything was ever published here. Called once, at the start.
    ///
    /// # Errors
    /// Where the package catalog cannot be read.
    pub async fn check_empty(&self) -> Result<(), crate::store::packages::Error> {
        self.own.check_empty().await
    }

    #[must_use]
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Writes what is kept in memory alone.
    pub async fn close(&self) {
        self.renderer.close().await;
    }

    /// The sources that are asked for the package.
    async fn chain(&self, lookup: &Lookup<'_>) -> Result<SourceChain, Problem> {
        SourceChain::of_package(&self.own, lookup).await
    }

    /// Whether the connection is asked for the package at all: what is ours, and what a rule denies
    /// by name, is told to nobody outside.
    async fn may_ask(&self, lookup: &Lookup<'_>, connection: &Connection) -> Result<bool, Problem> {
        match self.chain(lookup).await {
            Ok(chain) => Ok(chain.may_ask(connection)),
            Err(problem) if problem.kind == Kind::Denied => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    fn walk<'a>(&'a self, chain: &'a SourceChain, package: Option<&'a PackageId>) -> Walk<'a> {
        Walk {
            chain,
            evidence: &self.evidence,
            package,
        }
    }

    /// The origin control of the package in the repository.
    ///
    /// # Errors
    /// Where a catalog cannot be read.
    pub async fn control<'a>(
        &self,
        snapshot: &'a Snapshot,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<OriginControl<'a>, Problem> {
        let (mut seen, mut said) = (None, None);
        for source in &repository.sources {
            if let Source::Own(name) = source {
                let held = self.own.package(name, package).await?;
                said = said.or(held.restrictions);
                seen = seen.or(held.listing.as_ref().map(|listing| listing.origin));
            }
        }
        if seen.is_none() {
            let connections = repository.connections_of(package.format());
            let connections: Vec<&str> = connections.map(|it| it.name.as_str()).collect();
            let names = self.fetcher.store().outside_names();
            let is_known = names.is_known(&connections, package).await;
            if is_known? {
                seen = Some(Origin::External);
            }
        }
        Ok(snapshot.config.origins.control(package, said, seen))
    }

    /// A connection was seen to have the package: the name is one from outside, unless it is ours.
    fn seen_outside(&self, connection: &Connection, package: &PackageId) {
        let names = self.fetcher.store().outside_names();
        names.note(&connection.name, package);
    }
}
