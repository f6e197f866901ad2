//! `larder run -- CMD…`

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use bytesize::ByteSize;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Global, settings, tell};
use crate::config::{Config, Connection};
use crate::package::Format;
use crate::server::Listener;
use crate::telemetry::{RUN_TAG, Report, log};
use crate::tool::client::{self, Lease};
use crate::tool::{self, Place, lockfile, maven, npm, nuget};
use crate::{Larder, clock, store};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder run -- npm install express\n  larder run -- uv sync\n  larder run -- mvn package"
)]
pub struct Arguments {
    /// The repository to use
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// The client and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The Larder that the child is pointed at.
enum Server {
    /// One that runs already; the lease keeps another run's private one alive.
    Running { _lease: Lease },
    Private {
        larder: Arc<Larder>,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<()>,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut config = settings::config(&global, Some("127.0.0.1:0".to_owned())).await?;
    if config.log.level == "info" {
        // The child's output is what the user wants to see.
        config.log.level = "error".to_owned();
    }
    log::start(&config.log).map_err(|error| settings::Usage(format!("log.level: {error}")))?;
    let repository = settings::repository(&config, arguments.repository)?;
    let upstream = config
        .connections
        .iter()
        .find(|connection| connection.format == Format::Maven)
        .map(|connection| connection.url.to_string());
    let run = format!(
        "{:x}x{:x}",
        std::process::id(),
        clock::now().as_nanosecond()
    );
    let ahead = config.ahead.clone();
    let learned = config
        .connections
        .iter()
        .find(|connection| connection.format == Format::Npm && connection.is_learned)
        .cloned();
    let (address, server) = server(config, &run, learned.as_ref()).await?;
    let place = Place {
        root: format!("{address}/-/run/{run}"),
        repository,
    };
    let files = tempfile::Builder::new().prefix("larder-run-").tempdir()?;
    let began = clock::system_now();
    let tag = format!("{RUN_TAG}{run}.{}", place.repository);
    let child = start(
        &arguments.command,
        &place,
        &tag,
        files.path(),
        upstream.as_deref(),
        learned.as_ref(),
    )?;
    let tarballs = tarballs_ahead(&arguments.command, &address, &place.repository);
    let ahead = ahead
        .enabled
        .then(|| tokio::spawn(client::fetch_ahead(tarballs, ahead.at_once)));
    let status = wait(child).await?;
    if let Some(ahead) = ahead {
        ahead.abort();
    }
    let report = client::report(&address, &run, &place.repository).await;
    if let Ok(report) = &report {
        restore(began, &place, report);
        tell(&closing_line(report));
    }
    finish(server).await;
    Ok(exit_code(status))
}

/// Finds the Larder that holds the data directory, or starts a private one.
async fn server(
    config: Config,
    run: &str,
    learned: Option<&Connection>,
) -> anyhow::Result<(String, Server)> {
    let publish_to = learned.map(|connection| connection.url.to_string());
    let data_dir = config.data_dir.clone();
    let larder = match Larder::start(config).await {
        Ok(larder) => larder,
        Err(crate::StartError::Store(store::Error::Held { path, holder })) => {
            let address = holder.address.clone().with_context(|| {
                format!(
                    "the data directory {} is held by {holder}, which serves nothing",
                    path.display()
                )
            })?;
            let lease = client::lease(&address, run, publish_to.as_deref()).await?;
            return Ok((address, Server::Running { _lease: lease }));
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("no Larder can be started in {}", data_dir.display()));
        }
    };
    let listener = Listener::bind(&larder).await?;
    let address = listener.url();
    larder.store.announce(&address);
    if let Some(registry) = publish_to {
        let _ = larder.runs.run(run).publish_to.set(registry);
    }
    let stop = CancellationToken::new();
    let served = tokio::spawn(listener.serve(stop.clone()));
    Ok((
        address,
        Server::Private {
            larder,
            stop,
            served,
        },
    ))
}

/// The addresses of what npm will fetch by the lockfile in this folder; outside the run, whose
/// counters are about what the client asks for.
fn tarballs_ahead(command: &[OsString], address: &str, repository: &str) -> Vec<String> {
    let word = |at: usize| command.get(at).and_then(|word| word.to_str());
    let name = word(0).and_then(|program| Path::new(program).file_name()?.to_str());
    let installs = matches!(word(1), Some("ci" | "clean-install" | "install" | "i"));
    if name != Some("npm") || !installs {
        return Vec::new();
    }
    let lockfile = npm::LOCKFILES
        .iter()
        .find_map(|name| tool::read(Path::new(name)));
    let paths = lockfile.map_or_else(Vec::new, |text| npm::tarballs(&text));
    paths
        .into_iter()
        .map(|path| format!("{address}/npm/{repository}/{path}"))
        .collect()
}

/// Starts the client with all that points it at us.
fn start(
    command: &[OsString],
    place: &Place,
    tag: &str,
    files: &Path,
    upstream: Option<&str>,
    learned: Option<&Connection>,
) -> anyhow::Result<Child> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let named = |what: &str| {
        arguments
            .iter()
            .any(|argument| argument.to_string_lossy().ends_with(what))
    };
    let mut child = Command::new(program);
    let mut before: Vec<OsString> = Vec::new();
    let mut after: Vec<OsString> = Vec::new();
    match name {
        "mvn" | "mvnw" | "mvnd" => {
            // Maven before 3.9 has no variable for a settings file.
            let file = files.join("settings.xml");
            tool::write(&file, &maven::settings(place))?;
            before.extend(["-s".into(), file.into()]);
        }
        "gradle" | "gradlew" => {
            let file = files.join("larder.gradle");
            tool::write(&file, &maven::gradle_script(place, upstream))?;
            before.extend(["--init-script".into(), file.into()]);
        }
        "nuget" | "nuget.exe" => after.extend(nuget_arguments(place, files)?),
        "mono" if named("nuget.exe") => after.extend(nuget_arguments(place, files)?),
        _ => {}
    }
    child.args(before).args(arguments).args(after);
    child.envs(tool::environment(place));
    // What npm would have sent to its registry with a publish, it sends to us for it.
    let auth = learned.and_then(|connection| connection.auth.as_ref());
    if let Some(text) = auth.and_then(|auth| npm::settings_with(place, auth)) {
        let file = files.join("npmrc");
        tool::write(&file, &text)?;
        child.env("npm_config_userconfig", &file);
        child.env("NPM_CONFIG_USERCONFIG", &file);
    }
    if matches!(name, "npm" | "npx") {
        // npm fills in the braces; the rest is its own default.
        child.env(
            "npm_config_user_agent",
            format!("npm/{{npm-version}} node/{{node-version}} {{platform}} {{arch}} workspaces/{{workspaces}} {{ci}} {tag}"),
        );
    }
    if name == "pipenv" {
        // It would write pip's index into the Pipfile; the mirror stands for the index there.
        child.env_remove("PIP_INDEX_URL");
    }
    store::private::leave_umask(child.as_std_mut());
    child
        .spawn()
        .with_context(|| format!("{} cannot be started", Path::new(program).display()))
}

