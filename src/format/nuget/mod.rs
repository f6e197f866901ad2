//! NuGet's V3 protocol: a service index that names everything, registrations, the flat container.
//! Source: the NuGet Server API reference.

mod compose;
mod facts;
mod hints;
mod merge;
mod name;
mod path;
mod recognise;
mod registration;
mod render;
mod service;
mod upload;
mod version;

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderName;
use serde::Deserialize;
use url::Url;

use super::json::Node;
use super::upload::{Inspected, Upload};
use super::{
    Address, ArrivingDocument, Assets, AuditQuestion, ClientRequest, Composition, Directory,
    DocumentEvidence, DocumentId, DocumentPublish, Documents, ErrorBody, Evidence, FactsPart,
    FormatError, Own, PredictedFacts, Prefetch, PrefetchHint, PrefetchInput, Protocol, Recognised,
    RenderInput, Rendering, Requirements, Resource, Search, StreamedIndex, Target, TokenScheme,
    Uploads, Upstream, Versions, plain_error,
};
use crate::package::{
    Algorithm, AssetId, Digest, Expected, Format, Listing, Location, PackageId, PackedFacts,
    Promise, UpstreamPath, UpstreamUrl,
};
use crate::problem::Problem;

/// The three forms of registrations: plain, gzipped, and gzipped with SemVer 2 versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Registrations {
    Plain,
    Gzipped,
    GzippedSemver2,
}

impl Registrations {
    const ALL: [Self; 3] = [Self::Plain, Self::Gzipped, Self::GzippedSemver2];

    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "registration",
            Self::Gzipped => "registration-gz",
            Self::GzippedSemver2 => "registration-gz-semver2",
        }
    }

    fn types(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[
                "RegistrationsBaseUrl",
                "RegistrationsBaseUrl/3.0.0-rc",
                "RegistrationsBaseUrl/3.0.0-beta",
            ],
            Self::Gzipped => &["RegistrationsBaseUrl/3.4.0"],
            Self::GzippedSemver2 => &[
                "RegistrationsBaseUrl/3.6.0",
                "RegistrationsBaseUrl/Versioned",
            ],
        }
    }
}

/// The fullest registrations that upstream has.
const REGISTRATIONS_ANY: &[&str] = &[
    "RegistrationsBaseUrl/3.6.0",
    "RegistrationsBaseUrl/Versioned",
    "RegistrationsBaseUrl/3.4.0",
    "RegistrationsBaseUrl",
    "RegistrationsBaseUrl/3.0.0-rc",
    "RegistrationsBaseUrl/3.0.0-beta",
];
const FLAT: &[&str] = &["PackageBaseAddress/3.0.0"];
const SEARCH: &[&str] = &[
    "SearchQueryService/3.5.0",
    "SearchQueryService/3.0.0-rc",
    "SearchQueryService/3.0.0-beta",
    "SearchQueryService",
];
const AUTOCOMPLETE: &[&str] = &[
    "SearchAutocompleteService/3.5.0",
    "SearchAutocompleteService/3.0.0-rc",
    "SearchAutocompleteService/3.0.0-beta",
    "SearchAutocompleteService",
];
const VULNERABILITIES: &[&str] = &["VulnerabilityInfo/6.7.0"];
const SIGNATURES: &[&str] = &[
    "RepositorySignatures/5.0.0",
    "RepositorySignatures/4.9.0",
    "RepositorySignatures/4.7.0",
];
const PUBLISH: &[&str] = &["PackagePublish/2.0.0", "PackagePublish"];
const SYMBOL_PUBLISH: &[&str] = &["SymbolPackagePublish/4.9.0"];

/// NuGet's documents.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NugetView {
    ServiceIndex,
    /// The flat container's list of versions.
    FlatIndex,
    /// A registration's index, page or leaf, by its path below the registrations.
    Registration {
        form: Registrations,
        path: String,
    },
    Search {
        query: String,
    },
    Autocomplete {
        query: String,
    },
    Vulnerabilities,
    Signatures,
    /// A resource that upstream keeps outside the addresses of its service index.
    Elsewhere {
        url: String,
    },
}

/// The header in which clients send their key with a push.
static CREDENTIAL_HEADERS: [HeaderName; 1] = [HeaderName::from_static("x-nuget-apikey")];

