//! PyPI's simple index in both forms, with the files below it, and the older JSON documents.
//! Sources: PEP 503, 592, 629, 658, 691, 700, 708, 714, 740.

mod address;
mod compose;
mod headers;
mod hints;
mod html;
mod index;
mod legacy;
mod merge;
pub mod name;
mod needs;
mod page;
mod path;
mod recognise;
mod render;
mod upload;
mod version;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::io::Write;

use http::HeaderName;

use super::upload::{Inspected, Readable, Upload};
use super::{
    Address, ArrivingDocument, Assets, AuditQuestion, ClientRequest, Composition, Directory,
    DocumentEvidence, DocumentId, DocumentPublish, Documents, ErrorBody, Evidence, FactsPart,
    FormatError, Need, Own, PredictedFacts, Prefetch, PrefetchHint, PrefetchInput, Protocol,
    Recognised, RenderInput, Rendering, Requirements, Resource, Search, StreamInput, StreamedIndex,
    Target, TokenScheme, Uploads, Upstream, Versions, plain_error,
};
use crate::package::{
    AssetFacts, AssetId, Expectation, Expected, Format, Listing, Location, PackageId, PackedFacts,
    Promise, UpstreamPath,
};
use crate::problem::Problem;

pub use hints::requirement;

const JSON_TYPE: &str = "application/vnd.pypi.simple.v1+json";
const HTML_TYPE: &str = "application/vnd.pypi.simple.v1+html";

/// The `Accept` header for upstream: one stored document serves both forms.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

/// The two forms of the simple index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Json,
    Html,
    /// HTML under its plain media type, for clients that name no version.
    PlainHtml,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON_TYPE,
            Self::Html => HTML_TYPE,
            Self::PlainHtml => "text/html; charset=utf-8",
        }
    }
}

/// PyPI's documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PypiView {
    /// `/simple/`: every project's name.
    Index(Form),
    /// `/simple/{project}/`.
    Project(Form),
    /// `/pypi/{project}/json` and `/pypi/{project}/{version}/json`.
    Legacy { version: Option<String> },
}

/// PyPI on the wire.
pub struct Pypi;

impl Protocol for Pypi {
    fn format(&self) -> Format {
        Format::Pypi
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
        Evidence::Documents(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn streamed_index(&self, document: &DocumentId) -> Option<&dyn StreamedIndex> {
        match document.view {
            super::View::Pypi(PypiView::Index(_)) => Some(self),
            _ => None,
        }
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
        Some(self)
    }
}

impl Versions for Pypi {
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        version::normalised(version)
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
        version::check_range(range)
    }
}

impl Documents for Pypi {
    fn resource(&self, document: &DocumentId, _dates: bool) -> Resource {
        match (&document.view, &document.package) {
            (super::View::Pypi(PypiView::Legacy { version }), Some(package)) => {
                let version = version
                    .as_ref()
                    .map_or(String::new(), |it| format!("{it}/"));
                let path = format!("{}/{version}json", package.name());
                Resource {
                    key: format!("legacy:{path}"),
                    // Beside the simple index, not below it.
                    location: Location::Beside(UpstreamPath::new("pypi").join(&path)),
                    accept: "application/json",
                }
            }
            (_, Some(package)) => project(package),
            (_, None) => Resource {
                key: "index".to_owned(),
                location: Location::Path(UpstreamPath::base()),
                accept: ACCEPT,
            },
        }
    }

    fn resources(&self, document: &DocumentId) -> Vec<Resource> {
        vec![self.resource(document, false)]
    }

    fn package_of(&self, key: &str) -> Option<PackageId> {
        self.package(key.strip_prefix("simple:")?).ok()
    }

    fn version_of_document<'a>(&self, document: &'a DocumentId) -> Option<&'a str> {
        match &document.view {
            super::View::Pypi(PypiView::Legacy { version }) => version.as_deref(),
            _ => None,
        }
    }

    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
        recognise::recognise(arriving)
    }

    fn is_question(&self, key: &str) -> bool {
        // Provenance is the one file of PyPI that is read as a document.
        key.starts_with("asset:")
    }

    fn is_promise(&self, _document: &DocumentId) -> bool {
        false
    }

    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
        match (&input.document.view, &input.document.package) {
            (super::View::Pypi(PypiView::Project(form)), Some(package)) => {
                render::project(input, package, *form)
            }
            (super::View::Pypi(PypiView::Legacy { .. }), Some(package)) => {
                legacy::render(input, package)
            }
            _ => Err(FormatError::shape("not a document of PyPI")),
        }
    }

    fn annotated(&self, document: &DocumentId, body: Vec<u8>, notice: &str) -> Vec<u8> {
        match document.view {
            super::View::Pypi(PypiView::Project(form)) => render::annotated(form, body, notice),
            _ => body,
        }
    }

    fn address_key<'a>(&self, document: &DocumentId, address: &'a Address) -> &'a str {
        // Simple pages have relative addresses.
        match document.view {
            super::View::Pypi(PypiView::Legacy { .. }) => &address.base,
            _ => "",
        }
    }

    fn alias(&self, _target: &str) -> Option<Target> {
        None
    }

    fn always_gzip(&self, _document: &DocumentId) -> bool {
        false
    }
}

