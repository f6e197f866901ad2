//! Versions from outside that are copied into a repository: what was pulled through is looked into
//! as if it had been published here, and stays what it is, a version from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::change::not_kept;
use super::lookup::{Candidate, Lookup};
use super::manage::Manager;
use super::publish::release_of;
use super::source_chain::{PackageSource, ShadowedVersions};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::Freshen;
use crate::format::path;
use crate::format::upload::{Inspected, Upload};
use crate::package::{Algorithm, AssetId, Origin, ReleaseAsset, Status, VersionId};
use crate::problem::{Decider, Problem};
use crate::store::catalog::AssetKey;
use crate::store::packages::NewRelease;
use crate::store::{Blob, Keeping};

impl Manager {
    /// A version that was pulled through one of the repository's connections, where its files would be
    /// handed out too.
    pub(super) async fn pulled_release(
        &self,
        lookup: &Lookup<'_>,
        version: &VersionId,
    ) -> Result<NewRelease, Problem> {
        let chain = self.reader.chain(lookup).await?;
        let walk = self.reader.walk(&chain, Some(lookup.package));
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { .. } => Ok(None),
                PackageSource::Outside(connection) => {
                    let decider = Decider::Connection(connection.name.clone());
                    let what = format!("{} {version}", lookup.package);
                    shadowed.permit(decider, &what, version.as_str())?;
                    self.pulled_from(lookup, &connection, version).await
                }
            }
        };
        let nothing = || {
            let (from, package) = (&lookup.repository.name, lookup.package);
            Problem::not_found(
                Decider::Repository(from.clone()),
                format!("`{from}` has nothing of {package} {version} here"),
            )
            .advice("fetch it once through the repository, then copy it")
        };
        Ok(walk.first(ask, nothing).await?.value)
    }

    async fn pulled_from(
        &self,
        lookup: &Lookup<'_>,
        connection: &Arc<Connection>,
        version: &VersionId,
    ) -> Result<Option<NewRelease>, Problem> {
        let mut release = None;
        let catalog = self.store().catalog();
        let pulled = catalog
            .assets()
            .files_pulled(&connection.registry, lookup.package)
            .await?;
        let protocol = connection.format.protocol();
        let is_wanted = |of: &str| protocol.known_version(of) == *version;
        for one in pulled.iter().filter(|one| is_wanted(&one.version)) {
            let asset = AssetId {
                package: lookup.package.clone(),
                file: one.file.as_str().into(),
            };
            self.add(lookup, connection, &asset, &one.version, &mut release)
                .await?;
        }
        Ok(release)
    }

    async fn add(
        &self,
        lookup: &Lookup<'_>,
        connection: &Arc<Connection>,
        asset: &AssetId,
        version: &str,
        release: &mut Option<NewRelease>,
    ) -> Result<(), Problem> {
        let key = AssetKey {
            connection: connection.registry.as_str().into(),
            asset: asset.clone(),
        };
        let Some((row, Some(blob))) = self.reader.fetcher.assets().find_when_done(&key).await?
        else {
            return Ok(());
        };
        let candidate = Candidate::outside(&connection.name, version, row.published);
        lookup.permit(&candidate)?;
        let digests = blob.digests(self.tasks(), &Algorithm::ALL).await?;
        let published = row.published.unwrap_or_else(clock::now);
        let words = self.words(connection, asset, version).await?;
        let inspected = self.look_into(asset, &blob, &digests, words).await?;
        let (file, facts) = match &inspected {
            Some(inspected) => (inspected.file.clone(), inspected.facts.clone()),
            // Metadata and signatures are not published, and so not copied, on their own.
            None => return Ok(()),
        };
        let mut assets = vec![ReleaseAsset {
            facts: facts.into(),
            ..ReleaseAsset::new(&file, &digests, row.size, &row.media_type, published)
        }];
        let Some(inspected) = inspected else {
            return Ok(());
        };
        for part in &inspected.extracted {
            let file = self.receiver.take_bytes(&part.bytes).await?;
            let (digests, size) = (file.digests().clone(), file.size());
            // Cached until the change keeps it for good, as the file that it stands in is.
            file.keep(Keeping::Cached).await.map_err(not_kept)?;
            let asset = ReleaseAsset::new(&part.file, &digests, size, part.media_type, published);
            assets.push(asset);
        }
        match release {
            Some(release) => release.assets.extend(assets),
            None => {
                // One version may have several files.
                let inspected = Inspected {
                    tags: Vec::new(),
                    is_whole: false,
                    ..inspected
                };
                let (origin, status) = (Origin::External, Status::Published);
                *release = Some(release_of(inspected, origin, status, published, assets));
            }
        }
        Ok(())
    }

    /// The words that a publish would have sent beside the file; for npm, the registry's manifest.
    async fn words(
        &self,
        connection: &Arc<Connection>,
        asset: &AssetId,
        version: &str,
    ) -> Result<Vec<u8>, Problem> {
        let protocol = connection.format.protocol();
        let Some(publish) = protocol.document_publish() else {
            return Ok(Vec::new());
        };
        let id = publish.words_in(asset);
        let resource = protocol.resource(&id, true);
        let what = asset.package.full_name();
        let document = self
            .reader
            .evidence
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await?;
        let fetcher = &self.reader.fetcher;
        let room = fetcher.memory().room(document.row.size).await?;
        let bytes = document.bytes(fetcher).await?;
        let version = version.to_owned();
        let words = room.run(move || publish.words(&bytes, &version)).await?;
        words.map_err(|error| {
            Problem::invalid(format!("the registry's document of {what}: {error}"))
        })
    }

    /// Looks into the file; `None` where it is not of a kind that is published.
    async fn look_into(
        &self,
        asset: &AssetId,
        blob: &Blob,
        digests: &crate::package::Digests,
        words: Vec<u8>,
    ) -> Result<Option<Inspected>, Problem> {
        let name = path::last_segment(&asset.file).to_owned();
        if !asset.package.format().protocol().is_published(&name) {
            return Ok(None);
        }
        let (asset, digests) = (asset.clone(), digests.clone());
        let mut bytes = blob.reader();
        let inspected = self
            .tasks()
            .spawn_blocking(move || {
                asset.package.format().protocol().inspect(&mut Upload {
                    bytes: &mut bytes,
                    digests: &digests,
                    name: &name,
                    asset: Some(&asset),
                    fields: &BTreeMap::new(),
                    words: &words,
                })
            })
            .await
            .map_err(|error| Problem::internal("looking into a file failed", error))?;
        inspected.and_then(Inspected::bounded).map(Some)
    }
}
