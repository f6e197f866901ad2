//! `larder events [replay]`

use std::process::ExitCode;

use jiff::Timestamp;

use super::control;
use super::{Global, Output, settings};
use crate::format::counted;
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Events go to each [[target]] of the configuration whose pattern lets them through. One that was not taken after many attempts is dead, until it is sent again.\n\nExamples:\n  larder events\n  larder events --state dead --json\n  larder events replay\n  larder events replay 5f0c1a2b3c4d5e6f5f0c1a2b3c4d5e6f"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Option<Action>,
    /// Only events in this state: waiting, delivered, or dead (given up)
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "delivered", "dead"])]
    state: Option<String>,
    /// The most events to show, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Send one event again, or all that were given up
    Replay {
        /// The event's id, as `larder events` shows it; without it, all that were given up
        #[arg(value_name = "ID")]
        event: Option<String>,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        None => ManageCommand::Events {
            state: arguments.state,
            limit: arguments.limit,
        },
        Some(Action::Replay { event }) => ManageCommand::EventsReplay { event },
    };
    let outcome = control::execute(config, command).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &ManageOutcome) -> Vec<String> {
    match outcome {
        ManageOutcome::Events { deliveries } if deliveries.is_empty() => {
            vec!["No events.".to_owned()]
        }
        ManageOutcome::Events { deliveries } => deliveries
            .iter()
            .map(|one| {
                let at = Timestamp::from_millisecond(one.created_at).unwrap_or_default();
                let attempts = counted(one.attempts, "attempt");
                format!(
                    "{}  {at:.0}  {}: {} after {attempts}, {}  {}",
                    one.event, one.target, one.state, one.subject, one.said
                )
                .trim_end()
                .to_owned()
            })
            .collect(),
        ManageOutcome::Replayed { count } => vec![format!("{count} sent again")],
        _ => Vec::new(),
    }
}
