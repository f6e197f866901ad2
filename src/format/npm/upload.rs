//! `npm publish`: a document with manifests, and the tarball in it as a string.
//! Source: libnpmpublish's behaviour, and npm's registry documentation.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use struson::reader::{
    JsonReader as _, JsonReaderPosition, JsonStreamReader, ReaderError, TransferError,
};
use struson::writer::{JsonStreamWriter, JsonWriter as _};

use super::name;
use crate::bounded::{Bounded, TooLong};
use crate::json::{Node, quoted};
use crate::package::{Algorithm, Dependency, Expected, PackageId};
use crate::plain;
use crate::problem::Problem;
use crate::upload::{Inspected, Parted, Upload};
use crate::{Amendment, FormatError};

/// Takes the tarball out of the document while it comes in.
pub fn part(body: &mut dyn Read, file: &mut dyn Write, words_max: u64) -> Result<Parted, Problem> {
    let mut words = Bounded::new(words_max);
    let mut parted = Parted::default();
    let taken = take_apart(body, file, &mut words, &mut parted);
    // Input that was too long also breaks off; that it was too long is the better message.
    parted.words = words.finish().map_err(|error| {
        error
            .problem("the document")
            .advice("raise `upload.document_bytes_max`")
    })?;
    taken.map_err(|error| unreadable(&why_not_taken_apart(&*error)))?;
    Ok(parted)
}

fn take_apart(
    body: &mut dyn Read,
    file: &mut dyn Write,
    words: &mut Bounded,
    parted: &mut Parted,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut json = JsonStreamReader::new(body);
    let mut rest = JsonStreamWriter::new(words);
    json.begin_object()?;
    rest.begin_object()?;
    while json.has_next()? {
        let member = json.next_name_owned()?;
        if member == "_attachments" {
            json.begin_object()?;
            while json.has_next()? {
                let name = json.next_name_owned()?;
                if name.ends_with(".tgz") && parted.file.is_none() {
                    parted.length = attachment(&mut json, file)?;
                    parted.file = Some(name);
                } else {
                    json.skip_value()?;
                }
            }
            json.end_object()?;
        } else {
            rest.name(&member)?;
            json.transfer_to(&mut rest).map_err(transfer)?;
        }
    }
    json.end_object()?;
    rest.end_object()?;
    json.consume_trailing_whitespace()?;
    rest.finish_document()?;
    Ok(())
}

fn unreadable(why: &str) -> Problem {
    Problem::invalid(format!("the document cannot be read: {why}"))
}

/// Why [`take_apart`] came to no end, in plain words.
fn why_not_taken_apart(error: &(dyn std::error::Error + 'static)) -> String {
    let at = |location: &JsonReaderPosition| {
        location.line_pos.as_ref().map_or_else(String::new, |at| {
            format!(": see line {}, column {}", at.line + 1, at.column + 1)
        })
    };
    let reader = match error.downcast_ref::<TransferError>() {
        Some(TransferError::ReaderError(error)) => Some(error),
        _ => error.downcast_ref::<ReaderError>(),
    };
    match reader {
        Some(ReaderError::SyntaxError(error)) => format!("it is not JSON{}", at(&error.location)),
        Some(ReaderError::MaxNestingDepthExceeded { .. }) => "it is nested too deep".to_owned(),
        Some(ReaderError::IoError { error, .. }) => plain::io(error),
        Some(
            ReaderError::UnexpectedValueType { location, .. }
            | ReaderError::UnexpectedStructure { location, .. },
        ) => format!("it is not what npm publishes{}", at(location)),
        Some(_) => "it is not what npm publishes".to_owned(),
        None => plain::cause(error),
    }
}

fn transfer(error: TransferError) -> Box<dyn std::error::Error> {
    Box::new(error)
}

fn attachment<R: Read>(
    json: &mut JsonStreamReader<R>,
    file: &mut dyn Write,
) -> Result<Option<u64>, Box<dyn std::error::Error>> {
    let mut length = None;
    json.begin_object()?;
    while json.has_next()? {
        match json.next_name_owned()?.as_str() {
            "data" => {
                let text = json.next_string_reader()?;
                let mut data = base64::read::DecoderReader::new(
                    text,
                    &base64::engine::general_purpose::STANDARD,
                );
                let mut piece = vec![0; 64 * 1024];
                loop {
                    let count = data.read(&mut piece)?;
                    let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
                        break;
                    };
                    file.write_all(read)?;
                }
            }
            "length" => length = json.next_number::<u64>()?.ok(),
            _ => json.skip_value().map_err(Box::<ReaderError>::new)?,
        }
    }
    json.end_object()?;
    Ok(length)
}

