//! What registrations say of a package's files.

use jiff::Timestamp;
use url::Url;

use super::FLAT;
use super::registration::{self, string};
use crate::format::json::Node;
use crate::format::{FactsPart, FormatError, Resource, Upstream, date};
use crate::package::{AssetFacts, Expectation, Location, PackageId, Promise};

pub fn facts(package: &PackageId, upstream: &Upstream<'_>) -> Result<FactsPart, FormatError> {
    let mut part = FactsPart::default();
    for page in registration::pages(Node::document(upstream.bytes)?)? {
        let Some(leaves) = page.leaves else {
            let url = string(&page.node, "@id")
                .and_then(|id| upstream.url.join(&id).ok())
                .ok_or_else(|| FormatError::shape("a registration page has no address"))?;
            part.more.push(Resource {
                key: format!("registration-page:{url}"),
                location: Location::Url(url),
                accept: "application/json",
            });
            continue;
        };
        for leaf in leaves {
            let published = string(&leaf.entry, "published").and_then(|text| published(&text));
            files(package, upstream, &leaf, published, &mut part.assets);
        }
    }
    Ok(part)
}

/// Unlisting puts the year 1900 in the place of the date: then it is not known.
fn published(text: &str) -> Option<Timestamp> {
    date(text).filter(|date| date.as_second() > 0)
}

fn files(
    package: &PackageId,
    upstream: &Upstream<'_>,
    leaf: &registration::Leaf<'_>,
    published: Option<Timestamp>,
    assets: &mut Vec<AssetFacts>,
) {
    let (id, version) = (package.name(), &leaf.version);
    let flat = |file: &str| Location::Service {
        types: FLAT,
        path: format!("{id}/{version}/{file}"),
    };
    let nupkg = format!("{id}.{version}.nupkg");
    let content = string(&leaf.node, "packageContent")
        .or_else(|| string(&leaf.entry, "packageContent"))
        .and_then(|url| upstream.url.join(&url).ok())
        .map_or_else(|| flat(&nupkg), Location::Url);
    let catalog = string(&leaf.entry, "@id").and_then(|id| Url::parse(&id).ok());
    let promised = catalog.map_or(Expectation::FirstSeen, |url| {
        Expectation::Promised(vec![Promise {
            location: Location::Url(url),
            algorithm: None,
        }])
    });
    let mut push = |file: &str, location, expectation| {
        assets.push(AssetFacts {
            file: format!("{version}/{file}").into(),
            version: version.as_str().into(),
            location,
            expectation,
            published,
            mutable: false,
        });
    };
    push(&nupkg, content, promised);
    let nuspec = format!("{id}.nuspec");
    for file in [nuspec.as_str(), "readme", "icon", "license"] {
        push(file, flat(file), Expectation::FirstSeen);
    }
}
