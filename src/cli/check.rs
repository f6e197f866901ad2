//! `larder check`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use super::{Global, Output, control, progress, settings, task, tell};
use crate::clock;
use crate::config::{Config, PublishSetting, RepositorySettings, RuleExpiry, SourceSetting};
use crate::connection::{Connection, Error, Opened, UpstreamRequest};
use crate::package::{Format, UpstreamPath, UpstreamUrl};
use crate::repository::Snapshot;
use crate::repository::schedule::{TaskStatus, statuses};
use crate::rule::{Action, coarse};
use crate::store::catalog::RegistryIds;
use crate::store::packages::{Examined, Tables, examine};
use crate::store::{LastBackup, TaskBook};
use crate::telemetry::Metrics;

/// A directory document has some dozens of lines.
const DIRECTORY_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  larder check --config larder.toml\n  larder check --json")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
}

/// The result of a check.
#[derive(Serialize)]
struct Findings {
    connections: Vec<Sign>,
    repositories: Vec<Draws>,
    /// Where the packages of our own are.
    packages: Place,
    /// Rules that have ended.
    ended: Vec<Ended>,
    /// The last backup of the data directory; none where there never was one.
    last_backup: Option<LastBackup>,
    /// The tasks of the configuration.
    tasks: Vec<TaskStatus>,
}

/// The state of a connection.
#[derive(Serialize)]
struct Sign {
    connection: String,
    format: &'static str,
    url: String,
    /// None where nobody is asked.
    alive: Option<bool>,
    state: State,
    says: String,
    /// None where nobody is asked.
    ms: Option<u128>,
    /// The settings of its own that say how it is asked.
    asked: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Alive,
    Dead,
    /// No packet leaves for it.
    Offline,
    /// A client of this machine is set to it, and no repository draws on it.
    Unused,
}

impl State {
    fn mark(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "DEAD",
            Self::Offline => "offline",
            Self::Unused => "unused",
        }
    }
}

/// Where the packages of our own are, and what is the matter there.
#[derive(Serialize)]
struct Place {
    /// The database without credentials, or SQLite's file; none where it could not be asked.
    at: Option<String>,
    /// A start can use it.
    usable: bool,
    says: String,
    /// The machine of another Larder that uses the database.
    held_by: Option<String>,
    pooler: bool,
    #[serde(skip)]
    is_elsewhere: bool,
    ms: u128,
}

impl Place {
    async fn of(config: &Config) -> Self {
        let started = Instant::now();
        let examined = examine(&config.data_dir, &config.packages).await;
        let place = Self {
            at: None,
            usable: examined.is_ok(),
            says: String::new(),
            held_by: None,
            pooler: false,
            is_elsewhere: config.packages.database.is_some(),
            ms: started.elapsed().as_millis(),
        };
        match examined {
            Err(error) => Self {
                says: error.to_string(),
                ..place
            },
            Ok(examined) => Self {
                says: says(&examined),
                at: Some(examined.at),
                held_by: examined.held_by,
                pooler: examined.is_pooled,
                ..place
            },
        }
    }

    fn lines(&self) -> Vec<String> {
        let Some(at) = &self.at else {
            return vec![format!("DEAD    packages: {}", self.says)];
        };
        // Nothing is to be said of a file that is as it has to be.
        if !self.is_elsewhere {
            return Vec::new();
        }
        let mut lines = vec![format!(
            "alive   packages ({at}): {}, {} ms",
            self.says, self.ms
        )];
        lines.extend(self.held_by.as_ref().map(|machine| format!(
            "note    packages: another Larder uses this database, on the machine `{machine}`; this one starts half a minute after that one has stopped"
        )));
        if self.pooler {
            lines.push(
                "note    packages: a pooler gives each transaction another connection; it is used without named statements"
                    .to_owned(),
            );
        }
        lines
    }
}

fn says(examined: &Examined) -> String {
    let tables = match examined.tables {
        Tables::Missing => "no tables yet, the first start makes them",
        Tables::Earlier => {
            "its tables are of an earlier Larder, the next start brings them up to date"
        }
        Tables::Made => "its tables are there",
    };
    match &examined.server {
        Some(server) => format!("PostgreSQL {server}, {tables}"),
        None => tables.to_owned(),
    }
}

/// A rule that has ended.
#[derive(Serialize)]
struct Ended {
    rule: String,
    action: &'static str,
    /// When it ended.
    expires: Timestamp,
    /// File and line.
    place: String,
}

