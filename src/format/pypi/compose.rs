//! Pages of our own packages, in the form in which an index sends them (PEP 691, PEP 700).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::version::normalised;
use super::{JSON_TYPE, Pypi, PypiView};
use crate::package::{Algorithm, Listing, Release, ReleaseAsset, Status};
use crate::path;
use crate::{DocumentId, FormatError, OWN, Own, Search, Versions as _, View};

/// The facts that are stored of a file, beside its digests.
#[derive(Default, Deserialize)]
struct Facts {
    requires_python: Option<String>,
    metadata_sha256: Option<String>,
}

pub fn compose(
    document: &DocumentId,
    own: Own<'_>,
) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
    match (&document.view, own) {
        (View::Pypi(PypiView::Project(_)), Own::Package(listing))
            if !listing.versions.is_empty() =>
        {
            Ok(Some((project(listing)?, JSON_TYPE)))
        }
        (View::Pypi(PypiView::Legacy { version }), Own::Package(listing)) => {
            Ok(legacy(listing, version.as_deref())?.map(|page| (page, "application/json")))
        }
        _ => Ok(None),
    }
}

pub fn search_of(document: &DocumentId) -> Option<Search> {
    matches!(document.view, View::Pypi(PypiView::Index(_))).then(|| Search {
        limit: usize::MAX,
        ..Search::default()
    })
}

/// The versions that pages show. An unlisted one is yanked (PEP 592): there for who pins it.
fn shown(listing: &Listing) -> impl Iterator<Item = &Release> {
    listing
        .versions
        .iter()
        .filter(|release| release.status.is_served())
}

fn files(release: &Release) -> impl Iterator<Item = &ReleaseAsset> {
    release
        .served()
        .filter(|asset| !asset.file.ends_with(".metadata"))
}

/// `https://-/{file}`, whose place below the project is `-/{file}`.
fn url(asset: &ReleaseAsset) -> String {
    format!("{OWN}{}", path::last_segment(&asset.file))
}

fn project(listing: &Listing) -> Result<Vec<u8>, FormatError> {
    let versions: Vec<&str> = shown(listing).map(|release| &*release.version).collect();
    let mut entries = Vec::new();
    for release in shown(listing) {
        for asset in files(release) {
            let facts: Facts = serde_json::from_str(&asset.facts)?;
            let mut entry = Map::new();
            let mut set = |name: &str, value: Value| entry.insert(name.to_owned(), value);
            set("filename", path::last_segment(&asset.file).into());
            set("url", url(asset).into());
            set(
                "hashes",
                json!({ "sha256": asset.digest(Algorithm::Sha256) }),
            );
            set("size", asset.size.into());
            set("upload-time", format!("{:.6}", asset.published).into());
            set("yanked", (release.status == Status::Unlisted).into());
            if let Some(requires_python) = facts.requires_python {
                set("requires-python", requires_python.into());
            }
            let metadata = facts
                .metadata_sha256
                .map_or(Value::Bool(false), |hash| json!({ "sha256": hash }));
            // Not by the older name too: pip 23.0 fails on digests there (PEP 714).
            set("core-metadata", metadata);
            entries.push(Value::Object(entry));
        }
    }
    Ok(json!({
        "meta": { "api-version": "1.1" },
        "name": listing.package.name(),
        "versions": versions,
        "files": entries,
    })
    .to_string()
    .into_bytes())
}

/// The older JSON document; `None` where there is no such version.
fn legacy(listing: &Listing, version: Option<&str>) -> Result<Option<Vec<u8>>, FormatError> {
    let of_release = |release: &Release| -> Vec<Value> {
        files(release)
            .map(|asset| {
                json!({
                    "filename": path::last_segment(&asset.file),
                    "url": url(asset),
                    "digests": {
                        "md5": asset.digest(Algorithm::Md5),
                        "sha256": asset.digest(Algorithm::Sha256),
                    },
                    "packagetype": if asset.file.ends_with(".whl") { "bdist_wheel" } else { "sdist" },
                    "size": asset.size,
                    "upload_time_iso_8601": format!("{:.6}", asset.published),
                    "yanked": release.status == Status::Unlisted,
                })
            })
            .collect()
    };
    let chosen = match version {
        Some(version) => {
            shown(listing).find(|release| normalised(&release.version) == normalised(version))
        }
        None => shown(listing)
            .filter(|release| release.status == Status::Published)
            .max_by(|a, b| Pypi.compare_choice(&a.version, &b.version)),
    };
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    let releases: Map<String, Value> = shown(listing)
        .map(|release| (release.version.to_string(), of_release(release).into()))
        .collect();
    let info: Value = serde_json::from_str(&chosen.manifest)?;
    Ok(Some(
        json!({ "info": info, "releases": releases, "urls": of_release(chosen) })
            .to_string()
            .into_bytes(),
    ))
}
