//! `larder gc [--dry-run]`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::{Global, Output, control, progress, settings};
use crate::format::counted;
use crate::repository::upkeep::{UpkeepCommand, UpkeepOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Takes away files that nothing names any more, such as documents of which there are newer ones, what a crash left behind, and lines of reports older than report.keep. What is cached, pinned, published or came in a bundle stays.\n\nExamples:\n  larder gc --dry-run\n  larder gc"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Say what would be taken away, and leave it
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let dry_run = arguments.dry_run;
    let work = control::execute_upkeep(config, UpkeepCommand::Gc { dry_run });
    let outcome = progress::beside(output, "Looking at every file", work).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &UpkeepOutcome) -> Vec<String> {
    let UpkeepOutcome::Waste { waste, dry_run } = outcome else {
        return Vec::new();
    };
    let size = |bytes: u64| ByteSize(bytes).display().iec();
    vec![
        format!(
            "{} that nothing names ({}), {} that the catalog does not know ({}), {} without a file, {} of reports",
            counted(waste.unnamed, "file"),
            size(waste.unnamed_bytes),
            waste.stray,
            size(waste.stray_bytes),
            counted(waste.gone, "row"),
            counted(waste.old_lines, "old line"),
        ),
        if *dry_run {
            "nothing is taken away".to_owned()
        } else {
            "taken away".to_owned()
        },
    ]
}
