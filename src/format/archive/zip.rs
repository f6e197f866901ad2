//! Zip archives. Source: PKWARE's APPNOTE 6.3.10; what is refused follows what PyPI refuses.

use std::io::{Read, SeekFrom};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::names::{Kind, Names};
use super::{Contents, DIRECTORY_BYTES_MAX, ENTRIES_MAX, metadata, refused, too_long, too_many};
use crate::plain;
use crate::problem::Problem;
use crate::upload::Readable;

const LOCAL: u32 = 0x0403_4b50;
const DIRECTORY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_64_BYTES: u64 = 20;
const LOCAL_BYTES: usize = 30;
/// The longest comment behind the end.
const COMMENT_BYTES_MAX: u64 = 65_535;

/// Stands for a number that is too large for its field, and is found elsewhere.
const ELSEWHERE: u32 = u32::MAX;

const IS_ENCRYPTED: u16 = 1;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const IS_UTF8: u16 = 1 << 11;

/// An entry, as the directory has it.
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    sums: Sums,
    /// Where its local header begins.
    at: u64,
    is_link: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums {
    crc: u32,
    packed: u64,
    size: u64,
}

/// Numbers of a record, in order.
struct Fields<'a>(&'a [u8]);

struct Archive<'a> {
    bytes: &'a mut dyn Readable,
    name: &'a str,
}

/// Reads a zip archive: the names of all its files, and the one that is wanted.
///
/// # Errors
/// Where it is none, or readers may take it in different ways.
pub fn zip(
    bytes: &mut dyn Readable,
    archive: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Contents, Problem> {
    let mut archive = Archive {
        bytes,
        name: archive,
    };
    let (mut entries, directory_at) = archive.directory()?;
    entries.sort_by_key(|entry| entry.at);
    let (name, mut names) = (archive.name, Names::of(archive.name));
    let mut contents = Contents::default();
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        if entry.at != at {
            return Err(archive.refused("it has bytes that belong to no file"));
        }
        let ends = entries.get(index + 1).map_or(directory_at, |next| next.at);
        let data = archive.entry(entry, ends)?;
        at = ends;
        let path = String::from_utf8_lossy(&entry.name);
        if entry.is_link {
            return Err(archive.refused(format!("`{path}` is a link")));
        }
        if path.ends_with('/') {
            names.add(&path, Kind::Folder)?;
            if entry.sums.size > 0 {
                return Err(archive.refused(format!("`{path}` is a folder with a text")));
            }
            continue;
        }
        let path = names.add(&path, Kind::File)?;
        let (wanted, what) = (is_wanted(&path), path.clone());
        contents.take(name, path, wanted, || archive.content(entry, data, &what))?;
    }
    if at != directory_at {
        return Err(archive.refused("it has bytes that belong to no file"));
    }
    Ok(contents)
}

