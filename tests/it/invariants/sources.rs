//! One walk over a package's sources and one decision, at every door.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::{Fault, Reply, TestLarder, Upstream, noise, nuget, sha1, until};

const BLOCKED: &str = "[[rule]]\nname = \"blocked\"\naction = \"deny\"\n\
    packages = [\"npm:evil\", \"npm:@evil/*\", \"pypi:evil\", \"maven:org.evil:*\", \"nuget:Evil\"]\nreason = \"stolen account\"\n";

#[tokio::test]
async fn a_name_that_a_rule_denies_is_refused_at_every_door_and_nobody_is_asked() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let larder = TestLarder::start_and(&upstream, BLOCKED).await;
    publish(&upstream, "evil", &[version("1.0.0", &[])]);
    // NuGet's service index is about no package.
    nuget::publish(&upstream, "Evil", &["1.0.0"], false);
    larder.get("/nuget/public/v3/index.json").await.expect(200);
    for path in [
        "/npm/public/evil",
        "/npm/public/@evil%2fx",
        "/npm/public/@evil/x/latest",
        "/npm/public/evil/1.0.0",
        "/npm/public/-/package/evil/dist-tags",
        "/npm/public/evil/-/evil-1.0.0.tgz",
        "/npm/public/-/npm/v1/attestations/evil@1.0.0",
        "/pypi/public/simple/evil/",
        "/pypi/public/simple/evil/evil-1.0-py3-none-any.whl",
        "/pypi/public/pypi/evil/json",
        "/pypi/public/pypi/evil/1.0/json",
        "/maven/public/org/evil/lib/maven-metadata.xml",
        "/maven/public/org/evil/lib/maven-metadata.xml.sha1",
        "/maven/public/org/evil/lib/1.0-SNAPSHOT/maven-metadata.xml",
        "/maven/public/org/evil/lib/1.0/lib-1.0.pom",
        "/maven/public/org/evil/lib/1.0/lib-1.0.pom.sha1",
        "/maven/public/org/evil/lib/1.0/lib-1.0.pom.asc",
        "/nuget/public/v3/flat/evil/index.json",
        "/nuget/public/v3/flat/evil/1.0.0/evil.1.0.0.nupkg",
        "/nuget/public/v3/registration/evil/index.json",
        "/nuget/public/v3/registration-gz-semver2/evil/1.0.0.json",
    ] {
        upstream.forget_seen();
        let said = larder.get(path).await.expect(403).text();
        assert!(
            said.contains("blocked") && said.contains("stolen account"),
            "{path}: {said}"
        );
        assert!(upstream.seen().is_empty(), "{path}: {:?}", upstream.seen());
    }
}

#[tokio::test]
async fn what_belongs_to_one_version_is_refused_as_its_file_is() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let larder = TestLarder::start_and(
        &upstream,
        "[[rule]]\nname = \"old\"\naction = \"deny\"\npackages = [\"npm:left-pad@<2\", \"nuget:Acme.Lib@<2\", \"pypi:six@<2\"]\nreason = \"old\"\n",
    )
    .await;
    publish(
        &upstream,
        "left-pad",
        &[version("1.0.0", &[]), version("2.0.0", &[])],
    );
    nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "2.0.0"], false);
    for of in ["1.0.0", "2.0.0"] {
        let path = format!("/npm/-/npm/v1/attestations/left-pad@{of}");
        upstream.put(&path, Reply::json("{\"attestations\":[]}"));
    }
    for (of, status) in [("1.0.0", 403), ("2.0.0", 200)] {
        for path in [
            format!("/npm/public/left-pad/-/left-pad-{of}.tgz"),
            format!("/npm/public/left-pad/{of}"),
            format!("/npm/public/-/npm/v1/attestations/left-pad@{of}"),
            format!("/nuget/public/v3/flat/acme.lib/{of}/acme.lib.{of}.nupkg"),
        ] {
            larder.get(&path).await.expect(status);
        }
    }
    let leaf = "/nuget/public/v3/registration/acme.lib/1.0.0.json";
    larder.get(leaf).await.expect(403);
    larder
        .get("/pypi/public/pypi/six/1.9/json")
        .await
        .expect(403);
}

