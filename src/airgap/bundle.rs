//! The format of a bundle: a zstd-compressed tar that holds a head, its signature, a manifest, a bill
//! of materials and the blobs, in this order. The signature covers the head, the head has the digests
//! of manifest and bill, and the manifest has those of the blobs. After the compressed bytes follows a
//! seal, the signed digest of the compressed bytes: zstd frames have bits that do not change the
//! content, and nobody may change those either.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::format;
use crate::package::{
    AssetId, BlobId, Dependency, Format, Origin, PackageId, ReleaseAsset, Status,
};
use crate::problem::Problem;
use crate::store::catalog::{AssetKey, AssetRow, DocumentRow};
use crate::store::packages::NewRelease;

pub const HEAD: &str = "larder-bundle.json";
pub const SIGNATURE: &str = "larder-bundle.sig";
pub const MANIFEST: &str = "manifest.jsonl";
pub const SBOM: &str = "sbom.cdx.json";
/// The folder of the blobs in the tar.
pub const BLOBS: &str = "blobs/sha256/";

pub const VERSION: u32 = 1;
/// The longest head that is read.
pub const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// The longest line of a manifest that is read.
pub const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The head of a bundle: what it is, and the digests of its manifest and bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleHead {
    /// Always `larder-bundle`.
    pub format: String,
    pub version: u32,
    pub id: String,
    pub created: Timestamp,
    /// The domain that the packages belong to.
    pub domain: String,
    /// The selection that was exported, in words.
    pub scope: String,
    /// Only what came in after this time is in the bundle; `None`: everything selected.
    pub since: Option<Timestamp>,
    pub manifest: Part,
    pub sbom: Part,
    pub blobs: u64,
    /// The size of all blobs together.
    pub bytes: u64,
    /// The public key of the signature.
    pub key: String,
}

/// Digest and size of the manifest or the bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// In hexadecimal.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

/// A line of the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestLine {
    /// The connection that the following assets and documents are from.
    Connection(BundleConnection),
    Asset(BundleAsset),
    Document(BundleDocument),
    /// The publish date of a version whose documents do not say it.
    Date(Date),
    /// A version that a repository has of its own.
    Release(Box<BundleRelease>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleConnection {
    pub name: String,
    pub format: String,
    pub url: String,
}

/// A file that was fetched through a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleAsset {
    pub connection: String,
    /// `npm:@scope/name`.
    pub package: String,
    pub version: String,
    pub file: String,
    pub sha256: String,
    pub size: u64,
    pub media_type: String,
    pub published: Option<Timestamp>,
    pub last_modified: Option<String>,
    pub fetched: Timestamp,
    pub fetch_ms: i64,
}

