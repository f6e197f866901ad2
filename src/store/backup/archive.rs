//! A backup in one file: a tar archive, compressed by zstd where its name ends so, of the manifest, the
//! rows and the files, in this order and under the names that they have in a folder. Unpacked, it is the
//! same backup in a folder.
//!
//! The file is written beside its name, which it gets once it is whole. Read again, a path in it is held
//! against the one that has to be there, and names no file on this disk.

use std::cell::{Cell, RefCell};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;
use tar::{Archive, Builder, Entries, Entry, EntryType};
use zstd::Encoder;

use super::files::Lying;
use super::{BLOBS, MANIFEST, Manifest, damaged, refused};
use crate::format::bounded::{self, ReadError};
use crate::package::BlobId;
use crate::store::archive::{packed, unpacked};
use crate::store::{Error, private};

/// The longest manifest that is read into memory.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much is read and written at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes that the disk may owe: publishes must not wait for a file's gigabytes.
const UNSYNCED_BYTES: u64 = 16 * 1024 * 1024;
/// A tar archive is made of blocks of so many bytes, and ends with two that are empty (POSIX.1, "ustar
/// Interchange Format").
const BLOCK_BYTES: u64 = 512;
const END_BYTES: u64 = 2 * BLOCK_BYTES;
/// How a compressed archive begins (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Where a backup is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder,
    File(Packing),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Zstd,
}

/// Endings of archives that are not written.
const OTHERS: [&str; 8] = [".gz", ".tgz", ".bz2", ".xz", ".zip", ".7z", ".zst", ".tzst"];

impl Place {
    /// A path that ends in `.tar` or `.tar.zst` is a file, and any other a folder; so is one that ends in
    /// `/`, and a folder that is there.
    ///
    /// # Errors
    /// Where it is the name of another kind of archive, or a file is there.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir() {
            return Ok(Self::Folder);
        }
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().to_lowercase();
        if name.ends_with(".tar") {
            return Ok(Self::File(Packing::Plain));
        }
        if name.ends_with(".tar.zst") {
            return Ok(Self::File(Packing::Zstd));
        }
        if path.exists() || OTHERS.iter().any(|ending| name.ends_with(ending)) {
            return Err(refused(
                path,
                "cannot be made: name a folder, or a file whose name ends in .tar or .tar.zst",
            ));
        }
        Ok(Self::Folder)
    }
}

/// A file on its way, beside its name and locked.
pub(super) struct PartialFile {
    file: File,
    pub(super) path: PathBuf,
    partial: PathBuf,
    packing: Packing,
}

impl PartialFile {
    /// Begins the file; what a backup left that was cut off goes.
    ///
    /// # Errors
    /// Where another command writes it, or the disk takes nothing.
    pub fn begin(path: &Path, packing: Packing) -> Result<Self, Error> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let is_written = || {
            refused(
                path,
                "is being written by another command: wait for its end",
            )
        };
        // A link that somebody laid there leads nowhere.
        let file = private::options()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&partial)
            .map_err(|error| unwritable(path, &error))?;
        match file.try_lock() {
            // A file system that locks no files has to be trusted.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => return Err(is_written()),
        }
        // Another command may have given it its name just now.
        let (own, there) = (file.metadata()?, partial.metadata());
        if there.map_or(0, |it| it.ino()) != own.ino() {
            return Err(is_written());
        }
        file.set_len(0)?;
        // One that was there may be open to others.
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            partial,
            packing,
        })
    }

    /// Gives the file its name: it is whole.
    ///
    /// # Errors
    /// Where the disk fails.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn keep(self) -> Result<(), Error> {
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)?;
        Ok(File::open(folder_of(&self.path))?.sync_all()?)
    }

    /// Gives it up.
    #[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
    pub fn discard(self) {
        // The next one begins it anew.
        let _ = std::fs::remove_file(&self.partial);
    }
}

/// The folder that the file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    refused(
        path,
        format!("cannot be made: {}", crate::format::plain::io(error)),
    )
}

/// Refuses to take the place of what is none of these packages' backup.
///
/// # Errors
/// Where something else is there.
pub(super) fn look_at(path: &Path, identity: &str) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let reader = open(path)?;
    let mut archive = Archive::new(reader.clone());
    let manifest = Members::of(path, &mut archive, reader)?.manifest()?;
    if manifest.identity == identity {
        return Ok(());
    }
    Err(refused(
        path,
        "is of other packages than those of this data directory: name another file",
    ))
}

/// Bytes on their way to the disk, which is never owed many of them.
pub(super) struct Synced {
    file: File,
    unsynced: u64,
}

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unsynced += count as u64;
        if self.unsynced >= UNSYNCED_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The archive's bytes, as they are or compressed.