fn nuget_arguments(place: &Place, files: &Path) -> anyhow::Result<[OsString; 2]> {
    let file = files.join("NuGet.Config");
    tool::write(&file, &nuget::config(place))?;
    Ok(["-ConfigFile".into(), file.into()])
}

/// Waits for the child; it gets a terminal's Ctrl-C by itself, and our SIGTERM from us.
async fn wait(mut child: Child) -> anyhow::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
            }
        }
    }
}

/// Takes our address out of the lockfiles that the child wrote.
fn restore(began: SystemTime, place: &Place, report: &Report) {
    let Ok(folder) = std::env::current_dir() else {
        return;
    };
    match lockfile::restore_all(&folder, began, place, &report.upstreams) {
        Ok(restored) if !restored.is_empty() => tell(&format!(
            "larder: {} names upstream again",
            restored.join(", ")
        )),
        Ok(_) => {}
        Err(error) => tell(&format!(
            "larder: a lockfile still names this proxy: {error}"
        )),
    }
}

fn closing_line(report: &Report) -> String {
    let counts = &report.counts;
    let bytes = |count| ByteSize(count).display().iec();
    let failures = match counts.failures {
        0 => String::new(),
        count => format!(", {count} refused or failed"),
    };
    format!(
        "larder: {} requests, {} hits, {} served, {} fetched, {:.1} s of waiting saved{failures}",
        counts.requests,
        counts.hits,
        bytes(counts.served_bytes),
        bytes(counts.fetched_bytes),
        std::time::Duration::from_millis(counts.saved_ms).as_secs_f64()
    )
}

/// Stops a private Larder once no other run uses it.
async fn finish(server: Server) {
    let Server::Private {
        larder,
        stop,
        served,
    } = server
    else {
        return;
    };
    if larder.runs.leases() > 0 {
        tell("larder: another `larder run` still uses this one, waiting for it");
        larder.runs.unused().await;
    }
    stop.cancel();
    let _ = served.await;
    larder.stop().await;
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
