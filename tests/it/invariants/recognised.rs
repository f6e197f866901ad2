//! A good document is never replaced by what is no document of that package; upstream's own word, also
//! that versions are gone, is taken.

use serde_json::{Value, json};

use crate::support::larder::{IMPATIENT, config};
use crate::support::{Reply, TestLarder, Upstream, eventually, until};

const SIMPLE: &str = "application/vnd.pypi.simple.v1+json";

/// A document of each kind: where upstream has it, where Larder serves it, its media type, the
/// document, and what shows that it is served.
fn documents(
    upstream: &Upstream,
) -> Vec<(
    &'static str,
    &'static str,
    &'static str,
    String,
    &'static str,
)> {
    let url = upstream.url();
    let index = json!({ "version": "3.0.0", "resources": [
        { "@id": format!("{url}/flat/"), "@type": "PackageBaseAddress/3.0.0" },
        { "@id": format!("{url}/reg/"), "@type": "RegistrationsBaseUrl" },
        { "@id": format!("{url}/query"), "@type": "SearchQueryService" },
    ]});
    let leaf = json!({ "@id": format!("{url}/reg/a/1.0.0.json"), "packageContent": format!("{url}/flat/a/1.0.0/a.1.0.0.nupkg"),
        "catalogEntry": { "@id": format!("{url}/c/a.json"), "id": "A", "version": "1.0.0" } });
    let registration = json!({ "count": 1, "items": [{ "@id": format!("{url}/reg/a/index.json#page"), "count": 1, "items": [leaf] }] });
    let metadata = "<metadata><groupId>x</groupId><artifactId>a</artifactId><versioning><versions><version>1.0.0</version></versions></versioning></metadata>";
    let page = json!({ "meta": { "api-version": "1.0" }, "name": "a", "files": [
        { "filename": "a-1.0.0.tar.gz", "url": "a-1.0.0.tar.gz", "hashes": {} }] });
    vec![
        (
            "/npm/a",
            "/npm/public/a",
            "application/json",
            json!({ "name": "a", "versions": { "1.0.0": {} } }).to_string(),
            "1.0.0",
        ),
        (
            "/simple/a/",
            "/pypi/public/simple/a/",
            SIMPLE,
            page.to_string(),
            "a-1.0.0.tar.gz",
        ),
        (
            "/simple/b/",
            "/pypi/public/simple/b/",
            "text/html",
            "<a href=\"b-1.0.0.tar.gz\">b-1.0.0.tar.gz</a>".to_owned(),
            "b-1.0.0.tar.gz",
        ),
        (
            "/maven2/x/a/maven-metadata.xml",
            "/maven/public/x/a/maven-metadata.xml",
            "application/xml",
            metadata.to_owned(),
            "1.0.0",
        ),
        (
            "/v3/index.json",
            "/nuget/public/v3/index.json",
            "application/json",
            index.to_string(),
            "PackageBaseAddress",
        ),
        (
            "/flat/a/index.json",
            "/nuget/public/v3/flat/a/index.json",
            "application/json",
            json!({ "versions": ["1.0.0"] }).to_string(),
            "1.0.0",
        ),
        (
            "/reg/a/index.json",
            "/nuget/public/v3/registration/a/index.json",
            "application/json",
            registration.to_string(),
            "1.0.0",
        ),
        (
            "/query",
            "/nuget/public/v3/query",
            "application/json",
            json!({ "totalHits": 1, "data": [{ "id": "A", "version": "1.0.0", "versions": [] }] })
                .to_string(),
            "1.0.0",
        ),
    ]
}

/// A reply that has to be asked about each time.
fn always_asked(media_type: &str, body: &str) -> Reply {
    Reply::typed(media_type, body.to_owned()).header("cache-control", "no-cache")
}

