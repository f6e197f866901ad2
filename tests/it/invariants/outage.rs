//! An upstream's outage is not ours.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::until;
use crate::support::{Fault, Reply, TestLarder, Upstream};

const TARBALL: &str = "/npm/public/left-pad/-/left-pad-1.3.0.tgz";

/// A package whose document has to be asked about each time.
fn always_stale(upstream: &Upstream) {
    publish(upstream, "left-pad", &[version("1.3.0", &[])]);
    let packument = serde_json::json!({ "name": "fickle", "versions": {} }).to_string();
    upstream.put(
        "/npm/fickle",
        Reply::json(packument).header("cache-control", "no-cache"),
    );
}

#[tokio::test]
async fn documents_are_served_stale_and_blobs_for_ever_while_upstream_is_away() {
    let mut upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    always_stale(&upstream);
    larder.get("/npm/public/fickle").await.expect(200);
    larder.get(TARBALL).await.expect(200);
    upstream.vanish();
    let stale = larder.get("/npm/public/fickle").await.expect(200);
    assert!(
        stale.header("cache-status").contains("stale"),
        "{}",
        stale.header("cache-status")
    );
    let hit = larder.get(TARBALL).await.expect(200);
    assert!(hit.header("cache-status").starts_with("larder; hit"));
    let away = larder.get("/npm/public/never-seen").await;
    assert!(matches!(away.status, 502..=504), "{}", away.status);
    assert!(away.json()["error"].as_str().unwrap().contains("up:npm"));
    upstream.come_back().await;
    publish(&upstream, "never-seen", &[version("1.0.0", &[])]);
    // The connection may rest a little after its failures.
    until("upstream is asked again", async || {
        let back = larder.get("/npm/public/never-seen").await;
        assert!(matches!(back.status, 200 | 503), "{}", back.status);
        back.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_document_is_served_while_upstream_is_asked_where_upstream_lets_it() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let put = |version: &str| {
        let packument = serde_json::json!({ "name": "brisk", "versions": { version: {} } });
        let reply = Reply::json(packument.to_string());
        let policy = "max-age=0, stale-while-revalidate=60";
        upstream.put("/npm/brisk", reply.header("cache-control", policy));
    };
    put("1.0.0");
    larder.get("/npm/public/brisk").await.expect(200);
    put("2.0.0");
    // Upstream answers when the gate opens; the client has its answer before.
    let gate = Arc::new(Notify::new());
    upstream.fault("/npm/brisk", Fault::StallAfter(1, Arc::clone(&gate)));
    let meanwhile = larder.get("/npm/public/brisk").await.expect(200);
    assert!(meanwhile.text().contains("1.0.0"));
    assert!(meanwhile.header("cache-status").contains("being asked"));
    gate.notify_one();
    until("the new version is shown", async || {
        larder
            .get("/npm/public/brisk")
            .await
            .text()
            .contains("2.0.0")
    })
    .await;
}

#[tokio::test]
async fn errors_that_pass_are_tried_again() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    upstream.fault("/npm/left-pad", Fault::Status(500, None));
    upstream.fault("/npm/left-pad", Fault::Status(502, None));
    larder.get("/npm/public/left-pad").await.expect(200);
    assert_eq!(upstream.count("/npm/left-pad"), 3);
    for _ in 0..3 {
        upstream.fault("/npm/other", Fault::Status(500, None));
    }
    larder.get("/npm/public/other").await.expect(502);
    assert_eq!(upstream.count("/npm/other"), 3);
}

#[tokio::test]
async fn a_throttled_upstream_is_waited_for_and_never_becomes_not_found() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    upstream.fault("/npm/left-pad", Fault::Status(429, Some(1)));
    larder.get("/npm/public/left-pad").await.expect(200);
    upstream.fault("/npm/other", Fault::Status(503, Some(120)));
    let throttled = larder.get("/npm/public/other").await.expect(503);
    assert!(throttled.header("retry-after").parse::<u64>().unwrap() > 100);
    // All who ask this upstream meanwhile are told the same, and it is left in peace.
    upstream.forget_seen();
    larder.get("/npm/public/third").await.expect(503);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_dead_upstream_is_not_asked_for_every_request() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::with(&config(
        &upstream,
        &IMPATIENT.replace("rest = \"100ms\"", "rest = \"60s\""),
    ))
    .await;
    upstream.always(Some(Fault::Status(500, None)));
    for name in ["a", "b", "c", "d", "e"] {
        let answer = larder.get(&format!("/npm/public/{name}")).await;
        assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    }
    upstream.forget_seen();
    let resting = larder.get("/npm/public/f").await.expect(503);
    assert!(resting.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn one_address_that_always_fails_says_nothing_about_the_registry() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "good", &[version("1.0.0", &[])]);
    upstream.put(
        "/npm/bad",
        Reply {
            status: Some(500),
            ..Reply::default()
        },
    );
    for _ in 0..4 {
        let bad = larder.get("/npm/public/bad").await;
        assert_eq!(bad.status, 502);
    }
    larder.get("/npm/public/good").await.expect(200);
}

