//! `larder list [PACKAGE]`

use std::process::ExitCode;

use bytesize::ByteSize;

use super::control::{self, package_and_version};
use super::{Global, Output};
use crate::format::counted;
use crate::package::Summary;
use crate::repository::manage::{ManageCommand, ManageOutcome, Which};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder list\n  larder list --cached\n  larder list --repository team --format npm\n  larder list npm:@acme/lib --json"
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
    /// Also the packages that are cached from registries, behind the repository's own
    #[arg(long)]
    cached: bool,
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
            which: if arguments.cached {
                Which::OwnAndCached
            } else {
                Which::Own
            },
        },
    };
    let outcome = control::execute(config, command).await?;
    let nothing = if arguments.cached {
        "No packages."
    } else {
        "No packages of its own; `larder list --cached` lists those that are cached."
    };
    control::show(output, &outcome, |outcome| lines(outcome, nothing))?;
    Ok(ExitCode::SUCCESS)
}

/// `npm:left-pad  internal, 2 versions, latest 1.3.0`
fn package_line(one: &Summary, word: &str) -> String {
    let count = counted(one.versions, "version");
    let latest = if one.latest.is_empty() {
        String::new()
    } else {
        format!(", latest {}", one.latest)
    };
    format!("{}  {word}, {count}{latest}", one.package)
}

/// The lines, or `nothing` where there is no package.
fn lines(outcome: &ManageOutcome, nothing: &str) -> Vec<String> {
    match outcome {
        ManageOutcome::Packages { packages, cached }
            if packages.is_empty() && cached.is_empty() =>
        {
            vec![nothing.to_owned()]
        }
        ManageOutcome::Packages { packages, cached } => {
            let own = packages
                .iter()
                .map(|one| package_line(one, one.origin.as_str()));
            let cached = cached.iter().map(|one| package_line(one, "cached"));
            own.chain(cached).collect()
        }
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
