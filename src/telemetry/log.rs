//! Human lines on a terminal, JSON otherwise, always to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Sends log lines where the configuration says. A second call changes nothing.
///
/// # Errors
/// Where the level is no filter.
pub fn start(log: &Log) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&log.level)?;
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = if json {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    // In tests one process starts many.
    let _ = started;
    Ok(())
}
