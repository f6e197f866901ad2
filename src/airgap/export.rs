//! Writing a bundle. What is in it is known before its first byte; then it is streamed, so that
//! memory does not grow with it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read, Seek as _, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockReadGuard, mpsc};

use super::bundle::{
    Asset, BLOBS, Connection, Date, Document, Entry, HEAD, Head, MANIFEST, Met, Part, Release,
    ReleaseFile, SBOM, SIGNATURE, VERSION,
};
use super::sbom::{Component, Sbom};
use super::signature::SigningKey;
use super::want::Want;
use crate::clock;
use crate::format;
use crate::package::{Algorithm, BlobId, Listing, PackageId, Release as Own};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::Snapshot;
use crate::store::Store;
use crate::store::packages::{Manifests, random_name};

/// Rows that are read at once.
const PAGE: usize = 1000;
/// How large the pieces of a bundle are.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that may wait for who takes them.
const PIECES_AHEAD_MAX: usize = 8;
/// Packages are compressed already; more effort buys little.
const LEVEL: i32 = 3;

/// What is to be in a bundle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Order {
    /// What this repository draws on; none: everything.
    pub repository: Option<String>,
    /// These versions alone, with their packages' documents.
    pub wants: Option<Vec<Want>>,
    /// What came in since the last export that was told to have ended.
    pub is_new: bool,
}

/// Under which name the end of the last export is remembered.
const LAST: &str = "export";

/// A bundle on its way.
pub struct Export {
    pub head: Head,
    pub pieces: mpsc::Receiver<Result<Bytes, Problem>>,
}

/// Which rows are meant.
struct Choice {
    connections: HashMap<String, Arc<crate::connection::Connection>>,
    repositories: BTreeSet<String>,
    /// By package, its versions by their keys; none: all.
    versions: Option<HashMap<String, Option<HashSet<String>>>>,
    since: Option<i64>,
}

impl Choice {
    fn of(snapshot: &Snapshot, order: &Order, since: Option<i64>) -> Result<Self, Problem> {
        let repositories = match &order.repository {
            Some(name) => vec![Arc::clone(snapshot.repository(name)?)],
            None => snapshot.repositories().cloned().collect(),
        };
        let connections = repositories
            .iter()
            .flat_map(|repository| repository.connections())
            .map(|it| (it.name.clone(), Arc::clone(it)));
        let versions = order.wants.as_ref().map(|wants| {
            let mut versions = HashMap::<String, Option<HashSet<String>>>::new();
            for want in wants {
                let of = versions.entry(want.package.clone());
                let held = of.or_insert_with(|| Some(HashSet::new()));
                match (&want.version, format::package(&want.package), held) {
                    (Some(version), Ok(package), Some(versions)) => {
                        let key = package
                            .format()
                            .protocol()
                            .version_key(version)
                            .into_owned();
                        versions.insert(key);
                    }
                    (None, _, held) => *held = None,
                    _ => {}
                }
            }
            versions
        });
        Ok(Self {
            connections: connections.collect(),
            repositories: repositories
                .iter()
                .flat_map(|repository| repository.own_names())
                .map(str::to_owned)
                .collect(),
            versions,
            since,
        })
    }

    fn has_package(&self, package: &str) -> bool {
        self.versions
            .as_ref()
            .is_none_or(|versions| versions.contains_key(package))
    }

    fn has_version(&self, package: &PackageId, version: &str) -> bool {
        let Some(versions) = &self.versions else {
            return true;
        };
        match versions.get(&package.to_string()) {
            None => false,
            Some(None) => true,
            Some(Some(keys)) => {
                let key = package.format().protocol().version_key(version);
                keys.contains(key.as_ref())
            }
        }
    }

    fn is_new(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since)
    }
}

