//! Catalogs that are lost or damaged.

use std::path::Path;

use sqlx::Connection as _;

use super::{Day, OWN, kill, own, stop, warnings};
use crate::support::noise;

/// What is done to a file.
type Damage = fn(&Path);

fn gone(file: &Path) {
    std::fs::remove_file(file).unwrap();
}

fn empty(file: &Path) {
    std::fs::write(file, "").unwrap();
}

fn garbage(file: &Path) {
    std::fs::write(file, noise(50_000, 3)).unwrap();
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

/// A page in the middle is another's.
fn flipped(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    for at in [1, 3, 6] {
        let page = at * 4096..(at + 1) * 4096;
        bytes[page].copy_from_slice(&noise(4096, at as u64));
    }
    std::fs::write(file, bytes).unwrap();
}

fn a_folder(file: &Path) {
    gone(file);
    std::fs::create_dir(file).unwrap();
}

/// What came last is not there.
fn without_its_wal(file: &Path) {
    let wal = format!("{}-wal", file.display());
    std::fs::remove_file(wal).unwrap();
}

/// The cache's catalog is begun anew, and nothing is lost.
async fn cache_is_begun_anew(damage: Damage, is_laid_aside: bool, is_killed: bool) {
    let day = Day::new("min_free = 0\n").await;
    let served = day.begin().await;
    assert!(day.setup.run(&["pin", "npm:kept"]).await.status.success());
    if is_killed {
        kill(served).await;
    } else {
        stop(served).await;
    }
    damage(&day.at("larder.sqlite"));
    let served = day.setup.serve().await;
    day.has_what_it_had(&served).await;
    day.passes_on(&served, "cold").await;
    day.put(&served, "late").await.expect(201);
    // The name stays on our side.
    day.upstream.forget_seen();
    let document = day.get(&served, "/npm/team/acme").await.expect(200);
    assert!(document.text().contains("1.0.0"));
    assert_eq!(day.upstream.count("/npm/acme"), 0);
    let output = day.setup.run(&["gc"]).await;
    assert!(output.status.success());
    let pins = day.setup.run(&["pin", "--json"]).await;
    assert!(String::from_utf8_lossy(&pins.stdout).contains("npm:kept"));
    assert_eq!(day.get(&served, OWN).await.expect(200).body, own("acme"));
    let aside = day.at("larder.sqlite.damaged").exists();
    assert_eq!(aside, is_laid_aside);
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_gone() {
    cache_is_begun_anew(gone, false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_empty() {
    cache_is_begun_anew(empty, false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_with_flipped_bits() {
    cache_is_begun_anew(flipped, true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_cut_short() {
    cache_is_begun_anew(cut, true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_that_is_no_database() {
    cache_is_begun_anew(garbage, true, false).await;
    cache_is_begun_anew(a_folder, true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_without_its_wal() {
    cache_is_begun_anew(without_its_wal, false, true).await;
}

/// The start is refused; it says what to do, and nothing is changed by it.
async fn packages_stop_the_start(damage: Damage, is_killed: bool, words: &[&str]) {
    let day = Day::on_sqlite("min_free = 0\n").await;
    let served = day.begin().await;
    // A copy, as an operator has one.
    let copy = day.setup.folder.path().join("copy");
    if is_killed {
        kill(served).await;
    } else {
        stop(served).await;
    }
    let file = day.at("packages.sqlite");
    let wal = day.at("packages.sqlite-wal");
    std::fs::copy(&file, &copy).unwrap();
    let kept_wal = std::fs::read(&wal).ok();
    damage(&file);
    for _ in 0..2 {
        let said = day.refuses_to_start().await;
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("remove this"), "{said}");
    }
    assert!(day.blob(&own("acme")).exists());
    // With the copy in its place all is as it was.
    std::fs::copy(&copy, &file).unwrap();
    if let Some(bytes) = kept_wal {
        std::fs::write(&wal, bytes).unwrap();
    }
    let served = day.setup.serve().await;
    day.has_what_it_had(&served).await;
    stop(served).await;
}

const BRING_IT_BACK: &str = "ring it back from a copy";

#[tokio::test(flavor = "multi_thread")]
async fn packages_gone() {
    let words = [
        "packages.sqlite",
        "it is gone",
        BRING_IT_BACK,
        "packages.id",
    ];
    packages_stop_the_start(gone, false, &words).await;
    packages_stop_the_start(gone, true, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_empty() {
    let words = ["packages.sqlite", "empty", BRING_IT_BACK];
    packages_stop_the_start(empty, false, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_with_flipped_bits() {
    let words = ["packages.sqlite", "damaged", BRING_IT_BACK];
    packages_stop_the_start(flipped, false, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_cut_short() {
    let words = ["packages.sqlite", "damaged", BRING_IT_BACK];
    packages_stop_the_start(cut, false, &words).await;
    packages_stop_the_start(garbage, false, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_without_their_wal() {
    let words = ["packages.sqlite-wal", BRING_IT_BACK, "packages.open"];
    packages_stop_the_start(without_its_wal, true, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_of_another_directory() {
    let day = Day::on_sqlite("min_free = 0\n").await;
    stop(day.begin().await).await;
    let other = Day::on_sqlite("min_free = 0\n").await;
    stop(other.begin().await).await;
    let file = day.at("packages.sqlite");
    std::fs::copy(other.at("packages.sqlite"), &file).unwrap();
    let said = day.refuses_to_start().await;
    assert!(said.contains("another one than last time's"), "{said}");
    // An operator who means it says so.
    std::fs::remove_file(day.at("packages.id")).unwrap();
    stop(day.setup.serve().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_of_a_newer_larder() {
    let day = Day::on_sqlite("min_free = 0\n").await;
    stop(day.begin().await).await;
    let url = format!("sqlite://{}", day.at("packages.sqlite").display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations SELECT 9999, 'future', installed_on, success, checksum, execution_time \
         FROM _sqlx_migrations LIMIT 1",
    )
    .execute(&mut database)
    .await
    .unwrap();
    database.close().await.unwrap();
    let said = day.refuses_to_start().await;
    assert!(said.contains("a newer version of Larder"), "{said}");
    std::fs::write(day.at("larder.form"), "1000").unwrap();
    let said = day.refuses_to_start().await;
    assert!(said.contains("form 1000"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_the_catalog_closed() {
    let day = Day::new("min_free = 0\n").await;
    kill(day.begin().await).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = day.setup.run(&["serve", "--listen", &address]).await;
    assert_eq!(output.status.code(), Some(1));
    let served = day.setup.serve().await;
    day.has_what_it_had(&served).await;
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_a_document_named_outlive_the_catalog() {
    const ROOT: &str = "http://packages.example";
    let day = Day::new("min_free = 0\n").await;
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    // A rendering is used again under the same address alone.
    let text = text.replace("rendered_disk = 0", "rendered_disk = \"16MiB\"");
    day.setup
        .configure(&format!("public_url = \"{ROOT}\"\n{text}"));
    crate::support::nuget::serve(&day.upstream);
    for _ in 0..3 {
        let served = day.setup.serve().await;
        let pages = day
            .get(&served, "/nuget/public/v3/vulnerabilities/index.json")
            .await;
        let pages: serde_json::Value = serde_json::from_slice(&pages.expect(200).body).unwrap();
        let address = pages[0]["@id"].as_str().unwrap();
        let path = address.strip_prefix(ROOT).unwrap();
        assert!(path.contains("/v3/elsewhere/"), "{path}");
        day.get(&served, path).await.expect(200);
        let log = stop(served).await;
        assert!(warnings(&log, "addresses").is_empty(), "{log}");
        gone(&day.at("larder.sqlite"));
    }
}
