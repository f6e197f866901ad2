//! The way back: a backup while packages are published, the original destroyed, and everything served
//! again from another directory, and another database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder::access::manage::AccessCommand;
use larder::config::{Learned, load};
use larder::repository::upkeep::{UpkeepCommand, UpkeepOutcome};
use larder::store::CopyProgress;
use larder::store::backup::{BackupReport, EarlierFiles, Restored, restore};
use larder::task::Tasks;
use tempfile::TempDir;

use super::confusion::{attack, ours};
use super::{TEAM, npm_document, npm_put, npm_versions};
use crate::command::Setup;
use crate::support::database::on_sqlite;
use crate::support::larder::{IMPATIENT, config, source};
use crate::support::npm::{publish, tarball, version};
use crate::support::postgres::Postgres;
use crate::support::tool::said;
use crate::support::{KIB, TestLarder, Upstream, noise};

/// Files and documents of `ours`, and of what else is published here.
const OURS: [&str; 9] = [
    "/npm/team/acme-lib",
    "/npm/team/acme-lib/-/acme-lib-1.0.0.tgz",
    "/pypi/team/simple/acme-lib/",
    "/nuget/team/v3/flat/acme.lib/index.json",
    "/nuget/team/v3/flat/acme.lib/1.0.0/acme.lib.1.0.0.nupkg",
    "/nuget/team/v3/registration/acme.lib/index.json",
    "/maven/team/org/acme/lib/maven-metadata.xml",
    "/maven/team/org/acme/lib/1/lib-1.jar",
    "/maven/team/org/acme/lib/1/lib-1.jar.sha1",
];

pub fn text(upstream: &Upstream, more: &str) -> String {
    format!("{}{TEAM}{more}", config(upstream, IMPATIENT))
}

/// A table that names the database; its address comes from a file.
pub fn database(folder: &TempDir, url: &str) -> String {
    let file = folder.path().join("database");
    std::fs::write(&file, url).unwrap();
    format!(
        "[packages]\ndatabase = {{ file = \"{}\" }}\n",
        file.display()
    )
}

pub async fn back_up(larder: &TestLarder, folder: &Path) -> BackupReport {
    back_up_and(larder, folder, EarlierFiles::Trust).await
}

async fn back_up_and(larder: &TestLarder, folder: &Path, earlier: EarlierFiles) -> BackupReport {
    let out = folder.to_owned();
    let command = UpkeepCommand::Backup { out, earlier };
    let outcome = larder.larder.upkeep(command).await.unwrap();
    let UpkeepOutcome::BackedUp(report) = outcome else {
        panic!("{outcome:?}");
    };
    *report
}

/// Why no backup is made.
pub(super) async fn try_back_up(larder: &TestLarder, out: &Path) -> Result<(), String> {
    let out = out.to_owned();
    let earlier = EarlierFiles::Trust;
    let command = UpkeepCommand::Backup { out, earlier };
    let outcome = larder.larder.upkeep(command).await;
    outcome.map(drop).map_err(|problem| problem.to_string())
}

/// Restores into the directory, and says why not where it does not.
pub(super) async fn try_restore(from: &Path, text: &str, into: &Path) -> Result<Restored, String> {
    let source = source(text, into);
    let learned = Learned {
        data_dir: Some(into.to_owned()),
        ..Learned::default()
    };
    let config = Arc::new(load(&source, &learned).unwrap_or_else(|faults| panic!("{faults}")));
    let progress = Arc::<CopyProgress>::default();
    let restored = restore(from, &config, &Tasks::default(), &progress).await;
    restored.map_err(|error| error.to_string())
}

/// A Larder on what was restored.
pub(super) async fn restored(from: &Path, text: &str) -> TestLarder {
    let data = TempDir::new().unwrap();
    try_restore(from, text, data.path()).await.unwrap();
    TestLarder::in_dir(text, data).await
}

