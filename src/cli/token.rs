//! `larder token create|list|revoke|rotate`

use std::process::ExitCode;

use super::control;
use super::{Global, Output, settings, tell};
use crate::access::manage::{AccessCommand, AccessOutcome, Listed};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "A token stands for a principal of the domain's owner, or for whom an ARN names. Clients send it as a bearer's token, as the password of any user, or as NuGet's API key.\n\nExamples:\n  larder token create --principal ci --expires 90d --note \"build agents\"\n  larder token list\n  larder token revoke 5f0c1a2b3c4d\n  larder token rotate"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Create a token for a machine; it is shown once
    Create {
        /// A user's name, `root`, or an ARN
        #[arg(long, value_name = "NAME")]
        principal: String,
        /// A note that says what the token is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// How long it is valid, such as 90d; without it, until it is revoked
        #[arg(long, value_name = "TIME", value_parser = settings::time)]
        expires: Option<std::time::Duration>,
    },
    /// List the tokens of machines
    List,
    /// Revoke a token
    Revoke {
        /// The token's id, as `larder token list` shows it, or the token itself
        #[arg(value_name = "ID")]
        token: String,
    },
    /// Sign tokens with a new key from now on
    Rotate {
        /// Refuse at once every token that an old key signed
        #[arg(long)]
        at_once: bool,
    },
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let command = match arguments.action {
        Action::Create {
            principal,
            note,
            expires,
        } => AccessCommand::TokenCreate {
            principal,
            note,
            expires_in: expires.map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
        },
        Action::List => AccessCommand::TokenList,
        Action::Revoke { token } => AccessCommand::TokenRevoke { token },
        Action::Rotate { at_once } => AccessCommand::TokenRotate { at_once },
    };
    let outcome = control::execute_access(config, command).await?;
    control::show(output, &outcome, |outcome| match outcome {
        AccessOutcome::Token { token, .. } => vec![token.clone()],
        AccessOutcome::Tokens { tokens } => listed(tokens, "No tokens."),
        _ => vec!["done".to_owned()],
    })?;
    // Beside the result: `larder token create > ada.token` writes a file that has the token alone.
    if let AccessOutcome::Token { id, principal, .. } = &outcome {
        tell(&format!(
            "for {principal}; its id is {id}. It is not shown again."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each; the sentence where there are none.
pub fn listed(all: &[Listed], none: &str) -> Vec<String> {
    if all.is_empty() {
        return vec![none.to_owned()];
    }
    all.iter()
        .map(|one| {
            let expires = one
                .expires
                .map_or_else(|| "does not expire".to_owned(), |at| format!("until {at}"));
            format!(
                "{}  {}  since {}, {expires}  {}",
                one.id, one.principal, one.created, one.note
            )
            .trim_end()
            .to_owned()
        })
        .collect()
}
