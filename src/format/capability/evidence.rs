use crate::package::{AssetFacts, AssetId, Location, PackageId, PackedFacts};
use crate::{DocumentId, FormatError, Resource, Upstream};

/// Where registries of a format say what a package has.
#[derive(Clone, Copy)]
pub enum Evidence<'a> {
    /// In the package's documents, which enumerate versions and files.
    Documents(&'a dyn DocumentEvidence),
    /// In each file's own path; nothing enumerates files.
    Path(&'a dyn PathEvidence),
    /// Nowhere: the format has no registry outside.
    Nowhere,
}

impl<'a> Evidence<'a> {
    /// The evidence in documents; `None` for a format whose evidence is in paths.
    #[must_use]
    pub fn documents(self) -> Option<&'a dyn DocumentEvidence> {
        match self {
            Self::Documents(evidence) => Some(evidence),
            Self::Path(_) | Self::Nowhere => None,
        }
    }

    /// The evidence in paths; `None` for a format whose evidence is in documents.
    #[must_use]
    pub fn path(self) -> Option<&'a dyn PathEvidence> {
        match self {
            Self::Path(evidence) => Some(evidence),
            Self::Documents(_) | Self::Nowhere => None,
        }
    }
}

/// Facts out of documents.
pub trait DocumentEvidence: Sync {
    /// The documents that have the package's facts, any one of them, the cheapest first. With
    /// `dates`, those that have publish dates.
    fn documents_of(&self, package: &PackageId, dates: bool) -> Vec<Resource>;

    /// Reads the document's facts, behind those of documents that were read before it.
    ///
    /// # Errors
    /// Where the document is not what the format says.
    fn facts(
        &self,
        package: &PackageId,
        upstream: &Upstream<'_>,
        assets: PackedFacts,
    ) -> Result<FactsPart, FormatError>;

    /// Where a registry of the usual form keeps an asset that no document names.
    fn usual_place(&self, asset: &AssetId) -> Option<Location>;

    /// For formats in which facts of one asset are to be had for less than those of all.
    fn predicted(&self) -> Option<&dyn PredictedFacts>;
}

/// Facts as far as documents were read, and the documents that hold the rest.
#[derive(Debug, Default)]
pub struct FactsPart {
    pub assets: PackedFacts,
    pub more: Vec<Resource>,
}

/// Facts of one asset, publish date apart, without reading those of all.
pub trait PredictedFacts: Sync {
    /// Predicts the facts about an asset of a registry of the usual form, from a resource that is much
    /// smaller than the package's document. The resource must be required, since not every registry
    /// has it. `None` where the asset's name shows no version.
    fn predict(&self, asset: &AssetId) -> Option<AssetFacts>;

    /// Reads the facts about one asset from the package's document, skipping all other versions. An
    /// asset that is not found this way may still be there.
    fn find(&self, asset: &AssetId, upstream: &Upstream<'_>) -> Option<AssetFacts>;
}

/// Facts out of paths, and what has to be asked for besides.
pub trait PathEvidence: Sync {
    /// Reads the facts in an asset's path; `None` where it is not a path of the format.
    fn path_facts(&self, asset: &AssetId) -> Option<AssetFacts>;

    /// The file whose `Last-Modified` is the version's publish date.
    fn dated_by(&self, package: &PackageId, version: &str) -> Location;

    /// Whether the version's files may change under their names, and its date with them.
    fn is_mutable(&self, version: &str) -> bool;

    /// The documents of a package that list versions.
    fn listings(&self, package: &PackageId) -> Vec<DocumentId>;

    /// The versions that a document names.
    ///
    /// # Errors
    /// Where the document is not what the format says.
    fn versions(
        &self,
        document: &DocumentId,
        upstream: &Upstream<'_>,
    ) -> Result<Vec<String>, FormatError>;
}
