//! `larder check`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use serde::Serialize;

use super::{Global, Output, control, progress, settings, tell};
use crate::config::{Config, PublishSetting, RepositorySettings, SourceSetting};
use crate::connection::{Connection, Error, Opened, UpstreamRequest, is_proxied};
use crate::package::{Format, UpstreamPath, UpstreamUrl};
use crate::repository::Snapshot;
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
}

#[derive(Serialize)]
struct Sign {
    connection: String,
    format: &'static str,
    url: String,
    alive: bool,
    says: String,
    ms: u128,
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
                "EMPTY repository `{}` draws on nothing: say external_connections, upstreams or publish = \"local\"",
                self.repository
            );
        }
        let own = self.own.iter().map(|name| format!("packages of `{name}`"));
        let all: Vec<String> = own.chain(self.connections.iter().cloned()).collect();
        format!(
            "      repository `{}` → {}",
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
    let snapshot = Snapshot::new(config, &Arc::default(), None, &Arc::new(Metrics::default()))
        .map_err(settings::UsageError)?;
    let signs = snapshot.connections.iter().map(|it| sign(it));
    let signs = progress::beside(output, "Asking the registries", join_all(signs)).await;
    let findings = Findings {
        connections: signs,
        repositories,
    };
    let proxied = snapshot.connections.iter().filter(|it| is_proxied(&it.url));
    control::show(output, &findings, |findings| {
        let mut lines: Vec<String> = findings.connections.iter().map(Sign::line).collect();
        lines.extend(findings.repositories.iter().map(Draws::line));
        lines.extend(proxied.map(|connection| format!(
            "note  {:6} {} is asked by way of a proxy, which resolves names by itself: addresses that its documents name are judged by how they are written alone",
            connection.format.as_str(),
            connection.name
        )));
        lines.extend(missing.iter().map(|format| format!(
            "off   {format:6} no client of it is set up here; add a [[connection]] with format = \"{format}\""
        )));
        lines
    })?;
    let is_empty = findings.repositories.iter().any(Draws::is_empty);
    if is_empty || findings.connections.iter().any(|sign| !sign.alive) {
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

impl Sign {
    fn line(&self) -> String {
        let mark = if self.alive { "alive" } else { "DEAD " };
        format!(
            "{mark} {:6} {} ({}): {}, {} ms",
            self.format, self.connection, self.url, self.says, self.ms
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
    Sign {
        connection: connection.name.clone(),
        format: connection.format.as_str(),
        url: connection.url.to_string(),
        alive,
        says,
        ms: started.elapsed().as_millis(),
    }
}
