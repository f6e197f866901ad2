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
    /// The command, such as `serve` or `token create`; without it, Larder itself
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut command = help::command();
    let mut path = vec!["larder"];
    for name in &arguments.command {
        path.push(name);
        let found = command.find_subcommand(name).cloned();
        command =
            found.ok_or_else(|| UsageError(format!("there is no command `{}`", path.join(" "))))?;
    }
    let command = command
        .display_name(path.join("-"))
        .bin_name(path.join(" "));
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    print(String::from_utf8_lossy(&page).trim_end());
    Ok(ExitCode::SUCCESS)
}
