//! Publishes that are passed on to a registry outside, at once or as soon as it is there.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::ext::ReasonPhrase;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::change::Committer;
use super::places::BodySender;
use super::receive::{BodyReceiver, BodyStream};
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::config::CredentialScope;
use crate::connection::{
    Connection, Error, Forward, ForwardAnswer, ForwardBody, Outbound, answered,
};
use crate::format::Change;
use crate::format::bounded::Bounded;
use crate::package::{BlobId, UpstreamUrl};
use crate::problem::{Decider, Kind, Problem};
use crate::store::packages::{Packages, Spooled, random_name};
use crate::task::{PAUSE_MAX, pause_after};

/// A publish as the client sent it.
pub struct Sent {
    pub method: Method,
    /// Below the repository, still encoded, with its query.
    pub path: String,
    pub headers: Outbound,
    pub body: BodyStream,
    pub sender: BodySender,
}

/// Upstream's answer, as it is.
pub struct Passed {
    pub status: StatusCode,
    /// The words behind the status, where they are not the usual ones.
    pub reason: Option<ReasonPhrase>,
    pub headers: HeaderMap,
    pub body: BodyStream,
}

/// The result of passing a publish on.
pub enum Forwarded {
    Passed(Passed),
    /// Accepted; it goes when upstream is there.
    Spooled,
}

/// Passes publishes on to registries outside, and keeps those in the spool that have to wait.
pub struct Forwarder {
    reader: Arc<Reader>,
    receiver: Arc<BodyReceiver>,
    committer: Arc<Committer>,
    /// Told when something waits in the spool, or is to be tried.
    spooling: Notify,
    /// Ids of publishes in the spool that their own clients' requests are sending.
    first_attempts: Mutex<HashSet<String>>,
}

