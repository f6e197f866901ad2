//! How a registry is asked: by way of a proxy, with a certificate, no more often than may be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::larder::IMPATIENT;
use crate::support::npm::{publish, tarball, version};
use crate::support::proxy::OfficeProxy;
use crate::support::{Reply, TestLarder, Upstream};

fn configuration(url: &str, more: &str) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n{IMPATIENT}[ahead]\nenabled = false\n\
         [[connection]]\nname = \"up\"\nformat = \"npm\"\nurl = \"{url}\"\n{more}\n\
         [[repository]]\nname = \"team\"\nexternal_connections = [\"up\"]\npublish = \"forward:up\"\n"
    )
}

fn port(url: &str) -> u16 {
    url::Url::parse(url).unwrap().port().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_behind_a_proxy_is_read_and_published_to_by_way_of_it() {
    let upstream = Upstream::start().await;
    publish(&upstream, "lib", &[version("1.0.0", &[])]);
    let proxy = OfficeProxy::to(port(&upstream.url())).await;
    // Nobody but the proxy knows the name.
    let url = "http://registry.example/npm/";
    let by = format!("proxy = \"{}\"", proxy.url());
    let larder = TestLarder::with(&configuration(url, &by)).await;
    larder.get("/npm/team/lib").await.expect(200);
    upstream.put("/npm/new", Reply::json("{}"));
    let put = reqwest::Method::PUT;
    let answer = larder.send(put, "/npm/team/new", &[], Some("{}".into()));
    answer.await.expect(200);
    let seen = proxy.seen();
    assert_eq!(
        seen,
        [
            "GET http://registry.example/npm/lib",
            "PUT http://registry.example/npm/new"
        ]
    );
    // It was said to the proxy alone.
    for request in upstream.seen() {
        assert!(!request.headers.contains_key("proxy-authorization"));
    }
    let unknown = format!("proxy = \"{}\"", proxy.url_without_a_password());
    let unknown = TestLarder::with(&configuration(url, &unknown)).await;
    assert_ne!(unknown.get("/npm/team/lib").await.status, 200);
    let put = reqwest::Method::PUT;
    let answer = unknown.send(put, "/npm/team/new", &[], Some("{}".into()));
    assert_ne!(answer.await.status, 200);
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_over_tls_is_reached_through_a_tunnel() {
    let upstream = Upstream::start().await;
    publish(&upstream, "lib", &[version("1.0.0", &[])]);
    let folder = tempfile::TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(vec!["registry.example".to_owned()]).unwrap();
    std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(at("pem"), made.cert.pem()).unwrap();
    let more = format!(
        "{IMPATIENT}[server]\nhosts = [\"registry.example\"]\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        at("pem"),
        at("key")
    );
    let office = crate::support::larder::config(&upstream, &more);
    let office = format!(
        "{office}[[repository]]\nname = \"team\"\nexternal_connections = [\"up:npm\"]\npublish = \"local\"\n"
    );
    let office = TestLarder::with(&office).await;
    let proxy = OfficeProxy::to(port(&office.url)).await;
    let by = format!("proxy = \"{}\"\nca_file = \"{}\"", proxy.url(), at("pem"));
    let url = "https://registry.example/npm/team/";
    let larder = TestLarder::with(&configuration(url, &by)).await;
    larder.get("/npm/team/lib").await.expect(200);
    let bytes = tarball("acme", "1.0.0", &[]);
    let document = crate::publish::npm_document("acme", "1.0.0", &bytes);
    let answer = crate::publish::npm_put(&larder, "acme", document).await;
    answer.expect(201);
    let seen = proxy.seen();
    assert!(
        seen.iter().all(|it| it == "CONNECT registry.example:443"),
        "{seen:?}"
    );
}

/// A registry that answers those alone whose certificate is of this authority; its port and its own
/// certificate.
async fn guarded(root: &CertificateDer<'static>) -> (u16, String) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = own.cert.pem();
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let body = r#"{"name":"lib","dist-tags":{},"versions":{}}"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (port, pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_a_certificate_gets_the_connections_own() {
    let folder = tempfile::TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(authority, root_key);
    let (port, pem) = guarded(root.der()).await;
    let key = KeyPair::generate().unwrap();
    let client = CertificateParams::new(vec!["larder.example".to_owned()]).unwrap();
    let client = client.signed_by(&key, &issuer).unwrap();
    std::fs::write(at("ca.pem"), pem).unwrap();
    std::fs::write(
        at("own.pem"),
        format!("{}{}", client.pem(), key.serialize_pem()),
    )
    .unwrap();
    let url = format!("https://localhost:{port}/");
    let trusts = format!("ca_file = \"{}\"", at("ca.pem"));
    let own = format!("{trusts}\nclient_cert = {{ file = \"{}\" }}", at("own.pem"));
    let larder = TestLarder::with(&configuration(&url, &own)).await;
    larder.get("/npm/team/lib").await.expect(200);
    let put = reqwest::Method::PUT;
    let answer = larder.send(put, "/npm/team/new", &[], Some("{}".into()));
    answer.await.expect(200);
    let nobody = TestLarder::with(&configuration(&url, &trusts)).await;
    assert_ne!(nobody.get("/npm/team/lib").await.status, 200);
    let put = reqwest::Method::PUT;
    let answer = nobody.send(put, "/npm/team/new", &[], Some("{}".into()));
    assert_ne!(answer.await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_asked_no_more_often_than_its_connection_says() {
    let upstream = Upstream::start().await;
    for name in ["a", "b", "c", "d"] {
        publish(&upstream, name, &[version("1.0.0", &[])]);
    }
    let url = format!("{}/npm/", upstream.url());
    let larder = TestLarder::with(&configuration(&url, "rate_max = 2")).await;
    let begun = Instant::now();
    for name in ["a", "b", "c", "d"] {
        larder.get(&format!("/npm/team/{name}")).await.expect(200);
    }
    // Two at once, and one more each half second.
    assert!(begun.elapsed() >= Duration::from_millis(900));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_registry_may_be_given_more_time_than_others() {
    let upstream = Upstream::start().await;
    publish(&upstream, "lib", &[version("1.0.0", &[])]);
    upstream.pace(100, Duration::from_millis(1200));
    let url = format!("{}/npm/", upstream.url());
    // `fetch.read_timeout` is one second here.
    let hasty = TestLarder::with(&configuration(&url, "")).await;
    assert_ne!(hasty.get("/npm/team/lib").await.status, 200);
    let patient = TestLarder::with(&configuration(&url, "timeout = \"5s\"")).await;
    patient.get("/npm/team/lib").await.expect(200);
}
