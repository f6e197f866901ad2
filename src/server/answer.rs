//! From a route to its answer, past the decision that the route needs.

use std::sync::Arc;

use http::header::{ACCEPT, USER_AGENT};
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use super::audit::Line;
use super::credential::CredentialHeaders;
use super::host::Host;
use super::peer::Peer;
use super::publish::Publishing;
use super::read::AdmittedRead;
use super::reply::{Answer, RequestHead};
use super::request_body::BodyMemory;
use super::route::{InRepository, Open, Route, is_npm};
use super::shared_body::SharedBody;
use super::{api, exchange, health};
use crate::Larder;
use crate::access::{self, Caller, ClientInfo, Endpoints, Permissions, Within};
use crate::format::{Address, Change, ClientRequest, Target};
use crate::package::Format;
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{Publish, Repository, Snapshot};

/// Everything that a route is answered from.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub larder: &'a Arc<Larder>,
    pub snapshot: &'a Arc<Snapshot>,
    pub parts: &'a Parts,
    pub presented: &'a CredentialHeaders,
    pub peer: Peer,
    /// Cancelled when the client of a change has hung up. A request to read ends with its client anyway.
    pub left: Option<&'a CancellationToken>,
    pub bodies: &'a BodyMemory,
}

impl<'a> Asked<'a> {
    pub fn head(&self) -> RequestHead<'a> {
        RequestHead {
            method: &self.parts.method,
            headers: &self.parts.headers,
            presented: self.presented,
            peer: self.peer,
        }
    }

    pub fn client(&self) -> ClientInfo<'a> {
        ClientInfo {
            address: self.peer.address,
            over_tls: self.peer.over_tls,
            user_agent: self.user_agent(),
        }
    }

    pub fn user_agent(&self) -> &'a str {
        let agent = self.parts.headers.get(USER_AGENT);
        agent
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or_default()
    }

    fn permissions(&self, caller: &'a Caller) -> Permissions<'a> {
        let (access, config) = (&self.larder.access, &self.snapshot.config);
        Permissions::new(
            access,
            config,
            caller,
            self.client(),
            Endpoints::Repositories,
        )
    }
}

/// Answers a request by its route.
pub async fn answer(
    asked: Asked<'_>,
    route: Route<'_>,
    host: Result<Host, Problem>,
    caller: Result<Caller, Problem>,
    body: &SharedBody,
    line: &mut Line,
) -> Result<Answer, Problem> {
    let Asked {
        larder,
        snapshot,
        parts,
        ..
    } = asked;
    if snapshot.loop_id.is_in(&parts.headers) {
        return Err(Problem::new(
            Kind::Loop,
            Decider::Larder,
            "this request came through this Larder before",
        )
        .advice("a Larder is its own upstream: change the `url` of a connection"));
    }
    let host = match (host, route) {
        (Ok(host), _) => host,
        // A probe may ask by any name: these say nothing that is private.
        (Err(problem), Route::Open(open @ (Open::Live | Open::Ready)))
            if problem.kind == Kind::Misdirected =>
        {
            route.takes(&parts.method)?;
            return Ok(probe(larder, open));
        }
        (Err(problem), _) => {
            return match route {
                Route::Api(_) => Ok(api::refused(problem)),
                _ => Err(problem),
            };
        }
    };
    match route {
        Route::Open(open) => {
            // It fails where proxies say different things of who asks.
            caller?;
            route.takes(&parts.method)?;
            match open {
                Open::Front => Ok(health::front()),
                Open::Live | Open::Ready => Ok(probe(larder, open)),
                Open::Metrics => Ok(health::metrics(larder)),
                Open::Exchange => exchange::answer(asked, body, line).await,
                Open::Nowhere => Err(nothing_there()),
            }
        }
        Route::Api(operation) => {
            if let Err(problem) = caller {
                return Ok(api::refused(problem));
            }
            let root = host.root(&snapshot.config, asked.peer.over_tls);
            Ok(api::answer(asked, operation, body, &root).await)
        }
        Route::Repository(InRepository::Decide) => {
            route.takes(&parts.method)?;
            decide(asked, &caller?).await
        }
        Route::Repository(InRepository::Package {
            format,
            repository,
            rest,
            run,
        }) => {
            let place = Place {
                format,
                repository: Some(repository),
                rest,
                run,
            };
            in_repository(asked, place, &host, caller, body, line).await
        }
        Route::Repository(InRepository::NpmAtRoot { rest, tag }) => {
            let place = Place {
                format: Format::Npm,
                repository: tag.map(|tag| tag.repository),
                rest,
                run: tag.map(|tag| tag.run),
            };
            in_repository(asked, place, &host, caller, body, line).await
        }
    }
}

/// Whether Larder lives, or is ready.
fn probe(larder: &Larder, open: Open) -> Answer {
    match open {
        Open::Ready => health::ready(larder),
        _ => health::live(),
    }
}

