//! A registry as the public ones behave: ETags, `304`, `Range`, gzip, files on other hosts,
//! redirects. On command it misbehaves.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A resource.
#[derive(Clone, Default)]
pub struct Reply {
    pub body: Bytes,
    pub content_type: String,
    pub headers: Vec<(&'static str, String)>,
    /// Sent instead of 200.
    pub status: Option<u16>,
    /// Gzipped to those who ask.
    pub gzip: bool,
}

impl Reply {
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            gzip: true,
            ..Self::typed("application/json", body)
        }
    }

    pub fn bytes(body: impl Into<Bytes>) -> Self {
        Self::typed("application/octet-stream", body)
    }

    pub fn typed(content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            content_type: content_type.to_owned(),
            ..Self::default()
        }
    }

    pub fn redirect(location: &str) -> Self {
        Self {
            status: Some(302),
            headers: vec![("location", location.to_owned())],
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// One misbehaviour, spent by the next request for its path.
#[derive(Clone, Debug)]
pub enum Fault {
    /// One byte in the middle is another.
    Corrupt,
    /// The connection ends after so many bytes of the body.
    CutAfter(usize),
    /// Nothing comes after so many bytes until the gate is opened.
    StallAfter(usize, Arc<Notify>),
    /// The body comes without a length and ends early, as if that were all.
    EndEarly(usize),
    Status(u16, Option<u64>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct State {
    replies: Mutex<HashMap<String, Reply>>,
    folders: Mutex<Vec<(String, PathBuf)>>,
    faults: Mutex<HashMap<String, VecDeque<Fault>>>,
    always: Mutex<Option<Fault>>,
    seen: Mutex<Vec<Seen>>,
    pace: Mutex<Option<(usize, Duration)>>,
}

/// The running registry. Its addresses stand in documents as `{url}`.
pub struct Upstream {
    state: Arc<State>,
    pub address: String,
    stop: CancellationToken,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, Arc::default())
    }

    fn on(listener: TcpListener, state: Arc<State>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let (serving, stopped) = (Arc::clone(&state), stop.clone());
        tokio::spawn(async move {
            loop {
                let socket = tokio::select! {
                    () = stopped.cancelled() => return,
                    socket = listener.accept() => socket.unwrap().0,
                };
                let (state, stopped) = (Arc::clone(&serving), stopped.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    let builder = Builder::new(TokioExecutor::new());
                    let connection = builder.serve_connection(TokioIo::new(socket), service);
                    tokio::select! {
                        _ = connection => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Self {
            state,
            address,
            stop,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gone: connections are cut and refused.
    pub fn vanish(&self) {
        self.stop.cancel();
    }

    /// Back at the same address, with the same contents.
    pub async fn come_back(&mut self) {
        let listener = super::eventually("the address is free", async || {
            TcpListener::bind(&self.address).await.ok()
        })
        .await;
        *self = Self::on(listener, Arc::clone(&self.state));
    }

    pub fn put(&self, path: &str, reply: Reply) {
        self.state
            .replies
            .lock()
            .unwrap()
            .insert(path.to_owned(), reply);
    }

    /// Serves a folder of files, with Maven's checksum files computed beside them.
    pub fn put_folder(&self, prefix: &str, folder: &Path) {
        self.state
            .folders
            .lock()
            .unwrap()
            .push((prefix.to_owned(), folder.to_owned()));
    }

    pub fn fault(&self, path: &str, fault: Fault) {
        self.state
            .faults
            .lock()
            .unwrap()
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Every request gets this until it is taken away with `None`.
    pub fn always(&self, fault: Option<Fault>) {
        *self.state.always.lock().unwrap() = fault;
    }

    /// Bodies come in pieces of this size, with this pause between them.
    pub fn pace(&self, piece: usize, pause: Duration) {
        *self.state.pace.lock().unwrap() = Some((piece, pause));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn forget_seen(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    pub fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }

    /// Requests whose path ends so.
    pub fn count_ending(&self, endings: &[&str]) -> usize {
        self.seen()
            .iter()
            .filter(|seen| endings.iter().any(|ending| seen.path.ends_with(ending)))
            .count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn whole(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed()
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    state.seen.lock().unwrap().push(Seen {
        method: parts.method.clone(),
        path: path.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
        body,
    });
    let fault = state.always.lock().unwrap().clone();
    let fault = fault.or_else(|| state.faults.lock().unwrap().get_mut(&path)?.pop_front());
    if let Some(Fault::Status(code, retry_after)) = fault {
        let mut response = status(code);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        return Ok(response);
    }
    let Some(reply) = find(&state, &path) else {
        return Ok(status(404));
    };
    if let Some(code) = reply.status {
        let mut response = status(code);
        *response.body_mut() = whole(reply.body.clone());
        for (name, value) in &reply.headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return Ok(response);
    }
    Ok(respond(&state, &parts, &reply, fault))
}

fn find(state: &State, path: &str) -> Option<Reply> {
    if let Some(reply) = state.replies.lock().unwrap().get(path) {
        return Some(reply.clone());
    }
    let folders = state.folders.lock().unwrap().clone();
    folders.iter().find_map(|(prefix, folder)| {
        let below = path.strip_prefix(prefix.as_str())?;
        if below.contains("..") {
            return None;
        }
        if let Some(of) = below.strip_suffix(".sha1") {
            let bytes = std::fs::read(folder.join(of)).ok()?;
            return Some(Reply::typed("text/plain", super::sha1(&bytes)));
        }
        let file = folder.join(below);
        file.is_file()
            .then(|| Reply::bytes(std::fs::read(file).unwrap()))
    })
}

fn respond(
    state: &State,
    parts: &http::request::Parts,
    reply: &Reply,
    fault: Option<Fault>,
) -> Response<Body> {
    let etag = format!("\"{}\"", &super::sha256(&reply.body)[..16]);
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let mut builder = Response::builder()
        .header("content-type", &reply.content_type)
        .header("etag", &etag);
    for (name, value) in &reply.headers {
        builder = builder.header(*name, value);
    }
    if header("if-none-match") == Some(&etag) {
        return builder.status(304).body(whole(Bytes::new())).unwrap();
    }
    let mut body = reply.body.clone();
    if reply.gzip && header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip")) {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        body = encoder.finish().unwrap().into();
        builder = builder.header("content-encoding", "gzip");
    }
    let range = header("range")
        .filter(|_| header("if-range").is_none_or(|validator| validator == etag))
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    if let Some(start) = range {
        let size = body.len();
        builder = builder.status(206).header(
            "content-range",
            format!("bytes {start}-{}/{size}", size - 1),
        );
        body = body.slice(start..);
    }
    if parts.method == Method::HEAD {
        return builder
            .header("content-length", body.len())
            .body(whole(Bytes::new()))
            .unwrap();
    }
    let length = body.len();
    let (body, end) = match fault {
        None | Some(Fault::Status(..)) => (body, End::Whole),
        Some(Fault::Corrupt) => {
            let mut bytes = body.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x20;
            (bytes.into(), End::Whole)
        }
        Some(Fault::CutAfter(count)) => (body.slice(..count.min(length)), End::Cut),
        Some(Fault::EndEarly(count)) => (body.slice(..count.min(length)), End::Unframed),
        Some(Fault::StallAfter(count, gate)) => {
            let rest = body.slice(count.min(length)..);
            (body.slice(..count.min(length)), End::Stalled(gate, rest))
        }
    };
    let pace = *state.pace.lock().unwrap();
    if !matches!(end, End::Unframed) {
        builder = builder.header("content-length", length);
    }
    builder.body(paced(body, pace, end)).unwrap()
}

enum End {
    Whole,
    Cut,
    Unframed,
    Stalled(Arc<Notify>, Bytes),
}

fn paced(body: Bytes, pace: Option<(usize, Duration)>, end: End) -> Body {
    let (piece, pause) = pace.unwrap_or((64 * 1024, Duration::ZERO));
    let pieces = stream::unfold(body, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let rest = left.split_off(piece.min(left.len()));
        Some((Ok(Frame::data(left)), rest))
    });
    let tail = stream::once(async move {
        match end {
            End::Whole | End::Unframed => None,
            End::Cut => {
                // hyper drops what it has not sent yet with the connection: let it send.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some(Err(std::io::Error::other("cut on command")))
            }
            End::Stalled(gate, rest) => {
                gate.notified().await;
                Some(Ok(Frame::data(rest)))
            }
        }
    })
    .filter_map(std::future::ready);
    BoxBody::new(StreamBody::new(pieces.chain(tail)))
}

impl Upstream {
    /// What is served at a path.
    pub fn reply(&self, path: &str) -> Reply {
        self.state.replies.lock().unwrap()[path].clone()
    }

    /// All paths that have something.
    pub fn paths(&self) -> Vec<String> {
        self.state.replies.lock().unwrap().keys().cloned().collect()
    }
}
