//! Files on their way into a repository: what was said of them, and what stands in them.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use crate::archive::{self, Contents};
use crate::bounded::{self, ReadError, TooLong};
use crate::package::{Algorithm, AssetId, Dependency, Digest, Digests, PackageId};
use crate::plain;
use crate::problem::Problem;

/// The field of an upload that holds the SHA-256 of a file that was sent by its name.
pub const SHA256: &str = "sha256";

/// The most dependencies of a version: each is kept as a row. The largest that are known have some 3,000.
const DEPENDENCIES_MAX: usize = 10_000;

/// Bytes that can be read from anywhere.
pub trait Readable: Read + Seek + Send {}
impl<T: Read + Seek + Send> Readable for T {}

/// A body of words with a file in it, taken apart.
#[derive(Debug, Default)]
pub struct Parted {
    /// All but the file.
    pub words: Vec<u8>,
    /// The file's name; `None` where there was none.
    pub file: Option<String>,
    /// How long the file was said to be.
    pub length: Option<u64>,
}

/// A file that is whole, and what was said of it.
pub struct Upload<'a> {
    pub bytes: &'a mut dyn Readable,
    pub digests: &'a Digests,
    /// The file's name, without folders.
    pub name: &'a str,
    /// The path that it was sent to, where the path says what it is.
    pub asset: Option<&'a AssetId>,
    /// The form's fields.
    pub fields: &'a BTreeMap<String, String>,
    /// All but the file of a body that was taken apart.
    pub words: &'a [u8],
}

/// A published file that was looked into.
#[derive(Debug)]
pub struct Inspected {
    pub package: PackageId,
    pub version: String,
    /// Its path below the package.
    pub file: String,
    pub media_type: &'static str,
    /// The version's part of documents, as JSON.
    pub manifest: String,
    /// The file's part of documents, as JSON; empty where it has none.
    pub facts: String,
    pub readme: Option<String>,
    pub description: String,
    pub keywords: String,
    pub dependencies: Vec<Dependency>,
    /// Files of their own that stand in it.
    pub extracted: Vec<Extracted>,
    pub tags: Vec<String>,
    /// There is one such file to a version.
    pub is_whole: bool,
    /// It adds to a version that has to be there.
    pub is_addition: bool,
}

/// A file that stands in another and is served on its own.
#[derive(Debug)]
pub struct Extracted {
    pub file: String,
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Inspected {
    /// A file of which nothing is known but what it is.
    #[must_use]
    pub fn new(package: PackageId, version: &str, file: String, media_type: &'static str) -> Self {
        Self {
            package,
            version: version.to_owned(),
            file,
            media_type,
            manifest: "{}".to_owned(),
            facts: String::new(),
            readme: None,
            description: String::new(),
            keywords: String::new(),
            dependencies: Vec::new(),
            extracted: Vec::new(),
            tags: Vec::new(),
            is_whole: false,
            is_addition: false,
        }
    }
}

impl Inspected {
    /// Holds what was found against the bounds of all formats.
    ///
    /// # Errors
    /// Where it is over one of them, or its version cannot stand in a path.
    pub fn bounded(self) -> Result<Self, Problem> {
        self.package.format().protocol().version(&self.version)?;
        if self.dependencies.len() > DEPENDENCIES_MAX {
            return Err(Problem::invalid(format!(
                "{} {} has more than {DEPENDENCIES_MAX} dependencies",
                self.package, self.version
            )));
        }
        Ok(self)
    }
}

impl Upload<'_> {
    /// A field of the form; empty where it is absent.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Holds the file against a digest that was sent along, in hexadecimal.
    ///
    /// # Errors
    /// Where it has another, or what was sent is no digest.
    pub fn meets(&self, algorithm: Algorithm, said: &str) -> Result<(), Problem> {
        let promised = Digest::from_hex(algorithm, said)
            .map_err(|error| Problem::invalid(error.to_string()))?;
        match self.digests.get(algorithm) {
            Some(found) if found == promised => Ok(()),
            found => Err(Problem::invalid(format!(
                "{} was said to have {promised}, and has {}",
                self.name,
                found.map_or_else(String::new, |found| found.to_string())
            ))
            .advice("send it again")),
        }
    }

