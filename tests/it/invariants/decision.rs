//! One decision, two doors: what is hidden is refused, what is shown is served.

use serde_json::Value;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{Version, publish, version};
use crate::support::until;
use crate::support::{Reply, TestLarder, Upstream, noise, nuget, pypi, sha1};

const RULES: &str = "[[rule]]\nname = \"exception\"\naction = \"allow\"\npackages = [\"npm:left-pad@3.0.0\"]\nexpires = \"2999-01-01\"\n\
    [[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@<1.1.0\", \"pypi:six@==1.1\", \"maven:org.x:lib@1.1\", \"nuget:Acme.Lib@1.1.0\"]\nreason = \"known bad\"\n\
    [[rule]]\nname = \"quarantine\"\naction = \"allow\"\npackages = [\"*\"]\nmin_age = \"3d\"\n";

fn today() -> String {
    jiff::Timestamp::now().to_string()
}

fn left_pad(upstream: &Upstream) {
    let now = today();
    let fresh = |version| Version {
        version,
        dependencies: &[],
        published: &now,
    };
    publish(
        upstream,
        "left-pad",
        &[
            version("1.0.0", &[]),
            version("1.3.0", &[]),
            fresh("2.0.0"),
            fresh("3.0.0"),
        ],
    );
}

#[tokio::test]
async fn a_document_says_what_rules_hide_in_it_each_time_that_it_is_given() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(
        &upstream,
        &RULES[..RULES.find("[[rule]]\nname = \"quar").unwrap()],
    )
    .await;
    left_pad(&upstream);
    publish(&upstream, "once", &[version("2.0.1", &[])]);
    let notice =
        "left-pad 1.0.0 is held back by rule \"bad\"; run \"larder who-decides npm:left-pad\"";
    // Fetched, from the cache, and by the request's own bytes.
    for _ in 0..4 {
        let answer = larder.get("/npm/public/left-pad").await.expect(200);
        assert_eq!(answer.header("npm-notice"), notice);
        assert_eq!(answer.header("cache-control"), "no-cache");
        let etag = [("if-none-match", answer.header("etag"))];
        let same = larder
            .get_with("/npm/public/left-pad", &etag)
            .await
            .expect(304);
        assert_eq!(same.header("npm-notice"), notice);
        let other = larder.get("/npm/public/once").await.expect(200);
        assert!(!other.headers.contains_key("npm-notice"));
        // npm prints no notice of what it may put into its cache; others may keep it.
        let npm = [("user-agent", "npm/11.0.0 node/v22.0.0 linux x64")];
        let answer = larder.get_with("/npm/public/left-pad", &npm).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(other.header("cache-control"), "no-cache");
    }
    let wheels: [(&str, &[&str]); 2] = [("1.0", &[]), ("1.1", &[])];
    pypi::publish(&upstream, &upstream, "six", &wheels, true);
    let said = "six 1.1 is held back by rule \"bad\"; run \"larder who-decides pypi:six\"";
    let page = larder.get("/pypi/public/simple/six/").await.expect(200);
    assert!(!page.headers.contains_key("npm-notice"));
    assert!(
        page.text().contains(&format!("<!-- {said} -->")),
        "{}",
        page.text()
    );
    let json = [("accept", "application/vnd.pypi.simple.v1+json")];
    let page = larder
        .get_with("/pypi/public/simple/six/", &json)
        .await
        .expect(200);
    assert_eq!(page.json()["_larder-notice"], said);
}

#[tokio::test]
async fn npm_hides_in_every_document_what_it_refuses_as_an_asset() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(&upstream, RULES).await;
    left_pad(&upstream);
    for accept in ["application/json", "application/vnd.npm.install-v1+json"] {
        let document = larder
            .get_with("/npm/public/left-pad", &[("accept", accept)])
            .await
            .expect(200)
            .json();
        let versions: Vec<&String> = document["versions"].as_object().unwrap().keys().collect();
        assert_eq!(versions, ["1.3.0", "3.0.0"], "{accept}");
        assert_eq!(document["dist-tags"]["latest"], "3.0.0");
    }
    for (version, status, rule) in [
        ("1.0.0", 403, "bad"),
        ("1.3.0", 200, ""),
        ("2.0.0", 403, "quarantine"),
        ("3.0.0", 200, ""),
    ] {
        let answer = larder
            .get(&format!("/npm/public/left-pad/-/left-pad-{version}.tgz"))
            .await
            .expect(status);
        if status == 403 {
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(error.contains(&format!("rule \"{rule}\"")), "{error}");
            // The manifest of one version is given where that version's file is.
            let manifest = larder
                .get(&format!("/npm/public/left-pad/{version}"))
                .await
                .expect(403);
            let error = manifest.json()["error"].as_str().unwrap().to_owned();
            assert!(error.contains(&format!("rule \"{rule}\"")), "{error}");
        } else {
            larder
                .get(&format!("/npm/public/left-pad/{version}"))
                .await
                .expect(200);
        }
    }
}

