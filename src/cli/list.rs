//! `larder list [PACKAGE]`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::control::{self, package_and_version};
use super::{Global, Output};
use crate::format::counted;
use crate::repository::manage::{ManageCommand, ManageOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder list\n  larder list --repository team --format npm\n  larder list npm:@acme/lib --json"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// One package, of which the versions are listed
    #[arg(value_name = "PACKAGE")]
    package: Option<String>,
    /// The repository; without it, the first of the configuration
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Packages of this format alone
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Packages behind this one, in the order of their names
    #[arg(long, value_name = "PACKAGE", default_value = "")]
    after: String,
    /// How many, at most
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let (config, repository) = control::repository(&global, arguments.repository).await?;
    let command = match arguments.package {
        Some(text) => ManageCommand::Show {
            repository,
            package: package_and_version(&text)?.0.to_string(),
        },
        None => ManageCommand::List {
            repository,
            format: arguments.format,
            after: arguments.after,
            limit: arguments.limit,
        },
    };
    let outcome = control::execute(config, command).await?;
    control::show(output, &outcome, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(outcome: &ManageOutcome) -> Vec<String> {
    match outcome {
        ManageOutcome::Packages { packages } if packages.is_empty() => {
            vec!["No packages.".to_owned()]
        }
        ManageOutcome::Packages { packages } => packages
            .iter()
            .map(|one| {
                let count = counted(one.versions, "version");
                let latest = if one.latest.is_empty() {
                    String::new()
                } else {
                    format!(", latest {}", one.latest)
                };
                format!("{}  {}, {count}{latest}", one.package, one.origin.as_str())
            })
            .collect(),
        ManageOutcome::Versions { versions } => versions
            .iter()
            .flat_map(|one| {
                let tags = if one.tags.is_empty() {
                    String::new()
                } else {
                    format!("  [{}]", one.tags.join(", "))
                };
                let head = format!(
                    "{}  {}, {}{}{tags}",
                    one.version,
                    one.status,
                    one.origin.as_str(),
                    one.published
                        .as_ref()
                        .map_or_else(String::new, |date| format!(", {date}")),
                );
                let assets = one.assets.iter().map(|asset| {
                    format!(
                        "    {}  {}",
                        asset.file,
                        ByteSize(asset.size).display().iec()
                    )
                });
                std::iter::once(head).chain(assets).collect::<Vec<_>>()
            })
            .collect(),
        _ => Vec::new(),
    }
}