impl Composition for Pypi {
    fn compose(
        &self,
        document: &DocumentId,
        own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
        compose::compose(document, own)
    }

    fn only_version<'a>(
        &self,
        _document: &'a DocumentId,
        _listing: &'a Listing,
    ) -> Option<&'a str> {
        None
    }

    fn search(&self, document: &DocumentId) -> Option<Search> {
        compose::search_of(document)
    }

    fn merges(&self, document: &DocumentId) -> bool {
        merge::merges(document)
    }

    fn merge(&self, document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
        merge::merge(document, parts)
    }
}

impl Assets for Pypi {
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        let file = super::path::last_segment(&asset.file);
        let file = file.strip_suffix(".metadata").unwrap_or(file);
        name::version_of(asset.package.name(), file).map(str::to_owned)
    }

    fn is_package_file(&self, file: &str) -> bool {
        !file.ends_with(".metadata") && !file.ends_with(".asc")
    }

    fn promised(&self, _promise: &Promise, _bytes: &[u8]) -> Expected {
        Expected::none()
    }
}

impl Uploads for Pypi {
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
        upload::inspect(upload)
    }

    fn published_at(&self, _rest: &str) -> (Location, UpstreamPath) {
        // Uploads go beside the simple index, as we take them ourselves.
        (Location::Beside(UpstreamPath::base()), UpstreamPath::base())
    }

    fn outdated_by_publish(&self, _package: &PackageId) -> Option<Vec<Resource>> {
        None
    }

    fn is_published(&self, file: &str) -> bool {
        // Signatures come with the form of their file, metadata out of it.
        self.is_package_file(file)
    }

    fn credential_headers(&self) -> &'static [HeaderName] {
        &[]
    }
}

impl DocumentEvidence for Pypi {
    fn documents_of(&self, package: &PackageId, _dates: bool) -> Vec<Resource> {
        vec![project(package)]
    }

    fn facts(
        &self,
        package: &PackageId,
        upstream: &Upstream<'_>,
        mut assets: PackedFacts,
    ) -> Result<FactsPart, FormatError> {
        page::read(upstream, &mut |file| {
            let version: Box<str> = file.version(package).into();
            let runs_on: Box<str> = file.requires_python.unwrap_or_default().into();
            let is_withdrawn = file.yanked.is_some();
            let path = address::file(&file.url);
            let mut push = |path: String, url: &url::Url, expectation, mutable| {
                assets.push(&AssetFacts {
                    file: path.into(),
                    version: version.clone(),
                    location: Location::Url(url.clone()),
                    expectation,
                    published: file.uploaded,
                    mutable,
                    runs_on: runs_on.clone(),
                    is_withdrawn,
                });
            };
            if let Some(digests) = &file.metadata {
                let url = address::with_ending(&file.url, ".metadata");
                push(format!("{path}.metadata"), &url, known(digests), false);
            }
            if file.signed {
                let url = address::with_ending(&file.url, ".asc");
                push(format!("{path}.asc"), &url, Expectation::FirstSeen, false);
            }
            if let Some(provenance) = &file.provenance {
                push(
                    address::file(provenance),
                    provenance,
                    Expectation::FirstSeen,
                    true,
                );
            }
            push(path, &file.url, known(&file.digests), false);
            Ok(())
        })?;
        Ok(FactsPart {
            assets,
            more: Vec::new(),
        })
    }

    fn usual_place(&self, asset: &AssetId) -> Option<Location> {
        address::url(&asset.file).map(Location::Own)
    }

    fn predicted(&self) -> Option<&dyn PredictedFacts> {
        None
    }
}

impl StreamedIndex for Pypi {
    fn stream(&self, input: &mut StreamInput<'_>, out: &mut dyn Write) -> Result<(), FormatError> {
        index::stream(input, out)
    }

    fn media_type(&self, document: &DocumentId) -> &'static str {
        match document.view {
            super::View::Pypi(PypiView::Index(form)) => form.media_type(),
            _ => JSON_TYPE,
        }
    }
}

impl Prefetch for Pypi {
    fn read_beforehand(&self, package: &PackageId, _whole: bool) -> Vec<Resource> {
        vec![project(package)]
    }

    fn gives_hints(&self, target: &Target) -> bool {
        hints::gives_hints(target)
    }

    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
        hints::prefetch_hints(input)
    }
}

impl Requirements for Pypi {
    fn needs(&self, file: &str, content: &mut dyn Readable) -> Result<Vec<Need>, Problem> {
        needs::needs(file, content)
    }
}

fn known(digests: &crate::package::Expected) -> Expectation {
    if digests.is_empty() {
        Expectation::FirstSeen
    } else {
        Expectation::Known(digests.clone())
    }
}

fn project(package: &PackageId) -> Resource {
    Resource {
        key: format!("simple:{}", package.name()),
        location: Location::Path(UpstreamPath::new(&format!("{}/", package.name()))),
        accept: ACCEPT,
    }
}
