//! `larder spool [retry|drop]`

use std::process::ExitCode;

use bytesize::ByteSize;
use jiff::Timestamp;

use super::control;
use super::{Global, Output, progress, settings};
use crate::format::counted;
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder spool\n  larder spool retry\n  larder spool drop 5f0c1a2b3c4d"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Send one publish now, or all that wait
    Retry {
        /// The publish's id, as `larder spool` shows it; without it, all
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Give a publish up; its files are deleted
    Drop {
        /// The publish's id
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        None => ManageCommand::Spool,
        Some(Action::Retry { id }) => ManageCommand::SpoolRetry { id },
        Some(Action::Drop { id }) => ManageCommand::SpoolDrop { id },
    };
    let work = control::execute(config, command);
    let outcome = progress::beside(output, "Asking the spool", work).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &ManageOutcome) -> Vec<String> {
    let ManageOutcome::Spool { waiting } = outcome else {
        return Vec::new();
    };
    if waiting.is_empty() {
        return vec!["No publishes wait.".to_owned()];
    }
    let time =
        |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
    waiting
        .iter()
        .map(|one| {
            format!(
                "{}  {} {} to `{}`, {}, since {}, {}, {}{}",
                one.id,
                one.method,
                one.path,
                one.connection,
                ByteSize(one.size).display().iec(),
                time(one.queued_at),
                counted(one.attempts, "attempt"),
                if one.set_aside {
                    "refused".to_owned()
                } else {
                    format!("next {}", time(one.next_at))
                },
                if one.said.is_empty() {
                    String::new()
                } else {
                    format!(": {}", one.said)
                }
            )
        })
        .collect()
}
