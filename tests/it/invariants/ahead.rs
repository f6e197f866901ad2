//! Ahead of the client: what a resolver will ask for next is here when it asks, and nothing that
//! a rule, a bound or a failing upstream forbids.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::until;
use crate::support::{Fault, Reply, TestLarder, Upstream, nuget, pypi};

async fn larder(upstream: &Upstream, tables: &str) -> TestLarder {
    let ahead = config(upstream, IMPATIENT).replace("enabled = false", "enabled = true");
    TestLarder::with(&format!("{ahead}{tables}")).await
}

/// With keys of `[ahead]`.
async fn bounded(upstream: &Upstream, keys: &str) -> TestLarder {
    let keys = format!("enabled = true\n{keys}");
    TestLarder::with(&config(upstream, IMPATIENT).replace("enabled = false", &keys)).await
}

/// Lets some time pass, in which documents could be fetched ahead.
async fn meanwhile(larder: &TestLarder) {
    for _ in 0..5 {
        larder.get("/-/ready").await.expect(200);
    }
}

/// Waits until upstream was asked for the path.
async fn until_asked(upstream: &Upstream, path: &str) {
    until("upstream is asked", async || upstream.count(path) > 0).await;
}

/// Waits until as many documents were fetched ahead.
async fn until_fetched(larder: &TestLarder, count: u64) {
    let line = format!("larder_ahead_total{{outcome=\"fetched\"}} {count}");
    until("so many documents are fetched ahead", async || {
        larder.larder.metrics.text().contains(&line)
    })
    .await;
}

