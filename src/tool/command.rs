//! Asking a client what it is set to.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::store::private;

/// A client that does not answer is one that is not there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns what the command prints; `None` where it does not exist, fails or takes too long.
pub async fn output(program: &str, arguments: &[&str]) -> Option<String> {
    finish(Command::new(program).args(arguments)).await
}

/// Runs a command with the variables of `set`, and without those whose names begin with one of
/// `prefixes`; gives what it prints.
pub async fn output_without(
    program: &str,
    arguments: &[&str],
    prefixes: &[&str],
    set: &[(&str, &str)],
) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_lowercase();
        if prefixes.iter().any(|prefix| lower.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    // A folder without a project's settings.
    finish(command.envs(set.iter().copied()).current_dir("/")).await
}

async fn finish(command: &mut Command) -> Option<String> {
    command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    private::leave_umask(command.as_std_mut());
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.ok()?.ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first address in a text that begins behind `marker`.
pub fn address_behind(text: &str, marker: &str) -> Option<String> {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let behind = joined.get(joined.find(marker)?..)?;
    let start = behind.find("http")?;
    let address: String = behind
        .get(start..)?
        .chars()
        .take_while(|c| !c.is_whitespace() && !")]\"'>,".contains(*c))
        .collect();
    address.contains("://").then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_a_wrapped_help_text() {
        let help = "  -i, --index-url <url>   Base URL of the Python Package Index\n      (default\n   https://pypi.example/simple). This should";
        assert_eq!(
            address_behind(help, "--index-url").as_deref(),
            Some("https://pypi.example/simple")
        );
        assert_eq!(address_behind(help, "--nothing"), None);
    }
}
