//! The traits of a format: the core that all formats have, and the capabilities that some have. To
//! add a format, implement [`Protocol`]; the compiler names what is missing.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::capability::{
    AuditQuestion, Directory, DocumentPublish, Evidence, Prefetch, Requirements, StreamedIndex,
    Uploads,
};
use crate::package::{
    AssetId, Expected, Format, Listing, PackageId, Promise, VersionId, is_risky_segment,
};
use crate::problem::Problem;
use crate::{
    Address, ArrivingDocument, ClientRequest, DocumentId, ErrorBody, FormatError, Own, Recognised,
    RenderInput, Rendering, Resource, Search, Target, generic, maven, npm, nuget, pypi,
};

/// Longer texts than this are no versions.
const VERSION_BYTES_MAX: usize = 1024;

/// A format's wire language: names, paths and errors, and with its supertraits versions, documents,
/// assets and uploads. The methods that return an `Option` give a capability; `None` where the format
/// lacks it.
pub trait Protocol: Versions + Documents + Composition + Assets + Uploads + Send + Sync {
    fn format(&self) -> Format;

    /// Reads a package's name as people write it in patterns and on the command line.
    ///
    /// # Errors
    /// Where the text is no name of the format.
    fn package(&self, text: &str) -> Result<PackageId, Problem>;

    /// Reads the path of a request.
    ///
    /// # Errors
    /// Where the path is none of the format's.
    fn parse(&self, ask: &ClientRequest<'_>) -> Result<Target, Problem>;

    /// An error in the format's own shape.
    fn error(&self, problem: &Problem) -> ErrorBody;

    /// How registries of the format take a token (CodeArtifact's authorization tokens).
    fn token_scheme(&self) -> TokenScheme;

    /// Where registries say what a package has.
    fn evidence(&self) -> Evidence<'_>;

    /// For formats whose registries keep their resources where a document of theirs says.
    fn directory(&self) -> Option<&dyn Directory>;

    /// For the document alone that is too large to be held whole.
    fn streamed_index(&self, document: &DocumentId) -> Option<&dyn StreamedIndex>;

    /// For formats whose clients ask about many packages at once.
    fn audit_question(&self) -> Option<&dyn AuditQuestion>;

    /// For formats of which it is known what a resolver asks for next.
    fn prefetch(&self) -> Option<&dyn Prefetch>;

    /// For formats whose publish is the package's document.
    fn document_publish(&self) -> Option<&dyn DocumentPublish>;

    /// For formats whose files need packages that no list of them names.
    fn requirements(&self) -> Option<&dyn Requirements>;

    /// Reads a version as people write it.
    ///
    /// # Errors
    /// Where no version is written so in any format.
    fn version(&self, text: &str) -> Result<VersionId, Problem> {
        let text = text.trim();
        let is_one = !text.is_empty()
            && text.len() <= VERSION_BYTES_MAX
            && !text.contains(char::is_whitespace)
            // It stands in paths, trimmed.
            && !is_risky_segment(text);
        if is_one {
            Ok(self.known_version(text))
        } else {
            Err(Problem::invalid(format!(
                "`{}` is no version of {}",
                text.escape_debug(),
                self.format()
            )))
        }
    }

    /// The version that a document or a catalog names, whatever it is called there.
    fn known_version(&self, text: &str) -> VersionId {
        VersionId::new(self.format(), &self.normal_version(text))
    }
}

/// How a token is sent (RFC 6750, RFC 7617).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScheme {
    Bearer,
    /// The token is sent as the password of a user, `Basic`.
    Password,
}

/// Versions in the format's own scheme, with one order.
pub trait Versions {
    /// One spelling for all that mean the same version; what is no version stays as it is.
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str>;

    /// The order of versions: total, equal where two spell the same version, and with a place for
    /// what cannot be read. A prerelease stands before its release.
    fn compare(&self, a: &str, b: &str) -> Ordering;

    /// Whether clients take it only where they are told to: a prerelease, or no version at all.
    fn is_prerelease(&self, version: &str) -> bool;

    /// The order in which clients choose where nobody tells them: any release is after all
    /// prereleases.
    fn compare_choice(&self, a: &str, b: &str) -> Ordering {
        let is_release = |version| !self.is_prerelease(version);
        is_release(a)
            .cmp(&is_release(b))
            .then_with(|| self.compare(a, b))
    }

    /// Whether `version` is one that `range` takes; `None` where the range cannot be read.
    fn version_in(&self, version: &str, range: &str) -> Option<bool>;

    /// Whether the whole of `range` is one, and may take a version.
    ///
    /// # Errors
    /// Why not.
    fn check_range(&self, range: &str) -> Result<(), String>;
}

