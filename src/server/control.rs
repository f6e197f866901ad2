//! The operator's commands and the runs' leases: by a Unix socket in the data directory, which the
//! system opens to its owner alone. Nothing of this can be reached by the network. A run's lease is
//! its connection: it ends when that does, and after a while where the run does not take it anew.

use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, HeaderName, Method, Request, Response};
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::account::{AnswerAccount, AnswerRecord, RequestSubject};
use super::conversation::Manners;
use super::handle::told;
use super::health;
use super::place::{Places, SocketPlace, UnderWay};
use super::reply::{self, Answer, Body};
use super::request_body::{self, RequestBody, unstalled};
use super::socket::WatchedSocket;
use crate::format::{plain, query_of};
use crate::problem::{Decider, Problem};
use crate::repository::{manage, piped, upkeep};
use crate::telemetry::{GRANT_HEADER, LEASE_LASTS, RunLease, Who};
use crate::{Larder, access, airgap};

/// A command of any kind; no two have the same name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    Repositories(manage::ManageCommand),
    Access(access::manage::AccessCommand),
    AirGap(airgap::AirgapCommand),
    Upkeep(upkeep::UpkeepCommand),
}

/// The head of a bundle, before the bundle.
const BUNDLE: HeaderName = HeaderName::from_static("larder-bundle");

/// A command is a few words, or the poms of a project.
const COMMAND_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Pieces of a bundle that wait for who reads them.
const PIECES_AHEAD_MAX: usize = 8;

/// Commanders at once: commands, and the runs that hold a lease. They are counted by themselves and
/// take no place of the sockets that serve.
const COMMANDERS_MAX: usize = 1024;

/// The socket in the data directory, which only its owner can open.
pub struct ControlSocket {
    larder: Arc<Larder>,
    /// None where the disk takes no sockets.
    socket: Option<UnixListener>,
    places: Arc<Places>,
}

/// Somebody at the socket.
pub struct Commander {
    socket: UnixStream,
    place: SocketPlace,
}

impl ControlSocket {
    /// Opens the socket. Where that fails, Larder serves all the same.
    pub fn open(larder: &Arc<Larder>) -> Self {
        let socket = larder
            .store
            .directory()
            .listen()
            .and_then(UnixListener::from_std);
        if let Err(error) = &socket {
            warn!(%error, "Opening the control socket failed; clients are served, but commands cannot reach this Larder");
        }
        Self {
            larder: Arc::clone(larder),
            socket: socket.ok(),
            places: Places::new(COMMANDERS_MAX, 0, COMMANDERS_MAX),
        }
    }

    /// Resolves when somebody comes.
    pub async fn accept(&self) -> Commander {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        loop {
            match socket.accept().await {
                Ok((socket, _)) if !is_of_owner(&socket) => warn!(
                    "A connection to the control socket was refused: it came from another user"
                ),
                Ok((socket, _)) => match self.places.take(None) {
                    Some(place) => return Commander { socket, place },
                    None => warn!("A command was refused: {COMMANDERS_MAX} are under way"),
                },
                Err(error) => {
                    warn!(%error, "Accepting a connection to the control socket failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Carries out what the commander says, until that ends, or Larder does.
    pub fn converse(&self, commander: Commander, stop: &CancellationToken) {
        let (larder, stop) = (Arc::clone(&self.larder), stop.clone());
        let manners = Manners::new(&larder.snapshot().config.server);
        self.larder.tasks.spawn_until_stop(async move {
            let Commander { socket, place } = commander;
            let presence = &place.presence;
            let socket = WatchedSocket::new(socket, Arc::clone(presence), manners.write_timeout);
            let answer =
                |request, under_way| handle(Arc::clone(&larder), stop.clone(), request, under_way);
            if let Err(error) = manners.converse(socket, presence, answer).await {
                debug!(%error, "A socket for commands ended");
            }
        });
    }

    /// Takes no more commands. Those under way end.
    pub fn close(self) -> Arc<Places> {
        self.places.drain();
        if self.socket.is_some() {
            self.larder.store.directory().shut();
        }
        self.places
    }
}

/// Whether the user at the other end is the one that Larder runs as, or root. The socket's folder lets
/// nobody else in; this holds where somebody opens it all the same.
fn is_of_owner(socket: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    socket
        .peer_cred()
        .is_ok_and(|peer| may_command(peer.uid(), own))
}

fn may_command(user: u32, own: u32) -> bool {
    user == own || user == 0
}

async fn handle(
    larder: Arc<Larder>,
    stop: CancellationToken,
    request: Request<Incoming>,
    under_way: UnderWay,
) -> Response<Body> {
    let request = request.map(|body| RequestBody::new(body, under_way.presence()));
    let started = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answered = AssertUnwindSafe(answer(&larder, &stop, request))
        .catch_unwind()
        .await;
    let answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(problem)) => told(&problem, None),
        Err(_) => {
            larder.metrics.panics.inc();
            error!(
                path = uri.path(),
                "A command panicked; other requests go on"
            );
            let problem = Problem::internal("this command failed inside Larder", "a panic");
            reply::problem(&problem, None)
        }
    }
    .for_method(&method);
    let entry = AnswerRecord::new(&larder.metrics, RequestSubject::default(), &answer);
    let account = AnswerAccount {
        larder,
        entry: Arc::new(entry),
        who: Who::At(Ipv4Addr::LOCALHOST.into()),
        method,
        uri,
        started,
        run: None,
    };
    answer
        .response
        .map(|body| body.accounted(account).under_way(under_way))
}

async fn answer(
    larder: &Arc<Larder>,
    stop: &CancellationToken,
    request: Request<RequestBody>,
) -> Result<Answer, Problem> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query();
    let segments: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::POST, ["command"]) => execute(larder, read(larder, body).await?).await,
        (&Method::POST, ["export"]) => export(larder, read(larder, body).await?).await,
        (&Method::POST, ["import"]) => {
            let patience = larder.snapshot().config.upload.stall_timeout;
            import(larder, query, unstalled(body, patience)).await
        }
        (&Method::GET, ["decide"]) => decide(larder, query).await,
        (&Method::GET, ["since-start"]) => reply::json(&larder.since_start()),
        (&Method::GET, ["run", run]) => {
            let repository = query_of(query).remove("repository").unwrap_or_default();
            reply::json(&larder.report(run, &repository)?)
        }
        (&Method::GET, ["run", run, "lease"]) => Ok(lease(larder, stop, run, &parts.headers)),
        _ => Err(Problem::not_found(
            Decider::Larder,
            "there is no such command; the running Larder is of another version",
        )),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the operator, whom the system lets in"
)]
async fn execute(larder: &Arc<Larder>, command: Command) -> Result<Answer, Problem> {
    match command {
        Command::Repositories(command) => {
            let snapshot = larder.snapshot();
            reply::json(&larder.manager.execute(&snapshot, command).await?)
        }
        Command::Access(command) => reply::json(&larder.administer(command).await?),
        Command::AirGap(command) => {
            let snapshot = larder.snapshot();
            reply::json(&airgap::execute(larder.repositories.reader(), &snapshot, command).await?)
        }
        Command::Upkeep(command) => reply::json(&larder.upkeep(command).await?),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the operator, whom the system lets in"
)]
async fn decide(larder: &Arc<Larder>, query: Option<&str>) -> Result<Answer, Problem> {
    let health::DecideQuery {
        repository,
        package,
        version,
    } = health::DecideQuery::read(query)?;
    let snapshot = larder.snapshot();
    let repository = snapshot.repository(&repository)?;
    let reader = larder.repositories.reader();
    let explainer = reader.explain(&snapshot, repository, &package);
    health::decision(explainer, version.as_deref()).await
}

