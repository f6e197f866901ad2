//! Taking a bundle in. Signature and digests are checked before anything of it is visible; what was
//! staged of a bundle that is not whole goes again.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek as _};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tar::Entry as Member;
use tokio::runtime::Handle;

use super::bundle::{
    self, BLOBS, BundleHead, HEAD, HEAD_BYTES_MAX, LINE_BYTES_MAX, MANIFEST, ManifestLine, SBOM,
    SIGNATURE, SeenBlobs, VERSION, format_of,
};
use super::seal::Unsealing;
use super::signature::is_signed;
use crate::format::bounded::{self, ReadError, TooLong};
use crate::format::plain;
use crate::package::{Algorithm, BlobId, Digest, Digester, Expected};
use crate::problem::{Decider, Kind, Problem};
use crate::repository::{Committer, Reader, Snapshot};
use crate::store::archive::unpacked;
use crate::store::catalog::{AssetKey, AssetRow};
use crate::store::{Keeping, Store};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    pub bundle: String,
    pub created: String,
    pub scope: String,
    /// The public key that signed the bundle.
    pub key: String,
    /// Files of packages that were not here, their bytes, and those that were.
    pub files_added: u64,
    pub files_present: u64,
    pub bytes_added: u64,
    /// Versions of which nothing was here.
    pub versions_added: u64,
    pub documents_added: u64,
    /// Documents of which newer ones are here.
    pub documents_older: u64,
    /// Versions of repositories' own.
    pub releases_added: u64,
    pub releases_present: u64,
}

/// A bundle's bytes. Where they cannot be read, that says nothing against the bundle.
struct Source<'a, R> {
    bundle: R,
    lost: &'a Cell<Option<std::io::Error>>,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.bundle.read(into).map_err(|error| {
            let kind = error.kind();
            if kind != std::io::ErrorKind::Interrupted {
                self.lost.set(Some(error));
            }
            kind.into()
        })
    }
}

/// Where what a bundle names goes here.
#[derive(Default)]
struct Places {
    /// By the bundle's connection, the registry of ours.
    connections: HashMap<String, String>,
}

/// One who takes a bundle in.
pub struct Importer {
    pub store: Arc<Store>,
    pub reader: Arc<Reader>,
    pub committer: Arc<Committer>,
    pub snapshot: Arc<Snapshot>,
    /// Public keys whose bundles are taken in, beside those of the configuration.
    pub trusted: Vec<String>,
}

impl Importer {
    /// Takes the bundle in. Blocks.
    ///
    /// # Errors
    /// Where it is not whole, not signed by who is trusted, or has no place here: then nothing has
    /// changed. Where it cannot be read to its end, nothing of it is visible, and the next time goes on
    /// from what came.
    pub fn import(&self, bundle: impl Read) -> Result<ImportReport, Problem> {
        let runtime = Handle::current();
        let _alone = runtime.block_on(self.store.imports().take_turn());
        let lost = Cell::new(None);
        let source = Source {
            bundle,
            lost: &lost,
        };
        match (self.stage(source, &runtime), lost.take()) {
            (Ok((head, manifest, places)), _) => self.show(&head, manifest, &places, &runtime),
            (Err(_), Some(why)) => Err(Problem::invalid(format!(
                "the bundle could not be read to its end, and nothing of it is visible: {why}"
            ))
            .advice("import it again: what came is kept, and not taken in a second time")),
            (Err(problem), None) => {
                let discarded = runtime.block_on(self.store.imports().discard_staged());
                discarded.map_err(failed)?;
                Err(problem)
            }
        }
    }

