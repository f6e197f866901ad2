use std::fmt;

use jiff::Timestamp;
use url::Url;

use super::{Algorithm, Expected, PackageId, UpstreamPath};

/// One file of a package, by its path below the package in Larder's own addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssetId {
    pub package: PackageId,
    pub file: Box<str>,
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.package, self.file)
    }
}

/// Where a resource lies at its connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Below the connection's URL.
    Path(UpstreamPath),
    /// Below the folder that the connection's URL lies in (PyPI's uploads and JSON API).
    Beside(UpstreamPath),
    /// Wherever upstream's own document said.
    Url(Url),
    /// Where a client's path leads back to: at the connection's own scheme, host and port, or
    /// nowhere.
    Own(Url),
    /// Below the base address that the connection's directory document (NuGet's service index)
    /// gives for the first of these types that it knows.
    Service {
        types: &'static [&'static str],
        path: UpstreamPath,
    },
}

/// Another resource that holds an asset's digest: a checksum file, a catalog entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub location: Location,
    /// The algorithm of a bare checksum file; `None` where the resource names its algorithm.
    pub algorithm: Option<Algorithm>,
}

/// How an asset's bytes can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// The evidence names the digests.
    Known(Expected),
    /// Other resources hold them, strongest first; the ones that upstream has count.
    Promised(Vec<Promise>),
    /// Promised in these resources; where upstream has none of them, the file is refused.
    Required(Vec<Promise>),
    /// Nothing is promised: the first bytes seen are pinned.
    FirstSeen,
}

/// The facts about one asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetFacts {
    pub file: Box<str>,
    /// The package version it belongs to, in the format's own spelling.
    pub version: Box<str>,
    pub location: Location,
    pub expectation: Expectation,
    /// When the registry says that it was published; never a date of Larder's own.
    pub published: Option<Timestamp>,
    /// Bytes may change under the same name (Maven's plain `-SNAPSHOT` files): revalidated.
    pub mutable: bool,
    /// Which interpreters run it, in the format's own scheme (PyPI's `requires-python`, PEP 503);
    /// empty: any.
    pub runs_on: Box<str>,
    /// Nobody is to choose it who does not name its version: yanked (PEP 592), unlisted (NuGet).
    pub is_withdrawn: bool,
}
