//! A Larder behind a Larder.

use super::{npm_document, npm_versions};
use crate::support::npm::{publish, tarball, version};
use crate::support::{Fault, Reply, TestLarder, Upstream, nuget, pypi};

/// A sidecar before an office's Larder.
async fn chain() -> (Upstream, TestLarder, TestLarder) {
    let (upstream, office) = super::team().await;
    let url = &office.url;
    let sidecar = TestLarder::with(&format!(
        "listen = \"127.0.0.1:0\"\n{}\n[ahead]\nenabled = false\n\
         [[connection]]\nname = \"office:npm\"\nformat = \"npm\"\nurl = \"{url}/npm/team/\"\n\
         [[connection]]\nname = \"office:pypi\"\nformat = \"pypi\"\nurl = \"{url}/pypi/team/simple/\"\n\
         [[connection]]\nname = \"office:maven\"\nformat = \"maven\"\nurl = \"{url}/maven/team/\"\n\
         [[connection]]\nname = \"office:nuget\"\nformat = \"nuget\"\nurl = \"{url}/nuget/team/v3/index.json\"\n\
         [[repository]]\nname = \"team\"\nexternal_connections = [\"office:npm\", \"office:pypi\", \"office:maven\", \"office:nuget\"]\n\
         publish = [\"forward:office:npm\", \"forward:office:pypi\", \"forward:office:maven\", \"forward:office:nuget\"]\n",
        crate::support::larder::IMPATIENT
    ))
    .await;
    (upstream, office, sidecar)
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_digests_arrive_unharmed_through_two_larders_and_publishes_too() {
    let (upstream, office, sidecar) = chain().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    pypi::publish(&upstream, &upstream, "acme-app", &[("1.0", &[])], true);
    nuget::publish(&upstream, "Else", &["1.0.0"], false);
    upstream.put("/maven2/org/x/lib/1/lib-1.jar", Reply::bytes("a jar"));
    let ours = tarball("acme-lib", "1.0.0", &[]);
    let put = async |method: &str, path: &str, body: bytes::Bytes, status| {
        let answer = sidecar
            .send(method.parse().unwrap(), path, &[], Some(body))
            .await;
        answer.expect(status)
    };
    put(
        "PUT",
        "/npm/team/acme-lib",
        npm_document("acme-lib", "1.0.0", &ours),
        201,
    )
    .await;
    let wheel = pypi::wheel("acme-py", "1.0", &[]);
    super::python::upload(&sidecar, "acme_py-1.0-py3-none-any.whl", &wheel, &[])
        .await
        .expect(200);
    put(
        "PUT",
        "/nuget/team/api/v2/package",
        nuget::nupkg("Acme.Own", "1.0.0", &[]).into(),
        201,
    )
    .await;
    put(
        "PUT",
        "/maven/team/org/acme/lib/1/lib-1.jar",
        "ours".into(),
        201,
    )
    .await;
    let end =
        "<metadata><versioning><versions><version>1</version></versions></versioning></metadata>";
    put(
        "PUT",
        "/maven/team/org/acme/lib/maven-metadata.xml",
        end.into(),
        201,
    )
    .await;
    let conflict = put(
        "PUT",
        "/npm/team/acme-lib",
        npm_document(
            "acme-lib",
            "1.0.0",
            &tarball("acme-lib", "1.0.0", &[("x", "*")]),
        ),
        409,
    )
    .await;
    assert!(
        conflict.json()["error"]
            .as_str()
            .unwrap()
            .contains("already exists")
    );

    for (name, version) in [("left-pad", "1.3.0"), ("acme-lib", "1.0.0")] {
        let (near, far) = (
            sidecar
                .get(&format!("/npm/team/{name}"))
                .await
                .expect(200)
                .json(),
            office
                .get(&format!("/npm/team/{name}"))
                .await
                .expect(200)
                .json(),
        );
        assert_eq!(
            near["versions"][version]["dist"]["integrity"],
            far["versions"][version]["dist"]["integrity"]
        );
        let tarball = near["versions"][version]["dist"]["tarball"]
            .as_str()
            .unwrap();
        let bytes = sidecar
            .get(tarball.strip_prefix(&sidecar.url).unwrap())
            .await
            .expect(200);
        assert_eq!(
            near["versions"][version]["dist"]["integrity"],
            crate::support::integrity(bytes.bytes())
        );
    }
    let json = [("accept", pypi::JSON)];
    for project in ["acme-app", "acme-py"] {
        let page = sidecar
            .get_with(&format!("/pypi/team/simple/{project}/"), &json)
            .await
            .expect(200)
            .json();
        let file = &page["files"][0];
        let path = format!(
            "/pypi/team/simple/{project}/{}",
            file["url"].as_str().unwrap()
        );
        let bytes = sidecar.get(&path).await.expect(200);
        assert_eq!(
            file["hashes"]["sha256"],
            crate::support::sha256(bytes.bytes())
        );
        sidecar.get(&format!("{path}.metadata")).await.expect(200);
    }
    for (path, text) in [
        ("org/x/lib/1/lib-1.jar", "a jar"),
        ("org/acme/lib/1/lib-1.jar", "ours"),
    ] {
        assert_eq!(
            sidecar
                .get(&format!("/maven/team/{path}"))
                .await
                .expect(200)
                .text(),
            text
        );
        let sha1 = sidecar
            .get(&format!("/maven/team/{path}.sha1"))
            .await
            .expect(200)
            .text();
        assert_eq!(sha1, crate::support::sha1(text.as_bytes()));
    }
    for id in ["else", "acme.own"] {
        let index = sidecar
            .get(&format!(
                "/nuget/team/v3/registration-gz-semver2/{id}/index.json"
            ))
            .await
            .expect(200);
        assert!(!index.bytes().is_empty());
        sidecar
            .get(&format!("/nuget/team/v3/flat/{id}/1.0.0/{id}.1.0.0.nupkg"))
            .await
            .expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offices_rules_and_their_reasons_arrive_through_the_sidecar() {
    let (upstream, office, sidecar) = chain().await;
    publish(
        &upstream,
        "left-pad",
        &[version("1.2.0", &[]), version("1.3.0", &[])],
    );
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@1.3.0\"]\nreason = \"a worm\"\n";
    let config = crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT);
    office
        .reload(&format!("{config}{}{rule}", super::TEAM))
        .await;
    assert_eq!(npm_versions(&sidecar, "left-pad").await, ["1.2.0"]);
    let refused = sidecar
        .get("/npm/team/left-pad/-/left-pad-1.3.0.tgz")
        .await
        .expect(403);
    assert!(refused.text().contains("a worm"), "{}", refused.text());
    println!("refused through both: {}", refused.text());
    nuget::publish(&upstream, "Else", &["1.0.0"], false);
    let rule = rule.replace("npm:left-pad@1.3.0", "nuget:else@1.0.0\", \"maven:org.x:*");
    office
        .reload(&format!("{config}{}{rule}", super::TEAM))
        .await;
    let jar = sidecar
        .get("/maven/team/org/x/lib/1/lib-1.jar")
        .await
        .expect(403);
    assert!(jar.text().contains("a worm"), "{}", jar.text());
    let package = sidecar
        .get("/nuget/team/v3/flat/else/1.0.0/else.1.0.0.nupkg")
        .await
        .expect(403);
    assert!(package.text().contains("a worm"), "{}", package.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_blob_streams_through_both_without_waiting_for_either() {
    let (upstream, _office, sidecar) = chain().await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let jar: Vec<u8> = (0..4_000_000u32).map(|index| (index % 251) as u8).collect();
    let path = "/maven2/org/x/lib/1/lib-1.jar";
    upstream.put(path, Reply::bytes(jar.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", crate::support::sha1(&jar)),
    );
    upstream.fault(
        path,
        Fault::StallAfter(1_000_000, std::sync::Arc::clone(&gate)),
    );
    let mut response = sidecar.open("/maven/team/org/x/lib/1/lib-1.jar").await;
    let mut got = Vec::new();
    while got.len() < 800_000 {
        got.extend_from_slice(&response.chunk().await.unwrap().expect("it goes on"));
    }
    gate.notify_one();
    while let Some(piece) = response.chunk().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert!(got == jar);
}
