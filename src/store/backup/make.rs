//! Making a backup, while packages are published and read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use super::archive::Place;
use super::files::{self, CopyProgress, Lying};
use super::{
    BLOBS, BackupReport, CARRIED, EarlierFiles, LastBackup, LostFile, MANIFEST, Manifest, PARTIAL,
    ROWS, ROWS_END, RowsFile, TableFacts, blobs, is_rows, refused,
};
use crate::clock;
use crate::package::BlobId;
use crate::store::packages::random_name;
use crate::store::packages::tables::{Column, TABLES, Table};
use crate::store::{Error, Store, private};

/// Rows are text that repeats itself; more effort buys little.
const LEVEL: i32 = 3;

/// Bytes on their way to a file, hashed and counted.
struct Hashed {
    file: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sha256.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The rows as they were written, and the files that they need.
pub(super) struct Rows {
    pub(super) file: RowsFile,
    tables: BTreeMap<String, TableFacts>,
    pub(super) needed: HashSet<BlobId>,
}

/// The files as they are in the backup.
#[derive(Default)]
pub(super) struct Copied {
    pub(super) files: HashMap<BlobId, Lying>,
    bytes: u64,
    sealed: u64,
    pub(super) new_files: u64,
    pub(super) new_bytes: u64,
    pub(super) lost: Vec<BlobId>,
}

impl Store {
    /// Writes all that cannot be fetched again, as it is at one instant: into a folder, or into a file
    /// where the path ends in `.tar` or `.tar.zst`. In a folder, the backup that is there is brought up to
    /// date, and what it has already is not copied again; a file is written anew.
    ///
    /// # Errors
    /// Where something else is there, or another backup is being written there, or a disk or catalog
    /// fails. The backup that was there is what it was then.
    pub async fn back_up(
        self: &Arc<Self>,
        out: &Path,
        earlier: EarlierFiles,
        progress: &Arc<CopyProgress>,
    ) -> Result<BackupReport, Error> {
        // From before the rows are read until their files are copied, none of these goes.
        let reading = self.retention.reading().await;
        let (store, out) = (Arc::clone(self), out.to_owned());
        let progress = Arc::clone(progress);
        let work = move || {
            let report = store.make_backup(&out, earlier, &progress, &Handle::current());
            drop(reading);
            report
        };
        let made = self.tasks.spawn_blocking(work).await;
        made.map_err(|_| Error::Stopped)?
    }

    fn make_backup(
        &self,
        out: &Path,
        earlier: EarlierFiles,
        progress: &CopyProgress,
        runtime: &Handle,
    ) -> Result<BackupReport, Error> {
        if is_within(out, self.directory.path()) {
            return Err(refused(
                out,
                "would lie within the data directory: name a place on another disk",
            ));
        }
        let identity = runtime.block_on(self.packages.identity())?;
        let report = match Place::of(out)? {
            Place::Folder => self.back_up_into(out, identity, earlier, progress, runtime)?,
            Place::File(_) if earlier == EarlierFiles::Verify => {
                return Err(refused(
                    out,
                    "is a file, which is written anew each time: `--verify` is of use with a folder alone",
                ));
            }
            Place::File(packing) => self.pack_into(out, packing, identity, progress, runtime)?,
        };
        self.remember_backup(LastBackup {
            at: report.created,
            out: out.to_owned(),
        })?;
        Ok(report)
    }

    fn back_up_into(
        &self,
        folder: &Path,
        identity: String,
        earlier: EarlierFiles,
        progress: &CopyProgress,
        runtime: &Handle,
    ) -> Result<BackupReport, Error> {
        private::folder(folder)?;
        let _lock = lock(folder)?;
        look_into(folder, &identity)?;
        private::folder(&blobs(folder))?;
        let created = clock::now();
        let name = rows_name();
        let file = private::create(&folder.join(&name))?;
        let (rows, file) = self.write_rows(name, file, runtime)?;
        file.sync_all()?;
        let copied = self.copy_files(folder, &rows.needed, earlier, progress)?;
        files::sync_below(&blobs(folder))?;
        let manifest = self.manifest(created, identity, rows, &copied)?;
        manifest.write(folder)?;
        sweep(folder, &manifest.rows.name, &copied.files)?;
        self.report(folder, &manifest, &copied, None, runtime)
    }

