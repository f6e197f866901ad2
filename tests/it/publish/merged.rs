//! Views over several sources: the nearest wins per version, and nothing is lost.

use serde_json::Value;

use super::{npm_document, npm_put};
use crate::support::larder::IMPATIENT;
use crate::support::npm::{publish, tarball, version};
use crate::support::{Fault, Reply, TestLarder, Upstream, nuget, pypi};

/// Two registries of each format, the nearer one first, and what is allowed to be merged with them.
async fn two() -> (Upstream, Upstream, TestLarder) {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    nuget::serve(&near);
    nuget::serve(&far);
    let mut text = format!("listen = \"127.0.0.1:0\"\n{IMPATIENT}\n[ahead]\nenabled = false\n");
    for (name, upstream) in [("near", &near), ("far", &far)] {
        let url = upstream.url();
        for (format, path) in [
            ("npm", "/npm/"),
            ("pypi", "/simple/"),
            ("maven", "/maven2/"),
            ("nuget", "/v3/index.json"),
        ] {
            text.push_str(&format!(
                "[[connection]]\nname = \"{name}:{format}\"\nformat = \"{format}\"\nurl = \"{url}{path}\"\n"
            ));
        }
    }
    text.push_str(
        "[[repository]]\nname = \"public\"\nexternal_connections = [\"far:npm\", \"far:pypi\", \"far:maven\", \"far:nuget\"]\n\
         [[repository]]\nname = \"shared\"\nupstreams = [\"public\"]\nexternal_connections = [\"near:npm\", \"near:pypi\", \"near:maven\", \"near:nuget\"]\n\
         [[repository]]\nname = \"team\"\nupstreams = [\"shared\"]\npublish = \"local\"\n\
         [[origin]]\npackages = [\"*\"]\npublish = \"allow\"\nupstream = \"allow\"\n",
    );
    let larder = TestLarder::with(&text).await;
    (near, far, larder)
}

