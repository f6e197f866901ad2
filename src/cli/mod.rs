//! Runs the commands. Nothing else in Larder prints.

mod backup;
#[cfg(test)]
mod bounds;
mod check;
mod closing;
mod completions;
mod connection;
mod control;
mod copy;
mod decide;
mod delete;
mod encrypt;
mod env;
mod events;
mod export;
mod gc;
mod help;
mod import;
mod key;
mod list;
mod login;
mod man;
mod packages;
mod pin;
mod policy;
mod progress;
#[cfg(test)]
mod reference;
mod report;
mod restore;
mod retain;
mod run;
mod serve;
mod settings;
mod spool;
mod status;
mod table;
mod token;
mod verify;
mod wait;
mod warm;
mod wishes;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use clap::{FromArgMatches as _, Parser, Subcommand};

use crate::allocator;
use crate::config::Faults;
use crate::format::plain;
use crate::problem::{Kind, Problem};
use crate::store::private;
use crate::telemetry::log;

/// A fast pull-through artifact proxy for npm, PyPI, Maven and NuGet.
#[derive(Parser)]
#[command(name = "larder", version)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Global {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "LARDER_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// The data directory, with packages and databases
    #[arg(
        long,
        global = true,
        env = "LARDER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    data_dir: Option<PathBuf>,
}

/// How a command prints its result.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command with everything it fetches going through Larder
    Run(run::Arguments),
    /// Serve packages until told to stop (SIGTERM drains, SIGHUP reloads the configuration)
    Serve(serve::Arguments),
    /// Wait until Larder serves
    Wait(wait::Arguments),
    /// Print the settings that point this shell's clients at Larder
    Env(env::Arguments),
    /// Write Larder into a client's own configuration; everything else in it stays
    Login(login::Arguments),
    /// Check the configuration, name every mistake, and ask each upstream for an answer
    Check(check::Arguments),
    /// List the registries of which something is stored, or say that one has moved
    Connection(connection::Arguments),
    /// List a repository's packages, or the versions of one package
    List(list::Arguments),
    /// Say why a package version is served or held back
    WhoDecides(decide::Arguments),
    /// Copy package versions to another repository, without copying bytes
    Copy(copy::Arguments),
    /// Set the status of package versions
    Status(status::Arguments),
    /// Delete package versions
    Delete(delete::Arguments),
    /// Delete the versions that `[[retain]]` does not keep
    Retain(retain::Arguments),
    /// Show the publishes that wait for their upstream; retry or drop them
    Spool(spool::Arguments),
    /// Fetch what lockfiles and package lists need
    Warm(warm::Arguments),
    /// Write packages into a signed bundle, to carry over an air gap
    Export(export::Arguments),
    /// Import a bundle
    Import(import::Arguments),
    /// Show what clients asked for while offline that Larder does not have
    Wishes(wishes::Arguments),
    /// Report what was served, fetched and saved, and which packages are large or unused
    Report(report::Arguments),
    /// Show who took a version, and when
    Who(report::WhoArguments),
    /// Check every stored file against its digest, and fetch damaged ones again
    Verify(verify::Arguments),
    /// Delete files that nothing refers to
    Gc(gc::Arguments),
    /// Back up what cannot be fetched again: published packages, tokens, policies and pins
    Backup(backup::Arguments),
    /// Restore a backup into an empty data directory
    Restore(restore::Arguments),
    /// Move published packages between SQLite and PostgreSQL
    Packages(packages::Arguments),
    /// Protect packages from eviction, or show which are protected
    Pin(pin::Arguments),
    /// Let pinned packages be evicted again
    Unpin(pin::UnpinArguments),
    /// Encrypt the files that are stored plain, with the key of `[encryption]`
    Encrypt(encrypt::Arguments),
    /// Create, list and revoke tokens
    Token(token::Arguments),
    /// Create, list and delete access keys for the CodeArtifact API
    Key(key::Arguments),
    /// Show, put and test resource policies
    Policy(policy::Arguments),
    /// Show the events that wait for their targets; send one again
    Events(events::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
    /// Print the manual page of Larder or of one command
    Man(man::Arguments),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    allocator::set_up();
    private::close_to_others();
    let _flush = log::Flush;
    let matches = help::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let global = arguments.global;
    let result = match arguments.command {
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Man(arguments) => man::run(&arguments),
        Command::Serve(arguments) => settings::block_on(serve::run(global, arguments)),
        Command::Run(arguments) => settings::block_on(run::run(global, arguments)),
        Command::Wait(arguments) => settings::block_on(wait::run(global, arguments)),
        Command::Env(arguments) => settings::block_on(env::run(global, arguments)),
        Command::Login(arguments) => settings::block_on(login::run(global, arguments)),
        Command::Check(arguments) => settings::block_on(check::run(global, arguments)),
        Command::Connection(arguments) => settings::block_on(connection::run(global, arguments)),
        Command::List(arguments) => settings::block_on(list::run(global, arguments)),
        Command::Copy(arguments) => settings::block_on(copy::run(global, arguments)),
        Command::Status(arguments) => settings::block_on(status::run(global, arguments)),
        Command::Delete(arguments) => settings::block_on(delete::run(global, arguments)),
        Command::Retain(arguments) => settings::block_on(retain::run(global, arguments)),
        Command::Spool(arguments) => settings::block_on(spool::run(global, arguments)),
        Command::Events(arguments) => settings::block_on(events::run(global, arguments)),
        Command::Warm(arguments) => settings::block_on(warm::run(global, arguments)),
        Command::Export(arguments) => settings::block_on(export::run(global, arguments)),
        Command::Import(arguments) => settings::block_on(import::run(global, arguments)),
        Command::Report(arguments) => settings::block_on(report::run(global, arguments)),
        Command::Who(arguments) => settings::block_on(report::who(global, arguments)),
        Command::Verify(arguments) => settings::block_on(verify::run(global, arguments)),
        Command::Gc(arguments) => settings::block_on(gc::run(global, arguments)),
        Command::Backup(arguments) => settings::block_on(backup::run(global, arguments)),
        Command::Restore(arguments) => settings::block_on(restore::run(global, arguments)),
        Command::Packages(arguments) => settings::block_on(packages::run(global, arguments)),
        Command::Pin(arguments) => settings::block_on(pin::run(global, arguments)),
        Command::Unpin(arguments) => settings::block_on(pin::unpin(global, arguments)),
        Command::Wishes(arguments) => settings::block_on(wishes::run(global, arguments)),
        Command::Encrypt(arguments) => settings::block_on(encrypt::run(global, arguments)),
        Command::Token(arguments) => settings::block_on(token::run(global, arguments)),
        Command::Key(arguments) => settings::block_on(key::run(global, arguments)),
        Command::Policy(arguments) => settings::block_on(policy::run(global, arguments)),
        Command::WhoDecides(arguments) => settings::block_on(decide::run(global, arguments)),
    };
    let result = result.and_then(|code| match UNWRITTEN.get() {
        None => Ok(code),
        Some(why) => Err(anyhow::anyhow!("the result could not be written: {why}")),
    });
    result.unwrap_or_else(|error| {
        complain(&error);
        if error.is::<Faults>() || error.is::<settings::UsageError>() {
            ExitCode::from(2)
        } else {
            ExitCode::from(1)
        }
    })
}

