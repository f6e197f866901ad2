//! One request: routed, answered, accounted for. A panic in it harms no other.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, ORIGIN, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tracing::error;
use url::Url;

use super::account::{Account, Entry, Subject};
use super::credential::Presented;
use super::health;
use super::host::Host;
use super::peer::Peer;
use super::ready::{self, Answers};
use super::reply::{self, Answer, Body, Head};
use super::route::{READS, Route, route};
use crate::Larder;
use crate::access::policy::Decision;
use crate::access::{self, Action, Caller, Door, PUBLISH, Pass, Principal, READ, Resource};
use crate::clock;
use crate::config::CredentialScope;
use crate::connection::{self, Connection};
use crate::format::{Address, Ask, Change, DocumentId, Protocol, Target};
use crate::package::{AssetId, Format, PackageId};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{
    ChangeRecord, Encodings, Publish, Repository, Sent, Snapshot, Submission, drain,
};
use crate::task;
use crate::telemetry::{RUN_TAG, Record, Run, Who};

/// What answers are given from.
pub struct Server {
    pub larder: Arc<Larder>,
    pub answers: Answers,
}

/// What is known of a request when it ends.
#[derive(Default)]
pub struct Line {
    subject: Subject,
    run: Option<Arc<Run>>,
    /// The same principal is let in again, whatever the time and its address.
    is_lasting: bool,
    /// For the audit.
    pub principal: String,
    pub action: Option<Action>,
    pub by: String,
}

impl Line {
    /// Takes up what became known of a change while it was made.
    fn note(&mut self, record: ChangeRecord) {
        if let Some(package) = record.package {
            self.subject.package = package.to_string();
        }
        self.subject.version = record.version;
        if !record.by.is_empty() {
            self.by = record.by;
        }
    }
}

/// Writes down who changed what, and who was refused. Who only asks without saying who it is, as
/// clients do first, is neither.
async fn audit(
    larder: &Larder,
    line: &Line,
    peer: Peer,
    (method, uri): (&Method, &Uri),
    status: u16,
    problem: Option<&Problem>,
) {
    let is_change = !matches!(line.action, None | Some(READ));
    let refused = problem.filter(|problem| {
        matches!(
            problem.kind,
            Kind::Denied | Kind::Unauthenticated | Kind::TooMany { .. } | Kind::Unverified
        )
    });
    if !is_change && refused.is_none() {
        return;
    }
    let record = Record {
        time: clock::now().to_string(),
        principal: line.principal.clone(),
        address: peer.address.to_string(),
        action: line.action.map_or("", Action::as_str).to_owned(),
        method: method.to_string(),
        path: uri.path().to_owned(),
        repository: line.subject.repository.clone(),
        package: line.subject.package.clone(),
        version: line.subject.version.clone(),
        allowed: problem.is_none(),
        status,
        by: problem.map_or_else(|| line.by.clone(), |problem| problem.decider.to_string()),
        message: problem.map(|it| it.message.clone()).unwrap_or_default(),
    };
    larder.audit.note(record).await;
}

/// Who asks; nobody has to say so where the configuration does not require it.
fn admit(
    larder: &Larder,
    snapshot: &Snapshot,
    peer: Peer,
    presented: &Presented,
    request: &Request<Incoming>,
) -> Result<Caller, Problem> {
    let config = &snapshot.config;
    let asks_by_itself = || {
        let tagged = tag(request.headers()).is_some();
        route(request.method(), request.uri().path(), tagged).asks_by_itself()
    };
    if !config.access.required || asks_by_itself() {
        return Ok(Caller::anonymous());
    }
    let (said, door) = (presented.said(), Door::Repositories);
    larder.access.admit(config, &said, peer.address, door)
}

