//! Larder beside nginx and Varnish as caching proxies, on the same work in one run: warm answers,
//! cold ones, whole installs, and the process itself.
//!
//! `cargo bench --bench versus` prints Markdown tables; `-- warm --svg FILE` also draws the README's
//! chart of what it has measured, and `-- --from PAGE --svg FILE` draws it from a page's table. It needs Debian's `nginx` and `varnish`,
//! for installs also `npm` and `pip`, and no network. The servers take turns; a number is the
//! median of its rounds, with the lowest and the highest. Before a number counts, the answer's
//! digest has been held against what the registry has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench that cannot go on says so by panicking, and prints what it found"
)]

mod chart;
mod cold;
mod install;
mod load;
mod log;
mod process;
mod registry;
mod servers;
mod table;
mod upstream;
mod warm;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// What to measure, and how long.
#[derive(Parser)]
pub struct Options {
    /// `warm`, `cold`, `install`, `process` or `log`; all of them where none is said.
    only: Vec<String>,
    /// Rounds in which the servers take turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load for one warm number.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only work whose name has this in it.
    #[arg(long, default_value = "")]
    work: String,
    /// Where caches lie; a file system in memory takes the disk out of the numbers.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Draw a chart of the warm numbers into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Measure nothing, and draw the numbers of the first table of this page.
    #[arg(long, requires = "svg")]
    from: Option<PathBuf>,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() {
    larder::use_ring();
    let options = Options::parse();
    if let (Some(page), Some(file)) = (&options.from, &options.svg) {
        chart::write(&chart::read(page), chart::OF_THE_PAGE, file);
        return;
    }
    let folder = options
        .folder
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")))
        .join("versus");
    std::fs::create_dir_all(&folder).unwrap();
    let wants =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    if wants("warm") {
        warm::run(&options, &folder);
    }
    if wants("cold") {
        cold::run(&options, &folder);
    }
    if wants("install") {
        install::run(&options, &folder);
    }
    if wants("process") {
        process::run(&folder);
    }
    if wants("log") {
        log::run(&options, &folder);
    }
}
