//! Publishing a version file by file, by the CodeArtifact API: it is unfinished until the last.

use std::collections::BTreeMap;

use super::places::BodySender;
use super::publish::{ChangeRecord, Door, NamedBy, Publisher, takes_none};
use super::receive::{BodyStream, Received};
use super::{Publish, Repository, Snapshot};
use crate::format::upload::SHA256;
use crate::package::{Algorithm, AssetId, Status};
use crate::problem::{Decider, Kind, Problem};

/// A file on its way into a version.
pub struct Addition {
    pub asset: AssetId,
    pub version: String,
    pub body: BodyStream,
    pub sender: BodySender,
    /// Hexadecimal.
    pub sha256: String,
    /// More files follow.
    pub is_unfinished: bool,
}

impl Publisher {
    /// Adds a file to a version, and publishes the version where it is the last. When it has
    /// returned, it is durable.
    ///
    /// # Errors
    /// Where the repository does not take it, the bytes are others than was said, or the version
    /// is published already.
    pub async fn publish_file(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        addition: Addition,
    ) -> Result<(), Problem> {
        let Addition {
            asset,
            version,
            body,
            sender,
            sha256,
            is_unfinished,
        } = addition;
        let package = asset.package.clone();
        if !matches!(repository.publish, Publish::Local) {
            return Err(takes_none(repository));
        }
        self.may_publish(snapshot, repository, &package).await?;
        if !self.is_open(repository, &asset, &version, &sha256).await? {
            return Ok(());
        }
        let _place = self.receiver.place(&sender).await?;
        let (_, name) = asset.file.split_once('/').unwrap_or_default();
        let received = Received {
            name: name.to_owned(),
            file: Some(self.receiver.receive_file(body).await?),
            fields: BTreeMap::from([(SHA256.to_owned(), sha256)]),
            ..Received::default()
        };
        let named_by = if is_unfinished {
            NamedBy::Path(asset)
        } else {
            NamedBy::LastPath(asset)
        };
        // The call named the package, and was let in before.
        let mut door = Door {
            snapshot,
            repository,
            sender: &sender,
            permit: &|_| Ok(String::new()),
            record: &mut ChangeRecord::default(),
        };
        self.publish(&mut door, package.format(), received, named_by)
            .await?;
        Ok(())
    }

    /// Whether the version takes the file; it need not where it has it.
    async fn is_open(
        &self,
        repository: &Repository,
        asset: &AssetId,
        version: &str,
        sha256: &str,
    ) -> Result<bool, Problem> {
        let held = self
            .reader
            .own
            .package(&repository.name, &asset.package)
            .await?;
        let Some(listing) = &held.listing else {
            return Ok(true);
        };
        let Some(release) = listing.release(version) else {
            return Ok(true);
        };
        if release.status == Status::Unfinished {
            return Ok(true);
        }
        let mut files = release.assets.iter();
        let known = files.find(|it| it.file == asset.file);
        if known.is_some_and(|known| known.digest(Algorithm::Sha256) == sha256) {
            return Ok(false);
        }
        Err(Problem::new(
            Kind::Conflict,
            Decider::Repository(repository.name.clone()),
            format!(
                "{} {version} is {}: no file is added to it",
                asset.package,
                release.status.as_str()
            ),
        )
        .advice("publish another version; `unfinished` keeps one open"))
    }
}
