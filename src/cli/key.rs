//! `larder key create|list|delete`

use std::process::ExitCode;

use super::control;
use super::token::listed;
use super::{Global, Output, settings};
use crate::access::manage::{AccessCommand, AccessOutcome};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "An access key signs requests to the CodeArtifact API, as `aws` and boto3 do.\n\nExamples:\n  larder key create\n  larder key create --principal ada --json\n  larder key delete AKLR5F0C1A2B3C4D5E6F"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Make an access key; its secret is shown once
    Create {
        /// A user's name, `root` (the domain's owner), or an ARN
        #[arg(long, value_name = "NAME", default_value = "root")]
        principal: String,
    },
    /// List the access keys
    List,
    /// Delete an access key
    Delete {
        /// The key's id, as `larder key list` shows it
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        Action::Create { principal } => AccessCommand::KeyCreate { principal },
        Action::List => AccessCommand::KeyList,
        Action::Delete { id } => AccessCommand::KeyDelete { id },
    };
    let outcome = control::execute_access(config, command).await?;
    control::show(output, &outcome, |outcome| match outcome {
        AccessOutcome::Key {
            access_key_id,
            secret_access_key,
            principal,
        } => vec![
            format!("AWS_ACCESS_KEY_ID={access_key_id}"),
            format!("AWS_SECRET_ACCESS_KEY={secret_access_key}"),
            format!("# for {principal}; the secret is not shown again"),
        ],
        AccessOutcome::Keys { keys } => listed(keys, "No access keys."),
        _ => vec!["done".to_owned()],
    })?;
    Ok(ExitCode::SUCCESS)
}