/// What clients are answered, without the address that they asked at.
pub async fn answers(larder: &TestLarder) -> Vec<String> {
    let mut answers = Vec::new();
    for path in OURS {
        let bytes = larder.get(path).await.expect(200).bytes().clone();
        let text = String::from_utf8_lossy(&bytes).replace(&larder.url, "");
        answers.push(format!("{path} {text}"));
    }
    let command = AccessCommand::TokenList;
    let tokens = larder.larder.administer(command).await.unwrap();
    answers.push(serde_json::to_string(&tokens).unwrap());
    let pins = larder.larder.upkeep(UpkeepCommand::Pins).await.unwrap();
    let UpkeepOutcome::Pins { pins, .. } = pins else {
        panic!("{pins:?}");
    };
    answers.push(serde_json::to_string(&pins).unwrap());
    answers
}

/// The rows of a backup but for when its catalog was opened and what each start writes, in an order of
/// their own.
pub fn rows(backup: &Path) -> Vec<String> {
    let mut entries = std::fs::read_dir(backup).unwrap().flatten();
    let file = entries.find(|it| it.file_name().to_string_lossy().starts_with("rows-"));
    let file = std::fs::File::open(file.unwrap().path()).unwrap();
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.retain(|row| !row.starts_with("[\"catalog\"") && !row.starts_with("[\"access_state\""));
    rows.sort_unstable();
    rows
}

/// Packages in four formats, a tag, a token, a policy, a pin, and a name that is known outside.
pub async fn furnish(upstream: &Upstream, larder: &TestLarder) {
    publish(upstream, "left-pad", &[version("1.3.0", &[])]);
    ours(larder).await;
    let tag = "/npm/team/-/package/acme-lib/dist-tags/beta";
    let headers = [("content-type", "application/json")];
    let put = reqwest::Method::PUT;
    let tagged = larder.send(put, tag, &headers, Some("\"1.0.0\"".into()));
    assert!(tagged.await.status < 300);
    for command in [
        AccessCommand::TokenCreate {
            principal: "ci".to_owned(),
            note: "of the build".to_owned(),
            expires_in: None,
        },
        AccessCommand::KeyCreate {
            principal: "ci".to_owned(),
        },
    ] {
        larder.larder.administer(command).await.unwrap();
    }
    let patterns = vec!["npm:left-pad".to_owned()];
    let pin = UpkeepCommand::Pin { patterns };
    larder.larder.upkeep(pin).await.unwrap();
    let outside = "/npm/team/left-pad/-/left-pad-1.3.0.tgz";
    larder.get(outside).await.expect(200);
    larder.larder.store.flush().await;
}

