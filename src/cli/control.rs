//! Commands about repositories: through the Larder that holds the data directory, or on the
//! directory itself where nobody does.

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

use super::settings::Usage;
use super::{Global, Output, print, settings};
use crate::airgap::bundle::Head;
use crate::config::Config;
use crate::package::{Format, PackageId};
use crate::problem::Problem;
use crate::repository::manage::{Command, Outcome};
use crate::repository::upkeep;
use crate::tool::client::Control;
use crate::{Larder, access, airgap, store};

/// Who carries commands out: the Larder that holds the data directory, or one in this process.
pub enum Hand {
    There(Control),
    Here(Arc<Larder>),
}

impl Hand {
    pub async fn of(config: Config) -> anyhow::Result<Self> {
        let Some(holder) = store::holder(&config.data_dir) else {
            return Ok(Self::Here(Larder::start(config).await?));
        };
        if holder.address.is_none() {
            anyhow::bail!(
                "the data directory {} is held by {holder}, which serves nothing yet",
                config.data_dir.display()
            );
        }
        Ok(Self::There(Control::of(&config.data_dir)?))
    }

    /// Ends what was begun for this hand alone.
    pub async fn rest(self) {
        if let Self::Here(larder) = self {
            larder.stop().await;
        }
    }

    /// Carries out a command about the store and its use.
    pub async fn upkeep(&self, command: upkeep::Command) -> anyhow::Result<upkeep::Outcome> {
        match self {
            Self::There(control) => control.execute(&command).await,
            Self::Here(larder) => Ok(larder.upkeep(command).await?),
        }
    }

    /// Carries out a command about what is on this side of the air gap.
    #[allow(
        clippy::disallowed_methods,
        reason = "the operator, whom the system lets in"
    )]
    pub async fn air_gap(&self, command: airgap::Command) -> anyhow::Result<airgap::Outcome> {
        match self {
            Self::There(control) => control.execute(&command).await,
            Self::Here(larder) => {
                let snapshot = larder.snapshot();
                Ok(airgap::execute(larder.repositories.reader(), &snapshot, command).await?)
            }
        }
    }
}

/// A bundle as it is written.
pub enum Pieces {
    There(reqwest::Response),
    Here(mpsc::Receiver<Result<Bytes, Problem>>),
}

impl Pieces {
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::There(response) => response
                .chunk()
                .await
                .context("the running Larder gave up; its log says why"),
            Self::Here(pieces) => Ok(pieces.recv().await.transpose()?),
        }
    }
}

/// How much of a bundle is read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl Hand {
    /// Has a bundle written.
    pub async fn export(&self, order: airgap::Order) -> anyhow::Result<(Head, Pieces)> {
        match self {
            Self::There(control) => {
                let (head, response) = control.export(&order).await?;
                Ok((head, Pieces::There(response)))
            }
            Self::Here(larder) => {
                let export = airgap::export(&larder.store, &larder.snapshot(), order).await?;
                Ok((export.head, Pieces::Here(export.pieces)))
            }
        }
    }

    /// Has a bundle taken in.
    pub async fn import(
        &self,
        bundle: File,
        trusted: Vec<String>,
        bar: ProgressBar,
    ) -> anyhow::Result<airgap::Report> {
        match self {
            Self::There(control) => {
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
            Self::Here(larder) => {
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
pub async fn execute(config: Config, command: Command) -> anyhow::Result<Outcome> {
    carry_out(config, command, async |larder, command| {
        let snapshot = larder.snapshot();
        larder.manager.execute(&snapshot, command).await
    })
    .await
}

/// The same of a command about tokens, keys and policies.
pub async fn execute_access(
    config: Config,
    command: access::manage::Command,
) -> anyhow::Result<access::manage::Outcome> {
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
    let hand = Hand::of(config).await?;
    let outcome = match &hand {
        Hand::There(control) => control.execute(&command).await,
        Hand::Here(larder) => here(larder, command).await.map_err(anyhow::Error::from),
    };
    hand.rest().await;
    outcome
}

/// The same of a command about the store and its use.
pub async fn execute_upkeep(
    config: Config,
    command: upkeep::Command,
) -> anyhow::Result<upkeep::Outcome> {
    let hand = Hand::of(config).await?;
    let outcome = hand.upkeep(command).await;
    hand.rest().await;
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
        Usage(format!(
            "`{text}` is no package, as in npm:left-pad or npm:left-pad@1.3.0"
        ))
    };
    let (format, name) = text.split_once(':').ok_or_else(wrong)?;
    let format: Format = format.parse().map_err(|error| Usage(format!("{error}")))?;
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
        .map_err(|problem| Usage(problem.message))?;
    if let Some(version) = &version {
        let read = format.protocol().version(version);
        read.map_err(|problem| Usage(problem.message))?;
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
            return Err(Usage("the versions of one package at a time".to_owned()).into());
        }
        one = Some(package);
        versions.extend(version);
    }
    let one = one.ok_or_else(|| Usage("no package is named".to_owned()))?;
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
