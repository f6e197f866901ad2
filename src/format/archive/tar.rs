//! Gzipped tar archives. Sources: POSIX.1 (pax), "ustar Interchange Format" and "pax Header Block";
//! GNU tar's manual, "Basic Tar Format"; RFC 1952.

use std::io::{BufRead as _, BufReader, Read};

use flate2::bufread::GzDecoder;

use super::names::{Kind, Names};
use super::{Contents, metadata, refused, too_long};
use crate::plain;
use crate::problem::Problem;
use crate::upload::Readable;

const BLOCK_BYTES: usize = 512;

/// How far an archive is unpacked, however large it is.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// How many times its size an archive may unpack to, and how much more: sources compress to a tenth, and
/// what was made to keep a reader busy to a thousandth.
const UNPACKED_TIMES_MAX: u64 = 200;
const UNPACKED_MORE: u64 = 16 * 1024 * 1024;

/// The longest header that names or describes the entry behind it.
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// A name and a length from the headers before an entry.
#[derive(Default)]
struct Described {
    path: Option<String>,
    size: Option<u64>,
}

struct Reader<'a, R> {
    archive: &'a str,
    read: std::io::Take<R>,
    unpacked_bytes_max: u64,
}

/// Reads a gzipped tar archive to its end: the names of all its files, and the one that is wanted.
///
/// # Errors
/// Where it is none, or readers may take it in different ways.
pub fn gzipped_tar(
    bytes: &mut dyn Readable,
    archive: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Contents, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::invalid(format!("{archive} cannot be read: {}", plain::io(&error)))
    };
    let size = bytes.seek(std::io::SeekFrom::End(0)).map_err(unreadable)?;
    bytes.rewind().map_err(unreadable)?;
    let unpacked_bytes_max = unpacked_bytes_max(size);
    let decoder = GzDecoder::new(BufReader::with_capacity(64 * 1024, bytes));
    let mut reader = Reader {
        archive,
        read: decoder.take(unpacked_bytes_max),
        unpacked_bytes_max,
    };
    let contents = entries(&mut reader, is_wanted)?;
    let mut packed = reader.read.into_inner().into_inner();
    if !packed.fill_buf().map_err(unreadable)?.is_empty() {
        return Err(refused(archive, "there is more behind the end of its gzip"));
    }
    Ok(contents)
}

/// How far an archive of that size is unpacked.
fn unpacked_bytes_max(size: u64) -> u64 {
    size.saturating_mul(UNPACKED_TIMES_MAX)
        .saturating_add(UNPACKED_MORE)
        .min(UNPACKED_BYTES_MAX)
}

fn entries(
    reader: &mut Reader<'_, impl Read>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Contents, Problem> {
    let archive = reader.archive;
    let mut names = Names::of(archive);
    let mut contents = Contents::default();
    let mut described = Described::default();
    while let Some(block) = reader.block()? {
        if block.iter().all(|byte| *byte == 0) {
            reader.nothing_more()?;
            break;
        }
        let header = Header(block);
        let size = header.checked(archive)?;
        match header.kind() {
            b'x' => {
                let text = reader.description(size)?;
                described.describe(archive, &text)?;
            }
            b'g' => {
                let text = reader.description(size)?;
                let mut of_all = Described::default();
                of_all.describe(archive, &text)?;
                if of_all.path.is_some() || of_all.size.is_some() {
                    return Err(refused(archive, "a header names all its files at once"));
                }
            }
            b'L' => {
                let text = reader.description(size)?;
                let path = text.split(|byte| *byte == 0).next().unwrap_or_default();
                described.name(archive, path)?;
            }
            b'0' | 0 | b'7' => {
                let Described { path, size: said } = std::mem::take(&mut described);
                if said.is_some_and(|said| said != size) {
                    return Err(refused(archive, "two headers say two lengths of one file"));
                }
                let name = path.unwrap_or_else(|| header.path());
                if name.ends_with('/') {
                    if size > 0 {
                        return Err(refused(
                            archive,
                            format!("`{name}` is a folder with a text"),
                        ));
                    }
                    names.add(&name, Kind::Folder)?;
                    continue;
                }
                let path = names.add(&name, Kind::File)?;
                let wanted = is_wanted(&path);
                let entry = path.clone();
                let mut left = size;
                contents.take(archive, path, wanted, || {
                    let text = metadata((&mut reader.read).take(size), archive, &entry)?;
                    left -= text.len() as u64;
                    Ok(text)
                })?;
                reader.skip(left)?;
                reader.skip(padding(size))?;
            }
            b'5' if size == 0 => {
                let Described { path, .. } = std::mem::take(&mut described);
                names.add(&path.unwrap_or_else(|| header.path()), Kind::Folder)?;
            }
            _ => {
                return Err(refused(
                    archive,
                    format!(
                        "`{}` is neither a file nor a folder: links and the like are not taken",
                        header.path()
                    ),
                ));
            }
        }
    }
    Ok(contents)
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES as u64) - size
}