    /// Checks everything, and stages the blobs.
    fn stage(
        &self,
        bundle: impl Read,
        runtime: &Handle,
    ) -> Result<(BundleHead, File, Places), Problem> {
        let mut archive = tar::Archive::new(unpacked(Unsealing::new(bundle)).map_err(unread)?);
        // No header says anything of the member behind it: all names are short.
        let mut members = archive.entries().map_err(unread)?.raw(true);
        let mut next = |name: &str| {
            let member = members.next().ok_or_else(|| broken("it ends early"))?;
            let member = member.map_err(unread)?;
            let path = member.path_bytes();
            let is_it = *path == *name.as_bytes()
                && member.header().entry_type() == tar::EntryType::Regular;
            drop(path);
            if is_it {
                Ok(member)
            } else {
                Err(broken(format!(
                    "it has something else in the place of {name}"
                )))
            }
        };
        let head_bytes = small(&mut next(HEAD)?)?;
        let signature = small(&mut next(SIGNATURE)?)?;
        let head = self.trust(&head_bytes, &signature)?;
        let mut manifest = self.store.directory().scratch().map_err(failed)?;
        copy_checked(&mut next(MANIFEST)?, &head.manifest, &mut manifest)?;
        let places = self.places(&manifest, runtime)?;
        copy_checked(&mut next(SBOM)?, &head.sbom, &mut std::io::sink())?;
        let mut seen = SeenBlobs::default();
        for entry in entries(&manifest)? {
            for (id, size) in entry?.blobs()? {
                if seen.is_first(id) {
                    let mut member = next(&format!("{BLOBS}{}", id.to_hex()))?;
                    self.stage_blob(&mut member, id, size, runtime)?;
                }
            }
        }
        if members.next().is_some() {
            return Err(broken("it has more in it than its manifest says"));
        }
        // To the end: the archive's own is before that of what is compressed.
        let mut decoder = archive.into_inner();
        std::io::copy(&mut decoder, &mut std::io::sink()).map_err(unread)?;
        if !decoder.finish().into_inner().verify(&head.key) {
            return Err(broken("its bytes are not those that its seal is of"));
        }
        Ok((head, manifest, places))
    }