#[tokio::test]
async fn a_host_that_documents_lead_to_fails_alone() {
    let (upstream, dead) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start(&upstream).await;
    dead.vanish();
    publish(&upstream, "good", &[version("1.0.0", &[])]);
    for (at, address) in [
        format!("{}/a.tgz", dead.url()),
        "file:///etc/hostname".to_owned(),
        "gopher://files.example/a.tgz".to_owned(),
        "http://10.255.255.1/a.tgz".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let packument = serde_json::json!({ "name": format!("bad{at}"), "versions": { "1.0.0": {
            "name": format!("bad{at}"), "version": "1.0.0", "dist": { "tarball": address, "shasum": "0".repeat(40) },
        } } });
        upstream.put(&format!("/npm/bad{at}"), Reply::json(packument.to_string()));
        larder
            .get(&format!("/npm/public/bad{at}"))
            .await
            .expect(200);
        for _ in 0..3 {
            let bad = larder
                .get(&format!("/npm/public/bad{at}/-/bad{at}-1.0.0.tgz"))
                .await;
            assert!(matches!(bad.status, 502 | 503), "{}", bad.status);
        }
    }
    larder.get("/npm/public/good").await.expect(200);
    larder
        .get("/npm/public/good/-/good-1.0.0.tgz")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_larder_that_is_its_own_upstream_says_so_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let larder = TestLarder::with(&format!(
        "listen = \"127.0.0.1:{port}\"\n{IMPATIENT}[[connection]]\nname = \"self\"\nformat = \"npm\"\nurl = \"http://127.0.0.1:{port}/npm/public/\"\n"
    ))
    .await;
    let looped = larder.get("/npm/public/a").await.expect(508);
    assert!(
        looped.text().contains("its own upstream"),
        "{}",
        looped.text()
    );
}

#[tokio::test]
async fn two_larders_in_a_circle_say_so_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let of = |listen: u16, upstream: u16| {
        format!(
            "listen = \"127.0.0.1:{listen}\"\n{IMPATIENT}[[connection]]\nname = \"other\"\nformat = \"npm\"\nurl = \"http://127.0.0.1:{upstream}/npm/public/\"\n"
        )
    };
    let one = TestLarder::with(&of(0, port)).await;
    let own = one.url.rsplit(':').next().unwrap().parse().unwrap();
    let _two = TestLarder::with(&of(port, own)).await;
    one.get("/npm/public/a").await.expect(508);
}

#[tokio::test]
async fn only_a_real_404_is_remembered() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    larder.get("/npm/public/nothing").await.expect(404);
    larder.get("/npm/public/nothing").await.expect(404);
    assert_eq!(upstream.count("/npm/nothing"), 1);
    upstream.fault("/npm/refused", Fault::Status(403, None));
    larder.get("/npm/public/refused").await.expect(502);
    publish(&upstream, "refused", &[version("1.0.0", &[])]);
    larder.get("/npm/public/refused").await.expect(200);
}

#[tokio::test]
async fn an_unknown_version_is_looked_for_at_once() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.2.0", &[])]);
    larder.get("/npm/public/left-pad").await.expect(200);
    // Fresh for five minutes; a lockfile knows better.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    publish(
        &upstream,
        "left-pad",
        &[version("1.2.0", &[]), version("1.3.0", &[])],
    );
    larder.get(TARBALL).await.expect(200);
    let unknown = larder
        .get("/npm/public/left-pad/-/left-pad-9.9.9.tgz")
        .await
        .expect(404);
    assert!(
        unknown.json()["error"]
            .as_str()
            .unwrap()
            .contains("left-pad-9.9.9.tgz")
    );
}

#[tokio::test]
async fn a_document_is_revalidated_with_what_came_with_it() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    always_stale(&upstream);
    let first = larder.get("/npm/public/fickle").await.expect(200);
    let second = larder.get("/npm/public/fickle").await.expect(200);
    assert_eq!(first.bytes(), second.bytes());
    assert!(
        second.header("cache-status").contains("fwd-status=304"),
        "{}",
        second.header("cache-status")
    );
    let changed = serde_json::json!({ "name": "fickle", "versions": {}, "new": true }).to_string();
    upstream.put(
        "/npm/fickle",
        Reply::json(changed).header("cache-control", "no-cache"),
    );
    assert_eq!(larder.get("/npm/public/fickle").await.json()["new"], true);
}

#[tokio::test]
async fn a_document_that_is_none_never_replaces_a_good_one() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    always_stale(&upstream);
    larder.get("/npm/public/fickle").await.expect(200);
    upstream.fault("/npm/fickle", Fault::CutAfter(3));
    upstream.fault("/npm/fickle", Fault::Status(500, None));
    larder.get("/npm/public/fickle").await.expect(200);
}

#[tokio::test]
async fn offline_no_packet_leaves() {
    let upstream = Upstream::start().await;
    let text = config(&upstream, IMPATIENT);
    let larder = TestLarder::with(&text).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.reload(&format!("offline = true\n{text}")).await;
    upstream.forget_seen();
    larder.get("/npm/public/left-pad").await.expect(200);
    let missing = larder.get("/npm/public/other").await.expect(404);
    assert!(
        missing.json()["error"]
            .as_str()
            .unwrap()
            .contains("offline")
    );
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_restart_is_warm() {
    let upstream = Upstream::start().await;
    let text = config(
        &upstream,
        "[cache]\nmin_free = 0\nrendered_disk = \"64MiB\"\n",
    );
    let larder = TestLarder::with(&text).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let before = larder.get("/npm/public/left-pad").await.expect(200);
    larder.get(TARBALL).await.expect(200);
    let port = larder.url.rsplit(':').next().unwrap().to_owned();
    let data = larder.stop().await;
    upstream.vanish();
    let larder = TestLarder::in_dir(
        &text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
        data,
    )
    .await;
    assert_eq!(
        larder.get("/npm/public/left-pad").await.expect(200).bytes(),
        before.bytes()
    );
    larder.get(TARBALL).await.expect(200);
}
