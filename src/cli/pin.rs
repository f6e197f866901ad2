//! `larder pin [PATTERN…]` and `larder unpin PATTERN…`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::{Global, Output, control, settings};
use crate::format::counted;
use crate::repository::upkeep::{UpkeepCommand, UpkeepOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Patterns are those of rules. What is pinned is never evicted, nor are its packages' documents.\n\nExamples:\n  larder pin                                # what is pinned\n  larder pin npm:@acme/* 'pypi:numpy@<2'\n  larder pin '*'                            # everything that is here and will be"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Packages, such as npm:left-pad@1.3.0 or npm:@acme/*; without any, show what is pinned
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  larder unpin npm:@acme/*")]
pub struct UnpinArguments {
    #[command(flatten)]
    output: Output,
    /// Patterns, written as they were pinned
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let patterns = arguments.patterns;
    carry_out(
        global,
        arguments.output,
        if patterns.is_empty() {
            UpkeepCommand::Pins
        } else {
            UpkeepCommand::Pin { patterns }
        },
    )
    .await
}

pub async fn unpin(global: Global, arguments: UnpinArguments) -> anyhow::Result<ExitCode> {
    let patterns = arguments.patterns;
    carry_out(global, arguments.output, UpkeepCommand::Unpin { patterns }).await
}

async fn carry_out(
    global: Global,
    output: Output,
    command: UpkeepCommand,
) -> anyhow::Result<ExitCode> {
    let config = settings::config(&global, None).await?;
    let outcome = control::execute_upkeep(config, command).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &UpkeepOutcome) -> Vec<String> {
    let UpkeepOutcome::Pins { pins, kept } = outcome else {
        return Vec::new();
    };
    let mut lines: Vec<String> = pins.iter().map(|pin| pin.pattern.clone()).collect();
    let are = if kept.files == 1 { "is" } else { "are" };
    lines.push(format!(
        "{}, {}, {are} never evicted: pinned, retained, published, or out of a bundle",
        counted(kept.files, "file"),
        ByteSize(kept.bytes).display().iec()
    ));
    lines
}
