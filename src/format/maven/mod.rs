//! Maven's repository layout: poms, jars and their kin by path, `maven-metadata.xml` at three
//! levels, a checksum file beside everything.
//! Source: Maven's repository layout and metadata reference.

mod compose;
mod hints;
mod merge;
mod metadata;
mod name;
mod path;
pub mod pom;
mod recognise;
mod upload;
pub mod version;

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderName;

use crate::package::{
    Algorithm, AssetFacts, AssetId, Digest, Expectation, Expected, Format, Listing, Location,
    PackageId, Promise, UpstreamPath,
};
use crate::problem::Problem;

use super::upload::{Inspected, Upload};
use super::{
    Address, ArrivingDocument, Assets, AuditQuestion, ClientRequest, Composition, Directory,
    DocumentId, DocumentPublish, Documents, ErrorBody, Evidence, FormatError, Own, PathEvidence,
    Prefetch, PrefetchHint, PrefetchInput, Protocol, Recognised, RenderInput, Rendering,
    Requirements, Resource, Search, StreamedIndex, Target, TokenScheme, Uploads, Upstream,
    Versions, at_its_path, plain_error,
};

/// Maven's documents, by their path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MavenView {
    /// `maven-metadata.xml` of a group or an artifact, in this folder.
    Metadata { folder: String },
    /// `maven-metadata.xml` of one version, which snapshots have.
    VersionMetadata { folder: String, version: String },
    /// A document beside packages: `archetype-catalog.xml`, `.meta/prefixes.txt`.
    Other { path: String },
}

/// Maven on the wire.
pub struct Maven;

impl Protocol for Maven {
    fn format(&self) -> Format {
        Format::Maven
    }

    fn package(&self, text: &str) -> Result<PackageId, Problem> {
        name::parse(text)
    }

    fn parse(&self, ask: &ClientRequest<'_>) -> Result<Target, Problem> {
        path::parse(ask)
    }

    fn error(&self, problem: &Problem) -> ErrorBody {
        plain_error(problem)
    }

    fn token_scheme(&self) -> TokenScheme {
        TokenScheme::Password
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence::Path(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn streamed_index(&self, _document: &DocumentId) -> Option<&dyn StreamedIndex> {
        None
    }

    fn audit_question(&self) -> Option<&dyn AuditQuestion> {
        None
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        Some(self)
    }

    fn document_publish(&self) -> Option<&dyn DocumentPublish> {
        None
    }

    fn requirements(&self) -> Option<&dyn Requirements> {
        None
    }
}

impl Versions for Maven {
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(version)
    }

    fn compare(&self, a: &str, b: &str) -> Ordering {
        version::compare(a, b)
    }

    fn is_prerelease(&self, version: &str) -> bool {
        version::is_prerelease(version)
    }

    fn version_in(&self, version: &str, range: &str) -> Option<bool> {
        version::in_range(version, range)
    }

    fn check_range(&self, range: &str) -> Result<(), String> {
        version::MavenRange::parse(range).map(|_| ())
    }
}

impl Documents for Maven {
    fn resource(&self, document: &DocumentId, _dates: bool) -> Resource {
        let path = match &document.view {
            super::View::Maven(
                MavenView::Metadata { folder } | MavenView::VersionMetadata { folder, .. },
            ) => {
                format!("{folder}/maven-metadata.xml")
            }
            super::View::Maven(MavenView::Other { path }) => path.clone(),
            _ => String::new(),
        };
        Resource {
            key: path.clone(),
            location: Location::Path(UpstreamPath::new(&path)),
            accept: "*/*",
        }
    }

    fn resources(&self, document: &DocumentId) -> Vec<Resource> {
        vec![self.resource(document, false)]
    }

    fn package_of(&self, key: &str) -> Option<PackageId> {
        let asked = path::parse(&ClientRequest {
            method: &http::Method::GET,
            rest: key.strip_prefix("asset:").unwrap_or(key),
            query: None,
            accept: "",
        });
        match asked.ok()? {
            Target::Document(id) => id.package,
            _ => None,
        }
    }

    fn version_of_document<'a>(&self, document: &'a DocumentId) -> Option<&'a str> {
        match &document.view {
            super::View::Maven(MavenView::VersionMetadata { version, .. }) => Some(version),
            _ => None,
        }
    }

    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
        recognise::recognise(arriving)
    }

    fn is_question(&self, _key: &str) -> bool {
        false
    }

    fn is_promise(&self, _document: &DocumentId) -> bool {
        false
    }

    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
        metadata::render(input)
    }

    fn address_key<'a>(&self, _document: &DocumentId, _address: &'a Address) -> &'a str {
        ""
    }

    fn alias(&self, _target: &str) -> Option<Target> {
        None
    }

    fn always_gzip(&self, _document: &DocumentId) -> bool {
        false
    }
}

