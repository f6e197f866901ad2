//! Documents of our own packages, in the form in which a registry sends them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::NpmView;
use super::version::newest;
use crate::json::quoted;
use crate::package::{Algorithm, Listing, Release, Status, Summary};
use crate::{DocumentId, FormatError, OWN, Own, Search, View, query_of};

const JSON: &str = "application/json";

pub fn compose(
    document: &DocumentId,
    own: Own<'_>,
) -> Result<Option<(Vec<u8>, &'static str)>, FormatError> {
    let View::Npm(view) = &document.view else {
        return Err(FormatError::shape("not a document of npm"));
    };
    match (view, own) {
        (NpmView::Keys | NpmView::Attestations(_), _) => Ok(None),
        (NpmView::Search(_), Own::Found(found, total)) => Ok(Some((search(found, total), JSON))),
        (_, Own::Package(listing)) if listed(listing).next().is_some() => {
            Ok(Some((packument(listing), JSON)))
        }
        _ => Ok(None),
    }
}

/// The version whose manifest is asked for, by its number or by a tag.
pub fn only_version<'a>(document: &'a DocumentId, listing: &'a Listing) -> Option<&'a str> {
    let View::Npm(NpmView::Manifest(wanted)) = &document.view else {
        return None;
    };
    let tagged = listing.tags.get(wanted).unwrap_or(wanted);
    listing.release(tagged).map(|release| &*release.version)
}

pub fn search_of(document: &DocumentId) -> Option<Search> {
    let View::Npm(NpmView::Search(query)) = &document.view else {
        return None;
    };
    let mut query = query_of(Some(query));
    let mut number = |name: &str| query.remove(name).and_then(|text| text.parse().ok());
    let (skip, limit) = (number("from").unwrap_or(0), number("size").unwrap_or(20));
    Some(Search {
        words: query.remove("text").unwrap_or_default(),
        skip,
        limit: limit.min(250),
    })
}

fn listed(listing: &Listing) -> impl Iterator<Item = &Release> {
    listing
        .versions
        .iter()
        .filter(|release| release.status == Status::Published)
}

fn packument(listing: &Listing) -> Vec<u8> {
    let name = listing.package.full_name();
    let mut out = format!(
        "{{\"_id\":{0},\"_rev\":{1},\"name\":{0}",
        quoted(&name),
        quoted(&format!("1-{}", listing.revision))
    );
    let shown = |version: &str| {
        listing
            .release(version)
            .is_some_and(|release| release.status == Status::Published)
    };
    let mut tags: Vec<(&str, &str)> = listing
        .tags
        .iter()
        .filter(|(_, version)| shown(version))
        .map(|(tag, version)| (tag.as_str(), version.as_str()))
        .collect();
    // Clients do not go on without it.
    if !tags.iter().any(|(tag, _)| *tag == "latest")
        && let Some(newest) = newest(listed(listing).map(|it| &*it.version))
    {
        tags.push(("latest", newest));
    }
    out.push_str(",\"dist-tags\":{");
    for (index, (tag, version)) in tags.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}{}:{}", quoted(tag), quoted(version));
    }
    out.push_str("},\"versions\":{");
    for (index, release) in listed(listing).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            out,
            "{comma}{}:{}",
            quoted(&release.version),
            manifest(listing, release)
        );
    }
    let created = listing.versions.first().map(|release| release.published);
    let _ = write!(
        out,
        "}},\"time\":{{\"created\":\"{:.3}\",\"modified\":\"{:.3}\"",
        created.unwrap_or(listing.changed),
        listing.changed
    );
    for release in listed(listing) {
        let _ = write!(
            out,
            ",{}:\"{:.3}\"",
            quoted(&release.version),
            release.published
        );
    }
    out.push_str("}}");
    out.into_bytes()
}

/// The manifest with what the registry adds to it.
fn manifest(listing: &Listing, release: &Release) -> String {
    let name = listing.package.full_name();
    let dist = release.served().next().map_or_else(
        || "{}".to_owned(),
        |asset| {
            json!({
                "tarball": format!("{OWN}{name}/-/{}", asset.file),
                "shasum": asset.sha1,
                "integrity": format!("sha512-{}", asset.digest_base64(Algorithm::Sha512)),
            })
            .to_string()
        },
    );
    let id = quoted(&format!("{name}@{}", release.version));
    let rest = release
        .manifest
        .strip_prefix('{')
        .filter(|rest| *rest != "}")
        .map_or_else(|| "}".to_owned(), |rest| format!(",{rest}"));
    format!("{{\"_id\":{id},\"dist\":{dist}{rest}")
}

fn search(found: &[Summary], total: u64) -> Vec<u8> {
    let objects: Vec<Value> = found
        .iter()
        .map(|one| {
            let name = one.package.strip_prefix("npm:").unwrap_or(&one.package);
            let scope = name
                .strip_prefix('@')
                .and_then(|rest| Some(rest.split_once('/')?.0));
            json!({
                "package": {
                    "name": name,
                    "scope": scope.unwrap_or("unscoped"),
                    "version": one.latest,
                    "description": one.description,
                    "keywords": [],
                    "links": {},
                },
                "score": { "final": 1, "detail": { "quality": 1, "popularity": 1, "maintenance": 1 } },
                "searchScore": 1,
            })
        })
        .collect();
    json!({ "objects": objects, "total": total })
        .to_string()
        .into_bytes()
}