impl Archive<'_> {
    fn refused(&self, why: impl std::fmt::Display) -> Problem {
        refused(self.name, why)
    }

    fn broken(&self) -> Problem {
        Problem::invalid(format!("{} is no zip archive, or is cut", self.name))
    }

    fn unreadable(&self, error: &std::io::Error) -> Problem {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => self.broken(),
            _ => Problem::invalid(format!(
                "{} cannot be read: {}",
                self.name,
                plain::io(error)
            )),
        }
    }

    fn read(&mut self, at: u64, count: u64) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        let read = self.bytes.seek(SeekFrom::Start(at));
        let read = read.and_then(|_| (&mut *self.bytes).take(count).read_to_end(&mut bytes));
        match read {
            Ok(read) if read as u64 == count => Ok(bytes),
            Ok(_) => Err(self.broken()),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// All entries, and where the directory begins.
    fn directory(&mut self) -> Result<(Vec<Entry>, u64), Problem> {
        let size = self
            .bytes
            .seek(SeekFrom::End(0))
            .map_err(|error| self.unreadable(&error))?;
        let tail_bytes = size.min(END_BYTES + COMMENT_BYTES_MAX);
        let tail = self.read(size - tail_bytes, tail_bytes)?;
        let found =
            memchr::memmem::rfind(&tail, &END.to_le_bytes()).ok_or_else(|| self.broken())?;
        let end_at = size - tail_bytes + found as u64;
        let mut end = Fields(tail.get(found + 4..).unwrap_or_default());
        let (count, length, at) = Self::end_record(&mut end).ok_or_else(|| self.broken())?;
        // Readers look for the end from either side: nothing may be behind it.
        if end.u16().map(u64::from) != Some(size - end_at - END_BYTES) {
            return Err(self.refused("there is more behind its end"));
        }
        let is_64 = count == u64::from(u16::MAX) || [length, at].contains(&u64::from(ELSEWHERE));
        let (count, length, at, ends_at) = if is_64 {
            self.end_64(end_at)?
        } else {
            (count, length, at, end_at)
        };
        if length > DIRECTORY_BYTES_MAX {
            return Err(too_long("the archive's directory", DIRECTORY_BYTES_MAX));
        }
        if count > ENTRIES_MAX as u64 {
            return Err(too_many(self.name));
        }
        if at.checked_add(length) != Some(ends_at) {
            return Err(self.refused("there is more before its end than its directory"));
        }
        let directory = self.read(at, length)?;
        let mut fields = Fields(&directory);
        let mut entries = Vec::new();
        for _ in 0..count {
            let entry = fields.entry().ok_or_else(|| self.broken())?;
            entries.push(entry);
        }
        if !fields.0.is_empty() {
            return Err(self.refused("its directory has more than its entries"));
        }
        Ok((entries, at))
    }

    /// How many entries there are, how long the directory is and where it begins.
    fn end_record(end: &mut Fields<'_>) -> Option<(u64, u64, u64)> {
        let (disk, directory_disk) = (end.u16()?, end.u16()?);
        let (here, count) = (end.u16()?, end.u16()?);
        let (length, at) = (end.u32()?, end.u32()?);
        let is_one = disk == 0 && directory_disk == 0 && here == count;
        is_one.then_some((count.into(), length.into(), at.into()))
    }

    /// The same, of an archive with numbers of 64 bits; and where its end begins.
    fn end_64(&mut self, end_at: u64) -> Result<(u64, u64, u64, u64), Problem> {
        let before = END_64_BYTES + LOCATOR_64_BYTES;
        let at = end_at.checked_sub(before).ok_or_else(|| self.broken())?;
        let bytes = self.read(at, before)?;
        let read = |mut fields: Fields<'_>| {
            let is_end = fields.u32()? == END_64 && fields.u64()? == END_64_BYTES - 12;
            let _versions = fields.u32()?;
            let disks = (fields.u32()?, fields.u32()?);
            let (here, count) = (fields.u64()?, fields.u64()?);
            let (length, directory_at) = (fields.u64()?, fields.u64()?);
            let is_located = fields.u32()? == LOCATOR_64
                && fields.u32()? == 0
                && fields.u64()? == at
                && fields.u32()? <= 1;
            let is_right = is_end && is_located && disks == (0, 0) && here == count;
            is_right.then_some((count, length, directory_at, at))
        };
        read(Fields(&bytes)).ok_or_else(|| self.refused("its end is written in an unusual way"))
    }

    /// Holds an entry's local header, and what is behind its data, against the directory; gives where its
    /// data begins.
    fn entry(&mut self, entry: &Entry, ends: u64) -> Result<u64, Problem> {
        let differs = |archive: &Self| {
            archive.refused(format!(
                "the directory says one thing of `{}`, and its own header another",
                String::from_utf8_lossy(&entry.name).escape_debug()
            ))
        };
        if entry.flags & IS_ENCRYPTED != 0 || !matches!(entry.method, 0 | 8) {
            return Err(self.refused(format!(
                "`{}` is encrypted, or packed in a way that few can read",
                String::from_utf8_lossy(&entry.name).escape_debug()
            )));
        }
        let head = self.read(entry.at, LOCAL_BYTES as u64)?;
        let mut fields = Fields(&head);
        let local = fields.local().ok_or_else(|| differs(self))?;
        let named = entry.at + LOCAL_BYTES as u64;
        let rest = self.read(named, local.name_bytes + local.extra_bytes)?;
        let mut rest = Fields(&rest);
        let name = rest.take(local.name_bytes).unwrap_or_default();
        let mut sums = local.sums;
        widen(rest.0, &mut [&mut sums.size, &mut sums.packed]).ok_or_else(|| self.broken())?;
        let relevant = IS_ENCRYPTED | HAS_DESCRIPTOR | IS_UTF8;
        let has_descriptor = entry.flags & HAS_DESCRIPTOR != 0;
        let nothing = Sums {
            crc: 0,
            packed: 0,
            size: 0,
        };
        let sums_agree = sums == entry.sums || has_descriptor && sums == nothing;
        if name != entry.name
            || local.flags & relevant != entry.flags & relevant
            || local.method != entry.method
            || !sums_agree
            || renamed(rest.0, name)
        {
            return Err(differs(self));
        }
        let data = named + local.name_bytes + local.extra_bytes;
        let behind = data
            .checked_add(entry.sums.packed)
            .and_then(|behind| ends.checked_sub(behind))
            .ok_or_else(|| differs(self))?;
        let is_right = match behind {
            0 => !has_descriptor || entry.sums.packed == 0,
            12 | 16 | 20 | 24 if has_descriptor => {
                let descriptor = self.read(data + entry.sums.packed, behind)?;
                Fields(&descriptor).descriptor() == Some(entry.sums)
            }
            _ => false,
        };
        if !is_right {
            return Err(differs(self));
        }
        Ok(data)
    }

    /// The bytes of an entry, which are what the directory says.
    fn content(&mut self, entry: &Entry, data: u64, path: &str) -> Result<Vec<u8>, Problem> {
        self.bytes
            .seek(SeekFrom::Start(data))
            .map_err(|error| self.unreadable(&error))?;
        let name = self.name;
        let packed = (&mut *self.bytes).take(entry.sums.packed);
        let (content, left) = match entry.method {
            0 => (metadata(packed, name, path)?, 0),
            _ => {
                let mut decoder = DeflateDecoder::new(std::io::BufReader::new(packed));
                let content = metadata(&mut decoder, name, path)?;
                (content, entry.sums.packed - decoder.total_in())
            }
        };
        let mut crc = Crc::new();
        crc.update(&content);
        if content.len() as u64 != entry.sums.size || crc.sum() != entry.sums.crc || left > 0 {
            return Err(self.refused(format!("{path} is not what its directory says")));
        }
        Ok(content)
    }
}