    /// Reads the file as a zip archive that is published.
    ///
    /// # Errors
    /// See [`archive::zip`].
    pub fn zip(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<Contents, Problem> {
        archive::zip(&mut *self.bytes, self.name, is_wanted)
    }

    /// Reads the file as a gzipped tar archive that is published.
    ///
    /// # Errors
    /// See [`archive::gzipped_tar`].
    pub fn gzipped_tar(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<Contents, Problem> {
        archive::gzipped_tar(&mut *self.bytes, self.name, is_wanted)
    }
}

/// The first entry of a registry's zip archive whose name is right, as text of up to `max` bytes.
///
/// # Errors
/// Where it is no zip archive, or the entry is too large or no text.
pub fn zip_entry(
    bytes: &mut dyn Readable,
    name: &str,
    max: u64,
    is_right: impl Fn(&str) -> bool,
) -> Result<Option<(String, String)>, Problem> {
    let unreadable = |error| Problem::invalid(format!("{name} is no zip archive")).caused_by(error);
    directory_fits(bytes, name, max / 2)?;
    let mut archive = zip::ZipArchive::new(bytes).map_err(unreadable)?;
    let entry = archive
        .file_names()
        .filter_map(Result::ok)
        .find(|name| is_right(name))
        .map(std::borrow::Cow::into_owned);
    let Some(entry) = entry else { return Ok(None) };
    let read = archive.by_name(&entry).map_err(unreadable)?;
    let text = bounded_text(read, max, &format!("{entry} in {name}"))?;
    Ok(Some((entry, text)))
}

/// The first entry of a registry's gzipped tar archive whose path is right, as text of up to `max` bytes.
/// Reading stops there.
///
/// # Errors
/// Where it is no such archive, or the entry is too large or no text.
pub fn tar_entry(
    bytes: &mut dyn Readable,
    name: &str,
    max: u64,
    is_right: impl Fn(&str) -> bool,
) -> Result<Option<String>, Problem> {
    bytes
        .rewind()
        .map_err(|error| no_archive_of_tar(name, error))?;
    tar_text(flate2::read::GzDecoder::new(bytes), name, max, is_right)
}

/// The first entry whose path is right of an archive that was unpacked.
fn tar_text(
    unpacked: impl Read,
    name: &str,
    max: u64,
    is_right: impl Fn(&str) -> bool,
) -> Result<Option<String>, Problem> {
    let unreadable = |error| no_archive_of_tar(name, error);
    // An archive that unpacks to without end is not read to its end.
    let mut archive = tar::Archive::new(unpacked.take(UNPACKED_BYTES_MAX));
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if is_right(path.trim_start_matches("./")) {
            let size = entry.size();
            let text = bounded_text(entry, max, &format!("{path} in {name}"))?;
            if text.len() as u64 != size {
                return Err(unreadable(std::io::ErrorKind::UnexpectedEof.into()));
            }
            return Ok(Some(text));
        }
    }
    if archive.into_inner().limit() == 0 {
        let bytes_max = UNPACKED_BYTES_MAX;
        return Err(TooLong { bytes_max }.problem(&format!("{name}, unpacked,")));
    }
    Ok(None)
}

fn no_archive_of_tar(name: &str, error: std::io::Error) -> Problem {
    Problem::invalid(format!("{name} is no gzipped tar archive")).caused_by(error)
}

/// How far an archive is unpacked in search of an entry.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

/// Refuses an archive whose directory, which is read whole, is longer than `max` bytes (APPNOTE
/// 4.3.16: the end of central directory record).
fn directory_fits(bytes: &mut dyn Readable, name: &str, max: u64) -> Result<(), Problem> {
    const SIGNATURE: &[u8] = b"PK\x05\x06";
    // The record, and the longest comment behind it.
    const TAIL_BYTES_MAX: u64 = 22 + 65_535;
    let unreadable = |error: std::io::Error| {
        Problem::invalid(format!("{name} is no zip archive")).caused_by(error)
    };
    let size = bytes.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let start = size.saturating_sub(TAIL_BYTES_MAX);
    bytes.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    let mut tail = Vec::new();
    bytes
        .take(TAIL_BYTES_MAX)
        .read_to_end(&mut tail)
        .map_err(unreadable)?;
    bytes.rewind().map_err(unreadable)?;
    // Which of several a reader takes is for it to say: none may be too long.
    for at in memchr::memmem::find_iter(&tail, SIGNATURE) {
        let length = tail
            .get(at + 12..at + 16)
            .and_then(|field| field.try_into().ok());
        if length.is_some_and(|length| u64::from(u32::from_le_bytes(length)) > max) {
            return Err(TooLong { bytes_max: max }.problem("the archive's directory"));
        }
    }
    Ok(())
}

/// Bytes of a file that is published, or out of one.
///
/// # Errors
/// Where there are more than `max`, or they cannot be read.
pub fn bounded_bytes(read: impl Read, max: u64, what: &str) -> Result<Vec<u8>, Problem> {
    bounded::read(read, max).map_err(|error| match error {
        ReadError::TooLong(error) => error.problem(what),
        ReadError::Io(error) => {
            Problem::invalid(format!("{what} cannot be read: {}", plain::io(&error)))
        }
    })
}

fn bounded_text(read: impl Read, max: u64, what: &str) -> Result<String, Problem> {
    let text = bounded_bytes(read, max, what)?;
    String::from_utf8(text).map_err(|_| Problem::invalid(format!("{what} is not UTF-8")))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;
    use crate::package::{Digester, Format};
    use crate::problem::Kind;

    /// Looks into a file that is published: by its path where the format has it sent to one, or by the
    /// words around it.
    pub fn inspect(
        format: Format,
        asset: Option<&AssetId>,
        words: &[u8],
        file: Vec<u8>,
    ) -> Result<Inspected, Problem> {
        format.protocol().inspect(&mut Upload {
            bytes: &mut Cursor::new(file),
            digests: &Digester::new(&[]).finish(),
            name: "a",
            asset,
            fields: &BTreeMap::new(),
            words,
        })
    }

    /// Bytes that nobody looks at, so many.
    struct Anything(u64);

    impl Read for Anything {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = u64::try_from(buffer.len()).unwrap().min(self.0);
            self.0 -= count;
            Ok(usize::try_from(count).unwrap())
        }
    }

