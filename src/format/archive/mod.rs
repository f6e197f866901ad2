//! Archives that are published, read as strictly as no client does: what two readers could take in
//! different ways is refused, so that what was looked into is what is installed.

mod names;
mod tar;
mod zip;

#[cfg(test)]
mod tests;

pub use self::tar::gzipped_tar;
pub use self::zip::zip;

use std::io::Read;

use crate::bounded::TooLong;
use crate::problem::Problem;
use crate::upload::bounded_bytes;

/// The largest file of metadata in a package: `METADATA`, `PKG-INFO`, a nuspec, a package.json. The
/// largest that are known have some 500 KB, most of it a readme.
pub const METADATA_BYTES_MAX: u64 = 1024 * 1024;

/// The most entries of an archive. The largest packages that are known have some 50,000 files.
const ENTRIES_MAX: usize = 100_000;

/// The most bytes of all names of an archive, which are in memory together; of a zip archive, of its
/// whole directory. That is 160 for each of the most entries.
const DIRECTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An archive that was read to its end.
#[derive(Debug, Default)]
pub struct Contents {
    /// The one file that was looked for: its path and its text.
    pub found: Option<(String, String)>,
    /// The paths of all files, without `.` and doubled slashes.
    pub files: Vec<String>,
}

impl Contents {
    /// Takes a file of the archive, which is read where it is the one that is looked for.
    fn take(
        &mut self,
        archive: &str,
        path: String,
        is_wanted: bool,
        read: impl FnOnce() -> Result<Vec<u8>, Problem>,
    ) -> Result<(), Problem> {
        if is_wanted {
            if let Some((other, _)) = &self.found {
                return Err(refused(
                    archive,
                    format!("both {other} and {path} could be its metadata"),
                ));
            }
            let text = String::from_utf8(read()?)
                .map_err(|_| Problem::invalid(format!("{path} in {archive} is not UTF-8")))?;
            self.found = Some((path.clone(), text));
        }
        self.files.push(path);
        Ok(())
    }
}

/// The bytes of a file that is looked for.
fn metadata(read: impl Read, archive: &str, path: &str) -> Result<Vec<u8>, Problem> {
    bounded_bytes(read, METADATA_BYTES_MAX, &format!("{path} in {archive}"))
}

fn refused(archive: &str, why: impl std::fmt::Display) -> Problem {
    Problem::invalid(format!(
        "{archive} is not taken, since clients may read it in different ways: {why}"
    ))
    .advice("build it again with the format's own tools")
}

fn too_many(archive: &str) -> Problem {
    Problem::invalid(format!("{archive} has more than {ENTRIES_MAX} entries"))
}

fn too_long(what: &str, bytes_max: u64) -> Problem {
    TooLong { bytes_max }.problem(what)
}