/// NuGet on the wire.
pub struct Nuget;

impl Protocol for Nuget {
    fn format(&self) -> Format {
        Format::Nuget
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
        Some(self)
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

impl Versions for Nuget {
    fn normal_version<'a>(&self, version: &'a str) -> Cow<'a, str> {
        Cow::Owned(version::normalised(version))
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

impl Documents for Nuget {
    fn resource(&self, document: &DocumentId, _dates: bool) -> Resource {
        let service = |key: String, types: &'static [&'static str], path: UpstreamPath| Resource {
            key,
            location: Location::Service { types, path },
            accept: "application/json",
        };
        let name = document.package.as_ref().map_or("", PackageId::name);
        let super::View::Nuget(view) = &document.view else {
            return service_index();
        };
        match view {
            NugetView::ServiceIndex => service_index(),
            NugetView::FlatIndex => service(
                format!("flat:{name}"),
                FLAT,
                UpstreamPath::new(&format!("{name}/index.json")),
            ),
            NugetView::Registration { form, path } => service(
                format!("{}:{path}", form.folder()),
                form.types(),
                UpstreamPath::new(path),
            ),
            NugetView::Search { query } => service(
                format!("query:{query}"),
                SEARCH,
                UpstreamPath::base().with_query(query),
            ),
            NugetView::Autocomplete { query } => service(
                format!("autocomplete:{query}"),
                AUTOCOMPLETE,
                UpstreamPath::base().with_query(query),
            ),
            NugetView::Vulnerabilities => service(
                "vulnerabilities".to_owned(),
                VULNERABILITIES,
                UpstreamPath::base(),
            ),
            NugetView::Signatures => {
                service("signatures".to_owned(), SIGNATURES, UpstreamPath::base())
            }
            NugetView::Elsewhere { url } => Resource {
                key: format!("elsewhere:{url}"),
                location: Url::parse(url)
                    .map_or_else(|_| Location::Path(UpstreamPath::base()), Location::Url),
                accept: "application/json",
            },
        }
    }

    fn resources(&self, document: &DocumentId) -> Vec<Resource> {
        let own = self.resource(document, false);
        let (super::View::Nuget(NugetView::Registration { path, .. }), Some(package)) =
            (&document.view, &document.package)
        else {
            return vec![own];
        };
        let mut resources = vec![own];
        for form in [
            Registrations::GzippedSemver2,
            Registrations::Gzipped,
            Registrations::Plain,
        ] {
            let path = path.clone();
            let view = super::View::Nuget(NugetView::Registration { form, path });
            let package = Some(package.clone());
            resources.push(self.resource(&DocumentId { package, view }, false));
        }
        if path.ends_with("/index.json") {
            resources.push(registration_any(package));
        }
        resources
    }

    fn package_of(&self, key: &str) -> Option<PackageId> {
        let (kind, path) = key.split_once(':')?;
        let is_of_package = kind == "flat" || kind.starts_with("registration");
        let name = path.split('/').next().filter(|_| is_of_package)?;
        name::parse(name).ok()
    }

    fn version_of_document<'a>(&self, document: &'a DocumentId) -> Option<&'a str> {
        let super::View::Nuget(NugetView::Registration { path, .. }) = &document.view else {
            return None;
        };
        let (_, leaf) = path.split_once('/')?;
        let version = leaf.strip_suffix(".json")?;
        (version != "index" && !version.contains('/')).then_some(version)
    }

    fn recognise(&self, arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
        recognise::recognise(arriving)
    }

    fn is_question(&self, key: &str) -> bool {
        let kind = key.split(':').next().unwrap_or_default();
        let kinds = [
            "query",
            "autocomplete",
            "vulnerabilities",
            "signatures",
            "service-index",
        ];
        kinds.contains(&kind)
    }

    fn is_promise(&self, document: &DocumentId) -> bool {
        matches!(document.view, super::View::Nuget(NugetView::Signatures))
    }

    fn render(&self, input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
        render::render(input)
    }

    fn address_key<'a>(&self, document: &DocumentId, address: &'a Address) -> &'a str {
        match &document.view {
            super::View::Nuget(NugetView::FlatIndex | NugetView::Autocomplete { .. }) => "",
            _ => &address.base,
        }
    }

    fn alias(&self, target: &str) -> Option<Target> {
        let (package, url) = target.split_once(' ')?;
        Some(path::document(
            name::parse(package).ok(),
            NugetView::Elsewhere {
                url: url.to_owned(),
            },
        ))
    }

    fn always_gzip(&self, document: &DocumentId) -> bool {
        matches!(
            document.view,
            super::View::Nuget(NugetView::Registration {
                form: Registrations::Gzipped | Registrations::GzippedSemver2,
                ..
            })
        )
    }
}

