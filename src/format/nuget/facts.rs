//! Reads facts about a package's files from NuGet's registrations.

use http::Method;
use jiff::Timestamp;
use url::Url;

use super::registration::{self, string};
use super::service::Addresses;
use super::{FLAT, Nuget, path};
use crate::json::Node;
use crate::package::{
    AssetFacts, Expectation, Location, PackageId, PackedFacts, Promise, UpstreamPath,
};
use crate::{
    ClientRequest, Documents as _, FactsPart, FormatError, Resource, Target, Upstream, date,
};

pub fn facts(
    package: &PackageId,
    upstream: &Upstream<'_>,
    assets: PackedFacts,
) -> Result<FactsPart, FormatError> {
    let mut part = FactsPart {
        assets,
        more: Vec::new(),
    };
    registration::each_page(Node::document(upstream.bytes)?, |page| {
        let Some(leaves) = page.leaves()? else {
            let url = string(&page.node, "@id")?
                .and_then(|id| upstream.url.join(&id).ok())
                .ok_or_else(|| FormatError::shape("a registration page has no address"))?;
            part.more.push(page_at(&url, upstream.directory));
            return Ok(());
        };
        leaves.each_element(|leaf| {
            let leaf = registration::leaf(&leaf)?;
            let published = string(&leaf.entry, "published")?.and_then(|text| published(&text));
            files(package, upstream, &leaf, published, &mut part.assets)
        })
    })?;
    Ok(part)
}

/// The page's resource, under the name by which clients come to it.
fn page_at(url: &Url, directory: Option<&[u8]>) -> Resource {
    let ours = Addresses::new(directory, "").ours(url.as_str());
    let target = ours.and_then(|rest| {
        let asked = path::parse(&ClientRequest {
            method: &Method::GET,
            rest: &rest,
            query: None,
            accept: "",
        });
        asked.ok()
    });
    let key = match target {
        Some(Target::Document(id)) => Nuget.resource(&id, false).key,
        _ => format!("elsewhere:{url}"),
    };
    Resource {
        key,
        location: Location::Url(url.clone()),
        accept: "application/json",
    }
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
    assets: &mut PackedFacts,
) -> Result<(), FormatError> {
    let Some(version) = &leaf.version else {
        return Ok(());
    };
    let id = package.name();
    let flat = |file: &str| Location::Service {
        types: FLAT,
        path: UpstreamPath::new(id).join(version).join(file),
    };
    let nupkg = format!("{id}.{version}.nupkg");
    let content = match string(&leaf.node, "packageContent")? {
        Some(content) => Some(content),
        None => string(&leaf.entry, "packageContent")?,
    };
    let content = content
        .and_then(|url| upstream.url.join(&url).ok())
        .map_or_else(|| flat(&nupkg), Location::Url);
    let catalog = string(&leaf.entry, "@id")?.and_then(|id| Url::parse(&id).ok());
    let promised = catalog.map_or(Expectation::FirstSeen, |url| {
        Expectation::Promised(vec![Promise {
            location: Location::Url(url),
            algorithm: None,
        }])
    });
    let listed = leaf
        .entry
        .get_in_any_case("listed")?
        .map(|listed| listed.read::<bool>());
    let is_withdrawn = matches!(listed, Some(Ok(false)));
    let mut push = |file: &str, location, expectation| {
        assets.push(&AssetFacts {
            file: format!("{version}/{file}").into(),
            version: version.as_str().into(),
            location,
            expectation,
            published,
            mutable: false,
            runs_on: Box::default(),
            is_withdrawn,
        });
    };
    push(&nupkg, content, promised);
    let nuspec = format!("{id}.nuspec");
    for file in [nuspec.as_str(), "readme", "icon", "license"] {
        push(file, flat(file), Expectation::FirstSeen);
    }
    Ok(())
}
