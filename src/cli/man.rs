//! `larder man [COMMAND]`

use std::process::ExitCode;

use clap_mangen::Man;

use super::settings::UsageError;
use super::{help, print};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  larder man > /usr/local/share/man/man1/larder.1\n  larder man serve > /usr/local/share/man/man1/larder-serve.1"
)]
pub struct Arguments {
    /// The command; without it, Larder itself
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let whole = help::command();
    let command = match &arguments.command {
        None => whole,
        Some(name) => whole
            .find_subcommand(name)
            .ok_or_else(|| UsageError(format!("there is no command `{name}`")))?
            .clone()
            .display_name(format!("larder-{name}"))
            .bin_name(format!("larder {name}")),
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    print(String::from_utf8_lossy(&page).trim_end());
    Ok(ExitCode::SUCCESS)
}
