//! Generic packages: files under a name and a version, of whatever kind. They have no client and no
//! registry outside; the CodeArtifact API writes and reads them (user guide, "Using CodeArtifact
//! with generic packages").

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderName;

use super::maven::Maven;
use super::upload::{Inspected, SHA256, Upload};
use super::{
    Address, ArrivingDocument, Assets, AuditQuestion, ClientRequest, Composition, Directory,
    DocumentId, DocumentPublish, Documents, ErrorBody, Evidence, FormatError, Own, Prefetch,
    Protocol, Recognised, RenderInput, Rendering, Requirements, Resource, Search, StreamedIndex,
    Target, TokenScheme, Uploads, Versions, at_its_path, plain_error,
};
use crate::package::{
    Algorithm, AssetId, Expected, Format, Listing, Location, PackageId, Promise, UpstreamPath,
};
use crate::problem::{Decider, Problem};

const NAME_CHARS_MAX: usize = 255;

/// Generic packages, which nobody asks for on the wire.
pub struct Generic;

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.chars().count())
        && !matches!(text, "." | "..")
        && !text.contains(|it: char| {
            matches!(it, '#' | '/' | '\\') || it.is_whitespace() || it.is_control()
        })
}

/// A file of a version.
///
/// # Errors
/// Where the version or the file's name cannot be one.
pub fn asset(package: PackageId, version: &str, name: &str) -> Result<AssetId, Problem> {
    if !is_name(version) {
        return Err(Problem::invalid(format!("`{version}` is no version")));
    }
    // Spaces are fine here.
    if !is_name(&name.replace([' ', '#'], "_")) {
        return Err(Problem::invalid(format!("`{name}` is no name of a file")));
    }
    let file = format!("{version}/{name}").into();
    Ok(AssetId { package, file })
}

fn no_document() -> FormatError {
    FormatError::Absent("generic packages have no documents".to_owned())
}

impl Protocol for Generic {
    fn format(&self) -> Format {
        Format::Generic
    }

    fn package(&self, text: &str) -> Result<PackageId, Problem> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if is_name(name) && namespace.is_none_or(is_name) {
            return Ok(PackageId::new(Format::Generic, namespace, name));
        }
        Err(Problem::invalid(format!(
            "`{text}` is no generic package: it is NAMESPACE/NAME, or NAME"
        )))
    }

    fn parse(&self, _ask: &ClientRequest<'_>) -> Result<Target, Problem> {
        Err(Problem::not_found(
            Decider::Larder,
            "generic packages have no addresses of their own",
        )
        .advice("`aws codeartifact get-package-version-asset` reads their files"))
    }

    fn error(&self, problem: &Problem) -> ErrorBody {
        plain_error(problem)
    }

    fn token_scheme(&self) -> TokenScheme {
        TokenScheme::Password
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence::Nowhere
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
        None
    }

    fn document_publish(&self) -> Option<&dyn DocumentPublish> {
        None
    }

    fn requirements(&self) -> Option<&dyn Requirements> {
        None
    }
}

impl Versions for Generic {
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(version)
    }

    /// Maven's order takes any text for a version.
    fn compare(&self, a: &str, b: &str) -> Ordering {
        Maven.compare(a, b)
    }

    fn is_prerelease(&self, version: &str) -> bool {
        Maven.is_prerelease(version)
    }

    fn version_in(&self, version: &str, range: &str) -> Option<bool> {
        Maven.version_in(version, range)
    }

    fn check_range(&self, range: &str) -> Result<(), String> {
        Maven.check_range(range)
    }
}

impl Documents for Generic {
    fn resource(&self, _document: &DocumentId, _dates: bool) -> Resource {
        Resource {
            key: String::new(),
            location: Location::Path(UpstreamPath::base()),
            accept: "*/*",
        }
    }

    fn resources(&self, _document: &DocumentId) -> Vec<Resource> {
        Vec::new()
    }

    fn package_of(&self, _key: &str) -> Option<PackageId> {
        None
    }

    fn version_of_document<'a>(&self, _document: &'a DocumentId) -> Option<&'a str> {
        None
    }

    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
        arriving.file()
    }

    fn is_question(&self, _key: &str) -> bool {
        false
    }

    fn is_promise(&self, _document: &DocumentId) -> bool {
        false
    }

    fn render(&self, _input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
        Err(no_document())
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

impl Composition for Generic {
    fn compose(
        &self,
        _document: &DocumentId,
        _own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
        Ok(None)
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

    fn merges(&self, _document: &DocumentId) -> bool {
        false
    }

    fn merge(&self, _document: &DocumentId, _parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
        Err(no_document())
    }
}

impl Assets for Generic {
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        let (version, _) = asset.file.split_once('/')?;
        Some(version.to_owned())
    }

    fn is_package_file(&self, _file: &str) -> bool {
        true
    }

    fn promised(&self, _promise: &Promise, _bytes: &[u8]) -> Expected {
        Expected::none()
    }
}

impl Uploads for Generic {
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
        let Some(asset) = upload.asset else {
            return Err(Problem::invalid("a generic file is sent by its name"));
        };
        upload.meets(Algorithm::Sha256, upload.field(SHA256))?;
        let (version, _) = asset.file.split_once('/').unwrap_or_default();
        let (package, file) = (asset.package.clone(), asset.file.to_string());
        let media_type = "application/octet-stream";
        Ok(Inspected::new(package, version, file, media_type))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_service_model() {
        let package = Generic.package("tools/bin~x86@1").unwrap();
        assert_eq!(package.namespace(), Some("tools"));
        assert_eq!(package.to_string(), "generic:tools/bin~x86@1");
        assert_eq!(Generic.package("bin").unwrap().to_string(), "generic:bin");
        for text in ["", "a/b/c", "a b", "/a", "a/", "..", "a/..", "a\\b", "a#b"] {
            assert!(Generic.package(text).is_err(), "{text}");
        }
        for name in ["..", "a/b", "", "a\nb"] {
            assert!(asset(package.clone(), "1.0", name).is_err(), "{name}");
        }
        let asset = asset(package, "1.0", "my file#1.tar.gz").unwrap();
        assert_eq!(&*asset.file, "1.0/my file#1.tar.gz");
    }

    #[test]
    fn a_name_has_no_more_characters_than_may_be() {
        let (long, longer) = ("é".repeat(NAME_CHARS_MAX), "é".repeat(NAME_CHARS_MAX + 1));
        let package = Generic.package(&format!("{long}/{long}")).unwrap();
        assert!(Generic.package(&longer).is_err());
        assert!(Generic.package(&format!("{longer}/a")).is_err());
        assert!(asset(package.clone(), &long, &long).is_ok());
        assert!(asset(package.clone(), &longer, "a").is_err());
        assert!(asset(package, "1.0", &longer).is_err());
    }
}
