//! Small files beside the databases, which say what a database cannot say of itself: in which form the
//! directory is, which package catalog belongs to it, and whether that was closed.
//!
//! An empty package catalog would open every name of our own to the outside, and let the files be
//! evicted that the right one needs. So a start that does not find what these files tell of ends with a
//! word.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Error, private};

/// The form in which this Larder keeps a data directory. One more with each change that an older
/// Larder would take for damage, or would undo.
const FORM: u32 = 1;

const FORM_FILE: &str = "larder.form";
const IDENTITY_FILE: &str = "packages.id";
const DATABASE_FILE: &str = "database.id";
const OPEN_FILE: &str = "packages.open";
const RESTORING_FILE: &str = "larder.restoring";
const BACKUP_FILE: &str = "larder.backup";
const TASKS_FILE: &str = "larder.tasks";
/// Files that a restore begins anew: the package catalog, and those that say that it belongs here.
const RESTORED: [&str; 6] = [
    "packages.sqlite",
    "packages.sqlite-wal",
    "packages.sqlite-shm",
    IDENTITY_FILE,
    DATABASE_FILE,
    OPEN_FILE,
];
const OPENING: &str = "opening";
const OPEN: &str = "open";

/// How the package catalog was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastEnd {
    Closed,
    /// While it was being opened.
    Opening,
    /// With what came last beside it.
    Open,
}

/// The marker files of a data directory.
#[derive(Clone, Debug)]
pub(super) struct Markers {
    directory: PathBuf,
}

impl Markers {
    /// Opens the markers of a directory, if this Larder knows the directory's form.
    ///
    /// # Errors
    /// Where a newer Larder has written it, or a restore into it did not come to its end.
    pub fn of(directory: &Path) -> Result<Self, Error> {
        let (markers, form) = Self::found(directory)?;
        if form.is_none() {
            // A disk that takes nothing keeps nobody from being served.
            let _ = markers.write(FORM_FILE, &FORM.to_string());
        }
        Ok(markers)
    }

