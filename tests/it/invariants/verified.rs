//! Verified or nothing; streamed, yet never wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::support::npm::{publish, publish_manifests, version};
use crate::support::{
    Fault, KIB, Reply, TestLarder, Upstream, integrity, noise, nuget, pypi, sha1, sha256, until,
};

const TARBALL: &str = "/npm/public/left-pad/-/left-pad-1.3.0.tgz";
const AT_UPSTREAM: &str = "/npm/left-pad/-/left-pad-1.3.0.tgz";

/// An npm package whose tarball is a megabyte, so that most of it streams before it is verified.
fn big(upstream: &Upstream) -> Bytes {
    let bytes = Bytes::from(noise(1024 * KIB, 7));
    let url = format!("{}{AT_UPSTREAM}", upstream.url());
    let packument = serde_json::json!({ "name": "left-pad", "dist-tags": { "latest": "1.3.0" }, "versions": {
        "1.3.0": { "name": "left-pad", "version": "1.3.0", "dist": { "tarball": url, "integrity": integrity(&bytes) } } } });
    upstream.put("/npm/left-pad", Reply::json(packument.to_string()));
    upstream.put(AT_UPSTREAM, Reply::bytes(bytes.clone()));
    bytes
}

#[tokio::test]
async fn a_corrupt_body_is_cut_off_and_the_next_good_one_is_served() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream);
    upstream.fault(AT_UPSTREAM, Fault::Corrupt);
    assert!(larder.is_cut(TARBALL).await);
    larder.assert_nothing_kept_of_assets().await;
    assert!(
        larder.get(TARBALL).await.expect(200).bytes() == &bytes,
        "other bytes"
    );
}

#[tokio::test]
async fn a_part_of_a_corrupt_body_is_cut_off_too() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream);
    let middle = bytes.len() / 2;
    for (from, to) in [
        (0, 9),
        (middle - 10, middle + 10),
        (100, bytes.len() - 100_000),
    ] {
        upstream.fault(AT_UPSTREAM, Fault::Corrupt);
        let range = format!("bytes={from}-{to}");
        let part = async || {
            let headers = [("range", range.as_str())];
            larder.get_with(TARBALL, &headers).await
        };
        let cut = part().await;
        assert!(cut.status == 502 || cut.body.is_err(), "{range}: {cut:?}");
        larder.assert_nothing_kept_of_assets().await;
    }
    let part = larder.get_with(TARBALL, &[("range", "bytes=10-19")]).await;
    assert_eq!(part.expect(206).bytes(), &bytes[10..20]);
}

#[tokio::test]
async fn a_small_corrupt_body_is_an_error_with_its_reason() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    upstream.fault(AT_UPSTREAM, Fault::Corrupt);
    let refused = larder.get(TARBALL).await.expect(502);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("is not what its registry promised")
    );
    assert!(
        larder
            .larder
            .metrics
            .text()
            .contains("larder_unverified_total 1")
    );
    larder.get(TARBALL).await.expect(200);
}

#[tokio::test]
async fn a_body_cut_short_is_resumed_where_it_broke_off() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream);
    upstream.fault(AT_UPSTREAM, Fault::CutAfter(300 * KIB));
    upstream.fault(AT_UPSTREAM, Fault::CutAfter(200 * KIB));
    assert!(
        larder.get(TARBALL).await.expect(200).bytes() == &bytes,
        "other bytes"
    );
    let ranges: Vec<String> = upstream
        .seen()
        .iter()
        .filter_map(|seen| Some(seen.headers.get("range")?.to_str().unwrap().to_owned()))
        .collect();
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(
        upstream
            .seen()
            .iter()
            .filter(|seen| seen.headers.contains_key("range"))
            .all(|seen| seen.headers.contains_key("if-range"))
    );
}

#[tokio::test]
async fn a_body_that_ends_early_without_a_length_is_never_taken_for_whole() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    big(&upstream);
    upstream.fault(AT_UPSTREAM, Fault::EndEarly(500 * KIB));
    assert!(larder.is_cut(TARBALL).await);
    larder.assert_nothing_kept_of_assets().await;
}

#[tokio::test]
async fn a_body_cut_for_good_is_cut_for_the_client_too() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream);
    for _ in 0..3 {
        upstream.fault(AT_UPSTREAM, Fault::CutAfter(100 * KIB));
    }
    assert!(larder.is_cut(TARBALL).await);
    larder.assert_nothing_kept_of_assets().await;
    assert!(
        larder.get(TARBALL).await.expect(200).bytes() == &bytes,
        "other bytes"
    );
}

#[tokio::test]
async fn a_stalled_body_is_resumed() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let bytes = big(&upstream);
    upstream.fault(
        AT_UPSTREAM,
        Fault::StallAfter(100 * KIB, std::sync::Arc::default()),
    );
    assert!(
        larder.get(TARBALL).await.expect(200).bytes() == &bytes,
        "other bytes"
    );
}

