//! Requests to a format: the package or document that a path names, and the change that a client
//! wants.

use http::Method;

use crate::package::{Algorithm, AssetId, Format, Location, PackageId, Status, VersionId};
use crate::{maven, npm, nuget, pypi};

/// The part of a request that a format reads.
#[derive(Debug)]
pub struct ClientRequest<'a> {
    pub method: &'a Method,
    /// The path below `/{format}/{repository}/`, still percent-encoded, without the query.
    pub rest: &'a str,
    pub query: Option<&'a str>,
    /// The `Accept` header; empty where there is none.
    pub accept: &'a str,
}

/// The thing that a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Document(DocumentId),
    Asset(AssetId),
    /// An asset by upstream's own path, which does not show the package; the stored table of
    /// aliases knows it.
    Alias(String),
    /// The digest of an asset, as a file of its own.
    Checksum(AssetId, Algorithm),
    /// The digest of a document as we render it.
    DocumentChecksum(DocumentId, Algorithm),
    /// Known without asking anybody.
    Answer {
        content_type: &'static str,
        body: String,
    },
    /// A question whose body goes to upstream, and whose answer is not kept.
    Question {
        location: Location,
        content_type: &'static str,
    },
    /// To the same thing under its right name, relative to the repository's root.
    Redirect(String),
    /// A change to what the repository has of its own.
    Change(Change),
}

/// A change that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// npm's document: new versions with their tarball in it, or other words about old ones.
    Document(PackageId),
    /// npm's document in its next revision: versions that are no longer in it go.
    Revision {
        package: PackageId,
        /// The one that the client read.
        revision: String,
    },
    RemovePackage {
        package: PackageId,
        revision: String,
    },
    /// npm's second request of an unpublish. [`Change::Revision`] has taken the version out
    /// already.
    RemoveAsset(AssetId),
    Tag {
        package: PackageId,
        tag: String,
    },
    Untag {
        package: PackageId,
        tag: String,
    },
    /// A form with a file in it, or the file itself.
    Form,
    /// A file at its own path.
    File(AssetId),
    /// The digest that a client says a file has.
    Checksum(AssetId, Algorithm),
    /// The document that ends a version's publishing; we compose our own.
    Finish(DocumentId),
    /// The checksum of such a document, which is nothing to us.
    FinishChecksum(DocumentId, Algorithm),
    Status {
        package: PackageId,
        version: VersionId,
        status: Status,
    },
}

impl Change {
    /// The package that it is about, where the path shows it.
    #[must_use]
    pub fn package(&self) -> Option<&PackageId> {
        match self {
            Self::Document(package)
            | Self::Revision { package, .. }
            | Self::RemovePackage { package, .. }
            | Self::Tag { package, .. }
            | Self::Untag { package, .. }
            | Self::Status { package, .. } => Some(package),
            Self::RemoveAsset(asset) | Self::File(asset) | Self::Checksum(asset, _) => {
                Some(&asset.package)
            }
            Self::Finish(id) | Self::FinishChecksum(id, _) => id.package.as_ref(),
            Self::Form => None,
        }
    }

    /// The version that it is about, where the path shows it.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        let protocol = self.package()?.format().protocol();
        match self {
            Self::RemoveAsset(asset) | Self::File(asset) | Self::Checksum(asset, _) => {
                protocol.version_of(asset)
            }
            Self::Finish(id) | Self::FinishChecksum(id, _) => {
                protocol.version_of_document(id).map(str::to_owned)
            }
            Self::Status { version, .. } => Some(version.to_string()),
            _ => None,
        }
    }
}

/// A document of one repository, in one of its forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DocumentId {
    pub package: Option<PackageId>,
    pub view: View,
}

/// Which of its format's documents a [`DocumentId`] is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    Npm(npm::NpmView),
    Pypi(pypi::PypiView),
    Maven(maven::MavenView),
    Nuget(nuget::NugetView),
}

impl View {
    /// The format that it is of.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Npm(_) => Format::Npm,
            Self::Pypi(_) => Format::Pypi,
            Self::Maven(_) => Format::Maven,
            Self::Nuget(_) => Format::Nuget,
        }
    }
}
