//! `larder completions SHELL`

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  larder completions bash > /etc/bash_completion.d/larder")]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let mut command = super::Arguments::command();
    generate(
        arguments.shell,
        &mut command,
        "larder",
        &mut std::io::stdout(),
    );
    ExitCode::SUCCESS
}