fn nothing_there() -> Problem {
    Problem::not_found(Decider::Larder, "there is nothing at this path").advice(
        "the formats are at /npm/, /pypi/, /maven/ and /nuget/, each with a repository's name behind it",
    )
}

async fn decide(asked: Asked<'_>, caller: &Caller) -> Result<Answer, Problem> {
    let permissions = asked.permissions(caller);
    let question = health::DecideQuery::read(asked.parts.uri.query())?;
    let admitted = permissions.admit_to_read(&question.repository)?;
    let repositories = &asked.larder.repositories;
    let repository = repositories.readable(asked.snapshot, &admitted)?;
    let explainer = repository.explain(&question.package);
    health::decision(explainer, question.version.as_deref()).await
}

/// Where in which repository something is asked for.
struct Place<'a> {
    format: Format,
    /// `None`: the first one.
    repository: Option<&'a str>,
    rest: &'a str,
    run: Option<&'a str>,
}

impl Place<'_> {
    fn repository<'s>(&self, snapshot: &'s Snapshot) -> Result<&'s Arc<Repository>, Problem> {
        match (self.repository, &snapshot.first) {
            (Some(name), _) => snapshot.repository(name),
            (None, Some(first)) => Ok(first),
            (None, None) => Err(Problem::not_found(
                Decider::Larder,
                "there are no repositories",
            )),
        }
    }

    /// The repository's address as the client reaches it.
    fn address(&self, asked: Asked<'_>, host: &Host, repository: &Repository) -> Address {
        let root = host.root(&asked.snapshot.config, asked.peer.over_tls);
        let run = self
            .run
            .map_or_else(String::new, |run| format!("/-/run/{run}"));
        Address {
            base: format!("{root}{run}/{}/{}/", self.format, repository.name),
            // Under `larder run`, npm itself puts our host in the place of upstream's.
            kept: self.run.is_some() && is_npm(&asked.parts.headers),
        }
    }
}

/// The part of the repository that a change needs permission for.
fn within<'c>(change: &'c Change, repository: &Repository, format: Format) -> Within<'c> {
    let is_forwarded = !matches!(repository.publish, Publish::Local);
    match change.package() {
        Some(package) => Within::Package(package),
        None if is_forwarded => Within::EveryPackage(format),
        None => Within::PackageInBody(format),
    }
}

/// Explains a wrong path only to callers who may read the repository. Others are refused, and learn
/// nothing about it.
fn told_to_readers(permissions: &Permissions<'_>, repository: &str, problem: Problem) -> Problem {
    match permissions.admit_to_read(repository) {
        Ok(_) => problem,
        Err(refusal) => refusal,
    }
}

async fn in_repository(
    asked: Asked<'_>,
    place: Place<'_>,
    host: &Host,
    caller: Result<Caller, Problem>,
    body: &SharedBody,
    line: &mut Line,
) -> Result<Answer, Problem> {
    let Asked {
        larder,
        snapshot,
        parts,
        ..
    } = asked;
    let caller = caller?;
    let permissions = asked.permissions(&caller);
    let repository = match (place.repository(snapshot), place.repository) {
        (Ok(repository), _) => repository,
        (Err(problem), Some(name)) => return Err(told_to_readers(&permissions, name, problem)),
        (Err(problem), None) => return Err(problem),
    };
    line.subject.repository.clone_from(&repository.name);
    // One that nobody began here, before a restart of this Larder, is served and not counted.
    line.run = place.run.and_then(|run| larder.runs.begun(run));
    let parsed = place.format.protocol().parse(&ClientRequest {
        method: &parts.method,
        rest: place.rest,
        query: parts.uri.query(),
        accept: asked.head().text(ACCEPT),
    });
    let target = match parsed {
        Ok(target) => target,
        Err(problem) => return Err(told_to_readers(&permissions, &repository.name, problem)),
    };
    let action = access::action_of(&target);
    line.asked(&caller.principal, action);
    match target {
        Target::Change(change) => {
            if let Some(package) = change.package() {
                line.subject.package = package.to_string();
            }
            line.subject.version = change.version().unwrap_or_default();
            let within = within(&change, repository, place.format);
            let admitted = permissions.admit_to_change(action, &repository.name, within)?;
            line.admitted(admitted.decision());
            let publishing = Publishing {
                asked,
                format: place.format,
                repository: larder.repositories.changeable(snapshot, admitted)?,
                path: match parts.uri.query() {
                    Some(query) => format!("{}?{query}", place.rest),
                    None => place.rest.to_owned(),
                },
                run: line.run.clone(),
            };
            // A publish is large enough for a place of its own; reads are not to pay for it.
            Box::pin(publishing.change(change, body.pieces(), line)).await
        }
        target => {
            let admitted = permissions.admit_to_read(&repository.name)?;
            line.admitted(admitted.decision());
            let reading = AdmittedRead {
                asked,
                protocol: place.format.protocol(),
                repository: larder.repositories.readable(snapshot, &admitted)?,
                address: place.address(asked, host, repository),
            };
            reading.answer(target, body.pieces(), line).await
        }
    }
}