pub async fn publish_one(larder: &TestLarder, name: &str, version: &str) -> u16 {
    let tarball = tarball(name, version, &[]);
    let document = npm_document(name, version, &tarball);
    npm_put(larder, name, document).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_packages_are_published_brings_back_everything() {
    let upstream = Upstream::start().await;
    let text = text(&upstream, "");
    let larder = TestLarder::with(&text).await;
    furnish(&upstream, &larder).await;
    for number in 0..5 {
        let version = format!("1.{number}.0");
        assert_eq!(publish_one(&larder, "acme-busy", &version).await, 201);
    }
    let folder = TempDir::new().unwrap();
    let backup = folder.path().join("backup");

    let publishing = async {
        for number in 5..25 {
            let version = format!("1.{number}.0");
            assert_eq!(publish_one(&larder, "acme-busy", &version).await, 201);
        }
    };
    let (first, ()) = tokio::join!(back_up(&larder, &backup), publishing);
    assert!(first.copied_files >= 9, "{first:?}");
    assert!(first.lost.is_empty(), "{first:?}");
    let meanwhile = restored(&backup, &text).await;
    let versions = npm_versions(&meanwhile, "acme-busy").await;
    assert!(versions.len() >= 5, "{versions:?}");
    for version in &versions {
        let path = format!("/npm/team/acme-busy/-/acme-busy-{version}.tgz");
        let file = meanwhile.get(&path).await.expect(200);
        assert_eq!(file.bytes(), &tarball("acme-busy", version, &[]));
    }
    drop(meanwhile);

    // What is new is copied, and nothing else.
    back_up(&larder, &backup).await;
    assert_eq!(publish_one(&larder, "acme-late", "1.0.0").await, 201);
    let third = back_up(&larder, &backup).await;
    let new = tarball("acme-late", "1.0.0", &[]).len() as u64;
    assert_eq!((third.copied_files, third.copied_bytes), (1, new));
    println!(
        "{} files of {} bytes; another backup after one publish copies {} bytes and {} of rows",
        third.files, third.bytes, third.copied_bytes, third.rows_bytes
    );

    let before = answers(&larder).await;
    let rows_before = rows(&backup);
    drop(larder.stop().await);
    let again = restored(&backup, &text).await;
    assert_eq!(answers(&again).await, before);
    assert_eq!(npm_versions(&again, "acme-busy").await.len(), 25);

    // Names stay on their sides.
    attack(&upstream);
    upstream.forget_seen();
    assert_eq!(npm_versions(&again, "acme-lib").await, ["1.0.0"]);
    assert!(upstream.seen().is_empty());
    assert_eq!(publish_one(&again, "left-pad", "9.0.0").await, 403);

    let other = folder.path().join("other");
    back_up(&again, &other).await;
    assert_eq!(rows(&other), rows_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_one_database_to_the_other_and_back() {
    let postgres = Postgres::start(&[]).await;
    let upstream = Upstream::start().await;
    let folder = TempDir::new().unwrap();
    let backup = |name: &str| folder.path().join(name);
    let sqlite = on_sqlite(&text(&upstream, ""));
    let remote = text(&upstream, &database(&folder, &postgres.url));

    let larder = TestLarder::with(&sqlite).await;
    furnish(&upstream, &larder).await;
    let before = answers(&larder).await;
    back_up(&larder, &backup("1")).await;
    drop(larder.stop().await);

    let larder = restored(&backup("1"), &remote).await;
    assert_eq!(answers(&larder).await, before);
    back_up(&larder, &backup("2")).await;
    assert_eq!(rows(&backup("2")), rows(&backup("1")));
    assert_eq!(publish_one(&larder, "acme-late", "1.0.0").await, 201);
    // The data directory is lost, and the database is not: it knows more than the backup.
    drop(larder.stop().await);
    let larder = restored(&backup("2"), &remote).await;
    assert_eq!(answers(&larder).await, before);
    assert_eq!(npm_versions(&larder, "acme-late").await, ["1.0.0"]);
    drop(larder.stop().await);

    let larder = restored(&backup("2"), &sqlite).await;
    assert_eq!(answers(&larder).await, before);
    drop(larder.stop().await);

    // A database with packages of others is left as it is.
    let url = postgres.database("others").await;
    let others = text(&upstream, &database(&folder, &url));
    let larder = TestLarder::with(&others).await;
    assert_eq!(publish_one(&larder, "theirs", "1.0.0").await, 201);
    drop(larder.stop().await);
    let into = TempDir::new().unwrap();
    let refusal = try_restore(&backup("2"), &others, into.path()).await;
    let refusal = refusal.unwrap_err();
    assert!(refusal.contains("restore into an empty one"), "{refusal}");
}

/// The files of a backup's packages.
fn blobs(backup: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(backup.join("blobs")).unwrap().flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
    let mut files: Vec<PathBuf> = files.map(|file| file.path()).collect();
    files.sort_unstable();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_damaged_cut_or_newer_is_refused_with_a_word() {
    let upstream = Upstream::start().await;
    let text = text(&upstream, "");
    let larder = TestLarder::with(&text).await;
    ours(&larder).await;
    let folder = TempDir::new().unwrap();
    let backup = folder.path().join("backup");
    back_up(&larder, &backup).await;
    let refusal = async |into: &Path| try_restore(&backup, &text, into).await.unwrap_err();

    let file = blobs(&backup).remove(0);
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[0] ^= 1;
    for damage in [Some(bad.as_slice()), Some(&good[1..]), None] {
        match damage {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let into = TempDir::new().unwrap();
        let refused = refusal(into.path()).await;
        assert!(refused.contains(&file.display().to_string()), "{refused}");
        // An empty catalog would open our names to the outside.
        let setup = Setup::new(&text);
        let data = into.path().display().to_string();
        let started = setup.run(&["serve", "--data-dir", &data]).await;
        assert!(!started.status.success());
        let started = said(&started);
        assert!(started.contains("larder restore"), "{started}");
        // The file is brought back, and the restore goes on.
        std::fs::write(&file, &good).unwrap();
        try_restore(&backup, &text, into.path()).await.unwrap();
        let refused = refusal(into.path()).await;
        assert!(refused.contains("is not empty"), "{refused}");
    }

    // One that is cut off leaves the one before as it was, and the next one sweeps.
    let cut = [backup.join("rows-cut.jsonl.zst"), backup.join("partial")];
    for file in &cut {
        std::fs::write(file, "half").unwrap();
    }
    let into = TempDir::new().unwrap();
    try_restore(&backup, &text, into.path()).await.unwrap();
    back_up(&larder, &backup).await;
    assert!(cut.iter().all(|file| !file.exists()));

    // The next backup mends the one before, where it is asked to look.
    let mut bad = good.clone();
    bad[0] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    assert_eq!(back_up(&larder, &backup).await.copied_files, 0);
    let mended = back_up_and(&larder, &backup, EarlierFiles::Verify).await;
    assert_eq!(
        (mended.copied_files, std::fs::read(&file).unwrap()),
        (1, good)
    );

    let rows = |it: &PathBuf| it.extension().is_some_and(|it| it == "zst");
    let entries = std::fs::read_dir(&backup).unwrap().flatten();
    let rows = entries.map(|it| it.path()).find(rows).unwrap();
    let manifest = backup.join("backup.json");
    for (file, change, word) in [
        (&rows, "flip", "is damaged: its file rows-"),
        (&rows, "cut", "is damaged: its file rows-"),
        (&rows, "remove", "has lost its file rows-"),
        (&manifest, "flip", "is damaged: its file backup.json"),
        (&manifest, "cut", "is damaged: its file backup.json"),
        (&manifest, "remove", "was cut off"),
        (&manifest, "newer", "is of a newer Larder"),
    ] {
        let good = std::fs::read(file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        match change {
            "flip" => bad[middle] ^= 1,
            "cut" => bad.truncate(middle),
            "newer" => bad = String::from_utf8(bad).unwrap().replacen('1', "2", 1).into(),
            _ => {}
        }
        std::fs::remove_file(file).unwrap();
        if change != "remove" {
            std::fs::write(file, bad).unwrap();
        }
        let into = TempDir::new().unwrap();
        let refused = refusal(into.path()).await;
        assert!(refused.contains(word), "{change}: {refused}");
        let mut left = std::fs::read_dir(into.path()).unwrap();
        assert!(left.next().is_none(), "nothing is begun");
        std::fs::write(file, good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_back_up_with_and_without_a_server_and_say_what_is_the_matter() {
    let upstream = Upstream::start().await;
    let key = "[encryption]\nkey = { env = \"MASTER\" }\n";
    // Its data directory takes another one's place.
    let setup = Setup::new(&on_sqlite(&text(&upstream, key)));
    let master = [("MASTER", "B4Zk0yO8bXl0Wm0zqvC7bqZ2u9b6m3m3Q1xw1p0V9sE=")];
    let run = async |arguments: &[&str]| {
        let mut command = setup.command(arguments);
        command.envs(master).output().await.unwrap()
    };
    let out = setup.at("backup");
    let told = said(&run(&["check"]).await);
    assert!(told.contains("backup  there is none"), "{told}");

    let served = setup.serve_with(&master).await;
    let secret = noise(80 * KIB, 7);
    let put = async |version: &str, content: &[u8]| {
        let path = format!("{}/maven/team/org/acme/lib/{version}", served.url);
        let http = reqwest::Client::new();
        let jar = http.put(format!("{path}/lib-{version}.jar"));
        let sent = jar.body(content.to_vec()).send().await.unwrap();
        assert_eq!(sent.status(), 201);
        let end = format!(
            "<metadata><versioning><versions><version>{version}</version></versions></versioning></metadata>"
        );
        let metadata = http.put(format!(
            "{}/maven/team/org/acme/lib/maven-metadata.xml",
            served.url
        ));
        let sent = metadata.body(end).send().await.unwrap();
        assert_eq!(sent.status(), 201);
    };
    put("1", &secret).await;
    let made = run(&["backup", "--out", &out, "--json"]).await;
    assert!(made.status.success(), "{}", said(&made));
    let report: BackupReport = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((report.versions, report.sealed), (1, report.files));
    for file in blobs(Path::new(&out)) {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(64).any(|it| it == &secret[100..164]));
    }
    let told = said(&run(&["check"]).await);
    assert!(told.contains("backup  the last one is "), "{told}");
    let metrics = reqwest::get(format!("{}/-/metrics", served.url)).await;
    let metrics = metrics.unwrap().text().await.unwrap();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("larder_last_backup_timestamp_seconds "));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");
    drop(served);
    crate::support::until("the server is gone", async || {
        larder::store::holder(Path::new(&setup.at("data"))).is_none()
    })
    .await;

    // Nobody serves now; the folder has all of it.
    let made = run(&["backup", "--out", &out]).await;
    let told = said(&made);
    assert!(made.status.success(), "{told}");
    assert!(told.contains("0 of them new"), "{told}");
    assert!(told.contains("which is not in the backup"), "{told}");
    assert!(said(&run(&["report"]).await).contains("backup: the last one is "));

    for (folder, word) in [
        (setup.at("data/backup"), "within the data directory"),
        (setup.at(""), "which is none of a backup"),
    ] {
        let refused = run(&["backup", "--out", &folder]).await;
        assert_eq!(refused.status.code(), Some(1));
        let refused = said(&refused);
        assert!(refused.contains(word), "{refused}");
    }

    let restore = ["restore", "--from", &out, "--data-dir"];
    let into = setup.at("restored");
    let wrong = setup.command(&[&restore[..], &[&into]].concat());
    let mut wrong = wrong;
    wrong.env(
        "MASTER",
        "0000000000000000000000000000000000000000000000000000000000000001",
    );
    let refused = said(&wrong.output().await.unwrap());
    assert!(refused.contains("under another key"), "{refused}");
    let done = run(&[&restore[..], &[&into]].concat()).await;
    assert!(done.status.success(), "{}", said(&done));
    std::fs::rename(setup.at("data"), setup.at("lost")).unwrap();
    std::fs::rename(&into, setup.at("data")).unwrap();
    let served = setup.serve_with(&master).await;
    let path = format!("{}/maven/team/org/acme/lib/1/lib-1.jar", served.url);
    let answer = reqwest::get(path).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), secret);
    drop(served);

    // A file that is gone is named, and the rest is there.
    let other = setup.at("other");
    let file = blobs(Path::new(&out)).remove(0);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let blob = Path::new(&setup.at("lost/blobs/sha256")).join(&name[..2]);
    std::fs::remove_file(blob.join(&name)).unwrap();
    let lost = ["--data-dir", &setup.at("lost")];
    let made = run(&[&["backup", "--out", &other], &lost[..]].concat()).await;
    assert_eq!(made.status.code(), Some(1));
    let told = said(&made);
    assert!(
        told.contains("is damaged or gone, and not in the backup"),
        "{told}"
    );
    assert!(told.contains("maven:org.acme:lib"), "{told}");
    let done = run(&[
        "restore",
        "--from",
        &other,
        "--data-dir",
        &setup.at("again"),
    ])
    .await;
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
}
