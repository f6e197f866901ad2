//! Manifest and bill of materials: all that is known of a bundle before its files are written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Seek as _, Write};

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::choice::Choice;
use super::failed;
use crate::airgap::bundle::{
    BundleAsset, BundleConnection, BundleDocument, BundleRelease, Date, ManifestLine, Part,
    ReleaseFile, SeenBlobs,
};
use crate::airgap::sbom::{Component, Sbom};
use crate::connection::Connection;
use crate::format;
use crate::package::{Algorithm, Listing, PackageId, Release as Own};
use crate::problem::Problem;
use crate::store::Store;
use crate::store::catalog::AssetRow;
use crate::store::packages::Manifests;

/// Rows that are read at once.
const PAGE: usize = 1000;

/// Bytes on their way to a file, hashed and counted.
pub struct Hashed {
    file: BufWriter<File>,
    sha256: Sha256,
    size: u64,
}

impl Hashed {
    fn new(file: File) -> Self {
        Self {
            file: BufWriter::new(file),
            sha256: Sha256::new(),
            size: 0,
        }
    }

    fn end(self) -> std::io::Result<(File, Part)> {
        let mut file = self
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.rewind()?;
        let part = Part {
            sha256: hex::encode(self.sha256.finalize()),
            size: self.size,
        };
        Ok((file, part))
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sha256.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes manifest and bill.
pub struct ManifestWriter<'a> {
    store: &'a Store,
    choice: &'a Choice,
    manifest: Hashed,
    sbom: Sbom<Hashed>,
    seen: SeenBlobs,
    blobs: u64,
    bytes: u64,
    runtime: Handle,
}

/// The manifest and the bill as they were written, each to be read from its beginning.
pub struct Written {
    pub manifest: (File, Part),
    pub sbom: (File, Part),
    pub blobs: u64,
    /// The size of all blobs together.
    pub bytes: u64,
}

impl<'a> ManifestWriter<'a> {
    /// Begins with a bill that says what it is of.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn begin(
        store: &'a Store,
        choice: &'a Choice,
        begin_bill: impl FnOnce(Hashed) -> std::io::Result<Sbom<Hashed>>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            store,
            choice,
            manifest: Hashed::new(store.directory().scratch()?),
            sbom: begin_bill(Hashed::new(store.directory().scratch()?))?,
            seen: SeenBlobs::default(),
            blobs: 0,
            bytes: 0,
            runtime: Handle::current(),
        })
    }

    /// Writes down all that is chosen. Blocks.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn write(mut self) -> Result<Written, Problem> {
        self.connections()?;
        self.pulled()?;
        self.documents()?;
        self.own()?;
        Ok(Written {
            blobs: self.blobs,
            bytes: self.bytes,
            manifest: self.manifest.end().map_err(failed)?,
            sbom: self.sbom.end().and_then(Hashed::end).map_err(failed)?,
        })
    }

    fn add(&mut self, entry: &ManifestLine) -> Result<(), Problem> {
        for (blob, size) in entry.blobs()? {
            if self.seen.is_first(blob) {
                self.blobs += 1;
                self.bytes += size;
            }
        }
        serde_json::to_writer(&mut self.manifest, entry).map_err(failed)?;
        self.manifest.write_all(b"\n").map_err(failed)
    }

    fn connections(&mut self) -> Result<(), Problem> {
        let all = self.choice.connections.values();
        let mut connections: Vec<_> = all.flat_map(BTreeMap::values).collect();
        connections.sort_by(|a, b| a.name.cmp(&b.name));
        for connection in connections {
            self.add(&ManifestLine::Connection(BundleConnection {
                name: connection.name.clone(),
                format: connection.format.to_string(),
                url: connection.url.to_string(),
            }))?;
        }
        Ok(())
    }

    /// Writes the files and documents from connections, package by package.
    fn pulled(&mut self) -> Result<(), Problem> {
        let catalog = self.store.catalog();
        let mut after = None;
        loop {
            let page = self
                .runtime
                .block_on(catalog.assets().packages_here(after.as_ref(), PAGE))
                .map_err(failed)?;
            let Some(last) = page.last().cloned() else {
                return Ok(());
            };
            for one in page {
                if let Some(connections) = self.choice.connections.get(&one.connection)
                    && self.choice.has_package(&one.package)
                    && let Ok(package) = format::package(&one.package)
                {
                    for connection in connections.values() {
                        self.package(connection, &package)?;
                    }
                }
            }
            after = Some(last);
        }
    }

    fn package(&mut self, connection: &Connection, package: &PackageId) -> Result<(), Problem> {
        let catalog = self.store.catalog();
        let assets = self
            .runtime
            .block_on(catalog.assets().of_package(&connection.registry, package))
            .map_err(failed)?;
        let assets: Vec<_> = assets
            .into_iter()
            .filter(|(_, row)| self.choice.has_version(package, &row.version))
            .collect();
        for (key, row) in assets
            .iter()
            .filter(|(_, row)| self.choice.is_new(row.first_seen))
        {
            self.add(&ManifestLine::Asset(BundleAsset::of(
                &connection.name,
                key,
                row,
            )))?;
        }
        let dates = self
            .runtime
            .block_on(
                catalog
                    .publish_dates()
                    .of_package(&connection.registry, package),
            )
            .map_err(failed)?;
        let choice = self.choice;
        let is_in = |row: &AssetRow| choice.is_new(row.first_seen);
        for version in assets.chunk_by(|a, b| a.1.version == b.1.version) {
            let new: Vec<(String, String)> = version
                .iter()
                .filter(|(_, row)| is_in(row))
                .map(|(key, row)| (key.asset.file.to_string(), row.blob.to_hex()))
                .collect();
            let Some((_, row)) = version.first().filter(|_| !new.is_empty()) else {
                continue;
            };
            if let Some(published) = dates.get(&row.version) {
                self.add(&ManifestLine::Date(Date {
                    connection: connection.name.clone(),
                    package: package.to_string(),
                    version: row.version.clone(),
                    published: *published,
                }))?;
            }
            self.sbom
                .add(&Component {
                    package,
                    version: &row.version,
                    files: &new,
                    source: Some(connection.url.as_str()),
                })
                .map_err(failed)?;
        }
        Ok(())
    }

    fn documents(&mut self) -> Result<(), Problem> {
        let mut after: Option<(String, String)> = None;
        loop {
            let place = after.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
            let catalog = self.store.catalog();
            let page = self
                .runtime
                .block_on(catalog.documents().after(place, PAGE))
                .map_err(failed)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some((last.connection.clone(), last.key.clone()));
            for one in page {
                let Some(connections) = self.choice.connections.get(&one.connection) else {
                    continue;
                };
                for connection in connections.values() {
                    let package = connection.format.protocol().package_of(&one.key);
                    let is_meant =
                        package.is_none_or(|it| self.choice.has_package(&it.to_string()));
                    if is_meant && self.choice.is_new(one.row.fetched_at) {
                        let document = BundleDocument::of(&connection.name, &one.key, &one.row);
                        self.add(&ManifestLine::Document(document))?;
                    }
                }
            }
        }
    }

    /// Writes the repositories' own packages.
    fn own(&mut self) -> Result<(), Problem> {
        let packages = self.store.packages();
        for repository in &self.choice.repositories {
            let mut after = String::new();
            loop {
                let page = self
                    .runtime
                    .block_on(packages.releases().list(repository, None, &after, PAGE))
                    .map_err(failed)?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.package);
                for one in page {
                    let Ok(package) = format::package(&one.package) else {
                        continue;
                    };
                    if self.choice.has_package(&one.package) {
                        self.own_package(repository, &package, &one.description)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn own_package(
        &mut self,
        repository: &str,
        package: &PackageId,
        description: &str,
    ) -> Result<(), Problem> {
        let packages = self.store.packages();
        let listing = self
            .runtime
            .block_on(
                packages
                    .releases()
                    .listing(repository, package, Manifests::Read),
            )
            .map_err(failed)?;
        let Some(listing) = listing else {
            return Ok(());
        };
        for own in &listing.versions {
            if !own.status.is_served()
                || !self.choice.has_version(package, &own.version)
                || !self.choice.is_new(own.published.as_second())
            {
                continue;
            }
            let dependencies = self
                .runtime
                .block_on(
                    packages
                        .releases()
                        .dependencies(repository, package, &own.version),
                )
                .map_err(failed)?;
            let readme = self
                .runtime
                .block_on(
                    packages
                        .releases()
                        .readme(repository, package, &own.version),
                )
                .map_err(failed)?;
            let release = BundleRelease {
                readme,
                dependencies,
                ..release(repository, &listing, own, description)
            };
            let files: Vec<(String, String)> = own
                .served()
                .map(|file| (file.file.to_string(), file.blob.to_hex()))
                .collect();
            self.add(&ManifestLine::Release(Box::new(release)))?;
            self.sbom
                .add(&Component {
                    package,
                    version: &own.version,
                    files: &files,
                    source: None,
                })
                .map_err(failed)?;
        }
        Ok(())
    }
}

fn release(repository: &str, listing: &Listing, own: &Own, description: &str) -> BundleRelease {
    let tags = listing.tags.iter();
    BundleRelease {
        repository: repository.to_owned(),
        package: listing.package.to_string(),
        version: own.version.to_string(),
        origin: own.origin,
        status: own.status,
        published: own.published,
        manifest: own.manifest.to_string(),
        readme: None,
        description: description.to_owned(),
        dependencies: Vec::new(),
        tags: tags
            .filter(|(_, version)| **version == *own.version)
            .map(|(tag, _)| tag.clone())
            .collect(),
        assets: own
            .served()
            .map(|file| ReleaseFile {
                file: file.file.to_string(),
                size: file.size,
                digests: Algorithm::ALL
                    .into_iter()
                    .map(|it| (it.as_str().to_owned(), file.digest(it)))
                    .collect(),
                media_type: file.media_type.to_string(),
                published: file.published,
                facts: file.facts.to_string(),
            })
            .collect(),
    }
}
