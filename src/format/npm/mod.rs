//! npm's registry: packuments, manifests, tarballs and what stands under `/-/`.
//! Source: the npm registry's public API documents and the clients' behaviour.

mod audit;
mod compose;
mod facts;
mod hints;
mod merge;
pub mod name;
mod path;
mod recognise;
mod render;
mod scan;
mod short;
mod upload;
mod version;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::io::{Read, Write};

use http::HeaderName;

use super::upload::{Inspected, Parted, Upload};
use super::{
    Address, Amendment, ArrivingDocument, Assets, AuditQuestion, ClientRequest, Composition,
    Directory, DocumentEvidence, DocumentId, DocumentPublish, Documents, ErrorBody, Evidence,
    FactsPart, FormatError, Own, PredictedFacts, Prefetch, PrefetchHint, PrefetchInput, Protocol,
    Recognised, RenderInput, Rendering, Requirements, Resource, Search, StreamedIndex, Target,
    TokenScheme, Uploads, Upstream, Versions, at_its_path,
};
use crate::package::{
    AssetFacts, AssetId, Expected, Format, Listing, Location, PackageId, PackedFacts, Promise,
    UpstreamPath,
};
use crate::problem::Problem;

/// The media type of the short packument that installers ask for.
const SHORT_TYPE: &str = "application/vnd.npm.install-v1+json";

/// npm's documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NpmView {
    /// All that the registry knows of a package.
    Packument,
    /// The shorter packument, with what an installer needs.
    ShortPackument,
    /// One version's manifest, by version or tag.
    Manifest(String),
    DistTags,
    /// `/-/v1/search`, with its query.
    Search(String),
    Keys,
    /// Sigstore bundles of `name@version`.
    Attestations(String),
}

/// The one-time password of a second factor.
static CREDENTIAL_HEADERS: [HeaderName; 1] = [HeaderName::from_static("npm-otp")];

/// npm on the wire.
pub struct Npm;

impl Protocol for Npm {
    fn format(&self) -> Format {
        Format::Npm
    }

    fn package(&self, text: &str) -> Result<PackageId, Problem> {
        name::parse(text)
    }

    fn parse(&self, ask: &ClientRequest<'_>) -> Result<Target, Problem> {
        path::parse(ask)
    }

    fn error(&self, problem: &Problem) -> ErrorBody {
        ErrorBody {
            content_type: "application/json",
            body: serde_json::json!({ "error": problem.sentence() }).to_string(),
        }
    }

    fn token_scheme(&self) -> TokenScheme {
        TokenScheme::Bearer
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence::Documents(self)
    }

    fn directory(&self) -> Option<&dyn Directory> {
        None
    }

    fn streamed_index(&self, _document: &DocumentId) -> Option<&dyn StreamedIndex> {
        None
    }

    fn audit_question(&self) -> Option<&dyn AuditQuestion> {
        Some(self)
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        Some(self)
    }

    fn document_publish(&self) -> Option<&dyn DocumentPublish> {
        Some(self)
    }

    fn requirements(&self) -> Option<&dyn Requirements> {
        None
    }
}

impl Versions for Npm {
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(version::normalised(version))
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
        version::Alternatives::parse(range).map(|_| ())
    }
}

impl Documents for Npm {
    fn resource(&self, document: &DocumentId, dates: bool) -> Resource {
        let package = document.package.as_ref();
        let packument = |short: bool| {
            package.map_or_else(
                || resource("packument", UpstreamPath::base(), "application/json"),
                |package| packument(package, short),
            )
        };
        match &document.view {
            super::View::Npm(view) => match view {
                // Short documents have no dates.
                NpmView::ShortPackument => packument(!dates),
                NpmView::Packument | NpmView::Manifest(_) => packument(false),
                NpmView::DistTags => packument(!dates),
                NpmView::Search(query) => resource(
                    &format!("search:{query}"),
                    UpstreamPath::new("-/v1/search").with_query(query),
                    "application/json",
                ),
                NpmView::Keys => resource(
                    "keys",
                    UpstreamPath::new("-/npm/v1/keys"),
                    "application/json",
                ),
                NpmView::Attestations(spec) => resource(
                    &format!("attestations:{spec}"),
                    attestations(spec),
                    "application/json",
                ),
            },
            _ => packument(false),
        }
    }

    fn resources(&self, document: &DocumentId) -> Vec<Resource> {
        let (super::View::Npm(view), Some(package)) = (&document.view, &document.package) else {
            return vec![self.resource(document, false)];
        };
        let (short, whole) = (packument(package, true), packument(package, false));
        match view {
            NpmView::ShortPackument | NpmView::DistTags => vec![short, whole],
            NpmView::Packument | NpmView::Manifest(_) => vec![whole, short],
            _ => vec![self.resource(document, false)],
        }
    }

    fn package_of(&self, key: &str) -> Option<PackageId> {
        let name = key
            .strip_prefix("short:")
            .or_else(|| key.strip_prefix("full:"))?;
        self.package(name).ok()
    }

