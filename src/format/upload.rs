//! Files on their way into a repository: what was said of them, and what stands in them.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use crate::package::{Algorithm, AssetId, Dependency, Digest, Digests, PackageId};
use crate::problem::Problem;

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
    /// As it was called, without folders.
    pub name: &'a str,
    /// The path that it was sent to, where the path says what it is.
    pub asset: Option<&'a AssetId>,
    /// The form's fields.
    pub fields: &'a BTreeMap<String, String>,
    /// All but the file of a body that was taken apart.
    pub words: &'a [u8],
    /// What may be read out of an archive into memory.
    pub words_max: u64,
}

/// What a file turned out to be.
#[derive(Debug)]
pub struct Inspected {
    pub package: PackageId,
    pub version: String,
    /// Its path below the package.
    pub file: String,
    pub media_type: &'static str,
    /// What documents say of the version, as JSON.
    pub manifest: String,
    /// What documents say of the file, as JSON; empty where they say nothing.
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

    /// The first entry of the zip archive whose name is right, as text.
    ///
    /// # Errors
    /// Where the file is no zip archive, or the entry is too large or no text.
    pub fn zip_entry(
        &mut self,
        is_right: impl Fn(&str) -> bool,
    ) -> Result<Option<(String, String)>, Problem> {
        let unreadable = |error: &dyn std::fmt::Display| {
            Problem::invalid(format!("the file is no zip archive: {error}"))
        };
        let (name, max) = (self.name.to_owned(), self.words_max);
        let mut archive =
            zip::ZipArchive::new(&mut *self.bytes).map_err(|error| unreadable(&error))?;
        let entry = archive
            .file_names()
            .filter_map(Result::ok)
            .find(|name| is_right(name))
            .map(std::borrow::Cow::into_owned);
        let Some(entry) = entry else { return Ok(None) };
        let read = archive
            .by_name(&entry)
            .map_err(|error| unreadable(&error))?;
        let text = bounded_text(read, max, &format!("{entry} in {name}"))?;
        Ok(Some((entry, text)))
    }

    /// The first entry of the gzipped tar archive whose path is right, as text. Reading stops there.
    ///
    /// # Errors
    /// Where the file is no such archive, or the entry is too large or no text.
    pub fn tar_entry(
        &mut self,
        is_right: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, Problem> {
        let unreadable = |error: std::io::Error| {
            Problem::invalid(format!("the file is no gzipped tar archive: {error}"))
        };
        self.bytes.rewind().map_err(unreadable)?;
        let (name, max) = (self.name.to_owned(), self.words_max);
        // An archive that unpacks to without end is not read to its end.
        let unpacked = flate2::read::GzDecoder::new(&mut *self.bytes).take(UNPACKED_BYTES_MAX);
        let mut archive = tar::Archive::new(unpacked);
        for entry in archive.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if is_right(path.trim_start_matches("./")) {
                return Ok(Some(bounded_text(
                    entry,
                    max,
                    &format!("{path} in {name}"),
                )?));
            }
        }
        Ok(None)
    }
}

/// How far an archive is unpacked in search of an entry.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

fn bounded_text(read: impl Read, max: u64, what: &str) -> Result<String, Problem> {
    let mut text = Vec::new();
    read.take(max + 1)
        .read_to_end(&mut text)
        .map_err(|error| Problem::invalid(format!("{what} cannot be read: {error}")))?;
    if text.len() as u64 > max {
        return Err(
            Problem::invalid(format!("{what} has more than {max} bytes"))
                .advice("raise `upload.document_bytes_max`"),
        );
    }
    String::from_utf8(text).map_err(|_| Problem::invalid(format!("{what} is not UTF-8")))
}