impl<R: Read> Reader<'_, R> {
    /// The next block; `None` at the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, Problem> {
        let mut block = [0; BLOCK_BYTES];
        let mut read = 0;
        while let Some(rest) = block.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.read.read(rest) {
                Ok(0) if read == 0 && self.read.limit() > 0 => return Ok(None),
                Ok(0) => return Err(self.cut()),
                Ok(count) => read += count,
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(Some(block))
    }

    /// The text of a header that describes the entry behind it.
    fn description(&mut self, size: u64) -> Result<Vec<u8>, Problem> {
        if size > DESCRIPTION_BYTES_MAX {
            return Err(too_long("a header in the archive", DESCRIPTION_BYTES_MAX));
        }
        let mut text = Vec::new();
        (&mut self.read)
            .take(size)
            .read_to_end(&mut text)
            .map_err(|error| self.unreadable(error))?;
        if text.len() as u64 != size {
            return Err(self.cut());
        }
        self.skip(padding(size))?;
        Ok(text)
    }

    fn skip(&mut self, count: u64) -> Result<(), Problem> {
        let skipped = std::io::copy(&mut (&mut self.read).take(count), &mut std::io::sink());
        match skipped {
            Ok(skipped) if skipped == count => Ok(()),
            Ok(_) => Err(self.cut()),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Behind the end are zeros alone: some readers go on.
    fn nothing_more(&mut self) -> Result<(), Problem> {
        while let Some(block) = self.block()? {
            if block.iter().any(|byte| *byte != 0) {
                return Err(refused(self.archive, "there is more behind its end"));
            }
        }
        Ok(())
    }

    fn cut(&self) -> Problem {
        if self.read.limit() == 0 {
            return too_long(
                &format!("{}, unpacked,", self.archive),
                self.unpacked_bytes_max,
            );
        }
        Problem::invalid(format!("{} ends in the middle", self.archive))
    }

    fn unreadable(&self, error: std::io::Error) -> Problem {
        use std::io::ErrorKind::{InvalidData, InvalidInput};

        let mut why = format!("{} is no gzipped tar archive", self.archive);
        // gzip's own words about its bytes are for the log.
        if !matches!(error.kind(), InvalidData | InvalidInput) {
            why = format!("{why}: {}", plain::io(&error));
        }
        Problem::invalid(why).caused_by(error)
    }
}

impl Described {
    /// Reads records of pax: `LENGTH KEY=VALUE\n`.
    fn describe(&mut self, archive: &str, text: &[u8]) -> Result<(), Problem> {
        let wrong = || refused(archive, "a pax header cannot be read");
        let mut rest = text;
        while !rest.is_empty() {
            let space = memchr::memchr(b' ', rest).ok_or_else(wrong)?;
            let length = rest.get(..space).and_then(decimal).ok_or_else(wrong)?;
            let length = usize::try_from(length).map_err(|_| wrong())?;
            let record = rest.get(space + 1..length).ok_or_else(wrong)?;
            rest = rest.get(length..).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = memchr::memchr(b'=', record).ok_or_else(wrong)?;
            let (key, value) = record.split_at_checked(equals).ok_or_else(wrong)?;
            let value = value.get(1..).unwrap_or_default();
            match key {
                b"path" => self.name(archive, value)?,
                b"size" if self.size.is_none() => {
                    self.size = Some(decimal(value).ok_or_else(wrong)?);
                }
                b"size" => return Err(wrong()),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(refused(archive, "it has sparse files"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn name(&mut self, archive: &str, path: &[u8]) -> Result<(), Problem> {
        if self.path.is_some() || path.contains(&0) {
            return Err(refused(archive, "two headers name one file"));
        }
        self.path = Some(String::from_utf8_lossy(path).into_owned());
        Ok(())
    }
}

/// A header block.
struct Header([u8; BLOCK_BYTES]);

impl Header {
    fn field(&self, start: usize, length: usize) -> &[u8] {
        self.0.get(start..start + length).unwrap_or_default()
    }

    fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The length of what follows, once the header's sum is right.
    fn checked(&self, archive: &str) -> Result<u64, Problem> {
        let is_sum = |index: &usize| (148..156).contains(index);
        let sum: u64 = self
            .0
            .iter()
            .enumerate()
            .map(|(index, byte)| u64::from(if is_sum(&index) { b' ' } else { *byte }))
            .sum();
        if octal(self.field(148, 8)) != Some(sum) {
            return Err(Problem::invalid(format!(
                "{archive} is no tar archive: a header's sum is wrong"
            )));
        }
        octal(self.field(124, 12))
            .ok_or_else(|| refused(archive, "a file's length is not written in octal digits"))
    }

    fn path(&self) -> String {
        let text = |field: &[u8]| {
            let end = memchr::memchr(0, field).unwrap_or(field.len());
            String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
        };
        let name = text(self.field(0, 100));
        // GNU's own headers say `ustar ` here, and have other things in the place of the prefix.
        let prefix = match self.field(257, 6) {
            b"ustar\0" => text(self.field(345, 155)),
            _ => String::new(),
        };
        if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        }
    }
}

/// A number in octal digits, with blanks and zeros around it.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Some(0);
    }
    let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u64::from_str_radix(text, 8).ok().filter(|_| is_octal)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_an_archive_is_unpacked_grows_with_its_size_up_to_a_bound() {
        assert_eq!(unpacked_bytes_max(0), UNPACKED_MORE);
        assert_eq!(unpacked_bytes_max(1), UNPACKED_MORE + UNPACKED_TIMES_MAX);
        let least = (UNPACKED_BYTES_MAX - UNPACKED_MORE).div_ceil(UNPACKED_TIMES_MAX);
        assert!(unpacked_bytes_max(least - 1) < UNPACKED_BYTES_MAX);
        for size in [least, least + 1, u64::MAX] {
            assert_eq!(unpacked_bytes_max(size), UNPACKED_BYTES_MAX);
        }
    }
}
