//! Publishes that are passed on: byte for byte, with the right credentials, once; or as soon as
//! their upstream is there.

use larder::repository::manage::{ManageCommand, ManageOutcome};

use super::{npm_document, npm_versions};
use crate::command::{Setup, run};
use crate::support::npm::{publish, tarball, version};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::{Fault, Reply, TestLarder, Upstream, nuget};
use crate::support::{eventually, until};

pub const FORWARD: &str = "[[repository]]\nname = \"team\"\nexternal_connections = [\"up:npm\", \"up:pypi\", \"up:maven\", \"up:nuget\"]\npublish = [\"forward:up:npm\", \"forward:up:pypi\", \"forward:up:maven\", \"forward:up:nuget\"]\n";

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
        let command = larder::access::manage::AccessCommand::TokenCreate {
            principal: "root".to_owned(),
            note: String::new(),
            expires_in: None,
        };
        let outcome = larder.larder.administer(command).await.unwrap();
        let larder::access::manage::AccessOutcome::Token { token, .. } = outcome else {
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
        .execute(&snapshot, ManageCommand::Spool)
        .await
        .unwrap();
    let ManageOutcome::Spool { waiting } = outcome else {
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
    let retry = ManageCommand::SpoolRetry { id: None };
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

async fn manage(larder: &TestLarder, command: ManageCommand) {
    let snapshot = larder.larder.snapshot();
    let manager = &larder.larder.manager;
    manager.execute(&snapshot, command).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spooled_publish_that_is_refused_for_good_is_set_aside_and_holds_up_none() {
    let put = reqwest::Method::PUT;
    for status in [400, 403, 404, 413, 422] {
        let upstream = Upstream::start().await;
        let larder = forwarding(&upstream, "", "spool = true\n").await;
        for name in ["bad", "good"] {
            // Not now, and then: no, or yes.
            upstream.fault(&format!("/npm/{name}"), Fault::Status(503, None));
            let path = format!("/npm/team/{name}");
            let spooled = larder.send(put.clone(), &path, &[], Some("{}".into()));
            spooled.await.expect(202);
        }
        let never = Reply {
            status: Some(status),
            ..Reply::default()
        };
        upstream.put("/npm/bad", never);
        upstream.put("/npm/good", Reply::json("{}"));
        manage(&larder, ManageCommand::SpoolRetry { id: None }).await;
        let bad = eventually("one is set aside and the other gone", async || {
            let waiting = spool(&larder).await;
            let [bad] = waiting.as_slice() else {
                return None;
            };
            bad.set_aside.then(|| bad.clone())
        })
        .await;
        assert_eq!(bad.said, format!("status {status}"));
        larder
            .send(put.clone(), "/npm/team/good", &[], Some("{}".into()))
            .await
            .expect(200);
        // It is tried again when somebody says so.
        upstream.put("/npm/bad", Reply::json("{}"));
        let id = Some(bad.id).filter(|_| status != 403);
        manage(&larder, ManageCommand::SpoolRetry { id }).await;
        until("it has gone", async || spool(&larder).await.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spooled_publish_waits_while_upstream_is_busy_or_the_credential_does_not_hold() {
    for status in [401, 408, 429, 500] {
        let upstream = Upstream::start().await;
        let larder = forwarding(&upstream, "", "spool = true\n").await;
        upstream.fault("/npm/lib", Fault::Status(503, None));
        upstream.put("/npm/lib", Reply::json("{}"));
        let put = reqwest::Method::PUT;
        let spooled = larder.send(put, "/npm/team/lib", &[], Some("{}".into()));
        spooled.await.expect(202);
        upstream.fault("/npm/lib", Fault::Status(status, None));
        manage(&larder, ManageCommand::SpoolRetry { id: None }).await;
        until("it was tried and waits", async || {
            let waiting = spool(&larder).await;
            let said = waiting.first().map(|one| (one.said.clone(), one.set_aside));
            said == Some((format!("status {status}"), false))
        })
        .await;
        manage(&larder, ManageCommand::SpoolRetry { id: None }).await;
        until("it has gone", async || spool(&larder).await.is_empty()).await;
    }
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
        // Within a script, so that it is npm's environment that leads it.
        let output = run(&setup, &tool, &["sh", "-c", "npm publish"]).await;
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
