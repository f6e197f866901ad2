//! `larder policy show|put|delete|test`

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::control;
use super::{Global, Output, settings};
use crate::access;
use crate::access::manage::{AccessCommand, AccessOutcome};
use crate::access::policy::Policy;

/// The exit code of a test that ends in a refusal. It is neither that of a failure nor that of a
/// mistake on the command line.
const DENIED: u8 = 3;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Policies are JSON as AWS IAM has it. One is attached to the domain, one to each repository.\n\nExamples:\n  larder policy put --repository team readers.json\n  larder policy test --principal arn:aws:iam::222233334444:user/ada ReadFromRepository --repository team\n  larder policy test --principal ci PublishPackageVersion --repository team --package npm:@acme/ui"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Print the policy of the domain, or of a repository
    Show {
        /// The repository; without it, the domain
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Attach a policy to the domain, or to a repository
    Put {
        /// The repository; without it, the domain
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
        /// A file with the policy as JSON; `-` reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Delete a policy
    Delete {
        /// The repository; without it, the domain
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
    },
    /// Say what would be decided, and by which statement; exits with 3 where that is a refusal
    Test {
        /// A user's name, `root`, `anonymous`, or an ARN
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// An action of CodeArtifact, such as ReadFromRepository
        #[arg(value_name = "ACTION")]
        name: access::Action,
        /// The repository; without it, the domain
        #[arg(long, value_name = "NAME")]
        repository: Option<String>,
        /// A package, such as npm:@scope/name
        #[arg(long, value_name = "PACKAGE", requires = "repository")]
        package: Option<String>,
        /// The address that the request would come from
        #[arg(long, value_name = "ADDRESS")]
        address: Option<IpAddr>,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    // The words about a policy that was put or deleted.
    let mut attached = None;
    let command = match arguments.action {
        Action::Show { repository } => AccessCommand::PolicyShow { repository },
        Action::Put { repository, file } => {
            attached = Some(attached_to(repository.as_deref()));
            AccessCommand::PolicyPut {
                repository,
                document: document(&file)
                    .await
                    .map_err(|error| settings::UsageError::file(&file, &error))?,
            }
        }
        Action::Delete { repository } => {
            attached = Some(attached_to(repository.as_deref()));
            AccessCommand::PolicyDelete { repository }
        }
        Action::Test {
            principal,
            name,
            repository,
            package,
            address,
        } => AccessCommand::PolicyTest {
            principal,
            action: name.to_string(),
            repository,
            package,
            address,
        },
    };
    let outcome = control::execute_access(config, command).await?;
    control::show(output, &outcome, |outcome| match outcome {
        AccessOutcome::Policy { document, .. } => vec![match &attached {
            Some(attached) => put(attached, document),
            None => document.trim_end().to_owned(),
        }],
        AccessOutcome::Decided {
            allowed,
            by,
            principal,
            action,
            resource,
        } => vec![
            format!(
                "{}: {principal}, {action}, {resource}",
                if *allowed { "allowed" } else { "denied" }
            ),
            format!("by {by}"),
        ],
        _ => vec![attached.map_or_else(
            || "done".to_owned(),
            |attached| format!("The policy of {attached} is deleted."),
        )],
    })?;
    Ok(match outcome {
        AccessOutcome::Decided { allowed: false, .. } => ExitCode::from(DENIED),
        _ => ExitCode::SUCCESS,
    })
}

/// The policy in the file, or on standard input.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
async fn document(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin());
    }
    tokio::fs::read_to_string(file).await
}

/// The place that a policy is attached to, for people.
fn attached_to(repository: Option<&str>) -> String {
    repository.map_or_else(
        || "the domain".to_owned(),
        |name| format!("repository `{name}`"),
    )
}

/// The line about a policy that was put.
fn put(attached: &str, document: &str) -> String {
    let count = Policy::parse(document).map_or(0, |policy| policy.statement_count());
    let plural = if count == 1 { "" } else { "s" };
    format!("The policy of {attached} is in force now: {count} statement{plural}.")
}