    /// Reads the markers of a directory, and writes none. The form is none where the directory is of a
    /// time before there were forms, or new.
    ///
    /// # Errors
    /// Where [`Markers::of`] fails.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn found(directory: &Path) -> Result<(Self, Option<u32>), Error> {
        let markers = Self {
            directory: directory.to_owned(),
        };
        if markers.path(RESTORING_FILE).exists() {
            return Err(Error::Restoring {
                path: markers.directory,
            });
        }
        let text = std::fs::read_to_string(markers.path(FORM_FILE)).unwrap_or_default();
        match text.trim().parse::<u32>() {
            Ok(found) if found > FORM => Err(Error::Form {
                path: markers.directory,
                found,
                known: FORM,
            }),
            Ok(FORM) => Ok((markers, Some(FORM))),
            _ => Ok((markers, None)),
        }
    }

    /// Begins a restore into an empty directory, or goes on with one; from then on, no Larder starts
    /// there.
    ///
    /// # Errors
    /// Where the directory is not empty.
    pub fn being_restored(directory: &Path) -> Result<Self, Error> {
        let markers = Self {
            directory: directory.to_owned(),
        };
        if markers.path(RESTORING_FILE).exists() {
            return Ok(markers);
        }
        for entry in std::fs::read_dir(directory)? {
            // A file system of its own has this from the beginning.
            if entry?.file_name() != "lost+found" {
                return Err(Error::NotEmpty {
                    path: markers.directory,
                });
            }
        }
        markers.write(RESTORING_FILE, "")?;
        Ok(markers)
    }

    /// Forgets the package catalog of a restore that was cut off.
    ///
    /// # Errors
    /// Where the disk takes nothing.
    pub fn forget_packages(&self) -> io::Result<()> {
        RESTORED.iter().try_for_each(|name| self.forget(name))
    }

    /// Ends a restore: Larder may start.
    ///
    /// # Errors
    /// Where the disk takes nothing.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn restored(&self) -> io::Result<()> {
        std::fs::File::open(&self.directory)?.sync_all()?;
        std::fs::remove_file(self.path(RESTORING_FILE))?;
        std::fs::File::open(&self.directory)?.sync_all()
    }

    /// # Errors
    /// Where the disk takes nothing.
    pub fn remember_backup(&self, last: &str) -> io::Result<()> {
        self.write(BACKUP_FILE, last)
    }

    /// # Errors
    /// Where the disk takes nothing.
    pub fn remember_tasks(&self, book: &str) -> io::Result<()> {
        self.write(TASKS_FILE, book)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let beside = self.path(&format!("{name}.new"));
        let mut file = private::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, self.path(name))
    }

    /// The name of the package catalog that belongs to the directory; none where it never had one.
    pub fn package_catalog(&self) -> Option<String> {
        self.name_in(IDENTITY_FILE)
    }

    /// The name of the database elsewhere that belongs to the directory.
    pub fn database(&self) -> Option<String> {
        self.name_in(DATABASE_FILE)
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn name_in(&self, file: &str) -> Option<String> {
        let name = std::fs::read_to_string(self.path(file)).ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// # Errors
    /// Where the disk takes nothing.
    pub fn remember_database(&self, name: &str) -> io::Result<()> {
        self.write(DATABASE_FILE, name)
    }

    /// # Errors
    /// Where the disk takes nothing.
    pub fn remember_package_catalog(&self, name: &str) -> io::Result<()> {
        self.write(IDENTITY_FILE, name)
    }

    /// Remembers that the packages are in a database elsewhere since they were moved, and not in the
    /// directory's own file.
    ///
    /// # Errors
    /// Where the disk takes nothing.
    pub fn packages_are_in_a_database(&self, name: &str) -> io::Result<()> {
        self.remember_database(name)?;
        self.forget(IDENTITY_FILE)
    }

    /// Remembers that the packages are in the directory's own file since they were moved.
    ///
    /// # Errors
    /// Where the disk takes nothing.
    pub fn packages_are_in_the_file(&self, name: &str) -> io::Result<()> {
        self.remember_package_catalog(name)?;
        self.forget(DATABASE_FILE)
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn forget(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::File::open(&self.directory)?.sync_all()
    }

    /// How the last Larder left the package catalog.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn last_end(&self) -> LastEnd {
        match std::fs::read_to_string(self.path(OPEN_FILE)) {
            Ok(text) if text == OPEN => LastEnd::Open,
            Ok(_) => LastEnd::Opening,
            Err(_) => LastEnd::Closed,
        }
    }

    /// Notes that the catalog is being opened: what it has beside it may go where that fails.
    pub fn mark_opening(&self) {
        // Without it, the next start sees less.
        let _ = self.write(OPEN_FILE, OPENING);
    }

    /// Notes that the catalog is open: what came last lies beside it.
    pub fn mark_open(&self) {
        let _ = self.write(OPEN_FILE, OPEN);
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn mark_closed(&self) {
        let _ = std::fs::remove_file(self.path(OPEN_FILE));
    }
}

/// Reads what is remembered of a directory's last backup.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn last_backup(directory: &Path) -> Option<String> {
    std::fs::read_to_string(directory.join(BACKUP_FILE)).ok()
}

/// Reads what is remembered of a directory's tasks.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn task_book(directory: &Path) -> Option<String> {
    std::fs::read_to_string(directory.join(TASKS_FILE)).ok()
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_a_newer_form_is_refused_and_any_other_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let form = folder.path().join(FORM_FILE);
        Markers::of(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&form).unwrap(), FORM.to_string());
        Markers::of(folder.path()).unwrap();
        std::fs::write(&form, (FORM + 1).to_string()).unwrap();
        let said = Markers::of(folder.path()).unwrap_err().to_string();
        assert!(said.contains("form 2"), "{said}");
        assert!(said.contains("newer"), "{said}");
    }

    #[test]
    fn a_catalog_is_remembered_by_its_name_and_as_open_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let markers = Markers::of(folder.path()).unwrap();
        assert_eq!(markers.package_catalog(), None);
        markers.remember_package_catalog("abc").unwrap();
        assert_eq!(markers.package_catalog().as_deref(), Some("abc"));
        assert_eq!(markers.last_end(), LastEnd::Closed);
        markers.mark_opening();
        assert_eq!(markers.last_end(), LastEnd::Opening);
        markers.mark_open();
        assert_eq!(markers.last_end(), LastEnd::Open);
        markers.mark_closed();
        assert_eq!(markers.last_end(), LastEnd::Closed);
    }
}
