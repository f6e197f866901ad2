//! Every wait at a socket ends, and its places are bounded, in all and for each client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::support::larder::config;
use crate::support::{Fault, KIB, Reply, TestLarder, Upstream, noise, sha1, until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn larder(upstream: &Upstream, server: &str) -> TestLarder {
    let cache = "[cache]\nrendered_disk = 0\nmin_free = 0\n";
    let text = format!("{cache}[server]\n{server}");
    TestLarder::with(&config(upstream, &text)).await
}

fn address(larder: &TestLarder) -> std::net::SocketAddr {
    larder.url.split("//").nth(1).unwrap().parse().unwrap()
}

async fn connect(larder: &TestLarder) -> TcpStream {
    TcpStream::connect(address(larder)).await.unwrap()
}

/// Opens a socket that says this and no more.
async fn say(larder: &TestLarder, words: &[u8]) -> TcpStream {
    let mut socket = connect(larder).await;
    socket.write_all(words).await.unwrap();
    socket
}

/// Reads until Larder ends the socket.
async fn ended(mut socket: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut read));
    let _ = end.await.expect("the socket is still open");
    read
}

/// A file of so many bytes that Larder has, by its path.
async fn warm_jar(upstream: &Upstream, larder: &TestLarder, length: usize) -> (String, Vec<u8>) {
    let bytes = noise(length, 3);
    let path = "org/x/large/1.0/large-1.0.jar";
    upstream.put(&format!("/maven2/{path}"), Reply::bytes(bytes.clone()));
    let digest = Reply::typed("text/plain", sha1(&bytes));
    upstream.put(&format!("/maven2/{path}.sha1"), digest);
    let path = format!("/maven/public/{path}");
    larder.get(&path).await.expect(200);
    larder.wait_for_blob(&bytes, true).await;
    (path, bytes)
}

/// A request for a document that upstream begins and does not end before the gate opens.
fn stall(upstream: &Upstream, name: &str) -> (String, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let body = format!(r#"{{"name":"{name}","versions":{{}}}}"#);
    upstream.put(&format!("/npm/{name}"), Reply::json(body));
    let path = format!("/npm/{name}");
    upstream.fault(&path, Fault::StallAfter(4, Arc::clone(&gate)));
    (format!("/npm/public/{name}"), gate)
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// `HEADERS` of a GET, which ends its stream.
fn get_frame(stream: u32, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[name, length], value.as_bytes()].concat()
    };
    let fields = [
        vec![0x82, 0x86],
        literal(0x04, path),
        literal(0x01, "localhost"),
    ];
    frame(1, 0x05, stream, &fields.concat())
}

#[tokio::test]
async fn a_socket_without_a_request_ends_whatever_it_has_said_so_far() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "header_timeout = \"1s\"\n").await;
    let whole_preface = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let request = b"GET /-/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let sayings: [&[u8]; 7] = [
        b"",
        b"P",
        &PREFACE[..20],
        &PREFACE[..PREFACE.len() - 1],
        &whole_preface,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        request,
    ];
    let ends = sayings.map(async |words| ended(say(&larder, words).await).await);
    let read = join_all(ends).await;
    let last = String::from_utf8_lossy(read.last().unwrap());
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    larder.get("/-/ready").await.expect(200);
}