pub(super) enum Packer {
    Plain(BufWriter<Synced>),
    Zstd(Encoder<'static, BufWriter<Synced>>),
}

impl Packer {
    /// An archive that is written into the file.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn of(file: &PartialFile) -> io::Result<Builder<Self>> {
        let synced = Synced {
            file: file.file.try_clone()?,
            unsynced: 0,
        };
        let buffered = BufWriter::with_capacity(PIECE_BYTES, synced);
        Ok(Builder::new(match file.packing {
            Packing::Plain => Self::Plain(buffered),
            Packing::Zstd => Self::Zstd(packed(buffered)?),
        }))
    }

    /// Writes the end; says how many bytes the file has.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn finish(archive: Builder<Self>) -> io::Result<u64> {
        let mut buffered = match archive.into_inner()? {
            Self::Plain(buffered) => buffered,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        buffered.flush()?;
        Ok(buffered.get_ref().file.metadata()?.len())
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(into) => into.write(bytes),
            Self::Zstd(into) => into.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(into) => into.flush(),
            Self::Zstd(into) => into.flush(),
        }
    }
}

/// The name of a file in the archive.
pub(super) fn member_name(id: BlobId, lying: Lying) -> String {
    lying.path(Path::new(BLOBS), id).display().to_string()
}

/// An archive's bytes, which are counted. Clones read on where the others ended.
#[derive(Clone)]
pub(super) struct ArchiveReader {
    reader: Rc<RefCell<Box<dyn Read>>>,
    read: Rc<Cell<u64>>,
}

impl Read for ArchiveReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.borrow_mut().read(into)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

/// Opens a backup's file.
///
/// # Errors
/// Where it cannot be read.
#[allow(clippy::disallowed_methods, reason = "the store is a door to files")]
pub(super) fn open(path: &Path) -> Result<ArchiveReader, Error> {
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let reader: Box<dyn Read> = if head == ZSTD {
        Box::new(unpacked(file)?)
    } else {
        Box::new(BufReader::with_capacity(PIECE_BYTES, file))
    };
    Ok(ArchiveReader {
        reader: Rc::new(RefCell::new(reader)),
        read: Rc::default(),
    })
}

/// The members of a backup's file, in their order.
pub(super) struct Members<'a> {
    path: &'a Path,
    entries: Entries<'a, ArchiveReader>,
    reader: ArchiveReader,
    /// Where the last one ends, with what fills its last block.
    end: u64,
    /// The one that was read last, to say where the file is damaged.
    before: String,
}

/// A member that stands in its place.
pub(super) struct Member<'a> {
    path: &'a Path,
    name: String,
    entry: Entry<'a, ArchiveReader>,
}

/// The file cannot be decompressed, or is no tar archive, from this member on.
fn unreadable(path: &Path, member: &str) -> Error {
    let why = if member.is_empty() {
        "is none, or its beginning is damaged: it cannot be read".to_owned()
    } else {
        format!("is damaged or cut off: it cannot be read behind {member}. Use another one")
    };
    refused(path, why)
}

impl<'a> Members<'a> {
    /// # Errors
    /// Where the archive was read from already.
    pub fn of(
        path: &'a Path,
        archive: &'a mut Archive<ArchiveReader>,
        reader: ArchiveReader,
    ) -> Result<Self, Error> {
        Ok(Self {
            path,
            reader,
            end: 0,
            // No header says anything of the member behind it: all names are short.
            entries: archive.entries()?.raw(true),
            before: String::new(),
        })
    }

