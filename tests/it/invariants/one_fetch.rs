//! One fetch, however many ask.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::Notify;

use crate::support::larder::Answer;
use crate::support::npm::{publish, version};
use crate::support::until;
use crate::support::{Fault, KIB, Reply, TestLarder, Upstream, noise, sha1};

const JAR: &str = "/maven2/org/x/big/1.0/big-1.0.jar";
const OURS: &str = "/maven/public/org/x/big/1.0/big-1.0.jar";

fn big(upstream: &Upstream, length: usize) -> Bytes {
    let bytes = Bytes::from(noise(length, 3));
    upstream.put(JAR, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{JAR}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    bytes
}

/// One of the answers was fetched for; the others say that they shared its fetch, or found it here.
fn assert_one_miss(answers: &[Answer]) {
    let told: Vec<&str> = answers.iter().map(|it| it.header("cache-status")).collect();
    let (misses, others): (Vec<&str>, Vec<&str>) =
        told.iter().partition(|told| told.contains("stored"));
    assert_eq!(misses.len(), 1, "{told:?}");
    for told in others {
        assert!(
            told.contains("collapsed") || told.contains("; hit"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_make_one_request_for_a_blob() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream, 2 * 1024 * KIB);
    upstream.pace(128 * KIB, Duration::from_millis(5));
    let answers = join_all((0..100).map(|_| larder.get(OURS))).await;
    assert_one_miss(&answers);
    for answer in answers {
        assert!(answer.expect(200).bytes() == &bytes, "other bytes");
    }
    assert_eq!(upstream.count(JAR), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_make_one_request_for_a_document() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let answers = join_all((0..100).map(|_| larder.get("/npm/public/left-pad"))).await;
    assert_one_miss(&answers);
    for answer in answers {
        assert_eq!(answer.expect(200).json()["name"], "left-pad");
    }
    assert_eq!(upstream.count("/npm/left-pad"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_get_bytes_while_they_arrive() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    big(&upstream, 1024 * KIB);
    let gate = Arc::new(Notify::new());
    upstream.fault(JAR, Fault::StallAfter(512 * KIB, Arc::clone(&gate)));
    let mut body = larder.open(OURS).await.bytes_stream();
    let mut got = 0;
    while got < 400 * KIB {
        got += body.next().await.unwrap().unwrap().len();
    }
    gate.notify_one();
    while let Some(piece) = body.next().await {
        got += piece.unwrap().len();
    }
    assert_eq!(got, 1024 * KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_clients_leaving_harms_nobody() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream, 1024 * KIB);
    let gate = Arc::new(Notify::new());
    upstream.fault(JAR, Fault::StallAfter(256 * KIB, Arc::clone(&gate)));
    let first = larder.open(OURS).await;
    let second = larder.get(OURS);
    drop(first);
    let opening = async { gate.notify_one() };
    let (second, ()) = tokio::join!(second, opening);
    assert!(second.expect(200).bytes() == &bytes, "other bytes");
    assert_eq!(upstream.count(JAR), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nobody_waits_for_is_finished_all_the_same() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    big(&upstream, 1024 * KIB);
    drop(larder.open(OURS).await);
    until("the file is kept", async || larder.blobs() > 0).await;
    upstream.vanish();
    larder.get(OURS).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_download_under_way_are_served() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream, 1024 * KIB);
    for _ in 0..2 {
        let part = larder
            .get_with(OURS, &[("range", "bytes=1000-1999")])
            .await
            .expect(206);
        assert_eq!(part.bytes(), &bytes.slice(1000..2000));
        assert_eq!(part.header("content-range"), "bytes 1000-1999/1048576");
        let tail = larder
            .get_with(OURS, &[("range", "bytes=-10")])
            .await
            .expect(206);
        assert_eq!(tail.bytes(), &bytes.slice(bytes.len() - 10..));
    }
    larder
        .get_with(OURS, &[("range", "bytes=9999999-")])
        .await
        .expect(416);
    assert_eq!(upstream.count(JAR), 1);
}