#[tokio::test]
async fn a_good_document_stays_where_upstream_answers_with_what_is_none() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let documents = documents(&upstream);
    for (at, _, media_type, body, _) in &documents {
        upstream.put(at, always_asked(media_type, body));
    }
    for (_, path, _, _, shown) in &documents {
        let good = larder.get(path).await.expect(200);
        assert!(good.text().contains(shown), "{path}");
    }
    for (media_type, none) in [
        ("text/html", "<html><body><h1>Log in</h1></body></html>"),
        ("application/json", ""),
        ("application/json", "{}"),
        ("application/json", r#"{"error":"rate limited"}"#),
        ("application/json", r#"{"name":"other","versions":{"#),
    ] {
        for (at, path, _, _, shown) in &documents {
            let good = upstream.reply(at);
            upstream.put(at, always_asked(media_type, none));
            // A second after a failure the same stale document is given without asking.
            let asked = upstream.count(at);
            until("upstream was asked", async || {
                let stale = larder.get(path).await.expect(200);
                assert!(stale.text().contains(shown), "{path} after `{none}`");
                upstream.count(at) > asked
            })
            .await;
            let stale = larder.get(path).await.expect(200);
            assert!(stale.text().contains(shown), "{path} after `{none}`");
            upstream.put(at, good);
        }
    }
    let metrics = larder.get("/-/metrics").await.text();
    for connection in ["up:npm", "up:pypi", "up:maven", "up:nuget"] {
        let counted = format!("larder_no_documents_total{{connection=\"{connection}\"}}");
        assert!(metrics.contains(&counted), "{connection}");
    }
}

#[tokio::test]
async fn a_first_answer_that_is_no_document_is_an_error_that_says_what_came() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let login = "<html><body><h1>Log in</h1></body></html>";
    upstream.put("/npm/a", always_asked("text/html", login));
    upstream.put(
        "/npm/b",
        always_asked("application/json", r#"{"name":"a","versions":{}}"#),
    );
    let said = larder.get("/npm/public/a").await.expect(502).text();
    assert!(
        said.contains("no document of it (text/html, 41 bytes: "),
        "{said}"
    );
    let said = larder.get("/npm/public/b").await.expect(502).text();
    assert!(said.contains("it is the document of `a`"), "{said}");
    larder.assert_nothing_kept().await;
    // It is asked again, and the good one is taken.
    upstream.put(
        "/npm/a",
        always_asked("application/json", r#"{"name":"a","versions":{}}"#),
    );
    larder.get("/npm/public/a").await.expect(200);
}

#[tokio::test]
async fn versions_that_upstream_takes_down_go_and_an_event_says_so() {
    let upstream = Upstream::start().await;
    let events = tempfile::NamedTempFile::new().unwrap();
    let target = format!("[[target]]\nname = \"file\"\nfile = {:?}\n", events.path());
    let larder = TestLarder::with(&format!("{}{target}", config(&upstream, IMPATIENT))).await;
    let put = |versions: Value| {
        let packument = json!({ "name": "a", "versions": versions }).to_string();
        upstream.put("/npm/a", always_asked("application/json", &packument));
    };
    put(json!({ "1.0.0": {}, "1.1.0": {}, "2.0.0": {} }));
    larder.get("/npm/public/a").await.expect(200);
    put(json!({ "1.0.0": {}, "1.1.0": {} }));
    let fewer = larder.get("/npm/public/a").await.expect(200);
    assert!(!fewer.text().contains("2.0.0"), "one of three is no event");
    put(json!({}));
    let none = larder.get("/npm/public/a").await.expect(200);
    assert_eq!(none.json()["versions"], json!({}));
    upstream.put("/npm/a", always_asked("text/html", "<html>"));
    larder.get("/npm/public/a").await.expect(200);
    let told = async || {
        let lines = std::fs::read_to_string(events.path()).unwrap();
        let told: Vec<Value> = lines
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        (told.len() == 2).then_some(told)
    };
    let told = eventually("two events", told).await;
    let details: Vec<&Value> = told.iter().map(|it| &it["detail"]).collect();
    assert!(
        told.iter()
            .all(|it| it["detail-type"] == "Larder Upstream Document")
    );
    let of = |state: &str| {
        details
            .iter()
            .find(|it| it["documentState"] == state)
            .unwrap()
    };
    assert_eq!(of("Shrunk")["document"], "a");
    assert_eq!(of("Shrunk")["versionsBefore"], 2);
    assert_eq!(of("Shrunk")["versionsNow"], 0);
    assert_eq!(of("Refused")["connectionName"], "up:npm");
}

#[tokio::test]
async fn a_part_that_nobody_asked_for_is_not_taken_for_the_whole() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let part = |kind: &str, body: &str| {
        let reply = Reply::typed(kind, body.to_owned());
        Reply {
            status: Some(206),
            ..reply.header("content-range", "bytes 0-9/99999")
        }
    };
    let document = r#"{"name":"acme","versions":{}}"#;
    upstream.put("/npm/acme", part("application/json", document));
    let page = "<html><body></body></html>";
    upstream.put("/simple/acme/", part("text/html", page));
    upstream.put(
        "/maven2/x/a/1/a-1.jar",
        part("application/java-archive", "a part"),
    );
    for path in [
        "/npm/public/acme",
        "/pypi/public/simple/acme/",
        "/maven/public/x/a/1/a-1.jar",
    ] {
        larder.get(path).await.expect(502);
    }
}

#[tokio::test]
async fn a_login_page_becomes_no_file_of_a_version() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let login = "<!doctype html><h1>Log in</h1>";
    let (jar, asset) = (
        "/maven2/x/a/1.0/a-1.0.jar",
        "/maven/public/x/a/1.0/a-1.0.jar",
    );
    // The page stands in the place of the checksums, too.
    for ending in ["", ".sha1", ".sha256", ".sha512", ".md5"] {
        upstream.put(&format!("{jar}{ending}"), Reply::typed("text/html", login));
    }
    assert!(larder.is_cut(asset).await);
    // Or there are none.
    upstream.put(
        "/maven2/x/a/1.0/a-1.0.pom",
        Reply::typed("text/html", login),
    );
    assert!(larder.is_cut("/maven/public/x/a/1.0/a-1.0.pom").await);
    larder.assert_nothing_kept().await;
    upstream.put("/maven2/x/a/1.0/a-1.0.pom", Reply::bytes("<project/>"));
    larder
        .get("/maven/public/x/a/1.0/a-1.0.pom")
        .await
        .expect(200);
}
