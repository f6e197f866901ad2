//! The way back: a backup into an empty data directory, and into an empty database.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::files::{self, CopyProgress, Lying};
use super::make::blob_of;
use super::{CARRIED, MANIFEST, Manifest, PARTIAL, blobs, refused};
use crate::config::Config;
use crate::package::BlobId;
use crate::store::markers::Markers;
use crate::store::packages::Packages;
use crate::store::packages::tables::{Column, Layout, RowsWritten, Table};
use crate::store::seal::Sealer;
use crate::store::{DataDirectory, Error, private};
use crate::task::Tasks;

/// Damaged files that are named; there may be many more.
const NAMED: usize = 5;

/// The result of a restore.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// When the backup was made.
    pub created: Timestamp,
    pub packages: u64,
    pub versions: u64,
    pub files: u64,
    pub bytes: u64,
    /// The database is the one that the backup is of: its rows are what they were.
    pub rows_were_there: bool,
    /// The SHA-256 of files that were damaged or gone already when the backup was made.
    pub lost: Vec<String>,
}

/// Makes the configuration's data directory, which has to be empty, what it was when the backup was
/// made. One that was begun and cut off is gone on with.
///
/// # Errors
/// Where the backup is not whole, the directory or the database is not empty, or a disk fails. Larder
/// does not start on the directory then.
pub async fn restore(
    from: &Path,
    config: &Arc<Config>,
    tasks: &Tasks,
    progress: &Arc<CopyProgress>,
) -> Result<Restored, Error> {
    let (from, config, progress) = (from.to_owned(), Arc::clone(config), Arc::clone(progress));
    let work = move || restore_into(&from, &config, &progress, &Handle::current());
    let restored = tasks.spawn_blocking(work).await;
    restored.map_err(|_| Error::Stopped)?
}

fn restore_into(
    from: &Path,
    config: &Config,
    progress: &CopyProgress,
    runtime: &Handle,
) -> Result<Restored, Error> {
    let manifest = Manifest::read(from)?.ok_or_else(|| {
        refused(
            from,
            format!("is none, or was cut off: there is no {MANIFEST}"),
        )
    })?;
    let layout = layout(from, &manifest)?;
    let needed = look_through_rows(from, &manifest, &layout)?;
    let path = &config.data_dir;
    private::folder(path)?;
    let markers = Markers::being_restored(path)?;
    let directory = DataDirectory::take(path)?;
    markers.forget_packages()?;
    for name in CARRIED {
        if let Some(text) = manifest.carried.get(name) {
            let mut file = private::create(&path.join(name))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
    }
    let sealer = Sealer::open(path, config.encryption.as_ref())?;
    progress.all.store(manifest.bytes, Ordering::Relaxed);
    let lost: HashSet<&str> = manifest.lost.iter().map(String::as_str).collect();
    let is_lost = |id: &BlobId| lost.contains(id.to_hex().as_str());
    let expected = needed.into_iter().filter(|id| !is_lost(id));
    bring_files(from, &directory, expected, sealer.as_ref(), progress)?;
    files::sync_below(directory.blobs())?;
    let written = runtime.block_on(bring_rows(
        from, &manifest, &layout, config, &directory, &markers,
    ))?;
    markers.restored()?;
    Ok(Restored {
        created: manifest.created,
        packages: manifest.rows_of("package"),
        versions: manifest.rows_of("package_version"),
        files: manifest.files,
        bytes: manifest.bytes,
        rows_were_there: written == RowsWritten::None,
        lost: manifest.lost,
    })
}

/// Brings the files, and reads each through where it is then.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn bring_files(
    from: &Path,
    directory: &DataDirectory,
    expected: impl Iterator<Item = BlobId>,
    sealer: Option<&Sealer>,
    progress: &CopyProgress,
) -> Result<(), Error> {
    let (there, here) = (blobs(from), directory.blobs());
    let partial = directory.partial().join(PARTIAL);
    let mut damaged: Vec<PathBuf> = Vec::new();
    for id in expected {
        let Some((lying, bytes)) = Lying::find(&there, id)? else {
            damaged.push(Lying::Plain.path(&there, id));
            continue;
        };
        let (source, file) = (lying.path(&there, id), lying.path(here, id));
        if !files::is_copy(&file, &source, lying)? {
            files::copy(&source, &partial, &file)?;
        }
        if !files::is_whole(here, id, lying, sealer)? {
            std::fs::remove_file(&file)?;
            damaged.push(source);
        }
        progress.done.fetch_add(bytes, Ordering::Relaxed);
    }
    if damaged.is_empty() {
        return Ok(());
    }
    damaged.sort_unstable();
    let mut names: Vec<String> = damaged.iter().map(|it| it.display().to_string()).collect();
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("{more} more"));
    }
    Err(refused(
        from,
        format!(
            "is damaged, and Larder does not start on what was restored of it: these files are gone, or not what their names say: {}. Use another backup in an empty data directory, or bring the files back and restore again",
            names.join(", ")
        ),
    ))
}