/// An answer that begins, and ends when Larder does or the lease's time is over: the run's leaving is
/// the message.
fn lease(larder: &Larder, stop: &CancellationToken, run: &str, headers: &HeaderMap) -> Answer {
    let begun = larder.runs.run(run);
    let grant = headers
        .get(GRANT_HEADER)
        .and_then(|value| serde_json::from_slice(value.as_bytes()).ok());
    if let Some(grant) = grant {
        let _ = begun.publish.set(grant);
    }
    let held = hold(larder.runs.lease(), stop.clone());
    let begin = stream::iter([Ok(Bytes::from_static(b"leased\n"))]);
    let held = stream::once(held.map(|()| Ok(Bytes::from_static(b"ended\n"))));
    reply::pieces(begin.chain(held))
}

/// Holds a lease until Larder stops, or for as long as a lease lasts.
async fn hold(lease: RunLease, stop: CancellationToken) {
    let stopped = stop.cancelled();
    let _ = tokio::time::timeout(LEASE_LASTS, stopped).await;
    drop(lease);
}

/// A bundle, as it is written; its head in a header.
async fn export(larder: &Arc<Larder>, order: airgap::Order) -> Result<Answer, Problem> {
    let export = airgap::export(&larder.store, &larder.snapshot(), order).await?;
    let words = serde_json::to_string(&export.head)
        .map_err(|error| Problem::internal("the head of a bundle cannot be written", error))?;
    let pieces = stream::unfold(export.pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    let mut answer = reply::pieces(pieces);
    answer.content_type("application/zstd");
    answer.header(BUNDLE, &words);
    Ok(answer)
}

/// Takes a bundle in; the query names keys that are trusted beside the configuration's.
async fn import(
    larder: &Arc<Larder>,
    query: Option<&str>,
    mut body: crate::repository::BodyStream,
) -> Result<Answer, Problem> {
    let query = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let trusted = query
        .filter(|(name, _)| name == "trust")
        .map(|(_, key)| key.into_owned());
    let importer = larder.importer(trusted.collect());
    let (writer, reader) = piped(PIECES_AHEAD_MAX);
    let import = larder.tasks.spawn_blocking(move || importer.import(reader));
    while let Some(piece) = body.next().await {
        // The importer may hang up before the end of the body; its report says why.
        if !writer.write(piece).await {
            break;
        }
    }
    writer.end().await;
    let report = import.await;
    let report = report.map_err(|error| Problem::internal("the import stopped", error))??;
    reply::json(&report)
}

async fn read<T: DeserializeOwned>(larder: &Larder, body: RequestBody) -> Result<T, Problem> {
    let patience = larder.snapshot().config.upload.stall_timeout;
    let body = request_body::read_to_end(unstalled(body, patience), COMMAND_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::invalid(format!(
            "the command cannot be read: {}",
            plain::json(&error)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_taken_anew_ends() {
        let runs = crate::telemetry::Runs::default();
        let mut held = std::pin::pin!(hold(runs.lease(), CancellationToken::new()));
        let half = tokio::time::timeout(LEASE_LASTS / 2, held.as_mut());
        assert!(half.await.is_err());
        assert_eq!(runs.leases(), 1);
        held.await;
        assert_eq!(runs.leases(), 0);
    }

    #[test]
    fn only_its_own_user_and_root_may_command() {
        for (user, own, may) in [
            (1000, 1000, true),
            (0, 1000, true),
            (0, 0, true),
            (1000, 0, false),
            (1001, 1000, false),
        ] {
            assert_eq!(may_command(user, own), may, "{user} at {own}");
        }
    }
}
