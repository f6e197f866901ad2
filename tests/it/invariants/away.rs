//! While a registry is away: what it did not have is absent, silence is paid for once, and what the
//! others have is found.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::publish::TEAM;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::nuget::{nupkg, serve};
use crate::support::{Fault, Reply, TestLarder, Upstream, sha1, until};

/// [`IMPATIENT`], and what is absent is asked for again at once.
fn forgetful() -> String {
    IMPATIENT.replace("[cache]\n", "[cache]\nabsent_for = \"1ms\"\n")
}

fn put_file(upstream: &Upstream, path: &str, bytes: &str) {
    upstream.put(path, Reply::bytes(bytes.to_owned()));
    let digest = sha1(bytes.as_bytes());
    upstream.put(&format!("{path}.sha1"), Reply::typed("text/plain", digest));
}

#[tokio::test]
async fn a_version_that_is_not_there_is_remembered_like_a_package() {
    let upstream = Upstream::start().await;
    serve(&upstream);
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    crate::support::nuget::publish(&upstream, "Acme.Lib", &["1.0.0"], false);
    let page = r#"{"name":"foo","files":[]}"#;
    upstream.put(
        "/simple/foo/",
        Reply::typed("application/vnd.pypi.simple.v1+json", page),
    );
    for path in [
        "/npm/public/left-pad/-/left-pad-9.9.9.tgz",
        "/nuget/public/v3/flat/acme.lib/9.9.9/acme.lib.9.9.9.nupkg",
        "/pypi/public/simple/foo/http/files.example/foo-9.9.9.tar.gz",
        "/maven/public/x/a/9.9.9/a-9.9.9.jar",
    ] {
        larder.get(path).await.expect(404);
        upstream.forget_seen();
        for _ in 0..3 {
            larder.get(path).await.expect(404);
        }
        assert!(upstream.seen().is_empty(), "{path}: {:?}", upstream.seen());
    }
}

