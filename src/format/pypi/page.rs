//! A project's page, read from either form into one shape, with the places of what may change.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::version::normalised;
use super::{html, name};
use crate::json::Node;
use crate::package::{Algorithm, Digest, Expected, PackageId};
use crate::{FormatError, Upstream, date, path, text};

/// A page of the simple index, without its files.
#[derive(Debug)]
pub struct SimplePage {
    /// Whether every reader of HTML sees the same links in it, each with its beginning and its end;
    /// what is not so is written anew instead of being edited.
    pub is_tidy: bool,
    /// The `meta` of the JSON form, or what the HTML form says of it.
    pub meta: BTreeMap<String, Value>,
    pub name: Option<String>,
}

/// A reader of a page's files, one after the other.
pub type Visit<'v> = &'v mut dyn FnMut(PageFile) -> Result<(), FormatError>;

/// One file of a page.
#[derive(Debug)]
pub struct PageFile {
    pub name: String,
    pub url: Url,
    pub digests: Expected,
    /// The digests by algorithm, in hexadecimal, as upstream spells them.
    pub hashes: BTreeMap<String, String>,
    pub requires_python: Option<String>,
    /// The reason, which may be empty.
    pub yanked: Option<String>,
    /// Digests of the metadata file, where there is one (PEP 658, 714); they may be none.
    pub metadata: Option<Expected>,
    pub metadata_hashes: BTreeMap<String, String>,
    /// Where the page promises the metadata file.
    pub promises: Vec<Range<usize>>,
    pub signed: bool,
    pub provenance: Option<Url>,
    pub uploaded: Option<Timestamp>,
    /// The whole entry in the page.
    pub range: Range<usize>,
    pub addresses: Vec<Place>,
}

impl PageFile {
    /// The version that the file is of; empty where nothing says so, or where its name and its
    /// address say different things: installers go by either.
    pub fn version(&self, package: &PackageId) -> &str {
        version(package, &self.name, &self.url)
    }

    /// The places of promises that are not to be made.
    pub fn withdrawn(&self) -> impl Iterator<Item = Range<usize>> {
        let places = self.promises.iter().filter(|_| self.metadata.is_none());
        places.cloned()
    }
}

/// The version of a file of that name at that address.
pub fn version<'a>(package: &PackageId, name: &'a str, url: &Url) -> &'a str {
    let by_name = name::version_of(package.name(), name);
    let last = last_segment(url);
    let by_address = name::version_of(package.name(), &last);
    match (by_name, by_address) {
        (Some(by_name), Some(by_address)) if normalised(by_name) != normalised(by_address) => "",
        (by_name, _) => by_name.unwrap_or_default(),
    }
}

/// The last segment of an address, decoded: what installers take for the file's name.
pub fn last_segment(url: &Url) -> String {
    let last = path::last_segment(url.path());
    percent_encoding::percent_decode_str(last)
        .decode_utf8_lossy()
        .into_owned()
}

/// An address in the page.
#[derive(Debug)]
pub struct Place {
    /// In JSON the string with its quotes, in HTML the attribute with its name.
    pub range: Range<usize>,
    pub attribute: &'static str,
    pub url: Url,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    filename: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(rename = "requires-python", default)]
    requires_python: Option<String>,
    #[serde(default)]
    yanked: Value,
    #[serde(rename = "core-metadata", default)]
    core_metadata: Value,
    #[serde(rename = "dist-info-metadata", default)]
    dist_info_metadata: Value,
    #[serde(rename = "gpg-sig", default)]
    gpg_sig: Option<bool>,
    #[serde(default)]
    provenance: Option<String>,
    #[serde(rename = "upload-time", default)]
    upload_time: Option<String>,
}

/// Whether the page is in the JSON form, whatever its media type says: there are mirrors that label
/// one form as the other.
pub fn is_json(upstream: &Upstream<'_>) -> Result<bool, FormatError> {
    let (_, text) = text::utf8(upstream.bytes)?;
    Ok(upstream.media_type.contains("json") || text.trim_start().starts_with('{'))
}

/// Reads a page in the form that it is in, file by file, so that a long one is not held as a list.
pub fn read(upstream: &Upstream<'_>, visit: Visit<'_>) -> Result<SimplePage, FormatError> {
    if is_json(upstream)? {
        let (page, files) = json_head(upstream)?;
        files.each_element(|element| visit(json_file(upstream, element)?))?;
        Ok(page)
    } else {
        html::read(upstream, visit)
    }
}

/// Reads the head of a page in the JSON form, and where its list of files is.
pub fn json_head<'a>(upstream: &Upstream<'a>) -> Result<(SimplePage, Node<'a>), FormatError> {
    let root = Node::object_document(upstream.bytes)?;
    let files = root
        .get("files")
        .ok_or_else(|| FormatError::shape("it has no list of files"))?;
    let page = SimplePage {
        is_tidy: true,
        meta: root
            .get("meta")
            .and_then(|meta| meta.read().ok())
            .unwrap_or_default(),
        name: root
            .get("name")
            .and_then(|name| name.string())
            .map(Cow::into_owned),
    };
    Ok((page, files))
}

fn json_file(upstream: &Upstream<'_>, element: Node<'_>) -> Result<PageFile, FormatError> {
    let entry: Entry<'_> = element.read()?;
    let object = element.object()?;
    let url = upstream
        .url
        .join(&entry.url)
        .map_err(|_| FormatError::shape(format!("the address of {} is no URL", entry.filename)))?;
    let provenance = entry
        .provenance
        .as_deref()
        .and_then(|provenance| upstream.url.join(provenance).ok());
    let mut addresses = Vec::new();
    for (attribute, url) in [("url", Some(&url)), ("provenance", provenance.as_ref())] {
        if let (Some(node), Some(url)) = (object.get(attribute), url) {
            addresses.push(Place {
                range: node.range(),
                attribute,
                url: url.clone(),
            });
        }
    }
    let metadata = if entry.core_metadata.is_null() {
        entry.dist_info_metadata
    } else {
        entry.core_metadata
    };
    let (metadata, metadata_hashes) = metadata_of(&metadata);
    let promises = ["core-metadata", "dist-info-metadata"]
        .into_iter()
        .filter(|_| metadata.is_some())
        .filter_map(|name| object.get(name))
        .map(|node| node.range())
        .collect();
    Ok(PageFile {
        name: entry.filename.into_owned(),
        url,
        digests: digests(&entry.hashes),
        hashes: entry.hashes,
        requires_python: entry.requires_python,
        yanked: match entry.yanked {
            Value::String(reason) => Some(reason),
            Value::Bool(true) => Some(String::new()),
            _ => None,
        },
        metadata,
        metadata_hashes,
        promises,
        signed: entry.gpg_sig == Some(true),
        provenance,
        uploaded: entry.upload_time.as_deref().and_then(date),
        range: element.range(),
        addresses,
    })
}

fn metadata_of(value: &Value) -> (Option<Expected>, BTreeMap<String, String>) {
    match value {
        Value::Bool(true) => (Some(Expected::none()), BTreeMap::new()),
        Value::Object(hashes) => {
            let hashes = hashes
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect();
            (Some(digests(&hashes)), hashes)
        }
        _ => (None, BTreeMap::new()),
    }
}

pub fn digests(hashes: &BTreeMap<String, String>) -> Expected {
    hashes
        .iter()
        .filter_map(|(name, value)| Digest::from_hex(Algorithm::parse(name)?, value).ok())
        .collect()
}
