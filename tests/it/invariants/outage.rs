//! An upstream's outage is not ours.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::{Fault, Reply, TestLarder, Upstream};

const TARBALL: &str = "/npm/public/left-pad/-/left-pad-1.3.0.tgz";

/// A package whose document has to be asked about each time.
fn always_stale(upstream: &Upstream) {
    publish(upstream, "left-pad", &[version("1.3.0", &[])]);
    let packument = serde_json::json!({ "name": "left-pad", "versions": {} }).to_string();
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
    loop {
        // The connection may rest a little after its failures.
        let back = larder.get("/npm/public/never-seen").await;
        if back.status == 200 {
            break;
        }
        assert_eq!(back.status, 503);
    }
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
    while !larder
        .get("/npm/public/brisk")
        .await
        .text()
        .contains("2.0.0")
    {
        tokio::task::yield_now().await;
    }
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
    for name in ["a", "b", "c"] {
        let answer = larder.get(&format!("/npm/public/{name}")).await;
        assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    }
    upstream.forget_seen();
    let resting = larder.get("/npm/public/d").await.expect(503);
    assert!(resting.header("retry-after").parse::<u64>().unwrap() > 0);
    assert!(upstream.seen().is_empty());
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