#[tokio::test]
async fn a_tarball_asked_for_without_its_document_is_verified_too() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "@a/b", &[version("1.0.0", &[])]);
    upstream.fault("/npm/@a/b/-/b-1.0.0.tgz", Fault::Corrupt);
    larder
        .get("/npm/public/@a/b/-/b-1.0.0.tgz")
        .await
        .expect(502);
    larder
        .get("/npm/public/@a%2fb/-/b-1.0.0.tgz")
        .await
        .expect(200);
}

#[tokio::test]
async fn a_digest_that_was_cut_short_is_not_taken_for_none() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    crate::support::nuget::serve(&upstream);
    crate::support::nuget::publish(&upstream, "Acme.Lib", &["1.0.0"], false);
    let jar = "/maven2/x/a/1.0/a-1.0.jar";
    upstream.put(jar, Reply::bytes("right"));
    let digest = Reply::typed("text/plain", crate::support::sha1(b"right"));
    upstream.put(&format!("{jar}.sha1"), digest);
    let nupkg = "/flat/acme.lib/1.0.0/acme.lib.1.0.0.nupkg";
    for (ours, file, digest, ends) in [
        (
            format!("/nuget/public/v3{nupkg}"),
            nupkg,
            "/catalog/data/acme.lib.1.0.0.json".to_owned(),
            [0, 30],
        ),
        (
            "/maven/public/x/a/1.0/a-1.0.jar".to_owned(),
            jar,
            format!("{jar}.sha1"),
            [1, 20],
        ),
    ] {
        for end in ends {
            upstream.fault(&digest, Fault::EndEarly(end));
            upstream.fault(file, Fault::Corrupt);
            larder.get(&ours).await.expect(502);
        }
        let right = upstream.reply(file).body;
        assert_eq!(larder.get(&ours).await.expect(200).bytes(), &right);
    }
}

#[tokio::test]
async fn wheels_and_their_metadata_are_held_against_the_pages_hashes() {
    let upstream = Upstream::start().await;
    let files = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    pypi::publish(&upstream, &files, "six", &[("1.0", &[])], true);
    let page = larder
        .get_with("/pypi/public/simple/six/", &[("accept", pypi::JSON)])
        .await
        .expect(200)
        .json();
    let file = page["files"][0]["url"].as_str().unwrap().to_owned();
    let at_files = files_path(&file);
    let path = format!("/pypi/public/simple/six/{file}");
    for (ours, theirs) in [
        (path.clone(), at_files.clone()),
        (format!("{path}.metadata"), format!("{at_files}.metadata")),
    ] {
        files.fault(&theirs, Fault::Corrupt);
        larder.get(&ours).await.expect(502);
        let answer = larder.get(&ours).await.expect(200);
        if !ours.ends_with(".metadata") {
            assert_eq!(page["files"][0]["hashes"]["sha256"], sha256(answer.bytes()));
        }
    }
}

fn files_path(relative: &str) -> String {
    format!("/packages/{}", relative.split_once("/packages/").unwrap().1)
}

#[tokio::test]
async fn jars_are_held_against_the_strongest_checksum_upstream_has() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let jar = noise(5000, 1);
    let (path, ours) = (
        "/maven2/org/x/lib/1.0/lib-1.0.jar",
        "/maven/public/org/x/lib/1.0/lib-1.0.jar",
    );
    upstream.put(path, Reply::bytes(jar.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", format!("{}  lib-1.0.jar\n", sha1(&jar))),
    );
    upstream.put(
        &format!("{path}.sha256"),
        Reply::typed("text/plain", sha256(b"something else")),
    );
    larder.get(ours).await.expect(502);
    upstream.put(
        &format!("{path}.sha256"),
        Reply::typed("text/plain", sha256(&jar)),
    );
    assert!(
        larder.get(ours).await.expect(200).bytes() == &jar,
        "other bytes"
    );
    // Our own digests where we hold the file, also those that upstream does not have.
    upstream.forget_seen();
    assert_eq!(
        larder.get(&format!("{ours}.sha1")).await.expect(200).text(),
        sha1(&jar)
    );
    assert_eq!(
        larder
            .get(&format!("{ours}.md5"))
            .await
            .expect(200)
            .text()
            .len(),
        32
    );
    assert_eq!(
        larder
            .get(&format!("{ours}.sha512"))
            .await
            .expect(200)
            .text()
            .len(),
        128
    );
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn without_a_promise_the_first_bytes_seen_are_pinned() {
    let upstream = Upstream::start().await;
    let first = noise(90 * KIB, 1);
    let (path, ours) = (
        "/maven2/org/x/lib/1.0/lib-1.0.jar",
        "/maven/public/org/x/lib/1.0/lib-1.0.jar",
    );
    upstream.put(path, Reply::bytes(first.clone()));
    // So small that the first jar is evicted when the second comes in.
    let text = crate::support::larder::config(
        &upstream,
        "[cache]\nmax_size = \"100KiB\"\nrendered_disk = 0\nmin_free = 0\nblob_memory = 0\n",
    );
    let larder = TestLarder::with(&text).await;
    larder.get(ours).await.expect(200);
    larder.wait_for_blob(&first, true).await;
    let other = "/maven2/org/x/other/1.0/other-1.0.jar";
    upstream.put(other, Reply::bytes(noise(80 * KIB, 2)));
    larder
        .get("/maven/public/org/x/other/1.0/other-1.0.jar")
        .await
        .expect(200);
    larder.wait_for_blob(&first, false).await;
    upstream.put(path, Reply::bytes(noise(60 * KIB, 3)));
    larder.get(ours).await.expect(502);
    upstream.put(path, Reply::bytes(first.clone()));
    assert!(
        larder.get(ours).await.expect(200).bytes() == &first,
        "other bytes"
    );
}

#[tokio::test]
async fn nuget_packages_are_held_against_the_catalogs_hash() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0"], true);
    let larder = TestLarder::start(&upstream).await;
    let path = "/flat/acme.lib/1.0.0/acme.lib.1.0.0.nupkg";
    upstream.fault(path, Fault::Corrupt);
    let ours = "/nuget/public/v3/flat/acme.lib/1.0.0/acme.lib.1.0.0.nupkg";
    larder.get(ours).await.expect(502);
    assert_eq!(
        larder.get(ours).await.expect(200).bytes(),
        &nuget::nupkg("Acme.Lib", "1.0.0", &[])
    );
}

