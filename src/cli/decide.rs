//! `larder who-decides npm:left-pad@1.3.0`

use std::process::ExitCode;

use super::settings::UsageError;
use super::{Global, Output, print, settings};
use crate::Larder;
use crate::package::{Format, PackageId};
use crate::repository::Explanation;
use crate::{store, tool};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder who-decides npm:left-pad@1.3.0\n  larder who-decides maven:org.example:lib@1.0 --repository team --json"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Format, package and version
    #[arg(value_name = "PACKAGE@VERSION")]
    version: String,
    /// The repository that would be asked
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "the operator, whom the system lets in"
)]
pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (package, version) = parse(&arguments.version)?;
    let config = settings::config(&global, None).await?;
    let repository = settings::repository(&config, arguments.repository)?;
    let explanation = match store::holder(&config.data_dir).and_then(|holder| holder.address) {
        Some(_) => {
            let control = tool::client::ControlClient::of(&config.data_dir)?;
            control.decide(&repository, &package, &version).await?
        }
        None => {
            let larder = Larder::start(config).await?;
            let snapshot = larder.snapshot();
            let result = match snapshot.repository(&repository) {
                Ok(repository) => {
                    larder
                        .repositories
                        .reader()
                        .explain(&snapshot, repository, &package, &version)
                        .await
                }
                Err(problem) => Err(problem),
            };
            larder.stop().await;
            result?
        }
    };
    if output.json {
        print(&serde_json::to_string_pretty(&explanation)?);
    } else {
        print(&sentence(&explanation));
    }
    Ok(if explanation.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn parse(text: &str) -> anyhow::Result<(PackageId, String)> {
    let wrong = || {
        UsageError(format!(
            "`{text}` is not a package and its version, as in npm:left-pad@1.3.0"
        ))
    };
    let (name, version) = text.rsplit_once('@').ok_or_else(wrong)?;
    let (format, name) = name.split_once(':').ok_or_else(wrong)?;
    let format: Format = format
        .parse()
        .map_err(|error| UsageError(format!("{error}")))?;
    let package = format
        .protocol()
        .package(name)
        .map_err(|problem| UsageError(problem.message))?;
    Ok((package, version.to_owned()))
}

fn sentence(explanation: &Explanation) -> String {
    let Explanation {
        package,
        version,
        allowed,
        rule,
        reason,
        published,
        ..
    } = explanation;
    let verdict = if *allowed { "served" } else { "held back" };
    let rule = rule
        .as_ref()
        .map_or_else(|| "no rule".to_owned(), |rule| format!("rule \"{rule}\""));
    let published = published
        .as_ref()
        .map_or_else(String::new, |date| format!("; published {date}"));
    format!("{package} {version} is {verdict} by {rule}: {reason}{published}")
}
