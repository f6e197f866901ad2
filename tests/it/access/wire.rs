//! Requests that say two things at once, and secrets that stand where they should not.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{GUARDED, guarded, token};
use crate::command::Setup;
use crate::publish::{TEAM, npm_document};
use crate::support::TestLarder;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::tarball;
use crate::support::{Upstream, npm};

/// What comes back for these bytes until the connection ends.
async fn raw(larder: &TestLarder, text: &str) -> String {
    let address = larder.url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<&str> {
    let starts = answer.match_indices("HTTP/1.1 ");
    starts
        .map(|(at, start)| &answer[at + start.len()..][..3])
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_can_be_read_in_two_ways_is_read_in_none() {
    let (_upstream, larder) = guarded().await;
    let (_, root) = token(&larder, "root").await;
    let document = npm_document("acme", "1.0.0", &tarball("acme", "1.0.0", &[]));
    let bearer = format!("Bearer {root}");
    let put = reqwest::Method::PUT;
    let headers = [("authorization", bearer.as_str())];
    let published = larder.send(put, "/npm/team/acme", &headers, Some(document));
    published.await.expect(201);
    let get = format!(
        "GET /npm/team/acme HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {bearer}\r\n"
    );
    let ok = raw(&larder, &format!("{get}\r\n")).await;
    assert_eq!(statuses(&ok), ["200"], "{ok}");
    for (what, more) in [
        ("two credentials", "Authorization: Bearer other\r\n\r\n"),
        (
            "a credential twice",
            &*format!("Authorization: {bearer}\r\n\r\n"),
        ),
    ] {
        let answer = raw(&larder, &format!("{get}{more}")).await;
        assert_eq!(statuses(&answer), ["401"], "{what}: {answer}");
    }
    for (what, more) in [
        (
            "two lengths",
            "Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
        ),
        ("a space before the colon", "X-Amz-Date : now\r\n\r\n"),
        (
            "a line that goes on",
            "X-A: b\r\n Authorization: Bearer y\r\n\r\n",
        ),
        ("no name", ": b\r\n\r\n"),
        ("a zero in it", "X-A: b\0c\r\n\r\n"),
        ("a length that is none", "Content-Length: +5\r\n\r\nabcde"),
        (
            "an unknown coding",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
    ] {
        let answer = raw(&larder, &format!("{get}{more}")).await;
        assert!(
            statuses(&answer).iter().all(|it| *it == "400"),
            "{what}: {answer}"
        );
    }
    // A body with both a length and chunks: what follows the chunks is no request of its own that
    // another's credentials would go with.
    let hidden = "GET /npm/team/acme HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = format!(
        "PUT /npm/team/other HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        hidden.len() + 5
    );
    let answer = raw(&larder, &both).await;
    assert!(!statuses(&answer).contains(&"200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_request_is_logged_wherever_it_stands() {
    let upstream = Upstream::start().await;
    npm::publish(&upstream, "left-pad", &[npm::version("1.3.0", &[])]);
    let audit = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "{}{TEAM}{GUARDED}audit = \"{}\"\n",
        config(&upstream, IMPATIENT),
        audit.path().display()
    );
    let setup = Setup::new(&text);
    let mut served = setup
        .serve_with(&[("LARDER_LOG_LEVEL", "larder=trace")])
        .await;
    const SECRET: &str = "lrd_5ecret5ecret5ecret5ecret";
    let client = reqwest::Client::new();
    let url = &served.url;
    let with_user = url.replace("http://", &format!("http://aws:{SECRET}@"));
    let ways = [
        client.get(format!("{url}/npm/team/left-pad?access_token={SECRET}")),
        client.get(format!("{with_user}/pypi/team/simple/six/")),
        client
            .get(format!("{url}/npm/team/left-pad"))
            .bearer_auth(SECRET),
        client
            .put(format!("{url}/nuget/team/api/v2/package"))
            .header("x-nuget-apikey", SECRET),
        client
            .get(format!("{url}/v1/domain?domain=my-domain&x={SECRET}"))
            .bearer_auth(SECRET),
        client
            .post(format!("{url}/-/oidc/token"))
            .body(format!("{{\"token\":\"{SECRET}\"}}")),
    ];
    for request in ways {
        let status = request.send().await.unwrap().status();
        assert!(status.is_client_error(), "{status}");
    }
    served.signal(rustix::process::Signal::TERM);
    let log = served.rest().await;
    assert!(log.contains("/npm/team/left-pad"), "{log}");
    assert!(!log.contains("5ecret"), "{log}");
    let audit = std::fs::read_to_string(audit.path()).unwrap();
    assert!(audit.contains("/npm/team/left-pad"), "{audit}");
    assert!(!audit.contains("5ecret"), "{audit}");
}
