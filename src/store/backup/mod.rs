//! A backup of what cannot be fetched again, and the way back from it.
//!
//! A backup is a folder:
//!
//! - `backup.json`, the manifest: what is in the backup, and the small files of the data directory;
//! - `rows-….jsonl.zst`, all rows of the package catalog as they were at one instant, in JSON lines that
//!   are written into SQLite or PostgreSQL again;
//! - `blobs/ab/abcd…`, the files of published packages as they lie in the data directory, named by their
//!   SHA-256.
//!
//! The manifest is renamed into its place when all else is on the disk, and the rows of the backup before
//! go then. So a backup that was cut off leaves the one before as it was.

mod files;
mod make;
mod restore;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{Error, markers, private};

pub use files::CopyProgress;
pub use restore::{Restored, restore};

/// The form of backups that this Larder makes. One more with each change that an older Larder would read
/// wrongly.
const FORM: u32 = 1;

const MANIFEST: &str = "backup.json";
const BLOBS: &str = "blobs";
/// A file on its way.
const PARTIAL: &str = "partial";
/// The rows' file is of a name of its own in each backup, so that a new one takes no older one's place.
const ROWS: &str = "rows-";
const ROWS_END: &str = ".jsonl.zst";

/// Small files of the data directory that are carried in the manifest: its name among those that share a
/// database, the key that signs bundles, and the key of sealed files, which is wrapped by one that is in no backup.
const CARRIED: [&str; 3] = ["larder.id", "bundle.key", "data.key"];

/// A backup's table of contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    /// The version of the Larder that made it.
    larder: String,
    created: Timestamp,
    /// The package catalog's own name.
    identity: String,
    rows: RowsFile,
    tables: BTreeMap<String, TableFacts>,
    /// The small files and their text.
    carried: BTreeMap<String, String>,
    files: u64,
    /// The files' bytes, as they lie on the disk.
    bytes: u64,
    /// How many of them are sealed.
    sealed: u64,
    /// The SHA-256 of those that were damaged or gone when it was made.
    lost: Vec<String>,
}

/// A table's columns, in the order of its rows' values, and how many rows it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TableFacts {
    columns: Vec<String>,
    rows: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RowsFile {
    name: String,
    bytes: u64,
    sha256: String,
}

/// The manifest's file: the manifest beside its form and digest.
#[derive(Serialize, Deserialize)]
struct Enveloped {
    form: u32,
    sha256: String,
    manifest: Box<RawValue>,
}

/// The form alone, which a newer backup has too.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

/// Whether files that the folder has from an earlier backup are read through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlierFiles {
    /// Takes them by their names and lengths.
    #[default]
    Trust,
    /// Reads them through, and copies damaged ones again.
    Verify,
}

/// The result of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    pub folder: PathBuf,
    pub created: Timestamp,
    pub packages: u64,
    pub versions: u64,
    /// All files in it, as they lie on the disk.
    pub files: u64,
    pub bytes: u64,
    /// Files that an earlier backup did not have.
    pub copied_files: u64,
    pub copied_bytes: u64,
    /// The compressed rows, which each backup writes anew.
    pub rows_bytes: u64,
    pub sealed: u64,
    /// Files that are not in it, because they are damaged or gone.
    pub lost: Vec<LostFile>,
}

/// A published file that is not what its name says, or not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostFile {
    /// The blob's name.
    pub sha256: String,
    /// The published files that it is, `npm:left-pad/left-pad-1.3.0.tgz`.
    pub assets: Vec<String>,
}

/// When and where the last backup of a data directory was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    pub at: Timestamp,
    pub folder: PathBuf,
}

impl LastBackup {
    /// The last backup of the data directory; none where there never was one. Blocks for a moment.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        serde_json::from_str(&markers::last_backup(directory)?).ok()
    }
}

/// A failure that is the backup's, not the data directory's.
fn refused(folder: &Path, why: impl Into<String>) -> Error {
    Error::Backup {
        folder: folder.to_owned(),
        why: why.into(),
    }
}

/// The folder of a backup's files.
fn blobs(folder: &Path) -> PathBuf {
    folder.join(BLOBS)
}

impl Manifest {
    /// How many rows the table has.
    fn rows_of(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |table| table.rows)
    }

    /// Reads and checks the manifest; none where the folder has none.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let text = match std::fs::read_to_string(folder.join(MANIFEST)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(damaged(folder));
            }
            Err(error) => return Err(error.into()),
        };
        let form = serde_json::from_str::<Form>(&text).map_err(|_| damaged(folder))?;
        if form.form > FORM {
            return Err(refused(
                folder,
                format!(
                    "has form {}, which is of a newer Larder; this one knows form {FORM}: use the newer one",
                    form.form
                ),
            ));
        }
        let read: Enveloped = serde_json::from_str(&text).map_err(|_| damaged(folder))?;
        if read.sha256 != digest(read.manifest.get().as_bytes()) {
            return Err(damaged(folder));
        }
        let manifest = serde_json::from_str(read.manifest.get());
        manifest.map(Some).map_err(|_| damaged(folder))
    }

    /// Writes the manifest beside its name, and gives it its name once it is on the disk.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn write(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string(self).map_err(std::io::Error::from)?;
        let written = Enveloped {
            form: FORM,
            sha256: digest(text.as_bytes()),
            manifest: RawValue::from_string(text).map_err(std::io::Error::from)?,
        };
        let beside = folder.join(format!("{MANIFEST}.new"));
        let mut file = private::create(&beside)?;
        file.write_all(&serde_json::to_vec(&written).map_err(std::io::Error::from)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, folder.join(MANIFEST))?;
        Ok(File::open(folder)?.sync_all()?)
    }
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn damaged(folder: &Path) -> Error {
    refused(
        folder,
        format!("is damaged: its file {MANIFEST} is not what it was. Use another one"),
    )
}
