//! Memory and disk are bounded; a full disk turns caching off, not the proxy.

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, publish_manifests, version};
use crate::support::until;
use crate::support::{Fault, KIB, Reply, TestLarder, Upstream, noise, sha1};

fn jar(upstream: &Upstream, name: &str, length: usize, seed: u64) -> (String, Vec<u8>) {
    let bytes = noise(length, seed);
    let path = format!("org/x/{name}/1.0/{name}-1.0.jar");
    upstream.put(&format!("/maven2/{path}"), Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("/maven2/{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    (format!("/maven/public/{path}"), bytes)
}

#[tokio::test]
async fn the_coldest_blobs_leave_when_there_are_too_many() {
    let upstream = Upstream::start().await;
    let text = config(
        &upstream,
        "[cache]\nmax_size = \"1MiB\"\nrendered_disk = 0\nmin_free = 0\nblob_memory = 0\n",
    );
    let larder = TestLarder::with(&text).await;
    let mut paths = Vec::new();
    for n in 0..12 {
        let (path, _) = jar(&upstream, &format!("lib{n}"), 100 * KIB, n);
        larder.get(&path).await.expect(200);
        paths.push(path);
    }
    // A client may have all bytes before they are kept, and what is kept may be on its way out.
    let is_settled = || larder.larder.store.used_bytes() <= 1024 * 1024 && larder.blobs() <= 10;
    until("the cache is within its bound", async || is_settled()).await;
    // What was evicted is a miss, not an error.
    for path in &paths {
        larder.get(path).await.expect(200);
    }
}

#[tokio::test]
async fn a_full_disk_turns_caching_off_and_not_the_proxy() {
    let upstream = Upstream::start().await;
    let full = IMPATIENT.replace("min_free = 0", "min_free = \"900TiB\"");
    let larder = TestLarder::with(&config(&upstream, &full)).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    larder.get("/npm/public/left-pad").await.expect(200);
    let (path, bytes) = jar(&upstream, "big", 500 * KIB, 1);
    for _ in 0..2 {
        let answer = larder.get(&path).await.expect(200);
        assert!(answer.bytes() == &bytes, "other bytes");
        assert!(answer.header("cache-status").contains("disk-full"));
    }
    larder.assert_nothing_kept().await;
    // Passed on, and verified all the same.
    upstream.fault("/maven2/org/x/big/1.0/big-1.0.jar", Fault::Corrupt);
    upstream.fault("/maven2/org/x/big/1.0/big-1.0.jar", Fault::Corrupt);
    assert!(larder.is_cut(&path).await);
}

#[tokio::test]
async fn with_a_full_disk_a_tarball_is_held_against_its_promise_all_the_same() {
    let upstream = Upstream::start().await;
    let full = IMPATIENT.replace("min_free = 0", "min_free = \"900TiB\"");
    let larder = TestLarder::with(&config(&upstream, &full)).await;
    for name in ["one", "two"] {
        publish_manifests(&upstream, name, &[version("1.0.0", &[])]);
    }
    larder
        .get("/npm/public/one/-/one-1.0.0.tgz")
        .await
        .expect(200);
    upstream.put("/npm/two/-/two-1.0.0.tgz", Reply::bytes("other bytes"));
    assert!(larder.is_cut("/npm/public/two/-/two-1.0.0.tgz").await);
}

#[tokio::test]
async fn a_file_of_unknown_length_is_kept_as_far_as_there_is_room_and_comes_whole() {
    let upstream = Upstream::start().await;
    let small = IMPATIENT.replace("[cache]", "[cache]\nmax_size = \"1MiB\"");
    let larder = TestLarder::with(&config(&upstream, &small)).await;
    let without_length = |name: &str| {
        for _ in 0..4 {
            let path = format!("/maven2/org/x/{name}/1.0/{name}-1.0.jar");
            upstream.fault(&path, Fault::EndEarly(usize::MAX));
        }
    };
    let (path, bytes) = jar(&upstream, "long", 3000 * KIB, 1);
    without_length("long");
    let (first, second) = tokio::join!(larder.get(&path), larder.get(&path));
    for answer in [first, second, larder.get(&path).await] {
        assert!(answer.expect(200).bytes() == &bytes, "other bytes");
    }
    assert!(upstream.count("/maven2/org/x/long/1.0/long-1.0.jar") <= 3);
    larder.assert_nothing_kept().await;

    let (path, bytes) = jar(&upstream, "short", 900 * KIB, 2);
    without_length("short");
    larder.get(&path).await.expect(200);
    larder.wait_for_blob(&bytes, true).await;

    let (path, _) = jar(&upstream, "other", 3000 * KIB, 3);
    without_length("other");
    let promise = Reply::typed("text/plain", sha1(b"what was promised"));
    upstream.put("/maven2/org/x/other/1.0/other-1.0.jar.sha1", promise);
    assert!(larder.is_cut(&path).await);
}

#[tokio::test]
async fn a_large_file_and_its_ranges_are_served_window_by_window() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let (path, bytes) = jar(&upstream, "large", 9 * 1024 * KIB, 4);
    for _ in 0..3 {
        assert!(
            larder.get(&path).await.expect(200).bytes() == &bytes,
            "other bytes"
        );
    }
    let window = 4 * 1024 * KIB;
    for (first, last) in [
        (0, 0),
        (window - 1, window),
        (window, 2 * window),
        (bytes.len() - 5, bytes.len() - 1),
    ] {
        let range = format!("bytes={first}-{last}");
        let part = larder
            .get_with(&path, &[("range", &range)])
            .await
            .expect(206);
        assert!(part.bytes() == &bytes[first..=last], "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_evicted_while_it_is_sent_is_sent_to_its_end() {
    let upstream = Upstream::start().await;
    let text = config(
        &upstream,
        "[cache]\nmax_size = \"40MiB\"\nrendered_disk = 0\nmin_free = 0\nblob_mapped = 0\n",
    );
    let larder = TestLarder::with(&text).await;
    let (path, bytes) = jar(&upstream, "first", 30 * 1024 * KIB, 5);
    larder.get(&path).await.expect(200);
    larder.wait_for_blob(&bytes, true).await;
    let mut under_way = larder.open(&path).await;
    let mut got = under_way.chunk().await.unwrap().unwrap().to_vec();
    let (other, _) = jar(&upstream, "second", 30 * 1024 * KIB, 6);
    larder.get(&other).await.expect(200);
    larder.wait_for_blob(&bytes, false).await;
    while let Some(piece) = under_way.chunk().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert!(got == bytes, "other bytes");
}

#[tokio::test]
async fn documents_beyond_the_bound_are_refused_with_the_key_to_raise() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::with(&config(
        &upstream,
        "[fetch]\ndocument_bytes_max = \"10KiB\"\n",
    ))
    .await;
    let padding = "x".repeat(20 * KIB);
    let large =
        serde_json::json!({ "name": "large", "versions": {}, "readme": padding }).to_string();
    upstream.put("/npm/large", Reply::typed("application/json", large));
    let refused = larder.get("/npm/public/large").await.expect(502);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("fetch.document_bytes_max")
    );
}

#[tokio::test]
async fn questions_beyond_the_bound_are_refused() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::with(&config(
        &upstream,
        "[server]\nquestion_bytes_max = \"1KiB\"\n",
    ))
    .await;
    let path = "/npm/public/-/npm/v1/security/advisories/bulk";
    let body = bytes::Bytes::from(noise(2 * KIB, 1));
    larder
        .send(reqwest::Method::POST, path, &[], Some(body))
        .await
        .expect(413);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn the_simple_index_is_streamed_in_either_form() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(
        &upstream,
        "[[rule]]\naction = \"deny\"\npackages = [\"pypi:evil\"]\n",
    )
    .await;
    let projects: Vec<serde_json::Value> = (0..50_000)
        .map(|n| serde_json::json!({ "name": format!("project-{n}") }))
        .collect();
    let mut body = serde_json::json!({ "meta": { "api-version": "1.1" }, "projects": projects });
    body["projects"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({ "name": "evil" }));
    upstream.put(
        "/simple/",
        Reply::typed(crate::support::pypi::JSON, body.to_string()),
    );
    let html = larder.get("/pypi/public/simple/").await.expect(200).text();
    assert_eq!(html.matches("<a href").count(), 50_000);
    let json = larder
        .get_with(
            "/pypi/public/simple/",
            &[("accept", crate::support::pypi::JSON)],
        )
        .await;
    assert_eq!(json.json()["projects"].as_array().unwrap().len(), 50_000);
    assert_eq!(upstream.count("/simple/"), 1);
}
