//! `larder status PACKAGE@VERSION… --set STATUS`

use std::process::ExitCode;

use super::control::{self, versions_of_one};
use super::settings::UsageError;
use super::{Global, Output, progress};
use crate::package::Status;
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Published: listed and served. Unlisted: served to who names it (in Python: yanked). Archived: kept, neither listed nor served. Disposed: its files are gone for good.\n\nExamples:\n  larder status pypi:acme-lib@1.2.0 --set unlisted\n  larder status pypi:acme-lib@1.2.0 --set published --repository team"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Versions of one package
    #[arg(value_name = "PACKAGE@VERSION", required = true)]
    versions: Vec<String>,
    /// published, unlisted, archived, disposed or unfinished
    #[arg(long, value_name = "STATUS")]
    set: String,
    /// The repository; without it, the first of the configuration
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let status: Status = arguments
        .set
        .parse()
        .map_err(|error| UsageError(format!("{error}")))?;
    let (package, versions) = versions_of_one(&arguments.versions)?;
    if versions.len() != arguments.versions.len() {
        return Err(UsageError(
            "each package needs its version, as in npm:left-pad@1.3.0".to_owned(),
        )
        .into());
    }
    let (config, repository) = control::repository(&global, arguments.repository).await?;
    let command = ManageCommand::Status {
        repository,
        package: package.to_string(),
        versions,
        from: Vec::new(),
        status,
    };
    let work = control::execute(config, command);
    let outcome = progress::beside(output, "Changing versions", work).await?;
    control::show(output, &outcome, |outcome| match outcome {
        ManageOutcome::Changed { versions } if versions.is_empty() => {
            vec![format!(
                "{package}: nothing changes, they are {status} already"
            )]
        }
        ManageOutcome::Changed { versions } => versions
            .iter()
            .map(|version| format!("{package} {version}: {status}"))
            .collect(),
        _ => Vec::new(),
    })?;
    Ok(ExitCode::SUCCESS)
}