#[tokio::test]
async fn a_hidden_latest_moves_to_the_newest_that_is_left() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(
        &upstream,
        "[[rule]]\naction = \"deny\"\npackages = [\"npm:left-pad@>=2\"]\n",
    )
    .await;
    left_pad(&upstream);
    let tags = larder
        .get("/npm/public/-/package/left-pad/dist-tags")
        .await
        .expect(200)
        .json();
    assert_eq!(tags["latest"], "1.3.0");
}

#[tokio::test]
async fn rules_reach_what_is_cached_already() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    left_pad(&upstream);
    let tarball = "/npm/public/left-pad/-/left-pad-1.3.0.tgz";
    larder.get(tarball).await.expect(200);
    larder.get("/npm/public/left-pad").await.expect(200);
    let text = crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT);
    larder.reload(&format!("{text}[[rule]]\naction = \"deny\"\npackages = [\"npm:left-pad@1.3.0\"]\nreason = \"worm\"\n")).await;
    assert!(
        larder
            .get(tarball)
            .await
            .expect(403)
            .text()
            .contains("worm")
    );
    let document = larder.get("/npm/public/left-pad").await.json();
    assert!(document["versions"].get("1.3.0").is_none());
}

#[tokio::test]
async fn both_forms_of_a_python_page_and_its_files_agree() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start_and(&upstream, RULES).await;
    pypi::publish(
        &upstream,
        &files,
        "six",
        &[("1.0", &[]), ("1.1", &[])],
        true,
    );
    let json = larder
        .get_with("/pypi/public/simple/six/", &[("accept", pypi::JSON)])
        .await
        .expect(200)
        .json();
    assert_eq!(json["files"].as_array().unwrap().len(), 1);
    assert_eq!(json["versions"], serde_json::json!(["1.0"]));
    let html = larder
        .get("/pypi/public/simple/six/")
        .await
        .expect(200)
        .text();
    assert!(html.contains("six-1.0-py3") && !html.contains("six-1.1"));
    let shown = json["files"][0]["url"].as_str().unwrap();
    larder
        .get(&format!("/pypi/public/simple/six/{shown}"))
        .await
        .expect(200);
    for seen in files_of(&upstream, "six-1.1") {
        let refused = larder
            .get(&format!("/pypi/public/simple/six/{seen}"))
            .await
            .expect(403);
        assert!(refused.text().contains("known bad"));
        larder
            .get(&format!("/pypi/public/simple/six/{seen}.metadata"))
            .await
            .expect(403);
    }
}

/// Our addresses of the files that upstream's own page names.
fn files_of(upstream: &Upstream, like: &str) -> Vec<String> {
    let page: Value = serde_json::from_slice(&upstream.reply("/simple/six/").body).unwrap();
    let found: Vec<String> = page["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["url"].as_str().unwrap().replace("http://", "+http/"))
        .filter(|url| url.contains(like))
        .collect();
    assert!(!found.is_empty());
    found
}

#[tokio::test]
async fn a_date_that_is_not_known_fails_closed_with_the_reason() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start_and(&upstream, RULES).await;
    // The HTML form has no dates.
    pypi::publish(&upstream, &files, "six", &[("1.0", &[])], false);
    let html = larder
        .get("/pypi/public/simple/six/")
        .await
        .expect(200)
        .text();
    assert!(!html.contains("six-1.0"));
    let url = files.seen();
    assert!(url.is_empty());
    let path = files
        .paths()
        .into_iter()
        .find(|path| path.ends_with(".whl"))
        .unwrap();
    let file = format!("/pypi/public/simple/six/+http/{}{path}", files.address);
    assert!(
        larder
            .get(&file)
            .await
            .expect(403)
            .text()
            .contains("publish date is not known")
    );
}

