//! Bounds of waits and lists that a whole Larder has to meet, each once.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::publish::{TEAM, npm_document};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::tarball;
use crate::support::{Fault, Reply, TestLarder, Upstream, until};

const PUT: reqwest::Method = reqwest::Method::PUT;

async fn publish(larder: &TestLarder, name: &str) {
    let document = npm_document(name, "1.0.0", &tarball(name, "1.0.0", &[]));
    let path = format!("/npm/team/{name}");
    larder
        .send(PUT, &path, &[], Some(document))
        .await
        .expect(201);
}

/// A target of events at the upstream, and keys of `[events]`.
fn target(upstream: &Upstream, events: &str) -> String {
    let url = upstream.url();
    format!("{TEAM}[events]\n{events}\n[[target]]\nname = \"hook\"\nwebhook = \"{url}/hook\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_events_are_on_their_way_to_a_target_at_once() {
    let upstream = Upstream::start().await;
    upstream.put("/hook", Reply::json("{}"));
    let gates: [Arc<Notify>; 4] = Default::default();
    for gate in &gates {
        upstream.fault("/hook", Fault::StallAfter(0, Arc::clone(gate)));
    }
    let larder = TestLarder::start_and(&upstream, &target(&upstream, "at_once = 2")).await;
    let are_told = async |count: usize| {
        until("so many are told", async || {
            upstream.count("/hook") == count
        })
        .await;
    };
    publish(&larder, "first").await;
    are_told(1).await;
    for name in ["a", "b", "c"] {
        publish(&larder, name).await;
    }
    gates[0].notify_one();
    are_told(3).await;
    // What could be told in this time is not.
    for _ in 0..5 {
        larder.get("/-/ready").await.expect(200);
    }
    are_told(3).await;
    gates[1].notify_one();
    are_told(4).await;
    gates[2].notify_one();
    gates[3].notify_one();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_forgotten_when_it_is_too_old() {
    let upstream = Upstream::start().await;
    let mut broken = Reply::json("{}");
    broken.status = Some(500);
    upstream.put("/hook", broken);
    let text = |events: &str| {
        let events = format!("attempts_max = 1\n{events}");
        format!(
            "{}{}",
            config(&upstream, IMPATIENT),
            target(&upstream, &events)
        )
    };
    let known = async |larder: &TestLarder| {
        let deliveries = larder.larder.store.packages().deliveries();
        deliveries.list(None, 10).await.unwrap().len()
    };
    let larder = TestLarder::with(&text("")).await;
    publish(&larder, "acme").await;
    until("the event is put aside", async || {
        let deliveries = larder.larder.store.packages().deliveries();
        deliveries.list(Some("dead"), 10).await.unwrap().len() == 1
    })
    .await;
    let larder = TestLarder::in_dir(&text("keep = \"1h\""), larder.stop().await).await;
    assert_eq!(known(&larder).await, 1);
    let larder = TestLarder::in_dir(&text("keep = \"1ms\""), larder.stop().await).await;
    until("the event is forgotten", async || known(&larder).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlasts_the_end_is_cut_off() {
    let upstream = Upstream::start().await;
    let keys = format!("{IMPATIENT}[server]\ndrain = \"100ms\"\n");
    let larder = TestLarder::with(&config(&upstream, &keys)).await;
    let gate = Arc::new(Notify::new());
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    upstream.fault("/npm/a", Fault::StallAfter(4, gate));
    let address = larder.url.split("//").nth(1).unwrap().to_owned();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = b"GET /npm/public/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut socket, request)
        .await
        .unwrap();
    until("the request is under way", async || {
        upstream.count("/npm/a") == 1
    })
    .await;
    larder.stop().await;
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut read));
    let _ = end.await.expect("the socket is still open");
    assert!(!read.starts_with(b"HTTP/1.1 200"), "{read:?}");
}

/// A Larder with one registry, of npm's format, to which `team` also passes publishes on.
async fn of_registry(address: std::net::SocketAddr, keys: &str) -> TestLarder {
    TestLarder::with(&format!(
        "listen = \"127.0.0.1:0\"\n{keys}[cache]\nrendered_disk = 0\nmin_free = 0\n\
         [[connection]]\nname = \"up:npm\"\nformat = \"npm\"\nurl = \"http://{address}/\"\n\
         [[repository]]\nname = \"team\"\nexternal_connections = [\"up:npm\"]\npublish = \"forward:up:npm\"\n"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_accepts_no_connection_is_waited_for_so_long() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Those whom nobody accepts wait in a queue; beyond it, no connection is made.
    let mut queue = Vec::new();
    while let Ok(socket) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        queue.push(socket.unwrap());
    }
    let times = "connect_timeout = \"100ms\"\nread_timeout = \"60s\"\npatience = \"60s\"";
    let larder = of_registry(address, &format!("[fetch]\nretries = 0\n{times}\n")).await;
    let asked = tokio::time::timeout(Duration::from_secs(20), larder.get("/npm/team/a"));
    let answer = asked.await.expect("the registry is waited for");
    assert!((502..=504).contains(&answer.status), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_answer_a_publish_is_waited_for_so_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let larder = of_registry(address, "[upload]\nanswer_timeout = \"200ms\"\n").await;
    let body = Some("{}".into());
    larder
        .send(PUT, "/npm/team/acme", &[], body)
        .await
        .expect(504);
    silent.abort();
}

#[tokio::test]
async fn what_a_registry_has_and_has_not_is_asked_for_again_after_a_while() {
    let upstream = Upstream::start().await;
    packument(&upstream, "a", 0);
    let keys = IMPATIENT.replace(
        "[cache]\n",
        "[cache]\nabsent_for = \"1s\"\nfresh_for = \"1s\"\n",
    );
    let larder = TestLarder::with(&config(&upstream, &keys)).await;
    larder.get("/npm/public/a").await.expect(200);
    larder.get("/npm/public/b").await.expect(404);
    packument(&upstream, "a", 1);
    packument(&upstream, "b", 0);
    let is_new = async || larder.get("/npm/public/a").await.text().contains("2.0.0");
    until("it is asked whether the document is another", is_new).await;
    let is_there = async || larder.get("/npm/public/b").await.status == 200;
    until("it is asked whether the package is there", is_there).await;
    // With other bounds, both are as they were.
    let keys = keys.replace("\"1s\"", "\"1h\"");
    let larder = TestLarder::with(&config(&upstream, &keys)).await;
    larder.get("/npm/public/a").await.expect(200);
    larder.get("/npm/public/c").await.expect(404);
    packument(&upstream, "a", 2);
    packument(&upstream, "c", 0);
    upstream.forget_seen();
    let known = larder.get("/npm/public/a").await.expect(200);
    assert!(!known.text().contains("2.0.1"));
    larder.get("/npm/public/c").await.expect(404);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test]
async fn a_document_that_finds_no_place_is_passed_on_up_to_a_bound() {
    let upstream = Upstream::start().await;
    let full = IMPATIENT.replace("min_free = 0", "min_free = \"900TiB\"");
    let larder = TestLarder::with(&config(&upstream, &full)).await;
    let mut document = br#"{"name":"a","versions":{}}"#.to_vec();
    document.resize(1024 * 1024, b' ');
    upstream.put("/npm/a", Reply::typed("application/json", document.clone()));
    larder.get("/npm/public/a").await.expect(200);
    document.resize(64 * 1024 * 1024 + 1, b' ');
    upstream.put("/npm/b", Reply::typed("application/json", document));
    let refused = larder.get("/npm/public/b").await.expect(502);
    assert!(
        refused.text().contains("more than 67108864 bytes"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn an_identity_token_is_no_longer_than_may_be() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let refused = async |bytes: usize| {
        let body = serde_json::json!({ "token": "x".repeat(bytes) }).to_string();
        let post = reqwest::Method::POST;
        let answer = larder
            .send(post, "/-/oidc/token", &[], Some(body.into()))
            .await;
        answer.text()
    };
    let (fits, longer) = (refused(16 * 1024).await, refused(16 * 1024 + 1).await);
    assert!(!fits.contains("too long"), "{fits}");
    assert!(longer.contains("too long"), "{longer}");
}

/// A packument of `1.0.0` and of so many versions above it.
fn packument(upstream: &Upstream, name: &str, above: usize) {
    let url = upstream.url();
    let of = |version: String| {
        let tarball = format!("{url}/npm/{name}/-/{name}-{version}.tgz");
        let dist = format!(r#"{{"tarball":"{tarball}","shasum":"{}"}}"#, "0".repeat(40));
        format!(r#""{version}":{{"name":"{name}","version":"{version}","dist":{dist}}}"#)
    };
    let mut versions = vec![of("1.0.0".to_owned())];
    versions.extend((0..above).map(|number| of(format!("2.0.{number}"))));
    let document = format!(
        r#"{{"name":"{name}","versions":{{{}}}}}"#,
        versions.join(",")
    );
    upstream.put(&format!("/npm/{name}"), Reply::json(document));
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_versions_are_looked_at_and_so_many_are_told_of() {
    let upstream = Upstream::start().await;
    let rule = "[[rule]]\nname = \"new\"\naction = \"deny\"\npackages = [\"npm:*@>=2\"]\n";
    let larder = TestLarder::start_and(&upstream, rule).await;
    let told = async |above: usize| {
        let name = format!("a{above}");
        packument(&upstream, &name, above);
        let package = larder::format::package(&format!("npm:{name}")).unwrap();
        let snapshot = larder.larder.snapshot();
        let repository = snapshot.repository("public").unwrap();
        let reader = larder.larder.repositories.reader();
        let told = reader
            .explain(&snapshot, repository, &package)
            .newest()
            .await;
        let told = told.unwrap();
        let served = told.iter().filter(|it| it.allowed).count();
        (told.len() - served, served)
    };
    assert_eq!(told(20).await, (20, 1));
    assert_eq!(told(21).await, (20, 1));
    assert_eq!(told(499).await, (20, 1));
    assert_eq!(told(500).await, (20, 0));
}
