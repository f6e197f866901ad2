//! Handles one request: finds its route, identifies its caller, answers, and counts the answer. A
//! panic ends this request alone.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::account::{AnswerAccount, AnswerRecord, RequestSubject};
use super::answer::{Asked, answer};
use super::audit::Line;
use super::credential::CredentialHeaders;
use super::host::Host;
use super::peer::{Peer, counted_by};
use super::place::{Places, UnderWay};
use super::reply::{self, Answer, Body};
use super::request_body::{BodyMemory, RequestBody};
use super::response_cache::{self, ResponseCache};
use super::route::{Open, Route, RunTag, single_slashes};
use super::shared_body::SharedBody;
use crate::Larder;
use crate::access::{Caller, Endpoints, Principal};
use crate::connection;
use crate::package::Format;
use crate::problem::{Kind, Problem};
use crate::repository::Snapshot;
use crate::task;
use crate::telemetry::Who;

/// Everything that requests are answered from.
pub struct Server {
    pub larder: Arc<Larder>,
    pub answers: ResponseCache,
    pub places: Arc<Places>,
    /// How long a request at a socket without a place waits for one.
    pub place_timeout: Duration,
    pub bodies: BodyMemory,
}

/// Finds out who asks, where the route leads into a repository. Nobody needs to be known at an open
/// one, and calls of the API are signed, which is checked with their bodies.
fn identify(
    larder: &Larder,
    snapshot: &Snapshot,
    peer: Peer,
    presented: &CredentialHeaders,
    route: &Route<'_>,
) -> Result<Caller, Problem> {
    match route {
        Route::Open(_) | Route::Api(_) => Ok(Caller::anonymous()),
        Route::Repository(_) => larder.access.identify(
            &snapshot.config,
            &presented.credential(),
            peer.address,
            Endpoints::Repositories,
        ),
    }
}

/// Sees to it that a request has a place: its socket's, and one among those of the address that a
/// trusted proxy names. Probes need none.
async fn place(
    server: &Server,
    peer: Peer,
    socket: Peer,
    trusted: &[IpNet],
    route: &Route<'_>,
    under_way: &mut UnderWay,
) -> Result<(), Problem> {
    if matches!(route, Route::Open(Open::Live | Open::Ready)) {
        return Ok(());
    }
    let presence = under_way.presence();
    server.places.admit(presence, server.place_timeout).await?;
    if peer.address != socket.address
        && let Some(address) = counted_by(peer.address, trusted)
    {
        under_way.counted = Some(server.places.count(address)?);
    }
    Ok(())
}

/// Answers a request; `reached` is this end of its socket. Reading ends with the client; a change goes
/// on to its line in the audit, whoever still waits for its answer.
pub async fn handle(
    server: Arc<Server>,
    socket: Peer,
    reached: SocketAddr,
    request: Request<Incoming>,
    under_way: UnderWay,
) -> Response<Body> {
    let request = request.map(|body| RequestBody::new(body, under_way.presence()));
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return answered(&server, socket, reached, request, under_way, None).await;
    }
    let tasks = server.larder.tasks.clone();
    let left = CancellationToken::new();
    // Dropped with this request, which ends with its client.
    let waiting = left.clone().drop_guard();
    let work =
        async move { answered(&server, socket, reached, request, under_way, Some(&left)).await };
    let response = tasks.spawn(work).await.unwrap_or_else(|cause| {
        let problem = Problem::internal("this request failed inside Larder", cause);
        told(&problem, None).response.map(Body::from)
    });
    waiting.disarm();
    response
}