impl Forwarder {
    #[must_use]
    pub fn new(
        reader: &Arc<Reader>,
        receiver: &Arc<BodyReceiver>,
        committer: &Arc<Committer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: Arc::clone(reader),
            receiver: Arc::clone(receiver),
            committer: Arc::clone(committer),
            spooling: Notify::new(),
            first_attempts: Mutex::default(),
        })
    }

    fn packages(&self) -> &Packages {
        self.reader.fetcher.store().packages()
    }

    fn answer_timeout(&self) -> Duration {
        self.receiver.bounds().answer_timeout
    }

    /// Passes the publish on to the connection. With a scope it carries the client's own credentials,
    /// and goes nowhere that the scope does not cover.
    ///
    /// # Errors
    /// Where upstream is away and the publish cannot wait for it.
    pub async fn forward(
        &self,
        repository: &Repository,
        to: &Arc<Connection>,
        change: &Change,
        sent: Sent,
        within: Option<&CredentialScope>,
        spool: bool,
    ) -> Result<Forwarded, Problem> {
        let _place = self.receiver.place(&sent.sender).await?;
        let as_client = within.is_some() || to.publishes_as_client();
        if spool && as_client {
            return Err(Problem::invalid(
                "a publish with the client's own credentials cannot wait: they are not stored",
            )
            .advice("leave `spool` or `publish_auth = \"client\"` out of the configuration"));
        }
        if spool {
            return self.spooled(repository, to, change, sent).await;
        }
        let url = self.publish_url(to, &sent.path).await?;
        if within.is_some_and(|scope| !scope.covers(&url)) {
            return Err(Problem::denied(
                Decider::Connection(to.name.clone()),
                format!(
                    "publishes to connection `{}` go to an address that the client's credential is not for",
                    to.name
                ),
            )
            .advice("publish without `larder run`"));
        }
        let answer = to
            .forward(Forward {
                method: sent.method,
                url,
                headers: sent.headers,
                body: streamed(sent.body),
                as_client,
                patience: self.answer_timeout(),
            })
            .await
            .map_err(|error| away(to, &error))?;
        self.outdate(to, change, answer.status()).await?;
        Ok(Forwarded::Passed(passed(answer)))
    }

    /// Takes the publish in whole before it is tried: from then on it is not lost.
    async fn spooled(
        &self,
        repository: &Repository,
        to: &Arc<Connection>,
        change: &Change,
        sent: Sent,
    ) -> Result<Forwarded, Problem> {
        let verified = self.receiver.receive_file(sent.body).await?;
        let headers = sent
            .headers
            .headers()
            .iter()
            .filter(|(name, _)| *name != http::header::CONTENT_LENGTH)
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let one = Spooled {
            id: random_name().get(..12).unwrap_or_default().to_owned(),
            repository: repository.name.clone(),
            connection: to.name.clone(),
            method: sent.method.to_string(),
            path: sent.path,
            headers,
            blob: verified.digests().blob.to_hex(),
            size: verified.size(),
            queued_at: clock::unix_ms_now(),
            attempts: 0,
            next_at: clock::unix_ms_now(),
            said: String::new(),
            set_aside: false,
        };
        // The one who sent it tries first.
        let _first = FirstAttempt::of(self, &one.id);
        self.committer.spool(one.clone(), verified).await?;
        self.spooling.notify_one();
        // Publishes to one connection are delivered in the order in which they came.
        let before = self.waiting().await?;
        let is_first = before
            .iter()
            .find(|other| other.connection == one.connection && !other.set_aside)
            .is_none_or(|other| other.id == one.id);
        if !is_first {
            self.put_off(&one, "others wait before it").await?;
            return Ok(Forwarded::Spooled);
        }
        match self.attempt(to, &one).await {
            Ok(answer) if !is_away(answer.status()) => {
                self.outdate(to, change, answer.status()).await?;
                self.unspool(&one.id).await?;
                Ok(Forwarded::Passed(passed(answer)))
            }
            Ok(answer) => {
                self.put_off(&one, &said(answer).await).await?;
                Ok(Forwarded::Spooled)
            }
            Err(problem) => {
                self.put_off(&one, &problem.message).await?;
                Ok(Forwarded::Spooled)
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the piece is waited for at once")]
    async fn attempt(
        &self,
        to: &Arc<Connection>,
        one: &Spooled,
    ) -> Result<http::Response<ForwardAnswer>, Problem> {
        let gone = || Problem::invalid("the publish has lost its bytes");
        let id = hex::decode(&one.blob)
            .ok()
            .and_then(|bytes| BlobId::from_slice(&bytes))
            .ok_or_else(gone)?;
        let blob = self.reader.fetcher.store().blob(id).await?;
        let blob = blob.ok_or_else(gone)?;
        let mut headers: HeaderMap = one
            .headers
            .iter()
            .filter_map(|(name, value)| {
                Some((
                    HeaderName::try_from(name.as_str()).ok()?,
                    HeaderValue::try_from(value.as_str()).ok()?,
                ))
            })
            .collect();
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(blob.size()));
        let url = self.publish_url(to, &one.path).await?;
        let method = one
            .method
            .parse()
            .map_err(|_| Problem::internal("a spooled publish has no method", one.id.clone()))?;
        let pieces = futures_util::stream::unfold((blob, 0), |(blob, at)| async move {
            let reader = blob.clone();
            let piece = tokio::task::spawn_blocking(move || reader.read_at(at, PIECE_BYTES)).await;
            match piece {
                Ok(Ok(piece)) if piece.is_empty() => None,
                Ok(Ok(piece)) => {
                    let next = at + piece.len() as u64;
                    Some((Ok(piece), (blob, next)))
                }
                Ok(Err(error)) => Some((Err(error), (blob, at))),
                Err(error) => Some((Err(std::io::Error::other(error)), (blob, at))),
            }
        });
        to.forward(Forward {
            method,
            url,
            headers: Outbound::new(headers.iter(), std::iter::empty()),
            body: streamed(pieces.boxed()),
            as_client: false,
            patience: self.answer_timeout(),
        })
        .await
        .map_err(|error| away(to, &error))
    }

    /// Tries what waits, each in its turn, until Larder stops.
    pub fn start_spool(
        self: &Arc<Self>,
        current: impl Fn() -> Option<Arc<Snapshot>> + Send + 'static,
    ) {
        let forwarder = Arc::clone(self);
        self.reader.fetcher.tasks().spawn_until_stop(async move {
            loop {
                let Some(snapshot) = current() else { return };
                let pause = match forwarder.try_spool(&snapshot).await {
                    Ok(next_at) => next_at,
                    Err(problem) => {
                        warn!(%problem, "Reading the spool failed; publishes that wait for their upstream go on waiting");
                        Some(clock::unix_ms_now() + ms(PAUSE_MAX))
                    }
                };
                // Sleeps until the next attempt at most, and then sees a changed configuration too.
                match pause {
                    None => forwarder.spooling.notified().await,
                    Some(next_at) => {
                        let left = next_at.saturating_sub(clock::unix_ms_now()).max(50);
                        let pause = Duration::from_millis(u64::try_from(left).unwrap_or(50));
                        // The clock may be set forward meanwhile.
                        let pause = pause.min(PAUSE_MAX);
                        let _ = tokio::time::timeout(pause, forwarder.spooling.notified()).await;
                    }
                }
            }
        });
    }

    /// Tries what is due; says when something is due next.
    async fn try_spool(&self, snapshot: &Snapshot) -> Result<Option<i64>, Problem> {
        let now = clock::unix_ms_now();
        let mut blocked = Vec::new();
        for one in self.waiting().await? {
            if one.set_aside {
                continue;
            }
            // Behind one that waits, others of its connection wait too: they may need it.
            if blocked.contains(&one.connection) {
                continue;
            }
            blocked.push(one.connection.clone());
            // A time further off than the longest pause is of a clock that was set back: it is due.
            let is_put_off = one.next_at > now && one.next_at <= now + 2 * ms(PAUSE_MAX);
            if is_put_off || self.first_attempts().contains(&one.id) {
                continue;
            }
            let to = snapshot.connections.iter();
            let Some(to) = to.clone().find(|to| to.name == one.connection) else {
                self.put_off(&one, "there is no such connection any more")
                    .await?;
                continue;
            };
            match self.attempt(to, &one).await {
                Ok(answer) if answer.status().is_success() || answer.status() == 409 => {
                    info!(
                        id = one.id,
                        connection = one.connection,
                        "A spooled publish reached its upstream"
                    );
                    self.fetcher_outdate(to, None).await?;
                    self.unspool(&one.id).await?;
                    blocked.retain(|name| *name != one.connection);
                }
                Ok(answer) if is_refusal(answer.status()) => {
                    self.set_aside(&one, &said(answer).await).await?;
                    blocked.retain(|name| *name != one.connection);
                }
                Ok(answer) => self.put_off(&one, &said(answer).await).await?,
                // It has lost its bytes, or has no address any more.
                Err(problem) if problem.kind == Kind::Invalid => {
                    self.set_aside(&one, &problem.message).await?;
                    blocked.retain(|name| *name != one.connection);
                }
                Err(problem) => self.put_off(&one, &problem.message).await?,
            }
        }
        let waiting = self.waiting().await?;
        let mut first = HashMap::new();
        for one in waiting.iter().filter(|one| !one.set_aside) {
            let next_at = if self.first_attempts().contains(&one.id) {
                // The spool is told when the client's own attempt has ended.
                i64::MAX
            } else {
                one.next_at
            };
            first.entry(&one.connection).or_insert(next_at);
        }
        Ok(first.into_values().min())
    }

    /// All publishes that wait here, in the order in which they came.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn waiting(&self) -> Result<Vec<Spooled>, Problem> {
        Ok(self.packages().spool().waiting().await?)
    }

    async fn put_off(&self, one: &Spooled, said: &str) -> Result<(), Problem> {
        let next_at = clock::unix_ms_now() + ms(pause_after(one.attempts));
        Ok(self
            .packages()
            .spool()
            .put_off(&one.id, next_at, said)
            .await?)
    }

    async fn set_aside(&self, one: &Spooled, said: &str) -> Result<(), Problem> {
        warn!(
            id = one.id,
            connection = one.connection,
            said,
            "A spooled publish was refused and is set aside; those behind it go on"
        );
        Ok(self.packages().spool().set_aside(&one.id, said).await?)
    }

    fn first_attempts(&self) -> MutexGuard<'_, HashSet<String>> {
        self.first_attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has publishes be tried at once, those that were set aside among them: one, or all.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn retry(&self, id: Option<&str>) -> Result<(), Problem> {
        self.packages().spool().hurry(id).await?;
        self.spooling.notify_one();
        Ok(())
    }

    /// Takes a publish out of the spool: it is through, or given up.
    ///
    /// # Errors
    /// Where there is none of that id.
    pub async fn unspool(&self, id: &str) -> Result<(), Problem> {
        let gone = self.committer.unspool(id).await;
        gone.map_err(|problem| problem.advice("`larder spool` lists what waits"))
    }

    async fn publish_url(&self, to: &Arc<Connection>, path: &str) -> Result<UpstreamUrl, Problem> {
        let (location, below) = to.format.protocol().published_at(path);
        match to.publish_url() {
            None => self.reader.evidence.locate(to, &location).await,
            Some(base) => below.below(base).ok_or_else(|| {
                Problem::invalid("the path has a segment that is not allowed")
                    .advice("no `.`, `..`, empty segments, backslashes or control characters")
            }),
        }
    }

    /// Marks the documents that a publish changed upstream as outdated, so that they are asked for
    /// anew.
    async fn outdate(
        &self,
        to: &Connection,
        change: &Change,
        status: StatusCode,
    ) -> Result<(), Problem> {
        if !status.is_success() {
            return Ok(());
        }
        let protocol = to.format.protocol();
        let keys: Option<Vec<String>> = match change {
            Change::Finish(id) => Some(vec![protocol.resource(id, true).key]),
            Change::File(_) | Change::Checksum(..) | Change::FinishChecksum(..) => Some(Vec::new()),
            change => change.package().and_then(|package| {
                let documents = protocol.outdated_by_publish(package)?;
                Some(documents.into_iter().map(|it| it.key).collect())
            }),
        };
        self.fetcher_outdate(to, keys.as_deref()).await
    }

    async fn fetcher_outdate(
        &self,
        to: &Connection,
        keys: Option<&[String]>,
    ) -> Result<(), Problem> {
        self.reader.fetcher.outdate(&to.registry, keys).await
    }
}

