//! `larder run -- CMD…`

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Global, closing, env, settings, tell};
use crate::config::{Auth, Config, ConnectionSettings, PublishSetting};
use crate::package::Format;
use crate::server::Listener;
use crate::telemetry::{ClosingReport, PublishGrant, RUN_TAG, log};
use crate::tool::client::{self, ControlClient, Lease};
use crate::tool::yarn::Berry;
use crate::tool::{self, LarderAddress, lockfile, maven, npm, nuget};
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
    Running {
        control: ControlClient,
        lease: Lease,
    },
    Private {
        larder: Arc<Larder>,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<tokio::time::Instant>,
    },
}

#[allow(clippy::disallowed_methods, reason = "a run waits for what it starts")]
pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let listen = Some("127.0.0.1:0".to_owned());
    let (mut config, remarks) = settings::learned(&global, listen, &Format::SERVED).await?;
    for remark in remarks {
        tell(&format!("larder: {remark}"));
    }
    if config.log.level == "info" {
        // The child's output is what the user wants to see.
        config.log.level = "error".to_owned();
    }
    log::start(&config.log).map_err(|error| settings::UsageError(format!("log.level: {error}")))?;
    let repository = settings::repository(&config, arguments.repository)?;
    let of_maven = |connection: &&ConnectionSettings| connection.format == Format::Maven;
    let upstream = config.connections.iter().find(of_maven);
    let upstream = upstream.map(|connection| connection.url.to_string());
    let formats = config.formats_of(&repository);
    let publishes_away = config
        .repositories
        .iter()
        .any(|one| one.name == repository && one.publish == PublishSetting::Deny);
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
    let grant = learned
        .as_ref()
        .and_then(|npm| publish_grant(npm, &run, name_of(&arguments.command)));
    let (address, mut server) = server(config, &run, grant).await?;
    let place = LarderAddress {
        root: format!("{address}/-/run/{run}"),
        repository,
    };
    let formats = match &server {
        Server::Private { .. } => formats,
        // It has a configuration of its own.
        Server::Running { control, .. } => control
            .report(&run, &place.repository)
            .await
            .map_or(formats, |report| env::known(&report)),
    };
    let files = tempfile::Builder::new().prefix("larder-run-").tempdir()?;
    let began = clock::system_now();
    let child = start(
        &arguments.command,
        &ClientSetup {
            tag: format!("{RUN_TAG}{run}.{}", place.repository),
            place: &place,
            formats: &formats,
            files: files.path(),
            upstream: upstream.as_deref(),
            learned: learned.as_ref(),
            publishes_away,
        },
    )?;
    let tarballs = tarballs_ahead(&arguments.command, &address, &place.repository);
    let ahead = ahead
        .enabled
        .then(|| tokio::spawn(client::fetch_ahead(tarballs, ahead.at_once)));
    let status = match &mut server {
        Server::Running { control, lease } => tokio::select! {
            status = wait(child) => status?,
            never = control.keep_leased(&run, lease) => match never {},
        },
        Server::Private { .. } => wait(child).await?,
    };
    if let Some(ahead) = ahead {
        ahead.abort();
    }
    let report = match &server {
        Server::Running { control, .. } => control.report(&run, &place.repository).await,
        Server::Private { larder, .. } => larder
            .report(&run, &place.repository)
            .map_err(anyhow::Error::from),
    };
    if let Ok(report) = &report {
        restore(began, &place, report);
        tell(&closing::line(&report.work));
        if let (false, Some(held)) = (status.success(), &report.work.first_held) {
            tell(&format!("larder: versions are held back: {held}"));
        }
    }
    finish(server).await;
    Ok(exit_code(status))
}

/// Finds the Larder that holds the data directory, or starts a private one.
#[allow(clippy::disallowed_methods, reason = "a run waits for what it starts")]
async fn server(
    mut config: Config,
    run: &str,
    grant: Option<PublishGrant>,
) -> anyhow::Result<(String, Server)> {
    let data_dir = config.data_dir.clone();
    let public_url = config.public_url.clone();
    // A private Larder is for this run's clients on this machine, which need not know who issues
    // the certificate that the configuration names; nor is it the one that everybody knows.
    config.tls = None;
    config.public_url = None;
    let larder = match Larder::start(config).await {
        Ok(larder) => larder,
        Err(crate::StartError::Store(store::Error::Held { path, holder })) => {
            let address = holder.address.clone().with_context(|| {
                format!(
                    "the data directory {} is held by {holder}, which serves nothing",
                    path.display()
                )
            })?;
            let control = ControlClient::of(&path)?;
            let lease = control.lease(run, grant.as_ref()).await?;
            let address = env::client_address(address, public_url.as_ref(), None).await;
            return Ok((address, Server::Running { control, lease }));
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("no Larder can be started in {}", data_dir.display()));
        }
    };
    let listener = Listener::bind(&larder).await?;
    let address = listener.url();
    larder.store.directory().announce(&address);
    let begun = larder.runs.run(run);
    if let Some(grant) = grant {
        let _ = begun.publish.set(grant);
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

/// The address and the credential by which Larder passes npm's publishes on to the registry that
/// npm is set to. None where npm has no credential for it.
fn publish_grant(npm: &ConnectionSettings, run: &str, program: &str) -> Option<PublishGrant> {
    let Some(Auth::Header { name, value }) = &npm.auth else {
        return None;
    };
    let clients = npm::publishers(program);
    name.eq_ignore_ascii_case("authorization")
        .then(|| PublishGrant::new(&npm.url, value, run, clients))
}

/// The command's program, without its folder.
fn name_of(command: &[OsString]) -> &str {
    command
        .first()
        .and_then(|program| Path::new(program).file_name()?.to_str())
        .unwrap_or_default()
}

/// Everything that is needed to point a client at this Larder.
struct ClientSetup<'a> {
    place: &'a LarderAddress,
    /// The formats that we serve. Clients of other formats are left alone.
    formats: &'a [Format],
    /// npm's word in its `User-Agent`.
    tag: String,
    files: &'a Path,
    /// Maven's registry, for builds that write it out.
    upstream: Option<&'a str>,
    /// npm's registry, where it was learned.
    learned: Option<&'a ConnectionSettings>,
    /// Our repository takes no publishes: they are for the client's own registry.
    publishes_away: bool,
}