/// Answers a request; `reached` is this end of its socket.
pub async fn handle(
    server: Arc<Server>,
    socket: Peer,
    reached: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let larder = &server.larder;
    let snapshot = larder.snapshot();
    let presented = Presented::take(request.headers_mut());
    let host = Host::of(&request, reached).and_then(|host| {
        host.permit(&snapshot.config, reached.ip())?;
        Ok(host)
    });
    let trusted = &snapshot.config.server.trusted_proxies;
    let asked_by = socket.of_request(request.headers(), trusted);
    let peer = *asked_by.as_ref().unwrap_or(&socket);
    let admitted = asked_by.and_then(|peer| admit(larder, &snapshot, peer, &presented, &request));
    let key = match (&host, &admitted) {
        (Ok(host), Ok(caller)) => ready::key(&request, peer.over_tls, host, &caller.principal),
        _ => None,
    };
    let who = match admitted.as_ref().map(|caller| &caller.principal) {
        Ok(Principal::Named(arn)) => Who::Named(arn.clone()),
        _ => Who::At(peer.address),
    };
    let access = larder.access.number();
    if let Some(key) = &key
        && let Some(response) =
            server
                .answers
                .again(larder, key, &request, socket.socket_over_tls, &who, started)
    {
        return response;
    }
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut line = Line::default();
    let hops = connection::hops(request.headers());
    let asked = (peer, &presented);
    let work = answer(larder, &snapshot, asked, host, admitted, request, &mut line);
    let answered = match hops {
        None => AssertUnwindSafe(work).catch_unwind().await,
        Some(hops) => {
            let work = Box::pin(task::through(hops, work));
            AssertUnwindSafe(work).catch_unwind().await
        }
    };
    let problem = match &answered {
        Ok(Err(problem)) => Some(problem.clone()),
        _ => None,
    };
    let mut answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(problem)) => told(&problem, line.subject.format),
        Err(_) => {
            larder.metrics.panics.inc();
            error!(path = uri.path(), "A request ended in a panic");
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
        audit(
            larder,
            &line,
            peer,
            (&method, &uri),
            status,
            problem.as_ref(),
        )
        .await;
    }
    if let Some(problem) = &problem {
        let Subject {
            repository,
            package,
            asset,
            ..
        } = &line.subject;
        larder.tell_refused(repository, package, asset, problem);
    }
    let entry = Entry::new(&larder.metrics, line.subject, answer.outcome, status);
    let entry = Arc::new(entry);
    if let Some(key) = key.filter(|_| line.is_lasting) {
        server
            .answers
            .keep(key, &mut answer, snapshot.number, access, &entry);
    }
    let account = Account {
        larder: Arc::clone(larder),
        entry,
        who,
        method,
        uri,
        started,
        run: line.run.map(|run| (run, answer.cached)),
    };
    answer.response.map(|body| body.accounted(account))
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