impl Ended {
    /// None where the rule is still in force.
    fn of(expiry: &RuleExpiry, now: Timestamp) -> Option<Self> {
        (expiry.at <= now).then(|| Self {
            rule: expiry.rule.clone(),
            action: match expiry.action {
                Action::Allow => "allow",
                Action::Deny => "deny",
            },
            expires: expiry.at,
            place: expiry.place.clone(),
        })
    }

    fn line(&self) -> String {
        let date = self.expires.strftime("%-d %B %Y, %H:%M UTC");
        let means = match self.action {
            "allow" => "what it allowed is decided by the rules behind it",
            _ => "what it denied is no longer held back by it",
        };
        format!(
            "ended   {} rule \"{}\" ended on {date} ({}): {means}; give it a later `expires`, or take it out",
            self.action, self.rule, self.place
        )
    }
}

/// The sources of a repository.
#[derive(Serialize)]
struct Draws {
    repository: String,
    /// Repositories with packages of their own, this one among them.
    own: Vec<String>,
    /// The connections, the nearest first.
    connections: Vec<String>,
}

impl Draws {
    fn of(config: &Config, repository: &RepositorySettings) -> Self {
        let takes_publishes = |name: &str| {
            let mut all = config.repositories.iter();
            all.any(|one| one.name == name && one.publish == PublishSetting::Local)
        };
        let own = repository.sources.iter().filter_map(|source| match source {
            SourceSetting::Own(name) if takes_publishes(name) => Some(name.clone()),
            _ => None,
        });
        Self {
            repository: repository.name.clone(),
            own: own.collect(),
            connections: repository.connections().map(str::to_owned).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.connections.is_empty()
    }

    fn line(&self) -> String {
        if self.is_empty() {
            return format!(
                "EMPTY   repository `{}` draws on nothing: say external_connections, upstreams or publish = \"local\"",
                self.repository
            );
        }
        let own = self.own.iter().map(|name| format!("packages of `{name}`"));
        let all: Vec<String> = own.chain(self.connections.iter().cloned()).collect();
        format!(
            "        repository `{}` → {}",
            self.repository,
            all.join(", ")
        )
    }
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    crate::use_ring();
    let (config, remarks) = settings::learned(&global, None, &Format::SERVED).await?;
    for remark in remarks {
        tell(&format!("larder: {remark}"));
    }
    let missing = config.formats_off();
    let repositories = config.repositories.iter();
    let repositories = repositories.map(|it| Draws::of(&config, it)).collect();
    let snapshot = Snapshot::new(
        config,
        &RegistryIds::default(),
        &Arc::default(),
        None,
        &Arc::new(Metrics::default()),
    )
    .map_err(settings::UsageError)?;
    let is_unused = |connection: &Connection| {
        let mut configured = snapshot.config.connections.iter();
        let is_learned = configured.any(|it| it.name == connection.name && it.is_learned);
        let mut repositories = snapshot.config.repositories.iter();
        is_learned && !repositories.any(|it| it.connections().any(|name| name == connection.name))
    };
    let signs = snapshot.connections.iter().map(async |connection| {
        if is_unused(connection) {
            let says = "a client of this machine is set to it, and no repository draws on it";
            Sign::unasked(connection, State::Unused, says)
        } else if connection.offline {
            Sign::unasked(connection, State::Offline, "not asked")
        } else {
            sign(connection).await
        }
    });
    let asking = async { tokio::join!(join_all(signs), Place::of(&snapshot.config)) };
    let (signs, packages) = progress::beside(output, "Asking the registries", asking).await;
    let now = clock::now();
    let expiries = snapshot.config.expiries.iter();
    let findings = Findings {
        connections: signs,
        repositories,
        packages,
        ended: expiries.filter_map(|it| Ended::of(it, now)).collect(),
        last_backup: LastBackup::of(&snapshot.config.data_dir),
        tasks: statuses(
            &snapshot.config.tasks,
            &TaskBook::of(&snapshot.config.data_dir),
            now,
        ),
    };
    let proxied = snapshot.connections.iter();
    let proxied = proxied.filter(|it| it.proxies.lead_to(&it.url));
    control::show(output, &findings, |findings| {
        let mut lines: Vec<String> = findings.connections.iter().map(Sign::line).collect();
        lines.extend(findings.repositories.iter().map(Draws::line));
        lines.extend(findings.packages.lines());
        lines.extend(findings.ended.iter().map(Ended::line));
        let mut repositories = snapshot.config.repositories.iter();
        let takes_publishes = repositories.any(|it| it.publish == PublishSetting::Local);
        if takes_publishes || findings.last_backup.is_some() {
            lines.push(format!(
                "backup  {}",
                backup_line(findings.last_backup.as_ref(), now)
            ));
        }
        let tasks = findings.tasks.iter();
        lines.extend(tasks.map(|task| format!("task    {}", task::line(task, now))));
        lines.extend(proxied.map(|connection| format!(
            "note    {:6} {} is asked by way of a proxy, which resolves names by itself: addresses that its documents name are judged by how they are written alone",
            connection.format.as_str(),
            connection.name
        )));
        lines.extend(missing.iter().map(|format| format!(
            "off     {format:6} no client of it is set up here; add a [[connection]] with format = \"{format}\""
        )));
        lines
    })?;
    let is_empty = findings.repositories.iter().any(Draws::is_empty);
    let is_dead = |sign: &Sign| sign.state == State::Dead;
    if is_empty || !findings.packages.usable || findings.connections.iter().any(is_dead) {
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// How old the last backup is.
pub fn backup_line(last: Option<&LastBackup>, now: Timestamp) -> String {
    let Some(last) = last else {
        return "there is none of what is published here; `larder backup --out PATH` makes one"
            .to_owned();
    };
    let age = Duration::try_from(now.duration_since(last.at)).unwrap_or_default();
    let date = last.at.strftime("%-d %B %Y, %H:%M UTC");
    format!(
        "the last one is {} old, of {date}, in {}",
        coarse(age),
        last.out.display()
    )
}

impl Sign {
    /// The sign of a connection that nobody asks.
    fn unasked(connection: &Connection, state: State, says: &str) -> Self {
        Self {
            connection: connection.name.clone(),
            format: connection.format.as_str(),
            url: connection.url.to_string(),
            alive: None,
            state,
            says: says.to_owned(),
            ms: None,
            asked: connection.told_settings(),
        }
    }

    fn line(&self) -> String {
        let took = self.ms.map_or_else(String::new, |ms| format!(", {ms} ms"));
        let asked = self.asked.iter().map(|it| format!("; {it}"));
        let asked: String = asked.collect();
        format!(
            "{:7} {:6} {} ({}): {}{took}{asked}",
            self.state.mark(),
            self.format,
            self.connection,
            self.url,
            self.says
        )
    }
}

/// Why an address that the registry's directory document names will not be asked.
async fn refused_address(connection: &Connection, opened: Opened) -> Option<String> {
    let directory = connection.format.protocol().directory()?;
    let document = match opened.body(DIRECTORY_BYTES_MAX).await {
        Ok(document) => document,
        Err(error) => return Some(error.to_string()),
    };
    let mut services = directory.services(&document).into_iter();
    services.find_map(|url| Some(connection.reach().admit(&url).err()?.to_string()))
}

async fn sign(connection: &Connection) -> Sign {
    let started = Instant::now();
    // npm's root may be a page of megabytes or nothing at all.
    let ping = UpstreamPath::new("-/ping").below(&connection.url);
    let url = match (connection.format, ping) {
        (Format::Npm, Some(ping)) => ping,
        _ => UpstreamUrl::configured(&connection.url),
    };
    let method = if connection.format == Format::Nuget {
        Method::GET
    } else {
        Method::HEAD
    };
    let ask = UpstreamRequest {
        method,
        ..UpstreamRequest::get(url, "*/*", Duration::from_secs(10))
    };
    let (alive, says) = match connection.ask(&ask).await {
        Ok(opened) => {
            let status = opened.status.as_u16();
            match refused_address(connection, opened).await {
                None => (true, format!("answers {status}")),
                Some(why) => (false, format!("answers {status}, but {why}")),
            }
        }
        // Some have nothing at their root; they are there all the same.
        Err(error @ (Error::Absent | Error::Gone)) => (true, format!("answers, though {error}")),
        Err(error) => (false, error.to_string()),
    };
    let state = if alive { State::Alive } else { State::Dead };
    Sign {
        alive: Some(alive),
        ms: Some(started.elapsed().as_millis()),
        ..Sign::unasked(connection, state, &says)
    }
}
