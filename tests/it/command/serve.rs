//! `larder serve`: its beginning, its end, its reload, and what it survives.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Setup, registry};
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::said;
use crate::support::{Fault, KIB, Reply, Upstream, noise, sha1};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_larder_says_who_holds_the_directory_or_the_port() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    let second = setup.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.status.code(), Some(1));
    let pid = served.child.id().unwrap().to_string();
    assert!(
        said(&second).contains(&pid) && said(&second).contains(&served.url),
        "{}",
        said(&second)
    );
    let address = served.url.trim_start_matches("http://");
    let elsewhere = Setup::new(&config(&upstream, IMPATIENT));
    let third = elsewhere.run(&["serve", "--listen", address]).await;
    assert_eq!(third.status.code(), Some(1));
    assert!(
        said(&third).contains("is in use by another process"),
        "{}",
        said(&third)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_0() {
    let upstream = registry().await;
    let bytes = noise(600 * KIB, 4);
    let path = "/maven2/org/x/big/1/big-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let gate = Arc::new(Notify::new());
    upstream.fault(path, Fault::StallAfter(300 * KIB, Arc::clone(&gate)));
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let mut served = setup.serve().await;
    let under_way = reqwest::get(format!("{}/maven/public/org/x/big/1/big-1.jar", served.url))
        .await
        .unwrap();
    served.signal(rustix::process::Signal::TERM);
    served.logged("Stopping").await;
    assert!(
        reqwest::get(format!("{}/-/live", served.url))
            .await
            .is_err()
    );
    gate.notify_one();
    assert_eq!(under_way.bytes().await.unwrap(), bytes);
    assert_eq!(served.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_since_the_start_is_told_on_demand_and_at_the_end() {
    let upstream = registry().await;
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:once\"]\nreason = \"known bad\"\n";
    let setup = Setup::new(&format!("{}{rule}", config(&upstream, IMPATIENT)));
    let nobody = setup.run(&["report", "--since-start"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        said(&nobody).contains("no Larder serves"),
        "{}",
        said(&nobody)
    );
    let mut served = setup.serve().await;
    let get = async |path: &str| {
        let reply = reqwest::get(format!("{}/npm/public/{path}", served.url)).await;
        reply.unwrap().bytes().await.unwrap().len() as u64
    };
    let report = async || {
        let output = setup.run(&["report", "--since-start", "--json"]).await;
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(report().await["requests"], 0);
    let tarball = "left-pad/-/left-pad-1.3.0.tgz";
    let size = get(tarball).await;
    for _ in 0..3 {
        get(tarball).await;
    }
    let refused = get("once/-/once-2.0.1.tgz").await;
    let told = report().await;
    assert_eq!((&told["requests"], &told["hits"]), (&5.into(), &3.into()));
    assert_eq!(told["saved_bytes"], 3 * size);
    assert_eq!(told["served_bytes"], 4 * size + refused);
    assert!(told["fetched_bytes"].as_u64().unwrap() >= size, "{told}");
    assert_eq!(
        (&told["failures"], &told["refused_by_rules"]),
        (&1.into(), &1.into())
    );
    assert!(
        told["since"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    let first = "once is held back by rule \"bad\": known bad";
    assert_eq!(told["first_failure"], first);
    let text = said(&setup.run(&["report", "--since-start"]).await);
    for part in [
        "5 requests, 3 hits\n",
        "hits saved",
        "1 refused or failed, 1 of them by rules",
        first,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    served.signal(rustix::process::Signal::TERM);
    let rest = served.rest().await;
    assert!(rest.contains("larder: 5 requests, 3 hits, "), "{rest}");
    assert!(
        rest.contains("1 refused or failed: once is held back by rule"),
        "{rest}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_again_and_refuses_a_bad_one() {
    let upstream = registry().await;
    let text = config(&upstream, IMPATIENT);
    let setup = Setup::new(&text);
    let mut served = setup.serve().await;
    let tarball = format!("{}/npm/public/left-pad/-/left-pad-1.3.0.tgz", served.url);
    let status = async |url: &str| reqwest::get(url).await.unwrap().status().as_u16();
    assert_eq!(status(&tarball).await, 200);
    setup.configure(&format!("{text}[[rule]]\nactoin = \"deny\"\n"));
    served.signal(rustix::process::Signal::HUP);
    let refusal = served.logged("Reloading the configuration failed").await;
    assert!(
        refusal.contains("actoin") && refusal.contains("rule.action"),
        "{refusal}"
    );
    assert_eq!(status(&tarball).await, 200);
    setup.configure(&format!(
        "{text}[[rule]]\naction = \"deny\"\npackages = [\"npm:left-pad\"]\n"
    ));
    served.signal(rustix::process::Signal::HUP);
    served.logged("was reloaded").await;
    assert_eq!(status(&tarball).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_download_it_starts_again_with_nothing_torn() {
    let upstream = registry().await;
    let bytes = noise(2 * 1024 * KIB, 5);
    let path = "/maven2/org/x/big/1/big-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    for round in 0..5usize {
        let gate = Arc::new(Notify::new());
        upstream.fault(path, Fault::StallAfter((100 + round * 400) * KIB, gate));
        let mut served = setup.serve().await;
        let url = format!("{}/maven/public/org/x/big/1/big-1.jar", served.url);
        let mut under_way = reqwest::get(&url).await.unwrap();
        under_way.chunk().await.unwrap();
        served.signal(rustix::process::Signal::KILL);
        served.child.wait().await.unwrap();
    }
    let served = setup.serve().await;
    let url = format!("{}/maven/public/org/x/big/1/big-1.jar", served.url);
    assert!(
        reqwest::get(&url).await.unwrap().bytes().await.unwrap() == bytes,
        "other bytes"
    );
    let partial = std::fs::read_dir(setup.at("data/partial")).unwrap().count();
    assert!(partial <= 1, "{partial} partial downloads are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    std::fs::write(setup.at("file"), "").unwrap();
    let inside = setup.at("file/data");
    let output = setup.run(&["serve", "--data-dir", &inside]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&format!("the data directory {inside} cannot be made")),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_a_download() {
    const BOUND_KIB: u64 = 150 * 1024;
    let upstream = Upstream::start().await;
    let bytes = bytes::Bytes::from(noise(500 * 1024 * KIB, 6));
    let path = "/maven2/org/x/huge/1/huge-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let setup = Setup::new(&config(
        &upstream,
        "[cache]\nmin_free = 0\nrendered_disk = 0\n",
    ));
    let served = setup.serve().await;
    let url = format!("{}/maven/public/org/x/huge/1/huge-1.jar", served.url);
    let clients = (0..20).map(|_| {
        let (url, bytes) = (url.clone(), bytes.clone());
        tokio::spawn(async move {
            let mut body = reqwest::get(url).await.unwrap();
            let mut at = 0;
            while let Some(piece) = body.chunk().await.unwrap() {
                assert!(piece == bytes[at..at + piece.len()], "other bytes at {at}");
                at += piece.len();
            }
            assert_eq!(at, bytes.len());
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", served.child.id().unwrap())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!(
        "20 clients on one cold 500 MiB file: {} request, peak resident {} MiB",
        upstream.count(path),
        peak / 1024
    );
    assert_eq!(upstream.count(path), 1);
    assert!(peak < BOUND_KIB, "{peak} KiB resident at the peak");
}

/// A certificate for a name, and the configuration's words for it.
fn tls(setup: &Setup, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(setup.at("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(setup.at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (setup.at("cert.pem"), setup.at("key.pem"));
    format!("[tls]\ncertificate = \"{cert}\"\nkey = \"{key}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_a_larder_whatever_certificate_it_serves_with() {
    let upstream = registry().await;
    let setup = Setup::new("");
    let text = format!(
        "{}{}",
        config(&upstream, IMPATIENT),
        tls(&setup, "packages.corp.example")
    );
    setup.configure(&text);
    let served = setup.serve().await;
    for command in [
        ["list"].as_slice(),
        &["token", "create", "--principal", "ci"],
        &["verify"],
        &["who-decides", "npm:left-pad@1.3.0"],
    ] {
        let output = setup.run(command).await;
        assert!(output.status.success(), "{command:?}: {}", said(&output));
    }
    // Clients cannot check it at that address, and are told why before they try.
    let output = setup.run(&["env"]).await;
    assert!(
        output.status.success() && said(&output).contains("public_url"),
        "{}",
        said(&output)
    );
    let output = setup.run(&["run", "--", "true"]).await;
    assert!(
        said(&output).contains("its certificate cannot be checked"),
        "{}",
        said(&output)
    );
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_the_name_that_a_trusted_certificate_is_made_out_to() {
    let upstream = registry().await;
    let setup = Setup::new("");
    let text = format!(
        "{}{}",
        config(&upstream, IMPATIENT),
        tls(&setup, "localhost")
    );
    setup.configure(&text);
    // A private one serves its own run, on this machine, in plain text.
    let output = setup.run(&["run", "--", "env"]).await;
    assert!(
        said(&output).contains("npm_config_registry=http://127.0.0.1:"),
        "{}",
        said(&output)
    );
    let _served = setup.serve().await;
    for command in [["env"].as_slice(), &["run", "--", "env"]] {
        let mut command = setup.command(command);
        let output = command
            .env("SSL_CERT_FILE", setup.at("cert.pem"))
            .output()
            .await;
        let text = said(&output.unwrap());
        assert!(
            text.contains("npm_config_registry='https://localhost:")
                || text.contains("npm_config_registry=https://localhost:"),
            "{text}"
        );
        assert!(!text.contains("cannot be checked"), "{text}");
    }
}
