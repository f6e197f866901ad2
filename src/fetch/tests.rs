//! Fetched files lie in a store of the test's own. Its registry is offline, so nobody is asked.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::config::{ConfigSource, Learned, load};
use crate::connection::{Connection, LoopId};
use crate::package::{AssetId, BlobId, Expected, PackageId, UpstreamPath};
use crate::store::Keeping;
use crate::store::catalog::{AssetKey, AssetRow, DocumentRow};

const NPM: &str = "public:npmjs";
const CONFIG: &str = "[[connection]]\nname = \"public:npmjs\"\nformat = \"npm\"\n\
    url = \"https://npm.registry.example/\"\noffline = true\n";

struct Fixture {
    fetcher: Arc<Fetcher>,
    connection: Arc<Connection>,
    _folder: TempDir,
}

impl Fixture {
    async fn open() -> Self {
        crate::use_ring();
        let source = ConfigSource {
            file: "larder.toml".to_owned(),
            text: CONFIG.to_owned(),
            environment: Vec::new(),
        };
        let config = load(&source, &Learned::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (tasks, metrics) = (Tasks::default(), Arc::new(Metrics::default()));
        let store = Store::open(folder.path(), &config, &tasks).await.unwrap();
        let loop_id = LoopId::default();
        let npm = &config.connections[0];
        let connection = Connection::new(npm, NPM, &config, &metrics, &loop_id).unwrap();
        Self {
            fetcher: Fetcher::new(&store, &config, &tasks, &metrics),
            connection: Arc::new(connection),
            _folder: folder,
        }
    }

    async fn keep(&self, bytes: &str) -> BlobId {
        let store = self.fetcher.store();
        let incoming = store.incoming(None, &[], Keeping::Cached).await;
        let mut incoming = incoming.unwrap();
        let piece = Bytes::copy_from_slice(bytes.as_bytes());
        incoming.write(piece).await.unwrap();
        let verified = incoming.verify(&Expected::none()).await.unwrap();
        verified.keep(Keeping::Cached).await.unwrap().id()
    }

    /// Keeps a document that upstream long ago let pass for fresh.
    async fn keep_document(&self, key: &str, bytes: &str) {
        let row = DocumentRow {
            blob: self.keep(bytes).await,
            size: bytes.len() as u64,
            url: format!("https://npm.registry.example/{key}"),
            media_type: "application/json".to_owned(),
            etag: None,
            last_modified: None,
            policy: String::new(),
            fetched_at: 10,
            checked_at: 10,
            fresh_until: 20,
            stale_for: 0,
            fetch_ms: 1,
            versions: None,
        };
        let records = self.fetcher.store().records();
        records.add_document(NPM, key, None, &row).await.unwrap();
    }

    async fn keep_asset(&self, version: &str) -> AssetKey {
        let key = AssetKey {
            connection: NPM.into(),
            asset: AssetId {
                package: left_pad(),
                file: format!("-/left-pad-{version}.tgz").into(),
            },
        };
        let row = AssetRow {
            version: version.to_owned(),
            blob: self.keep(version).await,
            size: version.len() as u64,
            media_type: "application/octet-stream".to_owned(),
            published: None,
            last_modified: None,
            first_seen: 10,
            fetch_ms: 1,
        };
        let records = self.fetcher.store().records();
        records.add_asset(&key, &row).await.unwrap();
        key
    }

    async fn freshen(&self, key: &str) -> Result<Arc<Document>, Problem> {
        let path = UpstreamPath::new(key);
        let url = path.below(&self.connection.url).unwrap();
        let sought = Sought {
            key,
            url: &url,
            accept: "*/*",
            freshen: Freshen::AsCached,
            promises: Vec::new(),
            what: key,
        };
        let documents = self.fetcher.documents();
        documents.freshen(&self.connection, sought).await
    }
}

fn left_pad() -> PackageId {
    crate::format::package("npm:left-pad").unwrap()
}

#[tokio::test]
async fn an_offline_connections_document_is_served_whatever_its_age() {
    let it = Fixture::open().await;
    it.keep_document("left-pad", "{}").await;
    let document = it.freshen("left-pad").await.unwrap();
    assert_eq!(document.outcome, Outcome::Hit);
    assert_eq!(document.bytes(&it.fetcher).await.unwrap(), "{}");
    assert!(it.freshen("right-pad").await.is_err());
}

#[tokio::test]
async fn an_outdated_document_ends_its_answers_and_the_others_go_on() {
    let it = Fixture::open().await;
    for key in ["left-pad", "right-pad"] {
        it.keep_document(key, key).await;
    }
    let left = it.freshen("left-pad").await.unwrap();
    let right = it.freshen("right-pad").await.unwrap();
    let keys = ["left-pad".to_owned()];
    it.fetcher.outdate(NPM, Some(&keys)).await.unwrap();
    assert!(left.still_current.has_ended() && !right.still_current.has_ended());
    let left = it.freshen("left-pad").await.unwrap();
    assert_eq!(left.row.fresh_until, 0);
}

#[tokio::test]
async fn what_came_in_a_bundle_is_seen_when_the_connection_is_renewed() {
    let it = Fixture::open().await;
    it.keep_document("left-pad", "old").await;
    it.freshen("left-pad").await.unwrap();
    it.keep_document("left-pad", "new").await;
    let bytes = async || {
        let document = it.freshen("left-pad").await.unwrap();
        document.bytes(&it.fetcher).await.unwrap()
    };
    assert_eq!(bytes().await, "old");
    it.fetcher.renew(NPM);
    assert_eq!(bytes().await, "new");
}

#[tokio::test]
async fn an_asset_whose_bytes_were_lost_is_known_and_not_here() {
    let it = Fixture::open().await;
    let key = it.keep_asset("1.3.0").await;
    let assets = it.fetcher.assets();
    let (row, blob) = assets.find(&key).await.unwrap().unwrap();
    assert!(blob.is_some());
    let retention = it.fetcher.store().retention();
    retention.lay_aside(row.blob).await.unwrap();
    let (row, blob) = assets.find_when_done(&key).await.unwrap().unwrap();
    assert_eq!(row.version, "1.3.0");
    assert!(blob.is_none());
}

#[tokio::test]
async fn a_stock_is_looked_up_again_when_more_is_here() {
    let it = Fixture::open().await;
    it.keep_asset("1.2.0").await;
    let (stocks, package) = (it.fetcher.stocks(), left_pad());
    let stock = stocks.of_package(&it.connection, &package).await.unwrap();
    assert!(stock.has_version(&package, "1.2.0"));
    assert!(!stock.has_version(&package, "1.3.0"));

    let key = it.keep_asset("1.3.0").await;
    stocks.forget(&key);
    let stock = stocks.of_package(&it.connection, &package).await.unwrap();
    assert!(stock.has_version(&package, "1.3.0"));
    assert!(stock.has_file("-/left-pad-1.2.0.tgz"));
}

#[tokio::test]
async fn so_many_documents_are_not_told_of_twice() {
    let fixture = Fixture::open().await;
    let told = &fixture.fetcher.documents().told;
    let tell = |from: u64, to: u64| {
        for number in from..to {
            let key = ResourceKey {
                connection: NPM.into(),
                key: number.to_string().into(),
            };
            told.insert(("refused", key), ());
        }
        told.run_pending_tasks();
        told.entry_count()
    };
    assert_eq!(tell(0, document::TOLD_MAX), document::TOLD_MAX);
    assert_eq!(
        tell(document::TOLD_MAX, document::TOLD_MAX + 500),
        document::TOLD_MAX
    );
}
