//! `larder check`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use serde::Serialize;

use super::{Global, print, settings, tell};
use crate::connection::{Ask, Connection, Error, Opened, is_proxied};
use crate::package::{Format, UpstreamPath, UpstreamUrl};
use crate::repository::Snapshot;
use crate::telemetry::Metrics;

/// A directory document has some dozens of lines.
const DIRECTORY_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  larder check --config larder.toml\n  larder check --json")]
pub struct Arguments {}

#[derive(Serialize)]
struct Sign {
    connection: String,
    format: &'static str,
    url: String,
    alive: bool,
    says: String,
    ms: u128,
}

pub async fn run(global: Global, _arguments: Arguments) -> anyhow::Result<ExitCode> {
    crate::use_ring();
    let (config, remarks) = settings::learned(&global, None, &Format::SERVED).await?;
    for remark in remarks {
        tell(&format!("larder: {remark}"));
    }
    let missing = config.formats_off();
    let snapshot = Snapshot::new(config, &Arc::default(), None, &Arc::new(Metrics::default()))
        .map_err(settings::Usage)?;
    let signs = join_all(
        snapshot
            .connections
            .iter()
            .map(|connection| sign(connection)),
    )
    .await;
    if global.json {
        print(&serde_json::to_string_pretty(&signs)?);
    } else {
        for sign in &signs {
            let mark = if sign.alive { "alive" } else { "DEAD " };
            print(&format!(
                "{mark} {:6} {} ({}): {}, {} ms",
                sign.format, sign.connection, sign.url, sign.says, sign.ms
            ));
        }
        let proxied = snapshot.connections.iter().filter(|it| is_proxied(&it.url));
        for connection in proxied {
            print(&format!(
                "note  {:6} {} is asked by way of a proxy, which resolves names by itself: addresses that its documents name are judged by how they are written alone",
                connection.format.as_str(),
                connection.name
            ));
        }
        for format in missing {
            print(&format!(
                "off   {format:6} no client of it is set up here; add a [[connection]] with format = \"{format}\""
            ));
        }
    }
    let all = signs.iter().all(|sign| sign.alive);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
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
    let ask = Ask {
        method,
        ..Ask::get(url, "*/*", Duration::from_secs(10))
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
