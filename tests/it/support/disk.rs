//! Disks that are small, read-only or full.

use std::path::{Path, PathBuf};

/// A small file system at a folder, for as long as this lives.
pub struct Mount(PathBuf);

impl Mount {
    /// `None` where this user may not mount.
    pub fn new(folder: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        run(mount.arg(folder)).then(|| Self(folder.to_owned()))
    }

    /// The folder once more over itself, where it can be made read-only.
    pub fn over(folder: &Path) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        run(mount.arg("--bind").args([folder, folder])).then(|| Self(folder.to_owned()))
    }

    pub async fn remount(&self, options: &str) {
        // It is refused while somebody writes a file.
        super::until("it is mounted so", async || {
            let mut mount = std::process::Command::new("mount");
            run(mount.args(["-o", options]).arg(&self.0))
        })
        .await;
    }
}

fn run(command: &mut std::process::Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(std::process::Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// Fills a disk to its last byte; what fills it is gone with the file.
pub fn fill(folder: &Path) -> PathBuf {
    use std::io::Write as _;
    let path = folder.join("fill");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}
