//! The registry outside, and its weather: it misbehaves as real ones do, so often as it is told.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{HeaderMap, HeaderName};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use super::account::Account;
use super::registry::{Found, Registry, Role};
use super::stock::Stock;
use crate::support::{Chance, sha256};

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends in the middle of a body that was said to be longer.
    Cut,
    /// A body without a length ends early, as if that were all.
    EndedEarly,
    /// Pieces with pauses between them.
    Slow,
    /// Nothing comes, before the head or in the middle of the body.
    Stall,
    /// One byte is another.
    Corrupt,
    /// A page of words in the place of what was asked for, with 200.
    Garbage,
    /// 500, 502, 503 or 504.
    ServerError,
    /// 429 with `Retry-After`.
    Throttled,
    /// 404 for what exists.
    Denied,
    /// The connection ends without an answer.
    Away,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::Cut,
        Self::EndedEarly,
        Self::Slow,
        Self::Stall,
        Self::Corrupt,
        Self::Garbage,
        Self::ServerError,
        Self::Throttled,
        Self::Denied,
        Self::Away,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::EndedEarly => "ended early",
            Self::Slow => "slow",
            Self::Stall => "stall",
            Self::Corrupt => "corrupt",
            Self::Garbage => "garbage",
            Self::ServerError => "5xx",
            Self::Throttled => "429",
            Self::Denied => "404",
            Self::Away => "away",
        }
    }

    /// Whether this is something that happens to such a resource, and that a proxy can see.
    fn suits(self, found: &Found) -> bool {
        match self {
            Self::Denied => found.is_denied,
            Self::Corrupt => found.role == Role::Promised && !found.is_denied,
            Self::EndedEarly => match found.role {
                Role::Promised => !found.is_denied,
                role => role == Role::Document,
            },
            Self::Garbage => matches!(found.role, Role::Document | Role::Checksum),
            _ => true,
        }
    }
}

struct State {
    registry: Registry,
    account: Arc<Account>,
    weather: Mutex<(Vec<Fault>, u64)>,
    chance: Mutex<Chance>,
}

/// The running registry.
pub struct Upstream(Arc<State>);