/// A document that was fetched through a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleDocument {
    pub connection: String,
    pub key: String,
    pub sha256: String,
    pub size: u64,
    pub url: String,
    pub media_type: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub policy: String,
    pub fetched: Timestamp,
    pub checked: Timestamp,
    /// Earlier versions wrote seconds since 1970.
    #[serde(deserialize_with = "clock::read_time")]
    pub fresh_until: Timestamp,
    pub stale_for: i64,
    pub fetch_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Date {
    pub connection: String,
    pub package: String,
    pub version: String,
    pub published: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleRelease {
    pub repository: String,
    pub package: String,
    pub version: String,
    pub origin: Origin,
    pub status: Status,
    pub published: Timestamp,
    pub manifest: String,
    pub readme: Option<String>,
    pub description: String,
    pub dependencies: Vec<Dependency>,
    pub tags: Vec<String>,
    pub assets: Vec<ReleaseFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseFile {
    pub file: String,
    pub size: u64,
    /// By the algorithm's name, hexadecimal.
    pub digests: BTreeMap<String, String>,
    pub media_type: String,
    pub published: Timestamp,
    pub facts: String,
}

/// The blobs that a manifest has named so far. Half of each digest is kept: enough to tell blobs
/// apart, in half the memory.
#[derive(Default)]
pub struct SeenBlobs(HashSet<[u8; 16]>);

impl SeenBlobs {
    /// Adds the blob. Returns whether it was not among them before.
    pub fn is_first(&mut self, id: BlobId) -> bool {
        let mut half = [0; 16];
        half.copy_from_slice(id.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
        self.0.insert(half)
    }
}

/// Reads a blob's name as a manifest writes it.
///
/// # Errors
/// Where the text is no name of a blob.
pub fn blob(sha256: &str) -> Result<BlobId, Problem> {
    let bytes = hex::decode(sha256).ok();
    bytes
        .and_then(|bytes| BlobId::from_slice(&bytes))
        .ok_or_else(|| Problem::invalid(format!("`{sha256}` is no SHA-256")))
}

impl ManifestLine {
    /// The blobs that the line names, with their sizes.
    ///
    /// # Errors
    /// Where a name is none.
    pub fn blobs(&self) -> Result<Vec<(BlobId, u64)>, Problem> {
        match self {
            Self::Connection(_) | Self::Date(_) => Ok(Vec::new()),
            Self::Asset(asset) => Ok(vec![(blob(&asset.sha256)?, asset.size)]),
            Self::Document(document) => Ok(vec![(blob(&document.sha256)?, document.size)]),
            Self::Release(release) => release
                .assets
                .iter()
                .map(|file| Ok((blob(file.sha256())?, file.size)))
                .collect(),
        }
    }
}

impl BundleAsset {
    #[must_use]
    pub fn of(connection: &str, key: &AssetKey, row: &AssetRow) -> Self {
        Self {
            connection: connection.to_owned(),
            package: key.asset.package.to_string(),
            version: row.version.clone(),
            file: key.asset.file.to_string(),
            sha256: row.blob.to_hex(),
            size: row.size,
            media_type: row.media_type.clone(),
            published: row.published,
            last_modified: row.last_modified.clone(),
            fetched: second(row.first_seen),
            fetch_ms: row.fetch_ms,
        }
    }

    /// The catalog's row for this line.
    ///
    /// # Errors
    /// Where it names no package, or no blob.
    pub fn row(&self) -> Result<(AssetKey, AssetRow), Problem> {
        let package = format::package(&self.package)?;
        if self
            .file
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(Problem::invalid(format!("`{}` is no file", self.file)));
        }
        let key = AssetKey {
            connection: self.connection.as_str().into(),
            asset: AssetId {
                package,
                file: self.file.as_str().into(),
            },
        };
        let row = AssetRow {
            version: self.version.clone(),
            blob: blob(&self.sha256)?,
            size: self.size,
            media_type: self.media_type.clone(),
            published: self.published,
            last_modified: self.last_modified.clone(),
            first_seen: self.fetched.as_second(),
            fetch_ms: self.fetch_ms,
        };
        Ok((key, row))
    }
}

impl BundleDocument {
    #[must_use]
    pub fn of(connection: &str, key: &str, row: &DocumentRow) -> Self {
        Self {
            connection: connection.to_owned(),
            key: key.to_owned(),
            sha256: row.blob.to_hex(),
            size: row.size,
            url: row.url.clone(),
            media_type: row.media_type.clone(),
            etag: row.etag.clone(),
            last_modified: row.last_modified.clone(),
            policy: row.policy.clone(),
            fetched: second(row.fetched_at),
            checked: second(row.checked_at),
            fresh_until: second(row.fresh_until),
            stale_for: row.stale_for,
            fetch_ms: row.fetch_ms,
        }
    }

    /// The catalog's row for this line.
    ///
    /// # Errors
    /// Where it names no blob.
    pub fn row(&self) -> Result<DocumentRow, Problem> {
        Ok(DocumentRow {
            blob: blob(&self.sha256)?,
            size: self.size,
            url: self.url.clone(),
            media_type: self.media_type.clone(),
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
            policy: self.policy.clone(),
            fetched_at: self.fetched.as_second(),
            checked_at: self.checked.as_second(),
            fresh_until: self.fresh_until.as_second(),
            stale_for: self.stale_for,
            fetch_ms: self.fetch_ms,
            versions: None,
        })
    }
}

impl BundleRelease {
    /// The version of our own for this line.
    ///
    /// # Errors
    /// Where it names no package, or no blob.
    pub fn new_release(&self) -> Result<NewRelease, Problem> {
        let files = self.assets.iter().map(|file| {
            let digest = |name: &str| file.digests.get(name).cloned().unwrap_or_default();
            Ok(ReleaseAsset {
                file: file.file.as_str().into(),
                blob: blob(file.sha256())?,
                size: file.size,
                md5: digest("md5").into(),
                sha1: digest("sha1").into(),
                sha512: digest("sha512").into(),
                media_type: file.media_type.as_str().into(),
                published: file.published,
                facts: file.facts.as_str().into(),
                staged: false,
            })
        });
        Ok(NewRelease {
            package: self.package_id()?,
            version: self.version.clone(),
            origin: self.origin,
            status: self.status,
            published: self.published,
            manifest: self.manifest.clone(),
            readme: self.readme.clone(),
            description: self.description.clone(),
            keywords: String::new(),
            dependencies: self.dependencies.clone(),
            assets: files.collect::<Result<_, Problem>>()?,
            tags: self.tags.clone(),
            is_whole: false,
        })
    }

    /// # Errors
    /// Where it names no package.
    fn package_id(&self) -> Result<PackageId, Problem> {
        format::package(&self.package)
    }
}

impl ReleaseFile {
    fn sha256(&self) -> &str {
        self.digests.get("sha256").map_or("", String::as_str)
    }
}

/// Reads a format's name as a manifest writes it.
///
/// # Errors
/// Where the text is no name of a blob.
pub fn format_of(word: &str) -> Result<Format, Problem> {
    word.parse()
        .map_err(|error: crate::package::UnknownFormat| Problem::invalid(error.to_string()))
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap_or_default()
}