/// The largest manifest: a package.json, and a readme that is as large.
const MANIFEST_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// The longest list of tags in a publish: npm gives one.
const TAGS_BYTES_MAX: u64 = 64 * 1024;

/// A publish without its tarball. No part is read further than it is wanted.
#[derive(Deserialize)]
struct Document<'a> {
    name: Option<String>,
    #[serde(borrow)]
    versions: Option<OneMember<'a>>,
    #[serde(borrow, rename = "dist-tags")]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    readme: Option<&'a RawValue>,
}

/// The part of a package.json that is held against the manifest of a publish.
#[derive(Deserialize)]
struct Packed {
    name: Option<Value>,
    version: Option<Value>,
}

/// An object with one member.
struct OneMember<'a> {
    name: String,
    value: &'a RawValue,
}

impl<'de: 'a, 'a> Deserialize<'de> for OneMember<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneMemberVisitor)
    }
}

struct OneMemberVisitor;

impl<'de> Visitor<'de> for OneMemberVisitor {
    type Value = OneMember<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one version")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, value) = map
            .next_entry()?
            .ok_or_else(|| A::Error::custom("it names no version"))?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(
                "it publishes more than one version at once",
            ));
        }
        Ok(OneMember { name, value })
    }
}

/// Members of a manifest that are composed elsewhere, or must not appear twice.
const NOT_KEPT: &[&str] = &[
    "dist",
    "_id",
    "_rev",
    "_attachments",
    "readme",
    "readmeFilename",
];

pub fn inspect(upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
    let document: Document<'_> =
        serde_json::from_slice(upload.words).map_err(|error| unreadable(&plain::json(&error)))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let package = name::parse(document.name.as_deref().unwrap_or_default())?;
    let (version, manifest) = document
        .versions
        .map(|one| (one.name, one.value))
        .ok_or_else(|| Problem::invalid("the document has a tarball and names no version"))?;
    if manifest.get().len() as u64 > MANIFEST_BYTES_MAX {
        return Err(TooLong {
            bytes_max: MANIFEST_BYTES_MAX,
        }
        .problem(&format!("the manifest of {version}")));
    }
    let Ok(Value::Object(mut manifest)) = serde_json::from_str(manifest.get()) else {
        return Err(Problem::invalid(format!(
            "the manifest of {version} is no object"
        )));
    };
    let exact =
        nodejs_semver::Version::parse(&version).is_ok_and(|parsed| parsed.to_string() == version);
    if !exact {
        return Err(Problem::invalid(format!(
            "`{version}` is no version as npm writes it"
        )));
    }
    agrees("the manifest", &manifest, &package, &version)?;
    let tags = tags(document.tags, &version)?;
    let readme = document
        .readme
        .and_then(|readme| serde_json::from_str(readme.get()).ok());
    agrees(
        "the tarball's package.json",
        &packed(upload)?,
        &package,
        &version,
    )?;
    promises(upload, manifest.get("dist"))?;
    let readme = readme.or_else(|| text(manifest.get("readme")));
    for member in NOT_KEPT {
        manifest.remove(*member);
    }
    let keywords = manifest.get("keywords").and_then(Value::as_array);
    let keywords: Vec<&str> = keywords
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    Ok(Inspected {
        description: text(manifest.get("description")).unwrap_or_default(),
        keywords: keywords.join(" "),
        dependencies: dependencies(&manifest),
        readme,
        tags,
        is_whole: true,
        manifest: Value::Object(manifest).to_string(),
        ..Inspected::new(
            package.clone(),
            &version,
            format!("{}-{version}.tgz", package.name()),
            "application/octet-stream",
        )
    })
}

