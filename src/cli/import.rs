//! `larder import FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bytesize::ByteSize;

use super::control::{self, Backend};
use super::settings::UsageError;
use super::{Global, Output, progress, settings};
use crate::airgap::ImportReport;
use crate::format::counted;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Nothing of a bundle is visible before its signature and every digest in it are checked; one that is not whole is refused, and changes nothing. It may be stopped and begun again. What it brings is never evicted.\n\nExamples:\n  larder import all.larder --trust ed25519:…     # the key that `larder export` printed\n  larder import all.larder                       # with the key in bundle.trusted"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A key whose bundles are taken in, beside those of `bundle.trusted`
    #[arg(long, value_name = "KEY")]
    trust: Vec<String>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let file = tokio::fs::File::open(&arguments.file)
        .await
        .map_err(|error| UsageError::file(&arguments.file, &error))?;
    let size = file
        .metadata()
        .await
        .context("the bundle cannot be read")?
        .len();
    let backend = Backend::connect(config).await?;
    let bar = progress::bar(output, size, progress::BYTES)?;
    let report = backend.import(file, arguments.trust, bar.clone()).await;
    bar.finish_and_clear();
    backend.stop().await;
    control::show(output, &report?, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(report: &ImportReport) -> Vec<String> {
    vec![
        format!(
            "bundle {} of {} ({}), signed by {}",
            report.bundle, report.created, report.scope, report.key
        ),
        format!(
            "{} and {} added ({}), {} present, {} added, {} older than here",
            counted(report.versions_added, "version"),
            counted(report.files_added, "file"),
            ByteSize(report.bytes_added).display().iec(),
            counted(report.files_present, "file"),
            counted(report.documents_added, "document"),
            report.documents_older,
        ),
        format!(
            "{} of repositories' own added, {} present",
            counted(report.releases_added, "version"),
            report.releases_present,
        ),
    ]
}
