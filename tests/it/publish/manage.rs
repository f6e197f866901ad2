//! The operator's commands: through the running server, and on the data directory itself.

use super::{TEAM, npm_document};
use crate::command::{Served, Setup};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::nuget::nupkg;
use crate::support::pypi;
use crate::support::tool::said;
use crate::support::until;
use crate::support::{Upstream, integrity};

const MORE: &str = "[[repository]]\nname = \"release\"\nupstreams = [\"public\"]\n[[retain]]\npackages = [\"npm:acme-*\"]\nrepository = \"team\"\nkeep_last = 2\n";

async fn setup() -> (Upstream, Setup) {
    let upstream = Upstream::start().await;
    let setup = Setup::new(&format!("{}{TEAM}{MORE}", config(&upstream, IMPATIENT)));
    (upstream, setup)
}

async fn put(served: &Served, name: &str, version: &str) -> reqwest::StatusCode {
    let document = npm_document(name, version, &tarball(name, version, &[]));
    let response = reqwest::Client::new()
        .put(format!("{}/npm/team/{name}", served.url))
        .body(document)
        .send()
        .await
        .unwrap();
    response.status()
}

async fn get(served: &Served, path: &str) -> (u16, bytes::Bytes) {
    let response = reqwest::get(format!("{}{path}", served.url)).await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap())
}

