//! Rewriting changes URLs and nothing else, and no document leads outside.

use std::collections::HashSet;

use crate::support::npm::{publish, publish_at, version};
use crate::support::{Reply, TestLarder, Upstream, nuget, pypi};

#[tokio::test]
async fn without_rules_an_untouched_packument_is_upstreams_byte_for_byte() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let answer = larder
        .get_with(
            "/-/run/7a/npm/public/left-pad",
            &[("user-agent", "npm/11.0.0 node/v20")],
        )
        .await
        .expect(200);
    assert_eq!(answer.bytes(), &upstream.reply("/npm/left-pad").body);
    // Other clients take the address as it stands.
    let rewritten = larder
        .get_with(
            "/-/run/7a/npm/public/left-pad",
            &[("user-agent", "yarn/1.22")],
        )
        .await
        .json();
    let tarball = rewritten["versions"]["1.3.0"]["dist"]["tarball"]
        .as_str()
        .unwrap();
    assert_eq!(
        tarball,
        format!(
            "{}/-/run/7a/npm/public/left-pad/-/left-pad-1.3.0.tgz",
            larder.url
        )
    );
}

#[tokio::test]
async fn tarballs_on_other_hosts_and_odd_paths_come_through_larder() {
    let (upstream, cdn) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start(&upstream).await;
    let place = |_: &str| {
        (
            format!("{}/files/9f/download", cdn.url()),
            "/files/9f/download".to_owned(),
        )
    };
    publish_at(&upstream, "@a/b", &[version("1.0.0", &[])], place, &cdn);
    let document = larder.get("/npm/public/@a%2fb").await.expect(200).json();
    let tarball = document["versions"]["1.0.0"]["dist"]["tarball"]
        .as_str()
        .unwrap();
    larder
        .get(tarball.strip_prefix(&larder.url).unwrap())
        .await
        .expect(200);
    assert_eq!(cdn.seen().len(), 1);
}

#[tokio::test]
async fn npm_finds_an_untouched_odd_address_at_our_host() {
    let (upstream, cdn) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start(&upstream).await;
    let place = |_: &str| {
        (
            format!("{}/files/9f/odd.tgz", cdn.url()),
            "/files/9f/odd.tgz".to_owned(),
        )
    };
    publish_at(&upstream, "odd", &[version("1.0.0", &[])], place, &cdn);
    larder
        .get_with("/-/run/7a/npm/public/odd", &[("user-agent", "npm/11")])
        .await
        .expect(200);
    larder
        .get("/-/run/7a/npm/public/files/9f/odd.tgz")
        .await
        .expect(200);
    larder
        .get("/npm/public/files/unknown.tgz")
        .await
        .expect(404);
}

#[tokio::test]
async fn every_address_in_every_document_of_nuget_is_ours_and_is_there() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "1.1.0"], true);
    let larder = TestLarder::start(&upstream).await;
    let mut left = vec![
        "/nuget/public/v3/registration-gz-semver2/acme.lib/index.json".to_owned(),
        "/nuget/public/v3/registration/acme.lib/index.json".to_owned(),
        "/nuget/public/v3/query?q=acme".to_owned(),
        "/nuget/public/v3/vulnerabilities/index.json".to_owned(),
        "/nuget/public/v3/flat/acme.lib/index.json".to_owned(),
    ];
    let mut seen = HashSet::new();
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = larder.get(&path).await;
        // Single leaves of this fixture have no document of their own.
        if path.ends_with(".json") && path.contains("/1.") && path.contains("/registration") {
            continue;
        }
        assert_eq!(answer.status, 200, "{path}");
        let text = match answer.header("content-encoding") {
            "gzip" => {
                let mut text = String::new();
                std::io::Read::read_to_string(
                    &mut flate2::read::GzDecoder::new(&answer.bytes()[..]),
                    &mut text,
                )
                .unwrap();
                text
            }
            _ => String::from_utf8_lossy(answer.bytes()).into_owned(),
        };
        assert!(
            !text.contains(&upstream.address),
            "{path} leads outside: {text}"
        );
        for piece in text
            .split('"')
            .filter(|piece| piece.starts_with(&larder.url))
        {
            left.push(piece.strip_prefix(&larder.url).unwrap().to_owned());
        }
    }
    assert!(seen.iter().any(|path| path.ends_with(".nupkg")), "{seen:?}");
}