#[tokio::test]
async fn a_tarball_alone_is_held_against_its_versions_manifest_without_the_packument() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    for name in ["one", "@s/two"] {
        publish_manifests(&upstream, name, &[version("1.0.0", &[])]);
    }
    larder
        .get("/npm/public/one/-/one-1.0.0.tgz")
        .await
        .expect(200);
    larder
        .get("/npm/public/@s/two/-/two-1.0.0.tgz")
        .await
        .expect(200);
    let packuments = ["/npm/one", "/npm/@s%2ftwo", "/npm/@s/two"];
    assert_eq!(
        upstream.count_ending(&packuments),
        0,
        "{:?}",
        upstream.seen()
    );
}

#[tokio::test]
async fn a_wrong_guess_fails_nobody_who_knows_the_document() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish_manifests(&upstream, "one", &[version("1.0.0", &[])]);
    let of_one = "/npm/public/one/-/one-1.0.0.tgz";
    larder.get(of_one).await.expect(200);
    // Its manifest comes late and promises nothing; its document does.
    publish(&upstream, "two", &[version("1.0.0", &[])]);
    upstream.put("/npm/two/1.0.0", Reply::json("{}"));
    let gate = Arc::new(Notify::new());
    let late = Fault::StallAfter(0, Arc::clone(&gate));
    upstream.fault("/npm/two/1.0.0", late);
    let of_two = "/npm/public/two/-/two-1.0.0.tgz";
    let guesses = async { larder.get(of_two).await.expect(200) };
    let knows = async {
        until("the guess is under way", async || {
            upstream.count("/npm/two/1.0.0") == 1
        })
        .await;
        larder.get("/npm/public/two").await.expect(200);
        let mut joins = std::pin::pin!(larder.get(of_two));
        // It waits with the guess.
        let waited = tokio::time::timeout(Duration::from_millis(200), joins.as_mut()).await;
        assert!(waited.is_err());
        gate.notify_one();
        joins.await.expect(200)
    };
    tokio::join!(guesses, knows);
}

#[tokio::test]
async fn what_a_manifest_does_not_promise_is_held_against_the_packument() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish_manifests(&upstream, "one", &[version("1.0.0", &[])]);
    larder
        .get("/npm/public/one/-/one-1.0.0.tgz")
        .await
        .expect(200);
    // This one's manifest is missing, another's tarball lies elsewhere, a third's is not what the
    // manifest says.
    publish(&upstream, "two", &[version("1.0.0", &[])]);
    larder
        .get("/npm/public/two/-/two-1.0.0.tgz")
        .await
        .expect(200);
    publish_manifests(&upstream, "three", &[version("1.0.0", &[])]);
    upstream.fault("/npm/three/-/three-1.0.0.tgz", Fault::Status(404, None));
    larder
        .get("/npm/public/three/-/three-1.0.0.tgz")
        .await
        .expect(200);
    publish_manifests(&upstream, "four", &[version("1.0.0", &[])]);
    upstream.put("/npm/four/-/four-1.0.0.tgz", Reply::bytes("other bytes"));
    larder
        .get("/npm/public/four/-/four-1.0.0.tgz")
        .await
        .expect(502);
    larder
        .get("/npm/public/five/-/five-1.0.0.tgz")
        .await
        .expect(404);
}