async fn answer(
    larder: &Arc<Larder>,
    snapshot: &Arc<Snapshot>,
    (peer, presented): (Peer, &Presented),
    host: Result<Host, Problem>,
    admitted: Result<Caller, Problem>,
    request: Request<Incoming>,
    line: &mut Line,
) -> Result<Answer, Problem> {
    let (parts, body) = request.into_parts();
    if snapshot.loop_id.is_in(&parts.headers) {
        return Err(Problem::new(
            Kind::Loop,
            Decider::Larder,
            "this request came through this Larder before",
        )
        .advice("a Larder is its own upstream: change the `url` of a connection"));
    }
    let head = Head {
        method: &parts.method,
        headers: &parts.headers,
        presented,
        peer,
    };
    let path = parts.uri.path();
    let tagged = tag(&parts.headers);
    let from = access::From {
        address: peer.address,
        over_tls: peer.over_tls,
        user_agent: parts
            .headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default(),
    };
    let pass = |caller| Pass {
        access: &larder.access,
        domain: &snapshot.config.domain,
        caller,
        from,
        is_open: !snapshot.config.access.required,
        by: Mutex::default(),
    };
    let route = route(&parts.method, path, tagged.is_some());
    if let Route::Package { format, .. } = route {
        line.subject.format = Some(format);
    }
    let host = match (host, &route) {
        (Ok(host), _) => host,
        // A probe may ask by any name: these say nothing that is private.
        (Err(problem), Route::Live | Route::Ready) if problem.kind == Kind::Misdirected => {
            return probe(larder, &route, &parts.method);
        }
        (Err(problem), _) => {
            drain(unstalled(body, snapshot.config.upload.stall_timeout)).await;
            return match route {
                Route::Api => Ok(super::api::refused(problem)),
                _ => Err(problem),
            };
        }
    };
    // Where it is not known who asks, what asks in its own way does not know it either.
    if let Err(problem) = &admitted
        && route.asks_by_itself()
    {
        return Err(problem.clone());
    }
    route.takes(&parts.method)?;
    let (format, repository, rest, run) = match route {
        Route::Package {
            format,
            repository,
            rest,
            run,
        } => (format, repository, rest, run),
        Route::Live | Route::Ready => return probe(larder, &route, &parts.method),
        Route::Metrics => return Ok(health::metrics(larder)),
        Route::Decide => {
            let caller = admitted?;
            let pass = pass(&caller);
            let permit = |name: &str| pass.to_repository(READ, name).map(drop);
            return health::decide(larder, &permit, parts.uri.query()).await;
        }
        Route::Api => {
            let root = host.root(&snapshot.config, peer.over_tls);
            return Ok(super::api::answer(larder, snapshot, &head, &parts, body, &root).await);
        }
        Route::Exchange => {
            return super::exchange::answer(larder, snapshot, &head, body, line).await;
        }
        Route::Front => return Ok(health::front()),
        Route::Unknown => {
            return Err(Problem::not_found(Decider::Larder, "there is nothing at this path")
                .advice("the formats are at /npm/, /pypi/, /maven/ and /nuget/, each with a repository's name behind it"));
        }
    };
    let body = unstalled(body, snapshot.config.upload.stall_timeout);
    let caller = match admitted {
        Ok(caller) => caller,
        Err(problem) => {
            drain(body).await;
            return Err(problem);
        }
    };
    // At the host's root the path shows neither; npm under `larder run` says it by its name.
    let (repository, run) = match repository {
        Some(repository) => (Some(repository), run),
        None => tagged.map_or((None, None), |(run, repository)| {
            (Some(repository), Some(run))
        }),
    };
    let repository = match (repository, &snapshot.first) {
        (Some(name), _) => snapshot.repository(name)?,
        (None, Some(first)) => first,
        (None, None) => {
            return Err(Problem::not_found(
                Decider::Larder,
                "there are no repositories",
            ));
        }
    };
    line.subject.repository.clone_from(&repository.name);
    // One that nobody began here, before a restart of this Larder, is served and not counted.
    line.run = run.and_then(|run| larder.runs.begun(run));
    let asked = Asked {
        pass: pass(&caller),
        larder,
        snapshot,
        repository,
        protocol: format.protocol(),
        head,
        rest: match parts.uri.query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        },
        run: line.run.clone(),
        address: Address {
            base: base(
                &host.root(&snapshot.config, peer.over_tls),
                format,
                &repository.name,
                run,
            ),
            // Under `larder run`, npm itself puts our host in the place of upstream's.
            kept: run.is_some()
                && parts
                    .headers
                    .get(USER_AGENT)
                    .is_some_and(|agent| agent.as_bytes().starts_with(b"npm/")),
        },
    };
    let target = asked.protocol.parse(&Ask {
        method: &parts.method,
        rest,
        query: parts.uri.query(),
        accept: asked.head.text(ACCEPT),
    })?;
    let action = access::action_of(&target);
    line.action = Some(action);
    line.principal = caller.principal.to_string();
    if let Target::Change(change) = &target
        && let Some(package) = change.package()
    {
        line.subject.package = package.to_string();
    }
    let body = match asked.permit(action, &target) {
        Ok(decision) => {
            line.is_lasting = decision.is_lasting;
            line.by = decision.why.to_string();
            body
        }
        Err(problem) => {
            drain(body).await;
            return Err(problem);
        }
    };
    asked.answer(target, body, line).await
}

/// A request for a package, with what it is answered from.
struct Asked<'a> {
    pass: Pass<'a>,
    larder: &'a Arc<Larder>,
    snapshot: &'a Arc<Snapshot>,
    repository: &'a Repository,
    protocol: &'static dyn Protocol,
    head: Head<'a>,
    address: Address,
    /// The path below the repository, with its query.
    rest: String,
    run: Option<Arc<Run>>,
}

