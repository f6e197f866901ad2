//! Parses arguments, runs a command, turns its result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder::cli::main()
}
