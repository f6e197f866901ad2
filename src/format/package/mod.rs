//! The words of the house: formats, packages, assets, digests. Pure values, no IO.

mod asset;
mod digest;
mod facts;
mod format;
mod id;
mod release;
mod upstream;
mod version;

pub use asset::{AssetFacts, AssetId, Expectation, Location, Promise};
pub use digest::{Algorithm, BlobId, Digest, DigestError, Digester, Digests, Expected};
pub use facts::{Facts, PackedAsset, PackedFacts};
pub use format::{Format, UnknownFormat};
pub use id::PackageId;
pub use release::{
    Dependency, Listing, Origin, Release, ReleaseAsset, Status, Summary, UnknownStatus,
};
pub use upstream::{UpstreamPath, UpstreamUrl, encode_segment, is_risky_segment};
pub use version::VersionId;
