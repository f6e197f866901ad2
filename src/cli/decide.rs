//! `larder who-decides npm:left-pad@1.3.0`

use std::process::ExitCode;

use super::control::{self, package_and_version};
use super::{Global, Output, progress, settings};
use crate::Larder;
use crate::config::Config;
use crate::package::PackageId;
use crate::problem::Problem;
use crate::repository::Explanation;
use crate::{store, tool};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder who-decides npm:left-pad@1.3.0\n  larder who-decides pypi:requests     # which versions rules hold back, and the newest that is served\n  larder who-decides maven:org.example:lib@1.0 --repository team --json"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// The package, such as npm:left-pad@1.3.0; without a version, the newest ones are explained
    #[arg(value_name = "PACKAGE[@VERSION]")]
    package: String,
    /// The repository that would be asked
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (package, version) = package_and_version(&arguments.package)?;
    let version = version.as_deref();
    let config = settings::config(&global, None).await?;
    let repository = settings::repository(&config, arguments.repository)?;
    let work = decide(config, &repository, &package, version);
    let explained = progress::beside(output, "Asking the registries", work).await?;
    match (version, explained.as_slice()) {
        (Some(_), [explanation]) => {
            control::show(output, explanation, |it| vec![sentence(it)])?;
        }
        _ => control::show(output, &explained, |all| all.iter().map(sentence).collect())?,
    }
    Ok(if explained.iter().any(|one| one.allowed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Asks the Larder that holds the data directory, or one that is opened for the question.
async fn decide(
    config: Config,
    repository: &str,
    package: &PackageId,
    version: Option<&str>,
) -> anyhow::Result<Vec<Explanation>> {
    let holder = store::holder(&config.data_dir);
    if holder.and_then(|holder| holder.address).is_some() {
        let control = tool::client::ControlClient::of(&config.data_dir)?;
        return control.decide(repository, package, version).await;
    }
    let larder = Larder::start(config).await?;
    let explained = explain(&larder, repository, package, version).await;
    larder.stop().await;
    Ok(explained?)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the operator, whom the system lets in"
)]
async fn explain(
    larder: &Larder,
    repository: &str,
    package: &PackageId,
    version: Option<&str>,
) -> Result<Vec<Explanation>, Problem> {
    let snapshot = larder.snapshot();
    let repository = snapshot.repository(repository)?;
    let reader = larder.repositories.reader();
    let explainer = reader.explain(&snapshot, repository, package);
    match version {
        Some(version) => Ok(vec![explainer.version(version).await?]),
        None => explainer.newest().await,
    }
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
    let verdict = match (allowed, rule) {
        (true, Some(rule)) => format!("served by rule \"{rule}\""),
        (true, None) => "served".to_owned(),
        (false, Some(rule)) => format!("held back by rule \"{rule}\""),
        (false, None) => "not served".to_owned(),
    };
    let published = published
        .as_ref()
        .map_or_else(String::new, |date| format!("; published {date}"));
    let version = if version.is_empty() {
        String::new()
    } else {
        format!(" {version}")
    };
    format!("{package}{version} is {verdict}: {reason}{published}")
}
