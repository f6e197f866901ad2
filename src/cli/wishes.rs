//! `larder wishes`

use std::process::ExitCode;

use super::control::{self, Hand};
use super::{Global, Output, settings};
use crate::airgap::{Command, Outcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder wishes\n  larder wishes --json > wishes.json     for `larder warm --wishes wishes.json` where there is a line\n  larder wishes --clear"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Forget them all
    #[arg(long)]
    clear: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let hand = Hand::of(config).await?;
    let outcome = hand
        .air_gap(if arguments.clear {
            Command::ForgetWishes
        } else {
            Command::Wishes
        })
        .await;
    hand.rest().await;
    control::show(output, &outcome?, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Wishes { wishes } if wishes.is_empty() => vec!["No wishes.".to_owned()],
        Outcome::Wishes { wishes } => wishes
            .iter()
            .map(|wish| {
                let version = match wish.version.as_str() {
                    "" => String::new(),
                    version => format!("@{version}"),
                };
                let file = match wish.file.as_str() {
                    "" => String::new(),
                    file => format!("  {file}"),
                };
                format!("{}{version}{file}  {} times", wish.package, wish.times)
            })
            .collect(),
        Outcome::Forgotten { count } => vec![format!("{count} wishes forgotten")],
        _ => Vec::new(),
    }
}
