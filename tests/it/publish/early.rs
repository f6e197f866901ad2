//! Answers before the end of a body: a client that is still sending hears them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::forward::FORWARD;
use super::{TEAM, team};
use crate::access::{guarded_and, token};
use crate::support::larder::{IMPATIENT, config};
use crate::support::{TestLarder, Upstream};

const MIB: usize = 1 << 20;

/// More than two sockets take without anybody who reads.
const BODY_BYTES: usize = 24 * MIB;

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunks,
}

async fn connect(larder: &TestLarder) -> TcpStream {
    let address = larder.url.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// Sends all of a large body and only then listens, as most clients do.
async fn send_all(larder: &TestLarder, line: &str, headers: &str, framing: Framing) -> String {
    let framed = match framing {
        Framing::Length => format!("Content-Length: {BODY_BYTES}"),
        Framing::Chunks => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{framed}\r\n\r\n");
    let mut socket = connect(larder).await;
    socket.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; MIB];
    for _ in 0..BODY_BYTES / MIB {
        if matches!(framing, Framing::Chunks) {
            socket.write_all(b"100000\r\n").await.unwrap();
        }
        socket.write_all(&piece).await.expect(line);
        if matches!(framing, Framing::Chunks) {
            socket.write_all(b"\r\n").await.unwrap();
        }
    }
    if matches!(framing, Framing::Chunks) {
        socket.write_all(b"0\r\n\r\n").await.unwrap();
    }
    heard(&mut socket).await
}

/// What comes back: the head, and what came with it.
async fn heard(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        if socket.read_buf(&mut answer).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The ways in which clients of all formats publish.
const PUBLISHES: [&str; 4] = [
    "PUT /npm/team/acme",
    "POST /pypi/team/",
    "PUT /maven/team/x/y/1/y-1.jar",
    "PUT /nuget/team/api/v2/package",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_heard_by_a_client_that_is_still_sending() {
    let (_upstream, larder) = guarded_and("").await;
    let (_, known) = token(&larder, "nobody").await;
    let known = format!("Authorization: Bearer {known}\r\n");
    let asset = "POST /v1/package/version/publish?domain=my-domain&repository=team&format=generic&namespace=a&package=b&version=1&asset=c";
    for framing in [Framing::Length, Framing::Chunks] {
        for line in PUBLISHES {
            let answer = send_all(&larder, line, "", framing).await;
            assert!(
                answer.starts_with("HTTP/1.1 401 "),
                "{line} {framing:?}: {answer}"
            );
            let answer = send_all(&larder, line, &known, framing).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 "),
                "{line} {framing:?}: {answer}"
            );
        }
        for (line, headers) in [
            (asset, ""),
            (asset, known.as_str()),
            ("PUT /npm/elsewhere/acme", ""),
            ("PUT /no/such/path", ""),
            ("PUT /-/live", ""),
        ] {
            let answer = send_all(&larder, line, headers, framing).await;
            assert!(
                answer.starts_with("HTTP/1.1 4"),
                "{line} {framing:?}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_not_taken_here_is_said_behind_the_body() {
    let upstream = Upstream::start().await;
    let bound = "[upload]\nbody_bytes_max = \"1MiB\"\ndocument_bytes_max = \"1MiB\"\n";
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{bound}")).await;
    let answer = send_all(&larder, PUBLISHES[2], "", Framing::Length).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = send_all(&larder, PUBLISHES[3], "", Framing::Chunks).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for line in PUBLISHES {
        let line = line.replace("/team/", "/public/");
        let answer = send_all(&larder, &line, "", Framing::Length).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{line}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_publish_nothing_hears_so_before_sending_anything() {
    let (_upstream, larder) = guarded_and("").await;
    let (_, known) = token(&larder, "nobody").await;
    for line in PUBLISHES {
        for (expects, length) in [("", 1), ("Expect: 100-continue\r\n", BODY_BYTES)] {
            let mut socket = connect(&larder).await;
            let head = format!(
                "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {known}\r\n{expects}Content-Length: {length}\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            let answer = heard(&mut socket).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{line}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_too_long_as_a_whole_ends() {
    let upstream = Upstream::start().await;
    let bound = "[upload]\nbody_timeout = \"50ms\"\n";
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{bound}")).await;
    for line in PUBLISHES {
        let mut socket = connect(&larder).await;
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{");
        socket.write_all(head.as_bytes()).await.unwrap();
        let answer = heard(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
    }
    larder.assert_nothing_kept().await;
}

/// What a registry does with the rest of a publish that it has answered.
#[derive(Clone, Copy, Debug)]
enum Rest {
    HangsUp,
    ReadsNone,
    ReadsOn,
}

/// A registry that answers each publish by this at once.
async fn hasty(answer: &'static str, rest: Rest) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            heard(&mut socket).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
            match rest {
                Rest::HangsUp => {}
                Rest::ReadsNone => kept.push(socket),
                Rest::ReadsOn => {
                    tokio::spawn(async move {
                        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                    });
                }
            }
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_of_the_registry_is_heard_as_well() {
    let refusal = "HTTP/1.1 403 Not with this key\r\nContent-Length: 8\r\n\r\nwhy not!";
    for rest in [Rest::HangsUp, Rest::ReadsNone, Rest::ReadsOn] {
        let url = hasty(refusal, rest).await;
        let upstream = Upstream::start().await;
        let text = config(&upstream, IMPATIENT).replace(&upstream.url(), &url);
        let larder = TestLarder::with(&format!("{text}{FORWARD}")).await;
        for line in ["PUT /npm/team/acme", "PUT /maven/team/x/y/1/y-1.jar"] {
            let answer = send_all(&larder, line, "", Framing::Length).await;
            assert!(
                answer.starts_with("HTTP/1.1 403 Not with this key\r\n"),
                "{rest:?} {line}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_goes_on_behind_a_refused_publish() {
    let (_upstream, larder) = team().await;
    let mut socket = connect(&larder).await;
    for _ in 0..2 {
        let head = "PUT /maven/public/x/y/1/y-1.jar HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde";
        socket.write_all(head.as_bytes()).await.unwrap();
        let answer = heard(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        let mut rest = answer.split_once("\r\n\r\n").unwrap().1.len();
        let length: usize = answer
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap();
        let mut more = vec![0; length];
        while rest < length {
            rest += socket.read(&mut more).await.unwrap();
        }
    }
}
