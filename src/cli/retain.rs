//! `larder retain [--dry-run]`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::control;
use super::{Global, Output, progress, settings};
use crate::format::counted;
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "What stays is in the configuration, [[retain]]: the last so many, the newer than so old, and what a tag points to.\n\nExamples:\n  larder retain --dry-run\n  larder retain"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Say what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let command = ManageCommand::Retain {
        dry_run: arguments.dry_run,
    };
    let work = control::execute(config, command);
    let outcome = progress::beside(output, "Deleting", work).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &ManageOutcome) -> Vec<String> {
    let ManageOutcome::Retained { deleted, dry_run } = outcome else {
        return Vec::new();
    };
    let verb = if *dry_run { "would go" } else { "deleted" };
    let size: u64 = deleted.iter().map(|one| one.size).sum();
    let mut lines: Vec<String> = deleted
        .iter()
        .map(|one| {
            format!(
                "{} {} in `{}`: {verb}, {}",
                one.package,
                one.version,
                one.repository,
                ByteSize(one.size).display().iec()
            )
        })
        .collect();
    lines.push(format!(
        "{}, {}",
        counted(deleted.len(), "version"),
        ByteSize(size).display().iec()
    ));
    lines
}
