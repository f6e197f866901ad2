//! Documents of our own packages, in the form in which a source sends them.
//! Source: the NuGet Server API reference.

use serde_json::{Map, Value, json};

use super::{NugetView, name, version};
use crate::package::{Listing, Release, Status, Summary};
use crate::{DocumentId, FormatError, OWN, Own, Search, View, query_of};

const JSON: &str = "application/json";

/// Where our own documents say that things are.
const PLACES: &[(&str, &str)] = &[
    ("PackageBaseAddress/3.0.0", "flat/"),
    ("RegistrationsBaseUrl", "registration/"),
    ("RegistrationsBaseUrl/3.4.0", "registration-gz/"),
    ("RegistrationsBaseUrl/3.6.0", "registration-gz-semver2/"),
    ("SearchQueryService", "query"),
    ("SearchQueryService/3.5.0", "query"),
    ("SearchAutocompleteService", "autocomplete"),
    ("SearchAutocompleteService/3.5.0", "autocomplete"),
    ("PackagePublish/2.0.0", "api/v2/package"),
    ("SymbolPackagePublish/4.9.0", "api/v2/symbolpackage"),
];

pub fn directory() -> Vec<u8> {
    let resources: Vec<Value> = PLACES
        .iter()
        .map(|(kind, place)| json!({ "@id": format!("{OWN}{place}"), "@type": kind }))
        .collect();
    json!({ "version": "3.0.0", "resources": resources })
        .to_string()
        .into_bytes()
}

pub fn compose(
    document: &DocumentId,
    own: Own<'_>,
) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
    let View::Nuget(view) = &document.view else {
        return Err(FormatError::shape("not a document of NuGet"));
    };
    let body = match (view, own) {
        (NugetView::ServiceIndex, Own::Found(..)) => Some(directory()),
        (NugetView::FlatIndex, Own::Package(listing)) => flat_index(listing),
        (NugetView::Registration { form, path }, Own::Package(listing)) => {
            registration(form.folder(), path, listing)?
        }
        (NugetView::Search { .. }, Own::Found(found, total)) => Some(search(found, total)),
        (NugetView::Autocomplete { .. }, Own::Found(found, total)) => {
            let ids: Vec<&str> = found.iter().map(id_of).collect();
            Some(
                json!({ "totalHits": total, "data": ids })
                    .to_string()
                    .into_bytes(),
            )
        }
        (NugetView::Autocomplete { query }, Own::Package(listing)) => {
            Some(autocomplete(query, listing))
        }
        _ => None,
    };
    Ok(body.map(|body| (body, JSON)))
}

pub fn search_of(document: &DocumentId) -> Option<Search> {
    let query = match &document.view {
        View::Nuget(NugetView::Autocomplete { .. }) if document.package.is_some() => return None,
        View::Nuget(NugetView::Search { query } | NugetView::Autocomplete { query }) => query,
        // Nothing is looked for, and yet the index is.
        View::Nuget(NugetView::ServiceIndex) => return Some(Search::default()),
        _ => return None,
    };
    let mut query = query_of(Some(query));
    let mut number = |name: &str| query.remove(name).and_then(|text| text.parse().ok());
    let (skip, limit) = (number("skip").unwrap_or(0), number("take").unwrap_or(20));
    Some(Search {
        words: query.remove("q").unwrap_or_default(),
        skip,
        limit: limit.min(1000),
    })
}

/// In ascending order; unlisted ones are there for who names them.
fn shown(listing: &Listing) -> Vec<&Release> {
    let mut shown: Vec<&Release> = listing
        .versions
        .iter()
        .filter(|release| release.status.is_served())
        .collect();
    shown.sort_by(|a, b| version::compare(&a.version, &b.version));
    shown
}

/// The versions that are listed, prereleases where they are asked for.
/// Source: NuGet's page on the autocomplete service.
fn autocomplete(query: &str, listing: &Listing) -> Vec<u8> {
    let word = query_of(Some(query)).remove("prerelease");
    let has_prereleases = word.is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let versions: Vec<String> = shown(listing)
        .into_iter()
        .filter(|release| release.status == Status::Published)
        .map(|release| release.version.to_lowercase())
        .filter(|version| has_prereleases || !version::is_prerelease(version))
        .collect();
    json!({ "totalHits": versions.len(), "data": versions })
        .to_string()
        .into_bytes()
}

