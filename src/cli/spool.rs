//! `larder spool [retry|drop]`

use std::process::ExitCode;

use bytesize::ByteSize;
use jiff::Timestamp;

use super::control;
use super::{Global, settings};
use crate::repository::manage::{Command, Outcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder spool\n  larder spool retry\n  larder spool drop 5f0c1a2b3c4d"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Try what waits now, one or all
    Retry {
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    /// Give one up
    Drop {
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        None => Command::Spool,
        Some(Action::Retry { id }) => Command::SpoolRetry { id },
        Some(Action::Drop { id }) => Command::SpoolDrop { id },
    };
    let outcome = control::execute(config, command).await?;
    control::show(&global, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let Outcome::Spool { waiting } = outcome else {
        return Vec::new();
    };
    if waiting.is_empty() {
        return vec!["nothing waits".to_owned()];
    }
    let time =
        |ms| Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string());
    waiting
        .iter()
        .map(|one| {
            format!(
                "{}  {} {} to `{}`, {}, since {}, {} attempts, next {}{}",
                one.id,
                one.method,
                one.path,
                one.connection,
                ByteSize(one.size).display().iec(),
                time(one.queued_at),
                one.attempts,
                time(one.next_at),
                if one.said.is_empty() {
                    String::new()
                } else {
                    format!(": {}", one.said)
                }
            )
        })
        .collect()
}
