//! Commands about repositories: through the Larder that holds the data directory, or on the
//! directory itself where nobody does.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use indicatif::ProgressBar;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::settings::UsageError;
use super::{Global, Output, print, progress, settings};
use crate::airgap::bundle::BundleHead;
use crate::config::Config;
use crate::package::{Format, PackageId};
use crate::problem::Problem;
use crate::repository::manage::{ManageCommand, ManageOutcome};
use crate::repository::upkeep;
use crate::store::backup::{BackupReport, EarlierFiles};
use crate::tool::client::ControlClient;
use crate::{Larder, access, airgap, store};

/// Where a command is carried out.
pub enum Backend {
    /// In the Larder that holds the data directory, through its control socket.
    Remote(ControlClient),
    /// In a Larder that this process opened for the command.
    Local(Arc<Larder>),
}

impl Backend {
    /// Finds the Larder that holds the data directory; opens one where nobody does.
    pub async fn connect(config: Config) -> anyhow::Result<Self> {
        let Some(holder) = store::holder(&config.data_dir) else {
            return Ok(Self::Local(Larder::start(config).await?));
        };
        if holder.address.is_none() {
            anyhow::bail!(
                "the data directory {} is held by {holder}, which serves nothing yet",
                config.data_dir.display()
            );
        }
        Ok(Self::Remote(ControlClient::of(&config.data_dir)?))
    }

    /// Stops the Larder that was opened for this command; one that was running goes on.
    pub async fn stop(self) {
        if let Self::Local(larder) = self {
            larder.stop().await;
        }
    }

    /// Carries out a command about the store and its use.
    pub async fn upkeep(
        &self,
        command: upkeep::UpkeepCommand,
    ) -> anyhow::Result<upkeep::UpkeepOutcome> {
        match self {
            Self::Remote(control) => control.execute(&command).await,
            Self::Local(larder) => Ok(larder.upkeep(command).await?),
        }
    }

    /// Has a backup written into the folder or file, which has an absolute path.
    pub async fn back_up(
        &self,
        out: PathBuf,
        earlier: EarlierFiles,
        output: Output,
    ) -> anyhow::Result<BackupReport> {
        match self {
            Self::Remote(control) => {
                let command = upkeep::UpkeepCommand::Backup { out, earlier };
                let work = control.execute(&command);
                match progress::beside(output, "The running Larder writes the backup", work).await?
                {
                    upkeep::UpkeepOutcome::BackedUp(report) => Ok(*report),
                    _ => anyhow::bail!(
                        "the running Larder answers something else; is it of this version?"
                    ),
                }
            }
            Self::Local(larder) => {
                let progress = Arc::default();
                let work = larder.store.back_up(&out, earlier, &progress);
                // The running Larder says it in the same words.
                let made = progress::copying(output, &progress, work).await?;
                Ok(made.map_err(Problem::from)?)
            }
        }
    }

    /// Carries out a command about what is on this side of the air gap.
    #[allow(
        clippy::disallowed_methods,
        reason = "the operator, whom the system lets in"
    )]
    pub async fn air_gap(
        &self,
        command: airgap::AirgapCommand,
    ) -> anyhow::Result<airgap::AirgapOutcome> {
        match self {
            Self::Remote(control) => control.execute(&command).await,
            Self::Local(larder) => {
                let snapshot = larder.snapshot();
                Ok(airgap::execute(larder.repositories.reader(), &snapshot, command).await?)
            }
        }
    }
}

/// A bundle as it is written.
pub enum BundlePieces {
    Remote(reqwest::Response),
    Local(mpsc::Receiver<Result<Bytes, Problem>>),
}

impl BundlePieces {
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Remote(response) => response
                .chunk()
                .await
                .context("the running Larder gave up; its log says why"),
            Self::Local(pieces) => Ok(pieces.recv().await.transpose()?),
        }
    }
}

/// How much of a bundle is read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl Backend {
    /// Has a bundle written.
    pub async fn export(&self, order: airgap::Order) -> anyhow::Result<(BundleHead, BundlePieces)> {
        match self {
            Self::Remote(control) => {
                let (head, response) = control.export(&order).await?;
                Ok((head, BundlePieces::Remote(response)))
            }
            Self::Local(larder) => {
                let export = airgap::export(&larder.store, &larder.snapshot(), order).await?;
                Ok((export.head, BundlePieces::Local(export.pieces)))
            }
        }
    }

    /// Has a bundle taken in.
    pub async fn import(
        &self,
        bundle: File,
        trusted: Vec<String>,
        bar: ProgressBar,
    ) -> anyhow::Result<airgap::ImportReport> {
        match self {
            Self::Remote(control) => {
                let pieces = stream::try_unfold((bundle, bar), async |(mut bundle, bar)| {
                    let mut piece = BytesMut::with_capacity(PIECE_BYTES);
                    let count = bundle.read_buf(&mut piece).await?;
                    bar.inc(count as u64);
                    Ok::<_, std::io::Error>((count > 0).then(|| (piece.freeze(), (bundle, bar))))
                });
                control
                    .import(reqwest::Body::wrap_stream(pieces), &trusted)
                    .await
            }
            Self::Local(larder) => {
                let importer = larder.importer(trusted);
                let bundle = bar.wrap_read(bundle.into_std().await);
                let import = larder.tasks.spawn_blocking(move || importer.import(bundle));
                Ok(import.await??)
            }
        }
    }
}