/// The tags that the document gives to the version.
fn tags(tags: Option<&RawValue>, version: &str) -> Result<Vec<String>, Problem> {
    let Some(tags) = tags else {
        return Ok(Vec::new());
    };
    if tags.get().len() as u64 > TAGS_BYTES_MAX {
        let bytes_max = TAGS_BYTES_MAX;
        return Err(TooLong { bytes_max }.problem("the document's list of tags"));
    }
    let tags: Map<String, Value> =
        serde_json::from_str(tags.get()).map_err(|error| unreadable(&plain::json(&error)))?;
    let of_version = tags
        .into_iter()
        .filter(|(_, tagged)| tagged.as_str() == Some(version));
    of_version
        .map(|(tag, _)| name::tag(&tag).map(str::to_owned))
        .collect()
}

/// Reads name and version from the tarball's package.json.
fn packed(upload: &mut Upload<'_>) -> Result<Map<String, Value>, Problem> {
    // npm packs below `package/`; others below other folders.
    let contents = upload.gzipped_tar(|path| {
        path.split_once('/')
            .is_some_and(|(_, file)| file == "package.json")
    })?;
    // Clients leave the first folder out of each path: the files of two would come upon each other.
    let mut folders = contents
        .files
        .iter()
        .filter_map(|path| Some(path.split_once('/')?.0));
    let folder = folders.next();
    if let Some(other) = folders.find(|other| Some(*other) != folder) {
        return Err(Problem::invalid(format!(
            "the tarball has two folders, `{}` and `{other}`",
            folder.unwrap_or_default()
        ))
        .advice("pack it with `npm pack`"));
    }
    let (_, text) = contents
        .found
        .ok_or_else(|| Problem::invalid("the tarball has no package.json"))?;
    let packed: Packed =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            Problem::invalid(format!(
                "the tarball's package.json cannot be read: {}",
                plain::json(&error)
            ))
        })?;
    let said = [("name", packed.name), ("version", packed.version)];
    Ok(said
        .into_iter()
        .filter_map(|(member, value)| Some((member.to_owned(), value?)))
        .collect())
}

fn agrees(
    what: &str,
    manifest: &Map<String, Value>,
    package: &PackageId,
    version: &str,
) -> Result<(), Problem> {
    let said = |member: &str| {
        manifest
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let same_version = said("version") == version
        || nodejs_semver::Version::parse(said("version"))
            .is_ok_and(|said| said.to_string() == version);
    if said("name") != package.full_name() || !same_version {
        return Err(Problem::invalid(format!(
            "{what} is of {}@{}, and {}@{version} is to be published",
            said("name"),
            said("version"),
            package.full_name(),
        )));
    }
    Ok(())
}

fn promises(upload: &Upload<'_>, dist: Option<&Value>) -> Result<(), Problem> {
    let said = |member: &str| dist.and_then(|dist| dist.get(member)?.as_str());
    if let Some(shasum) = said("shasum") {
        upload.meets(Algorithm::Sha1, shasum)?;
    }
    if let Some(integrity) = said("integrity") {
        let expected = Expected::from_integrity(integrity);
        if expected.is_empty() {
            return Err(Problem::invalid(format!(
                "the integrity `{integrity}` has no digest that can be read"
            )));
        }
        if let Some((promised, _)) = expected.broken_by(upload.digests) {
            return Err(Problem::invalid(format!(
                "the tarball was said to have {promised}, and has not"
            ))
            .advice("send it again"));
        }
    }
    Ok(())
}

fn dependencies(manifest: &Map<String, Value>) -> Vec<Dependency> {
    [
        "dependencies",
        "devDependencies",
        "peerDependencies",
        "optionalDependencies",
    ]
    .iter()
    .flat_map(|kind| {
        let members = manifest.get(*kind).and_then(Value::as_object);
        members
            .into_iter()
            .flatten()
            .map(|(name, range)| Dependency {
                kind: (*kind).to_owned(),
                name: name.clone(),
                requirement: range.as_str().unwrap_or_default().to_owned(),
            })
    })
    .collect()
}

/// The document that would have published this version of a packument.
pub fn words(packument: &[u8], version: &str) -> Result<Vec<u8>, FormatError> {
    let root = Node::object_document(packument)?;
    let manifest = match root.get("versions") {
        Some(versions) => versions.get(version)?,
        None => None,
    };
    let manifest =
        manifest.ok_or_else(|| FormatError::Absent(format!("it has no version {version}")))?;
    let name = root.get("name").map_or("null", |name| name.text());
    let words = format!(
        "{{\"name\":{name},\"versions\":{{{}:{}}}}}",
        quoted(version),
        manifest.text()
    );
    Ok(words.into_bytes())
}

/// A document that was sent without a tarball.
#[derive(Deserialize)]
struct Amended<'a> {
    #[serde(borrow)]
    versions: Option<BTreeMap<String, AmendedVersion<'a>>>,
    #[serde(borrow, rename = "dist-tags")]
    tags: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(borrow, rename = "_rev")]
    revision: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AmendedVersion<'a> {
    #[serde(borrow)]
    deprecated: Option<&'a RawValue>,
}