impl Upstream {
    pub async fn start(stock: Arc<Stock>, account: Arc<Account>, chance: Chance) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            registry: Registry { stock, url },
            account,
            weather: Mutex::default(),
            chance: Mutex::new(chance),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    let builder = Builder::new(TokioExecutor::new());
                    // It breaks off on command.
                    let _ = builder
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self(state)
    }

    pub fn url(&self) -> &str {
        &self.0.registry.url
    }

    /// Of a hundred requests, so many meet one of these.
    pub fn weather(&self, faults: Vec<Fault>, of_100: u64) {
        *self.0.weather.lock().unwrap() = (faults, of_100);
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn whole(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed()
}

fn status(code: u16) -> Response<Body> {
    let body = whole(Bytes::new());
    Response::builder().status(code).body(body).unwrap()
}

fn gone(why: &str) -> std::io::Error {
    std::io::Error::other(why.to_owned())
}

impl State {
    /// A number from the registry's own source.
    fn below(&self, end: u64) -> u64 {
        self.chance.lock().unwrap().below(end)
    }

    fn fault(&self, found: &Found) -> Option<Fault> {
        let weather = self.weather.lock().unwrap();
        let mut chance = self.chance.lock().unwrap();
        if weather.0.is_empty() || !chance.of_100(weather.1) {
            return None;
        }
        let fault = *chance.pick(&weather.0);
        fault.suits(found).then_some(fault)
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    // What it asks with a body, such as an audit, this registry does not answer.
    let _ = body.collect().await;
    let accept = header(&parts.headers, http::header::ACCEPT);
    let Some(found) = state.registry.find(parts.uri.path(), accept) else {
        return Ok(status(404));
    };
    let fault = state.fault(&found);
    if let Some(fault) = fault {
        state.account.upstream_fault(fault);
    }
    match fault {
        Some(Fault::Away) => Err(gone("away on command")),
        Some(Fault::Denied) => Ok(status(404)),
        Some(Fault::ServerError) => {
            let codes = [500, 502, 503, 504];
            let at = state.below(codes.len() as u64);
            Ok(status(codes[usize::try_from(at).unwrap()]))
        }
        Some(Fault::Throttled) => {
            let mut response = status(429);
            response.headers_mut().insert("retry-after", 1.into());
            Ok(response)
        }
        Some(Fault::Stall) if state.below(2) == 0 => {
            tokio::time::sleep(STALL).await;
            Err(gone("silent on command"))
        }
        fault => Ok(respond(&state, &parts.method, &parts.headers, found, fault)),
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn respond(
    state: &State,
    method: &Method,
    headers: &HeaderMap,
    found: Found,
    fault: Option<Fault>,
) -> Response<Body> {
    use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH, IF_RANGE, RANGE};
    let mut body = found.body;
    let mut content_type = found.content_type;
    let mut etag = format!("\"{}\"", &sha256(&body)[..16]);
    if fault == Some(Fault::Garbage) {
        body = Bytes::from_static(b"<html><body>Please log in.</body></html>\n");
        (content_type, etag) = ("text/html", "\"login\"".to_owned());
    } else if header(headers, IF_NONE_MATCH) == etag {
        return status(304);
    }
    let mut response = Response::builder()
        .header("content-type", content_type)
        .header("etag", &etag)
        .header("cache-control", "max-age=2");
    let is_file = matches!(found.role, Role::Promised | Role::Unpromised);
    if !is_file && header(headers, ACCEPT_ENCODING).contains("gzip") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).unwrap();
        body = encoder.finish().unwrap().into();
        response = response.header("content-encoding", "gzip");
    }
    let range = header(headers, RANGE);
    let condition = header(headers, IF_RANGE);
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok())
        .filter(|start| *start < body.len() && (condition.is_empty() || condition == etag));
    if let Some(start) = start {
        let size = body.len();
        let range = format!("bytes {start}-{}/{size}", size - 1);
        response = response.status(206).header("content-range", range);
        body = body.slice(start..);
    }
    let length = body.len();
    if fault != Some(Fault::EndedEarly) || method == Method::HEAD {
        response = response.header("content-length", length);
    }
    if method == Method::HEAD {
        return response.body(whole(Bytes::new())).unwrap();
    }
    let at = usize::try_from(state.below(length.max(1) as u64)).unwrap();
    let body = match fault {
        Some(Fault::Corrupt) if length > 0 => {
            let mut bytes = body.to_vec();
            bytes[at] ^= 0x20;
            whole(bytes.into())
        }
        Some(Fault::EndedEarly) => pieces(vec![body.slice(..at)], Duration::ZERO, false),
        Some(Fault::Cut) => pieces(vec![body.slice(..at)], Duration::from_millis(20), true),
        Some(Fault::Stall) => pieces(vec![body.slice(..at)], STALL, true),
        Some(Fault::Slow) => {
            let size = (length / 6).max(1);
            let cut = |at: usize| body.slice(at..(at + size).min(length));
            let all = (0..length).step_by(size).map(cut).collect();
            pieces(all, Duration::from_millis(100), false)
        }
        _ => whole(body),
    };
    response.body(body).unwrap()
}

/// Longer than Larder waits for a registry here.
const STALL: Duration = Duration::from_secs(3);

/// Pieces with a pause behind each; the connection may end behind the last.
fn pieces(pieces: Vec<Bytes>, pause: Duration, is_cut: bool) -> Body {
    let left = pieces.into_iter();
    let body = stream::unfold((left, false), move |(mut left, is_begun)| async move {
        if is_begun {
            tokio::time::sleep(pause).await;
        }
        match left.next() {
            Some(piece) => Some((Ok(Frame::data(piece)), (left, true))),
            None if is_cut && is_begun => Some((Err(gone("cut on command")), (left, false))),
            None => None,
        }
    });
    BoxBody::new(StreamBody::new(body))
}