fn sorted(value: &Value) -> Vec<String> {
    let mut all: Vec<String> = match value {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(elements) => elements
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect(),
        _ => panic!("{value}"),
    };
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_versions_and_tags_of_all_are_one_packument() {
    let (near, far, larder) = two().await;
    publish(
        &near,
        "lib",
        &[version("1.1.0", &[("near", "*")]), version("1.2.0", &[])],
    );
    publish(
        &far,
        "lib",
        &[version("1.0.0", &[]), version("1.1.0", &[("far", "*")])],
    );
    let own = tarball("lib", "2.0.0", &[]);
    npm_put(&larder, "lib", npm_document("lib", "2.0.0", &own))
        .await
        .expect(201);
    let short = [("accept", "application/vnd.npm.install-v1+json")];
    for headers in [&[][..], &short] {
        let document = larder
            .get_with("/npm/team/lib", headers)
            .await
            .expect(200)
            .json();
        assert_eq!(
            sorted(&document["versions"]),
            ["1.0.0", "1.1.0", "1.2.0", "2.0.0"]
        );
        assert_eq!(document["dist-tags"]["latest"], "2.0.0");
        assert_eq!(document["versions"]["1.1.0"]["dependencies"]["near"], "*");
    }
    for (version, bytes) in [
        ("2.0.0", own),
        ("1.1.0", tarball("lib", "1.1.0", &[("near", "*")])),
        ("1.0.0", tarball("lib", "1.0.0", &[])),
    ] {
        let path = format!("/npm/team/lib/-/lib-{version}.tgz");
        assert_eq!(
            larder.get(&path).await.expect(200).bytes(),
            &bytes,
            "{version}"
        );
    }
    assert_eq!(
        larder.get("/npm/team/lib/1.0.0").await.expect(200).json()["version"],
        "1.0.0"
    );
    // A repository that draws on the public one alone sees that alone.
    let public = larder.get("/npm/public/lib").await.expect(200).json();
    assert_eq!(sorted(&public["versions"]), ["1.0.0", "1.1.0"]);
    // What is published is in the next answer.
    let next = npm_document("lib", "2.1.0", &tarball("lib", "2.1.0", &[]));
    npm_put(&larder, "lib", next).await.expect(201);
    let document = larder.get("/npm/team/lib").await.expect(200).json();
    assert!(document["versions"]["2.1.0"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_a_nearer_source_hides_is_not_taken_from_a_farther_one() {
    let (near, far, larder) = two().await;
    publish(&near, "lib", &[version("1.0.0", &[])]);
    publish(
        &far,
        "lib",
        &[version("1.0.0", &[("far", "*")]), version("0.9.0", &[])],
    );
    larder.get("/npm/team/lib").await.expect(200);
    let package = larder::format::package("npm:lib").unwrap();
    npm_put(
        &larder,
        "lib",
        npm_document("lib", "0.9.0", &tarball("lib", "0.9.0", &[("own", "*")])),
    )
    .await
    .expect(201);
    let archived = larder::package::Status::Archived;
    larder
        .set_status("team", &package.to_string(), "0.9.0", archived)
        .await;
    let document = larder.get("/npm/team/lib").await.expect(200).json();
    assert_eq!(sorted(&document["versions"]), ["1.0.0"]);
    larder
        .get("/npm/team/lib/-/lib-0.9.0.tgz")
        .await
        .expect(404);
    // What is away is not replaced by what is farther.
    near.always(Some(Fault::Status(500, None)));
    publish(&far, "other", &[version("1.0.0", &[])]);
    larder.get("/npm/team/other").await.expect(502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_may_be_said_to_come_from_one_connection_alone() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    let mut text = format!("listen = \"127.0.0.1:0\"\n{IMPATIENT}\n[ahead]\nenabled = false\n");
    for (name, upstream) in [("near", &near), ("far", &far)] {
        let url = upstream.url();
        text.push_str(&format!(
            "[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n"
        ));
    }
    text.push_str("[[repository]]\nname = \"team\"\nexternal_connections = [\"near\", \"far\"]\n[[origin]]\npackages = [\"npm:@acme/*\"]\nfrom = [\"near\"]\n");
    let larder = TestLarder::with(&text).await;
    publish(&near, "@acme/lib", &[version("1.0.0", &[])]);
    publish(&far, "@acme/lib", &[version("99.0.0", &[])]);
    let document = larder.get("/npm/team/@acme%2flib").await.expect(200).json();
    assert_eq!(sorted(&document["versions"]), ["1.0.0"]);
    larder
        .get("/npm/team/@acme/lib/-/lib-99.0.0.tgz")
        .await
        .expect(404);
    assert!(far.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn python_files_of_all_are_one_page_in_either_form() {
    let (near, far, larder) = two().await;
    pypi::publish(&near, &near, "lib", &[("1.1", &["near"])], true);
    pypi::publish(&far, &far, "lib", &[("1.0", &[]), ("1.1", &[])], true);
    let own = pypi::wheel("lib", "2.0", &[]);
    super::python::upload(&larder, "lib-2.0-py3-none-any.whl", &own, &[])
        .await
        .expect(200);
    let json = [("accept", pypi::JSON)];
    let page = larder
        .get_with("/pypi/team/simple/lib/", &json)
        .await
        .expect(200)
        .json();
    let files: Vec<&str> = page["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["filename"].as_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "lib-2.0-py3-none-any.whl",
            "lib-1.1-py3-none-any.whl",
            "lib-1.0-py3-none-any.whl"
        ]
    );
    for file in page["files"].as_array().unwrap() {
        let path = format!("/pypi/team/simple/lib/{}", file["url"].as_str().unwrap());
        let bytes = larder.get(&path).await.expect(200).bytes().clone();
        assert_eq!(file["hashes"]["sha256"], crate::support::sha256(&bytes));
    }
    let html = larder
        .get("/pypi/team/simple/lib/")
        .await
        .expect(200)
        .text();
    for file in files {
        assert_eq!(
            html.matches(&format!(">{file}<")).count(),
            1,
            "{file} in {html}"
        );
    }
    let outside = r#"{"meta":{"api-version":"1.0"},"projects":[{"name":"outside"}]}"#;
    near.put("/simple/", Reply::typed(pypi::JSON, outside));
    let index = larder.get_with("/pypi/team/simple/", &json).await;
    let projects = index.expect(200).json()["projects"].clone();
    assert_eq!(
        projects,
        serde_json::json!([{ "name": "lib" }, { "name": "outside" }])
    );
    let html = larder.get("/pypi/team/simple/").await.expect(200).text();
    assert!(
        html.contains(">lib<") && html.contains(">outside<"),
        "{html}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn maven_metadata_of_all_is_one_with_the_right_newest() {
    let (near, far, larder) = two().await;
    let metadata = |versions: &[&str], updated: &str| {
        let all: Vec<String> = versions
            .iter()
            .map(|it| format!("<version>{it}</version>"))
            .collect();
        let (all, last) = (all.concat(), versions.last().unwrap());
        Reply::typed(
            "application/xml",
            format!(
                "<metadata><groupId>org.x</groupId><artifactId>lib</artifactId><versioning><latest>{last}</latest><release>{last}</release><versions>{all}</versions><lastUpdated>{updated}</lastUpdated></versioning></metadata>"
            ),
        )
    };
    let path = "/maven2/org/x/lib/maven-metadata.xml";
    near.put(path, metadata(&["1.9", "1.10"], "20260101000000"));
    far.put(path, metadata(&["1.2", "1.9"], "20260301000000"));
    far.put("/maven2/org/x/lib/1.2/lib-1.2.jar", Reply::bytes("far"));
    let merged = larder
        .get("/maven/team/org/x/lib/maven-metadata.xml")
        .await
        .expect(200)
        .text();
    for part in [
        "<latest>1.10</latest>",
        "<release>1.10</release>",
        "<lastUpdated>20260301000000<",
        "<version>1.2</version>",
    ] {
        assert!(merged.contains(part), "{part} in {merged}");
    }
    assert_eq!(merged.matches("<version>1.9</version>").count(), 1);
    let said = larder
        .get("/maven/team/org/x/lib/maven-metadata.xml.sha1")
        .await
        .expect(200)
        .text();
    assert_eq!(said, crate::support::sha1(merged.as_bytes()));
    assert_eq!(
        larder
            .get("/maven/team/org/x/lib/1.2/lib-1.2.jar")
            .await
            .expect(200)
            .text(),
        "far"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maven_version_comes_whole_from_the_nearest_registry_that_has_it() {
    for is_listed in [true, false] {
        let (near, far, larder) = two().await;
        let folder = "org/x/lib/1.0/lib-1.0";
        let put = |upstream: &Upstream, name: &str, text: &'static str| {
            upstream.put(&format!("/maven2/{folder}{name}"), Reply::bytes(text));
        };
        if is_listed {
            near.put(
                "/maven2/org/x/lib/maven-metadata.xml",
                Reply::typed(
                    "application/xml",
                    "<metadata><groupId>org.x</groupId><artifactId>lib</artifactId><versioning><versions><version>1.0</version></versions></versioning></metadata>",
                ),
            );
        }
        put(&near, ".jar", "near");
        for file in [".jar", ".pom", ".jar.asc", "-sources.jar", ".module"] {
            put(&far, file, "far");
        }
        put(&far, ".jar.sha512", "0");
        let other = "org/x/other/1.0/other-1.0.jar";
        far.put(&format!("/maven2/{other}"), Reply::bytes("far"));
        let get = async |name: &str| larder.get(&format!("/maven/team/{folder}{name}")).await;
        // What a registry gave it has, whether its documents list it or not.
        assert_eq!(get(".jar").await.expect(200).text(), "near");
        for file in [".pom", ".jar.asc", "-sources.jar", ".module"] {
            get(file).await.expect(404);
        }
        let said = get(".jar.sha512").await.expect(200).text();
        assert_eq!(said.len(), 128, "of the bytes that are served: {said}");
        // A version that it does not have is the farther one's.
        let farther = larder.get(&format!("/maven/team/{other}")).await;
        assert_eq!(farther.expect(200).text(), "far");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_versions_and_search_of_all_are_one() {
    let (near, far, larder) = two().await;
    nuget::publish(&near, "Acme.Lib", &["1.1.0"], false);
    nuget::publish(&far, "Acme.Lib", &["1.0.0", "1.1.0"], false);
    let own = nuget::nupkg("Acme.Lib", "2.0.0", &[]);
    larder
        .send(
            reqwest::Method::PUT,
            "/nuget/team/api/v2/package",
            &[],
            Some(own.into()),
        )
        .await
        .expect(201);
    let flat = larder
        .get("/nuget/team/v3/flat/acme.lib/index.json")
        .await
        .expect(200)
        .json();
    assert_eq!(
        flat["versions"],
        serde_json::json!(["1.0.0", "1.1.0", "2.0.0"])
    );
    let index = larder
        .get("/nuget/team/v3/registration/acme.lib/index.json")
        .await
        .expect(200)
        .json();
    let mut versions: Vec<&str> = index["items"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|leaf| leaf["catalogEntry"]["version"].as_str().unwrap())
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, ["1.0.0", "1.1.0", "2.0.0"]);
    let result = |id: &str| serde_json::json!({ "id": id, "version": "1.0.0", "versions": [] });
    for (upstream, data) in [
        (&near, vec![result("Acme.Lib"), result("Near")]),
        (&far, vec![result("Near"), result("Far")]),
    ] {
        let found = serde_json::json!({ "totalHits": data.len(), "data": data });
        upstream.put("/query", Reply::json(found.to_string()));
    }
    let found = larder
        .get("/nuget/team/v3/query?q=")
        .await
        .expect(200)
        .json();
    let ids: Vec<&str> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["acme.lib", "Near", "Far"]);
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        let path = format!("/nuget/team/v3/flat/acme.lib/{version}/acme.lib.{version}.nupkg");
        larder.get(&path).await.expect(200);
    }
}
