//! The store and its use: pinned, retained, verified, swept, reported.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::told;
use crate::command::Setup;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::tool::said;
use crate::support::until;
use crate::support::{Reply, Upstream, noise, sha256};

const KIB: usize = 1024;

/// An upstream with twelve jars of 50 KiB, and a Larder with room for four of them.
async fn crowded(more: &str) -> (Upstream, Setup) {
    let upstream = Upstream::start().await;
    for number in 0..12 {
        let path = format!("/maven2/g/jar-{number}/1/jar-{number}-1.jar");
        upstream.put(&path, Reply::bytes(jar(number)));
    }
    let small = IMPATIENT.replace("[cache]", "[cache]\nmax_size = \"200KiB\"");
    let setup = Setup::new(&format!("{}{more}", config(&upstream, &small)));
    (upstream, setup)
}

fn jar(number: u64) -> Vec<u8> {
    noise(50 * KIB, number + 1)
}

fn blob(setup: &Setup, bytes: &[u8]) -> PathBuf {
    let name = sha256(bytes);
    Path::new(&setup.at("data/blobs/sha256"))
        .join(&name[..2])
        .join(&name)
}

async fn get(url: &str, repository: &str, number: u64) {
    let path = format!("{url}/maven/{repository}/g/jar-{number}/1/jar-{number}-1.jar");
    let answer = reqwest::get(path).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap().len(), 50 * KIB);
}