    /// The manifest of what was written.
    pub(super) fn manifest(
        &self,
        created: Timestamp,
        identity: String,
        rows: Rows,
        copied: &Copied,
    ) -> Result<Manifest, Error> {
        Ok(Manifest {
            larder: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            identity,
            rows: rows.file,
            tables: rows.tables,
            carried: self.carried()?,
            files: copied.files.len() as u64,
            bytes: copied.bytes,
            sealed: copied.sealed,
            lost: copied.lost.iter().map(|id| id.to_hex()).collect(),
        })
    }

    /// Writes all rows of the package catalog into the file, as they are at one instant.
    pub(super) fn write_rows(
        &self,
        name: String,
        file: File,
        runtime: &Handle,
    ) -> Result<(Rows, File), Error> {
        let written = Hashed {
            file: BufWriter::new(file),
            sha256: Sha256::new(),
            bytes: 0,
        };
        let mut encoder = zstd::Encoder::new(written, LEVEL)?;
        let facts = |table: &Table| {
            let columns = table.columns.iter().map(|(name, _)| (*name).to_owned());
            let columns = columns.collect();
            (table.name.to_owned(), TableFacts { columns, rows: 0 })
        };
        let mut tables: BTreeMap<String, TableFacts> = TABLES.iter().map(facts).collect();
        let mut needed = HashSet::new();
        runtime.block_on(self.packages.all_rows(async |table, row| {
            needed.extend(blob_of(table.columns, &row));
            if let Some(facts) = tables.get_mut(table.name) {
                facts.rows += 1;
            }
            serde_json::to_writer(&mut encoder, &(table.name, row)).map_err(io::Error::from)?;
            Ok(encoder.write_all(b"\n")?)
        }))?;
        let written = encoder.finish()?;
        let rows = Rows {
            file: RowsFile {
                name,
                bytes: written.bytes,
                sha256: hex::encode(written.sha256.finalize()),
            },
            tables,
            needed,
        };
        let file = written.file.into_inner();
        Ok((rows, file.map_err(io::IntoInnerError::into_error)?))
    }

    /// Copies the files that are not there yet.
    fn copy_files(
        &self,
        folder: &Path,
        needed: &HashSet<BlobId>,
        earlier: EarlierFiles,
        progress: &CopyProgress,
    ) -> Result<Copied, Error> {
        let (from, to) = (self.files.folder(), blobs(folder));
        let mut found = Vec::with_capacity(needed.len());
        for id in needed {
            found.push((*id, Lying::find(from, *id)?));
        }
        let lengths = found
            .iter()
            .filter_map(|(_, found)| found.as_ref())
            .map(|(_, bytes)| bytes);
        progress.all.store(lengths.sum(), Ordering::Relaxed);
        let mut copied = Copied::default();
        for (id, found) in found {
            if self.tasks.is_stopping() {
                return Err(Error::Stopped);
            }
            let is_here = match found {
                Some((lying, bytes)) => {
                    progress.done.fetch_add(bytes, Ordering::Relaxed);
                    self.copy_file(id, lying, folder, earlier, &mut copied)?
                }
                None => false,
            };
            if is_here {
                continue;
            }
            // The backup before may have what is damaged or gone here.
            match Lying::find(&to, id)? {
                Some((lying, bytes)) => copied.note(id, lying, bytes),
                None => copied.lost.push(id),
            }
        }
        Ok(copied)
    }

    /// Copies one file, where it is not there yet; says whether it is what its name says.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn copy_file(
        &self,
        id: BlobId,
        lying: Lying,
        folder: &Path,
        earlier: EarlierFiles,
        copied: &mut Copied,
    ) -> Result<bool, Error> {
        let there = blobs(folder);
        let (from, to) = (lying.path(self.files.folder(), id), lying.path(&there, id));
        let sealer = self.files.sealer().map(AsRef::as_ref);
        if files::is_copy(&to, &from, lying)?
            && (earlier == EarlierFiles::Trust || files::is_whole(&there, id, lying, sealer)?)
        {
            copied.note(id, lying, to.metadata()?.len());
            return Ok(true);
        }
        if !files::is_whole(self.files.folder(), id, lying, sealer)? {
            return Ok(false);
        }
        let began = Instant::now();
        let bytes = files::copy(&from, &folder.join(PARTIAL), &to)?;
        self.make_way(began);
        copied.note(id, lying, bytes);
        copied.new_files += 1;
        copied.new_bytes += bytes;
        Ok(true)
    }

    /// Rests as long as the work since then took, where publishes wait for the same disk.
    pub(super) fn make_way(&self, began: Instant) {
        if self.unsettled.count() > 0 {
            std::thread::sleep(began.elapsed());
        }
    }