    fn version_of_document<'a>(&self, document: &'a DocumentId) -> Option<&'a str> {
        match &document.view {
            // A registry has no build metadata, and takes none for another version.
            super::View::Npm(NpmView::Attestations(spec)) => {
                spec.rsplit_once('@')?.1.split('+').next()
            }
            // A word that is not a version is a tag.
            super::View::Npm(NpmView::Manifest(wanted)) => {
                version::is_version(wanted).then_some(wanted)
            }
            _ => None,
        }
    }

    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
        recognise::recognise(arriving)
    }

    fn is_question(&self, key: &str) -> bool {
        ["search:", "attestations:", "keys"]
            .iter()
            .any(|it| key.starts_with(it))
    }

    fn is_promise(&self, document: &DocumentId) -> bool {
        matches!(document.view, super::View::Npm(NpmView::Keys))
    }

    fn notice_header(&self) -> Option<&'static str> {
        // npm-registry-fetch logs it, at its level "notice".
        Some("npm-notice")
    }

    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
        render::render(input)
    }

    fn address_key<'a>(&self, _document: &DocumentId, address: &'a Address) -> &'a str {
        // Kept addresses do not depend on ours; the empty base is the sign for them.
        if address.kept { "" } else { &address.base }
    }

    fn alias(&self, target: &str) -> Option<Target> {
        let (package, file) = target.split_once("/-/")?;
        Some(Target::Asset(AssetId {
            package: name::parse(package).ok()?,
            file: file.into(),
        }))
    }

    fn always_gzip(&self, _document: &DocumentId) -> bool {
        false
    }
}

impl Composition for Npm {
    fn compose(
        &self,
        document: &DocumentId,
        own: Own<'_>,
    ) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
        compose::compose(document, own)
    }

    fn only_version<'a>(&self, document: &'a DocumentId, listing: &'a Listing) -> Option<&'a str> {
        compose::only_version(document, listing)
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

impl Assets for Npm {
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        Some(facts::predicted_facts(asset)?.version.into())
    }

    fn is_package_file(&self, _file: &str) -> bool {
        true
    }

    fn promised(&self, _promise: &Promise, bytes: &[u8]) -> Expected {
        facts::promised(bytes)
    }
}

impl Uploads for Npm {
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
        upload::inspect(upload)
    }

    fn published_at(&self, rest: &str) -> (Location, UpstreamPath) {
        at_its_path(rest)
    }

    fn outdated_by_publish(&self, package: &PackageId) -> Option<Vec<Resource>> {
        Some(vec![packument(package, true), packument(package, false)])
    }

    fn is_published(&self, _file: &str) -> bool {
        true
    }

    fn credential_headers(&self) -> &'static [HeaderName] {
        &CREDENTIAL_HEADERS
    }
}

impl DocumentEvidence for Npm {
    fn documents_of(&self, package: &PackageId, dates: bool) -> Vec<Resource> {
        let mut documents = vec![packument(package, false)];
        if !dates {
            documents.insert(0, packument(package, true));
        }
        documents
    }

    fn facts(
        &self,
        package: &PackageId,
        upstream: &Upstream<'_>,
        assets: PackedFacts,
    ) -> Result<FactsPart, FormatError> {
        facts::facts(package, upstream, assets)
    }

    fn usual_place(&self, asset: &AssetId) -> Option<Location> {
        Some(facts::usual_place(asset))
    }

    fn predicted(&self) -> Option<&dyn PredictedFacts> {
        Some(self)
    }
}

impl PredictedFacts for Npm {
    fn predict(&self, asset: &AssetId) -> Option<AssetFacts> {
        facts::predicted_facts(asset)
    }

    fn find(&self, asset: &AssetId, upstream: &Upstream<'_>) -> Option<AssetFacts> {
        facts::fact(asset, upstream)
    }
}

impl AuditQuestion for Npm {
    fn names(&self, body: &[u8]) -> Vec<String> {
        audit::names(body)
    }

    fn without(&self, body: &[u8], names: &HashSet<String>) -> Result<Vec<u8>, FormatError> {
        audit::without(body, names)
    }
}

impl Prefetch for Npm {
    fn read_beforehand(&self, package: &PackageId, whole: bool) -> Vec<Resource> {
        let mut documents = vec![packument(package, true)];
        if whole {
            documents.push(packument(package, false));
        }
        documents
    }

    fn gives_hints(&self, target: &Target) -> bool {
        hints::gives_hints(target)
    }

    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
        hints::prefetch_hints(input)
    }
}

impl DocumentPublish for Npm {
    fn take_apart(
        &self,
        body: &mut dyn Read,
        file: &mut dyn Write,
        words_max: u64,
    ) -> Result<Parted, Problem> {
        upload::part(body, file, words_max)
    }

    fn words_in(&self, asset: &AssetId) -> DocumentId {
        DocumentId {
            package: Some(asset.package.clone()),
            view: super::View::Npm(NpmView::Packument),
        }
    }

    fn words(&self, document: &[u8], version: &str) -> Result<Vec<u8>, FormatError> {
        upload::words(document, version)
    }

    fn amendment(&self, words: &[u8]) -> Result<Option<Amendment>, Problem> {
        upload::amendment(words)
    }

    fn deprecated(&self, manifest: &str, word: &str) -> Option<String> {
        upload::deprecated(manifest, word)
    }
}

fn packument(package: &PackageId, short: bool) -> Resource {
    let path = name::segment(&package.full_name());
    if short {
        resource(
            &format!("short:{}", package.full_name()),
            path,
            "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*",
        )
    } else {
        resource(
            &format!("full:{}", package.full_name()),
            path,
            "application/json",
        )
    }
}

/// `spec` is one segment, as npm sends it.
fn attestations(spec: &str) -> UpstreamPath {
    UpstreamPath::new("-/npm/v1/attestations").join_path(&name::segment(spec))
}

fn resource(key: &str, path: UpstreamPath, accept: &'static str) -> Resource {
    Resource {
        key: key.to_owned(),
        location: Location::Path(path),
        accept,
    }
}