#[tokio::test]
async fn maven_dates_are_last_modified_and_its_metadata_agrees() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(&upstream, RULES).await;
    let dated = |bytes: Vec<u8>, date: &str| Reply::bytes(bytes).header("last-modified", date);
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (version, date) in [("1.0", old), ("1.1", old), ("1.2", now.as_str())] {
        for ending in ["pom", "jar"] {
            let bytes = noise(100, version.len() as u64);
            let path = format!("/maven2/org/x/lib/{version}/lib-{version}.{ending}");
            upstream.put(
                &format!("{path}.sha1"),
                Reply::typed("text/plain", sha1(&bytes)),
            );
            upstream.put(&path, dated(bytes, date));
        }
    }
    let metadata = "<metadata><versioning><latest>1.2</latest><release>1.2</release><versions><version>1.0</version><version>1.1</version><version>1.2</version></versions></versioning></metadata>";
    upstream.put(
        "/maven2/org/x/lib/maven-metadata.xml",
        Reply::typed("text/xml", metadata),
    );
    let shown = larder
        .get("/maven/public/org/x/lib/maven-metadata.xml")
        .await
        .expect(200)
        .text();
    assert_eq!(
        shown,
        "<metadata><versioning><latest>1.0</latest><release>1.0</release><versions><version>1.0</version></versions></versioning></metadata>"
    );
    let checksum = larder
        .get("/maven/public/org/x/lib/maven-metadata.xml.sha1")
        .await
        .expect(200)
        .text();
    assert_eq!(checksum, sha1(shown.as_bytes()));
    for (version, status) in [("1.0", 200), ("1.1", 403), ("1.2", 403)] {
        for ending in ["pom", "jar", "jar.sha1"] {
            larder
                .get(&format!(
                    "/maven/public/org/x/lib/{version}/lib-{version}.{ending}"
                ))
                .await
                .expect(status);
        }
    }
}

#[tokio::test]
async fn every_route_of_nuget_agrees() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "1.1.0"], true);
    let larder = TestLarder::start_and(&upstream, RULES).await;
    let flat = larder
        .get("/nuget/public/v3/flat/acme.lib/index.json")
        .await
        .expect(200)
        .json();
    assert_eq!(flat["versions"], serde_json::json!(["1.0.0"]));
    let index = larder
        .get("/nuget/public/v3/registration/acme.lib/index.json")
        .await
        .expect(200)
        .json();
    let page = index["items"][0]["@id"]
        .as_str()
        .unwrap()
        .trim_start_matches(&larder.url)
        .to_owned();
    let page = larder.get(&page).await.expect(200).json();
    let search = larder
        .get("/nuget/public/v3/query?q=acme")
        .await
        .expect(200)
        .json();
    assert_eq!(search["data"][0]["version"], "1.0.0");
    assert_eq!(search["data"][0]["versions"].as_array().unwrap().len(), 1);
    for (version, status) in [("1.0.0", 200), ("1.1.0", 403)] {
        larder
            .get(&format!(
                "/nuget/public/v3/flat/acme.lib/{version}/acme.lib.{version}.nupkg"
            ))
            .await
            .expect(status);
    }
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["count"], 1);
}

#[tokio::test]
async fn the_explanation_comes_from_the_same_decision() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start_and(&upstream, RULES).await;
    left_pad(&upstream);
    for (version, allowed, rule) in [
        ("1.0.0", false, "bad"),
        ("1.3.0", true, "quarantine"),
        ("2.0.0", false, "quarantine"),
        ("3.0.0", true, "exception"),
    ] {
        let path = format!("/-/decide?repository=public&package=npm:left-pad&version={version}");
        let explanation = larder.get(&path).await.expect(200).json();
        assert_eq!(explanation["allowed"], allowed, "{explanation}");
        assert_eq!(explanation["rule"], rule, "{explanation}");
    }
}

#[tokio::test]
async fn an_answer_that_is_given_again_ends_with_the_rules_that_it_was_given_under() {
    let upstream = Upstream::start().await;
    let plain = config(&upstream, IMPATIENT);
    let larder = TestLarder::with(&plain).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let tarball = "/npm/public/left-pad/-/left-pad-1.3.0.tgz";
    for path in ["/npm/public/left-pad", tarball] {
        for _ in 0..4 {
            larder.get(path).await.expect(200);
        }
    }
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@1.3.0\"]\n";
    larder.reload(&format!("{plain}{rule}")).await;
    larder.get(tarball).await.expect(403);
    let shown = larder.get("/npm/public/left-pad").await.expect(200);
    assert_eq!(shown.json()["versions"].as_object().unwrap().len(), 0);
    larder.reload(&plain).await;
    larder.get(tarball).await.expect(200);
}

#[tokio::test]
async fn an_answer_that_is_given_again_ends_with_the_document_that_it_was_made_from() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    for _ in 0..4 {
        larder.get("/npm/public/left-pad").await.expect(200);
    }
    assert_eq!(upstream.count("/npm/left-pad"), 1);
    // Upstream's document is fresh for minutes; a file that it does not name has it asked at once.
    let both = [version("1.3.0", &[]), version("1.4.0", &[])];
    publish(&upstream, "left-pad", &both);
    let new = "/npm/public/left-pad/-/left-pad-1.4.0.tgz";
    // What was checked a moment ago is not asked about again.
    until("the new file is served", async || {
        larder.get(new).await.status == 200
    })
    .await;
    let shown = larder.get("/npm/public/left-pad").await.expect(200);
    assert_eq!(shown.json()["versions"].as_object().unwrap().len(), 2);
}