    /// The small files of the data directory.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn carried(&self) -> io::Result<BTreeMap<String, String>> {
        let mut carried = BTreeMap::new();
        for name in CARRIED {
            match std::fs::read_to_string(self.directory.path().join(name)) {
                Ok(text) => {
                    carried.insert(name.to_owned(), text);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(carried)
    }

    pub(super) fn report(
        &self,
        out: &Path,
        manifest: &Manifest,
        copied: &Copied,
        archive_bytes: Option<u64>,
        runtime: &Handle,
    ) -> Result<BackupReport, Error> {
        let mut lost = Vec::new();
        for id in &copied.lost {
            let assets = runtime.block_on(self.packages.releases().assets_of(*id))?;
            lost.push(LostFile {
                sha256: id.to_hex(),
                assets,
            });
        }
        Ok(BackupReport {
            out: out.to_owned(),
            created: manifest.created,
            packages: manifest.rows_of("package"),
            versions: manifest.rows_of("package_version"),
            files: manifest.files,
            bytes: manifest.bytes,
            copied_files: copied.new_files,
            copied_bytes: copied.new_bytes,
            rows_bytes: manifest.rows.bytes,
            archive_bytes,
            sealed: manifest.sealed,
            lost,
        })
    }
}

impl Copied {
    pub(super) fn note(&mut self, id: BlobId, lying: Lying, bytes: u64) {
        self.bytes += bytes;
        self.sealed += u64::from(lying == Lying::Sealed);
        self.files.insert(id, lying);
    }
}

/// The blob that a row needs.
pub(super) fn blob_of(columns: &[Column], row: &[Value]) -> Option<BlobId> {
    let at = columns.iter().position(|(name, _)| *name == "blob")?;
    BlobId::from_slice(&hex::decode(row.get(at)?.as_str()?).ok()?)
}

/// Whether the folder lies in the data directory, by whatever name either is called.
fn is_within(folder: &Path, directory: &Path) -> bool {
    let directory = directory.canonicalize().unwrap_or_default();
    let there = folder.ancestors().find_map(|it| it.canonicalize().ok());
    there.is_some_and(|there| there.starts_with(directory))
}

/// Keeps others from writing a backup there meanwhile.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn lock(folder: &Path) -> Result<File, Error> {
    let file = File::open(folder)?;
    match file.try_lock() {
        // A file system that locks no folders has to be trusted.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(refused(
            folder,
            "is being written by another command: wait for its end",
        )),
    }
}

/// Looks whether the folder is empty, or has a backup of this catalog and nothing else.
fn look_into(folder: &Path, identity: &str) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_own = name == BLOBS
            || name == PARTIAL
            || name == "lost+found"
            || name.starts_with(MANIFEST)
            || is_rows(&name);
        if !is_own {
            return Err(refused(
                folder,
                format!(
                    "cannot be made, because `{name}` is there, which is none of a backup: name an empty folder, or one with an earlier backup"
                ),
            ));
        }
    }
    match Manifest::read(folder)? {
        Some(manifest) if manifest.identity != identity => Err(refused(
            folder,
            "is of other packages than those of this data directory: name another folder",
        )),
        _ => Ok(()),
    }
}

/// Another name for the rows of each backup.
pub(super) fn rows_name() -> String {
    format!("{ROWS}{}{ROWS_END}", random_name())
}

/// Takes away what the backups before had and this one has not.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
fn sweep(folder: &Path, rows: &str, files: &HashMap<BlobId, Lying>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == PARTIAL || is_rows(&name) && name != rows {
            std::fs::remove_file(entry.path())?;
        }
    }
    let blobs = blobs(folder);
    let needed: HashSet<PathBuf> = files
        .iter()
        .map(|(id, lying)| lying.path(&blobs, *id))
        .collect();
    for entry in std::fs::read_dir(&blobs)? {
        for file in std::fs::read_dir(entry?.path())? {
            let path = file?.path();
            if !needed.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

impl Store {
    /// When and where the last backup was made.
    #[must_use]
    pub fn last_backup(&self) -> Option<Arc<LastBackup>> {
        self.last_backup.load_full()
    }

    fn remember_backup(&self, last: LastBackup) -> Result<(), Error> {
        let text = serde_json::to_string(&last).map_err(io::Error::from)?;
        self.markers.remember_backup(&text)?;
        self.last_backup.store(Some(Arc::new(last)));
        Ok(())
    }
}