/// Runs the command, which has to succeed, and gives what it said.
async fn larder(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.run(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

async fn said_of(setup: &Setup, arguments: &[&str]) -> String {
    said(&setup.run(arguments).await)
}

async fn stop(mut served: Served) {
    served.signal(rustix::process::Signal::TERM);
    served.child.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn own_packages_are_listed_and_cached_ones_behind_them_when_asked() {
    let (upstream, setup) = setup().await;
    crate::support::npm::publish(
        &upstream,
        "left-pad",
        &[crate::support::npm::version("1.3.0", &[])],
    );
    let served = setup.serve().await;
    assert_eq!(put(&served, "zebra", "1.0.0").await, 201);
    let promoted = [
        "copy",
        "npm:zebra@1.0.0",
        "--from",
        "team",
        "--to",
        "release",
    ];
    larder(&setup, &promoted).await;
    let (status, _) = get(&served, "/npm/release/left-pad/-/left-pad-1.3.0.tgz").await;
    assert_eq!(status, 200);
    let own = "npm:zebra  internal, 1 version, latest 1.0.0\n";
    let cached = "npm:left-pad  cached, 1 version\n";
    for (repository, more, said) in [
        ("release", [].as_slice(), own.to_owned()),
        ("release", &["--cached"], format!("{own}{cached}")),
        ("release", &["--cached", "--limit", "1"], own.to_owned()),
        (
            "release",
            &["--cached", "--after", "npm:zebra"],
            cached.to_owned(),
        ),
        (
            "release",
            &["--cached", "--after", "npm:left-pad"],
            "No packages.\n".to_owned(),
        ),
        ("public", &["--cached"], cached.to_owned()),
        (
            "public",
            &[],
            "No packages of its own; `larder list --cached` lists those that are cached.\n"
                .to_owned(),
        ),
    ] {
        let arguments = [["list", "--repository", repository].as_slice(), more].concat();
        assert_eq!(larder(&setup, &arguments).await, said, "{more:?}");
    }
    let listed = larder(
        &setup,
        &["list", "--repository", "release", "--cached", "--json"],
    )
    .await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["packages"][0]["package"], "npm:zebra");
    assert_eq!(listed["cached"][0]["package"], "npm:left-pad");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_copied_hidden_and_deleted_with_and_without_a_server() {
    let (_upstream, setup) = setup().await;
    let served = setup.serve().await;
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        assert_eq!(put(&served, "acme-lib", version).await, 201);
    }
    let listed = larder(&setup, &["list", "--repository", "team"]).await;
    assert!(
        listed.contains("npm:acme-lib  internal, 4 versions, latest 1.3.0"),
        "{listed}"
    );
    let shown = larder(
        &setup,
        &["list", "npm:acme-lib", "--repository", "team", "--json"],
    )
    .await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["versions"][0]["version"], "1.0.0");
    let bytes = tarball("acme-lib", "1.0.0", &[]);
    assert_eq!(
        shown["versions"][0]["assets"][0]["digests"]["sha256"],
        crate::support::sha256(&bytes)
    );
    let copy = [
        "copy",
        "npm:acme-lib@1.0.0",
        "--from",
        "team",
        "--to",
        "release",
    ];
    assert!(larder(&setup, &copy).await.contains("copied to `release`"));
    assert!(larder(&setup, &copy).await.contains("has it already"));
    let (status, copied) = get(&served, "/npm/release/acme-lib/-/acme-lib-1.0.0.tgz").await;
    assert_eq!((status, copied), (200, bytes.into()));
    let (_, document) = get(&served, "/npm/release/acme-lib").await;
    assert!(!String::from_utf8_lossy(&document).contains("1.1.0"));

    let archive = [
        "status",
        "npm:acme-lib@1.3.0",
        "--set",
        "archived",
        "--repository",
        "team",
    ];
    assert!(larder(&setup, &archive).await.contains("1.3.0: Archived"));
    assert_eq!(
        get(&served, "/npm/team/acme-lib/-/acme-lib-1.3.0.tgz")
            .await
            .0,
        404
    );
    let who = setup
        .run(&["who-decides", "npm:acme-lib@1.3.0", "--repository", "team"])
        .await;
    assert!(
        said(&who).contains("its status is Archived"),
        "{}",
        said(&who)
    );

    let dry = larder(&setup, &["retain", "--dry-run"]).await;
    assert!(
        dry.contains("npm:acme-lib 1.0.0 in `team`: would go") && !dry.contains("1.3.0"),
        "{dry}"
    );
    assert_eq!(
        get(&served, "/npm/team/acme-lib/-/acme-lib-1.0.0.tgz")
            .await
            .0,
        200
    );
    assert!(larder(&setup, &["retain"]).await.contains("deleted"));
    assert_eq!(
        get(&served, "/npm/team/acme-lib/-/acme-lib-1.0.0.tgz")
            .await
            .0,
        404
    );
    // The other repository still has what it was given.
    assert_eq!(
        get(&served, "/npm/release/acme-lib/-/acme-lib-1.0.0.tgz")
            .await
            .0,
        200
    );
    assert!(
        larder(&setup, &["spool"])
            .await
            .contains("No publishes wait.")
    );

    // The same commands work on the directory where nobody serves.
    stop(served).await;
    let delete = ["delete", "npm:acme-lib@1.2.0", "--repository", "team"];
    assert!(larder(&setup, &delete).await.contains("1.2.0: deleted"));
    let left = larder(&setup, &["list", "npm:acme-lib", "--repository", "team"]).await;
    assert!(
        left.contains("1.3.0  Archived") && !left.contains("1.2.0"),
        "{left}"
    );
    for wrong in [
        &["delete", "npm:acme-lib"][..],
        &["copy", "npm:acme-lib", "--from", "team", "--to", "release"],
        &["status", "npm:acme-lib@1.3.0", "--set", "gone"],
        &["list", "gem:x"],
    ] {
        assert_eq!(setup.run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let absent = setup
        .run(&["delete", "npm:acme-lib@9.9.9", "--repository", "team"])
        .await;
    assert_eq!(absent.status.code(), Some(1));
    let nothing = setup.run(&["spool", "drop", "0123"]).await;
    assert!(
        said(&nothing).contains("larder spool"),
        "{}",
        said(&nothing)
    );
}

/// Publishes a file of PyPI's or NuGet's, as its client does.
async fn put_file(served: &Served, path: &str, file: &str, content: &[u8]) {
    let mut body = format!(
        "--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--B--\r\n");
    let method = if path.starts_with("/nuget") {
        reqwest::Method::PUT
    } else {
        reqwest::Method::POST
    };
    let request = reqwest::Client::new()
        .request(method, format!("{}{path}", served.url))
        .header("content-type", "multipart/form-data; boundary=B");
    let response = request.body(body).send().await.unwrap();
    assert!(response.status().is_success(), "{file}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_meant_however_it_is_written() {
    let (_upstream, setup) = setup().await;
    let served = setup.serve().await;
    assert_eq!(put(&served, "acme-lib", "1.2.0").await, 201);
    let push = "/nuget/team/api/v2/package";
    for version in ["1.0", "2.0.0-Beta.1", "3.0.0+build.5"] {
        put_file(&served, push, "a.nupkg", &nupkg("Acme.Lib", version, &[])).await;
    }
    let wheel = pypi::wheel("acme-lib", "1.0rc1", &[]);
    let file = "acme_lib-1.0rc1-py3-none-any.whl";
    put_file(&served, "/pypi/team/", file, &wheel).await;
    for (written, kept) in [
        ("npm:acme-lib@v1.2.0", "npm:acme-lib 1.2.0"),
        ("nuget:Acme.Lib@1.0.0.0", "nuget:acme.lib 1.0.0"),
        ("nuget:acme.lib@2.0.0-BETA.1", "nuget:acme.lib 2.0.0-beta.1"),
        ("nuget:Acme.Lib@3.0+build.7", "nuget:acme.lib 3.0.0"),
        ("pypi:Acme_Lib@1.0.0-RC1", "pypi:acme-lib 1.0rc1"),
    ] {
        let copy = ["copy", written, "--from", "team", "--to", "release"];
        let said = larder(&setup, &copy).await;
        assert!(said.contains(&format!("{kept}: copied")), "{said}");
        let hide = ["status", written, "--set", "archived", "--repository"];
        let said = larder(&setup, &[&hide[..], &["team"]].concat()).await;
        assert!(said.contains(&format!("{kept}: Archived")), "{said}");
        let who = ["who-decides", written, "--repository", "team"];
        let who = said_of(&setup, &who).await;
        assert!(who.contains("its status is Archived"), "{who}");
        let delete = ["delete", written, "--repository", "team"];
        let said = larder(&setup, &delete).await;
        assert!(said.contains(&format!("{kept}: deleted")), "{said}");
    }
    for wrong in ["nuget:Acme.Lib@1 0", "nuget:Acme.Lib@", "npm:acme-lib@a/b"] {
        let delete = ["delete", wrong, "--repository", "team"];
        assert_eq!(setup.run(&delete).await.status.code(), Some(2), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_counts_a_prerelease_as_any_version_and_lets_the_oldest_go() {
    let (_upstream, setup) = setup().await;
    let served = setup.serve().await;
    // The last one published is tagged `latest`, and stays for that.
    for version in ["1.9.0", "2.0.0-rc.1", "1.10.0", "2.0.0-rc.2", "0.1.0"] {
        assert_eq!(put(&served, "acme-lib", version).await, 201);
    }
    let said = larder(&setup, &["retain", "--dry-run"]).await;
    for (version, goes) in [
        ("2.0.0-rc.2", false),
        ("2.0.0-rc.1", false),
        ("1.10.0", true),
        ("1.9.0", true),
        ("0.1.0", false),
    ] {
        let line = format!("npm:acme-lib {version} in `team`: would go");
        assert_eq!(said.contains(&line), goes, "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_from_outside_is_promoted_and_stays_when_its_registry_goes() {
    let (upstream, setup) = setup().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[("once", "*")])]);
    let served = setup.serve().await;
    let refused = setup
        .run(&[
            "copy",
            "npm:left-pad@1.3.0",
            "--from",
            "public",
            "--to",
            "release",
        ])
        .await;
    assert!(
        said(&refused).contains("fetch it once"),
        "{}",
        said(&refused)
    );
    let (_, bytes) = get(&served, "/npm/public/left-pad/-/left-pad-1.3.0.tgz").await;
    larder(
        &setup,
        &[
            "copy",
            "npm:left-pad@1.3.0",
            "--from",
            "public",
            "--to",
            "release",
        ],
    )
    .await;
    let listed = larder(&setup, &["list", "--repository", "release", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["packages"][0]["package"], "npm:left-pad");
    assert_eq!(listed["packages"][0]["origin"], "external");
    let approved = setup.folder.path().join("larder.toml");
    let text = std::fs::read_to_string(&approved).unwrap();
    std::fs::write(
        &approved,
        text.replace(
            "name = \"release\"\nupstreams = [\"public\"]",
            "name = \"release\"",
        ),
    )
    .unwrap();
    stop(served).await;
    upstream.vanish();
    let served = setup.serve().await;
    let (status, document) = get(&served, "/npm/release/left-pad").await;
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(
        document["versions"]["1.3.0"]["dist"]["integrity"],
        integrity(&bytes)
    );
    assert_eq!(document["versions"]["1.3.0"]["dependencies"]["once"], "*");
    assert_eq!(
        get(&served, "/npm/release/left-pad/-/left-pad-1.3.0.tgz").await,
        (200, bytes)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_for_who_owns_the_data_directory_and_no_matter_of_the_network() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_upstream, setup) = setup().await;
    let mut served = setup.serve().await;
    let command = r#"{"command":"retain","dry_run":false}"#;
    for path in [
        "/-/control",
        "/-/control/export",
        "/-/control/import",
        "/-/run/7a",
        "/-/run/7a/lease?publish_to=http://registry.example/",
    ] {
        let url = format!("{}{path}", served.url);
        for method in [reqwest::Method::GET, reqwest::Method::POST] {
            let request = reqwest::Client::new().request(method, &url).body(command);
            assert_eq!(request.send().await.unwrap().status(), 404, "{path}");
        }
    }
    let mode = |name: &str| {
        let file = std::fs::metadata(setup.at(name)).unwrap();
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode("data/control"), 0o700);
    assert_eq!(mode("data/control/larder.sock"), 0o600);
    let request = setup.control().post("http://larder/command").body(command);
    assert_eq!(request.send().await.unwrap().status(), 200);
    let request = setup.control().get("http://larder/command");
    assert_eq!(request.send().await.unwrap().status(), 404);
    served.signal(rustix::process::Signal::TERM);
    served.child.wait().await.unwrap();
    assert!(!std::path::Path::new(&setup.at("data/control/larder.sock")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_in_however_long_the_data_directorys_name_is() {
    let (_upstream, setup) = setup().await;
    let data = setup.at(&format!("{}/{}", "long".repeat(30), "longer".repeat(20)));
    let at = ["--data-dir", data.as_str()];
    let mut command = setup.command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command.args(at).spawn().unwrap();
    let holder = || larder::store::holder(std::path::Path::new(&data));
    until("Larder serves", async || {
        holder().is_some_and(|it| it.address.is_some())
    })
    .await;
    let listed = setup.command(&["list"]).args(at).output().await.unwrap();
    assert!(listed.status.success(), "{}", said(&listed));
    child.kill().await.unwrap();
}