    fn archive(entries: usize) -> Cursor<Vec<u8>> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..entries {
            archive
                .start_file(
                    format!("entry-{index}"),
                    zip::write::SimpleFileOptions::default(),
                )
                .unwrap();
            archive.write_all(b"text").unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn an_archive_of_many_entries_is_refused_before_they_are_read() {
        assert!(directory_fits(&mut archive(10), "a.zip", 1000).is_ok());
        let problem = directory_fits(&mut archive(100), "a.zip", 1000).unwrap_err();
        assert!(problem.message.contains("more than 1000 bytes"));
        assert!(directory_fits(&mut Cursor::new(b"no archive".to_vec()), "a.zip", 1000).is_ok());
    }

    #[test]
    fn an_entry_is_looked_for_in_an_archive_up_to_a_bound() {
        let header = |name: &str, size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_path(name).unwrap();
            header.set_size(size);
            header.set_cksum();
            Cursor::new(header.as_bytes().to_vec())
        };
        // The file that is looked for, behind one so long that it ends where the archive may.
        let found = |beyond: u64| {
            let long = UNPACKED_BYTES_MAX - 3 * 512 + beyond;
            let unpacked = header("long", long)
                .chain(Anything(long))
                .chain(header("a", 512))
                .chain(&[b'x'; 512][..])
                .chain(Anything(1024));
            tar_text(unpacked, "a.tar.gz", 1024, |path| path == "a")
        };
        assert_eq!(found(0).unwrap().unwrap().len(), 512);
        // The bound is in the file, before its header, and within it.
        for beyond in [512, 1024] {
            assert!(found(beyond).is_err(), "{beyond}");
        }
    }

    #[test]
    fn a_version_has_no_more_dependencies_than_may_be() {
        let package = crate::package("npm:a").unwrap();
        let of = |count: usize| {
            let one = Dependency {
                kind: "dependencies".to_owned(),
                name: "b".to_owned(),
                requirement: "*".to_owned(),
            };
            let new = Inspected::new(package.clone(), "1.0.0", "a-1.0.0.tgz".to_owned(), "");
            Inspected {
                dependencies: vec![one; count],
                ..new
            }
        };
        assert!(of(DEPENDENCIES_MAX).bounded().is_ok());
        let problem = of(DEPENDENCIES_MAX + 1).bounded().unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid);
        assert!(problem.message.contains("dependencies"), "{problem}");
    }
}
