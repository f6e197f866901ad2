//! Dependency confusion: somebody outside takes a name of ours, with a version that every resolver
//! prefers.

use super::{TEAM, npm_document, npm_put, npm_versions, team};
use crate::support::database::on_sqlite;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::{Tool, clients, succeeded};
use crate::support::{Reply, TestLarder, Upstream, nuget, pypi};

/// The attacker's packages, in all four formats.
pub fn attack(upstream: &Upstream) {
    publish(upstream, "acme-lib", &[version("99.0.0", &[])]);
    pypi::publish(upstream, upstream, "acme-lib", &[("99.0", &[])], true);
    nuget::publish(upstream, "Acme.Lib", &["99.0.0"], false);
    let metadata = "<metadata><groupId>org.acme</groupId><artifactId>lib</artifactId><versioning><release>99</release><versions><version>99</version></versions></versioning></metadata>";
    upstream.put(
        "/maven2/org/acme/lib/maven-metadata.xml",
        Reply::typed("application/xml", metadata),
    );
    upstream.put("/maven2/org/acme/lib/99/lib-99.jar", Reply::bytes("evil"));
}

/// Ours, in all four formats.
pub async fn ours(larder: &TestLarder) {
    let npm = npm_document("acme-lib", "1.0.0", &tarball("acme-lib", "1.0.0", &[]));
    npm_put(larder, "acme-lib", npm).await.expect(201);
    super::python::upload(
        larder,
        "acme_lib-1.0-py3-none-any.whl",
        &pypi::wheel("acme-lib", "1.0", &[]),
        &[],
    )
    .await
    .expect(200);
    let put = async |path: &str, body: Vec<u8>| {
        larder
            .send(reqwest::Method::PUT, path, &[], Some(body.into()))
            .await
            .expect(201)
    };
    put(
        "/nuget/team/api/v2/package",
        nuget::nupkg("Acme.Lib", "1.0.0", &[]),
    )
    .await;
    put("/maven/team/org/acme/lib/1/lib-1.jar", b"good".to_vec()).await;
    let end =
        "<metadata><versioning><versions><version>1</version></versions></versioning></metadata>";
    put("/maven/team/org/acme/lib/maven-metadata.xml", end.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_ours_is_not_taken_from_outside_in_any_format() {
    let (upstream, larder) = team().await;
    ours(&larder).await;
    attack(&upstream);
    upstream.forget_seen();

    assert_eq!(npm_versions(&larder, "acme-lib").await, ["1.0.0"]);
    let json = [("accept", pypi::JSON)];
    let page = larder
        .get_with("/pypi/team/simple/acme-lib/", &json)
        .await
        .expect(200)
        .json();
    assert_eq!(page["versions"], serde_json::json!(["1.0"]));
    let html = larder
        .get("/pypi/team/simple/acme-lib/")
        .await
        .expect(200)
        .text();
    assert!(!html.contains("99.0"), "{html}");
    let flat = larder
        .get("/nuget/team/v3/flat/acme.lib/index.json")
        .await
        .expect(200)
        .json();
    assert_eq!(flat["versions"], serde_json::json!(["1.0.0"]));
    let registration = larder
        .get("/nuget/team/v3/registration/acme.lib/index.json")
        .await
        .expect(200);
    assert!(!registration.text().contains("99.0.0"));
    let metadata = larder
        .get("/maven/team/org/acme/lib/maven-metadata.xml")
        .await
        .expect(200);
    assert!(!metadata.text().contains("99"));

    for path in [
        "/npm/team/acme-lib/-/acme-lib-99.0.0.tgz".to_owned(),
        "/npm/team/acme-lib/99.0.0".to_owned(),
        format!(
            "/pypi/team/simple/acme-lib/+http/{}/files/acme_lib-99.0-py3-none-any.whl",
            upstream.address
        ),
        "/nuget/team/v3/flat/acme.lib/99.0.0/acme.lib.99.0.0.nupkg".to_owned(),
        "/maven/team/org/acme/lib/99/lib-99.jar".to_owned(),
        "/maven/team/org/acme/lib/99/lib-99.jar.sha1".to_owned(),
    ] {
        let answer = larder.get(&path).await.expect(404);
        assert!(
            answer.text().contains("a name of our own") || path.ends_with("99.0.0"),
            "{path}: {}",
            answer.text()
        );
    }
    let asked: Vec<String> = upstream.seen().into_iter().map(|seen| seen.path).collect();
    assert!(
        asked
            .iter()
            .all(|path| !path.to_lowercase().contains("acme")),
        "nobody outside hears of the name: {asked:?}"
    );
    println!(
        "npm, pypi, maven, nuget: 99 offered outside, 1 served; requests outside for the name: 0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_and_pip_install_ours_although_a_higher_version_is_offered_outside() {
    let (upstream, larder) = team().await;
    ours(&larder).await;
    attack(&upstream);
    let tool = Tool::new();
    tool.write(
        "package.json",
        r#"{"name":"app","version":"1.0.0","dependencies":{"acme-lib":"*"}}"#,
    );
    let registry = format!("{}/npm/team/", larder.url);
    let settings = [("npm_config_registry", registry.as_str())];
    succeeded(&tool.run("npm", &["install", "--no-fund"], &settings).await);
    assert!(
        tool.read("node_modules/acme-lib/package.json")
            .contains("1.0.0")
    );
    let simple = format!("{}/pypi/team/simple/", larder.url);
    let settings = [
        ("PIP_INDEX_URL", simple.as_str()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    let install = ["install", "--target", "out", "--no-compile", "acme-lib"];
    let pip = clients().join("python/bin/pip");
    succeeded(&tool.run(pip, &install, &settings).await);
    assert!(tool.read("out/acme_lib.py").contains("'1.0'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_outside_is_not_published_in_any_format() {
    let (upstream, larder) = team().await;
    attack(&upstream);
    for path in [
        "/npm/team/acme-lib",
        "/pypi/team/simple/acme-lib/",
        "/nuget/team/v3/registration-gz-semver2/acme.lib/index.json",
        "/nuget/team/v3/flat/acme.lib/99.0.0/acme.lib.99.0.0.nupkg",
        "/maven/team/org/acme/lib/99/lib-99.jar",
    ] {
        larder.get(path).await.expect(200);
    }
    let npm = npm_document("acme-lib", "1.0.0", &tarball("acme-lib", "1.0.0", &[]));
    npm_put(&larder, "acme-lib", npm).await.expect(403);
    super::python::upload(
        &larder,
        "acme_lib-1.0-py3-none-any.whl",
        &pypi::wheel("acme-lib", "1.0", &[]),
        &[],
    )
    .await
    .expect(403);
    for (path, body) in [
        (
            "/nuget/team/api/v2/package",
            nuget::nupkg("Acme.Lib", "1.0.0", &[]),
        ),
        ("/maven/team/org/acme/lib/1/lib-1.jar", b"good".to_vec()),
    ] {
        larder
            .send(reqwest::Method::PUT, path, &[], Some(body.into()))
            .await
            .expect(403);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_name_is_never_asked_for_outside_and_an_opened_one_is_merged() {
    let upstream = Upstream::start().await;
    attack(&upstream);
    let origins = "[[origin]]\npackages = [\"npm:@acme/*\"]\nupstream = \"block\"\n[[origin]]\npackages = [\"npm:acme-lib\"]\nupstream = \"allow\"\npublish = \"allow\"\n";
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{origins}")).await;
    publish(&upstream, "@acme/secret", &[version("1.0.0", &[])]);
    larder.get("/npm/team/@acme%2fsecret").await.expect(404);
    assert!(upstream.seen().is_empty());
    let npm = npm_document("acme-lib", "1.0.0", &tarball("acme-lib", "1.0.0", &[]));
    npm_put(&larder, "acme-lib", npm).await.expect(201);
    let mut versions = npm_versions(&larder, "acme-lib").await;
    versions.sort();
    assert_eq!(versions, ["1.0.0", "99.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_stays_ours_when_its_last_version_is_deleted() {
    let (upstream, larder) = team().await;
    ours(&larder).await;
    attack(&upstream);
    let package = larder::format::package("npm:acme-lib").unwrap();
    let command = larder::repository::manage::ManageCommand::Delete {
        repository: "team".to_owned(),
        package: package.to_string(),
        versions: Vec::new(),
        from: Vec::new(),
    };
    let snapshot = larder.larder.snapshot();
    larder
        .larder
        .manager
        .execute(&snapshot, command)
        .await
        .unwrap();
    larder.get("/npm/team/acme-lib").await.expect(404);
    larder
        .get("/npm/team/acme-lib/-/acme-lib-99.0.0.tgz")
        .await
        .expect(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_does_not_tell_the_names_of_our_own() {
    let (upstream, larder) = team().await;
    ours(&larder).await;
    let path = "/npm/-/npm/v1/security/advisories/bulk";
    upstream.put(path, Reply::json("{}"));
    let question = r#"{"left-pad":["1.3.0"],"acme-lib":["1.0.0"]}"#;
    larder
        .send(
            reqwest::Method::POST,
            "/npm/team/-/npm/v1/security/advisories/bulk",
            &[("content-type", "application/json")],
            Some(question.into()),
        )
        .await
        .expect(200);
    let told = upstream
        .seen()
        .into_iter()
        .find(|seen| seen.path == path)
        .unwrap();
    assert_eq!(told.body, r#"{"left-pad":["1.3.0"]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn nugets_autocomplete_tells_versions_by_the_packages_own_decision() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let names = r#"{"totalHits":3,"data":["Acme.Lib","Evil.Lib","Good.Lib"]}"#;
    upstream.put("/autocomplete", Reply::json(names));
    let rule = "[[rule]]\nname = \"worm\"\naction = \"deny\"\npackages = [\"nuget:evil.lib\", \"nuget:good.lib@2\"]\n";
    let text = format!("{}{TEAM}{rule}", config(&upstream, IMPATIENT));
    let larder = TestLarder::with(&text).await;
    ours(&larder).await;
    let data = async |query: &str| {
        let path = format!("/nuget/team/v3/autocomplete?{query}");
        let answer = larder.get(&path).await.expect(200).json();
        answer["data"].to_string()
    };
    assert_eq!(data("q=lib").await, r#"["acme.lib","Good.Lib"]"#);
    upstream.forget_seen();
    assert_eq!(data("id=Acme.Lib").await, r#"["1.0.0"]"#);
    let denied = larder.get("/nuget/team/v3/autocomplete?id=Evil.Lib").await;
    assert!(denied.expect(403).text().contains("worm"));
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let versions = r#"{"totalHits":2,"data":["1.0.0","2.0.0"]}"#;
    upstream.put("/autocomplete", Reply::json(versions));
    assert_eq!(data("id=Good.Lib").await, r#"["1.0.0"]"#);
}

#[tokio::test]
async fn a_name_seen_outside_stays_outside_when_the_caches_catalog_is_lost() {
    let upstream = Upstream::start().await;
    let text = format!("{}{TEAM}", config(&upstream, IMPATIENT));
    publish(&upstream, "left-pad", &[version("1.0.0", &[])]);
    pypi::publish(&upstream, &upstream, "six", &[("1.0", &[])], true);
    let larder = TestLarder::with(&text).await;
    larder.get("/npm/team/left-pad").await.expect(200);
    larder.get("/pypi/public/simple/six/").await.expect(200);
    let data = larder.stop().await;
    for file in ["larder.sqlite", "larder.sqlite-wal", "larder.sqlite-shm"] {
        let _ = std::fs::remove_file(data.path().join(file));
    }
    let larder = TestLarder::in_dir(&text, data).await;
    let put = npm_document("left-pad", "9.0.0", &tarball("left-pad", "9.0.0", &[]));
    let refused = npm_put(&larder, "left-pad", put).await;
    assert!(refused.expect(403).text().contains("a name from outside"));
    let wheel = pypi::wheel("six", "9.0", &[]);
    let name = "six-9.0-py3-none-any.whl";
    let refused = super::python::upload(&larder, name, &wheel, &[]).await;
    assert!(refused.expect(403).text().contains("a name from outside"));
}

#[tokio::test]
async fn a_name_seen_outside_stays_outside_when_its_row_was_not_written_yet() {
    let upstream = Upstream::start().await;
    let text = on_sqlite(&format!("{}{TEAM}", config(&upstream, IMPATIENT)));
    publish(&upstream, "left-pad", &[version("1.0.0", &[])]);
    let larder = TestLarder::with(&text).await;
    larder.get("/npm/team/left-pad").await.expect(200);
    let data = larder.stop().await;
    // What a kill leaves: the document in the cache's catalog, and neither row nor mark.
    let open = |file: &str| format!("sqlite://{}", data.path().join(file).display());
    let run = async |file: &str, sql: &'static str| {
        let pool = sqlx::SqlitePool::connect(&open(file)).await.unwrap();
        sqlx::query(sql).execute(&pool).await.unwrap();
        pool.close().await;
    };
    run("packages.sqlite", "DELETE FROM outside_name").await;
    run(
        "larder.sqlite",
        "UPDATE progress SET state = CAST(strftime('%s') AS INTEGER) - 30",
    )
    .await;
    let larder = TestLarder::in_dir(&text, data).await;
    let put = npm_document("left-pad", "9.0.0", &tarball("left-pad", "9.0.0", &[]));
    let refused = npm_put(&larder, "left-pad", put).await;
    assert!(refused.expect(403).text().contains("a name from outside"));
}