fn chain(upstream: &Upstream) {
    publish(upstream, "a", &[version("1.0.0", &[("b", "^1.0.0")])]);
    publish(
        upstream,
        "b",
        &[
            version("1.0.0", &[("old", "1")]),
            version("1.2.0", &[("c", "*")]),
            version("2.0.0", &[("new", "1")]),
        ],
    );
    for name in ["c", "old", "new"] {
        publish(upstream, name, &[version("1.0.0", &[])]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ranges_would_take_is_here_before_it_is_asked_for() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    chain(&upstream);
    larder.get("/npm/public/a").await.expect(200);
    until_fetched(&larder, 2).await;
    upstream.forget_seen();
    for name in ["b", "c"] {
        let answer = larder.get(&format!("/npm/public/{name}")).await.expect(200);
        assert!(answer.header("cache-status").starts_with("larder; hit"));
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let text = larder.larder.metrics.text();
    assert!(
        text.contains("larder_ahead_total{outcome=\"used\"} 2"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_past_a_rule() {
    let upstream = Upstream::start().await;
    let rules =
        "[[rule]]\nname = \"no\"\naction = \"deny\"\npackages = [\"npm:c\", \"npm:b@1.0.0\"]\n";
    let larder = larder(&upstream, rules).await;
    chain(&upstream);
    publish(
        &upstream,
        "a",
        &[version(
            "1.0.0",
            &[("c", "*"), ("b", "<=1.2.0"), ("z", "1")],
        )],
    );
    publish(&upstream, "z", &[version("1.0.0", &[])]);
    larder.get("/npm/public/a").await.expect(200);
    // b 1.2.0 leads to c, which is denied; z comes behind both.
    until_asked(&upstream, "/npm/z").await;
    until_fetched(&larder, 2).await;
    assert_eq!(upstream.count_ending(&["/npm/c", "/npm/old"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_turns_it_off() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    chain(&upstream);
    larder.get("/npm/public/a").await.expect(200);
    larder.get("/npm/public/c").await.expect(200);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_in_trouble_is_left_alone() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    chain(&upstream);
    publish(
        &upstream,
        "a",
        &[version(
            "1.0.0",
            &[("b", "1"), ("c", "1"), ("old", "1"), ("new", "1")],
        )],
    );
    for path in ["/npm/b", "/npm/c", "/npm/old", "/npm/new"] {
        // Whichever is asked first is told to wait; the others are not asked.
        upstream.fault(path, Fault::Status(429, Some(60)));
    }
    larder.get("/npm/public/a").await.expect(200);
    until("one of the four is asked for", async || {
        upstream.count_ending(&["/npm/b", "/npm/c", "/npm/old", "/npm/new"]) > 0
    })
    .await;
    let text = larder.larder.metrics.text();
    assert!(!text.contains("outcome=\"fetched\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_pages_lead_to_metadata_and_on_to_pages() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let larder = larder(&upstream, "").await;
    pypi::publish(&upstream, &files, "a", &[("1.0", &["b>=1"])], true);
    pypi::publish(
        &upstream,
        &files,
        "b",
        &[("0.9", &[]), ("1.1", &["c"])],
        true,
    );
    pypi::publish(&upstream, &files, "c", &[("1.0", &[])], true);
    larder.get("/pypi/public/simple/a/").await.expect(200);
    until_fetched(&larder, 5).await;
    upstream.forget_seen();
    files.forget_seen();
    for name in ["b", "c"] {
        larder
            .get(&format!("/pypi/public/simple/{name}/"))
            .await
            .expect(200);
    }
    assert!(upstream.seen().is_empty() && files.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pom_leads_to_its_parent_and_its_dependencies() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    let pom = |path: &str, inside: &str| {
        upstream.put(
            &format!("/maven2/org/x/{path}"),
            Reply::typed("text/xml", format!("<project>{inside}</project>")),
        );
    };
    let of = |kind: &str, artifact: &str| {
        format!(
            "<{kind}><groupId>org.x</groupId><artifactId>{artifact}</artifactId><version>1</version></{kind}>"
        )
    };
    let needs = |artifact: &str| {
        format!(
            "<dependencies>{}</dependencies>",
            of("dependency", artifact)
        )
    };
    pom("a/1/a-1.pom", &(of("parent", "p") + &needs("b")));
    pom("b/1/b-1.pom", &needs("c"));
    pom("p/1/p-1.pom", "");
    pom("c/1/c-1.pom", "");
    larder
        .get("/maven/public/org/x/a/1/a-1.pom")
        .await
        .expect(200);
    until_fetched(&larder, 3).await;
    upstream.forget_seen();
    for name in ["p", "b", "c"] {
        larder
            .get(&format!("/maven/public/org/x/{name}/1/{name}-1.pom"))
            .await
            .expect(200);
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_leads_to_those_of_its_dependencies() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    nuget::serve(&upstream);
    nuget::publish(&upstream, "B", &["1.0.0"], false);
    let entry = r#"{"version":"1.0.0","dependencyGroups":[{"dependencies":[{"id":"B","range":"[1.0.0, )"}]}]}"#;
    let index = format!(r#"{{"items":[{{"items":[{{"catalogEntry":{entry}}}]}}]}}"#);
    upstream.put("/reg-gz/a/index.json", Reply::json(index));
    larder
        .get("/nuget/public/v3/registration-gz/a/index.json")
        .await
        .expect(200);
    until_fetched(&larder, 1).await;
    assert_eq!(upstream.count("/reg-gz/b/index.json"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_are_fetched_ahead_so_deep() {
    for (keys, fetched) in [("depth_max = 2", 2), ("depth_max = 1", 1)] {
        let upstream = Upstream::start().await;
        let larder = bounded(&upstream, keys).await;
        chain(&upstream);
        larder.get("/npm/public/a").await.expect(200);
        until_fetched(&larder, fetched).await;
        meanwhile(&larder).await;
        assert_eq!(upstream.seen().len() as u64, 1 + fetched, "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_bytes_are_fetched_ahead_before_they_are_asked_for() {
    let upstream = Upstream::start().await;
    let larder = bounded(&upstream, "bytes_max = 1").await;
    chain(&upstream);
    larder.get("/npm/public/a").await.expect(200);
    until_fetched(&larder, 1).await;
    meanwhile(&larder).await;
    assert_eq!(upstream.count("/npm/c"), 0);
    // With what was fetched ahead asked for, there is room again.
    larder.get("/npm/public/b").await.expect(200);
    publish(&upstream, "d", &[version("1.0.0", &[("new", "1")])]);
    larder.get("/npm/public/d").await.expect(200);
    until_asked(&upstream, "/npm/new").await;
}

/// `a` depends on so many others, the first of which is held at a gate.
fn wide(upstream: &Upstream, count: usize) -> Arc<Notify> {
    let names: Vec<String> = (0..count).map(|number| format!("w{number}")).collect();
    let needs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "*")).collect();
    publish(upstream, "a", &[version("1.0.0", &needs)]);
    let gate = Arc::new(Notify::new());
    for name in &names {
        publish(upstream, name, &[version("1.0.0", &[])]);
    }
    let fault = Fault::StallAfter(4, Arc::clone(&gate));
    upstream.fault("/npm/w0", fault);
    gate
}

fn asked_ahead(upstream: &Upstream) -> usize {
    let seen = upstream.seen();
    seen.iter()
        .filter(|seen| seen.path.starts_with("/npm/w"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_documents_are_fetched_ahead_at_once() {
    let upstream = Upstream::start().await;
    let larder = bounded(&upstream, "at_once = 1").await;
    let gate = wide(&upstream, 3);
    larder.get("/npm/public/a").await.expect(200);
    until_asked(&upstream, "/npm/w0").await;
    meanwhile(&larder).await;
    assert_eq!(asked_ahead(&upstream), 1);
    gate.notify_one();
    until_fetched(&larder, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_names_wait_to_be_fetched_ahead() {
    let upstream = Upstream::start().await;
    let larder = bounded(&upstream, "at_once = 1\nwaiting_max = 1").await;
    let gate = wide(&upstream, 5);
    larder.get("/npm/public/a").await.expect(200);
    until_asked(&upstream, "/npm/w0").await;
    gate.notify_one();
    until_fetched(&larder, 1).await;
    meanwhile(&larder).await;
    // One that waits, and one that was taken and had no place yet.
    assert!(asked_ahead(&upstream) <= 2, "{:?}", upstream.seen());
}
