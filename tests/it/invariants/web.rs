//! What HTTP clients may expect: validators, codings, ranges, and clear answers to bad requests.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::npm::{publish, version};
use crate::support::until;
use crate::support::{Reply, TestLarder, Upstream};

#[tokio::test]
async fn clients_that_hold_the_bytes_are_told_so() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    for path in [
        "/npm/public/left-pad",
        "/npm/public/left-pad/-/left-pad-1.3.0.tgz",
    ] {
        larder.get(path).await.expect(200);
        let etag = larder.get(path).await.header("etag").to_owned();
        assert!(etag.starts_with('"'), "strong: {etag}");
        let same = larder
            .get_with(path, &[("if-none-match", &etag)])
            .await
            .expect(304);
        assert!(same.bytes().is_empty());
        assert_eq!(same.header("etag"), etag);
        larder
            .get_with(path, &[("if-none-match", "\"other\"")])
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn every_representation_has_an_etag_of_its_own() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let versions: Vec<String> = (0..50).map(|n| format!("1.{n}.0")).collect();
    let versions: Vec<_> = versions.iter().map(|text| version(text, &[])).collect();
    publish(&upstream, "left-pad", &versions);
    let mut seen = std::collections::HashSet::new();
    for encoding in ["identity", "gzip", "br", "zstd"] {
        let answer = larder
            .get_with("/npm/public/left-pad", &[("accept-encoding", encoding)])
            .await
            .expect(200);
        let expected = if encoding == "identity" { "" } else { encoding };
        assert_eq!(answer.header("content-encoding"), expected);
        assert!(answer.header("vary").contains("Accept-Encoding"));
        assert!(seen.insert(answer.header("etag").to_owned()));
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    for path in [
        "/npm/public/left-pad",
        "/npm/public/left-pad/-/left-pad-1.3.0.tgz",
    ] {
        larder.get(path).await.expect(200);
        let get = larder.get(path).await;
        let head = larder
            .send(reqwest::Method::HEAD, path, &[], None)
            .await
            .expect(200);
        assert!(head.bytes().is_empty());
        for name in ["content-length", "etag", "content-type"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn bad_requests_get_clear_answers_in_the_formats_own_shape() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    for (path, status, says) in [
        (
            "/npm/nowhere/left-pad",
            404,
            "there is no repository `nowhere`",
        ),
        (
            "/npm/public/..%2f..%2fetc%2fpasswd",
            400,
            "segment that is not allowed",
        ),
        ("/npm/public/.hidden", 400, "is no npm package name"),
        ("/npm/public/%00", 400, "segment that is not allowed"),
        ("/npm/public/%ff", 400, "UTF-8"),
        (
            "/pypi/public/simple/a%20b/",
            400,
            "is no Python project name",
        ),
        ("/maven/public/", 404, "no index"),
        ("/nuget/public/v2/x", 404, "v3/index.json"),
        ("/gem/public/x", 404, "there is nothing at this path"),
    ] {
        let answer = larder.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        let text = answer.text();
        assert!(text.contains(says), "{path}: {text}");
        if path.starts_with("/npm/") {
            assert!(answer.json()["error"].is_string());
        }
    }
    let refused = larder
        .send(
            reqwest::Method::PUT,
            "/npm/public/left-pad",
            &[],
            Some("{}".into()),
        )
        .await
        .expect(403);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("takes no publishes")
    );
    larder
        .send(reqwest::Method::PATCH, "/npm/public/left-pad", &[], None)
        .await
        .expect(405);
    assert!(upstream.seen().is_empty());
}

/// Sends raw bytes and reads what comes back.
async fn raw(larder: &TestLarder, request: &[u8]) -> String {
    let mut socket = tokio::net::TcpStream::connect(larder.url.trim_start_matches("http://"))
        .await
        .unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn headers_too_large_and_broken_requests_end_their_own_socket_alone() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let large = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    assert!(
        raw(&larder, large.as_bytes())
            .await
            .starts_with("HTTP/1.1 431")
    );
    assert!(
        raw(&larder, b"NONSENSE\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    larder.get("/-/live").await.expect(200);
}

#[tokio::test]
async fn the_reason_phrase_says_why_to_clients_that_show_nothing_else() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    let answer = raw(
        &larder,
        b"GET /maven/nowhere/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 404 there is no repository `nowhere`"),
        "{answer}"
    );
}

#[tokio::test]
async fn health_and_metrics_are_there() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    larder.get("/-/live").await.expect(200);
    larder.get("/-/ready").await.expect(200);
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    larder.get("/npm/public/left-pad").await.expect(200);
    larder.get("/npm/public/left-pad").await.expect(200);
    let metrics = larder.get("/-/metrics").await.expect(200).text();
    assert!(
        metrics.contains("larder_answers_total{format=\"npm\",outcome=\"hit\",status=\"200\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("larder_fetches_total{connection=\"up:npm\",outcome=\"found\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn tls_is_served_and_a_new_certificate_is_taken_up() {
    let upstream = Upstream::start().await;
    upstream.put("/npm/a", Reply::json(r#"{"name":"a","versions":{}}"#));
    let jar = crate::support::noise(9_000_000, 7);
    upstream.put("/maven2/org/x/a/1/a-1.jar", Reply::bytes(jar.clone()));
    let folder = tempfile::TempDir::new().unwrap();
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(
            folder.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        made.cert.pem()
    };
    let first = make();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        at("cert.pem"),
        at("key.pem")
    );
    let larder = TestLarder::with(&crate::support::larder::config(&upstream, &tls)).await;
    let url = larder.url.replace("127.0.0.1", "localhost");
    assert!(url.starts_with("https://"));
    let get = |pem: String, path: &'static str| {
        let (url, resolved) = (
            url.clone(),
            larder.url.trim_start_matches("https://").parse().unwrap(),
        );
        async move {
            let client = reqwest::Client::builder()
                .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()])
                .resolve("localhost", resolved)
                .build()
                .unwrap();
            client.get(format!("{url}{path}")).send().await
        }
    };
    let document = "/npm/public/a";
    assert_eq!(get(first.clone(), document).await.unwrap().status(), 200);
    for _ in 0..3 {
        let file = get(first.clone(), "/maven/public/org/x/a/1/a-1.jar").await;
        assert!(file.unwrap().bytes().await.unwrap() == jar, "other bytes");
    }
    let second = make();
    until("a second socket is served", async || {
        get(second.clone(), document).await.is_ok()
    })
    .await;
}

/// The status, and the authorities of the tarballs that a document names.
async fn named(larder: &TestLarder, request: &str) -> (String, Vec<String>) {
    let answer = raw(larder, request.as_bytes()).await;
    let status = answer.get(9..12).unwrap_or_default().to_owned();
    let tarballs = answer.split("\"tarball\":\"").skip(1);
    let authority = |rest: &str| rest.split('/').nth(2).unwrap_or_default().to_owned();
    (status, tarballs.map(authority).collect())
}

#[tokio::test]
async fn addresses_in_documents_are_of_the_host_that_http_says_is_asked() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let me = larder.url.trim_start_matches("http://").to_owned();
    let port = me.rsplit(':').next().unwrap();
    let ask = |target: &str, hosts: &[&str]| {
        let hosts: Vec<String> = hosts
            .iter()
            .map(|host| format!("Host: {host}\r\n"))
            .collect();
        let hosts = hosts.concat();
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let larder = &larder;
        async move { named(larder, &request).await }
    };
    let path = "/npm/public/left-pad";
    let absolute = format!("http://{me}{path}");
    let by_name = format!("localhost:{port}");
    // Each twice: what is given again is named by the host as well.
    for _ in 0..2 {
        for (target, hosts, authority) in [
            (path, [me.as_str()].as_slice(), &me),
            (path, &[by_name.as_str()], &by_name),
            (path, &["LOCALHOST"], &"localhost".to_owned()),
            (&absolute, &["other.example"], &me),
            (&absolute, &[by_name.as_str()], &me),
        ] {
            let expected = ("200".to_owned(), vec![authority.clone()]);
            assert_eq!(ask(target, hosts).await, expected, "{target} {hosts:?}");
        }
    }
    for (target, hosts) in [
        (path, [].as_slice()),
        (path, &[""]),
        (path, &["user:pw@localhost"]),
        (path, &["localhost/path"]),
        (path, &["local host"]),
        (path, &["localhost:99999"]),
        (path, &["localhost", "localhost"]),
        (&absolute, &["user@localhost"]),
        (&format!("http://user:pw@{me}{path}"), &[me.as_str()]),
        ("/-/live", &["local/host"]),
    ] {
        let (status, named) = ask(target, hosts).await;
        assert_eq!(
            (status.as_str(), named.len()),
            ("400", 0),
            "{target} {hosts:?}"
        );
    }
    // Who speaks HTTP/1.0 need not say it.
    let old = format!("GET {path} HTTP/1.0\r\n\r\n");
    assert_eq!(named(&larder, &old).await, ("200".to_owned(), vec![me]));
}

#[tokio::test]
async fn pages_under_other_names_that_lead_here_read_nothing() {
    let upstream = Upstream::start().await;
    let text = crate::support::larder::config(&upstream, crate::support::larder::IMPATIENT);
    let text = format!("public_url = \"http://packages.corp.example\"\n{text}");
    let text = text.replace(
        "[fetch]",
        "[server]\nhosts = [\"host.docker.internal\"]\n[fetch]",
    );
    let larder = TestLarder::with(&text).await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[])]);
    let paths = [
        "/npm/public/left-pad",
        "/npm/public/left-pad/-/left-pad-1.3.0.tgz",
        "/-/metrics",
        "/-/decide?repository=public&package=npm:left-pad&version=1.3.0",
        "/",
    ];
    for host in [
        "localhost",
        "packages.corp.example",
        "host.docker.internal:5273",
    ] {
        for path in paths {
            larder.get_with(path, &[("host", host)]).await.expect(200);
        }
    }
    for host in [
        "evil.example",
        "localhost.evil.example:80",
        "127.0.0.1.evil.example",
    ] {
        for path in paths
            .into_iter()
            .chain(["/v1/domain?domain=larder", "/nowhere"])
        {
            let answer = larder.get_with(path, &[("host", host)]).await.expect(421);
            let text = answer.text();
            assert!(text.contains("server.hosts"), "{path}: {text}");
        }
        // A probe learns no more than that somebody is there.
        for path in ["/-/live", "/-/ready"] {
            larder.get_with(path, &[("host", host)]).await.expect(200);
        }
    }
}

#[tokio::test]
async fn what_can_only_be_read_takes_no_other_method() {
    let upstream = Upstream::start().await;
    let larder = TestLarder::start(&upstream).await;
    for path in ["/", "/-/live", "/-/ready", "/-/metrics", "/-/decide"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let answer = larder.send(method, path, &[], None).await.expect(405);
            assert_eq!(answer.header("allow"), "GET, HEAD", "{path}");
        }
    }
    let answer = larder.get("/-/oidc/token").await.expect(405);
    assert_eq!(answer.header("allow"), "POST");
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        larder.send(method, "/nowhere", &[], None).await.expect(404);
    }
}
