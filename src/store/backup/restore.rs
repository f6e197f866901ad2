//! The way back: a backup into an empty data directory, and into an empty database.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar::Archive;
use tokio::runtime::Handle;

use super::archive::{self, Members, member_name};
use super::files::{self, CopyProgress, Lying};
use super::make::blob_of;
use super::{CARRIED, MANIFEST, Manifest, PARTIAL, blobs, refused};
use crate::config::Config;
use crate::package::BlobId;
use crate::store::incoming::keep_file;
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

/// A backup whose beginning was read.
struct Opened<'a> {
    from: &'a Path,
    manifest: Manifest,
    rows: File,
    files: BackupFiles<'a>,
}

/// The files of a backup, which are brought in the order of their names.
enum BackupFiles<'a> {
    Folder(PathBuf),
    Archive(Members<'a>),
}

/// The result of bringing one file.
enum Brought {
    Whole {
        bytes: u64,
    },
    /// The backup's file is gone, or is not what its name says.
    Damaged(PathBuf),
}

fn restore_into(
    from: &Path,
    config: &Config,
    progress: &CopyProgress,
    runtime: &Handle,
) -> Result<Restored, Error> {
    if !from.exists() {
        return Err(refused(from, "is not there"));
    }
    if from.is_dir() {
        return Opened::folder(from)?.restore(config, progress, runtime);
    }
    // The rows are read twice. A file without a name leaves the directory empty.
    private::folder(&config.data_dir)?;
    let scratch = tempfile::tempfile_in(&config.data_dir)?;
    let reader = archive::open(from)?;
    let mut archive = Archive::new(reader.clone());
    let members = Members::of(from, &mut archive, reader)?;
    Opened::archive(from, members, scratch)?.restore(config, progress, runtime)
}

