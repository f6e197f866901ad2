//! The rooms of a repository over a data directory of their own, for tests that need no server.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    Addition, BodyReceiver, BodySender, BodyStream, ChangeRecord, Changed, Committer, Forwarder,
    Manager, Publisher, Reader, Registry, Repository, Snapshot, Submission,
};
use crate::config::{ConfigSource, Learned, load};
use crate::fetch::Fetcher;
use crate::format::{self, Change, generic};
use crate::package::{BlobId, Format, PackageId};
use crate::problem::Problem;
use crate::store::Store;
use crate::store::rendered::RenderedCache;
use crate::task::Tasks;
use crate::telemetry::{Metrics, Who};

/// The configuration of tests that do not bring their own.
pub const TEAM: &str = "[[repository]]\nname = \"team\"\npublish = \"local\"\n";

pub struct Fixture {
    _folder: TempDir,
    pub store: Arc<Store>,
    pub registry: Arc<Registry>,
    pub reader: Arc<Reader>,
    pub receiver: Arc<BodyReceiver>,
    pub committer: Arc<Committer>,
    pub publisher: Arc<Publisher>,
    pub forwarder: Arc<Forwarder>,
    pub manager: Arc<Manager>,
}

impl Fixture {
    pub async fn open(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = ConfigSource {
            text: format!("[cache]\nrendered_disk = 0\n{text}"),
            ..ConfigSource::default()
        };
        let config = load(&source, &Learned::default()).unwrap();
        let (tasks, metrics) = (Tasks::default(), Arc::new(Metrics::default()));
        let store = Store::open(folder.path(), &config, &tasks).await.unwrap();
        let rendered = RenderedCache::open(folder.path(), &config).await;
        let fetcher = Fetcher::new(&store, &config, &tasks, &metrics);
        let reader = Reader::new(&fetcher, rendered, &config, &metrics);
        let receiver = BodyReceiver::new(&store, &config.upload);
        let committer = Committer::new(&reader);
        let forwarder = Forwarder::new(&reader, &receiver, &committer);
        let registry = Registry::open(config, &store, &metrics);
        Self {
            _folder: folder,
            registry: registry.await.unwrap(),
            publisher: Publisher::new(&reader, &receiver, &committer),
            manager: Manager::new(&reader, &receiver, &committer, &forwarder),
            store,
            reader,
            receiver,
            committer,
            forwarder,
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.registry.snapshot()
    }

    pub fn repository(&self, name: &str) -> Arc<Repository> {
        Arc::clone(self.snapshot().repository(name).unwrap())
    }

    /// Publishes a version of a generic package, whose one file is this text.
    pub async fn publish(&self, package: &PackageId, version: &str, text: &'static str) {
        let addition = Addition {
            asset: generic::asset(package.clone(), version, "tool.bin").unwrap(),
            version: version.to_owned(),
            body: body(text.as_bytes()),
            sender: ci(),
            sha256: BlobId::of(text.as_bytes()).to_hex(),
            is_unfinished: false,
        };
        let (snapshot, team) = (self.snapshot(), self.repository("team"));
        let published = self.publisher.publish_file(&snapshot, &team, addition);
        published.await.unwrap();
    }

    /// Makes a client's change to `team`, which it is let in for or not; says what is known of the
    /// change then.
    pub async fn change(
        &self,
        format: Format,
        change: Change,
        bytes: &[u8],
        permit: &super::Permit<'_>,
    ) -> (ChangeRecord, Result<Changed, Problem>) {
        let mut record = ChangeRecord::default();
        let (snapshot, team) = (self.snapshot(), self.repository("team"));
        let submission = Submission {
            format,
            change,
            body: body(bytes),
            content_type: "application/octet-stream",
            sender: ci(),
            permit,
            record: &mut record,
        };
        let changed = self.publisher.change(&snapshot, &team, submission).await;
        (record, changed)
    }
}

/// A body in one piece.
pub fn body(bytes: &[u8]) -> BodyStream {
    let piece = Bytes::copy_from_slice(bytes);
    futures_util::stream::iter([Ok(piece)]).boxed()
}

/// A client that stays.
pub fn ci() -> BodySender {
    BodySender {
        who: Who::Named("ci".into()),
        left: CancellationToken::new(),
    }
}

pub fn tool() -> PackageId {
    format::package("generic:acme/tool").unwrap()
}