/// Starts the client with all that points it at us.
fn start(command: &[OsString], setup: &ClientSetup<'_>) -> anyhow::Result<Child> {
    let ClientSetup { place, files, .. } = setup;
    let serves = |format: Format| setup.formats.contains(&format);
    let (program, arguments) = command.split_first().context("there is no command")?;
    let name = name_of(command);
    let named = |what: &str| {
        arguments
            .iter()
            .any(|argument| argument.to_string_lossy().ends_with(what))
    };
    let mut child = Command::new(program);
    let mut before: Vec<OsString> = Vec::new();
    let mut after: Vec<OsString> = Vec::new();
    match name {
        "mvn" | "mvnw" | "mvnd" if serves(Format::Maven) => {
            // Maven before 3.9 has no variable for a settings file.
            let file = files.join("settings.xml");
            tool::write(&file, &maven::settings(place))?;
            before.extend(["-s".into(), file.into()]);
        }
        "gradle" | "gradlew" if serves(Format::Maven) => {
            let file = files.join("larder.gradle");
            tool::write(&file, &maven::gradle_script(place, None, setup.upstream))?;
            before.extend(["--init-script".into(), file.into()]);
        }
        // Commands that push or change settings are about the user's own sources.
        "nuget" | "nuget.exe" if serves(Format::Nuget) && reads(arguments.first()) => {
            after.extend(nuget_arguments(place, files)?);
        }
        "mono" if serves(Format::Nuget) && named("nuget.exe") && reads(arguments.get(1)) => {
            after.extend(nuget_arguments(place, files)?);
        }
        _ => {}
    }
    let mut missing = tool::formats_of_command(name).to_vec();
    missing.retain(|format| !serves(*format));
    if let Some(line) = tool::left_alone(&missing) {
        tell(&line);
    }
    child.args(before).args(arguments).args(after);
    child.envs(tool::environment(place, setup.formats));
    if serves(Format::Npm) && setup.publishes_away {
        child.envs(Berry::read().environment(&place.host()));
    }
    // npm sends Larder the credential that it would have sent to its registry with a publish.
    let learned = setup.learned.filter(|_| serves(Format::Npm));
    let auth = learned.and_then(|connection| connection.auth.as_ref());
    if let Some(text) = auth.and_then(|auth| npm::settings_with(place, auth)) {
        let file = files.join("npmrc");
        tool::write(&file, &text)?;
        child.env("npm_config_userconfig", &file);
        child.env("NPM_CONFIG_USERCONFIG", &file);
    }
    if matches!(name, "npm" | "npx") && serves(Format::Npm) {
        // npm fills in the braces; the rest is its own default.
        child.env(
            "npm_config_user_agent",
            format!("npm/{{npm-version}} node/{{node-version}} {{platform}} {{arch}} workspaces/{{workspaces}} {{ci}} {}", setup.tag),
        );
    }
    if name == "pipenv" && serves(Format::Pypi) {
        // It would write pip's index into the Pipfile; the mirror stands for the index there.
        child.env_remove("PIP_INDEX_URL");
    }
    store::private::leave_umask(child.as_std_mut());
    child
        .spawn()
        .with_context(|| format!("{} cannot be started", Path::new(program).display()))
}

/// Whether a command of nuget.exe's fetches packages.
fn reads(command: Option<&OsString>) -> bool {
    let command = command.map(|word| word.to_string_lossy().to_lowercase());
    matches!(
        command.as_deref(),
        Some("install" | "restore" | "update" | "list" | "search")
    )
}

fn nuget_arguments(place: &LarderAddress, files: &Path) -> anyhow::Result<[OsString; 2]> {
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
fn restore(began: SystemTime, place: &LarderAddress, report: &ClosingReport) {
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
    match served.await {
        Ok(deadline) => larder.stop_by(deadline).await,
        Err(_) => larder.stop().await,
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