#[tokio::test]
async fn a_files_checksum_is_given_where_the_file_is_and_nowhere_else() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    let jar = "/maven2/org/x/lib/1.0/lib-1.0.jar";
    far.put(jar, Reply::bytes("far"));
    far.put(&format!("{jar}.sha1"), Reply::bytes(sha1(b"far")));
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[[connection]]\nname = \"near\"\nformat = \"maven\"\nurl = \"{}/maven2/\"\noffline = true\n\
         [[connection]]\nname = \"far\"\nformat = \"maven\"\nurl = \"{}/maven2/\"\n\
         [[repository]]\nname = \"both\"\nexternal_connections = [\"near\", \"far\"]\n",
        near.url(),
        far.url(),
    );
    let larder = TestLarder::with(&text).await;
    for ending in ["", ".sha1", ".md5", ".sha256", ".sha512", ".asc"] {
        let path = format!("/maven/both/org/x/lib/1.0/lib-1.0.jar{ending}");
        larder.get(&path).await.expect(404);
        assert!(
            far.seen().is_empty(),
            "{path}: behind an offline one nobody is asked"
        );
    }
}

/// A Larder whose repository `both` draws on two Maven registries, `near` before `far`.
async fn two_maven_registries(near: &Upstream, far: &Upstream) -> TestLarder {
    let connection = |name: &str, upstream: &Upstream| {
        format!(
            "[[connection]]\nname = \"{name}\"\nformat = \"maven\"\nurl = \"{}/maven2/\"\n",
            upstream.url()
        )
    };
    TestLarder::with(&format!(
        "listen = \"127.0.0.1:0\"\n{}{}[[repository]]\nname = \"both\"\nexternal_connections = [\"near\", \"far\"]\n",
        connection("near", near),
        connection("far", far)
    ))
    .await
}

