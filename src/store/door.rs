//! The socket by which the operator's commands come: in the data directory, for its owner alone.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A folder of its own, into which nobody else may look, whatever the data directory allows.
const FOLDER: &str = "control";
const NAME: &str = "larder.sock";

/// The longest path that a socket's address takes on every system; Linux takes 107 bytes.
const PATH_BYTES_MAX: usize = 103;

/// Where the socket of a data directory lies, and a name for it that the system takes.
pub struct Door {
    path: PathBuf,
    reach: PathBuf,
    /// Held open while `reach` leads through it.
    _folder: Option<File>,
}

impl Door {
    /// The door of a data directory, whose folder is there.
    ///
    /// # Errors
    /// Where the folder cannot be opened.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn of(directory: &Path) -> io::Result<Self> {
        let folder = directory.join(FOLDER);
        let path = folder.join(NAME);
        if path.as_os_str().as_bytes().len() <= PATH_BYTES_MAX {
            return Ok(Self {
                reach: path.clone(),
                path,
                _folder: None,
            });
        }
        if !cfg!(target_os = "linux") {
            let why = format!("{} is too long a name for a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, why));
        }
        // However long the folder's name: the kernel finds it by the number of its descriptor.
        let open = File::open(&folder)?;
        Ok(Self {
            reach: PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(NAME),
            path,
            _folder: Some(open),
        })
    }

    /// Where it lies, for people.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path to connect to; valid for as long as this is held.
    #[must_use]
    pub fn reach(&self) -> &Path {
        &self.reach
    }

    /// Whether somebody listens there who lets this user in.
    ///
    /// # Errors
    /// Why not.
    pub fn knock(&self) -> io::Result<()> {
        UnixStream::connect(&self.reach).map(drop)
    }
}

/// Opens the door of a data directory that is this process's, in the place of one that an earlier
/// process left behind.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let folder = directory.join(FOLDER);
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(&folder)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let door = Door::of(directory)?;
    shut(directory);
    let socket = UnixListener::bind(&door.reach)?;
    std::fs::set_permissions(&door.path, Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes the socket's name away, and the secret that opened the control interface before there was
/// a socket.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn shut(directory: &Path) {
    for name in [
        directory.join(FOLDER).join(NAME),
        directory.join("control.secret"),
    ] {
        if let Err(error) = std::fs::remove_file(&name)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %name.display(), "Deleting a file of the control socket failed");
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_may_come_in_and_no_name_is_too_long() {
        let top = tempfile::tempdir().unwrap();
        for directory in [
            top.path().join("short"),
            top.path().join("long".repeat(30)).join("longer".repeat(30)),
        ] {
            std::fs::create_dir_all(&directory).unwrap();
            assert!(Door::of(&directory).and_then(|door| door.knock()).is_err());
            // A socket that a killed process left behind does not hinder the next.
            drop(listen(&directory).unwrap());
            let _socket = listen(&directory).unwrap();
            let door = Door::of(&directory).unwrap();
            door.knock().unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(door.path()), 0o600);
            assert_eq!(mode(door.path().parent().unwrap()), 0o700);
            shut(&directory);
            assert!(!door.path().exists());
        }
    }
}
