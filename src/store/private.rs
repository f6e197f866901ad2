//! Files for their owner alone: the one door by which Larder makes what others must not read, in its
//! data directory and outside it.
//!
//! Everything is made with the mode that it is to have, so that it is not open for a moment, and the
//! process's umask is narrowed besides, for what libraries make.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::Mode;
use tracing::{info, warn};

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
/// The permission bits of other users.
const OTHERS: u32 = 0o077;
/// In such a folder, as `/tmp`, everybody has files.
const STICKY: u32 = 0o1000;

/// The names of all that Larder makes in a data directory begin with one of these.
const OWN: [&str; 11] = [
    "blobs",
    "partial",
    "rendered",
    "larder.",
    "packages.sqlite",
    "packages.id",
    "packages.open",
    "database.id",
    "control.",
    "bundle.key",
    "data.key",
];

static USERS_UMASK: OnceLock<Mode> = OnceLock::new();

/// From now on, whatever this process makes is closed to others.
pub fn close_to_others() {
    let before = rustix::process::umask(Mode::from_bits_truncate(OTHERS));
    let _ = USERS_UMASK.set(before);
}

/// Gives a child the umask that this process was started with: what it makes is its user's affair.
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec is a promise that the type system cannot check"
)]
pub fn leave_umask(child: &mut Command) -> &mut Command {
    let Some(umask) = USERS_UMASK.get().copied() else {
        return child;
    };
    let restore = move || {
        rustix::process::umask(umask);
        Ok(())
    };
    // SAFETY: one system call, which touches no memory and takes no lock.
    unsafe { child.pre_exec(restore) }
}

/// Makes a folder, and those above it that are not there.
///
/// # Errors
/// Where the disk refuses.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// How a file is opened that may have to be made.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub fn options() -> OpenOptions {
    let mut options = File::options();
    options.mode(FILE);
    options
}

/// Makes a file anew, in the place of one that is there.
///
/// # Errors
/// Where the disk refuses.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => options().read(true).write(true).create_new(true).open(path),
    }
}

/// Makes the file where it is not there, and closes it where it is open to others.
///
/// # Errors
/// Where the disk refuses, or the file is somebody else's.
pub fn ensure(path: &Path) -> io::Result<()> {
    let file = options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    close(&file.metadata()?, |permissions| {
        file.set_permissions(permissions)
    })
}

/// Takes from others what the mode gives them.
fn close(metadata: &Metadata, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<()> {
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    set(Permissions::from_mode(mode & !OTHERS))
}

/// Closes a data directory that was made wider, and what is Larder's own in it. What else lies there
/// keeps its mode. Where that is refused, it is said, and Larder starts all the same.
pub fn narrow(directory: &Path) {
    let directory_name = directory.display();
    match own(directory) {
        Ok(false) => {}
        Ok(true) => {
            info!(directory = %directory_name, "The data directory was readable by other users; it is now readable by its owner alone");
        }
        Err(error) => {
            warn!(%error, directory = %directory_name, "Making the data directory private failed; other users can still read it");
        }
    }
}

fn own(directory: &Path) -> io::Result<bool> {
    let mut first = Ok(());
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if OWN.iter().any(|own| name.starts_with(own)) {
            // A folder of ours may be a link to another disk.
            let narrowed = std::fs::metadata(entry.path())
                .and_then(|metadata| below(&entry.path(), &metadata));
            match narrowed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                narrowed => first = first.and(narrowed),
            }
        }
    }
    first?;
    let metadata = std::fs::metadata(directory)?;
    let is_shared = metadata.mode() & STICKY != 0 || directory.parent().is_none();
    if metadata.mode() & OTHERS == 0 {
        return Ok(false);
    }
    if is_shared {
        return Err(io::Error::other("it is a folder for more than Larder"));
    }
    close(&metadata, |permissions| {
        std::fs::set_permissions(directory, permissions)
    })?;
    Ok(true)
}

/// A folder that is closed hides what is in it; one that is open is closed after what is in it, so
/// that the next start goes on where this one is killed.
fn below(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if metadata.is_dir() && metadata.mode() & OTHERS != 0 {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if !metadata.is_symlink() {
                below(&entry.path(), &metadata)?;
            }
        }
    }
    if !metadata.is_dir() && !metadata.is_file() {
        return Ok(());
    }
    close(metadata, |permissions| {
        std::fs::set_permissions(path, permissions)
    })
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn make(path: &Path, mode: u32, is_folder: bool) {
        if is_folder {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::write(path, "x").unwrap();
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_closed_and_takes_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        make(&file, 0o666, false);
        create(&file).unwrap();
        assert_eq!(
            (mode(&file), std::fs::read(&file).unwrap()),
            (0o600, vec![])
        );
        // A link is replaced, and what it points to stays as it is.
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        make(&target, 0o644, false);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        create(&link).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"x");
        super::folder(&folder.path().join("b/c")).unwrap();
        assert_eq!(mode(&folder.path().join("b")), 0o700);
    }

    #[test]
    fn a_wide_directory_is_narrowed_and_what_is_not_larders_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let at = |name: &str| data.join(name);
        make(&at("blobs/sha256/ab"), 0o755, true);
        make(&at("blobs/sha256/ab/abcd"), 0o644, false);
        make(&at("larder.sqlite-wal"), 0o664, false);
        make(&at("notes.txt"), 0o644, false);
        std::os::unix::fs::symlink(at("notes.txt"), at("blobs/link")).unwrap();
        for name in ["blobs/sha256", "blobs", ""] {
            make(&at(name), 0o755, true);
        }
        narrow(&data);
        for (name, expected) in [
            ("", 0o700),
            ("blobs", 0o700),
            ("blobs/sha256/ab", 0o700),
            ("blobs/sha256/ab/abcd", 0o600),
            ("larder.sqlite-wal", 0o600),
            ("notes.txt", 0o644),
        ] {
            assert_eq!(mode(&at(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_folder_for_everybody_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        make(&data, 0o1777, true);
        make(&data.join("larder.lock"), 0o644, false);
        narrow(&data);
        assert_eq!(mode(&data), 0o1777);
        assert_eq!(mode(&data.join("larder.lock")), 0o600);
    }
}
