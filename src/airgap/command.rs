//! An operator's commands about the air gap. One set of commands, for the command line and for the
//! running server.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::maven::Binding;
use super::want::Want;
use super::warm::{WarmOptions, Warmed, Warmer};
use crate::problem::Problem;
use crate::repository::{Reader, Snapshot};
use crate::store::catalog::wish::Wish;

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum AirgapCommand {
    /// Fetches one want.
    Warm {
        repository: String,
        want: Want,
        manner: WarmOptions,
    },
    /// Closes Maven projects and artifacts over.
    Resolve {
        repository: String,
        poms: Vec<String>,
        /// `group:artifact:version`
        artifacts: Vec<String>,
        bindings: Vec<Binding>,
    },
    /// Lists the packages that clients asked for while offline and that are not here.
    Wishes,
    /// Forgets all wishes.
    ForgetWishes,
    /// A bundle that was begun then has been written down whole.
    Exported {
        /// Seconds since 1970.
        created: i64,
    },
}

/// The result of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum AirgapOutcome {
    Warmed { warmed: Warmed },
    Resolved { wants: Vec<Want> },
    Wishes { wishes: Vec<Wish> },
    Forgotten { count: u64 },
    Noted,
}

/// Carries the command out.
///
/// # Errors
/// Where what it names is not there, or the store fails.
pub async fn execute(
    reader: &Arc<Reader>,
    snapshot: &Arc<Snapshot>,
    command: AirgapCommand,
) -> Result<AirgapOutcome, Problem> {
    match command {
        AirgapCommand::Warm {
            repository,
            want,
            manner,
        } => {
            let warmer = Warmer {
                reader,
                snapshot,
                repository: snapshot.repository(&repository)?,
                manner,
            };
            let warmed = warmer.warm(&want).await;
            Ok(AirgapOutcome::Warmed { warmed })
        }
        AirgapCommand::Resolve {
            repository,
            poms,
            artifacts,
            bindings,
        } => {
            let repository = snapshot.repository(&repository)?;
            let wants =
                super::resolve(reader, snapshot, repository, &poms, &artifacts, &bindings).await?;
            Ok(AirgapOutcome::Resolved { wants })
        }
        AirgapCommand::Wishes => {
            let wishes = reader.fetcher().store().wishes().list().await?;
            Ok(AirgapOutcome::Wishes { wishes })
        }
        AirgapCommand::Exported { created } => {
            super::exported(reader.fetcher().store(), created).await?;
            Ok(AirgapOutcome::Noted)
        }
        AirgapCommand::ForgetWishes => {
            let count = reader.fetcher().store().wishes().clear().await?;
            Ok(AirgapOutcome::Forgotten { count })
        }
    }
}