fn flat_index(listing: &Listing) -> Option<Vec<u8>> {
    let versions: Vec<String> = shown(listing)
        .into_iter()
        .map(|release| release.version.to_lowercase())
        .collect();
    (!versions.is_empty()).then(|| json!({ "versions": versions }).to_string().into_bytes())
}

fn registration(
    folder: &str,
    path: &str,
    listing: &Listing,
) -> Result<Option<Vec<u8>>, FormatError> {
    let id = listing.package.name();
    let base = format!("{OWN}{folder}/{id}/");
    let index = format!("{base}index.json");
    let shown = shown(listing);
    let (Some(lower), Some(upper)) = (shown.first(), shown.last()) else {
        return Ok(None);
    };
    let file = path.split_once('/').map_or(path, |(_, file)| file);
    if file != "index.json" {
        let Some(release) = file.strip_suffix(".json").and_then(|wanted| {
            let wanted = version::normalised(wanted);
            shown
                .iter()
                .find(|release| release.version.eq_ignore_ascii_case(&wanted))
        }) else {
            return Ok(None);
        };
        let leaf = json!({
            "@id": format!("{base}{file}"),
            "@type": ["Package", "http://schema.nuget.org/catalog#Permalink"],
            "listed": release.status == Status::Published,
            "packageContent": content(id, release),
            "published": published(release),
            "registration": index,
            "catalogEntry": entry(&base, release)?,
        });
        return Ok(Some(leaf.to_string().into_bytes()));
    }
    let leaves: Vec<Value> = shown
        .iter()
        .map(|release| {
            Ok(json!({
                "@id": format!("{base}{}.json", release.version.to_lowercase()),
                "@type": "Package",
                "packageContent": content(id, release),
                "registration": index,
                "catalogEntry": entry(&base, release)?,
            }))
        })
        .collect::<Result<_, FormatError>>()?;
    let page = json!({
        "@id": format!("{index}#page"),
        "@type": "catalog:CatalogPage",
        "count": leaves.len(),
        "lower": lower.version,
        "upper": upper.version,
        "parent": index,
        "items": leaves,
    });
    Ok(Some(
        json!({
            "@id": index,
            "@type": ["catalog:CatalogRoot", "PackageRegistration", "catalog:Permalink"],
            "count": 1,
            "items": [page],
        })
        .to_string()
        .into_bytes(),
    ))
}

fn content(id: &str, release: &Release) -> String {
    let version = release.version.to_lowercase();
    format!("{OWN}flat/{id}/{version}/{id}.{version}.nupkg")
}

/// An unlisted version was never published, as clients read it.
fn published(release: &Release) -> String {
    if release.status == Status::Published {
        release.published.to_string()
    } else {
        "1900-01-01T00:00:00+00:00".to_owned()
    }
}

fn entry(base: &str, release: &Release) -> Result<Value, FormatError> {
    let mut entry: Map<String, Value> = serde_json::from_str(&release.manifest)?;
    let leaf = format!("{base}{}.json", release.version.to_lowercase());
    entry.insert("@id".to_owned(), format!("{leaf}#entry").into());
    entry.insert("@type".to_owned(), "PackageDetails".into());
    entry.insert(
        "listed".to_owned(),
        (release.status == Status::Published).into(),
    );
    entry.insert("published".to_owned(), published(release).into());
    Ok(Value::Object(entry))
}

fn id_of(one: &Summary) -> &str {
    one.package.strip_prefix("nuget:").unwrap_or(&one.package)
}

fn search(found: &[Summary], total: u64) -> Vec<u8> {
    let data: Vec<Value> = found
        .iter()
        .filter(|one| name::parse(id_of(one)).is_ok())
        .map(|one| {
            let id = id_of(one);
            let registration = format!("{OWN}registration-gz-semver2/{id}/");
            let leaf = format!("{registration}{}.json", one.latest.to_lowercase());
            json!({
                "@id": format!("{registration}index.json"),
                "@type": "Package",
                "registration": format!("{registration}index.json"),
                "id": id,
                "version": one.latest,
                "description": one.description,
                "totalDownloads": 0,
                "packageTypes": [{ "name": "Dependency" }],
                "versions": [{ "version": one.latest, "downloads": 0, "@id": leaf }],
            })
        })
        .collect();
    json!({ "totalHits": total, "data": data })
        .to_string()
        .into_bytes()
}