#[tokio::test]
async fn a_maven_version_of_which_the_nearest_gave_the_pom_comes_from_nowhere_else() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    let folder = "/maven2/org/x/lib/1.0/lib-1.0";
    let pom = "<project><groupId>org.x</groupId><artifactId>lib</artifactId><version>1.0</version></project>";
    for upstream in [&near, &far] {
        upstream.put(
            &format!("{folder}.pom"),
            Reply::typed("application/xml", pom),
        );
    }
    far.put(&format!("{folder}-sources.jar"), Reply::bytes("far"));
    let larder = two_maven_registries(&near, &far).await;
    let path = |ending: &str| format!("/maven/both/org/x/lib/1.0/lib-1.0{ending}");
    larder.get(&path(".pom")).await.expect(200);
    // No metadata lists the version: what was given is all that says whose it is.
    larder.get(&path("-sources.jar")).await.expect(404);
    assert_eq!(far.count(&format!("{folder}-sources.jar")), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maven_version_whose_file_is_still_arriving_is_already_its_registrys() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    let folder = "/maven2/org/x/lib/1.0/lib-1.0";
    let (bytes, gate) = (noise(1 << 20, 7), Arc::new(Notify::new()));
    near.put(&format!("{folder}.jar"), Reply::bytes(bytes.clone()));
    far.put(&format!("{folder}.module"), Reply::bytes("{}"));
    let stalls = Fault::StallAfter(1 << 18, Arc::clone(&gate));
    near.fault(&format!("{folder}.jar"), stalls);
    let larder = two_maven_registries(&near, &far).await;
    let jar = larder.open("/maven/both/org/x/lib/1.0/lib-1.0.jar").await;
    assert_eq!(jar.status(), 200);
    larder
        .get("/maven/both/org/x/lib/1.0/lib-1.0.module")
        .await
        .expect(404);
    assert_eq!(far.count(&format!("{folder}.module")), 0);
    gate.notify_one();
    assert_eq!(jar.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn a_maven_registry_that_cannot_say_what_it_has_hides_no_others_files() {
    for answer in [
        Reply {
            status: Some(403),
            ..Reply::bytes("not for you")
        },
        Reply::typed("application/xml", "<metadata><versioning>"),
        Reply::typed(
            "application/xml",
            "<metadata><groupId>other</groupId><artifactId>thing</artifactId><versioning><versions><version>1.0</version></versions></versioning></metadata>",
        ),
    ] {
        let (near, far) = (Upstream::start().await, Upstream::start().await);
        near.put("/maven2/org/x/lib/maven-metadata.xml", answer);
        far.put("/maven2/org/x/lib/1.0/lib-1.0.jar", Reply::bytes("far"));
        let larder = two_maven_registries(&near, &far).await;
        let jar = larder.get("/maven/both/org/x/lib/1.0/lib-1.0.jar").await;
        assert_eq!(jar.expect(200).text(), "far");
    }
}

#[tokio::test]
async fn what_one_source_promises_of_all_its_packages_the_repository_promises_only_of_that_one() {
    let (upstream, more) = (Upstream::start().await, Upstream::start().await);
    let text = config(&upstream, IMPATIENT);
    let public = "[[repository]]\nname = \"public\"\nexternal_connections = [\"up:npm\"]\n";
    let text = format!(
        "{text}{public}[[connection]]\nname = \"more:npm\"\nformat = \"npm\"\nurl = \"{}/npm/\"\n\
         [[repository]]\nname = \"both\"\nexternal_connections = [\"up:npm\", \"more:npm\"]\n\
         [[repository]]\nname = \"mixed\"\nexternal_connections = [\"up:npm\"]\npublish = \"local\"\n",
        more.url()
    );
    let larder = TestLarder::with(&text).await;
    upstream.put("/npm/-/npm/v1/keys", Reply::json("{\"keys\":[]}"));
    for (repository, status) in [("public", 200), ("both", 404), ("mixed", 404)] {
        let path = format!("/npm/{repository}/-/npm/v1/keys");
        larder.get(&path).await.expect(status);
    }
}

#[tokio::test]
async fn what_lies_behind_an_offline_registry_is_shown_by_no_document_that_it_has() {
    let (near, far) = (Upstream::start().await, Upstream::start().await);
    publish(&near, "lib", &[version("1.0.0", &[])]);
    publish(&far, "lib", &[version("1.0.0", &[]), version("3.0.0", &[])]);
    let text = |offline: bool| {
        format!(
            "listen = \"127.0.0.1:0\"\n[ahead]\nenabled = false\n\
             [[connection]]\nname = \"near\"\nformat = \"npm\"\nurl = \"{}/npm/\"\noffline = {offline}\n\
             [[connection]]\nname = \"far\"\nformat = \"npm\"\nurl = \"{}/npm/\"\n\
             [[repository]]\nname = \"near\"\nexternal_connections = [\"near\"]\n\
             [[repository]]\nname = \"both\"\nexternal_connections = [\"near\", \"far\"]\n",
            near.url(),
            far.url(),
        )
    };
    let larder = TestLarder::with(&text(false)).await;
    larder.get("/npm/near/lib").await.expect(200);
    larder
        .get("/npm/near/lib/-/lib-1.0.0.tgz")
        .await
        .expect(200);
    // The file's row is written behind the answer.
    until("the file is here", async || {
        let again = larder.get("/npm/near/lib/-/lib-1.0.0.tgz").await;
        again.header("cache-status").contains("larder; hit")
    })
    .await;
    larder.reload(&text(true)).await;
    far.forget_seen();
    let document = larder.get("/npm/both/lib").await.expect(200).json();
    let shown: Vec<&String> = document["versions"].as_object().unwrap().keys().collect();
    assert_eq!(shown, ["1.0.0"]);
    larder
        .get("/npm/both/lib/-/lib-3.0.0.tgz")
        .await
        .expect(404);
    assert!(far.seen().is_empty(), "{:?}", far.seen());
}

#[tokio::test]
async fn attestations_are_of_a_version_and_of_nothing_that_might_be_another() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    for spec in ["a@latest", "a@01.0.0", "a"] {
        let path = format!("/npm/public/-/npm/v1/attestations/{spec}");
        larder.get(&path).await.expect(400);
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}
