//! Making a backup in one file.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::runtime::Handle;

use super::archive::{Packer, Packing, PartialFile, folder_of, look_at, member_name, unwritable};
use super::files::{self, CopyProgress, Lying};
use super::make::{Copied, rows_name};
use super::{BackupReport, MANIFEST, Manifest, refused};
use crate::clock;
use crate::package::BlobId;
use crate::store::archive::{CheckedBlob, append};
use crate::store::{Error, Store};

impl Store {
    /// Writes a backup into the file, in the place of the one that is there.
    pub(super) fn pack_into(
        &self,
        path: &Path,
        packing: Packing,
        identity: String,
        progress: &CopyProgress,
        runtime: &Handle,
    ) -> Result<BackupReport, Error> {
        look_at(path, &identity)?;
        let partial = PartialFile::begin(path, packing)?;
        match self.pack(&partial, identity, progress, runtime) {
            Ok(report) => partial.keep().map(|()| report),
            Err(error) => {
                partial.discard();
                Err(error)
            }
        }
    }

    fn pack(
        &self,
        partial: &PartialFile,
        identity: String,
        progress: &CopyProgress,
        runtime: &Handle,
    ) -> Result<BackupReport, Error> {
        let (path, created) = (&partial.path, clock::now());
        // The manifest stands before the rows, and is known behind them.
        let scratch = tempfile::tempfile_in(folder_of(path));
        let scratch = scratch.map_err(|error| unwritable(path, &error))?;
        let (rows, scratch) = self.write_rows(rows_name(), scratch, runtime)?;
        let (ids, copied) = self.look_through(rows.needed.iter().copied(), progress)?;
        let manifest = self.manifest(created, identity, rows, &copied)?;
        let packed = self.write_members(partial, &manifest, scratch, ids, progress);
        let bytes = packed.map_err(|error| match error {
            Error::Io(error) => unwritable(path, &error),
            error => error,
        })?;
        self.report(path, &manifest, &copied, Some(bytes), runtime)
    }

    /// Reads the files through: how many there are has to stand before them. They are given in the order
    /// in which they are written and read again.
    fn look_through(
        &self,
        needed: impl Iterator<Item = BlobId>,
        progress: &CopyProgress,
    ) -> Result<(Vec<(BlobId, Lying)>, Copied), Error> {
        let here = self.files.folder();
        let mut needed: Vec<BlobId> = needed.collect();
        needed.sort_unstable();
        let mut found = Vec::with_capacity(needed.len());
        for id in needed {
            found.push((id, Lying::find(here, id)?));
        }
        let lengths = found.iter().filter_map(|(_, found)| found.as_ref());
        let bytes: u64 = lengths.map(|(_, bytes)| bytes).sum();
        // Each is read, and read once more when it is written.
        progress.all.store(2 * bytes, Ordering::Relaxed);
        let sealer = self.files.sealer().map(AsRef::as_ref);
        let (mut whole, mut copied) = (Vec::new(), Copied::default());
        for (id, found) in found {
            if self.tasks.is_stopping() {
                return Err(Error::Stopped);
            }
            let Some((lying, bytes)) = found else {
                copied.lost.push(id);
                continue;
            };
            progress.done.fetch_add(bytes, Ordering::Relaxed);
            let began = Instant::now();
            if files::is_whole(here, id, lying, sealer)? {
                copied.note(id, lying, bytes);
                copied.new_files += 1;
                copied.new_bytes += bytes;
                whole.push((id, lying));
            } else {
                copied.lost.push(id);
            }
            self.make_way(began);
        }
        Ok((whole, copied))
    }

    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    fn write_members(
        &self,
        partial: &PartialFile,
        manifest: &Manifest,
        mut rows: File,
        ids: Vec<(BlobId, Lying)>,
        progress: &CopyProgress,
    ) -> Result<u64, Error> {
        let mut archive = Packer::of(partial)?;
        let created = manifest.created;
        let text = manifest.text()?;
        append(&mut archive, MANIFEST, text.len() as u64, created, &*text)?;
        rows.rewind()?;
        let (name, bytes) = (&manifest.rows.name, manifest.rows.bytes);
        append(&mut archive, name, bytes, created, &mut rows)?;
        for (id, lying) in ids {
            if self.tasks.is_stopping() {
                return Err(Error::Stopped);
            }
            let began = Instant::now();
            let file = File::open(lying.path(self.files.folder(), id))?;
            let (name, bytes) = (member_name(id, lying), file.metadata()?.len());
            let written = match lying {
                Lying::Plain => {
                    let mut checked = CheckedBlob::new(file, id);
                    append(&mut archive, &name, bytes, created, &mut checked)
                        .and_then(|()| checked.finish())
                }
                // It opens or it does not: a byte that is another is noticed by who restores it.
                Lying::Sealed => append(&mut archive, &name, bytes, created, file),
            };
            written.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => refused(
                    &partial.path,
                    format!("cannot be made: the stored file {} was damaged while it was read. Make another one", id.to_hex()),
                ),
                _ => error.into(),
            })?;
            progress.done.fetch_add(bytes, Ordering::Relaxed);
            self.make_way(began);
        }
        Ok(Packer::finish(archive)?)
    }
}