impl Composition for Maven {
    fn compose(
        &self,
        document: &DocumentId,
        own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
        Ok(compose::compose(document, own))
    }

    fn only_version<'a>(
        &self,
        _document: &'a DocumentId,
        _listing: &'a Listing,
    ) -> Option<&'a str> {
        None
    }

    fn search(&self, _document: &DocumentId) -> Option<Search> {
        None
    }

    fn merges(&self, document: &DocumentId) -> bool {
        merge::merges(document)
    }

    fn merge(&self, _document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
        merge::merge(parts)
    }
}

impl Assets for Maven {
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        let (version, _) = asset.file.split_once('/')?;
        Some(version.to_owned())
    }

    fn is_package_file(&self, file: &str) -> bool {
        !file.ends_with(".pom")
    }

    fn promised(&self, promise: &Promise, bytes: &[u8]) -> Expected {
        // Some tools write `digest  file` or `digest = file`; the digest is the first word that
        // has its length.
        let text = String::from_utf8_lossy(bytes);
        promise
            .algorithm
            .and_then(|algorithm| {
                text.split(|c: char| c.is_whitespace() || c == '=')
                    .find_map(|word| Digest::from_hex(algorithm, word).ok())
            })
            .into_iter()
            .collect()
    }
}

impl Uploads for Maven {
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
        upload::inspect(upload)
    }

    fn published_at(&self, rest: &str) -> (Location, UpstreamPath) {
        at_its_path(rest)
    }

    fn outdated_by_publish(&self, _package: &PackageId) -> Option<Vec<Resource>> {
        None
    }

    fn is_published(&self, _file: &str) -> bool {
        true
    }

    fn credential_headers(&self) -> &'static [HeaderName] {
        &[]
    }
}

impl PathEvidence for Maven {
    fn path_facts(&self, asset: &AssetId) -> Option<AssetFacts> {
        let (version, file) = asset.file.split_once('/')?;
        let path = UpstreamPath::new(&path::folder(&asset.package)).join(&asset.file);
        let promises = Algorithm::ALL
            .into_iter()
            .rev()
            .map(|algorithm| Promise {
                location: Location::Path(path.clone().with_ending(algorithm.as_str())),
                algorithm: Some(algorithm),
            })
            .collect();
        Some(AssetFacts {
            file: asset.file.clone(),
            version: version.into(),
            location: Location::Path(path),
            expectation: Expectation::Promised(promises),
            published: None,
            // A snapshot's files are immutable under their timestamp, not under another name.
            mutable: path::is_snapshot(version) && !path::has_timestamp(file),
            runs_on: Box::default(),
            is_withdrawn: false,
        })
    }

    fn dated_by(&self, package: &PackageId, version: &str) -> Location {
        let folder = format!("{}/{version}", path::folder(package));
        let file = if path::is_snapshot(version) {
            "maven-metadata.xml".to_owned()
        } else {
            format!("{}-{version}.pom", package.name())
        };
        Location::Path(UpstreamPath::new(&folder).join(&file))
    }

    fn is_mutable(&self, version: &str) -> bool {
        path::is_snapshot(version)
    }

    fn listings(&self, package: &PackageId) -> Vec<DocumentId> {
        let folder = path::folder(package);
        vec![DocumentId {
            package: Some(package.clone()),
            view: super::View::Maven(MavenView::Metadata { folder }),
        }]
    }

    fn versions(
        &self,
        document: &DocumentId,
        upstream: &Upstream<'_>,
    ) -> Result<Vec<String>, FormatError> {
        match &document.view {
            super::View::Maven(MavenView::Metadata { .. }) => {
                metadata::versions(document.package.as_ref(), upstream.bytes)
            }
            super::View::Maven(MavenView::VersionMetadata { version, .. }) => {
                Ok(vec![version.clone()])
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Prefetch for Maven {
    fn read_beforehand(&self, package: &PackageId, _whole: bool) -> Vec<Resource> {
        let listings = self.listings(package);
        let resources = listings.iter().map(|id| self.resource(id, false));
        resources.collect()
    }

    fn gives_hints(&self, target: &Target) -> bool {
        hints::gives_hints(target)
    }

    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
        hints::prefetch_hints(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_files_are_read_however_the_tool_wrote_them() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        for text in [
            sha1.to_owned(),
            format!("{sha1}\n"),
            format!("{sha1}  left-pad.jar\n"),
            format!("SHA1(left-pad.jar)= {}", sha1.to_uppercase()),
        ] {
            let promise = Promise {
                location: Location::Path(UpstreamPath::base()),
                algorithm: Some(Algorithm::Sha1),
            };
            let expected = Maven.promised(&promise, text.as_bytes());
            assert_eq!(expected.strongest().unwrap().to_hex(), sha1, "{text}");
        }
    }
}
