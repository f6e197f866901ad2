//! `larder serve`

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
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
    let mut signals = Signals::listen()?;
    larder.store.directory().announce(&listener.url());
    larder.keep_schedule();
    info!(address = listener.url(), "Serving {}", listener.url());
    let served = async {
        let deadline = listener.serve(stop.clone()).await;
        larder.stop_by(deadline).await;
    };
    tokio::select! {
        () = served => {}
        code = signals.obey(&larder, &global, &arguments, &stop) => return Ok(code),
    }
    let line = closing::line(&larder.since_start().work);
    if log::is_for_people() {
        tell_at_the_end(line);
    } else {
        info!("{line}");
    }
    info!("Stopped");
    Ok(ExitCode::SUCCESS)
}

/// The operator's signals: to reload, and to stop.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads, and stops at the first signal to stop. Resolves at the second: then nothing is waited
    /// for any more.
    async fn obey(
        &mut self,
        larder: &Arc<Larder>,
        global: &Global,
        arguments: &Arguments,
        stop: &CancellationToken,
    ) -> ExitCode {
        loop {
            let number = tokio::select! {
                _ = self.hangup.recv() => {
                    reload(larder, global, arguments).await;
                    continue;
                }
                _ = self.terminate.recv() => SignalKind::terminate(),
                _ = self.interrupt.recv() => SignalKind::interrupt(),
            }
            .as_raw_value();
            if stop.is_cancelled() {
                warn!(
                    "A second signal to stop: Larder ends at once, and the next start recovers what is not written down"
                );
                return ExitCode::from(u8::try_from(128 + number).unwrap_or(1));
            }
            stop.cancel();
            end_whatever_hangs(larder.snapshot().config.server.drain);
        }
    }
}

/// How long after `server.drain` the process may live: the last notes, the databases and what blocks
/// have bounds of their own within this.
const ENDING_MAX: Duration = Duration::from_secs(8);

/// Ends the process where a stop takes longer than all its bounds together.
fn end_whatever_hangs(drain: Duration) {
    // Nothing of the runtime is asked: it may be what hangs.
    thread::spawn(move || {
        thread::sleep(drain + ENDING_MAX);
        error!(
            "Stopping hangs; Larder ends now, and the next start recovers what is not written down"
        );
        drop(log::Flush);
        std::process::exit(1);
    });
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
