//! `larder completions SHELL`

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use super::{help, print};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  larder completions bash > /etc/bash_completion.d/larder\n  larder completions zsh > \"${fpath[1]}/_larder\""
)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    generate(arguments.shell, &mut help::command(), "larder", &mut script);
    print(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
