//! The parts of the catalog over a file of their own: no server, no blobs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::format;
use crate::package::{AssetId, BlobId, Format};
use crate::store::packages::Pin;
use crate::task::Tasks;
use crate::telemetry::{Ledger, LedgerPage, PulledVersion, Who};
use crate::{clock, config};

const NPM: &str = "public:npmjs";

struct Fixture {
    catalog: Catalog,
    _folder: TempDir,
}

async fn catalog() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&folder.path().join("larder.sqlite"), LastEnd::Closed).await;
    Fixture {
        catalog: catalog.unwrap(),
        _folder: folder,
    }
}

fn document(bytes: &str) -> DocumentRow {
    DocumentRow {
        blob: BlobId::of(bytes.as_bytes()),
        size: bytes.len() as u64,
        url: "https://npm.registry.example/left-pad".to_owned(),
        media_type: "application/json".to_owned(),
        etag: Some("\"1\"".to_owned()),
        last_modified: None,
        policy: "{}".to_owned(),
        fetched_at: 10,
        checked_at: 20,
        fresh_until: 30,
        stale_for: 40,
        fetch_ms: 5,
        versions: None,
    }
}

fn asset(package: &str, version: &str, bytes: &str) -> (AssetKey, AssetRow) {
    let key = AssetKey {
        connection: NPM.into(),
        asset: AssetId {
            package: format::package(package).unwrap(),
            file: format!("-/file-{version}.tgz").into(),
        },
    };
    let row = AssetRow {
        version: version.to_owned(),
        blob: BlobId::of(bytes.as_bytes()),
        size: bytes.len() as u64,
        media_type: "application/octet-stream".to_owned(),
        published: None,
        last_modified: None,
        first_seen: 10,
        fetch_ms: 5,
    };
    (key, row)
}

#[tokio::test]
async fn an_outdated_document_keeps_its_bytes_and_is_fresh_no_more() {
    let it = catalog().await;
    let documents = it.catalog.documents();
    for key in ["left-pad", "right-pad"] {
        documents.keep(NPM, key, &document(key), 0).await.unwrap();
    }
    let keys = ["left-pad".to_owned()];
    documents.outdate(NPM, Some(&keys)).await.unwrap();
    let outdated = documents.find(NPM, "left-pad").await.unwrap().unwrap();
    assert_eq!(outdated.blob, BlobId::of(b"left-pad"));
    assert_eq!((outdated.fresh_until, outdated.stale_for), (0, 0));
    let other = documents.find(NPM, "right-pad").await.unwrap().unwrap();
    assert_eq!((other.fresh_until, other.stale_for), (30, 40));
}

#[tokio::test]
async fn a_document_in_the_place_of_a_held_one_is_held_and_names_what_it_replaced() {
    let it = catalog().await;
    let documents = it.catalog.documents();
    let row = document("1");
    let first = documents.keep(NPM, "left-pad", &row, hold::PINNED).await;
    let first = first.unwrap();
    assert!(first.is_held && first.replaced.is_none());
    let second = documents.keep(NPM, "left-pad", &document("2"), 0).await;
    let second = second.unwrap();
    assert!(second.is_held);
    assert_eq!(second.replaced, Some(BlobId::of(b"1")));
}

#[tokio::test]
async fn an_assets_row_outlives_its_blob() {
    let it = catalog().await;
    let (assets, blobs) = (it.catalog.assets(), it.catalog.blobs());
    let (key, row) = asset("npm:left-pad", "1.3.0", "bytes");
    blobs.add(row.blob, row.size).await.unwrap();
    let kept = assets.keep(&key, &row, 0).await.unwrap();
    assert!(kept.is_first && !kept.is_held);
    let package = &key.asset.package;
    assert_eq!(assets.files_here(NPM, package).await.unwrap().len(), 1);

    assert_eq!(blobs.lose(row.blob).await.unwrap(), Some((5, false)));
    assert!(assets.files_here(NPM, package).await.unwrap().is_empty());
    assert!(assets.of_package(NPM, package).await.unwrap().is_empty());
    let found = assets.find(&key).await.unwrap().unwrap();
    assert_eq!(found.blob, row.blob);
    assert_eq!(assets.files_pulled(NPM, package).await.unwrap().len(), 1);
    assert_eq!(assets.of_blob(row.blob).await.unwrap(), [key]);
}

#[tokio::test]
async fn packages_are_told_a_page_at_a_time() {
    let it = catalog().await;
    let assets = it.catalog.assets();
    for name in ["npm:a", "npm:b", "npm:c"] {
        let (key, row) = asset(name, "1.0.0", name);
        assets.keep(&key, &row, 0).await.unwrap();
    }
    let first = assets.packages_here(None, 2).await.unwrap();
    let rest = assets.packages_here(first.last(), 2).await.unwrap();
    let names =
        |page: &[PulledPackage]| page.iter().map(|it| it.package.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["npm:a", "npm:b"]);
    assert_eq!(names(&rest), ["npm:c"]);
}