/// Bytes on their way to a file, hashed and counted.
struct Hashed {
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

/// What is known of a bundle before it is written.
struct Prepared {
    head: Head,
    signature: String,
    manifest: File,
    sbom: File,
    /// Nothing is evicted until it is written.
    _reading: OwnedRwLockReadGuard<()>,
}

/// Begins a bundle.
///
/// # Errors
/// Where what is ordered is not there, nothing signs, or the store fails.
pub async fn export(
    store: &Arc<Store>,
    snapshot: &Arc<Snapshot>,
    order: Order,
) -> Result<Export, Problem> {
    let since = match order.is_new {
        true => last(store).await?,
        false => None,
    };
    let choice = Choice::of(snapshot, &order, since)?;
    let reading = store.reading().await;
    let tasks = store.tasks().clone();
    let (store, snapshot) = (Arc::clone(store), Arc::clone(snapshot));
    let prepared = tasks
        .spawn_blocking({
            let store = Arc::clone(&store);
            move || prepare(&store, &snapshot, &order, &choice, reading)
        })
        .await
        .map_err(|error| Problem::internal("the export stopped", error))??;
    let head = prepared.head.clone();
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD_MAX);
    tasks.spawn_blocking(move || {
        if let Err(problem) = write(&store, prepared, &sender) {
            // Who does not take it any more need not be told.
            let _ = sender.blocking_send(Err(problem));
        }
    });
    Ok(Export { head, pieces })
}

/// When the last export began that ended well; seconds since 1970.
async fn last(store: &Store) -> Result<Option<i64>, Problem> {
    let state = store.catalog().progress(LAST).await;
    let state = state.map_err(|error| Problem::internal("the catalog cannot be read", error))?;
    Ok(state.and_then(|state| state.parse().ok()))
}

/// Notes that a bundle that was begun then has been written down whole.
///
/// # Errors
/// Where the store fails.
pub async fn exported(store: &Store, created: i64) -> Result<(), Problem> {
    let noted = store
        .catalog()
        .set_progress(LAST, Some(&created.to_string()))
        .await;
    noted.map_err(|error| Problem::internal("the catalog cannot be written", error))
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::internal("the export failed", error.to_string())
}

/// The key that signs: the configuration's, else the data directory's own.
fn signing_key(store: &Store, snapshot: &Snapshot) -> Result<SigningKey, Problem> {
    let own = || store.bundle_key(SigningKey::make);
    let pem = match &snapshot.config.bundle.key {
        Some(key) => key.clone(),
        None => own().map_err(failed)?,
    };
    SigningKey::read(&pem).ok_or_else(|| {
        Problem::invalid("the key that signs bundles is no Ed25519 key in PEM (PKCS #8)")
            .advice("`openssl genpkey -algorithm ed25519` makes one, for `bundle.key`")
    })
}

fn prepare(
    store: &Store,
    snapshot: &Snapshot,
    order: &Order,
    choice: &Choice,
    reading: OwnedRwLockReadGuard<()>,
) -> Result<Prepared, Problem> {
    let key = signing_key(store, snapshot)?;
    let created = clock::now();
    let scope = match (&order.wants, &order.repository) {
        (Some(wants), _) => format!("{} versions out of lists", wants.len()),
        (None, Some(repository)) => format!("repository {repository}"),
        (None, None) => "everything".to_owned(),
    };
    let id = random_name();
    let domain = snapshot.config.domain.name.clone();
    let sbom = Hashed::new(store.scratch().map_err(failed)?);
    let mut writer = Writer {
        store,
        choice,
        manifest: Hashed::new(store.scratch().map_err(failed)?),
        sbom: Sbom::begin(sbom, &uuid(&id), created, &format!("{domain}: {scope}"))
            .map_err(failed)?,
        met: Met::default(),
        blobs: 0,
        bytes: 0,
        runtime: Handle::current(),
    };
    writer.connections()?;
    writer.pulled()?;
    writer.documents()?;
    writer.own()?;
    let (blobs, bytes) = (writer.blobs, writer.bytes);
    let (manifest, manifest_part) = writer.manifest.end().map_err(failed)?;
    let (sbom, sbom_part) = writer.sbom.end().and_then(Hashed::end).map_err(failed)?;
    let head = Head {
        format: "larder-bundle".to_owned(),
        version: VERSION,
        id,
        created,
        domain,
        scope,
        since: choice
            .since
            .and_then(|since| jiff::Timestamp::from_second(since).ok()),
        manifest: manifest_part,
        sbom: sbom_part,
        blobs,
        bytes,
        key: key.public(),
    };
    let signature = key.sign(&head_bytes(&head)?);
    Ok(Prepared {
        head,
        signature,
        manifest,
        sbom,
        _reading: reading,
    })
}