/// Takes so much that everything which may be evicted is.
async fn crowd(url: &str, repository: &str, setup: &Setup, sure: u64) {
    for number in 2..12 {
        get(url, repository, number).await;
    }
    until("the oldest file is evicted", async || {
        get(url, repository, 11).await;
        !blob(setup, &jar(sure)).exists()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_is_never_evicted_until_it_is_unpinned() {
    let (_upstream, setup) = crowded("").await;
    let served = setup.serve().await;
    for number in [0, 1] {
        get(&served.url, "public", number).await;
    }
    let pins = told(&setup, &["pin", "maven:g:jar-0@1", "maven:g:later"]).await;
    assert_eq!(pins["kept"]["files"], 1, "{pins}");
    let output = setup.run(&["pin", "maven"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    crowd(&served.url, "public", &setup, 1).await;
    assert!(blob(&setup, &jar(0)).exists());
    let pins = told(&setup, &["unpin", "maven:g:jar-0@1"]).await;
    assert_eq!(
        (
            &pins["kept"]["files"],
            pins["pins"].as_array().unwrap().len()
        ),
        (&0.into(), 1)
    );
    crowd(&served.url, "public", &setup, 0).await;
    let output = setup.run(&["unpin", "maven:g:jar-0@1"]).await;
    assert!(said(&output).contains("is not pinned"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_retains_evicts_nothing_also_after_a_start() {
    let keeping = "[[repository]]\nname = \"keeping\"\nretain = true\nexternal_connections = [\"kept\"]\n[[repository]]\nname = \"other\"\nexternal_connections = [\"up:maven\"]\n";
    let (upstream, setup) = crowded("").await;
    let url = upstream.url();
    let text = std::fs::read_to_string(setup.at("larder.toml")).unwrap();
    // Its credential makes it a registry of its own.
    let with_credential = url.replace("http://", "http://ci:kept@");
    let kept = format!(
        "{text}[[connection]]\nname = \"kept\"\nformat = \"maven\"\nurl = \"{with_credential}/maven2/\"\n{keeping}"
    );
    setup.configure(&kept);
    let served = setup.serve().await;
    get(&served.url, "keeping", 0).await;
    get(&served.url, "other", 1).await;
    crowd(&served.url, "other", &setup, 1).await;
    assert!(blob(&setup, &jar(0)).exists());
    drop(served);
    super::bundle::wait_until_free(&setup).await;
    // It retains no more: what it had is like everything else.
    setup.configure(&kept.replace("retain = true\n", ""));
    let served = setup.serve().await;
    crowd(&served.url, "other", &setup, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_found_and_fetched_again() {
    let upstream = Upstream::start().await;
    for number in 0..6 {
        let path = format!("/maven2/g/jar-{number}/1/jar-{number}-1.jar");
        upstream.put(&path, Reply::bytes(jar(number)));
    }
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    for number in 0..6 {
        get(&served.url, "public", number).await;
    }
    drop(served);
    super::bundle::wait_until_free(&setup).await;
    let whole = told(&setup, &["verify"]).await;
    assert_eq!(whole["damaged"].as_array().unwrap().len(), 0, "{whole}");
    let flipped = blob(&setup, &jar(2));
    let mut bytes = std::fs::read(&flipped).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&flipped, bytes).unwrap();
    std::fs::remove_file(blob(&setup, &jar(3))).unwrap();
    let output = setup.run(&["verify", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut words: Vec<String> = found["damaged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!(
                "{} {}",
                it["found"].as_str().unwrap(),
                it["assets"][0].as_str().unwrap()
            )
        })
        .collect();
    words.sort();
    assert_eq!(
        words,
        [
            "damaged maven:g:jar-2/1/jar-2-1.jar",
            "gone maven:g:jar-3/1/jar-3-1.jar"
        ]
    );
    // Through the running server, which has it open.
    let served = setup.serve().await;
    get(&served.url, "public", 2).await;
    let repaired = told(&setup, &["verify", "--repair", "--rate", "10MiB"]).await;
    assert!(
        repaired["damaged"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| it["is_repaired"] == true),
        "{repaired}"
    );
    for number in [2, 3] {
        assert_eq!(
            std::fs::read(blob(&setup, &jar(number))).unwrap(),
            jar(number)
        );
    }
    let again = told(&setup, &["verify", "--anew"]).await;
    assert_eq!(
        (&again["damaged"], &again["checked"]),
        (&Value::Array(Vec::new()), &whole["checked"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_is_taken_away_and_nothing_else() {
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    std::fs::write(setup.at("needs.txt"), "npm:left-pad@1.3.0\n").unwrap();
    told(&setup, &["warm", &setup.at("needs.txt")]).await;
    let stray = Path::new(&setup.at("data/blobs/sha256")).join("00");
    std::fs::create_dir_all(&stray).unwrap();
    let stray = stray.join("00".repeat(32));
    std::fs::write(&stray, "nobody knows me").unwrap();
    // What is young may be on its way.
    let waste = told(&setup, &["gc", "--dry-run"]).await;
    assert_eq!(waste["waste"]["stray"], 0, "{waste}");
    let old = std::fs::FileTimes::new()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200));
    std::fs::File::options()
        .write(true)
        .open(&stray)
        .unwrap()
        .set_times(old)
        .unwrap();
    let waste = told(&setup, &["gc", "--dry-run"]).await;
    assert_eq!(
        (&waste["waste"]["stray"], &waste["waste"]["unnamed"]),
        (&1.into(), &0.into())
    );
    assert!(stray.exists());
    told(&setup, &["gc"]).await;
    assert!(!stray.exists());
    let warm = told(&setup, &["warm", &setup.at("needs.txt")]).await;
    assert_eq!(warm["present"], 1, "{warm}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_never_taken_away_though_the_cache_forgot_it() {
    let (_upstream, setup, _) = super::bundle::full().await;
    for file in ["larder.sqlite", "larder.sqlite-wal", "larder.sqlite-shm"] {
        let _ = std::fs::remove_file(setup.at(&format!("data/{file}")));
    }
    let old = std::fs::FileTimes::new()
        .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200));
    for folder in std::fs::read_dir(setup.at("data/blobs/sha256")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = std::fs::File::options()
                .write(true)
                .open(file.unwrap().path());
            file.unwrap().set_times(old).unwrap();
        }
    }
    let waste = told(&setup, &["gc"]).await;
    assert!(waste["waste"]["stray"].as_u64().unwrap() >= 3, "{waste}");
    let served = setup.serve().await;
    let own = format!("{}/npm/team/acme-own/-/acme-own-1.0.0.tgz", served.url);
    let answer = reqwest::get(own).await.unwrap();
    assert_eq!(answer.status(), 200);
    let bytes = answer.bytes().await.unwrap();
    // And it is read through with all else: what is lost is told by name.
    let whole = told(&setup, &["verify", "--anew"]).await;
    assert!(whole["checked"].as_u64() >= Some(1), "{whole}");
    assert_eq!(whole["damaged"], Value::Array(Vec::new()));
    let file = blob(&setup, &bytes);
    let mut other = bytes.to_vec();
    other[0] ^= 1;
    std::fs::write(&file, other).unwrap();
    let verified = setup.run(&["verify", "--anew"]).await;
    assert_eq!(verified.status.code(), Some(1));
    let said = said(&verified);
    assert!(
        said.contains("npm:acme-own/") && said.contains("nowhere to be fetched from"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_what_was_served_fetched_and_saved_and_who_took_it() {
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    let tarball = format!("{}/npm/public/left-pad/-/left-pad-1.3.0.tgz", served.url);
    let mut size = 0;
    for _ in 0..10 {
        size = reqwest::get(&tarball)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            .len();
    }
    let absent = format!("{}/npm/public/absent", served.url);
    assert_eq!(reqwest::get(&absent).await.unwrap().status(), 404);
    let report = told(&setup, &["report"]).await;
    let traffic = &report["traffic"][0];
    assert_eq!(
        (&traffic["repository"], &traffic["format"]),
        (&"public".into(), &"npm".into())
    );
    assert_eq!(
        (&traffic["requests"], &traffic["hits"], &traffic["failures"]),
        (&11.into(), &9.into(), &1.into())
    );
    let day = traffic["day"].as_str().unwrap();
    assert!(day.parse::<jiff::civil::Date>().is_ok(), "{day}");
    assert!(traffic["served"].as_u64().unwrap() >= 10 * size as u64);
    let fetched = report["egress"][0]["bytes"].as_u64().unwrap();
    assert!(
        fetched >= size as u64 && fetched < traffic["served"].as_u64().unwrap(),
        "{report}"
    );
    assert_eq!(report["largest"][0]["package"], "npm:left-pad");
    let pulls = told(&setup, &["who", "npm:left-pad@1.3.0"]).await;
    assert_eq!(
        (&pulls["pulls"][0]["who"], &pulls["pulls"][0]["times"]),
        (&"127.0.0.1".into(), &10.into())
    );
    for time in [
        &pulls["pulls"][0]["last_at"],
        &report["largest"][0]["last_used"],
    ] {
        let time = time.as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let nobody = setup.run(&["who", "npm:left-pad@9.9.9"]).await;
    assert!(
        said(&nobody).contains("nobody has taken"),
        "{}",
        said(&nobody)
    );
    drop(served);
    super::bundle::wait_until_free(&setup).await;
    // And after a restart, as a table and as values.
    let table = said(&setup.run(&["report", "--by", "day"]).await);
    assert!(
        table.starts_with("day ") && table.contains("largest packages"),
        "{table}"
    );
    let values = said(&setup.run(&["report", "--csv"]).await);
    assert!(
        values.starts_with(
            "format,requests,hits %,failures,served,fetches,fetched,saved\nnpm,11,81.8,1,"
        ),
        "{values}"
    );
    let who = said(&setup.run(&["who", "npm:left-pad", "--csv"]).await);
    assert!(who.contains(",127.0.0.1,1.3.0,public,10"), "{who}");
    println!("{table}");
}
