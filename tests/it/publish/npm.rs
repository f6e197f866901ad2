use std::ffi::OsString;

use super::{npm_document, npm_put, npm_versions, team};
use crate::support::TestLarder;
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::{Tool, clients, said, succeeded};

fn bin(name: &str) -> OsString {
    clients().join("node/node_modules/.bin").join(name).into()
}

fn script(package: &str, file: &str) -> String {
    let path = clients().join("node/node_modules").join(package).join(file);
    path.display().to_string()
}

/// A package to be published, and settings under which npm and its kin may.
fn package(larder: &TestLarder, name: &str, version: &str, content: &str) -> Tool {
    let tool = Tool::new();
    tool.write(
        "package.json",
        &format!("{{\"name\":\"{name}\",\"version\":\"{version}\",\"description\":\"of our own\",\"main\":\"index.js\"}}"),
    );
    tool.write("index.js", content);
    let host = larder.url.trim_start_matches("http:");
    tool.write(
        ".npmrc",
        &format!(
            "registry={}/npm/team/\n{host}/npm/team/:_authToken=anything\n",
            larder.url
        ),
    );
    tool
}

/// Publishes with a client, installs back with npm from an empty cache, and is refused other bytes.
async fn publishes(
    larder: &TestLarder,
    name: &str,
    program: &OsString,
    arguments: &[&str],
    variables: &[(&str, &str)],
) {
    let tool = package(larder, name, "1.0.0", "module.exports = 1\n");
    let output = tool.run(program, arguments, variables).await;
    succeeded(&output);
    let consumer = Tool::new();
    consumer.write("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    let registry = format!("{}/npm/team/", larder.url);
    let settings = [("npm_config_registry", registry.as_str())];
    let install = ["install", "--no-fund", "--no-audit", name];
    succeeded(&consumer.run("npm", &install, &settings).await);
    assert!(consumer.has(&format!("node_modules/{name}/index.js")));
    assert!(
        consumer
            .read("package-lock.json")
            .contains("\"integrity\": \"sha512-")
    );
    let other = package(larder, name, "1.0.0", "module.exports = 2\n");
    let output = other.run(program, arguments, variables).await;
    assert!(!output.status.success(), "{}", said(&output));
    println!(
        "{name}: published, installed back, and a second time: {}",
        said(&output)
            .lines()
            .find(
                |line| ["409", "already", "over existing", "cannot publish over"]
                    .iter()
                    .any(|word| line.to_lowercase().contains(word))
            )
            .unwrap_or_else(|| panic!("{}", said(&output)))
    );
    assert_eq!(npm_versions(larder, name).await, ["1.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_publishes_installs_back_and_is_refused_other_bytes() {
    let (_upstream, larder) = team().await;
    publishes(&larder, "acme-npm", &"npm".into(), &["publish"], &[]).await;
    publishes(&larder, "@acme/scoped", &"npm".into(), &["publish"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pnpm_publishes() {
    let (_upstream, larder) = team().await;
    let publish = ["publish", "--no-git-checks"];
    publishes(&larder, "acme-pnpm", &bin("pnpm"), &publish, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_classic_publishes() {
    let (_upstream, larder) = team().await;
    let classic = script("yarn", "bin/yarn.js");
    let publish = [
        classic.as_str(),
        "publish",
        "--new-version",
        "1.0.0",
        "--non-interactive",
    ];
    publishes(&larder, "acme-classic", &"node".into(), &publish, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_berry_publishes() {
    let (_upstream, larder) = team().await;
    let berry = script("@yarnpkg/cli-dist", "bin/yarn.js");
    let registry = format!("{}/npm/team", larder.url);
    let settings = [
        ("YARN_NPM_REGISTRY_SERVER", registry.as_str()),
        ("YARN_NPM_PUBLISH_REGISTRY", registry.as_str()),
        ("YARN_UNSAFE_HTTP_WHITELIST", "127.0.0.1"),
        ("YARN_NPM_AUTH_TOKEN", "anything"),
        ("YARN_ENABLE_TELEMETRY", "0"),
        ("YARN_IGNORE_PATH", "1"),
    ];
    // Berry works in projects alone, which have a lockfile.
    let tool = package(&larder, "acme-berry", "1.0.0", "");
    succeeded(
        &tool
            .run("node", &[&berry, "install", "--no-immutable"], &settings)
            .await,
    );
    let sh = format!(
        "touch yarn.lock && node {berry} install --no-immutable >/dev/null && node {berry} npm publish"
    );
    publishes(&larder, "acme-berry", &"sh".into(), &["-c", &sh], &settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bun_publishes() {
    let (_upstream, larder) = team().await;
    publishes(&larder, "acme-bun", &bin("bun"), &["publish"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_tags_deprecates_and_unpublishes() {
    let (_upstream, larder) = team().await;
    let npm = |version: &str| package(&larder, "acme-lib", version, version);
    for version in ["1.0.0", "1.1.0"] {
        succeeded(&npm(version).run("npm", &["publish"], &[]).await);
    }
    let tool = npm("0.0.0");
    let run = async |arguments: &[&str]| tool.run("npm", arguments, &[]).await;
    succeeded(&run(&["dist-tag", "add", "acme-lib@1.0.0", "stable"]).await);
    for (wanted, version) in [("1.0.0", "1.0.0"), ("stable", "1.0.0"), ("latest", "1.1.0")] {
        let manifest = larder.get(&format!("/npm/team/acme-lib/{wanted}")).await;
        assert_eq!(manifest.expect(200).json()["version"], version);
    }
    larder.get("/npm/team/acme-lib/9.9.9").await.expect(404);
    let tags = run(&["dist-tag", "ls", "acme-lib"]).await;
    assert!(said(&tags).contains("stable: 1.0.0"), "{}", said(&tags));
    assert!(said(&tags).contains("latest: 1.1.0"));
    succeeded(&run(&["dist-tag", "rm", "acme-lib", "stable"]).await);
    assert!(!said(&run(&["dist-tag", "ls", "acme-lib"]).await).contains("stable"));

    succeeded(&run(&["deprecate", "acme-lib@1.0.0", "use 1.1"]).await);
    let view = run(&["view", "acme-lib@1.0.0", "deprecated"]).await;
    assert!(said(&view).contains("use 1.1"), "{}", said(&view));
    succeeded(&run(&["deprecate", "acme-lib@1.0.0", ""]).await);
    assert!(!said(&run(&["view", "acme-lib@1.0.0", "deprecated"]).await).contains("use"));

    succeeded(&run(&["access", "get", "status", "acme-lib"]).await);
    let refused = run(&["owner", "add", "somebody", "acme-lib"]).await;
    assert!(!refused.status.success());
    assert_eq!(npm_versions(&larder, "acme-lib").await.len(), 2);

    succeeded(&run(&["unpublish", "acme-lib@1.1.0"]).await);
    assert_eq!(npm_versions(&larder, "acme-lib").await, ["1.0.0"]);
    larder
        .get("/npm/team/acme-lib/-/acme-lib-1.1.0.tgz")
        .await
        .expect(404);
    let again = npm("1.1.0").run("npm", &["publish"], &[]).await;
    assert!(said(&again).contains("not given again"), "{}", said(&again));
    succeeded(&run(&["unpublish", "acme-lib", "--force"]).await);
    assert!(npm_versions(&larder, "acme-lib").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_finds_what_was_published() {
    let (_upstream, larder) = team().await;
    let tool = package(&larder, "acme-found", "1.2.3", "");
    succeeded(&tool.run("npm", &["publish"], &[]).await);
    let found = larder.get("/npm/team/-/v1/search?text=own").await;
    // The connection has no search; ours is asked first, and nobody stands in its way.
    let found = found.expect(200).json();
    assert_eq!(found["objects"][0]["package"]["name"], "acme-found");
    assert_eq!(found["objects"][0]["package"]["version"], "1.2.3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_agree_with_itself_is_refused() {
    let (_upstream, larder) = team().await;
    let good = tarball("acme-a", "1.0.0", &[]);
    let document = |name: &str, version: &str, bytes: &[u8]| npm_document(name, version, bytes);
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let honest = text(&document("acme-a", "1.0.0", &good));
    for (sent, why) in [
        (
            document("acme-a", "2.0.0", &good),
            "the tarball's package.json is of acme-a@1.0.0",
        ),
        (
            document("acme-a", "1.0", &good),
            "no version as npm writes it",
        ),
        (
            document("acme-a", "1.0.0", b"no archive"),
            "no gzipped tar archive",
        ),
        (
            honest.replace("\"shasum\":\"", "\"shasum\":\"00").into(),
            "is no sha1 digest",
        ),
        (
            honest.replace("sha512-", "sha512-AAAA").into(),
            "no digest that can be read",
        ),
        (
            honest.replace("\"length\":", "\"length\":1").into(),
            "another length",
        ),
        (
            honest[..honest.len() / 2].to_owned().into(),
            "cannot be read",
        ),
    ] {
        let answer = npm_put(&larder, "acme-a", sent).await;
        let answer = answer.expect(400);
        assert!(
            answer.json()["error"].as_str().unwrap().contains(why),
            "{}",
            answer.text()
        );
    }
    let other = document("acme-b", "1.0.0", &good);
    npm_put(&larder, "acme-b", other).await.expect(400);
    npm_put(
        &larder,
        "acme-c",
        npm_document("acme-c", "1.0.0", &tarball("acme-c", "1.0.0", &[])),
    )
    .await
    .expect(201);
    assert!(npm_versions(&larder, "acme-b").await.is_empty());
    assert_eq!(npm_versions(&larder, "acme-c").await, ["1.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_outside_is_not_published_and_a_page_in_a_browser_publishes_nothing() {
    let (upstream, larder) = team().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    larder.get("/npm/team/left-pad").await.expect(200);
    let document = npm_document("left-pad", "9.0.0", &tarball("left-pad", "9.0.0", &[]));
    let refused = npm_put(&larder, "left-pad", document.clone())
        .await
        .expect(403);
    assert!(refused.text().contains("[[origin]]"), "{}", refused.text());
    let own = npm_document("acme-x", "1.0.0", &tarball("acme-x", "1.0.0", &[]));
    let headers = [
        ("content-type", "application/json"),
        ("origin", "https://evil.example"),
    ];
    larder
        .send(
            reqwest::Method::PUT,
            "/npm/team/acme-x",
            &headers,
            Some(own.clone()),
        )
        .await
        .expect(403);
    let denied = larder
        .send(reqwest::Method::PUT, "/npm/public/acme-x", &[], Some(own))
        .await
        .expect(403);
    assert!(denied.text().contains("publish = "), "{}", denied.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_publishes_of_one_version_one_wins_and_the_others_conflict() {
    let (_upstream, larder) = team().await;
    let bodies: Vec<bytes::Bytes> = (0..8)
        .map(|index| {
            let dependency = format!("^{index}.0.0");
            let bytes = tarball("acme-race", "1.0.0", &[("x", dependency.as_str())]);
            npm_document("acme-race", "1.0.0", &bytes)
        })
        .collect();
    let answers = futures_util::future::join_all(
        bodies
            .iter()
            .map(|body| npm_put(&larder, "acme-race", body.clone())),
    )
    .await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    let winner = answers
        .iter()
        .position(|answer| answer.status == 201)
        .unwrap();
    let document = larder.get("/npm/team/acme-race").await.expect(200).json();
    let dist = &document["versions"]["1.0.0"]["dist"];
    let tarball = larder
        .get("/npm/team/acme-race/-/acme-race-1.0.0.tgz")
        .await;
    let bytes = tarball.expect(200).bytes().clone();
    assert_eq!(dist["integrity"], crate::support::integrity(&bytes));
    // What was sent first is there, and sending it again changes nothing.
    npm_put(&larder, "acme-race", bodies[winner].clone())
        .await
        .expect(200);
}
