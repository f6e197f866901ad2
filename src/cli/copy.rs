//! `larder copy PACKAGE@VERSION… --from REPOSITORY --to REPOSITORY`

use std::process::ExitCode;

use super::control::{self, versions_of_one};
use super::settings::UsageError;
use super::{Global, Output, progress, settings};
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder copy npm:@acme/lib@1.2.0 --from staging --to team\n  larder copy maven:org.example:lib@1.0 maven:org.example:lib@1.1 --from public --to approved"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Versions of one package
    #[arg(value_name = "PACKAGE@VERSION", required = true)]
    versions: Vec<String>,
    /// The repository that has them
    #[arg(long, value_name = "REPOSITORY")]
    from: String,
    /// The repository that gets them; `publish = "local"`
    #[arg(long, value_name = "REPOSITORY")]
    to: String,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (package, versions) = versions_of_one(&arguments.versions)?;
    if versions.len() != arguments.versions.len() {
        return Err(UsageError(
            "each package needs its version, as in npm:left-pad@1.3.0".to_owned(),
        )
        .into());
    }
    let config = settings::config(&global, None).await?;
    let command = ManageCommand::Copy {
        from: arguments.from,
        to: arguments.to.clone(),
        package: package.to_string(),
        versions,
    };
    let work = control::execute(config, command);
    let outcome = progress::beside(output, "Copying", work).await?;
    control::show(output, &outcome, |outcome| {
        let ManageOutcome::Copied { copied, same } = outcome else {
            return Vec::new();
        };
        let copied = copied
            .iter()
            .map(|version| format!("{package} {version}: copied to `{}`", arguments.to));
        let same = same
            .iter()
            .map(|version| format!("{package} {version}: `{}` has it already", arguments.to));
        copied.chain(same).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}