/// Reads `npm deprecate`'s and `npm unpublish`'s document; `None` where it is about no versions.
pub fn amendment(words: &[u8]) -> Result<Option<Amendment>, Problem> {
    let document: Amended<'_> =
        serde_json::from_slice(words).map_err(|error| unreadable(&plain::json(&error)))?;
    let Some(versions) = document.versions else {
        return Ok(None);
    };
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
    let deprecated = versions
        .into_iter()
        .map(|(version, manifest)| (version, manifest.deprecated.and_then(text)))
        .map(|(version, word)| (version, word.unwrap_or_default()))
        .collect();
    let tags = document.tags.map(|tags| {
        tags.into_iter()
            // A name that cannot stand in a path is no tag.
            .filter(|(tag, _)| name::tag(tag).is_ok())
            .filter_map(|(tag, version)| Some((tag, text(version)?)))
            .collect()
    });
    Ok(Some(Amendment {
        deprecated,
        tags,
        revision: document.revision.and_then(text),
    }))
}

/// The manifest with another word of deprecation; `None` where it says that already.
pub fn deprecated(manifest: &str, word: &str) -> Option<String> {
    let mut manifest: Map<String, Value> = serde_json::from_str(manifest).ok()?;
    let before = manifest.get("deprecated").and_then(Value::as_str);
    if before.unwrap_or_default() == word {
        return None;
    }
    if word.is_empty() {
        manifest.remove("deprecated");
    } else {
        manifest.insert("deprecated".to_owned(), Value::from(word));
    }
    Some(Value::Object(manifest).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tarball_is_taken_out_of_its_document_as_it_comes() {
        let body = br#"{"name":"a","_attachments":{"a-1.0.0.tgz.sigstore":{"data":"x"},"a-1.0.0.tgz":{"content_type":"application/octet-stream","data":"aGVsbG8gd29ybGQ=","length":11}},"versions":{"1.0.0":{"n":1.50}}}"#;
        let mut file = Vec::new();
        let parted = part(&mut &body[..], &mut file, 1000).unwrap();
        assert_eq!(file, b"hello world");
        assert_eq!(parted.file.as_deref(), Some("a-1.0.0.tgz"));
        assert_eq!(parted.length, Some(11));
        assert_eq!(
            String::from_utf8(parted.words).unwrap(),
            r#"{"name":"a","versions":{"1.0.0":{"n":1.50}}}"#
        );
    }

    #[test]
    fn words_have_a_bound_and_bodies_an_end() {
        let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(2000));
        let problem = part(&mut long.as_bytes(), &mut Vec::new(), 1000).unwrap_err();
        assert!(
            problem.message.contains("more than 1000 bytes"),
            "{problem}"
        );
        for cut in [
            &br#"{"name":"a","_attachments":{"a.tgz":{"data":"aGVs"#[..],
            br#"{"name":"a","#,
            br#"{"_attachments":{"a.tgz":{"data":"***"}}}"#,
            b"[]",
        ] {
            assert!(part(&mut &cut[..], &mut Vec::new(), 1000).is_err());
        }
    }

    #[test]
    fn deprecation_changes_one_word() {
        let manifest = r#"{"name":"a","version":"1.0.0"}"#;
        let with = deprecated(manifest, "use b").unwrap();
        assert!(with.contains(r#""deprecated":"use b""#));
        assert_eq!(deprecated(&with, "use b"), None);
        assert_eq!(deprecated(&with, "").unwrap(), manifest);
    }
}