impl<'a> Opened<'a> {
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn folder(from: &'a Path) -> Result<Self, Error> {
        let manifest = Manifest::read(from)?.ok_or_else(|| {
            refused(
                from,
                format!("is none, or was cut off: there is no {MANIFEST}"),
            )
        })?;
        let name = &manifest.rows.name;
        let rows = File::open(from.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused(from, format!("has lost its file {name}")),
            _ => error.into(),
        })?;
        Ok(Self {
            from,
            manifest,
            rows,
            files: BackupFiles::Folder(blobs(from)),
        })
    }

    fn archive(from: &'a Path, mut members: Members<'a>, mut rows: File) -> Result<Self, Error> {
        let manifest = members.manifest()?;
        members.rows(&manifest, &mut rows)?;
        Ok(Self {
            from,
            manifest,
            rows,
            files: BackupFiles::Archive(members),
        })
    }

    fn rows(&self) -> Result<RowsReader, Error> {
        let name = self.manifest.rows.name.clone();
        RowsReader::open(self.from, name, self.rows.try_clone()?)
    }

    fn restore(
        mut self,
        config: &Config,
        progress: &CopyProgress,
        runtime: &Handle,
    ) -> Result<Restored, Error> {
        let layout = layout(self.from, &self.manifest)?;
        let needed = look_through_rows(self.rows()?, &self.manifest, &layout)?;
        let path = &config.data_dir;
        private::folder(path)?;
        let markers = Markers::being_restored(path)?;
        let directory = DataDirectory::take(path)?;
        markers.forget_packages()?;
        for name in CARRIED {
            if let Some(text) = self.manifest.carried.get(name) {
                let mut file = private::create(&path.join(name))?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
        }
        let sealer = Sealer::open(path, config.encryption.as_ref())?;
        progress.all.store(self.manifest.bytes, Ordering::Relaxed);
        let lost: HashSet<&str> = self.manifest.lost.iter().map(String::as_str).collect();
        let is_lost = |id: &BlobId| lost.contains(id.to_hex().as_str());
        let expected = needed.into_iter().filter(|id| !is_lost(id));
        let expected: BTreeSet<BlobId> = expected.collect();
        bring_files(
            self.from,
            &mut self.files,
            &directory,
            expected,
            sealer.as_ref(),
            progress,
        )?;
        files::sync_below(directory.blobs())?;
        let rows = self.rows()?;
        let manifest = self.manifest;
        let written = runtime.block_on(bring_rows(
            rows, &manifest, &layout, config, &directory, &markers,
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
}

impl BackupFiles<'_> {
    /// Brings a file to where it belongs, unless it is there and whole.
    fn bring(
        &mut self,
        id: BlobId,
        here: &Path,
        partial: &Path,
        sealer: Option<&Sealer>,
    ) -> Result<Brought, Error> {
        let (lying, bytes, named) = match self {
            Self::Folder(there) => {
                let Some((lying, bytes)) = Lying::find(there, id)? else {
                    return Ok(Brought::Damaged(Lying::Plain.path(there, id)));
                };
                let (source, file) = (lying.path(there, id), lying.path(here, id));
                if !files::is_copy(&file, &source, lying)? {
                    files::copy(&source, partial, &file)?;
                }
                (lying, bytes, source)
            }
            Self::Archive(members) => {
                let (lying, mut member) = members.file(id)?;
                let (bytes, file) = (member.bytes(), lying.path(here, id));
                let is_there = file.metadata().is_ok_and(|it| it.len() == bytes);
                if is_there && files::is_whole(here, id, lying, sealer)? {
                    return Ok(Brought::Whole { bytes });
                }
                let mut written = private::create(partial)?;
                member.pour(&mut written)?;
                keep_file(&written, partial, &file)?;
                (lying, bytes, PathBuf::from(member_name(id, lying)))
            }
        };
        Ok(if files::is_whole(here, id, lying, sealer)? {
            Brought::Whole { bytes }
        } else {
            remove(&lying.path(here, id))?;
            Brought::Damaged(named)
        })
    }

    /// # Errors
    /// Where there is more than the manifest says.
    fn end(&mut self) -> Result<(), Error> {
        match self {
            // The next backup into the folder sweeps it.
            Self::Folder(_) => Ok(()),
            Self::Archive(members) => members.end(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}

/// Brings the files, and reads each through where it is then.
fn bring_files(
    from: &Path,
    files: &mut BackupFiles<'_>,
    directory: &DataDirectory,
    expected: BTreeSet<BlobId>,
    sealer: Option<&Sealer>,
    progress: &CopyProgress,
) -> Result<(), Error> {
    let partial = directory.partial().join(PARTIAL);
    let mut damaged: Vec<PathBuf> = Vec::new();
    for id in expected {
        match files.bring(id, directory.blobs(), &partial, sealer)? {
            Brought::Whole { bytes } => {
                progress.done.fetch_add(bytes, Ordering::Relaxed);
            }
            Brought::Damaged(path) => damaged.push(path),
        }
    }
    files.end()?;
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
    mut rows: RowsReader,
    manifest: &Manifest,
    layout: &Layout,
    config: &Config,
    directory: &DataDirectory,
    markers: &Markers,
) -> Result<RowsWritten, Error> {
    let path = directory.path();
    let file = path.join("packages.sqlite");
    let packages = Packages::open(&file, &config.packages, directory.identity()?, markers).await?;
    let written = packages
        .put_rows(&manifest.identity, layout, || rows.next_row(layout))
        .await;
    packages.close().await;
    let written = written?;
    if config.packages.database.is_some() {
        markers.remember_database(&manifest.identity)?;
    } else {
        markers.remember_package_catalog(&manifest.identity)?;
    }
    Ok(written)
}

/// Reads all rows before anything is written: whether they are what the manifest says, and which files
/// they need.
fn look_through_rows(
    mut rows: RowsReader,
    manifest: &Manifest,
    layout: &Layout,
) -> Result<HashSet<BlobId>, Error> {
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
    backup: PathBuf,
    name: String,
    lines: BufReader<zstd::Decoder<'static, BufReader<Hashing>>>,
    line: String,
}

impl RowsReader {
    /// Reads the file from its beginning.
    fn open(backup: &Path, name: String, mut file: File) -> Result<Self, Error> {
        file.rewind()?;
        let hashing = Hashing {
            file,
            sha256: Sha256::new(),
            bytes: 0,
        };
        Ok(Self {
            backup: backup.to_owned(),
            lines: BufReader::new(zstd::Decoder::new(hashing)?),
            name,
            line: String::new(),
        })
    }

    fn damaged(&self) -> Error {
        refused(
            &self.backup,
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
