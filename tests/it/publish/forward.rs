//! Publishes that are passed on: byte for byte, with the right credentials, once; or as soon as
//! their upstream is there.

use larder::repository::manage::{Command, Outcome};

use super::{npm_document, npm_versions};
use crate::command::{LARDER, Setup};
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::until;
use crate::support::{Fault, Reply, TestLarder, Upstream, nuget, pypi};

const FORWARD: &str = "[[repository]]\nname = \"team\"\nexternal_connections = [\"up:npm\", \"up:pypi\", \"up:maven\", \"up:nuget\"]\npublish = [\"forward:up:npm\", \"forward:up:pypi\", \"forward:up:maven\", \"forward:up:nuget\"]\n";

/// A Larder whose connections have a credential and pass publishes on.
async fn forwarding(upstream: &Upstream, of_connection: &str, of_repository: &str) -> TestLarder {
    let data = tempfile::TempDir::new().unwrap();
    let secret = data.path().join("token");
    std::fs::write(&secret, "connections-own").unwrap();
    let auth = format!(
        "auth = {{ bearer = {{ file = \"{}\" }} }}\n{of_connection}",
        secret.display()
    );
    let config = crate::support::larder::config(upstream, crate::support::larder::IMPATIENT);
    let config = config.replace("format = \"npm\"\n", &format!("format = \"npm\"\n{auth}"));
    let config = config.replace("format = \"pypi\"\n", &format!("format = \"pypi\"\n{auth}"));
    let config = config.replace(
        "format = \"maven\"\n",
        &format!("format = \"maven\"\n{auth}"),
    );
    let config = config.replace(
        "format = \"nuget\"\n",
        &format!("format = \"nuget\"\n{auth}"),
    );
    TestLarder::in_dir(&format!("{config}{FORWARD}{of_repository}"), data).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_is_passed_on_byte_for_byte_with_the_connections_credential() {
    let upstream = Upstream::start().await;
    nuget::serve(&upstream);
    let index = String::from_utf8(upstream.reply("/v3/index.json").body.to_vec()).unwrap();
    let push = format!(
        "{{\"@id\":\"{}/push\",\"@type\":\"PackagePublish/2.0.0\"}}",
        upstream.url()
    );
    upstream.put(
        "/v3/index.json",
        Reply::json(index.replacen("\"resources\":[", &format!("\"resources\":[{push},"), 1)),
    );
    let larder = forwarding(&upstream, "", "").await;
    let body: Vec<u8> = (0..3_000_000u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    for (method, path, to) in [
        ("PUT", "/npm/team/@acme%2flib", "/npm/@acme%2flib"),
        ("POST", "/pypi/team/", "/"),
        (
            "PUT",
            "/maven/team/x/lib/1/lib-1.jar",
            "/maven2/x/lib/1/lib-1.jar",
        ),
        ("PUT", "/nuget/team/api/v2/package", "/push"),
    ] {
        upstream.forget_seen();
        upstream.put(
            to,
            Reply::typed("text/odd", "as it is").header("x-registry", "said this"),
        );
        let headers = [
            ("content-type", "multipart/form-data; boundary=\"odd\""),
            ("authorization", "Bearer clients-own"),
            ("x-nuget-apikey", "clients-own"),
            ("npm-otp", "123456"),
            ("npm-command", "publish"),
            ("cookie", "clients-own"),
        ];
        let answer = larder
            .send(
                method.parse().unwrap(),
                path,
                &headers,
                Some(body.clone().into()),
            )
            .await
            .expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("x-registry")),
            ("as it is", "said this")
        );
        let seen = upstream
            .seen()
            .into_iter()
            .find(|seen| seen.path == to && seen.method != "GET")
            .unwrap();
        assert_eq!(seen.body.len(), body.len());
        assert!(seen.body == body, "{path}");
        assert_eq!(seen.method, method);
        assert_eq!(seen.headers["authorization"], "Bearer connections-own");
        assert_eq!(seen.headers["npm-command"], "publish");
        assert_eq!(
            seen.headers["content-type"],
            "multipart/form-data; boundary=\"odd\""
        );
        assert_eq!(
            seen.headers["content-length"],
            body.len().to_string().as_str()
        );
        for (name, value) in &seen.headers {
            assert!(!value.to_str().unwrap().contains("clients-own"), "{name}");
        }
        assert!(!seen.headers.contains_key("npm-otp"));
        println!(
            "{method} {path} -> {to}: {} bytes the same, authorization the connection's",
            seen.body.len()
        );
    }
    upstream.put(
        "/npm/refused",
        Reply {
            status: Some(422),
            ..Reply::default()
        },
    );
    larder
        .send(
            reqwest::Method::PUT,
            "/npm/team/refused",
            &[],
            Some("{}".into()),
        )
        .await
        .expect(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_credentials_go_where_the_configuration_says_so() {
    let upstream = Upstream::start().await;
    let larder = forwarding(&upstream, "publish_auth = \"client\"\n", "").await;
    upstream.put("/npm/lib", Reply::json("{}"));
    let headers = [
        ("authorization", "Bearer clients-own"),
        ("npm-otp", "123456"),
    ];
    larder
        .send(
            reqwest::Method::PUT,
            "/npm/team/lib",
            &headers,
            Some("{}".into()),
        )
        .await
        .expect(200);
    let seen = &upstream.seen()[0];
    assert_eq!(seen.headers["authorization"], "Bearer clients-own");
    assert_eq!(seen.headers["npm-otp"], "123456");
    println!("publish_auth = \"client\": authorization the client's");
}

/// What lets a client in at Larder is nobody else's, whichever header it stands in and whatever the
/// verb; what is beside it for the registry goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_ours_goes_to_no_registry() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let basic_of = |pair: &[u8]| format!("Basic {}", STANDARD.encode(pair));
    let basic = |pair: &str| basic_of(pair.as_bytes());
    for required in [true, false] {
        let upstream = Upstream::start().await;
        let access = format!("[access]\nrequired = {required}\n");
        let larder = forwarding(&upstream, "publish_auth = \"client\"\n", &access).await;
        let command = larder::access::manage::Command::TokenCreate {
            principal: "root".to_owned(),
            note: String::new(),
            expires_in: None,
        };
        let outcome = larder.larder.administer(command).await.unwrap();
        let larder::access::manage::Outcome::Token { token, .. } = outcome else {
            panic!("{outcome:?}");
        };
        let ways = [
            ("authorization", format!("Bearer {token}")),
            ("authorization", basic(&format!("aws:{token}"))),
            ("authorization", basic(&format!("{token}:"))),
            // A user's name in ISO-8859-1, and a pair without padding.
            (
                "authorization",
                basic_of(&[b"j\xfcrgen:", token.as_bytes()].concat()),
            ),
            (
                "authorization",
                basic(&format!("aws:{token}"))
                    .trim_end_matches('=')
                    .to_owned(),
            ),
            ("x-nuget-apikey", token.clone()),
        ];
        let doors = [
            ("PUT", "/npm/team/lib", "/npm/lib"),
            ("DELETE", "/npm/team/lib/-rev/1", "/npm/lib/-rev/1"),
            (
                "PUT",
                "/maven/team/x/lib/1/lib-1.jar",
                "/maven2/x/lib/1/lib-1.jar",
            ),
        ];
        for (method, path, to) in doors {
            upstream.put(to, Reply::json("{}"));
            for (name, value) in &ways {
                let other = if *name == "x-nuget-apikey" {
                    "authorization"
                } else {
                    "x-nuget-apikey"
                };
                let headers = [
                    (*name, value.as_str()),
                    (other, "Bearer the-registrys"),
                    ("x-other-token", token.as_str()),
                    ("npm-otp", "123456"),
                ];
                let method = method.parse().unwrap();
                let before = upstream.seen().len();
                larder.send(method, path, &headers, Some("{}".into())).await;
                let seen = upstream.seen();
                let seen = &seen[before..];
                assert!(!seen.is_empty(), "{path} {name}");
                for request in seen {
                    let said = format!("{:?}", request.headers);
                    assert!(!said.contains(&token), "{path} {name}: {said}");
                    assert!(!said.contains(value.as_str()), "{path} {name}: {said}");
                    assert_eq!(request.headers[other], "Bearer the-registrys");
                    assert_eq!(request.headers["npm-otp"], "123456");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_is_in_the_next_answer() {
    let upstream = Upstream::start().await;
    publish(&upstream, "lib", &[version("1.0.0", &[])]);
    let larder = forwarding(&upstream, "max_age = \"1h\"\n", "").await;
    assert_eq!(npm_versions(&larder, "lib").await, ["1.0.0"]);
    larder.get("/npm/team/new").await.expect(404);
    publish(
        &upstream,
        "lib",
        &[version("1.0.0", &[]), version("1.1.0", &[])],
    );
    publish(&upstream, "new", &[version("1.0.0", &[])]);
    assert_eq!(
        npm_versions(&larder, "lib").await,
        ["1.0.0"],
        "it is cached for an hour"
    );
    for name in ["lib", "new"] {
        larder
            .send(
                reqwest::Method::PUT,
                &format!("/npm/team/{name}"),
                &[],
                Some("{}".into()),
            )
            .await
            .expect(200);
    }
    assert_eq!(npm_versions(&larder, "lib").await.len(), 2);
    assert_eq!(npm_versions(&larder, "new").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_is_named_and_nothing_is_half_done() {
    let upstream = Upstream::start().await;
    let larder = forwarding(&upstream, "", "").await;
    upstream.vanish();
    let answer = larder
        .send(
            reqwest::Method::PUT,
            "/npm/team/lib",
            &[],
            Some("{}".into()),
        )
        .await
        .expect(502);
    assert!(answer.text().contains("spool = true"), "{}", answer.text());
    larder.assert_nothing_kept().await;
}

async fn spool(larder: &TestLarder) -> Vec<larder::store::packages::Spooled> {
    let snapshot = larder.larder.snapshot();
    let outcome = larder
        .larder
        .manager
        .execute(&snapshot, Command::Spool)
        .await
        .unwrap();
    let Outcome::Spool { waiting } = outcome else {
        panic!()
    };
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_spool_publishes_wait_in_order_through_a_restart_until_their_upstream_is_there() {
    let mut upstream = Upstream::start().await;
    let larder = forwarding(&upstream, "", "spool = true\n").await;
    upstream.vanish();
    let bodies = ["first".repeat(1000), "second".repeat(1000)];
    for body in &bodies {
        let answer = larder
            .send(
                reqwest::Method::PUT,
                "/npm/team/lib",
                &[("npm-otp", "1")],
                Some(body.clone().into()),
            )
            .await
            .expect(202);
        assert!(answer.text().contains("larder spool"));
    }
    let waiting = spool(&larder).await;
    assert_eq!(waiting.len(), 2);
    assert!(
        waiting[0].said.contains("did not go through"),
        "{:?}",
        waiting[0]
    );
    assert!(
        waiting
            .iter()
            .all(|one| one.headers.iter().all(|(name, _)| name != "npm-otp"))
    );

    let data = larder.stop().await;
    let config = crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT);
    let secret = data.path().join("token");
    let auth = format!(
        "format = \"npm\"\nauth = {{ bearer = {{ file = \"{}\" }} }}\n",
        secret.display()
    );
    let config = config.replace("format = \"npm\"\n", &auth);
    let larder = TestLarder::in_dir(&format!("{config}{FORWARD}spool = true\n"), data).await;
    assert_eq!(spool(&larder).await.len(), 2);
    upstream.put("/npm/lib", Reply::json("{}"));
    upstream.come_back().await;
    let snapshot = larder.larder.snapshot();
    let retry = Command::SpoolRetry { id: None };
    larder
        .larder
        .manager
        .execute(&snapshot, retry)
        .await
        .unwrap();
    until("the spool is empty", async || {
        spool(&larder).await.is_empty()
    })
    .await;
    let sent: Vec<String> = upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| {
            assert_eq!(seen.headers["authorization"], "Bearer connections-own");
            String::from_utf8(seen.body.to_vec()).unwrap()
        })
        .collect();
    assert_eq!(sent, bodies);
    // What upstream says to one that need not wait is said to the client.
    upstream.fault("/npm/lib", Fault::Status(403, None));
    larder
        .send(
            reqwest::Method::PUT,
            "/npm/team/lib",
            &[],
            Some("{}".into()),
        )
        .await
        .expect(403);
    assert!(spool(&larder).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_under_larder_run_goes_to_the_clients_own_registry_with_its_own_token() {
    let upstream = Upstream::start().await;
    upstream.put("/npm/acme-lib", Reply::json("{}"));
    for shared in [false, true] {
        let setup = Setup::new("log = { level = \"info\" }\n[ahead]\nenabled = false\n");
        let tool = Tool::new();
        tool.write("package.json", r#"{"name":"acme-lib","version":"1.0.0"}"#);
        let host = upstream.address.as_str();
        let rc = format!("registry=http://{host}/npm/\n//{host}/npm/:_authToken=clients-own\n");
        for home in [tool.home.path(), setup.folder.path()] {
            std::fs::write(home.join(".npmrc"), &rc).unwrap();
        }
        let served = if shared {
            Some(setup.serve().await)
        } else {
            None
        };
        upstream.forget_seen();
        let (file, data) = (setup.at("larder.toml"), setup.at("data"));
        // Within a script, so that it is npm's environment that leads it.
        let output = tool
            .run(
                LARDER,
                &["run", "--", "sh", "-c", "npm publish"],
                &[("LARDER_CONFIG", &file), ("LARDER_DATA_DIR", &data)],
            )
            .await;
        succeeded(&output);
        let seen = upstream.seen();
        let put = seen
            .iter()
            .find(|seen| seen.method == "PUT")
            .unwrap_or_else(|| panic!("{}", said(&output)));
        assert_eq!(put.path, "/npm/acme-lib");
        assert_eq!(put.headers["authorization"], "Bearer clients-own");
        println!(
            "larder run, {}: PUT {} with the client's token",
            if shared {
                "through a running Larder"
            } else {
                "by itself"
            },
            put.path
        );
        if let Some(served) = served {
            // Outside of a run, the default is a refusal that says how to allow it.
            let refused = reqwest::Client::new()
                .put(format!("{}/npm/public/acme-lib", served.url))
                .body("{}")
                .send()
                .await
                .unwrap();
            assert_eq!(refused.status(), 403);
            assert!(refused.text().await.unwrap().contains("larder run"));
        }
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_goes_over_tls_to_whom_the_configuration_trusts_and_to_nobody_else() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["office", "other"] {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(at(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(at(&format!("{name}.pem")), made.cert.pem()).unwrap();
    }
    let tls = format!(
        "{}[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        crate::support::larder::IMPATIENT,
        at("office.pem"),
        at("office.key")
    );
    let config = crate::support::larder::config(&upstream, &tls);
    let office = TestLarder::with(&format!("{config}{}", super::TEAM)).await;
    let url = office.url.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://localhost"));
    let body = npm_document("acme-tls", "1.0.0", &tarball("acme-tls", "1.0.0", &[]));
    for (trusted, status) in [("office.pem", 201), ("other.pem", 502)] {
        let sidecar = TestLarder::with(&format!(
            "listen = \"127.0.0.1:0\"\n{}[[connection]]\nname = \"office\"\nformat = \"npm\"\nurl = \"{url}/npm/team/\"\nca_file = \"{}\"\n\
             [[repository]]\nname = \"team\"\nexternal_connections = [\"office\"]\npublish = \"forward:office\"\n",
            crate::support::larder::IMPATIENT,
            at(trusted)
        ))
        .await;
        let answer = super::npm_put(&sidecar, "acme-tls", body.clone()).await;
        let answer = answer.expect(status);
        if status == 201 {
            assert_eq!(npm_versions(&sidecar, "acme-tls").await, ["1.0.0"]);
        } else {
            assert!(answer.text().contains("certificate"), "{}", answer.text());
        }
    }
}