/// Carries the command out, wherever that has to be.
#[allow(
    clippy::disallowed_methods,
    reason = "the operator, whom the system lets in"
)]
pub async fn execute(config: Config, command: ManageCommand) -> anyhow::Result<ManageOutcome> {
    carry_out(config, command, async |larder, command| {
        let snapshot = larder.snapshot();
        larder.manager.execute(&snapshot, command).await
    })
    .await
}

/// Carries out a command about tokens, keys and policies.
pub async fn execute_access(
    config: Config,
    command: access::manage::AccessCommand,
) -> anyhow::Result<access::manage::AccessOutcome> {
    carry_out(config, command, async |larder, command| {
        larder.administer(command).await
    })
    .await
}

async fn carry_out<C: Serialize, O: DeserializeOwned>(
    config: Config,
    command: C,
    here: impl AsyncFnOnce(&Arc<Larder>, C) -> Result<O, Problem>,
) -> anyhow::Result<O> {
    let backend = Backend::connect(config).await?;
    let outcome = match &backend {
        Backend::Remote(control) => control.execute(&command).await,
        Backend::Local(larder) => here(larder, command).await.map_err(anyhow::Error::from),
    };
    backend.stop().await;
    outcome
}

/// Carries out a command about the store and its use.
pub async fn execute_upkeep(
    config: Config,
    command: upkeep::UpkeepCommand,
) -> anyhow::Result<upkeep::UpkeepOutcome> {
    let backend = Backend::connect(config).await?;
    let outcome = backend.upkeep(command).await;
    backend.stop().await;
    outcome
}

/// Prints the outcome: as JSON, or line by line.
pub fn show<O: Serialize>(
    output: Output,
    outcome: &O,
    lines: impl FnOnce(&O) -> Vec<String>,
) -> anyhow::Result<()> {
    if output.json {
        print(&serde_json::to_string_pretty(outcome)?);
    } else {
        for line in lines(outcome) {
            print(&line);
        }
    }
    Ok(())
}

/// Reads `npm:left-pad@1.3.0`; the version is none where nothing follows the name.
pub fn package_and_version(text: &str) -> anyhow::Result<(PackageId, Option<String>)> {
    let wrong = || {
        UsageError(format!(
            "`{text}` is no package, as in npm:left-pad or npm:left-pad@1.3.0"
        ))
    };
    let (format, name) = text.split_once(':').ok_or_else(wrong)?;
    let format: Format = format
        .parse()
        .map_err(|error| UsageError(format!("{error}")))?;
    // A scope's own `@` stands at the beginning.
    let (name, version) = match name.rfind('@') {
        Some(at) if at > 0 => (
            name.get(..at).unwrap_or_default(),
            name.get(at + 1..).map(str::to_owned),
        ),
        _ => (name, None),
    };
    let package = format
        .protocol()
        .package(name)
        .map_err(|problem| UsageError(problem.message))?;
    if let Some(version) = &version {
        let read = format.protocol().version(version);
        read.map_err(|problem| UsageError(problem.message))?;
    }
    Ok((package, version))
}

/// Reads versions of one package: `npm:left-pad@1.3.0 npm:left-pad@1.2.0`.
pub fn versions_of_one(texts: &[String]) -> anyhow::Result<(PackageId, Vec<String>)> {
    let mut one: Option<PackageId> = None;
    let mut versions = Vec::new();
    for text in texts {
        let (package, version) = package_and_version(text)?;
        if one.as_ref().is_some_and(|one| *one != package) {
            return Err(UsageError("the versions of one package at a time".to_owned()).into());
        }
        one = Some(package);
        versions.extend(version);
    }
    let one = one.ok_or_else(|| UsageError("no package is named".to_owned()))?;
    Ok((one, versions))
}

/// The configuration, and the repository that is meant.
pub async fn repository(
    global: &Global,
    named: Option<String>,
) -> anyhow::Result<(Config, String)> {
    let config = settings::config(global, None).await?;
    let repository = settings::repository(&config, named)?;
    Ok((config, repository))
}
