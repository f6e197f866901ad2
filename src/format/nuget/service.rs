//! The service index: upstream's, read; and ours, which is upstream's with our addresses.

use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::Registrations;
use crate::edit::Edits;
use crate::json::{Node, quoted};
use crate::package::{UpstreamPath, UpstreamUrl};
use crate::{FormatError, RenderInput};

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "@id")]
    id: String,
    #[serde(rename = "@type")]
    kind: Value,
}

impl Service {
    fn is(&self, kind: &str) -> bool {
        match &self.kind {
            Value::String(own) => own == kind,
            Value::Array(own) => own.iter().any(|own| own == kind),
            _ => false,
        }
    }
}

fn services(directory: &[u8]) -> Vec<Service> {
    let index = Node::object_document(directory);
    let resources = index.ok().and_then(|index| index.get("resources"));
    resources
        .and_then(|resources| resources.read().ok())
        .unwrap_or_default()
}

/// The address of `path` below the first of `types` that the index has: a folder, with or without a
/// slash.
pub fn locate(directory: &[u8], types: &[&str], path: &UpstreamPath) -> Option<UpstreamUrl> {
    let services = services(directory);
    let service = types
        .iter()
        .find_map(|kind| services.iter().find(|service| service.is(kind)))?;
    path.below(&Url::parse(&service.id).ok()?)
}

/// The addresses of what the index has of what we serve.
pub fn addresses(directory: &[u8]) -> Vec<Url> {
    let is_served = |service: &Service| {
        let kinds: Vec<&str> = match &service.kind {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        kinds.iter().any(|kind| place(kind, true).is_some())
    };
    let services = services(directory);
    let served = services.iter().filter(|service| is_served(service));
    served.filter_map(|it| Url::parse(&it.id).ok()).collect()
}

/// Our place for a type of resource; `None` for what we do not serve.
fn place(kind: &str, over_tls: bool) -> Option<String> {
    let (name, version) = kind.split_once('/').unwrap_or((kind, ""));
    let registrations = || {
        Registrations::ALL
            .into_iter()
            .find(|form| form.types().contains(&kind))
            .map(|form| format!("v3/{}/", form.folder()))
    };
    match name {
        "PackageBaseAddress" => Some("v3/flat/".to_owned()),
        "RegistrationsBaseUrl" => registrations(),
        "SearchQueryService" => Some("v3/query".to_owned()),
        "SearchAutocompleteService" => Some("v3/autocomplete".to_owned()),
        "VulnerabilityInfo" => Some("v3/vulnerabilities/index.json".to_owned()),
        // Clients refuse signatures that do not come over TLS, and with them the whole source.
        "RepositorySignatures" if over_tls => {
            Some("v3/repository-signatures/index.json".to_owned())
        }
        "ReadmeUriTemplate" if !version.is_empty() => {
            Some("v3/flat/{lower_id}/{lower_version}/readme".to_owned())
        }
        "SymbolPackagePublish" => Some("api/v2/symbolpackage".to_owned()),
        "PackagePublish" => Some("api/v2/package".to_owned()),
        _ => None,
    }
}

/// Templates of pages for people, which stay upstream's.
fn passed_on(kind: &str) -> bool {
    kind.starts_with("PackageDetailsUriTemplate") || kind.starts_with("ReportAbuseUriTemplate")
}

pub fn render(input: &RenderInput<'_>) -> Result<Option<Vec<u8>>, FormatError> {
    let base = &input.address.base;
    let over_tls = base.starts_with("https:");
    let resources = Node::object_document(input.upstream.bytes)?
        .get("resources")
        .ok_or_else(|| FormatError::shape("a service index without resources"))?
        .elements()?;
    let mut edits = Edits::new(input.upstream.bytes);
    let mut seen = Vec::new();
    let mut keep = Vec::with_capacity(resources.len());
    for resource in &resources {
        let kind = resource.get("@type")?.and_then(|kind| kind.string());
        let kind = kind.as_deref().unwrap_or_default();
        match (place(kind, over_tls), resource.get("@id")?) {
            // Upstream names mirrors of one service; ours is one.
            (Some(_), Some(_)) if seen.contains(&kind.to_owned()) => keep.push(false),
            (Some(place), Some(id)) => {
                edits.replace(id.range(), quoted(&format!("{base}{place}")));
                seen.push(kind.to_owned());
                keep.push(true);
            }
            _ => keep.push(passed_on(kind)),
        }
    }
    let ranges: Vec<_> = resources.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| keep.get(index).copied().unwrap_or(false));
    Ok(edits.apply())
}

/// Leads upstream's addresses to ours.
pub struct Addresses {
    /// Upstream's prefix and our place for it, the longest first.
    prefixes: Vec<(String, String)>,
}

impl Addresses {
    pub fn new(directory: Option<&[u8]>, base: &str) -> Self {
        let mut prefixes = Vec::new();
        for service in services(directory.unwrap_or_default()) {
            let kinds: Vec<String> = match &service.kind {
                Value::String(kind) => vec![kind.clone()],
                Value::Array(kinds) => kinds
                    .iter()
                    .filter_map(|kind| Some(kind.as_str()?.to_owned()))
                    .collect(),
                _ => Vec::new(),
            };
            for kind in kinds {
                let Some(place) = place(&kind, true) else {
                    continue;
                };
                if place.ends_with('/') {
                    let id = format!("{}/", service.id.trim_end_matches('/'));
                    prefixes.push((id, format!("{base}{place}")));
                }
            }
        }
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { prefixes }
    }

    /// Our address for one of upstream's; `None` where the service index does not lead there.
    pub fn ours(&self, url: &str) -> Option<String> {
        self.prefixes.iter().find_map(|(prefix, place)| {
            // Hosts are the same in any case; upstream's documents are not careful about it.
            let head = url.get(..prefix.len())?;
            let rest = url.get(prefix.len()..)?;
            head.eq_ignore_ascii_case(prefix)
                .then(|| format!("{place}{rest}"))
        })
    }
}