    /// The next one, which has to have one of these names.
    fn next(&mut self, names: &[String]) -> Result<Member<'a>, Error> {
        let expected = names.first().map_or("", String::as_str);
        let Some(entry) = self.entries.next() else {
            return Err(refused(
                self.path,
                format!("is cut off: it ends before {expected}. Use another one"),
            ));
        };
        let entry = entry.map_err(|_| unreadable(self.path, &self.before))?;
        let found = entry.path_bytes().into_owned();
        let is_file = entry.header().entry_type() == EntryType::Regular;
        let mut names = names.iter();
        let Some(name) = names.find(|name| is_file && name.as_bytes() == found) else {
            return Err(refused(
                self.path,
                format!(
                    "is none that Larder made: it has `{}` in the place of {expected}. If it was packed anew, unpack it, and name the folder",
                    String::from_utf8_lossy(&found).escape_debug()
                ),
            ));
        };
        self.before.clone_from(name);
        let bytes = entry.size().checked_next_multiple_of(BLOCK_BYTES);
        let begin = entry.raw_file_position();
        self.end = begin.saturating_add(bytes.unwrap_or(u64::MAX));
        Ok(Member {
            path: self.path,
            name: name.clone(),
            entry,
        })
    }

    /// The manifest, which stands first.
    ///
    /// # Errors
    /// Where the file is no backup, or a damaged or newer one.
    pub fn manifest(&mut self) -> Result<Manifest, Error> {
        let mut member = self.next(&[MANIFEST.to_owned()])?;
        let text = bounded::read(&mut member.entry, MANIFEST_BYTES_MAX);
        let text = text.map_err(|error| match error {
            ReadError::TooLong(error) => refused(
                self.path,
                format!("is damaged: its {MANIFEST} is none, {error}"),
            ),
            ReadError::Io(_) => unreadable(self.path, MANIFEST),
        })?;
        let text = String::from_utf8(text).map_err(|_| damaged(self.path))?;
        Manifest::parse(self.path, &text)
    }

    /// Copies the rows, which are read twice.
    ///
    /// # Errors
    /// Where they are not there, or not to be read.
    pub fn rows(&mut self, manifest: &Manifest, into: &mut File) -> Result<(), Error> {
        let name = std::slice::from_ref(&manifest.rows.name);
        self.next(name)?.pour(into)?;
        Ok(into.rewind()?)
    }

    /// The next file, which has to be this one, and how it lies.
    ///
    /// # Errors
    /// Where another one stands in its place, or the archive is cut off or damaged.
    pub fn file(&mut self, id: BlobId) -> Result<(Lying, Member<'a>), Error> {
        let kinds = [Lying::Plain, Lying::Sealed];
        let names = kinds.map(|lying| member_name(id, lying));
        let member = self.next(&names)?;
        let kind = kinds.into_iter().zip(&names);
        let mut lying = kind.filter(|(_, name)| **name == member.name);
        Ok((
            lying.next().map_or(Lying::Plain, |(lying, _)| lying),
            member,
        ))
    }

    /// Reads the end, which compression has a digest in.
    ///
    /// # Errors
    /// Where there is more than the manifest says, or the end is cut off.
    pub fn end(&mut self) -> Result<(), Error> {
        match self.entries.next() {
            None => {
                let rest = io::copy(&mut self.reader, &mut io::sink());
                let is_whole = self.reader.read.get() >= self.end.saturating_add(END_BYTES);
                match rest {
                    Ok(_) if is_whole => Ok(()),
                    _ => Err(unreadable(self.path, &self.before)),
                }
            }
            Some(Ok(_)) => Err(refused(
                self.path,
                "is none that Larder made: it has more in it than its manifest says",
            )),
            Some(Err(_)) => Err(unreadable(self.path, &self.before)),
        }
    }
}

impl Member<'_> {
    /// The bytes that it says it has.
    pub fn bytes(&self) -> u64 {
        self.entry.size()
    }

    /// Copies it to its end.
    ///
    /// # Errors
    /// Where the archive is cut off or damaged, or the disk takes nothing.
    pub fn pour(&mut self, into: &mut impl Write) -> Result<(), Error> {
        let bytes = self.bytes();
        let (mut piece, mut done) = (vec![0; PIECE_BYTES], 0);
        loop {
            let read = self.entry.read(&mut piece);
            let count = read.map_err(|_| unreadable(self.path, &self.name))?;
            let read = piece.get(..count).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            into.write_all(read)?;
            done += count as u64;
        }
        if done == bytes {
            Ok(())
        } else {
            Err(unreadable(self.path, &self.name))
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_by_its_end_whether_it_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("there.tar")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        let (plain, zstd) = (Place::File(Packing::Plain), Place::File(Packing::Zstd));
        for (name, place) in [
            ("a.tar", Some(&plain)),
            ("A.TAR", Some(&plain)),
            ("a.tar.zst", Some(&zstd)),
            ("a", Some(&Place::Folder)),
            ("a.d", Some(&Place::Folder)),
            ("a.tar/", Some(&Place::Folder)),
            ("there.tar", Some(&Place::Folder)),
            ("file", None),
            ("a.tar.gz", None),
            ("a.tgz", None),
            ("a.zip", None),
        ] {
            assert_eq!(Place::of(&at(name)).ok().as_ref(), place, "{name}");
        }
    }

    /// The refusal of an archive with one member of that name, kind and length, all of it zeros.
    fn said_of(name: &str, kind: EntryType, bytes: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_size(bytes);
        header.set_entry_type(kind);
        header.set_cksum();
        std::fs::write(&path, header.as_bytes()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(512 + bytes.next_multiple_of(512) + 1024)
            .unwrap();
        let reader = open(&path).unwrap();
        let mut archive = Archive::new(reader.clone());
        let members = Members::of(&path, &mut archive, reader);
        let manifest = members.unwrap().manifest();
        manifest.unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_in_a_file_has_a_bound() {
        let is_long = |bytes| said_of(MANIFEST, EntryType::Regular, bytes).contains("more than");
        assert!(!is_long(MANIFEST_BYTES_MAX));
        assert!(is_long(MANIFEST_BYTES_MAX + 1));
    }

    #[test]
    fn a_member_of_another_kind_is_none() {
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Directory,
            EntryType::GNULongName,
            EntryType::XHeader,
            EntryType::GNUSparse,
        ] {
            let said = said_of(MANIFEST, kind, 0);
            assert!(said.contains("in the place of"), "{kind:?}: {said}");
        }
    }
}