    /// The head, where it is signed by who is trusted.
    fn trust(&self, bytes: &[u8], signature: &[u8]) -> Result<BundleHead, Problem> {
        let head: BundleHead =
            serde_json::from_slice(bytes).map_err(|error| broken(plain::json(&error)))?;
        if head.format != "larder-bundle" || head.version != VERSION {
            return Err(broken(format!(
                "it is of version {} of the format, and this Larder reads version {VERSION}",
                head.version
            )));
        }
        let own = &self.snapshot.config.bundle.trusted;
        if !own.iter().chain(&self.trusted).any(|key| *key == head.key) {
            return Err(Problem::new(
                Kind::Denied,
                Decider::Larder,
                format!("the bundle is signed by {}, which is not trusted here", head.key),
            )
            .advice("where that is the key that `larder export` printed, say --trust KEY, or list it in `bundle.trusted`"));
        }
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| broken("its signature cannot be read"))?;
        if !is_signed(&head.key, bytes, &signature) {
            return Err(broken("its signature is not that of its key"));
        }
        Ok(head)
    }

    /// Where everything goes; what has no place is told before anything is staged.
    fn places(&self, manifest: &File, runtime: &Handle) -> Result<Places, Problem> {
        let mut places = Places::default();
        let ours = &self.snapshot.connections;
        let known = self.snapshot.repository_names();
        let mut missing = BTreeSet::new();
        for entry in entries(manifest)? {
            match entry? {
                ManifestLine::Connection(one) => {
                    let format = format_of(&one.format)?;
                    let mut of_format = ours.iter().filter(|it| it.format == format);
                    let same = of_format.clone().find(|it| it.name == one.name);
                    let only = match (of_format.next(), of_format.next()) {
                        (Some(only), None) => Some(only),
                        _ => None,
                    };
                    match same.or(only) {
                        Some(place) => {
                            places.connections.insert(one.name, place.registry.clone());
                        }
                        None => {
                            missing.insert(format!(
                                "[[connection]] name = \"{}\", format = \"{}\", url = \"{}\", offline = true",
                                one.name, one.format, one.url
                            ));
                        }
                    }
                }
                ManifestLine::Release(release) if !known.contains(&release.repository) => {
                    missing.insert(format!("[[repository]] name = \"{}\"", release.repository));
                }
                ManifestLine::Release(release) => drop(release.new_release()?),
                ManifestLine::Asset(asset) if missing.is_empty() => {
                    let (mut key, row) = asset.row()?;
                    key.connection = places.of(&key.connection)?.into();
                    self.may_have(&key, &row, runtime)?;
                }
                ManifestLine::Asset(_) => {}
                ManifestLine::Document(document) => drop(document.row()?),
                ManifestLine::Date(_) => {}
            }
        }
        if missing.is_empty() {
            return Ok(places);
        }
        let missing: Vec<String> = missing.into_iter().collect();
        Err(Problem::new(
            Kind::Conflict,
            Decider::Larder,
            "the bundle has what there is no place for here",
        )
        .advice(format!("add to the configuration: {}", missing.join("; "))))
    }

    /// Refuses other bytes than those that were seen first: the row here, where there is one.
    fn may_have(
        &self,
        key: &AssetKey,
        row: &AssetRow,
        runtime: &Handle,
    ) -> Result<Option<AssetRow>, Problem> {
        let here = runtime.block_on(self.store.catalog().assets().find(key));
        match here.map_err(failed)? {
            Some(here) if here.blob != row.blob => Err(Problem::new(
                Kind::Conflict,
                Decider::Larder,
                format!("{} is here with other bytes than in the bundle", key.asset),
            )
            .advice("look into where either came from; a file's bytes never change")),
            here => Ok(here),
        }
    }

    fn stage_blob(
        &self,
        member: &mut Member<'_, impl Read>,
        id: BlobId,
        size: u64,
        runtime: &Handle,
    ) -> Result<(), Problem> {
        if member.size() != size {
            return Err(broken(format!("{} has another length", id.to_hex())));
        }
        let is_here = runtime.block_on(self.is_here(id, size))?;
        if is_here {
            // Read all the same: whether the bundle is whole is asked of all of it.
            let found = pour(member, &mut std::io::sink())?;
            return if found == id {
                Ok(())
            } else {
                Err(broken(format!("the bytes of {} are others", id.to_hex())))
            };
        }
        let unkept = |error: crate::store::Error| {
            if error.is_unverified() {
                broken(format!("the bytes of {} are others", id.to_hex()))
            } else {
                error.into()
            }
        };
        let mut incoming = runtime
            .block_on(self.store.incoming(Some(size), &[], Keeping::Staged))
            .map_err(unkept)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = member.read(&mut piece).map_err(unread)?;
            if count == 0 {
                break;
            }
            let bytes = Bytes::copy_from_slice(piece.get(..count).unwrap_or_default());
            runtime.block_on(incoming.write(bytes)).map_err(unkept)?;
        }
        let expected = Digest::from_hex(Algorithm::Sha256, &id.to_hex());
        let expected: Expected = expected.into_iter().collect();
        runtime.block_on(async {
            let verified = incoming.verify(&expected).await.map_err(unkept)?;
            // Noted first: what is kept and not noted would stay.
            self.store.imports().stage(id).await.map_err(failed)?;
            verified.keep(Keeping::Staged).await.map_err(unkept)?;
            Ok(())
        })
    }

    /// Whether the blob is here, and stays while the bundle comes in.
    async fn is_here(&self, id: BlobId, size: u64) -> Result<bool, Problem> {
        let blob = self.store.files().open(id).await.map_err(failed)?;
        if blob.is_none_or(|blob| blob.size() != size) {
            return Ok(false);
        }
        self.store.imports().stage(id).await.map_err(failed)?;
        self.store.keep_for_good(id).await.map_err(failed)
    }

    /// Makes visible what was staged, version by version.
    fn show(
        &self,
        head: &BundleHead,
        manifest: File,
        places: &Places,
        runtime: &Handle,
    ) -> Result<ImportReport, Problem> {
        let mut report = ImportReport {
            bundle: head.id.clone(),
            created: head.created.to_string(),
            scope: head.scope.clone(),
            key: head.key.clone(),
            ..ImportReport::default()
        };
        let mut version: Vec<(AssetKey, AssetRow)> = Vec::new();
        for entry in entries(&manifest)? {
            let entry = entry?;
            let is_next = |asset: &bundle::BundleAsset| {
                version.last().is_none_or(|(key, row)| {
                    row.version == asset.version
                        && key.asset.package.to_string() == asset.package
                        && places
                            .connections
                            .get(&asset.connection)
                            .map(String::as_str)
                            == Some(&*key.connection)
                })
            };
            if !matches!(&entry, ManifestLine::Asset(asset) if is_next(asset)) {
                self.show_version(&mut version, &mut report, runtime)?;
            }
            match entry {
                ManifestLine::Asset(asset) => {
                    let (mut key, row) = asset.row()?;
                    key.connection = places.of(&key.connection)?.into();
                    version.push((key, row));
                }
                ManifestLine::Document(document) => {
                    let connection = places.of(&document.connection)?.to_owned();
                    runtime.block_on(self.show_document(&connection, &document, &mut report))?;
                }
                ManifestLine::Date(date) => {
                    let connection = places.of(&date.connection)?;
                    let package = crate::format::package(&date.package)?;
                    let dates = [(date.version, date.published)];
                    let catalog = self.store.catalog();
                    runtime
                        .block_on(catalog.publish_dates().keep(connection, &package, &dates))
                        .map_err(failed)?;
                }
                ManifestLine::Release(release) => {
                    let new = release.new_release()?;
                    let done = self.committer.take_in(&release.repository, new);
                    if runtime.block_on(done)? {
                        report.releases_added += 1;
                    } else {
                        report.releases_present += 1;
                    }
                }
                ManifestLine::Connection(_) => {}
            }
        }
        self.show_version(&mut version, &mut report, runtime)?;
        runtime.block_on(async {
            self.store.imports().unstage().await.map_err(failed)?;
            // Files that were here before the import were held during it. From here on they are
            // held only if a row asks for it.
            self.store.retention().settle().await.map_err(failed)?;
            for connection in places.connections.values() {
                self.reader.fetcher().renew(connection);
            }
            Ok(report)
        })
    }

    fn show_version(
        &self,
        version: &mut Vec<(AssetKey, AssetRow)>,
        report: &mut ImportReport,
        runtime: &Handle,
    ) -> Result<(), Problem> {
        let assets = std::mem::take(version);
        if assets.is_empty() {
            return Ok(());
        }
        let mut shown = Vec::with_capacity(assets.len());
        for (key, row) in assets {
            if self.may_have(&key, &row, runtime)?.is_some() {
                report.files_present += 1;
            } else {
                report.files_added += 1;
                report.bytes_added += row.size;
            }
            shown.push((key, row));
        }
        let is_new = runtime
            .block_on(self.store.records().add_imported_version(&shown))
            .map_err(failed)?;
        report.versions_added += u64::from(is_new);
        Ok(())
    }

    async fn show_document(
        &self,
        connection: &str,
        document: &bundle::BundleDocument,
        report: &mut ImportReport,
    ) -> Result<(), Problem> {
        let row = document.row()?;
        let catalog = self.store.catalog();
        let here = catalog.documents().find(connection, &document.key).await;
        let here = here.map_err(failed)?;
        if here.is_some_and(|here| here.checked_at > row.checked_at) {
            report.documents_older += 1;
            return Ok(());
        }
        self.store
            .records()
            .add_imported_document(connection, &document.key, &row)
            .await
            .map_err(failed)?;
        report.documents_added += 1;
        Ok(())
    }
}

