//! `larder pin [PATTERN…]` and `larder unpin PATTERN…`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::{Global, control, settings};
use crate::repository::upkeep::{Command, Outcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Patterns are those of rules. What is pinned is never evicted, nor are its packages' documents.\n\nExamples:\n  larder pin                                what is pinned\n  larder pin npm:@acme/* 'pypi:numpy@<2'\n  larder pin '*'                            everything that is here and will be"
)]
pub struct Arguments {
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  larder unpin npm:@acme/*")]
pub struct UnpinArguments {
    /// As it was pinned
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let patterns = arguments.patterns;
    carry_out(
        global,
        if patterns.is_empty() {
            Command::Pins
        } else {
            Command::Pin { patterns }
        },
    )
    .await
}

pub async fn unpin(global: Global, arguments: UnpinArguments) -> anyhow::Result<ExitCode> {
    let patterns = arguments.patterns;
    carry_out(global, Command::Unpin { patterns }).await
}

async fn carry_out(global: Global, command: Command) -> anyhow::Result<ExitCode> {
    let config = settings::config(&global, None).await?;
    let outcome = control::execute_upkeep(config, command).await?;
    control::show(&global, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let Outcome::Pins { pins, kept } = outcome else {
        return Vec::new();
    };
    let mut lines: Vec<String> = pins.iter().map(|pin| pin.pattern.clone()).collect();
    lines.push(format!(
        "{} files, {}, are never evicted: pinned, retained, published, or out of a bundle",
        kept.files,
        ByteSize(kept.bytes).display().iec()
    ));
    lines
}