impl Asked<'_> {
    /// Whether who asks may do so: read the repository, or change a package of it. Where the body
    /// alone names the package, that is asked once it is known.
    fn permit(&self, action: Action, target: &Target) -> Result<Decision, Problem> {
        let name = &self.repository.name;
        let Target::Change(change) = target else {
            return self.pass.to_repository(action, name);
        };
        let is_forwarded = !matches!(self.repository.publish, Publish::Local);
        match change.package() {
            Some(package) => self.pass.to_package(action, name, package),
            // What is passed on is not looked into.
            None if is_forwarded => {
                let format = self.protocol.format().as_str();
                let any = Resource::named_package(self.pass.domain, name, format, "", "*");
                self.pass.to(action, &any)
            }
            None => Ok(Decision::open()),
        }
    }

    async fn answer(
        &self,
        target: Target,
        body: crate::repository::Body,
        line: &mut Line,
    ) -> Result<Answer, Problem> {
        let target = match target {
            Target::Alias(path) => {
                self.larder
                    .reader
                    .alias(self.repository, self.protocol.format(), &path)
                    .await?
            }
            target => target,
        };
        if !matches!(target, Target::Question { .. } | Target::Change(_))
            && !matches!(*self.head.method, Method::GET | Method::HEAD)
        {
            return Err(Problem::new(
                Kind::MethodNotAllowed { allow: READS },
                Decider::Larder,
                format!("this path takes no {}", self.head.method),
            ));
        }
        match target {
            Target::Document(id) => self.document(&id, line).await,
            Target::Asset(asset) => self.asset(&asset, line).await,
            Target::Checksum(asset, algorithm) => {
                line.subject.package = asset.package.to_string();
                line.subject.asset = asset.file.to_string();
                let reader = &self.larder.reader;
                let (digest, cached) = reader
                    .checksum(self.snapshot, self.repository, &asset, algorithm)
                    .await?;
                Ok(reply::checksum(&digest, cached))
            }
            Target::DocumentChecksum(id, algorithm) => {
                let reply = self.read(&id, &Encodings::default()).await?;
                reply::document_checksum(&reply, algorithm)
            }
            Target::Answer { content_type, body } => {
                Ok(reply::whole(StatusCode::OK, content_type, body.into()))
            }
            Target::Question {
                location,
                content_type,
            } => {
                let question = self.question_body(body).await?;
                let format = self.protocol.format();
                let reader = &self.larder.reader;
                let answer = reader
                    .question(
                        self.snapshot,
                        self.repository,
                        format,
                        &location,
                        content_type,
                        question,
                    )
                    .await?;
                Ok(reply::whole(StatusCode::OK, content_type, answer))
            }
            Target::Redirect(path) => Ok(reply::redirect(&format!("{}{path}", self.address.base))),
            Target::Change(change) => self.change(change, body, line).await,
            Target::Alias(path) => Err(Problem::not_found(
                Decider::Larder,
                format!("`{path}` leads in a circle"),
            )),
        }
    }

    /// A publish, or another change: made here, or passed on.
    async fn change(
        &self,
        change: Change,
        body: crate::repository::Body,
        line: &mut Line,
    ) -> Result<Answer, Problem> {
        // A page in somebody's browser may send requests to this machine; it always says so.
        if self.head.headers.contains_key(ORIGIN) {
            return Err(Problem::denied(
                Decider::Larder,
                "pages in a browser change nothing here",
            ));
        }
        let format = self.protocol.format();
        let forwards = match &self.repository.publish {
            Publish::Forward { to, spool } => {
                let to = to.iter().find(|connection| connection.format == format);
                to.map(|to| (to, *spool))
            }
            Publish::Deny if self.run.is_some() => Some((self.registry_of_run()?, false)),
            Publish::Deny | Publish::Local => None,
        };
        let Some((to, spool)) = forwards else {
            let permit = |package: &PackageId| {
                let name = &self.repository.name;
                let decision = self.pass.to_package(PUBLISH, name, package)?;
                Ok(decision.why.to_string())
            };
            let mut record = ChangeRecord::default();
            let changed = self
                .larder
                .publisher
                .change(
                    self.snapshot,
                    self.repository,
                    Submission {
                        format,
                        change,
                        body,
                        content_type: self.head.text(CONTENT_TYPE),
                        permit: &permit,
                        record: &mut record,
                    },
                )
                .await;
            line.note(record);
            return Ok(reply::changed(changed?, format));
        };
        // A run points clients here that the configuration knows nothing of: where a publish takes the
        // client's own credential along, it has to be one for that registry.
        let is_denied = matches!(self.repository.publish, Publish::Deny);
        let within = if is_denied || self.run.is_some() && to.publishes_as_client() {
            Some(self.scope_of_run()?)
        } else {
            None
        };
        let sent = Sent {
            method: self.head.method.clone(),
            path: self.rest.clone(),
            headers: self
                .head
                .presented
                .outbound(self.head.headers, &self.larder.access),
            body,
        };
        let forwarded = self
            .larder
            .forwarder
            .forward(self.repository, to, &change, sent, within.as_ref(), spool)
            .await?;
        Ok(reply::forwarded(forwarded, format))
    }

    /// Where a publish under `larder run` goes: to the registry that this very client would have used.
    fn registry_of_run(&self) -> Result<&Arc<Connection>, Problem> {
        let scope = self.scope_of_run()?;
        let nearest = self
            .repository
            .connections_of(self.protocol.format())
            .next();
        nearest
            .filter(|to| CredentialScope::of_registry(&to.url).as_ref() == Some(&scope))
            .ok_or_else(|| {
                self.refused_in_run(
                    "the registry that this client would publish to is not the one of this repository"
                        .to_owned(),
                )
            })
    }

    /// The addresses that a publish of this run may be sent to: those of the registry that the client
    /// itself is set to, where it sends the credential that it has for that registry.
    fn scope_of_run(&self) -> Result<CredentialScope, Problem> {
        let format = self.protocol.format();
        let grant = self.run.as_ref().and_then(|run| run.publish.get());
        let Some(grant) = grant.filter(|_| format == Format::Npm) else {
            return Err(self.refused_in_run(format!(
                "`larder run` knows no {format} registry that this client publishes to, nor a credential for it"
            )));
        };
        let agent = self.head.text(USER_AGENT);
        if !grant.is_for_client(agent) {
            let client = agent.split([' ', '/']).next().unwrap_or_default();
            let client = if client.is_empty() {
                "this client"
            } else {
                client
            };
            return Err(self.refused_in_run(format!(
                "{client} may publish to another registry than {}, which npm is set to",
                grant.registry
            )));
        }
        let sent = self.head.presented.authorization();
        if !grant.is_credential(sent.as_bytes()) {
            return Err(self.refused_in_run(format!(
                "the credential that came with it is not the one that npm has for {}",
                grant.registry
            )));
        }
        let registry = Url::parse(&grant.registry).ok();
        let scope = registry.as_ref().and_then(CredentialScope::of_registry);
        scope.ok_or_else(|| {
            self.refused_in_run(format!("{} is no registry's address", grant.registry))
        })
    }

    fn refused_in_run(&self, why: String) -> Problem {
        Problem::denied(Decider::Repository(self.repository.name.clone()), why).advice(
            "publish without `larder run`, or say publish = \"forward:CONNECTION\" for the repository",
        )
    }

    async fn read(
        &self,
        id: &DocumentId,
        encodings: &Encodings,
    ) -> Result<crate::repository::DocumentReply, Problem> {
        self.larder
            .reader
            .document(self.snapshot, self.repository, id, &self.address, encodings)
            .await
    }

    async fn document(&self, id: &DocumentId, line: &mut Line) -> Result<Answer, Problem> {
        line.subject.package = id
            .package
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let encodings = Encodings::parse(self.head.text(ACCEPT_ENCODING), self.head.peer.is_near());
        let reply = self.read(id, &encodings).await?;
        Ok(reply::document(
            &self.head,
            reply,
            id,
            self.protocol.format(),
            self.snapshot,
            &self.larder.tasks,
        ))
    }

    async fn asset(&self, asset: &AssetId, line: &mut Line) -> Result<Answer, Problem> {
        line.subject.package = asset.package.to_string();
        line.subject.asset = asset.file.to_string();
        if self.protocol.carries(&asset.file) {
            line.subject.version = self.protocol.version_of(asset).unwrap_or_default();
        }
        let reply = self
            .larder
            .reader
            .asset(self.snapshot, self.repository, asset)
            .await?;
        Ok(reply::asset(&self.head, reply, &self.larder.tasks))
    }

    async fn question_body(&self, mut body: crate::repository::Body) -> Result<Bytes, Problem> {
        let max = self.snapshot.config.server.question_bytes_max;
        let mut whole = Vec::new();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| Problem::invalid("the request's body ended early"))?;
            if (whole.len() + piece.len()) as u64 > max {
                return Err(Problem::new(
                    Kind::TooLarge,
                    Decider::Larder,
                    format!("the body has more than {max} bytes"),
                )
                .advice("raise `server.question_bytes_max`"));
            }
            whole.extend_from_slice(&piece);
        }
        let encoded = self.head.text(http::header::CONTENT_ENCODING);
        reply::decoded(whole.into(), encoded, max)
    }
}