#[tokio::test]
async fn the_service_index_names_what_is_served_and_nothing_else_of_upstreams() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let larder = TestLarder::start(&upstream).await;
    let index = larder
        .get("/nuget/public/v3/index.json")
        .await
        .expect(200)
        .json();
    let services: Vec<(&str, &str)> = index["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| {
            (
                service["@type"].as_str().unwrap(),
                service["@id"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(services.iter().all(|(kind, _)| *kind != "Unknown/1.0.0"));
    for (kind, id) in services {
        let ours = id.starts_with(&larder.url);
        assert_eq!(ours, !kind.starts_with("PackageDetails"), "{kind} {id}");
    }
}

#[tokio::test]
async fn python_pages_come_in_both_forms_whichever_upstream_has() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start(&upstream).await;
    for (name, in_json) in [("six", true), ("seven", false)] {
        pypi::publish(&upstream, &files, name, &[("1.0", &["other>=1"])], in_json);
        let page = format!("/pypi/public/simple/{name}/");
        let json = larder
            .get_with(&page, &[("accept", pypi::JSON)])
            .await
            .expect(200);
        assert_eq!(json.header("content-type"), pypi::JSON);
        let json = json.json();
        let file = &json["files"][0];
        assert!(file["core-metadata"]["sha256"].is_string(), "{file}");
        let html = larder
            .get_with(&page, &[("accept", "text/html")])
            .await
            .expect(200)
            .text();
        assert!(html.contains("data-core-metadata=\"sha256="), "{html}");
        let url = file["url"].as_str().unwrap();
        assert!(html.contains(url), "{html}");
        let metadata = larder
            .get(&format!("{page}{url}.metadata"))
            .await
            .expect(200)
            .text();
        assert!(metadata.contains("Requires-Dist: other>=1"));
    }
    let moved = larder.get("/pypi/public/simple/Six").await.expect(301);
    assert_eq!(
        moved.header("location"),
        format!("{}/pypi/public/simple/six/", larder.url)
    );
}

#[tokio::test]
async fn what_surrounds_packages_in_npm_is_passed_on() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    upstream.put("/npm/-/npm/v1/keys", Reply::json(r#"{"keys":[]}"#));
    upstream.put(
        "/npm/-/v1/search",
        Reply::json(r#"{"objects":[{"package":{"name":"a","version":"1.0.0"}}],"total":1}"#),
    );
    upstream.put(
        "/npm/-/npm/v1/attestations/a@1.0.0",
        Reply::json(r#"{"attestations":[]}"#),
    );
    upstream.put(
        "/npm/-/npm/v1/security/advisories/bulk",
        Reply::json(r#"{"a":[]}"#),
    );
    assert_eq!(
        larder
            .get("/npm/public/-/npm/v1/keys")
            .await
            .expect(200)
            .text(),
        r#"{"keys":[]}"#
    );
    assert_eq!(
        larder
            .get("/npm/public/-/v1/search?text=a")
            .await
            .expect(200)
            .json()["total"],
        1
    );
    for path in [
        "/npm/public/-/npm/v1/attestations/a@1.0.0",
        "/-/npm/v1/attestations/a@1.0.0",
    ] {
        larder.get(path).await.expect(200);
    }
    let question = Some("{\"a\":[\"1.0.0\"]}".into());
    let path = "/npm/public/-/npm/v1/security/advisories/bulk";
    let answer = larder
        .send(reqwest::Method::POST, path, &[], question)
        .await
        .expect(200);
    assert_eq!(answer.text(), r#"{"a":[]}"#);
    assert_eq!(
        larder.get("/npm/public/-/ping").await.expect(200).text(),
        "{}"
    );
    assert_eq!(
        larder.get("/npm/public/-/whoami").await.expect(200).json()["username"],
        "anonymous"
    );
}

#[tokio::test]
async fn snapshots_are_revalidated_and_releases_are_kept() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let (snapshot, release) = (
        "org/x/lib/1-SNAPSHOT/lib-1-SNAPSHOT.jar",
        "org/x/lib/1/lib-1.jar",
    );
    let put = |path: &str, text: &str| {
        let path = format!("/maven2/{path}");
        upstream.put(
            &path,
            Reply::bytes(text.to_owned()).header("cache-control", "no-cache"),
        );
        upstream.put(
            &format!("{path}.sha1"),
            Reply::typed("text/plain", crate::support::sha1(text.as_bytes())),
        );
    };
    for (path, after) in [(snapshot, "second"), (release, "first")] {
        put(path, "first");
        let ours = format!("/maven/public/{path}");
        assert_eq!(larder.get(&ours).await.expect(200).text(), "first");
        put(path, "second");
        assert_eq!(larder.get(&ours).await.expect(200).text(), after);
        let sha1 = larder.get(&format!("{ours}.sha1")).await.expect(200).text();
        assert_eq!(sha1, crate::support::sha1(after.as_bytes()));
    }
}

#[tokio::test]
async fn what_surrounds_a_python_file_comes_through_larder_too() {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    let larder = TestLarder::start(&upstream).await;
    pypi::publish(&upstream, &files, "six", &[("1.0", &[])], true);
    let mut page: serde_json::Value =
        serde_json::from_slice(&upstream.reply("/simple/six/").body).unwrap();
    let file = page["files"][0].as_object_mut().unwrap();
    file.insert(
        "provenance".into(),
        format!("{}/integrity/six", upstream.url()).into(),
    );
    file.insert("yanked".into(), "broken".into());
    page["meta"]["tracks"] = serde_json::json!(["https://other.example/simple/six/"]);
    let at_files = page["files"][0]["url"].clone();
    upstream.put("/simple/six/", Reply::typed(pypi::JSON, page.to_string()));
    upstream.put("/integrity/six", Reply::json(r#"{"version":1}"#));
    let legacy = serde_json::json!({
        "info": { "name": "six" },
        "urls": [{ "filename": "six-1.0-py3-none-any.whl", "url": at_files }],
        "releases": { "1.0": [{ "filename": "six-1.0-py3-none-any.whl", "url": at_files }] },
    });
    upstream.put("/pypi/six/json", Reply::json(legacy.to_string()));
    let shown = larder
        .get_with("/pypi/public/simple/six/", &[("accept", pypi::JSON)])
        .await;
    let shown = shown.expect(200).json();
    assert_eq!(shown["files"][0]["yanked"], "broken");
    assert_eq!(
        shown["meta"]["tracks"][0],
        "https://other.example/simple/six/"
    );
    let provenance = shown["files"][0]["provenance"].as_str().unwrap();
    let provenance = larder
        .get(&format!("/pypi/public/simple/six/{provenance}"))
        .await
        .expect(200);
    assert_eq!(provenance.text(), r#"{"version":1}"#);
    let legacy = larder
        .get("/pypi/public/pypi/six/json")
        .await
        .expect(200)
        .json();
    let url = legacy["releases"]["1.0"][0]["url"].as_str().unwrap();
    larder
        .get(url.strip_prefix(&larder.url).unwrap())
        .await
        .expect(200);
    assert_eq!(legacy["urls"][0]["url"], url);
}