async fn answered(
    server: &Server,
    socket: Peer,
    reached: SocketAddr,
    request: Request<RequestBody>,
    mut under_way: UnderWay,
    left: Option<&CancellationToken>,
) -> Response<Body> {
    let started = Instant::now();
    let larder = &server.larder;
    let snapshot = larder.snapshot();
    let (mut parts, body) = request.into_parts();
    let presented = CredentialHeaders::take(&mut parts.headers);
    let host = Host::of(&parts, reached).and_then(|host| {
        host.permit(&snapshot.config, reached.ip())?;
        Ok(host)
    });
    let path = single_slashes(parts.uri.path());
    let route = Route::find(&parts.method, &path, RunTag::of(&parts.headers));
    let trusted = &snapshot.config.server.trusted_proxies;
    let asked_by = socket.of_request(&parts.headers, trusted);
    let peer = *asked_by.as_ref().unwrap_or(&socket);
    let is_placed = place(server, peer, socket, trusted, &route, &mut under_way).await;
    let caller = is_placed
        .and(asked_by)
        .and_then(|peer| identify(larder, &snapshot, peer, &presented, &route));
    let key = match (&host, &caller) {
        (Ok(host), Ok(caller)) => {
            response_cache::key(&parts, &route, peer.over_tls, host, &caller.principal)
        }
        _ => None,
    };
    let who = match caller.as_ref().map(|caller| &caller.principal) {
        Ok(Principal::Named(arn)) => Who::Named(arn.clone()),
        _ => Who::At(peer.address),
    };
    let access = larder.access.number();
    if let Some(key) = &key
        && let Some(response) = server.answers.replay(
            larder,
            key,
            &parts.uri,
            socket.socket_over_tls,
            &who,
            started,
        )
    {
        return response.map(|body| body.under_way(under_way));
    }
    let mut line = Line::default();
    line.subject.format = route.format();
    let hops = connection::hops(&parts.headers);
    let body = SharedBody::new(body, &parts, &snapshot.config.upload);
    let asked = Asked {
        larder,
        snapshot: &snapshot,
        parts: &parts,
        presented: &presented,
        peer,
        left,
        bodies: &server.bodies,
    };
    // Boxed: a request that is answered above is moved several times, with room for all of this.
    let work = Box::pin(answer(asked, route, host, caller, &body, &mut line));
    let answered = match hops {
        None => AssertUnwindSafe(work).catch_unwind().await,
        Some(hops) => {
            let work = task::through(hops, work);
            AssertUnwindSafe(work).catch_unwind().await
        }
    };
    let problem = match &answered {
        Ok(Err(problem)) => Some(problem.clone()),
        _ => None,
    };
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let mut answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(problem)) => told(&problem, line.subject.format),
        Err(_) => {
            larder.metrics.panics.inc();
            error!(
                path = uri.path(),
                "A request panicked; other requests go on"
            );
            let problem = Problem::internal("this request failed inside Larder", "a panic");
            reply::problem(&problem, line.subject.format)
        }
    }
    .for_method(&method);
    let status = answer.response.status().as_u16();
    let is_first_try = presented.is_nothing()
        && problem
            .as_ref()
            .is_some_and(|problem| problem.kind == Kind::Unauthenticated);
    if !is_first_try {
        let asked = (&method, &uri);
        line.audit(larder, peer, asked, status, problem.as_ref())
            .await;
    }
    if let Some(problem) = &problem {
        if !is_first_try {
            line.subject
                .note_failure(&larder.metrics, line.run.as_deref(), problem);
        }
        let RequestSubject {
            repository,
            package,
            asset,
            ..
        } = &line.subject;
        larder.tell_refused(repository, package, asset, problem);
    }
    body.read_on(&larder.tasks);
    let entry = AnswerRecord::new(&larder.metrics, line.subject, &answer);
    let entry = Arc::new(entry);
    if let Some(key) = key.filter(|_| line.is_lasting) {
        server
            .answers
            .keep(key, &mut answer, snapshot.number, access, &entry);
    }
    let account = AnswerAccount {
        larder: Arc::clone(larder),
        entry,
        who,
        method,
        uri,
        started,
        run: line.run,
    };
    answer
        .response
        .map(|body| body.accounted(account).under_way(under_way))
}

/// A problem as an answer; what is Larder's own fault is logged with its cause.
pub(super) fn told(problem: &Problem, format: Option<Format>) -> Answer {
    if problem.kind == Kind::Internal {
        let cause = problem
            .cause
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        error!(cause, "{}", problem.message);
    }
    reply::problem(problem, format)
}