/// The body, which ends with an error where nothing comes for too long.
pub(super) fn unstalled(body: Incoming, patience: Duration) -> crate::repository::Body {
    let pieces = body.into_data_stream().map_err(std::io::Error::other);
    stream::unfold(Some(pieces), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(patience, pieces.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(pieces))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(_) => Some((Err(std::io::ErrorKind::TimedOut.into()), None)),
        }
    })
    .boxed()
}

/// The run and the repository that `larder run` has npm name in its `User-Agent`.
fn tag(headers: &HeaderMap) -> Option<(&str, &str)> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    let tag = agent
        .split(' ')
        .find_map(|word| word.strip_prefix(RUN_TAG))?;
    tag.split_once('.')
}

/// The repository's address as the client reaches it.
fn base(root: &str, format: Format, repository: &str, run: Option<&str>) -> String {
    let run = run.map_or_else(String::new, |run| format!("/-/run/{run}"));
    format!("{root}{run}/{format}/{repository}/")
}

/// Whether Larder lives, or is ready.
fn probe(larder: &Larder, route: &Route<'_>, method: &Method) -> Result<Answer, Problem> {
    route.takes(method)?;
    Ok(match route {
        Route::Ready => health::ready(larder.tasks.is_stopping()),
        _ => health::live(),
    })
}
