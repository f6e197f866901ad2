//! `larder wishes`

use std::process::ExitCode;

use super::control::{self, Backend};
use super::{Global, Output, settings};
use crate::airgap::{AirgapCommand, AirgapOutcome};
use crate::format::counted;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder wishes\n  larder wishes --json > wishes.json     # for `larder warm --wishes wishes.json` where there is a line\n  larder wishes --clear"
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
    let backend = Backend::connect(config).await?;
    let outcome = backend
        .air_gap(if arguments.clear {
            AirgapCommand::ForgetWishes
        } else {
            AirgapCommand::Wishes
        })
        .await;
    backend.stop().await;
    control::show(output, &outcome?, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &AirgapOutcome) -> Vec<String> {
    match outcome {
        AirgapOutcome::Wishes { wishes } if wishes.is_empty() => vec!["No wishes.".to_owned()],
        AirgapOutcome::Wishes { wishes } => wishes
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
                let times = counted(wish.times, "time");
                let day = wish.last_at.strftime("%Y-%m-%d");
                format!("{}{version}{file}  {times}, last on {day}", wish.package)
            })
            .collect(),
        AirgapOutcome::Forgotten { count } => {
            vec![format!("{} forgotten", counted(*count, "wish"))]
        }
        _ => Vec::new(),
    }
}