/// Writes the rows into the database that the configuration names.
async fn bring_rows(
    from: &Path,
    manifest: &Manifest,
    layout: &Layout,
    config: &Config,
    directory: &DataDirectory,
    markers: &Markers,
) -> Result<RowsWritten, Error> {
    let url = config.packages.database.as_ref();
    let path = directory.path();
    let file = path.join("packages.sqlite");
    let packages = Packages::open(&file, url, directory.identity()?, markers).await?;
    let mut rows = RowsReader::open(from, manifest)?;
    let written = packages
        .put_rows(&manifest.identity, layout, || rows.next_row(layout))
        .await;
    packages.close().await;
    let written = written?;
    if url.is_some() {
        markers.remember_database(&manifest.identity)?;
    } else {
        markers.remember_package_catalog(&manifest.identity)?;
    }
    Ok(written)
}

/// Reads all rows before anything is written: whether they are what the manifest says, and which files
/// they need.
fn look_through_rows(
    from: &Path,
    manifest: &Manifest,
    layout: &Layout,
) -> Result<HashSet<BlobId>, Error> {
    let mut rows = RowsReader::open(from, manifest)?;
    let (mut needed, mut counts) = (HashSet::new(), BTreeMap::new());
    while let Some((table, row)) = rows.next_row(layout)? {
        *counts.entry(table.name).or_insert(0) += 1;
        let columns = layout.get(table.name).map_or(table.columns, Vec::as_slice);
        needed.extend(blob_of(columns, &row));
    }
    let count_of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let mut tables = manifest.tables.iter();
    if !tables.all(|(name, facts)| count_of(name) == facts.rows) || !rows.is_whole(manifest)? {
        return Err(rows.damaged());
    }
    Ok(needed)
}

/// The columns of the backup's rows, all of which this Larder has to know.
fn layout(from: &Path, manifest: &Manifest) -> Result<Layout, Error> {
    let mut layout = Layout::new();
    for (name, facts) in &manifest.tables {
        let table = Table::named(name);
        let columns = table.and_then(|table| {
            let columns = facts.columns.iter();
            let columns = columns.map(|column| table.column(column));
            Some((table.name, columns.collect::<Option<Vec<Column>>>()?))
        });
        let Some((name, columns)) = columns else {
            return Err(refused(
                from,
                format!(
                    "was made by Larder {}, and has rows in `{name}` that this one does not know: use that version, or a newer one",
                    manifest.larder
                ),
            ));
        };
        layout.insert(name, columns);
    }
    Ok(layout)
}

/// Bytes of a file, hashed as they are read.
struct Hashing {
    file: File,
    sha256: Sha256,
    bytes: u64,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.sha256.update(into.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }
}

/// The rows of a backup, one after another.
struct RowsReader {
    folder: PathBuf,
    name: String,
    lines: BufReader<zstd::Decoder<'static, BufReader<Hashing>>>,
    line: String,
}

impl RowsReader {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn open(folder: &Path, manifest: &Manifest) -> Result<Self, Error> {
        let name = manifest.rows.name.clone();
        let file = File::open(folder.join(&name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused(folder, format!("has lost its file {name}")),
            _ => error.into(),
        })?;
        let hashing = Hashing {
            file,
            sha256: Sha256::new(),
            bytes: 0,
        };
        Ok(Self {
            folder: folder.to_owned(),
            lines: BufReader::new(zstd::Decoder::new(hashing)?),
            name,
            line: String::new(),
        })
    }

    fn damaged(&self) -> Error {
        refused(
            &self.folder,
            format!(
                "is damaged: its file {} is not what it was. Use another one",
                self.name
            ),
        )
    }

    fn next_row(&mut self, layout: &Layout) -> Result<Option<(&'static Table, Vec<Value>)>, Error> {
        self.line.clear();
        // Where bytes are not what they were, decompressing fails in some way or other.
        let read = self.lines.read_line(&mut self.line);
        if read.map_err(|_| self.damaged())? == 0 {
            return Ok(None);
        }
        let row: (String, Vec<Value>) =
            serde_json::from_str(&self.line).map_err(|_| self.damaged())?;
        let is_right = |table: &&Table| {
            let columns = layout.get(table.name);
            columns.is_some_and(|columns| columns.len() == row.1.len())
        };
        let table = Table::named(&row.0).filter(is_right);
        Ok(Some((table.ok_or_else(|| self.damaged())?, row.1)))
    }

    /// Whether the file was what the manifest says; to be asked at the end.
    fn is_whole(&mut self, manifest: &Manifest) -> Result<bool, Error> {
        let hashing = self.lines.get_mut().get_mut();
        // Bytes behind the last frame are read too.
        io::copy(hashing, &mut io::sink())?;
        let hashing = hashing.get_ref();
        let sha256 = hex::encode(hashing.sha256.clone().finalize());
        Ok(hashing.bytes == manifest.rows.bytes && sha256 == manifest.rows.sha256)
    }
}