impl Places {
    fn of(&self, connection: &str) -> Result<&str, Problem> {
        let place = self.connections.get(connection);
        place
            .map(String::as_str)
            .ok_or_else(|| broken(format!("it names no connection {connection}")))
    }
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::internal("the import failed", error.to_string())
}

/// A bundle that is not whole.
fn broken(why: impl std::fmt::Display) -> Problem {
    Problem::new(
        Kind::Unverified,
        Decider::Larder,
        format!("the bundle is refused, and nothing has changed: {why}"),
    )
    .advice("carry it over again, or export it again")
}

/// Bytes that cannot be decoded.
fn unread(_: std::io::Error) -> Problem {
    broken("it is no bundle, or was cut or changed on the way")
}

/// A part that is held in memory.
fn small(member: &mut Member<'_, impl Read>) -> Result<Vec<u8>, Problem> {
    bounded::read(member, HEAD_BYTES_MAX).map_err(|error| match error {
        ReadError::TooLong(error) => broken(error),
        ReadError::Io(error) => unread(error),
    })
}

/// Copies a part, and refuses it where it is not what the head says.
fn copy_checked(
    member: &mut Member<'_, impl Read>,
    part: &bundle::Part,
    out: &mut impl std::io::Write,
) -> Result<(), Problem> {
    let refused = || broken("its manifest is not what its signed head says");
    if member.size() != part.size {
        return Err(refused());
    }
    if pour(member, out)?.to_hex() == part.sha256 {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Pours a part out, and names what it was.
fn pour(
    member: &mut Member<'_, impl Read>,
    out: &mut impl std::io::Write,
) -> Result<BlobId, Problem> {
    let mut digester = Digester::new(&[]);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = member.read(&mut piece).map_err(unread)?;
        let bytes = piece.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(digester.finish().blob);
        }
        digester.update(bytes);
        out.write_all(bytes).map_err(failed)?;
    }
}