impl Composition for Nuget {
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

impl Assets for Nuget {
    fn version_of(&self, asset: &AssetId) -> Option<String> {
        let (version, _) = asset.file.split_once('/')?;
        Some(version.to_owned())
    }

    fn is_package_file(&self, file: &str) -> bool {
        file.ends_with(".nupkg")
    }

    fn promised(&self, _promise: &Promise, bytes: &[u8]) -> Expected {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Leaf {
            package_hash: String,
            package_hash_algorithm: String,
        }
        Node::document(bytes)
            .and_then(|leaf| leaf.read::<Leaf>())
            .ok()
            .and_then(|leaf| {
                let algorithm = Algorithm::parse(&leaf.package_hash_algorithm)?;
                Digest::from_base64(algorithm, &leaf.package_hash).ok()
            })
            .into_iter()
            .collect()
    }
}

impl Uploads for Nuget {
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
        upload::inspect(upload)
    }

    fn published_at(&self, rest: &str) -> (Location, UpstreamPath) {
        let (types, below) = match rest.strip_prefix("api/v2/symbolpackage") {
            Some(below) => (SYMBOL_PUBLISH, below),
            None => (PUBLISH, rest.strip_prefix("api/v2/package").unwrap_or(rest)),
        };
        let path = UpstreamPath::from_request(below.trim_start_matches('/'));
        let location = Location::Service {
            types,
            path: path.clone(),
        };
        (location, path)
    }

    fn outdated_by_publish(&self, _package: &PackageId) -> Option<Vec<Resource>> {
        None
    }

    fn is_published(&self, file: &str) -> bool {
        // It stands in the package.
        !file.ends_with(".nuspec")
    }

    fn credential_headers(&self) -> &'static [HeaderName] {
        &CREDENTIAL_HEADERS
    }
}

impl DocumentEvidence for Nuget {
    fn documents_of(&self, package: &PackageId, _dates: bool) -> Vec<Resource> {
        vec![registration_any(package)]
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
        Some(Location::Service {
            types: FLAT,
            path: UpstreamPath::new(asset.package.name()).join(&asset.file),
        })
    }

    fn predicted(&self) -> Option<&dyn PredictedFacts> {
        None
    }
}

impl Directory for Nuget {
    fn directory_document(&self) -> Resource {
        service_index()
    }

    fn services(&self, directory: &[u8]) -> Vec<Url> {
        service::addresses(directory)
    }

    fn locate(&self, directory: &[u8], types: &[&str], path: &UpstreamPath) -> Option<UpstreamUrl> {
        service::locate(directory, types, path)
    }

    fn own_directory(&self) -> Vec<u8> {
        compose::directory()
    }
}

impl Prefetch for Nuget {
    fn read_beforehand(&self, package: &PackageId, _whole: bool) -> Vec<Resource> {
        let versions = DocumentId {
            package: Some(package.clone()),
            view: super::View::Nuget(NugetView::FlatIndex),
        };
        vec![registration_any(package), self.resource(&versions, false)]
    }

    fn gives_hints(&self, target: &Target) -> bool {
        hints::gives_hints(target)
    }

    fn prefetch_hints(&self, input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
        hints::prefetch_hints(input)
    }
}

/// The package's registrations in the fullest form that upstream has.
fn registration_any(package: &PackageId) -> Resource {
    let path = format!("{}/index.json", package.name());
    Resource {
        key: format!("registration-any:{path}"),
        location: Location::Service {
            types: REGISTRATIONS_ANY,
            path: UpstreamPath::new(&path),
        },
        accept: "application/json",
    }
}

fn service_index() -> Resource {
    Resource {
        key: "service-index".to_owned(),
        location: Location::Path(UpstreamPath::base()),
        accept: "application/json",
    }
}