/// The bytes that are signed.
fn head_bytes(head: &Head) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec_pretty(head).map_err(failed)
}

/// A random name of 32 hexadecimal digits in the form of a UUID (RFC 9562 §5.4).
fn uuid(name: &str) -> String {
    let part = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

/// Writes manifest and bill.
struct Writer<'a> {
    store: &'a Store,
    choice: &'a Choice,
    manifest: Hashed,
    sbom: Sbom<Hashed>,
    met: Met,
    blobs: u64,
    bytes: u64,
    runtime: Handle,
}

impl Writer<'_> {
    fn add(&mut self, entry: &Entry) -> Result<(), Problem> {
        for (blob, size) in entry.blobs()? {
            if self.met.is_first(blob) {
                self.blobs += 1;
                self.bytes += size;
            }
        }
        serde_json::to_writer(&mut self.manifest, entry).map_err(failed)?;
        self.manifest.write_all(b"\n").map_err(failed)
    }

    fn connections(&mut self) -> Result<(), Problem> {
        let mut connections: Vec<_> = self.choice.connections.values().collect();
        connections.sort_by(|a, b| a.name.cmp(&b.name));
        for connection in connections {
            self.add(&Entry::Connection(Connection {
                name: connection.name.clone(),
                format: connection.format.to_string(),
                url: connection.url.to_string(),
            }))?;
        }
        Ok(())
    }

    /// What came through connections, package by package.
    fn pulled(&mut self) -> Result<(), Problem> {
        let catalog = self.store.catalog();
        let mut after = None;
        loop {
            let page = self
                .runtime
                .block_on(catalog.packages_here(after.as_ref(), PAGE))
                .map_err(failed)?;
            let Some(last) = page.last().cloned() else {
                return Ok(());
            };
            for one in page {
                if self.choice.connections.contains_key(&one.connection)
                    && self.choice.has_package(&one.package)
                    && let Ok(package) = format::package(&one.package)
                {
                    self.package(&one.connection, &package)?;
                }
            }
            after = Some(last);
        }
    }

    fn package(&mut self, connection: &str, package: &PackageId) -> Result<(), Problem> {
        let catalog = self.store.catalog();
        let assets = self
            .runtime
            .block_on(catalog.assets_here(connection, package))
            .map_err(failed)?;
        let assets: Vec<_> = assets
            .into_iter()
            .filter(|(_, row)| self.choice.has_version(package, &row.version))
            .collect();
        for (key, row) in assets
            .iter()
            .filter(|(_, row)| self.choice.is_new(row.first_seen))
        {
            self.add(&Entry::Asset(Asset::of(key, row)))?;
        }
        let dates = self
            .runtime
            .block_on(catalog.publish_dates(connection, package))
            .map_err(failed)?;
        let choice = self.choice;
        let is_in = |row: &crate::store::catalog::AssetRow| choice.is_new(row.first_seen);
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
                self.add(&Entry::Date(Date {
                    connection: connection.to_owned(),
                    package: package.to_string(),
                    version: row.version.clone(),
                    published: *published,
                }))?;
            }
            let source = self.choice.connections.get(connection);
            self.sbom
                .add(&Component {
                    package,
                    version: &row.version,
                    files: &new,
                    source: source.map(|it| it.url.as_str()),
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
                .block_on(catalog.documents_here(place, PAGE))
                .map_err(failed)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some((last.connection.clone(), last.key.clone()));
            for one in page {
                let Some(connection) = self.choice.connections.get(&one.connection) else {
                    continue;
                };
                let package = connection.format.protocol().package_of(&one.key);
                let is_meant = package.is_none_or(|it| self.choice.has_package(&it.to_string()));
                if is_meant && self.choice.is_new(one.row.fetched_at) {
                    let document = Document::of(&one.connection, &one.key, &one.row);
                    self.add(&Entry::Document(document))?;
                }
            }
        }
    }

    /// What repositories have of their own.
    fn own(&mut self) -> Result<(), Problem> {
        let packages = self.store.packages();
        for repository in &self.choice.repositories {
            let mut after = String::new();
            loop {
                let page = self
                    .runtime
                    .block_on(packages.list(repository, None, &after, PAGE))
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
            .block_on(packages.listing(repository, package, Manifests::Read))
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
                .block_on(packages.dependencies(repository, package, &own.version))
                .map_err(failed)?;
            let readme = self
                .runtime
                .block_on(packages.readme(repository, package, &own.version))
                .map_err(failed)?;
            let release = Release {
                dependencies,
                readme,
                ..release(repository, &listing, own, description)
            };
            let files: Vec<(String, String)> = own
                .served()
                .map(|file| (file.file.to_string(), file.blob.to_hex()))
                .collect();
            self.add(&Entry::Release(Box::new(release)))?;
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

fn release(repository: &str, listing: &Listing, own: &Own, description: &str) -> Release {
    let tags = listing.tags.iter();
    Release {
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

/// Pieces on their way to who takes them.
struct Pieces<'a> {
    sender: &'a mpsc::Sender<Result<Bytes, Problem>>,
    piece: BytesMut,
}

impl Pieces<'_> {
    fn send(&mut self) -> std::io::Result<()> {
        let piece = self.piece.split().freeze();
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.send()
    }
}

/// Reads a blob, and refuses its end where it is not what its name says.
struct Checked<R> {
    reader: R,
    sha256: Option<Sha256>,
    id: BlobId,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(into)?;
        if count > 0 {
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(into.get(..count).unwrap_or_default());
            }
            return Ok(count);
        }
        if let Some(sha256) = self.sha256.take()
            && sha256.finalize().as_slice() != self.id.as_bytes()
        {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it is not what its name says",
            ));
        }
        Ok(0)
    }
}

