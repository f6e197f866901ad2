//! `larder serve`

use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Global, closing, settings, tell_at_the_end};
use crate::Larder;
use crate::config::Config;
use crate::package::Format;
use crate::server::Listener;
use crate::telemetry::log;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder serve\n  larder serve --config /etc/larder/larder.toml --listen 127.0.0.1:8080"
)]
pub struct Arguments {
    /// The address to listen on
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (config, remarks) =
        settings::learned(&global, arguments.listen.clone(), &Format::SERVED).await?;
    log::start(&config.log).map_err(|error| settings::UsageError(format!("log.level: {error}")))?;
    for remark in remarks {
        warn!("Upstreams: {remark}");
    }
    announce(&config);
    let larder = Larder::start(config).await?;
    let listener = Listener::bind(&larder).await?;
    let stop = CancellationToken::new();
    // Whoever reads where it serves may send a signal at once.
    on_signals(Arc::clone(&larder), global, arguments, stop.clone())?;
    larder.store.directory().announce(&listener.url());
    info!(address = listener.url(), "Serving {}", listener.url());
    listener.serve(stop).await;
    larder.stop().await;
    let line = closing::line(&larder.since_start().work);
    if log::is_for_people() {
        tell_at_the_end(line);
    } else {
        info!("{line}");
    }
    info!("Stopped");
    Ok(ExitCode::SUCCESS)
}

/// Says which upstreams there are, and how to have those that are missing.
fn announce(config: &Config) {
    for connection in &config.connections {
        info!(connection = connection.name, format = %connection.format, url = %connection.url, "Connection `{}` to {}", connection.name, connection.url);
    }
    for format in config.formats_off() {
        warn!(%format, "{format} is off: no client of it is set up here, and no [[connection]] has format = \"{format}\"");
    }
}

fn on_signals(
    larder: Arc<Larder>,
    global: Global,
    arguments: Arguments,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let tasks = larder.tasks.clone();
    tasks.spawn_until_stop(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(&larder, &global, &arguments).await,
            }
        }
        stop.cancel();
    });
    Ok(())
}

async fn reload(larder: &Arc<Larder>, global: &Global, arguments: &Arguments) {
    let result = match settings::config(global, arguments.listen.clone()).await {
        Ok(config) => larder.reload(config).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => info!("The configuration was reloaded and is in force"),
        Err(error) => {
            error!("Reloading the configuration failed; the previous one stays in force: {error:#}")
        }
    }
}