/// Why a command failed, each cause once. A problem has its sentence for people; its cause is for
/// the log, unless something of Larder's own failed, of which this process may have no log.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = error.to_string();
    if let Some(problem) = error
        .chain()
        .next()
        .and_then(|it| it.downcast_ref::<Problem>())
        && problem.kind != Kind::Internal
    {
        return sentence;
    }
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence.push_str(": ");
            sentence.push_str(&cause);
        }
    }
    sentence
}

/// Says why it failed.
fn complain(error: &anyhow::Error) {
    tell_at_the_end(format!("larder: {}", sentence(error)));
}

/// Prints a process's last line beside its result. A pipe that nobody reads does not keep the process
/// from ending.
fn tell_at_the_end(line: String) {
    let (done, told) = mpsc::channel();
    thread::spawn(move || {
        tell(&line);
        let _ = done.send(());
    });
    let _ = told.recv_timeout(Duration::from_secs(1));
}

/// Why a line of the result could not be written, such as a full disk.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Prints a line of a result. A reader that has seen enough closes the pipe, which is no failure; any
/// other failure is the command's.
fn print(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}")
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(plain::io(&error));
    }
}

/// Prints a line beside the result, where it disturbs nobody who reads that.
fn tell(line: &str) {
    // Nobody may be reading, which is no reason to panic as `eprintln!` does.
    let _ = writeln!(std::io::stderr(), "{line}");
}
