//! The registry that all of them stand before: answers from memory, with a round trip's delay
//! and a line's width where asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, IF_NONE_MATCH};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

/// A resource. `{base}` in a document is the registry's own address.
#[derive(Clone)]
pub struct Resource {
    pub body: Bytes,
    pub gzip: Option<Bytes>,
    pub media_type: &'static str,
}

/// How far away the registry is.
#[derive(Clone, Copy, Default)]
pub struct Line {
    /// From a request to its answer, and once more to open a socket.
    pub round_trip: Duration,
    /// Bytes per second of all answers together; 0: as fast as it goes.
    pub width: u64,
}

type Resources = HashMap<String, Resource>;

/// A registry on a port of its own, on a thread of its own.
pub struct Upstream {
    pub address: SocketAddr,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

struct State {
    resources: Resources,
    line: Line,
    requests: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    /// When the line is free again.
    free_at: Mutex<Option<Instant>>,
}

impl Upstream {
    /// Starts it; `make` makes the resources for its address.
    pub fn start(line: Line, make: impl FnOnce(&str) -> Resources) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, bytes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let state = Arc::new(State {
            resources: make(&format!("http://{address}/")),
            line,
            requests: Arc::clone(&requests),
            bytes: Arc::clone(&bytes),
            free_at: Mutex::default(),
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(accept(listener, state));
        });
        Self {
            address,
            requests,
            bytes,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Requests and body bytes since the last call.
    pub fn count(&self) -> (u64, u64) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        (take(&self.requests), take(&self.bytes))
    }
}

async fn accept(listener: std::net::TcpListener, state: Arc<State>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // The handshake's round trip.
            tokio::time::sleep(state.line.round_trip).await;
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, std::convert::Infallible>>, http::Error> {
    if !state.line.round_trip.is_zero() {
        tokio::time::sleep(state.line.round_trip).await;
    }
    state.requests.fetch_add(1, Ordering::Relaxed);
    let header = |name| {
        let value = request.headers().get(name);
        value
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
            .unwrap_or_default()
    };
    let path = request.uri().path().replace("%2f", "/");
    let Some(resource) = state.resources.get(&path) else {
        return Response::builder()
            .status(404)
            .body(Full::new(Bytes::from_static(b"{}")).boxed_unsync());
    };
    let etag = format!("\"{}-{}\"", path.len(), resource.body.len());
    let mut response = Response::builder()
        .header("etag", &etag)
        .header("cache-control", "public, max-age=86400");
    if header(IF_NONE_MATCH) == etag {
        return response.status(304).body(Full::default().boxed_unsync());
    }
    let is_short = header(ACCEPT).starts_with("application/vnd.npm.install-v1+json");
    let media_type = match resource.media_type {
        "application/json" if is_short => "application/vnd.npm.install-v1+json",
        media_type => media_type,
    };
    response = response.header("content-type", media_type);
    let body = match &resource.gzip {
        Some(gzip) if header(ACCEPT_ENCODING).contains("gzip") => {
            response = response
                .header("content-encoding", "gzip")
                .header("vary", "accept, accept-encoding");
            gzip.clone()
        }
        _ => resource.body.clone(),
    };
    state.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    response = response.header(CONTENT_LENGTH, body.len());
    if state.line.width == 0 {
        return response.body(Full::new(body).boxed_unsync());
    }
    let pieces = stream::unfold((state, body), |(state, mut body)| async move {
        if body.is_empty() {
            return None;
        }
        let piece = body.split_to(body.len().min(64 * 1024));
        state.pass(piece.len()).await;
        Some((Ok(Frame::data(piece)), (state, body)))
    });
    response.body(StreamBody::new(pieces).boxed_unsync())
}

impl State {
    /// Waits for so many bytes' turn on the line. Timers are coarse: what is due within two
    /// milliseconds goes at once, and what was sent too early is waited for later.
    async fn pass(&self, bytes: usize) {
        let due = {
            let mut free_at = self.free_at.lock().unwrap();
            let now = Instant::now();
            let from = free_at
                .filter(|at| *at > now - Duration::from_millis(2))
                .unwrap_or(now);
            let takes = Duration::from_secs_f64(bytes as f64 / self.line.width as f64);
            *free_at = Some(from + takes);
            from + takes
        };
        if due > Instant::now() + Duration::from_millis(2) {
            tokio::time::sleep_until(due).await;
        }
    }
}