#[tokio::test]
async fn what_was_absent_before_an_outage_is_absent_in_it_and_after_a_restart() {
    let mut upstream = Upstream::start().await;
    let text = config(&upstream, &forgetful());
    let larder = TestLarder::with(&text).await;
    put_file(&upstream, "/maven2/x/a/1.0/a-1.0.pom", "<project/>");
    let base = "/maven/public/x/a/1.0/a-1.0";
    let (sources, later) = (format!("{base}-sources.jar"), format!("{base}-later.jar"));
    let attestations = "/npm/public/-/npm/v1/attestations/plain@1.0.0".to_owned();
    let package = "/npm/public/nothing".to_owned();
    larder.get(&format!("{base}.pom")).await.expect(200);
    for path in [&sources, &later, &attestations, &package] {
        larder.get(path).await.expect(404);
    }
    // A registry that answers takes an absence back.
    put_file(&upstream, "/maven2/x/a/1.0/a-1.0-later.jar", "late");
    until("it is asked again", async || {
        larder.get(&later).await.status == 200
    })
    .await;
    upstream.vanish();
    let checksum = format!("{sources}.sha1");
    let signature = format!("{base}.pom.asc");
    let absent = async |larder: &TestLarder| {
        larder.get(&format!("{base}.pom")).await.expect(200);
        larder.get(&later).await.expect(200);
        for path in [&sources, &checksum, &attestations, &package] {
            let said = larder.get(path).await.expect(404).text();
            assert!(said.contains("its registry is away"), "{path}: {said}");
        }
        for path in [&signature, "/npm/public/never-asked-for"] {
            let never = larder.get(path).await.status;
            assert!(matches!(never, 502..=504), "{path}: {never}");
        }
    };
    absent(&larder).await;
    let data = larder.stop().await;
    let larder = TestLarder::in_dir(&text, data).await;
    absent(&larder).await;
    upstream.come_back().await;
    put_file(&upstream, "/maven2/x/a/1.0/a-1.0-sources.jar", "sources");
    until("upstream is asked again", async || {
        larder.get(&sources).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_version_that_an_old_document_does_not_name_may_be_there_by_now() {
    let (mut near, far) = (Upstream::start().await, Upstream::start().await);
    let connection = |name: &str, upstream: &Upstream| {
        let url = upstream.url();
        format!(
            "[[connection]]\nname = \"{name}\"\nformat = \"nuget\"\nurl = \"{url}/v3/index.json\"\n"
        )
    };
    let (first, second) = (connection("near", &near), connection("far", &far));
    let settings = forgetful();
    let larder = TestLarder::with(&format!(
        "listen = \"127.0.0.1:0\"\n{settings}[ahead]\nenabled = false\n{first}{second}\
         [[repository]]\nname = \"one\"\nexternal_connections = [\"near\"]\n\
         [[repository]]\nname = \"both\"\nexternal_connections = [\"near\", \"far\"]\n"
    ))
    .await;
    for (upstream, versions) in [(&near, &["1.0.0"]), (&far, &["3.0.0"])] {
        serve(upstream);
        crate::support::nuget::publish(upstream, "Acme.Lib", versions, false);
    }
    let file = |repository: &str, version: &str| {
        format!("/nuget/{repository}/v3/flat/acme.lib/{version}/acme.lib.{version}.nupkg")
    };
    larder.get(&file("one", "1.0.0")).await.expect(200);
    larder.get(&file("one", "9.0.0")).await.expect(404);
    near.vanish();
    // What a document said within the last two seconds is taken for what its registry says now.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let newer = larder.get(&file("one", "2.0.0")).await;
    assert!(matches!(newer.status, 502..=504), "{}", newer.text());
    // It said so of this one, and of a farther registry's it never had any.
    larder.get(&file("one", "9.0.0")).await.expect(404);
    larder.get(&file("both", "3.0.0")).await.expect(200);
    near.come_back().await;
    crate::support::nuget::publish(&near, "Acme.Lib", &["1.0.0", "2.0.0"], false);
    until("it is there", async || {
        larder.get(&file("one", "2.0.0")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_farther_registry_does_not_answer_for_one_that_is_away_whatever_that_one_lacked() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    let connection = |name: &str, upstream: &Upstream| {
        let url = upstream.url();
        format!("[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n")
    };
    let (first, second) = (connection("near", &near), connection("far", &far));
    let both = "[[repository]]\nname = \"both\"\nexternal_connections = [\"near\", \"far\"]\n";
    let settings = forgetful();
    let text = format!(
        "listen = \"127.0.0.1:0\"\n{settings}[ahead]\nenabled = false\n{first}{second}{both}"
    );
    let larder = TestLarder::with(&text).await;
    far.put(
        "/npm/a",
        Reply::json(r#"{"name":"a","versions":{"1.0.0":{}}}"#).header("cache-control", "no-cache"),
    );
    larder.get("/npm/both/a").await.expect(200);
    near.vanish();
    let away = larder.get("/npm/both/a").await;
    assert!(matches!(away.status, 502..=504), "{}", away.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_registry_is_waited_for_once_and_asked_by_one_at_a_time() {
    let upstream = Upstream::start().await;
    let patient = forgetful()
        .replace("stale_after = \"2s\"", "stale_after = \"200ms\"")
        .replace("read_timeout = \"1s\"", "read_timeout = \"60s\"")
        .replace("patience = \"3s\"", "patience = \"60s\"");
    let larder = TestLarder::with(&config(&upstream, &patient)).await;
    let path = |n: usize| format!("/npm/public/link{n}");
    let put = |n: usize, more: &str| {
        let packument = format!(r#"{{"name":"link{n}","versions":{{}}{more}}}"#);
        let reply = Reply::json(packument).header("cache-control", "no-cache");
        upstream.put(&format!("/npm/link{n}"), reply);
    };
    for n in 0..6 {
        put(n, "");
        larder.get(&path(n)).await.expect(200);
    }
    let absent = "/npm/public/-/npm/v1/attestations/link0@1.0.0";
    larder.get(absent).await.expect(404);
    let gate = Arc::new(Notify::new());
    upstream.always(Some(Fault::StallAfter(0, Arc::clone(&gate))));
    for n in 0..6 {
        put(n, ",\"new\":true");
    }
    upstream.forget_seen();
    for n in 0..6 {
        let stale = larder.get(&path(n)).await.expect(200);
        assert!(stale.header("cache-status").contains("stale"), "{n}");
    }
    larder.get(absent).await.expect(404);
    // The first who waited, and the one who finds out.
    assert_eq!(upstream.seen().len(), 2, "{:?}", upstream.seen());
    upstream.always(None);
    gate.notify_waiters();
    until("all are new", async || {
        let mut new = true;
        for n in 0..6 {
            new &= larder
                .get(&path(n))
                .await
                .expect(200)
                .text()
                .contains("new");
        }
        new
    })
    .await;
}

#[tokio::test]
async fn a_question_ends_soon_with_what_the_registry_said() {
    let upstream = Upstream::start().await;
    let impatient = IMPATIENT.replace("[fetch]\n", "[fetch]\nquestion_timeout = \"300ms\"\n");
    let impatient = impatient.replace("read_timeout = \"1s\"", "read_timeout = \"60s\"");
    let larder = TestLarder::with(&config(&upstream, &impatient)).await;
    let bulk = "/npm/-/npm/v1/security/advisories/bulk";
    let ask = async || {
        let path = bulk.replace("/npm/-", "/npm/public/-");
        let body = Some(r#"{"left-pad":["1.3.0"]}"#.into());
        larder.send(reqwest::Method::POST, &path, &[], body).await
    };
    for (status, words) in [
        (410, "use the bulk endpoint"),
        (400, "invalid package tree"),
        (404, "no audit"),
    ] {
        let body = format!(r#"{{"error":"{words}"}}"#);
        let mut refusal = Reply::json(body.clone()).header("content-type", "application/json");
        refusal.status = Some(status);
        upstream.put(bulk, refusal);
        let said = ask().await.expect(status);
        assert_eq!(said.text(), body);
        assert_eq!(said.header("content-type"), "application/json");
    }
    let mut page = Reply::typed("text/html", "<script>").header("content-type", "text/html");
    page.status = Some(400);
    upstream.put(bulk, page);
    assert_eq!(ask().await.expect(400).header("content-type"), "text/plain");
    let max = 64 * 1024;
    for bytes in [max, max + 1] {
        let mut long = Reply::bytes("x".repeat(bytes));
        long.status = Some(400);
        upstream.put(bulk, long);
        assert_eq!(
            ask().await.expect(400).text().len(),
            max,
            "the rest is left out"
        );
    }
    upstream.put(bulk, Reply::json("{}"));
    upstream.fault(bulk, Fault::Status(429, Some(20)));
    let throttled = ask().await.expect(429);
    assert!(throttled.header("retry-after").parse::<u64>().unwrap() > 10);
    assert_eq!(upstream.count(bulk), 7, "it is left in peace");
}

#[tokio::test]
async fn questions_to_a_silent_registry_end_soon() {
    let upstream = Upstream::start().await;
    serve(&upstream);
    let impatient = IMPATIENT.replace("[fetch]\n", "[fetch]\nquestion_timeout = \"300ms\"\n");
    let patient = impatient.replace("read_timeout = \"1s\"", "read_timeout = \"60s\"");
    let larder = TestLarder::with(&config(&upstream, &patient)).await;
    upstream.put("/npm/-/v1/search", Reply::json(r#"{"objects":[]}"#));
    let gate = Arc::new(Notify::new());
    upstream.always(Some(Fault::StallAfter(0, gate)));
    for path in [
        "/npm/public/-/v1/search?text=a",
        "/npm/public/-/npm/v1/attestations/a@1.0.0",
        "/nuget/public/v3/index.json",
        "/nuget/public/v3/query?q=a",
    ] {
        larder.get(path).await.expect(504);
    }
}

#[tokio::test]
async fn own_packages_are_found_where_upstream_was_never_seen() {
    let mut upstream = Upstream::start().await;
    serve(&upstream);
    upstream.vanish();
    let larder = TestLarder::start_and(&upstream, TEAM).await;
    let push = async || {
        let path = "/nuget/team/api/v2/package";
        let body = Some(nupkg("Acme.Own", "1.0.0", &[]).into());
        larder
            .send(reqwest::Method::PUT, path, &[("x-nuget-apikey", "x")], body)
            .await
    };
    push().await.expect(201);
    let index = larder
        .get("/nuget/team/v3/index.json")
        .await
        .expect(200)
        .text();
    for kind in [
        "PackageBaseAddress/3.0.0",
        "RegistrationsBaseUrl/3.6.0",
        "PackagePublish/2.0.0",
    ] {
        assert!(index.contains(kind), "{kind}");
    }
    assert!(!index.contains("VulnerabilityInfo"));
    for path in ["query?q=own", "autocomplete?q=own"] {
        let found = larder
            .get(&format!("/nuget/team/v3/{path}"))
            .await
            .expect(200);
        assert!(found.text().to_lowercase().contains("acme.own"), "{path}");
    }
    larder
        .get("/nuget/team/v3/flat/acme.own/index.json")
        .await
        .expect(200);
    // Half an answer about one package is a wrong one.
    let unknown = larder.get("/nuget/team/v3/flat/not.ours/index.json").await;
    assert!(matches!(unknown.status, 502..=504), "{}", unknown.status);
    upstream.come_back().await;
    until("upstream's resources join", async || {
        let index = larder.get("/nuget/team/v3/index.json").await.expect(200);
        index.text().contains("VulnerabilityInfo")
    })
    .await;
}

#[tokio::test]
async fn a_list_of_projects_has_what_is_here_where_the_registry_is_away() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(&upstream, TEAM).await;
    upstream.vanish();
    // Nothing is here: what there is, nobody knows.
    let nothing = larder.get("/pypi/team/simple/").await;
    assert!(matches!(nothing.status, 502..=504), "{}", nothing.status);
    let wheel = crate::support::pypi::wheel("ours", "1.0", &[]);
    let (file, boundary) = ("ours-1.0-py3-none-any.whl", "edge");
    let mut form = Vec::new();
    for (name, value) in [
        (":action", "file_upload"),
        ("name", "ours"),
        ("version", "1.0"),
        ("filetype", "bdist_wheel"),
    ] {
        form.extend(
            format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .into_bytes(),
        );
    }
    form.extend(format!("--{boundary}\r\ncontent-disposition: form-data; name=\"content\"; filename=\"{file}\"\r\n\r\n").into_bytes());
    form.extend(wheel);
    form.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    let kind = format!("multipart/form-data; boundary={boundary}");
    let headers = [("content-type", kind.as_str())];
    let sent = larder.send(
        reqwest::Method::POST,
        "/pypi/team/legacy/",
        &headers,
        Some(form.into()),
    );
    sent.await.expect(200);
    let list = larder.get("/pypi/team/simple/").await.expect(200);
    assert!(list.text().contains("ours"), "{}", list.text());
}

#[tokio::test]
async fn a_listing_asks_for_a_bounded_number_of_dates_the_newest_first() {
    let upstream = Upstream::start().await;
    let bounded = IMPATIENT.replace("[fetch]\n", "[fetch]\ndates_max = 3\n");
    let rule = "[[rule]]\nname = \"quarantine\"\naction = \"allow\"\npackages = [\"maven:*\"]\nmin_age = \"3d\"\n";
    let larder = TestLarder::with(&format!("{}{rule}", config(&upstream, &bounded))).await;
    let versions: Vec<String> = (0..8)
        .map(|n| format!("<version>1.{n}</version>"))
        .collect();
    let versions = versions.concat();
    let metadata =
        format!("<metadata><versioning><versions>{versions}</versions></versioning></metadata>");
    upstream.put(
        "/maven2/x/a/maven-metadata.xml",
        Reply::typed("application/xml", metadata),
    );
    for n in 0..8 {
        let pom =
            Reply::bytes("<project/>").header("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT");
        if n != 6 {
            upstream.put(&format!("/maven2/x/a/1.{n}/a-1.{n}.pom"), pom);
        }
    }
    let mut shown = Vec::new();
    for _ in 0..4 {
        upstream.forget_seen();
        let listing = larder
            .get("/maven/public/x/a/maven-metadata.xml")
            .await
            .expect(200)
            .text();
        let count = upstream.count_ending(&[".pom"]);
        assert!(count <= 3, "{count} dates");
        shown.push(
            (0..8)
                .filter(|n| listing.contains(&format!("<version>1.{n}</version>")))
                .collect::<Vec<_>>(),
        );
    }
    // 1.6 has no date: it is held back, and not asked for again at once.
    assert_eq!(
        shown,
        [
            vec![5, 7],
            vec![2, 3, 4, 5, 7],
            vec![0, 1, 2, 3, 4, 5, 7],
            vec![0, 1, 2, 3, 4, 5, 7]
        ]
    );
    assert!(upstream.count_ending(&[".pom"]) == 0, "all dates are known");
}