#[tokio::test]
async fn the_blob_used_again_is_evicted_after_those_used_once_and_the_kept_one_never() {
    let it = catalog().await;
    let blobs = it.catalog.blobs();
    let [again, once, kept] = ["again", "once", "kept"].map(|it| BlobId::of(it.as_bytes()));
    for blob in [again, once, kept] {
        assert!(blobs.add(blob, 10).await.unwrap());
    }
    assert_eq!(blobs.evictable_bytes().await.unwrap(), 30);
    assert!(blobs.keep(kept, 10).await.unwrap());
    assert_eq!(blobs.evictable_bytes().await.unwrap(), 20);
    blobs.mark_used(HashMap::from([(again, 1)])).await.unwrap();

    assert_eq!(blobs.take_coldest(64, 10).await.unwrap(), [(once, 10)]);
    assert_eq!(blobs.take_coldest(64, 10).await.unwrap(), [(again, 10)]);
    assert!(blobs.take_coldest(64, 10).await.unwrap().is_empty());
    assert_eq!(blobs.kept_total().await.unwrap(), (1, 10));
    assert_eq!(blobs.make_evictable(kept).await.unwrap(), Some(10));
    assert_eq!(blobs.take_coldest(64, 10).await.unwrap(), [(kept, 10)]);
}

#[tokio::test]
async fn an_evicted_blob_takes_its_document_along() {
    let it = catalog().await;
    let row = document("1");
    it.catalog.blobs().add(row.blob, row.size).await.unwrap();
    let documents = it.catalog.documents();
    documents.keep(NPM, "left-pad", &row, 0).await.unwrap();
    it.catalog.blobs().take_coldest(64, 1).await.unwrap();
    assert!(documents.find(NPM, "left-pad").await.unwrap().is_none());
}

#[tokio::test]
async fn only_a_blob_that_nothing_names_is_forgotten() {
    let it = catalog().await;
    let blobs = it.catalog.blobs();
    let (key, row) = asset("npm:left-pad", "1.3.0", "named");
    let stray = BlobId::of(b"stray");
    for blob in [row.blob, stray] {
        blobs.add(blob, 5).await.unwrap();
    }
    it.catalog.assets().keep(&key, &row, 0).await.unwrap();
    let gone = blobs.forget(&[row.blob, stray]).await.unwrap();
    let gone: Vec<_> = gone.iter().map(|blob| (blob.id, blob.size)).collect();
    assert_eq!(gone, [(stray, 5)]);
    assert!(blobs.has(row.blob).await.unwrap());
}

#[tokio::test]
async fn a_pin_holds_what_is_here_and_what_comes() {
    let it = catalog().await;
    let holds = it.catalog.holds();
    let (key, row) = asset("npm:left-pad", "1.3.0", "bytes");
    it.catalog.blobs().add(row.blob, row.size).await.unwrap();
    it.catalog.assets().keep(&key, &row, 0).await.unwrap();
    assert!(!holds.is_held(row.blob).await.unwrap());

    let pin = Pin {
        pattern: "npm:left-pad".to_owned(),
        since: 0,
    };
    holds.set_pins(&[pin]);
    let formats = HashMap::from([(NPM.to_owned(), Format::Npm)]);
    holds.write_anew(&formats).await.unwrap();
    assert!(holds.is_held(row.blob).await.unwrap());
    let package = &key.asset.package;
    assert_eq!(holds.of_asset(NPM, package, "2.0.0"), hold::PINNED);
    assert_eq!(holds.of_document(NPM, Some(package)), hold::PINNED);

    holds.set_pins(&[]);
    holds.write_anew(&formats).await.unwrap();
    assert!(!holds.is_held(row.blob).await.unwrap());
}

