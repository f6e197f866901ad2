//! `larder connection [move]`

use std::process::ExitCode;

use super::{Global, Output, control, settings};
use crate::format::counted;
use crate::repository::upkeep::{UpkeepCommand, UpkeepOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Packages are stored by the registry that they came from: its format and address, and whose credentials were sent there. Without a subcommand, these are listed.\n\nExamples:\n  larder connection\n  larder connection move https://npm.old.example/ https://npm.new.example/"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Say that the registry at a new address is the one that was at an old one: what is stored of it stays
    #[command(
        after_help = "Files stay as they are. Documents are asked for anew, and served as they are while the new address is away. Where both addresses have something, what is stored of the new one stays.\n\nExamples:\n  larder connection move https://npm.old.example/ https://npm.new.example/\n  larder connection move --format maven https://repo.old.example/m2/ https://repo.new.example/m2/"
    )]
    Move {
        /// The address that the connection had, as its `url`
        #[arg(value_name = "OLD")]
        from: String,
        /// The address that it has now
        #[arg(value_name = "NEW")]
        to: String,
        /// The registry's format, where several are at the old address
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        None => UpkeepCommand::Registries,
        Some(Action::Move { from, to, format }) => UpkeepCommand::MoveRegistry { from, to, format },
    };
    let outcome = control::execute_upkeep(config, command).await?;
    control::show(arguments.output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &UpkeepOutcome) -> Vec<String> {
    match outcome {
        UpkeepOutcome::Registries { registries } if registries.is_empty() => {
            vec!["Nothing is stored of any registry.".to_owned()]
        }
        UpkeepOutcome::Registries { registries } => registries
            .iter()
            .map(|one| {
                let realm = match one.realm.as_str() {
                    "" => String::new(),
                    name => format!(", with the credentials of `{name}`"),
                };
                format!(
                    "{:6} {}: {}, {}{realm}",
                    one.format,
                    one.url,
                    counted(one.documents, "document"),
                    counted(one.files, "file"),
                )
            })
            .collect(),
        UpkeepOutcome::Moved {
            from,
            to,
            documents,
            files,
            ..
        } => vec![format!(
            "{} and {} of {from} are of {to} from now on",
            counted(*documents, "document"),
            counted(*files, "file")
        )],
        _ => Vec::new(),
    }
}