#[tokio::test]
async fn under_tls_a_socket_without_a_request_ends_as_well() {
    let upstream = Upstream::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(at("cert.pem"), made.cert.pem()).unwrap();
    let tls = format!(
        "header_timeout = \"1s\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        at("cert.pem").display(),
        at("key.pem").display()
    );
    let larder = larder(&upstream, &tls).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let plain = TcpStream::connect(larder.url.trim_start_matches("https://"));
    assert!(ended(plain.await.unwrap()).await.is_empty());
    for words in [&b""[..], b"P"] {
        let socket = TcpStream::connect(larder.url.trim_start_matches("https://"));
        let name = "localhost".try_into().unwrap();
        let mut socket = connector
            .connect(name, socket.await.unwrap())
            .await
            .unwrap();
        socket.write_all(words).await.unwrap();
        let mut read = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut read));
        let _ = end.await.expect("the socket is still open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_ends_and_a_slow_one_is_served() {
    let upstream = Upstream::start().await;
    let times = "header_timeout = \"1s\"\nwrite_timeout = \"1s\"\n";
    let larder = larder(&upstream, times).await;
    let (path, bytes) = warm_jar(&upstream, &larder, 6 * 1024 * KIB).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let open = &larder.larder.metrics.open_sockets;
    let kept = open.get();
    let silent = say(&larder, request.as_bytes()).await;
    // The answer's beginning fits into the socket, but not into the stream's own window.
    let streams = [PREFACE, &frame(4, 0, 0, &[]), &get_frame(1, &path)].concat();
    let silent_stream = say(&larder, &streams).await;
    let slow = TcpSocket::new_v4().unwrap();
    slow.set_recv_buffer_size(64 * 1024).unwrap();
    let mut slow = slow.connect(address(&larder)).await.unwrap();
    slow.write_all(request.as_bytes()).await.unwrap();
    // The system asks for more only when a good part of what it holds is gone, which takes longer here
    // than the bound.
    let (mut read, mut piece) = (Vec::new(), vec![0; 8 * KIB]);
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    loop {
        pace.tick().await;
        match slow.read(&mut piece).await.unwrap() {
            0 => break,
            count => read.extend_from_slice(&piece[..count]),
        }
    }
    assert!(read.ends_with(&bytes), "{} bytes", read.len());
    until("those that take nothing are gone", async || {
        open.get() <= kept
    })
    .await;
    drop((silent, silent_stream));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_slow_writers_and_slow_readers_keep_nobody_out() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "connections_max = 64\n").await;
    let (path, _) = warm_jar(&upstream, &larder, 9 * 1024 * KIB).await;
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    larder.get("/npm/public/a").await.expect(200);
    let read = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let question = "POST /npm/public/-/npm/v1/security/advisories/bulk HTTP/1.1\r\n\
                    Host: localhost\r\nContent-Length: 1000\r\n\r\n{";
    let sayings = ["", "GET / HTTP/1.1\r\n", question, &read];
    let mut held = Vec::new();
    for round in 0..100 {
        for words in sayings {
            held.push(say(&larder, words.as_bytes()).await);
        }
        larder.get("/npm/public/a").await.expect(200);
        if round % 10 == 0 {
            for path in ["/-/live", "/-/ready"] {
                larder.get(path).await.expect(200);
            }
        }
    }
    assert_eq!(held.len(), 400);
    let open = &larder.larder.metrics.open_sockets;
    until("no more are open than may be", async || open.get() <= 64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_place_is_at_work_probes_are_answered_and_others_wait() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "connections_max = 2\n").await;
    let gates = ["one", "two"].map(|name| stall(&upstream, name));
    let asked = gates.each_ref().map(|(path, _)| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        async { say(&larder, request.leak().as_bytes()).await }
    });
    let working = join_all(asked).await;
    until("both are at work", async || {
        upstream.count("/npm/one") + upstream.count("/npm/two") == 2
    })
    .await;
    for _ in 0..3 {
        larder.get("/-/live").await.expect(200);
        larder.get("/-/ready").await.expect(200);
    }
    let waiting = larder.get("/-/metrics");
    let open = async {
        for (_, gate) in &gates {
            gate.notify_one();
        }
    };
    let (answer, ()) = tokio::join!(waiting, open);
    answer.expect(200);
    for socket in working {
        let answer = String::from_utf8(ended(socket).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_client_has_a_bound_of_its_own() {
    let upstream = Upstream::start().await;
    let server = "connections_per_address_max = 2\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let larder = larder(&upstream, server).await;
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    let gates = ["one", "two"].map(|name| stall(&upstream, name));
    let one = [("x-forwarded-for", "192.0.2.1")];
    let other = [("x-forwarded-for", "192.0.2.2")];
    let held = join_all(
        gates
            .each_ref()
            .map(|(path, _)| larder.get_with(path, &one)),
    );
    let meanwhile = async {
        until("both are under way", async || {
            upstream.count("/npm/one") + upstream.count("/npm/two") == 2
        })
        .await;
        let refused = larder.get_with("/npm/public/a", &one).await.expect(503);
        assert_eq!(refused.header("retry-after"), "1");
        assert!(
            refused
                .text()
                .contains("server.connections_per_address_max")
        );
        larder.get_with("/-/ready", &one).await.expect(200);
        larder.get_with("/npm/public/a", &other).await.expect(200);
        larder.get("/npm/public/a").await.expect(200);
        for (_, gate) in &gates {
            gate.notify_one();
        }
    };
    let (answers, ()) = tokio::join!(held, meanwhile);
    for answer in answers {
        answer.expect(200);
    }
    larder.get_with("/npm/public/a", &one).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_its_requests_loses_its_socket() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    larder.get("/npm/public/a").await.expect(200);
    let mut socket = say(&larder, &[PREFACE, &frame(4, 0, 0, &[])].concat()).await;
    let resets = async {
        for stream in (1..20_001).step_by(2) {
            let cancel = frame(3, 0, stream, &8_u32.to_be_bytes());
            let pair = [get_frame(stream, "/npm/public/a"), cancel].concat();
            if socket.write_all(&pair).await.is_err() {
                break;
            }
        }
        let mut read = Vec::new();
        let _ = socket.read_to_end(&mut read).await;
    };
    let clients = async {
        for _ in 0..50 {
            larder.get("/npm/public/a").await.expect(200);
        }
    };
    let both = async { tokio::join!(resets, clients) };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("Larder ends the socket");
}

#[tokio::test]
async fn a_call_of_nobody_known_is_refused_before_its_body_is_read() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    let signed = "AWS4-HMAC-SHA256 Credential=LRDAnobody/20261130/us-east-1/codeartifact/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=0000000000000000000000000000000000000000000000000000000000000000";
    // A body of a known caller would be too large.
    let body = bytes::Bytes::from(noise(2 * 1024 * KIB, 1));
    for headers in [vec![("authorization", signed)], Vec::new()] {
        let path = "/v1/domain?domain=corp";
        let post = reqwest::Method::POST;
        let refused = larder.send(post, path, &headers, Some(body.clone())).await;
        assert!(matches!(refused.status, 401 | 403), "{refused:?}");
    }
}

#[tokio::test]
async fn an_identity_token_beyond_the_bound_is_refused() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    let body = bytes::Bytes::from(noise(70 * KIB, 1));
    let post = reqwest::Method::POST;
    let refused = larder.send(post, "/-/oidc/token", &[], Some(body)).await;
    refused.expect(413);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_go_to_a_registry_at_once_than_may_be() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "[fetch]\nper_connection_max = 1\n").await;
    let (first, gate) = stall(&upstream, "one");
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    let is_under_way = async || upstream.count("/npm/one") == 1;
    let second = async {
        until("the first is under way", is_under_way).await;
        larder.get("/npm/public/a").await.expect(200);
    };
    let look = async {
        until("the first is under way", is_under_way).await;
        // What could be asked for in this time is not.
        for _ in 0..5 {
            larder.get("/-/ready").await.expect(200);
        }
        assert_eq!(upstream.count("/npm/a"), 0);
        gate.notify_one();
    };
    let (answer, (), ()) = tokio::join!(larder.get(&first), second, look);
    answer.expect(200);
}

#[tokio::test]
async fn a_publisher_that_stalls_is_not_waited_for() {
    let upstream = Upstream::start().await;
    let tables = "[upload]\nstall_timeout = \"1s\"\n\
                  [[repository]]\nname = \"team\"\npublish = \"local\"\n";
    let larder = larder(&upstream, tables).await;
    let head =
        "PUT /npm/team/left-pad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    let answer = ended(say(&larder, head.as_bytes()).await).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let upstream = Upstream::start().await;
    let larder = larder(&upstream, "").await;
    let circle = format!("{}/npm/circle", upstream.url());
    upstream.put("/npm/circle", Reply::redirect(&circle));
    larder.get("/npm/public/circle").await.expect(502);
}
