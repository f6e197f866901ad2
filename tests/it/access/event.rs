//! What happens is told: to a webhook that fails and stalls, in order, at least once; and it is
//! written down who did it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{GUARDED, guarded_and, token};
use crate::publish::{TEAM, npm_document};
use crate::support::npm::{publish, tarball, version};
use crate::support::{Reply, TestLarder, Upstream};
use crate::support::{eventually, until};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Requests, each with its headers and its body.
type Taken = Vec<(Vec<(String, String)>, String)>;

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Takes,
    Fails,
    Stalls,
}

/// Somebody who is told: takes requests, or misbehaves as often as it was told to.
struct Receiver {
    url: String,
    taken: Arc<Mutex<Taken>>,
    arrived: Arc<tokio::sync::Notify>,
}

impl Receiver {
    async fn start(manners: Vec<Manner>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let (taken, arrived) = (
            Arc::new(Mutex::default()),
            Arc::new(tokio::sync::Notify::new()),
        );
        let receiver = Self {
            url,
            taken: Arc::clone(&taken),
            arrived: Arc::clone(&arrived),
        };
        let manners = Arc::new(Mutex::new(manners.into_iter()));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = socket.accept().await {
                let manner = manners.lock().unwrap().next().unwrap_or(Manner::Takes);
                let (taken, arrived) = (Arc::clone(&taken), Arc::clone(&arrived));
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let (head, length) = loop {
                        let mut piece = [0u8; 4096];
                        let got = socket.read(&mut piece).await.unwrap_or(0);
                        if got == 0 {
                            return;
                        }
                        bytes.extend_from_slice(&piece[..got]);
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        let Some((head, _)) = text.split_once("\r\n\r\n") else {
                            continue;
                        };
                        let headers = headers(head);
                        let length: usize = headers
                            .iter()
                            .find(|(name, _)| name == "content-length")
                            .map_or(0, |(_, value)| value.parse().unwrap());
                        if bytes.len() >= head.len() + 4 + length {
                            break (headers, head.len() + 4);
                        }
                    };
                    let body = String::from_utf8(bytes[length..].to_vec()).unwrap();
                    let status = match manner {
                        Manner::Takes => {
                            taken.lock().unwrap().push((head, body));
                            arrived.notify_waiters();
                            "204 No Content"
                        }
                        Manner::Fails => "500 Internal Server Error",
                        Manner::Stalls => return std::future::pending().await,
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    );
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        receiver
    }

    async fn wait_for(&self, count: usize) -> Taken {
        let all = async {
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                let taken = self.taken.lock().unwrap().clone();
                if taken.len() >= count {
                    return taken;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.taken.lock().unwrap()))
    }

    fn target(&self, more: &str) -> String {
        format!(
            "[events]\ntimeout = \"500ms\"\n[[target]]\nname = \"hook\"\nwebhook = \"{}\"\n{more}",
            self.url
        )
    }
}

fn headers(head: &str) -> Vec<(String, String)> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect()
}

async fn put(larder: &TestLarder, name: &str, version: &str, headers: &[(&str, &str)]) -> u16 {
    let document = npm_document(name, version, &tarball(name, version, &[]));
    let path = format!("/npm/team/{}", name.replace('/', "%2f"));
    let answer = larder
        .send(reqwest::Method::PUT, &path, headers, Some(document))
        .await;
    answer.status
}

