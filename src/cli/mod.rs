//! Runs the commands. Nothing else in Larder prints.

mod check;
mod completions;
mod control;
mod copy;
mod decide;
mod delete;
mod encrypt;
mod env;
mod events;
mod export;
mod gc;
mod import;
mod key;
mod list;
mod login;
mod pin;
mod policy;
mod report;
mod retain;
mod run;
mod serve;
mod settings;
mod spool;
mod status;
mod table;
mod token;
mod verify;
mod warm;
mod wishes;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Faults;
use crate::store::private;
use crate::telemetry::log;

const EXAMPLES: &str = "\
Examples:
  larder run -- npm install express     any client, through a private or the running Larder
  larder serve                          the sidecar, on 127.0.0.1:5273
  eval \"$(larder env)\"                  point this shell's clients at it
  larder login --tool maven             write it into a client's own configuration
  larder check                          what is configured, learned, and alive";

/// A fast pull-through artifact proxy for npm, PyPI, Maven and NuGet.
#[derive(Parser)]
#[command(name = "larder", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Global {
    /// The configuration file
    #[arg(long, global = true, env = "LARDER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where blobs and the catalog lie
    #[arg(long, global = true, env = "LARDER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM drains, SIGHUP reads the configuration again)
    Serve(serve::Arguments),
    /// Run a client with everything it fetches going through Larder
    Run(run::Arguments),
    /// Print the settings that point this shell's clients at Larder
    Env(env::Arguments),
    /// Write Larder into a client's own configuration, losing nothing that is there
    Login(login::Arguments),
    /// Read the configuration, name every mistake, and ask each upstream for a sign of life
    Check(check::Arguments),
    /// Say why a package version is served or held back
    WhoDecides(decide::Arguments),
    /// List a repository's packages, or the versions of one
    List(list::Arguments),
    /// Copy package versions from one repository to another, without copying bytes
    Copy(copy::Arguments),
    /// Give package versions another status
    Status(status::Arguments),
    /// Delete package versions
    Delete(delete::Arguments),
    /// Delete the versions that `[[retain]]` does not keep
    Retain(retain::Arguments),
    /// Show the publishes that wait for their upstream, try them now, or give one up
    Spool(spool::Arguments),
    /// Show the events on their way to targets, or send one again
    Events(events::Arguments),
    /// Fetch what lockfiles and lists need
    Warm(warm::Arguments),
    /// Write what is here into a signed bundle, to be carried over an air gap
    Export(export::Arguments),
    /// Take a bundle in
    Import(import::Arguments),
    /// Show what was asked for offline and is not here
    Wishes(wishes::Arguments),
    /// Say what was served and fetched, what that saved, and which packages are large or unused
    Report(report::Arguments),
    /// Say who took a version, and when
    Who(report::WhoArguments),
    /// Hold every stored file against its name, and fetch damaged ones again
    Verify(verify::Arguments),
    /// Take away what nothing needs
    Gc(gc::Arguments),
    /// Never evict what a pattern takes, or show what is pinned
    Pin(pin::Arguments),
    /// Let what is no longer needed be evicted again
    Unpin(pin::UnpinArguments),
    /// Seal the blobs that lie plain on the disk, under the key of `[encryption]`
    Encrypt(encrypt::Arguments),
    /// Make, list and revoke tokens
    Token(token::Arguments),
    /// Make, list and delete access keys for the CodeArtifact API
    Key(key::Arguments),
    /// Show, put and test resource policies
    Policy(policy::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    private::close_to_others();
    let _flush = log::Flush;
    let arguments = Arguments::parse();
    let global = arguments.global;
    let result = match arguments.command {
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Serve(arguments) => settings::block_on(serve::run(global, arguments)),
        Command::Run(arguments) => settings::block_on(run::run(global, arguments)),
        Command::Env(arguments) => settings::block_on(env::run(global, arguments)),
        Command::Login(arguments) => settings::block_on(login::run(global, arguments)),
        Command::Check(arguments) => settings::block_on(check::run(global, arguments)),
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
        Command::Pin(arguments) => settings::block_on(pin::run(global, arguments)),
        Command::Unpin(arguments) => settings::block_on(pin::unpin(global, arguments)),
        Command::Wishes(arguments) => settings::block_on(wishes::run(global, arguments)),
        Command::Encrypt(arguments) => settings::block_on(encrypt::run(global, arguments)),
        Command::Token(arguments) => settings::block_on(token::run(global, arguments)),
        Command::Key(arguments) => settings::block_on(key::run(global, arguments)),
        Command::Policy(arguments) => settings::block_on(policy::run(global, arguments)),
        Command::WhoDecides(arguments) => settings::block_on(decide::run(global, arguments)),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        if error.is::<Faults>() || error.is::<settings::Usage>() {
            ExitCode::from(2)
        } else {
            ExitCode::from(1)
        }
    })
}

/// Says why it failed. A pipe that nobody reads does not keep the process from ending.
fn complain(error: &anyhow::Error) {
    let line = format!("larder: {error:#}");
    let (done, told) = mpsc::channel();
    thread::spawn(move || {
        tell(&line);
        let _ = done.send(());
    });
    let _ = told.recv_timeout(Duration::from_secs(1));
}

/// Prints a line of a result.
#[allow(clippy::print_stdout, reason = "this room prints")]
fn print(line: &str) {
    println!("{line}");
}

/// Prints a line beside the result, where it disturbs nobody who reads that.
fn tell(line: &str) {
    // Nobody may be reading, which is no reason to panic as `eprintln!` does.
    let _ = writeln!(std::io::stderr(), "{line}");
}