/// The manifest's lines, from its beginning.
fn entries(
    manifest: &File,
) -> Result<impl Iterator<Item = Result<ManifestLine, Problem>>, Problem> {
    let mut file = manifest.try_clone().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let mut reader = BufReader::with_capacity(PIECE_BYTES, file);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        match read {
            Ok(0) => None,
            Ok(count) if count as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") => {
                Some(Err(broken(TooLong {
                    bytes_max: LINE_BYTES_MAX,
                })))
            }
            Ok(_) => {
                Some(serde_json::from_slice(&line).map_err(|error| broken(plain::json(&error))))
            }
            Err(error) => Some(Err(failed(error))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    #[test]
    fn what_is_held_in_memory_of_a_bundle_has_a_bound() {
        let read = |bytes: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes);
            let mut bundle = tar::Builder::new(Vec::new());
            let text = std::io::repeat(b'x').take(bytes);
            bundle.append_data(&mut header, HEAD, text).unwrap();
            let bundle = zstd::encode_all(&*bundle.into_inner().unwrap(), 1).unwrap();
            let mut archive = tar::Archive::new(unpacked(&*bundle).unwrap());
            let mut member = archive.entries().unwrap().next().unwrap().unwrap();
            small(&mut member)
        };
        assert_eq!(read(HEAD_BYTES_MAX).unwrap().len() as u64, HEAD_BYTES_MAX);
        let problem = read(HEAD_BYTES_MAX + 1).unwrap_err();
        assert!(problem.message.contains("more than"), "{problem}");
    }

    #[test]
    fn a_line_of_a_manifest_has_a_bound() {
        let read = |bytes: u64| {
            // Zeros, and the line's end.
            let mut manifest = tempfile::tempfile().unwrap();
            manifest.seek(SeekFrom::Start(bytes - 1)).unwrap();
            manifest.write_all(b"\n").unwrap();
            let first = entries(&manifest).unwrap().next().unwrap();
            first.err().unwrap().message
        };
        let is_long = |message: &str| message.contains("more than");
        assert!(!is_long(&read(LINE_BYTES_MAX)));
        assert!(is_long(&read(LINE_BYTES_MAX + 1)));
    }
}