/// Documents of registries: where they are, what they are about, and how they are served.
pub trait Documents {
    /// The upstream resource that the document is rendered from. With `dates`, the one that has
    /// publish dates.
    fn resource(&self, document: &DocumentId, dates: bool) -> Resource;

    /// The resources that the document may be rendered from, the best first, for where not all
    /// of them are to be had.
    fn resources(&self, document: &DocumentId) -> Vec<Resource>;

    /// The package whose document a resource of this key is; none where it is no package's.
    fn package_of(&self, key: &str) -> Option<PackageId>;

    /// The one version that the document is about, where its name shows it. It is given where that
    /// version's files are.
    fn version_of_document<'a>(&self, document: &'a DocumentId) -> Option<&'a str>;

    /// Checks that what a registry sent is a document of the kind and the package that its key names,
    /// before it takes the place of one that is stored. A list with fewer versions than before, or
    /// with none, is one all the same: that is how a registry takes versions down.
    ///
    /// # Errors
    /// Where it is not: a login page, an error told with status 200, another package's document.
    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError>;

    /// Whether the resource of this key is a question rather than a document of a package: a search,
    /// a version's attestations. Clients ask it beside their work, so it is answered soon or not at
    /// all.
    fn is_question(&self, key: &str) -> bool;

    /// Whether the document is a promise about all packages of its source (that all are signed, for
    /// instance), which holds for a repository only if it holds for each of its sources.
    fn is_promise(&self, document: &DocumentId) -> bool;

    /// # Errors
    /// Where the document is not what the format says, or lacks what was asked for.
    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError>;

    /// The header that clients print, for a notice about versions that rules hide; `None` where they
    /// print none.
    fn notice_header(&self) -> Option<&'static str> {
        None
    }

    /// The rendered document with a notice about versions that rules hide in it, where its form has
    /// room for remarks that clients pass over.
    fn annotated(&self, _document: &DocumentId, body: Vec<u8>, _notice: &str) -> Vec<u8> {
        body
    }

    /// The part of the address that the rendered bytes depend on; empty where they depend on none.
    fn address_key<'a>(&self, document: &DocumentId, address: &'a Address) -> &'a str;

    /// The target of a rendering's stored alias; `None` where the format has no aliases.
    fn alias(&self, target: &str) -> Option<Target>;

    /// Whether clients take the document compressed although they did not ask for it.
    fn always_gzip(&self, document: &DocumentId) -> bool;
}

/// Documents that no registry sent: those of our own packages, and those of several sources.
pub trait Composition {
    /// A document of our own packages, as a registry would have sent it from [`crate::OWN`], with
    /// its media type; `None` where they say nothing to it.
    ///
    /// # Errors
    /// Where what was stored of a package cannot be read.
    fn compose(
        &self,
        document: &DocumentId,
        own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError>;

    /// The one version that the document is about, where no other's manifest is needed to compose
    /// it.
    fn only_version<'a>(&self, document: &'a DocumentId, listing: &'a Listing) -> Option<&'a str>;

    /// The search that a document without a single package makes in our own packages.
    fn search(&self, document: &DocumentId) -> Option<Search>;

    /// Whether what several sources have is one document; else the nearest's is.
    fn merges(&self, document: &DocumentId) -> bool;

    /// One rendered document of several, the nearest first. No two of them show one version.
    ///
    /// # Errors
    /// Where one of them is not what the format says.
    fn merge(&self, document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError>;
}

/// Files of packages, by their names.
pub trait Assets {
    /// The version that an asset is of, as far as its name shows it.
    fn version_of(&self, asset: &AssetId) -> Option<String>;

    /// Whether the file is what a version is for, and not what is read before it is chosen.
    fn is_package_file(&self, file: &str) -> bool;

    /// The digests that stand in a [`Promise`]'s resource.
    fn promised(&self, promise: &Promise, bytes: &[u8]) -> Expected;
}

impl Format {
    /// The format's protocol.
    #[must_use]
    pub fn protocol(self) -> &'static dyn Protocol {
        match self {
            Self::Npm => &npm::Npm,
            Self::Pypi => &pypi::Pypi,
            Self::Maven => &maven::Maven,
            Self::Nuget => &nuget::Nuget,
            Self::Generic => &generic::Generic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_no_longer_than_may_be() {
        for format in Format::SERVED {
            let read = |bytes: usize| {
                let begin = "1.0.0-";
                let text = format!("{begin}{}", "a".repeat(bytes - begin.len()));
                format.protocol().version(&text)
            };
            assert!(read(VERSION_BYTES_MAX).is_ok(), "{format}");
            assert!(read(VERSION_BYTES_MAX + 1).is_err(), "{format}");
        }
    }
}
