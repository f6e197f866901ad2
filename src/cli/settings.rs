//! From flags, file and environment to a configuration; upstreams that the machine's clients
//! know are laid underneath.

use std::future::Future;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;

use super::Global;
use crate::config::{Config, ConfigSource, Learned, load};
use crate::format::plain;
use crate::package::Format;
use crate::store;
use crate::tool::{self, OwnAddresses};

/// A command line that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// A file that the command line names, and that cannot be read.
    pub fn file(file: &Path, error: &io::Error) -> Self {
        Self(format!(
            "{} cannot be read: {}",
            file.display(),
            plain::io(error)
        ))
    }
}

/// Reads a time of the command line, such as `30s` or `3d`.
pub fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time as in 30s, 5m or 3d".to_owned())
}

/// Reads a size of the command line, such as `100MiB`.
pub fn size(text: &str) -> Result<ByteSize, String> {
    text.parse()
        .map_err(|_| "write a size as in 100MiB or 5GiB".to_owned())
}

/// Runs a command's future on a runtime of its own.
pub fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let done = runtime.block_on(work);
    // A thread that hangs on a disk, or a name that is still being resolved, keeps nobody waiting.
    runtime.shutdown_timeout(BLOCKED_MAX);
    done
}

/// How long work that blocks may take to its end when the command is done.
const BLOCKED_MAX: Duration = Duration::from_secs(1);

/// Reads the configuration file, or none.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
pub fn source(global: &Global) -> anyhow::Result<ConfigSource> {
    let (file, text) = match &global.config {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).map_err(|error| UsageError::file(file, &error))?;
            (file.display().to_string(), text)
        }
        None => ("(no configuration file)".to_owned(), String::new()),
    };
    Ok(ConfigSource {
        file,
        text,
        // A variable of somebody else's need not be text.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| {
                let value = value.to_string_lossy().into_owned();
                Some((name.into_string().ok()?, value))
            })
            .collect(),
    })
}

/// The configuration with what is learned of this machine's clients, for the formats that it names
/// no connection of.
pub async fn config(global: &Global, listen: Option<String>) -> anyhow::Result<Config> {
    Ok(learned(global, listen, &Format::SERVED).await?.0)
}

/// The configuration with what is learned of the clients of these formats alone. Beside it, a line
/// for each client that is set to this Larder itself.
pub async fn learned(
    global: &Global,
    listen: Option<String>,
    formats: &[Format],
) -> anyhow::Result<(Config, Vec<String>)> {
    let source = source(global)?;
    let mut learned = Learned {
        connections: None,
        listen: None,
        data_dir: global.data_dir.clone(),
    };
    // Clients are set to the address of the configuration, whatever this command listens at.
    let configured = load(&source, &learned)?.listen;
    learned.listen = listen;
    let config = load(&source, &learned)?;
    let mut missing = config.formats_off();
    missing.retain(|format| formats.contains(format));
    if missing.is_empty() || config.offline && !config.connections.is_empty() {
        learned.connections = Some(Vec::new());
        return Ok((load(&source, &learned)?, Vec::new()));
    }
    let holder = store::holder(&config.data_dir).and_then(|holder| holder.address);
    let mut own = OwnAddresses::of(&config, holder.as_deref());
    own.add_listen(configured);
    let found = tool::learn(&missing, &own).await;
    let remarks = own.remarks(|format| found.iter().any(|one| one.format == format));
    learned.connections = Some(found);
    Ok((load(&source, &learned)?, remarks))
}

/// The repository that is meant: the one that is named, else the first.
pub fn repository(config: &Config, named: Option<String>) -> anyhow::Result<String> {
    named
        .or_else(|| Some(config.repositories.first()?.name.clone()))
        .context("there are no repositories")
}