fn write(
    store: &Store,
    prepared: Prepared,
    sender: &mpsc::Sender<Result<Bytes, Problem>>,
) -> Result<(), Problem> {
    let Prepared {
        head,
        signature,
        mut manifest,
        sbom,
        _reading: reading,
    } = prepared;
    let pieces = Pieces {
        sender,
        piece: BytesMut::with_capacity(2 * PIECE_BYTES),
    };
    let mut encoder = zstd::Encoder::new(pieces, LEVEL).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    let mut archive = tar::Builder::new(encoder);
    let created = u64::try_from(head.created.as_second()).unwrap_or(0);
    let mut add = |name: &str, size: u64, reader: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(created);
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, name, reader)
    };
    let bytes = head_bytes(&head)?;
    add(HEAD, bytes.len() as u64, &mut bytes.as_slice()).map_err(failed)?;
    add(SIGNATURE, signature.len() as u64, &mut signature.as_bytes()).map_err(failed)?;
    add(MANIFEST, head.manifest.size, &mut &manifest).map_err(failed)?;
    add(SBOM, head.sbom.size, &mut &sbom).map_err(failed)?;
    manifest.rewind().map_err(failed)?;
    let mut met = Met::default();
    for line in BufReader::new(manifest).lines() {
        let entry: Entry = serde_json::from_str(&line.map_err(failed)?).map_err(failed)?;
        for (id, size) in entry.blobs()? {
            if !met.is_first(id) {
                continue;
            }
            let blob = Handle::current()
                .block_on(store.look_at(id))
                .map_err(failed)?;
            let blob = blob.filter(|blob| blob.size() == size);
            let Some(blob) = blob else {
                return Err(damaged(id, "its file is gone, or of another length"));
            };
            let mut reader = Checked {
                reader: blob.reader(),
                sha256: Some(Sha256::new()),
                id,
            };
            add(&format!("{BLOBS}{}", id.to_hex()), size, &mut reader).map_err(|error| {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    damaged(id, "its bytes are not what its name says")
                } else {
                    failed(error)
                }
            })?;
            // The archive stops at the size; the digest is known at the end.
            if let Err(error) = reader.read(&mut [0]) {
                return Err(damaged(id, &error.to_string()));
            }
        }
    }
    let encoder = archive.into_inner().map_err(failed)?;
    let mut pieces = encoder.finish().map_err(failed)?;
    pieces.flush().map_err(failed)?;
    drop(reading);
    Ok(())
}

fn damaged(id: BlobId, why: &str) -> Problem {
    Problem::new(
        Kind::Unverified,
        Decider::Larder,
        format!("the stored file {} cannot be exported: {why}", id.to_hex()),
    )
    .advice("`larder verify --repair` fetches it again")
}