fn events(taken: &Taken) -> Vec<Value> {
    taken
        .iter()
        .map(|(_, body)| serde_json::from_str(body).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_reaches_a_webhook_signed_in_the_guides_shape() {
    let receiver = Receiver::start(Vec::new()).await;
    let folder = tempfile::TempDir::new().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let target = receiver.target(&format!(
        "secret = {{ file = \"{}\" }}\npattern = '{{ \"detail\": {{ \"packageNamespace\": [\"acme\"] }} }}'\n",
        secret.display()
    ));
    let upstream = Upstream::start().await;
    let domain = "[domain]\nname = \"my-domain\"\nowner = \"123456789012\"\n";
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{domain}{target}")).await;
    assert_eq!(put(&larder, "other", "1.0.0", &[]).await, 201);
    assert_eq!(put(&larder, "@acme/ui", "1.0.0", &[]).await, 201);
    let taken = receiver.wait_for(1).await;
    let (headers, body) = &taken[0];
    println!("{body}");
    let header = |name: &str| {
        let found = headers.iter().find(|(it, _)| it == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let key = base64::engine::general_purpose::STANDARD
        .decode(SECRET.trim_start_matches("whsec_"))
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let signed = format!(
        "{}.{}.{body}",
        header("webhook-id"),
        header("webhook-timestamp")
    );
    mac.update(signed.as_bytes());
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
    let mut event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["id"], header("webhook-id"));
    let revision = event["detail"]["packageVersionRevision"].take();
    assert!(!revision.as_str().unwrap().is_empty());
    assert_eq!(event["detail"]["eventDeduplicationId"], event["id"]);
    for key in ["id", "time"] {
        assert!(event[key].take().is_string());
    }
    event["detail"]["eventDeduplicationId"].take();
    assert_eq!(
        event,
        json!({
            "version": "0", "id": null, "detail-type": "CodeArtifact Package Version State Change",
            "source": "aws.codeartifact", "account": "123456789012", "time": null, "region": "us-east-1",
            "resources": ["arn:aws:codeartifact:us-east-1:123456789012:package/my-domain/team/npm/acme/ui"],
            "detail": {
                "domainName": "my-domain", "domainOwner": "123456789012", "repositoryName": "team",
                "repositoryAdministrator": "123456789012", "packageFormat": "npm", "packageNamespace": "acme",
                "packageName": "ui", "packageVersion": "1.0.0", "packageVersionState": "Published",
                "packageVersionRevision": null,
                "changes": { "assetsAdded": 1, "assetsRemoved": 0, "assetsUpdated": 0, "metadataUpdated": true, "statusChanged": true },
                "operationType": "Created", "sequenceNumber": 1, "eventDeduplicationId": null,
            }
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_and_stalls_gets_everything_in_order_in_the_end() {
    let manners = vec![Manner::Fails, Manner::Stalls];
    let receiver = Receiver::start(manners).await;
    let upstream = Upstream::start().await;
    let text = format!("{TEAM}{}", receiver.target(""));
    let larder = TestLarder::start_and(&upstream, &text).await;
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        assert_eq!(put(&larder, "acme", version, &[]).await, 201);
    }
    let package = larder::format::package("npm:acme").unwrap();
    let snapshot = larder.larder.snapshot();
    let delete = larder::repository::manage::ManageCommand::Delete {
        repository: "team".into(),
        package: package.to_string(),
        versions: vec!["1.0.1".into()],
        from: Vec::new(),
    };
    let manager = &larder.larder.manager;
    manager.execute(&snapshot, delete).await.unwrap();
    let events = events(&receiver.wait_for(4).await);
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let detail = &event["detail"];
            (
                detail["sequenceNumber"].as_u64().unwrap(),
                detail["packageVersion"].as_str().unwrap(),
                detail["packageVersionState"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "1.0.0", "Published"),
            (2, "1.0.1", "Published"),
            (3, "1.0.2", "Published"),
            (4, "1.0.1", "Deleted"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_put_aside_and_can_be_sent_again() {
    let receiver = Receiver::start(vec![Manner::Fails]).await;
    let upstream = Upstream::start().await;
    let target = receiver
        .target("")
        .replace("[events]\n", "[events]\nattempts_max = 1\n");
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{target}")).await;
    assert_eq!(put(&larder, "acme", "1.0.0", &[]).await, 201);
    let packages = larder.larder.store.packages();
    let dead = eventually("an event is put aside", async || {
        let dead = packages.deliveries().list(Some("dead"), 10).await.unwrap();
        dead.into_iter().next()
    })
    .await;
    assert!(dead.said.starts_with("500"), "{}", dead.said);
    assert_eq!(packages.deliveries().replay(None).await.unwrap(), 1);
    let taken = receiver.wait_for(1).await;
    assert_eq!(events(&taken)[0]["id"], dead.event.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_survives_a_restart_and_refusals_and_policies_are_told_into_a_file() {
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let folder = tempfile::TempDir::new().unwrap();
    let (file, audit) = (
        folder.path().join("events.jsonl"),
        folder.path().join("audit.jsonl"),
    );
    // Nobody is there at first.
    let closed = "[events]\nattempts_max = 1000\n[[target]]\nname = \"out\"\nfile = \"/nowhere/at/all/events.jsonl\"\n";
    let open = closed.replace("/nowhere/at/all/events.jsonl", &file.display().to_string());
    let rule = "[[rule]]\nname = \"no-left-pad\"\naction = \"deny\"\npackages = [\"npm:left-pad\"]\nreason = \"known bad\"\n";
    let config = |target: &str| {
        format!(
            "{}{TEAM}{GUARDED}audit = \"{}\"\n{rule}{target}",
            crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT),
            audit.display()
        )
    };
    let larder = TestLarder::with(&config(closed)).await;
    let (_, root) = token(&larder, "root").await;
    let root = format!("Bearer {root}");
    let headers = [("authorization", root.as_str())];
    assert_eq!(put(&larder, "acme", "1.0.0", &headers).await, 201);
    let data = larder.stop().await;
    let larder = TestLarder::in_dir(&config(&open), data).await;
    let denied = larder
        .get_with("/npm/team/left-pad/-/left-pad-1.3.0.tgz", &headers)
        .await;
    denied.expect(403);
    super::policy(
        &larder,
        Some("team"),
        &json!({ "Effect": "Allow", "Principal": "*", "Action": "*" }),
    )
    .await;
    let lines = eventually("three events are in the file", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (lines.len() >= 3).then_some(lines)
    })
    .await;
    let of = |kind: &str| {
        let found = lines.iter().find(|event| event["detail-type"] == kind);
        found.unwrap_or_else(|| panic!("{lines:?}")).clone()
    };
    let published = of("CodeArtifact Package Version State Change");
    assert_eq!(published["detail"]["packageName"], "acme");
    let refused = of("Larder Package Refused");
    assert_eq!(refused["detail"]["reason"], "rule");
    assert_eq!(refused["detail"]["decider"], "rule `no-left-pad`");
    assert_eq!(
        of("Larder Policy Change")["detail"]["operationType"],
        "Updated"
    );
    let audit = std::fs::read_to_string(&audit).unwrap();
    let records: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    println!("{audit}");
    assert_eq!(records[0]["principal"], "arn:aws:iam::123456789012:root");
    assert_eq!(records[0]["action"], "codeartifact:PublishPackageVersion");
    assert_eq!(records[0]["by"], "ownership of the domain");
    assert_eq!(records[0]["allowed"], true);
    assert_eq!(records[1]["by"], "rule `no-left-pad`");
    assert_eq!(records[1]["allowed"], false);
    let said = root.trim_start_matches("Bearer ");
    assert!(!audit.contains(said), "a token is in the audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_what_a_body_alone_names_whether_it_is_taken_or_refused() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let larder = TestLarder::start_and(
        &upstream,
        &format!("{TEAM}{GUARDED}audit = \"{}\"\n", audit.display()),
    )
    .await;
    let ci = "arn:aws:iam::123456789012:user/ci";
    super::policy(
        &larder,
        Some("team"),
        &json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "CiPublishes", "Effect": "Allow", "Principal": { "AWS": ci },
            "Action": "codeartifact:PublishPackageVersion", "Resource": "*",
        }, {
            // Who may publish something is asked what it is.
            "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::123456789012:user/other" },
            "Action": "codeartifact:PublishPackageVersion",
            "Resource": "arn:aws:codeartifact:us-east-1:123456789012:package/my-domain/team/nuget//other",
        }] }),
    )
    .await;
    let allowed = "statement `CiPublishes` of the policy of repository `team`";
    let refused = "no statement of any policy allows it";
    for (principal, status, by) in [("other", 403, refused), ("ci", 201, allowed)] {
        let (_, token) = token(&larder, principal).await;
        let bearer = format!("Bearer {token}");
        let put = reqwest::Method::PUT;
        let package = crate::support::nuget::nupkg("Acme.Own", "1.0.0", &[]);
        larder
            .send(
                put,
                "/nuget/team/api/v2/package",
                &[("authorization", bearer.as_str())],
                Some(package.into()),
            )
            .await
            .expect(status);
        let lines = std::fs::read_to_string(&audit).unwrap();
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["package"], "nuget:acme.own", "{lines}");
        assert_eq!(last["version"], "1.0.0");
        assert_eq!(last["by"], by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_names_package_and_version_of_every_change() {
    let folder = tempfile::TempDir::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let (_upstream, larder) = guarded_and(&format!("audit = \"{}\"\n", audit.display())).await;
    let (_, root) = token(&larder, "root").await;
    let (_, reader) = token(&larder, "reader").await;
    let document = crate::publish::npm_document(
        "acme",
        "1.0.0",
        &crate::support::npm::tarball("acme", "1.0.0", &[]),
    );
    let last = async |bearer: &str, method: &str, path: &str, body: &[u8]| {
        let bearer = format!("Bearer {bearer}");
        let headers = [("authorization", bearer.as_str())];
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        larder
            .send(method, path, &headers, Some(body.to_vec().into()))
            .await;
        let lines = std::fs::read_to_string(&audit).unwrap();
        let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let word = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word("package"), word("version"), last["status"])
    };
    let jar = "/maven/team/org/acme/lib/1.0/lib-1.0.jar";
    let nuget = "/nuget/team/api/v2/package/Acme.Lib/1.0";
    for (who, method, path, body, told) in [
        (
            &reader,
            "PUT",
            jar,
            &b"jar"[..],
            "maven:org.acme:lib 1.0 403",
        ),
        (&root, "PUT", jar, b"jar", "maven:org.acme:lib 1.0 201"),
        (&reader, "DELETE", nuget, b"", "nuget:acme.lib 1.0.0 403"),
        (
            &root,
            "PUT",
            "/npm/team/acme",
            &document,
            "npm:acme 1.0.0 201",
        ),
        (
            &root,
            "POST",
            "/v1/package/versions/update_status?domain=my-domain&repository=team&format=npm&package=acme",
            br#"{"versions":["1.0.0","2.0.0"],"targetStatus":"Published"}"#,
            "npm:acme 1.0.0, 2.0.0 200",
        ),
    ] {
        assert_eq!(last(who, method, path, body).await, told, "{method} {path}");
    }
    let bearer = format!("Bearer {root}");
    let headers = [("authorization", bearer.as_str())];
    let document = larder
        .get_with("/npm/team/acme", &headers)
        .await
        .expect(200);
    let revision = document.json()["_rev"].as_str().unwrap().to_owned();
    let path = format!("/npm/team/acme/-rev/{revision}");
    assert_eq!(
        last(&root, "DELETE", &path, b"").await,
        "npm:acme 1.0.0 200"
    );
}

/// Sends a publish whole, and closes the connection `pause` later without having read its answer.
fn publish_and_leave(larder: &TestLarder, token: &str, name: &str, pause: Duration) {
    use std::io::Write as _;
    let body = npm_document(name, "1.0.0", &tarball(name, "1.0.0", &[]));
    let host = larder.url.trim_start_matches("http://");
    let mut socket = std::net::TcpStream::connect(host).unwrap();
    let head = format!(
        "PUT /npm/team/{name} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(&body).unwrap();
    std::thread::sleep(pause);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_left_before_the_answer_has_its_line_in_the_audit() {
    let folder = tempfile::TempDir::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let (_upstream, larder) = guarded_and(&format!("audit = \"{}\"\n", audit.display())).await;
    let (_, root) = token(&larder, "root").await;
    // Where in its way a change is when its client leaves is chance: the pauses are spread over it.
    let names: Vec<String> = (0..24).map(|at| format!("left{at}")).collect();
    for (name, at) in names.iter().zip(0..) {
        publish_and_leave(&larder, &root, name, Duration::from_micros(500 * at));
    }
    let bearer = format!("Bearer {root}");
    let headers = [("authorization", bearer.as_str())];
    let mut published = 0;
    for name in &names {
        let path = format!("/npm/team/{name}");
        if larder.get_with(&path, &headers).await.status != 200 {
            continue;
        }
        published += 1;
        until("the change's line", async || {
            let lines = std::fs::read_to_string(&audit).unwrap_or_default();
            lines.contains(&format!("\"npm:{name}\""))
        })
        .await;
    }
    assert!(published > 0, "no publish came to its end");
}

#[tokio::test]
async fn refused_credentials_are_in_the_audit_and_first_tries_are_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let (_upstream, larder) = guarded_and(&format!("audit = \"{}\"\n", audit.display())).await;
    larder.get("/npm/team/left-pad").await.expect(401);
    let wrong = [("authorization", "Bearer lrd_wrong")];
    larder
        .get_with("/npm/team/left-pad", &wrong)
        .await
        .expect(401);
    let text = std::fs::read_to_string(&audit).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("the token does not hold") && !text.contains("lrd_wrong"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_from_outside_is_told_once() {
    let receiver = Receiver::start(Vec::new()).await;
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let files = ["lib-1.pom", "lib-1.jar"].map(|file| format!("/maven2/org/acme/lib/1/{file}"));
    for file in &files {
        upstream.put(file, Reply::bytes("<project/>"));
    }
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{}", receiver.target(""))).await;
    for _ in 0..2 {
        let tarball = larder.get("/npm/team/left-pad/-/left-pad-1.3.0.tgz");
        tarball.await.expect(200);
    }
    for file in &files {
        let path = file.replace("/maven2/", "/maven/team/");
        larder.get(&path).await.expect(200);
    }
    assert_eq!(put(&larder, "acme", "1.0.0", &[]).await, 201);
    let events = events(&receiver.wait_for(3).await);
    let mut told: Vec<_> = events
        .iter()
        .map(|event| {
            let detail = |name: &str| event["detail"][name].as_str().unwrap_or_default();
            (
                detail("repositoryName"),
                detail("packageName"),
                detail("packageVersionState"),
                detail("operationType"),
            )
        })
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("public", "left-pad", "Published", "Created"),
            ("public", "lib", "Published", "Created"),
            ("team", "acme", "Published", "Created"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_goes_away_and_comes_back_is_told() {
    let receiver = Receiver::start(Vec::new()).await;
    let mut upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{}", receiver.target(""))).await;
    upstream.vanish();
    while larder.get("/npm/team/left-pad").await.status != 503 {}
    receiver.wait_for(1).await;
    upstream.come_back().await;
    while larder.get("/npm/team/left-pad").await.status != 200 {}
    let events = events(&receiver.wait_for(2).await);
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            let detail = &event["detail"];
            (
                event["detail-type"].as_str().unwrap(),
                detail["connectionName"].as_str().unwrap(),
                detail["upstreamState"].as_str().unwrap(),
            )
        })
        .collect();
    let kind = "Larder Upstream State Change";
    assert_eq!(told, [(kind, "up:npm", "Away"), (kind, "up:npm", "Back")]);
}

/// Holds a request that AWS would get against its signature.
fn assert_signed(seen: &crate::support::upstream::Seen, service: &str, host: &str) {
    use larder::access::sigv4::{Claim, Request};
    let mut headers = seen.headers.clone();
    headers.insert("host", host.parse().unwrap());
    let authorization = seen.headers["authorization"].to_str().unwrap();
    let request = Request {
        method: seen.method.as_str(),
        path: &seen.path,
        query: "",
        headers: &headers,
        authority: None,
        body_sha256: &crate::support::sha256(&seen.body),
    };
    let claim = Claim::parse(authorization).unwrap();
    assert_eq!(claim.access_key, "AKIDEXAMPLE");
    let secret = larder::secret::Secret::new("s3cret");
    let now = jiff::Timestamp::now();
    claim.check(&request, &secret, service, now).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_and_a_topic_get_events_with_a_signature() {
    let (bus, topics) = (Upstream::start().await, Upstream::start().await);
    let answer = |failed: i64| json!({ "FailedEntryCount": failed, "Entries": [{}] }).to_string();
    bus.put("/", Reply::typed("application/x-amz-json-1.1", answer(1)));
    topics.put("/", Reply::typed("text/xml", "<PublishResponse/>"));
    let upstream = Upstream::start().await;
    let text = format!(
        "{}{TEAM}[[target]]\nname = \"bus\"\neventbridge = {{ region = \"eu-west-1\", bus = \"builds\", endpoint = \"{}\" }}\n\
         [[target]]\nname = \"topic\"\nsns = {{ topic = \"arn:aws:sns:eu-west-1:123456789012:packages.fifo\", endpoint = \"{}\" }}\n",
        crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT),
        bus.url(),
        topics.url(),
    );
    let setup = crate::command::Setup::new(&text);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
    ];
    let served = setup.serve_with(&variables).await;
    let package = tarball("acme", "1.0.0", &[]);
    let answered = reqwest::Client::new()
        .put(format!("{}/npm/team/acme", served.url))
        .header("content-type", "application/json")
        .body(npm_document("acme", "1.0.0", &package))
        .send()
        .await
        .unwrap();
    assert_eq!(answered.status(), 201);
    let requests = async |of: &Upstream, count: usize| {
        eventually("so many requests have come", async || {
            Some(of.seen()).filter(|seen| seen.len() >= count)
        })
        .await
    };
    let host = |of: &Upstream| of.url().trim_start_matches("http://").to_owned();
    let published = &requests(&topics, 1).await[0];
    assert_signed(published, "sns", &host(&topics));
    let form: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(&published.body)
            .into_owned()
            .collect();
    assert_eq!(form["Action"], "Publish");
    let message: Value = serde_json::from_str(&form["Message"]).unwrap();
    assert_eq!(message["detail"]["packageName"], "acme");
    assert_eq!(
        form["MessageDeduplicationId"],
        message["id"].as_str().unwrap()
    );
    // A bus that says 200 and took nothing is asked again.
    requests(&bus, 1).await;
    bus.put("/", Reply::typed("application/x-amz-json-1.1", answer(0)));
    let seen = requests(&bus, 2).await;
    assert_signed(&seen[1], "events", &host(&bus));
    assert_eq!(seen[1].headers["x-amz-target"], "AWSEvents.PutEvents");
    let entries: Value = serde_json::from_slice(&seen[1].body).unwrap();
    let entry = &entries["Entries"][0];
    assert_eq!(entry["EventBusName"], "builds");
    assert_eq!(entry["Source"], "larder", "`aws.` is AWS's own");
    assert_eq!(entry["Detail"], message["detail"].to_string());
}
