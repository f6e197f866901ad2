//! Blobs sealed on the disk: served as if they lay plain, unreadable without the key.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Served, Setup};
use crate::publish::{TEAM, npm_document};
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::said;
use crate::support::until;
use crate::support::{Fault, KIB, Reply, Upstream, noise, sha1};

const JAR: &str = "/maven2/org/x/big/1/big-1.jar";
const KEY: &str = "B4Zk0yO8bXl0Wm0zqvC7bqZ2u9b6m3m3Q1xw1p0V9sE=";
const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000001";

/// An upstream with a jar of some chunks.
async fn upstream() -> (Upstream, Vec<u8>) {
    let upstream = Upstream::start().await;
    let jar = noise(700 * KIB + 13, 5);
    upstream.put(JAR, Reply::bytes(jar.clone()));
    let sum = Reply::typed("text/plain", sha1(&jar));
    upstream.put(&format!("{JAR}.sha1"), sum);
    (upstream, jar)
}

fn plain(upstream: &Upstream) -> String {
    format!("{}{TEAM}", config(upstream, IMPATIENT))
}

fn sealed(setup: &Setup, upstream: &Upstream, keys: &[(&str, &str)]) -> String {
    let mut text = format!("{}[encryption]\n", plain(upstream));
    for (name, key) in keys {
        std::fs::write(setup.at(name), key).unwrap();
        text.push_str(&format!("{name} = {{ file = \"{}\" }}\n", setup.at(name)));
    }
    text
}

async fn get(served: &Served, range: Option<&str>) -> (u16, Bytes) {
    let url = format!("{}/maven/team/org/x/big/1/big-1.jar", served.url);
    let mut request = reqwest::Client::new().get(url);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap())
}

async fn publish(served: &Served, tarball: &[u8]) {
    let answer = reqwest::Client::new()
        .put(format!("{}/npm/team/acme", served.url))
        .header("content-type", "application/json")
        .body(npm_document("acme", "1.0.0", tarball))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

async fn published(served: &Served) -> Bytes {
    let url = format!("{}/npm/team/acme/-/acme-1.0.0.tgz", served.url);
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap()
}

/// A tarball with bytes that do not compress.
fn tarball() -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::none(),
    ));
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    add(
        "package/package.json",
        br#"{"name":"acme","version":"1.0.0"}"#,
    );
    add("package/data.bin", &noise(300 * KIB, 6));
    builder.into_inner().unwrap().finish().unwrap()
}

/// Whether any file below the folder has the bytes in it.
fn lies_plain(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return lies_plain(&path, bytes);
        }
        let content = std::fs::read(&path).unwrap();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

async fn stop(mut served: Served) {
    served.signal(rustix::process::Signal::TERM);
    assert!(served.child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_blobs_are_served_whole_and_in_ranges_and_nothing_of_them_lies_plain() {
    let (upstream, jar) = upstream().await;
    let setup = Setup::new("");
    setup.configure(&sealed(&setup, &upstream, &[("key", KEY)]));
    // Two read it while it comes in, and stalls in its middle.
    let gate = Arc::new(Notify::new());
    upstream.fault(JAR, Fault::StallAfter(400 * KIB, Arc::clone(&gate)));
    let served = setup.serve().await;
    let opened = async {
        let both = tokio::join!(get(&served, None), get(&served, Some("bytes=100-400099")));
        assert_eq!(both.0, (200, jar.clone().into()));
        assert_eq!(both.1, (206, Bytes::copy_from_slice(&jar[100..400_100])));
    };
    let opening = async {
        until("upstream is asked", async || upstream.count(JAR) > 0).await;
        gate.notify_one();
    };
    tokio::join!(opened, opening);
    let tarball = tarball();
    publish(&served, &tarball).await;
    for (range, place) in [
        ("bytes=0-0", 0..1),
        ("bytes=65535-65536", 65_535..65_537),
        ("bytes=65536-", 65_536..jar.len()),
        ("bytes=-5", jar.len() - 5..jar.len()),
    ] {
        let expected = Bytes::copy_from_slice(&jar[place]);
        assert_eq!(get(&served, Some(range)).await, (206, expected), "{range}");
    }
    stop(served).await;
    let data = setup.folder.path().join("data");
    assert!(!lies_plain(&data, &jar[1000..1040]));
    let middle = noise(300 * KIB, 6)[5000..5040].to_vec();
    assert!(!lies_plain(&data, &middle));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.1, jar);
    assert_eq!(published(&served).await, tarball);
    assert_eq!(upstream.count(JAR), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_opens_nothing_until_it_wraps_the_old_ones() {
    let (upstream, jar) = upstream().await;
    let setup = Setup::new("");
    setup.configure(&sealed(&setup, &upstream, &[("key", KEY)]));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.0, 200);
    stop(served).await;
    let refused = |output: std::process::Output, why: &str| {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    };
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    setup.configure(&plain(&upstream));
    refused(
        setup.run(&serve).await,
        "[encryption] in the configuration has no key",
    );
    setup.configure(&sealed(&setup, &upstream, &[("key", OTHER)]));
    refused(setup.run(&serve).await, "sealed under another key");
    setup.configure(&sealed(&setup, &upstream, &[("key", "too short")]));
    let output = setup.run(&serve).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let both = [("key", OTHER), ("previous_key", KEY)];
    setup.configure(&sealed(&setup, &upstream, &both));
    stop(setup.serve().await).await;
    // From then on the new one is enough.
    setup.configure(&sealed(&setup, &upstream, &[("key", OTHER)]));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.1, jar);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_plain_is_sealed_and_laid_plain_again_by_a_command() {
    let (upstream, jar) = upstream().await;
    let setup = Setup::new(&plain(&upstream));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.0, 200);
    let tarball = tarball();
    publish(&served, &tarball).await;
    let output = setup.run(&["encrypt"]).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    setup.configure(&sealed(&setup, &upstream, &[("key", KEY)]));
    let output = setup.run(&["encrypt"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("is held by"), "{}", said(&output));
    stop(served).await;
    let data = setup.folder.path().join("data");
    assert!(lies_plain(&data, &jar[1000..1040]));
    // A file that is not what its name says stays as it is, and is named.
    let folder = data.join("blobs/sha256/00");
    std::fs::create_dir_all(&folder).unwrap();
    let damaged = folder.join("0".repeat(64));
    std::fs::write(&damaged, "other").unwrap();
    let output = setup.run(&["encrypt"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(&damaged.display().to_string()));
    std::fs::remove_file(&damaged).unwrap();
    let output = setup.run(&["encrypt"]).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("0 blobs sealed"),
        "{}",
        said(&output)
    );
    assert!(!lies_plain(&data, &jar[1000..1040]));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.1, jar);
    assert_eq!(published(&served).await, tarball);
    stop(served).await;
    let output = setup.run(&["encrypt", "--undo"]).await;
    assert!(output.status.success(), "{}", said(&output));
    setup.configure(&plain(&upstream));
    let served = setup.serve().await;
    assert_eq!(get(&served, None).await.1, jar);
    assert_eq!(published(&served).await, tarball);
    assert_eq!(upstream.count(JAR), 1);
}
