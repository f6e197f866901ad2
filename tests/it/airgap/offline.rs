//! Offline: no packet leaves, documents offer what is here, and what is missing is remembered.

use serde_json::Value;

use super::open_side;
use crate::support::npm::{publish, version};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::until;
use crate::support::{TestLarder, Upstream, nuget, pypi};

fn versions(document: &Value) -> Vec<String> {
    document["versions"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

/// Offline from now on, and sure that it is.
async fn cut_off(upstream: &Upstream, larder: &TestLarder, text: &str) {
    larder.reload(&format!("offline = true\n{text}")).await;
    upstream.forget_seen();
    upstream.vanish();
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_offer_the_versions_that_are_here() {
    let (upstream, larder, text) = open_side().await;
    let three = ["1.0.0", "1.1.0", "2.0.0"].map(|one| version(one, &[]));
    publish(&upstream, "left-pad", &three);
    pypi::publish(
        &upstream,
        &upstream,
        "six",
        &[("1.0", &[]), ("1.1", &[])],
        true,
    );
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "1.1.0"], false);
    let metadata = "<metadata><groupId>g</groupId><artifactId>a</artifactId><versioning><latest>2</latest><release>2</release><versions><version>1</version><version>2</version></versions></versioning></metadata>";
    upstream.put(
        "/maven2/g/a/maven-metadata.xml",
        crate::support::upstream::Reply::typed("text/xml", metadata),
    );
    for version in ["1", "2"] {
        for ending in ["pom", "jar"] {
            upstream.put(
                &format!("/maven2/g/a/{version}/a-{version}.{ending}"),
                crate::support::upstream::Reply::bytes(format!("{version} {ending}")),
            );
        }
    }
    let accept = [("accept", "application/vnd.pypi.simple.v1+json")];
    let page = larder.get_with("/pypi/public/simple/six/", &accept).await;
    let page = page.expect(200).json();
    let wheel = page["files"][0]["url"].as_str().unwrap().to_owned();
    assert!(wheel.contains("six-1.0-"), "{wheel}");
    let wheel = match wheel.strip_prefix(&larder.url) {
        Some(path) => path.to_owned(),
        None => format!("/pypi/public/simple/six/{wheel}"),
    };
    let flat = {
        let index = larder.get("/nuget/public/v3/index.json").await.expect(200);
        let index = index.json();
        let resources = index["resources"].as_array().unwrap().clone();
        let base = resources
            .iter()
            .find(|one| {
                one["@type"]
                    .as_str()
                    .unwrap()
                    .starts_with("PackageBaseAddress")
            })
            .unwrap()["@id"]
            .as_str()
            .unwrap()
            .to_owned();
        let path = base.trim_start_matches(&larder.url).to_owned();
        assert!(path.starts_with("/nuget/public/"), "{path}");
        format!("{path}acme.lib")
    };
    for path in [
        "/npm/public/left-pad",
        "/npm/public/left-pad/-/left-pad-1.1.0.tgz",
        &wheel,
        "/maven/public/g/a/maven-metadata.xml",
        "/maven/public/g/a/1/a-1.pom",
        "/maven/public/g/a/1/a-1.jar",
        // Read while it was resolved, and not taken.
        "/maven/public/g/a/2/a-2.pom",
        &format!("{flat}/index.json"),
        &format!("{flat}/1.0.0/acme.lib.1.0.0.nupkg"),
    ] {
        larder.get(path).await.expect(200);
    }
    cut_off(&upstream, &larder, &text).await;

    let packument = larder.get("/npm/public/left-pad").await.expect(200).json();
    assert_eq!(versions(&packument), ["1.1.0"]);
    assert_eq!(packument["dist-tags"]["latest"], "1.1.0");
    // The short form, which nobody has asked for before.
    let accept = [("accept", "application/vnd.npm.install-v1+json")];
    let short = larder.get_with("/npm/public/left-pad", &accept).await;
    assert_eq!(versions(&short.expect(200).json()), ["1.1.0"]);
    let page = larder.get("/pypi/public/simple/six/").await.expect(200);
    assert!(page.text().contains("six-1.0-"));
    assert!(!page.text().contains("six-1.1-"), "{}", page.text());
    let metadata = larder.get("/maven/public/g/a/maven-metadata.xml").await;
    let metadata = metadata.expect(200).text();
    assert!(metadata.contains("<version>1</version>"), "{metadata}");
    assert!(!metadata.contains("<version>2</version>"), "{metadata}");
    larder.get("/maven/public/g/a/2/a-2.pom").await.expect(200);
    let index = larder.get(&format!("{flat}/index.json")).await.expect(200);
    assert_eq!(index.json()["versions"], serde_json::json!(["1.0.0"]));
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_chooses_what_is_here() {
    let (upstream, larder, text) = open_side().await;
    publish(
        &upstream,
        "left-pad",
        &["1.0.0", "1.1.0", "1.2.0"].map(|one| version(one, &[])),
    );
    larder
        .get("/npm/public/left-pad/-/left-pad-1.1.0.tgz")
        .await
        .expect(200);
    larder.get("/npm/public/left-pad").await.expect(200);
    cut_off(&upstream, &larder, &text).await;
    let tool = Tool::new();
    tool.write("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    tool.write(".npmrc", &format!("registry={}/npm/public/\n", larder.url));
    let install = ["install", "--no-audit", "--no-fund", "left-pad@^1.0.0"];
    succeeded(&tool.run("npm", &install, &[]).await);
    assert!(
        tool.read("node_modules/left-pad/package.json")
            .contains("1.1.0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_answered_at_once_and_remembered() {
    let (upstream, larder, text) = open_side().await;
    publish(
        &upstream,
        "left-pad",
        &["1.0.0", "1.1.0"].map(|one| version(one, &[])),
    );
    larder
        .get("/npm/public/left-pad/-/left-pad-1.0.0.tgz")
        .await
        .expect(200);
    larder.get("/npm/public/left-pad").await.expect(200);
    cut_off(&upstream, &larder, &text).await;
    let answer = larder
        .get("/npm/public/left-pad/-/left-pad-1.1.0.tgz")
        .await
        .expect(404);
    let said_by_larder = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(said_by_larder.contains("offline"), "{said_by_larder}");
    assert!(said_by_larder.contains("larder wishes"), "{said_by_larder}");
    larder.get("/npm/public/absent").await.expect(404);
    larder
        .get("/pypi/public/simple/some-thing/")
        .await
        .expect(404);
    let tool = Tool::new();
    tool.write("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    tool.write(".npmrc", &format!("registry={}/npm/public/\n", larder.url));
    let began = std::time::Instant::now();
    let output = tool.run("npm", &["install", "absent"], &[]).await;
    assert!(said(&output).contains("offline"), "{}", said(&output));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());

    let wishes = larder.larder.store.wishes().list().await.unwrap();
    let words: Vec<_> = wishes
        .iter()
        .map(|wish| (&*wish.package, &*wish.version, &*wish.file))
        .collect();
    assert_eq!(
        words,
        [
            ("npm:absent", "", ""),
            ("npm:left-pad", "1.1.0", "left-pad-1.1.0.tgz"),
            ("pypi:some-thing", "", ""),
        ]
    );
    assert_eq!(wishes[0].repository, "public");
    assert!(wishes[0].times >= 2);
    let text_of_the_open_side = text;
    let mut upstream = upstream;
    upstream.come_back().await;
    larder.reload(&text_of_the_open_side).await;
    larder
        .get("/npm/public/left-pad/-/left-pad-1.1.0.tgz")
        .await
        .expect(200);
    // Its row is written behind its last byte. What is here is wished for no more.
    until("what is here is wished for no more", async || {
        larder.larder.store.wishes().list().await.unwrap().len() <= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_may_be_offline_beside_others() {
    let (upstream, larder, text) = open_side().await;
    publish(&upstream, "left-pad", &[version("1.0.0", &[])]);
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let npm_alone = text.replace("format = \"npm\"\n", "format = \"npm\"\noffline = true\n");
    larder.reload(&npm_alone).await;
    larder.get("/npm/public/left-pad").await.expect(404);
    larder.get("/pypi/public/simple/six/").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_offline_registry_may_have_is_not_taken_from_a_farther_one() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    publish(&near, "ours", &[version("1.0.0", &[])]);
    for name in ["ours", "secret"] {
        publish(&far, name, &[version("9.0.0", &[])]);
    }
    let connection = |name: &str, upstream: &Upstream, more: &str| {
        let url = upstream.url();
        format!("[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n{more}")
    };
    let text = |offline: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\n[ahead]\nenabled = false\n{}{}[[repository]]\nname = \"public\"\nexternal_connections = [\"near\", \"far\"]\n",
            connection("near", &near, offline),
            connection("far", &far, "")
        )
    };
    let larder = TestLarder::with(&text("")).await;
    larder
        .get("/npm/public/ours/-/ours-1.0.0.tgz")
        .await
        .expect(200);
    larder.reload(&text("offline = true\n")).await;
    far.forget_seen();
    larder.get("/npm/public/secret").await.expect(404);
    larder
        .get("/npm/public/secret/-/secret-9.0.0.tgz")
        .await
        .expect(404);
    assert!(
        far.seen().iter().all(|seen| !seen.path.ends_with(".tgz")),
        "{:?}",
        far.seen()
    );
    larder
        .get("/npm/public/ours/-/ours-1.0.0.tgz")
        .await
        .expect(200);
}
