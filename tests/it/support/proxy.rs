//! An office's proxy: it tunnels, passes on what it can read, and alone knows where registries are.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// The `Proxy-Authorization` of `user:pass%20word`.
const RIGHT: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";

/// A proxy for those who say who they are.
pub struct OfficeProxy {
    port: u16,
    /// Method and address of each request that was let in.
    seen: Arc<Mutex<Vec<String>>>,
}

impl OfficeProxy {
    /// Every host leads to this port of this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&proxy.seen);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| pass(request, port, Arc::clone(&seen)));
                tokio::spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new();
                    let served = served.serve_connection(TokioIo::new(socket), service);
                    let _ = served.with_upgrades().await;
                });
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("http://user:pass%20word@127.0.0.1:{}", self.port)
    }

    pub fn url_without_a_password(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    mut request: Request<Incoming>,
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let said = request.headers_mut().remove("proxy-authorization");
    if said.is_none_or(|said| said != RIGHT) {
        let refused = Response::builder().status(407);
        let refused = refused.header("proxy-authenticate", "Basic");
        return Ok(refused.body(Full::default()).unwrap());
    }
    let asked = format!("{} {}", request.method(), request.uri());
    seen.lock().unwrap().push(asked);
    if request.method() == Method::CONNECT {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
            let mut registry = TcpStream::connect(("localhost", port)).await.unwrap();
            let _ = copy_bidirectional(&mut TokioIo::new(upgraded), &mut registry).await;
        });
        return Ok(Response::default());
    }
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().unwrap().as_str();
    head.uri = format!("http://127.0.0.1:{port}{path}").parse().unwrap();
    let body = Full::new(body.collect().await?.to_bytes());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(Request::from_parts(head, body)).await;
    let (head, body) = answer.unwrap().into_parts();
    Ok(Response::from_parts(
        head,
        Full::new(body.collect().await?.to_bytes()),
    ))
}