/// A client's own attempt to send what it has put into the spool, until it is dropped.
struct FirstAttempt<'a> {
    forwarder: &'a Forwarder,
    id: String,
}

impl<'a> FirstAttempt<'a> {
    fn of(forwarder: &'a Forwarder, id: &str) -> Self {
        forwarder.first_attempts().insert(id.to_owned());
        Self {
            forwarder,
            id: id.to_owned(),
        }
    }
}

impl Drop for FirstAttempt<'_> {
    fn drop(&mut self) {
        self.forwarder.first_attempts().remove(&self.id);
        self.forwarder.spooling.notify_one();
    }
}

const PIECE_BYTES: usize = 256 * 1024;

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether upstream is failing rather than saying no.
fn is_away(status: StatusCode) -> bool {
    status.is_server_error() || status == 429 || status == 408
}

/// Whether upstream says no for good. That a credential does not hold (401) is the connection's affair: it
/// may hold tomorrow.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !is_away(status) && status != StatusCode::UNAUTHORIZED
}

/// Upstream's words, short enough for a line: the status, and the beginning of its words.
async fn said(answer: http::Response<impl http_body::Body<Data = Bytes>>) -> String {
    let status = answer.status().as_u16();
    let mut body = pin!(answer.into_body().into_data_stream());
    let mut words = Bounded::new(SAID_BYTES_MAX);
    let reading = async {
        while let Some(Ok(piece)) = body.next().await {
            if words.push(&piece).is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(SAID_WITHIN, reading).await;
    let words = String::from_utf8_lossy(&words.beginning())
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if words.is_empty() {
        format!("status {status}")
    } else {
        format!("status {status}: {words}")
    }
}

/// A line of a table. Registries answer with a sentence, or with a page that nobody needs.
const SAID_BYTES_MAX: u64 = 300;

/// How long the words of an answer are waited for whose status is known.
const SAID_WITHIN: Duration = Duration::from_secs(5);

fn streamed(body: BodyStream) -> ForwardBody {
    StreamBody::new(body.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn passed(answer: http::Response<ForwardAnswer>) -> Passed {
    let (parts, body) = answer.into_parts();
    let pieces = body
        .into_data_stream()
        .map(|piece| piece.map_err(std::io::Error::other));
    Passed {
        status: parts.status,
        reason: parts.extensions.get::<ReasonPhrase>().cloned(),
        headers: answered(&parts.headers),
        body: pieces.boxed(),
    }
}

fn away(to: &Connection, error: &Error) -> Problem {
    let mut problem = error.problem(&to.name, "the publish");
    problem.message = format!("the publish did not go through: {error}");
    problem.advice(
        "try again, or say `spool = true` for the repository, so that it waits for its upstream",
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM};
    use super::*;

    fn waiting(id: &str, blob: BlobId) -> Spooled {
        Spooled {
            id: id.to_owned(),
            repository: "team".to_owned(),
            connection: "up".to_owned(),
            method: "PUT".to_owned(),
            path: "acme".to_owned(),
            headers: Vec::new(),
            blob: blob.to_hex(),
            size: 3,
            queued_at: 0,
            attempts: 0,
            next_at: i64::MAX,
            said: String::new(),
            set_aside: false,
        }
    }

    #[tokio::test]
    async fn what_waits_keeps_its_bytes_until_it_is_given_up() {
        let fixture = Fixture::open(TEAM).await;
        let body = fixture.receiver.take_bytes(b"one").await.unwrap();
        let one = waiting("a", BlobId::of(b"one"));
        fixture.committer.spool(one.clone(), body).await.unwrap();
        assert_eq!(fixture.forwarder.waiting().await.unwrap(), [one]);
        assert_eq!(fixture.store.used_bytes(), 0);
        fixture.forwarder.unspool("a").await.unwrap();
        assert_eq!(fixture.store.used_bytes(), 3);
        let problem = fixture.forwarder.unspool("a").await.unwrap_err();
        assert_eq!(problem.kind, crate::problem::Kind::NotFound);
    }

    #[tokio::test]
    async fn a_publish_that_cannot_be_spooled_leaves_no_bytes_behind() {
        let fixture = Fixture::open(TEAM).await;
        for (text, is_taken) in [(b"one", true), (b"two", false)] {
            let body = fixture.receiver.take_bytes(text).await.unwrap();
            // Two of one id cannot be.
            let spooled = fixture
                .committer
                .spool(waiting("a", BlobId::of(text)), body);
            assert_eq!(spooled.await.is_ok(), is_taken);
        }
        assert_eq!(fixture.store.used_bytes(), 3);
    }

    #[tokio::test]
    async fn what_is_to_be_tried_again_is_due_at_once() {
        let fixture = Fixture::open(TEAM).await;
        let body = fixture.receiver.take_bytes(b"one").await.unwrap();
        let one = waiting("a", BlobId::of(b"one"));
        fixture.committer.spool(one, body).await.unwrap();
        fixture.forwarder.retry(Some("a")).await.unwrap();
        assert_eq!(fixture.forwarder.waiting().await.unwrap()[0].next_at, 0);
    }

    #[tokio::test]
    async fn of_a_registrys_words_the_beginning_is_kept() {
        let told = async |bytes: u64| {
            let words = "x".repeat(usize::try_from(bytes).unwrap());
            let answer = http::Response::new(http_body_util::Full::new(Bytes::from(words)));
            said(answer).await.len() - "status 200: ".len()
        };
        let max = usize::try_from(SAID_BYTES_MAX).unwrap();
        assert_eq!(told(SAID_BYTES_MAX).await, max);
        assert_eq!(told(SAID_BYTES_MAX + 1).await, max);
    }
}
