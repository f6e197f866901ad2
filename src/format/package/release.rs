use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Algorithm, BlobId, Digest, Digests, PackageId, VersionId};

/// On which side a package or version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Published here.
    Internal,
    /// Taken from a registry outside.
    External,
}

impl Origin {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }

    /// Reads an origin. Every word but `external` means internal, the side that is guarded more.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        if word == "external" {
            Self::External
        } else {
            Self::Internal
        }
    }
}

/// The status of a package version: what may be done with it (CodeArtifact's words and meanings).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Listed, and its assets served.
    Published,
    /// Not all of it is here yet: neither listed nor served.
    Unfinished,
    /// Served to who asks for it by name; not offered to others.
    Unlisted,
    /// Kept, and neither listed nor served.
    Archived,
    /// Its assets are gone for good; its number is never given again.
    Disposed,
}

impl Status {
    pub const ALL: [Self; 5] = [
        Self::Published,
        Self::Unfinished,
        Self::Unlisted,
        Self::Archived,
        Self::Disposed,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "Published",
            Self::Unfinished => "Unfinished",
            Self::Unlisted => "Unlisted",
            Self::Archived => "Archived",
            Self::Disposed => "Disposed",
        }
    }

    /// Whether assets of such a version are handed out.
    #[must_use]
    pub fn is_served(self) -> bool {
        matches!(self, Self::Published | Self::Unlisted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no status; they are Published, Unfinished, Unlisted, Archived and Disposed")]
pub struct UnknownStatus(String);

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

/// A dependency of a package on another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The format's own word: `dependencies`, `compile`, a target framework, an extra.
    pub kind: String,
    /// The other package as the format's users write it.
    pub name: String,
    /// The versions of it that will do, in the format's own scheme; empty: any.
    pub requirement: String,
}

/// One file of a package version of our own.
#[derive(Clone, Debug)]
pub struct ReleaseAsset {
    /// Its path below the package in Larder's own addresses.
    pub file: Box<str>,
    pub blob: BlobId,
    /// Bytes.
    pub size: u64,
    /// Hexadecimal.
    pub md5: Box<str>,
    pub sha1: Box<str>,
    pub sha512: Box<str>,
    pub media_type: Box<str>,
    pub published: Timestamp,
    /// The file's part of the format's documents, as JSON; empty where it has none.
    pub facts: Box<str>,
    /// Came in, and waits for the rest of its version.
    pub staged: bool,
}

impl ReleaseAsset {
    /// Makes the asset from bytes whose digests of every algorithm are known.
    #[must_use]
    pub fn new(file: &str, digests: &Digests, size: u64, media_type: &str, now: Timestamp) -> Self {
        let hex = |algorithm| {
            digests
                .get(algorithm)
                .map_or_else(String::new, |digest| digest.to_hex())
                .into()
        };
        Self {
            file: file.into(),
            blob: digests.blob,
            size,
            md5: hex(Algorithm::Md5),
            sha1: hex(Algorithm::Sha1),
            sha512: hex(Algorithm::Sha512),
            media_type: media_type.into(),
            published: now,
            facts: "".into(),
            staged: false,
        }
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn digest(&self, algorithm: Algorithm) -> String {
        match algorithm {
            Algorithm::Md5 => self.md5.to_string(),
            Algorithm::Sha1 => self.sha1.to_string(),
            Algorithm::Sha256 => self.blob.to_hex(),
            Algorithm::Sha512 => self.sha512.to_string(),
        }
    }

    /// The digest in padded base64; empty where it is not known.
    #[must_use]
    pub fn digest_base64(&self, algorithm: Algorithm) -> String {
        Digest::from_hex(algorithm, &self.digest(algorithm))
            .map_or_else(|_| String::new(), |digest| digest.to_base64())
    }
}

/// A package version of our own.
#[derive(Clone, Debug)]
pub struct Release {
    /// In the format's own spelling, normalised where the format does that.
    pub version: Box<str>,
    /// Another after each change to it.
    pub revision: Box<str>,
    pub status: Status,
    pub origin: Origin,
    pub published: Timestamp,
    /// The version's part of the format's documents, as JSON.
    pub manifest: Box<str>,
    pub assets: Vec<ReleaseAsset>,
}

impl Release {
    /// The assets that have come in whole with all that belongs to them.
    pub fn served(&self) -> impl Iterator<Item = &ReleaseAsset> {
        self.assets.iter().filter(|asset| !asset.staged)
    }
}

/// All that a repository itself has of a package.
#[derive(Clone, Debug)]
pub struct Listing {
    pub package: PackageId,
    /// The origin of its first version.
    pub origin: Origin,
    /// Another after each change.
    pub revision: String,
    pub changed: Timestamp,
    /// In the order in which they were published.
    pub versions: Vec<Release>,
    pub tags: BTreeMap<String, String>,
}

impl Listing {
    /// The version, however its publisher spelled it.
    #[must_use]
    pub fn find(&self, version: &VersionId) -> Option<&Release> {
        let protocol = self.package.format().protocol();
        self.versions
            .iter()
            .find(|release| protocol.known_version(&release.version) == *version)
    }

    /// The version in the spelling in which it is kept.
    #[must_use]
    pub fn release(&self, version: &str) -> Option<&Release> {
        self.versions
            .iter()
            .find(|release| &*release.version == version)
    }

    /// The file with the version that it belongs to.
    #[must_use]
    pub fn asset(&self, file: &str) -> Option<(&Release, &ReleaseAsset)> {
        self.versions.iter().find_map(|release| {
            let asset = release.assets.iter().find(|asset| &*asset.file == file)?;
            Some((release, asset))
        })
    }

    /// A rough number of bytes held, for bounding a cache.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let bytes: usize = self
            .versions
            .iter()
            .map(|release| release.manifest.len() + release.assets.len() * 700 + 200)
            .sum();
        u32::try_from(bytes + 500).unwrap_or(u32::MAX)
    }
}

/// One line of a repository's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// `npm:@scope/name`.
    pub package: String,
    pub origin: Origin,
    pub description: String,
    /// The newest version that is listed; empty where there is none.
    pub latest: String,
    /// How many versions there are.
    pub versions: u64,
}
