//! `larder delete PACKAGE[@VERSION]…`

use std::process::ExitCode;

use super::control::{self, versions_of_one};
use super::settings::UsageError;
use super::{Global, Output, progress};
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "A deleted version's number may be published again; its package's name stays ours, and is not taken from outside. `larder status --set disposed` deletes the files and keeps the number taken.\n\nExamples:\n  larder delete npm:@acme/lib@1.2.0 --repository team\n  larder delete npm:@acme/lib --all"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Versions of one package
    #[arg(value_name = "PACKAGE@VERSION", required = true)]
    versions: Vec<String>,
    /// All versions of the package
    #[arg(long)]
    all: bool,
    /// The repository; without it, the first of the configuration
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (package, versions) = versions_of_one(&arguments.versions)?;
    let names_all = versions.len() == arguments.versions.len();
    if arguments.all != versions.is_empty() || !(names_all || arguments.all) {
        return Err(UsageError(
            "name each version, as in npm:left-pad@1.3.0, or the package alone with --all"
                .to_owned(),
        )
        .into());
    }
    let (config, repository) = control::repository(&global, arguments.repository).await?;
    let command = ManageCommand::Delete {
        repository,
        package: package.to_string(),
        versions,
        from: Vec::new(),
    };
    let work = control::execute(config, command);
    let outcome = progress::beside(output, "Deleting", work).await?;
    control::show(output, &outcome, |outcome| match outcome {
        ManageOutcome::Changed { versions } => versions
            .iter()
            .map(|version| format!("{package} {version}: deleted"))
            .collect(),
        _ => Vec::new(),
    })?;
    Ok(ExitCode::SUCCESS)
}