struct Local {
    flags: u16,
    method: u16,
    sums: Sums,
    name_bytes: u64,
    extra_bytes: u64,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn sums(&mut self) -> Option<Sums> {
        Some(Sums {
            crc: self.u32()?,
            packed: self.u32()?.into(),
            size: self.u32()?.into(),
        })
    }

    /// An entry of the directory (4.3.12).
    fn entry(&mut self) -> Option<Entry> {
        let is_entry = self.u32()? == DIRECTORY;
        let _versions = self.u32()?;
        let (flags, method) = (self.u16()?, self.u16()?);
        let _time = self.u32()?;
        let mut sums = self.sums()?;
        let (name_bytes, extra_bytes, comment_bytes) = (self.u16()?, self.u16()?, self.u16()?);
        let disk = self.u16()?;
        let _internal = self.u16()?;
        let external = self.u32()?;
        let mut at = u64::from(self.u32()?);
        let name = self.take(name_bytes.into())?;
        let extra = self.take(extra_bytes.into())?;
        self.take(comment_bytes.into())?;
        widen(extra, &mut [&mut sums.size, &mut sums.packed, &mut at])?;
        let is_right = is_entry && disk == 0 && !renamed(extra, name);
        is_right.then(|| Entry {
            name: name.to_vec(),
            flags,
            method,
            sums,
            at,
            // The file's kind on Unix.
            is_link: (external >> 16) & 0o170_000 == 0o120_000,
        })
    }

    /// A local header without its name (4.3.7).
    fn local(&mut self) -> Option<Local> {
        let is_local = self.u32()? == LOCAL;
        let _version = self.u16()?;
        let (flags, method) = (self.u16()?, self.u16()?);
        let _time = self.u32()?;
        let local = Local {
            flags,
            method,
            sums: self.sums()?,
            name_bytes: self.u16()?.into(),
            extra_bytes: self.u16()?.into(),
        };
        is_local.then_some(local)
    }

    /// The sums behind the data (4.3.9), with or without a signature, in numbers of 32 or 64 bits.
    fn descriptor(&mut self) -> Option<Sums> {
        if matches!(self.0.len(), 16 | 24) && self.u32()? != DESCRIPTOR {
            return None;
        }
        if self.0.len() == 12 {
            return self.sums();
        }
        Some(Sums {
            crc: self.u32()?,
            packed: self.u64()?,
            size: self.u64()?,
        })
    }
}

/// Reads the numbers that stand in the extra field of large files (4.5.3), in the place of those that say
/// that they do. `None` where that field cannot be read.
fn widen(extra: &[u8], numbers: &mut [&mut u64]) -> Option<()> {
    if numbers
        .iter()
        .all(|number| **number != u64::from(ELSEWHERE))
    {
        return Some(());
    }
    let mut wide = Fields(extra_field(extra, 0x0001)?);
    for number in numbers {
        if **number == u64::from(ELSEWHERE) {
            **number = wide.u64()?;
        }
    }
    Some(())
}

/// Whether a second name (4.6.9, Info-ZIP's) is another than the first, where one of them is plain.
fn renamed(extra: &[u8], name: &[u8]) -> bool {
    extra_field(extra, 0x7075)
        .and_then(|field| field.get(5..))
        .is_some_and(|second| second != name && (second.is_ascii() || name.is_ascii()))
}

fn extra_field(extra: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut fields = Fields(extra);
    loop {
        let (kind, length) = (fields.u16()?, fields.u16()?);
        let field = fields.take(length.into())?;
        if kind == wanted {
            return Some(field);
        }
    }
}