#[tokio::test]
async fn pins_of_an_earlier_larder_are_given_away_once() {
    let it = catalog().await;
    let holds = it.catalog.holds();
    let row = sqlx::query("INSERT INTO pin (pattern, since) VALUES ('npm:left-pad', 7)");
    row.execute(&it.catalog.pool).await.unwrap();
    let pin = Pin {
        pattern: "npm:left-pad".to_owned(),
        since: 7,
    };
    assert_eq!(holds.earlier_pins().await.unwrap(), [pin]);
    holds.forget_earlier_pins().await.unwrap();
    assert!(holds.earlier_pins().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_bundle_brought_stays_held_when_pins_are_written_anew() {
    let it = catalog().await;
    let holds = it.catalog.holds();
    let version = [asset("npm:left-pad", "1.3.0", "bytes")];
    let blob = version[0].1.blob;
    let is_new = it.catalog.assets().keep_version(&version, hold::IMPORTED);
    assert!(is_new.await.unwrap());
    holds.write_anew(&HashMap::new()).await.unwrap();
    assert!(holds.is_held(blob).await.unwrap());
}

#[tokio::test]
async fn what_a_retained_connection_gives_is_held() {
    let it = catalog().await;
    let holds = it.catalog.holds();
    holds.set_retained(BTreeSet::from([NPM.to_owned()]));
    assert_eq!(holds.of_document(NPM, None), hold::RETAINED);
    assert_eq!(holds.of_document("public:pypi", None), 0);
}

fn connection(name: &str, url: &str) -> config::ConnectionSettings {
    config::ConnectionSettings::new(name, Format::Npm, url).unwrap()
}

/// The registry of the connection, where it is the only one.
async fn registry_of(catalog: &Catalog, connection: &config::ConnectionSettings) -> String {
    let one = std::slice::from_ref(connection);
    let ids = catalog.registries().of(one, false).await.unwrap();
    ids.of(&connection.name).to_owned()
}

#[tokio::test]
async fn a_registry_is_a_place_and_the_connection_whose_credentials_are_sent() {
    let it = catalog().await;
    let known = registry_of(&it.catalog, &connection("a", "https://npm.example/base")).await;
    for (name, url, is_the_same) in [
        ("b", "https://npm.example/base/", true),
        ("b", "https://NPM.example:443/base/", true),
        ("a", "http://npm.example/base/", false),
        ("a", "https://npm.example:444/base/", false),
        ("a", "https://other.example/base/", false),
        ("a", "https://npm.example/another/", false),
        ("a", "https://ci:secret@npm.example/base/", false),
        ("a", "https://npm.example/base/?signature=secret", false),
    ] {
        let found = registry_of(&it.catalog, &connection(name, url)).await;
        assert_eq!(found == known, is_the_same, "{name} {url}");
    }
    let first = connection("a", "https://ci:first@npm.example/base/");
    let second = connection("a", "https://ci:second@npm.example/base/");
    let other = connection("b", "https://ci:first@npm.example/base/");
    let first = registry_of(&it.catalog, &first).await;
    assert_eq!(registry_of(&it.catalog, &second).await, first);
    assert_ne!(registry_of(&it.catalog, &other).await, first);
}

#[tokio::test]
async fn the_address_of_a_connection_that_was_never_asked_may_be_corrected() {
    let it = catalog().await;
    let offline = |url: &str| config::ConnectionSettings {
        offline: true,
        ..connection("a", url)
    };
    let imported = registry_of(&it.catalog, &offline("https://placeholder.example/")).await;
    let corrected = registry_of(&it.catalog, &offline("https://corrected.example/")).await;
    assert_eq!(corrected, imported);
    let asked = registry_of(&it.catalog, &connection("a", "https://npm.example/")).await;
    assert_eq!(
        asked, imported,
        "the line is there, and the address is right"
    );
    // From then on it is the place that was asked.
    for again in [
        connection("a", "https://other.example/"),
        offline("https://other.example/"),
    ] {
        assert_ne!(registry_of(&it.catalog, &again).await, imported);
    }
    // A learned name stands for the registry of whichever client was asked, also offline.
    let learned = |url: &str| config::ConnectionSettings {
        is_learned: true,
        ..offline(url)
    };
    let one = registry_of(&it.catalog, &learned("https://one.example/")).await;
    let two = registry_of(&it.catalog, &learned("https://two.example/")).await;
    assert_ne!(one, two);
}

#[tokio::test]
async fn what_was_imported_joins_what_the_right_address_has() {
    let it = catalog().await;
    let documents = it.catalog.documents();
    let known = registry_of(&it.catalog, &connection("a", "https://npm.example/")).await;
    let offline = config::ConnectionSettings {
        offline: true,
        ..connection("b", "https://placeholder.example/")
    };
    let imported = registry_of(&it.catalog, &offline).await;
    for (registry, key, bytes) in [
        (&known, "both", "asked"),
        (&imported, "both", "imported"),
        (&imported, "one", "imported"),
    ] {
        documents
            .keep(registry, key, &document(bytes), 0)
            .await
            .unwrap();
    }
    let corrected = connection("b", "https://npm.example/");
    assert_eq!(registry_of(&it.catalog, &corrected).await, known);
    for (key, bytes) in [("both", "asked"), ("one", "imported")] {
        let row = documents.find(&known, key).await.unwrap().unwrap();
        assert_eq!(row.blob, BlobId::of(bytes.as_bytes()), "{key}");
    }
}

#[tokio::test]
async fn a_staged_blob_is_held_until_it_is_visible() {
    let it = catalog().await;
    let blob = BlobId::of(b"staged");
    it.catalog.staged().add(blob).await.unwrap();
    assert_eq!(it.catalog.staged().all().await.unwrap(), [blob]);
    assert!(it.catalog.holds().is_held(blob).await.unwrap());
    it.catalog.staged().clear().await.unwrap();
    assert!(!it.catalog.holds().is_held(blob).await.unwrap());
}

#[tokio::test]
async fn long_work_that_is_done_has_no_state() {
    let it = catalog().await;
    let work = it.catalog.work();
    work.set("verify", Some("half")).await.unwrap();
    assert_eq!(work.of("verify").await.unwrap().as_deref(), Some("half"));
    work.set("verify", None).await.unwrap();
    assert_eq!(work.of("verify").await.unwrap(), None);
}

#[tokio::test]
async fn so_many_wishes_are_remembered() {
    let fixture = catalog().await;
    let wishes = wish::Wishes::start(fixture.catalog.wishes(2), &Tasks::default());
    for (name, count) in [("npm:a", 1), ("npm:b", 2), ("npm:c", 2), ("npm:d", 2)] {
        wishes.note("public", &format::package(name).unwrap(), "", "");
        assert_eq!(wishes.list().await.unwrap().len(), count, "{name}");
    }
}

#[tokio::test]
async fn so_many_absences_are_remembered_and_the_oldest_are_forgotten_first() {
    let fixture = catalog().await;
    let rows = fixture.catalog.absences(2);
    let absences = absence::AbsenceNotes::start(rows, &Tasks::default());
    let known = async || {
        absences.flush().await;
        let mut known = Vec::new();
        for key in ["a", "b", "c"] {
            known.extend(absences.find(NPM, key).await.unwrap());
        }
        known
    };
    absences.note(NPM, "b", 1);
    absences.note(NPM, "a", 2);
    assert_eq!(known().await, [2, 1]);
    absences.note(NPM, "c", 3);
    assert_eq!(known().await, [2, 3]);
}

fn pulled(version: &str) -> LedgerPage {
    let pulled = PulledVersion {
        repository: "public".to_owned(),
        package: "npm:a".to_owned(),
        version: version.to_owned(),
    };
    let ledger = Ledger::default();
    ledger.pull(&Arc::new(pulled), &Who::Named("ada".into()), 1);
    ledger.take()
}

#[tokio::test]
async fn so_many_lines_of_pulls_are_kept_and_the_oldest_go_first() {
    let fixture = catalog().await;
    let bounds = config::ReportSettings {
        keep: Duration::from_secs(10 * 86_400),
        pulls_max: 2,
        wishes_max: 1,
    };
    let reports = fixture.catalog.reports();
    let versions = async || {
        let pulls = reports.pulls("npm:a").await.unwrap();
        let mut versions: Vec<_> = pulls.into_iter().map(|pull| pull.version).collect();
        versions.sort();
        versions
    };
    reports.add(pulled("3"), &bounds).await.unwrap();
    let yesterday = "UPDATE pull SET day = day - 1";
    sqlx::query(yesterday).execute(&reports.pool).await.unwrap();
    reports.add(pulled("1"), &bounds).await.unwrap();
    assert_eq!(versions().await, ["1", "3"]);
    reports.add(pulled("2"), &bounds).await.unwrap();
    assert_eq!(versions().await, ["1", "2"]);
}

#[tokio::test]
async fn days_that_are_not_remembered_any_more_are_forgotten() {
    let fixture = catalog().await;
    let bounds = config::ReportSettings {
        keep: Duration::from_secs(10 * 86_400),
        pulls_max: 100,
        wishes_max: 1,
    };
    let reports = fixture.catalog.reports();
    let today = clock::unix_now().div_euclid(86_400);
    for day in [today - 11, today - 10] {
        for line in [
            "INSERT INTO traffic VALUES (?, 'public', 'npm', 1, 1, 0, 1)",
            "INSERT INTO egress VALUES (?, 'up', 'npm', 1, 1)",
            "INSERT INTO pull (day, package, version, who, repository, last_at, times, bytes) \
             VALUES (?, 'npm:a', '1', 'ada', 'public', 1, 1, 1)",
        ] {
            let line = sqlx::query(line).bind(day);
            line.execute(&reports.pool).await.unwrap();
        }
    }
    reports.add(pulled("2"), &bounds).await.unwrap();
    assert_eq!(reports.traffic(100).await.unwrap().len(), 1);
    assert_eq!(reports.pulls("npm:a").await.unwrap().len(), 2);
    let left = "SELECT day FROM egress";
    let left: Vec<i64> = sqlx::query_scalar(left)
        .fetch_all(&reports.pool)
        .await
        .unwrap();
    assert_eq!(left, [today - 10]);
}
