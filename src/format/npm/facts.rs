//! Reads the facts about tarballs from a packument, and the paths by which we serve them.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::{name, scan};
use crate::json::Node;
use crate::package::{
    Algorithm, AssetFacts, AssetId, Digest, Expectation, Expected, Location, PackageId,
    PackedFacts, Promise, UpstreamPath,
};
use crate::{FactsPart, FormatError, Upstream, date, path};

/// The part of a version's `dist` that says where the tarball is and what it must be.
#[derive(Debug, Default, Deserialize)]
struct Dist<'a> {
    #[serde(borrow)]
    tarball: Option<Cow<'a, str>>,
    #[serde(borrow)]
    integrity: Option<Cow<'a, str>>,
    #[serde(borrow)]
    shasum: Option<Cow<'a, str>>,
}

pub fn facts(
    package: &PackageId,
    upstream: &Upstream<'_>,
    mut assets: PackedFacts,
) -> Result<FactsPart, FormatError> {
    let root = Node::object_document(upstream.bytes)?;
    let times = root.get("time").map_or_else(Vec::new, times);
    let published = |version: &str| {
        let found = times.binary_search_by(|(name, _)| name.as_ref().cmp(version));
        times.get(found.ok()?).map(|(_, date)| *date)
    };
    let Some(versions) = root.get("versions") else {
        return Ok(FactsPart {
            assets,
            more: Vec::new(),
        });
    };
    versions.each_member(|version| {
        // No path can name its file, but another package's.
        if version.name.contains(['/', '\\', '%']) {
            return Ok(());
        }
        let Some(dist) = version.value.get("dist")? else {
            return Ok(());
        };
        let dist: Dist<'_> = dist.read()?;
        let Some(url) = dist
            .tarball
            .as_deref()
            .and_then(|url| upstream.url.join(url).ok())
        else {
            return Ok(());
        };
        assets.push(&AssetFacts {
            file: file(package, &version.name, &url).into(),
            version: version.name.as_ref().into(),
            location: Location::Url(url),
            expectation: expectation(&dist),
            published: published(&version.name),
            mutable: false,
            runs_on: Box::default(),
            is_withdrawn: false,
        });
        Ok(())
    })?;
    Ok(FactsPart {
        assets,
        more: Vec::new(),
    })
}

/// The dates by version, in the order of their texts. None where they cannot be read: then no
/// version has a date.
fn times(node: Node<'_>) -> Vec<(Cow<'_, str>, Timestamp)> {
    let mut times = Vec::new();
    let read = node.each_member(|member| {
        if let Some(date) = member.value.string().and_then(|text| date(&text)) {
            times.push((member.name, date));
        }
        Ok(())
    });
    if read.is_err() {
        return Vec::new();
    }
    times.sort_unstable();
    times
}

/// The facts of one tarball of the usual name, without those of all others.
pub fn fact(asset: &AssetId, upstream: &Upstream<'_>) -> Option<AssetFacts> {
    let version = usual_version(asset)?;
    let document = Node::document(upstream.bytes).ok()?;
    let dist: Dist<'_> = scan::manifest(&document, version)?
        .get("dist")
        .ok()??
        .read()
        .ok()?;
    let url = upstream.url.join(dist.tarball.as_deref()?).ok()?;
    let is_it = file(&asset.package, version, &url) == *asset.file;
    is_it.then(|| AssetFacts {
        file: asset.file.clone(),
        version: version.into(),
        location: Location::Url(url),
        expectation: expectation(&dist),
        published: None,
        mutable: false,
        runs_on: Box::default(),
        is_withdrawn: false,
    })
}

/// The version that a file of the usual name has in it.
fn usual_version(asset: &AssetId) -> Option<&str> {
    let stem = asset.file.strip_suffix(".tgz")?;
    let version = stem.strip_prefix(asset.package.name())?.strip_prefix('-')?;
    nodejs_semver::Version::parse(version).ok()?;
    Some(version)
}

/// `integrity`, else `shasum`, else whatever comes first.
fn expectation(dist: &Dist<'_>) -> Expectation {
    let integrity = Expected::from_integrity(dist.integrity.as_deref().unwrap_or_default());
    if !integrity.is_empty() {
        return Expectation::Known(integrity);
    }
    dist.shasum
        .as_deref()
        .and_then(|shasum| Digest::from_hex(Algorithm::Sha1, shasum).ok())
        .map_or(Expectation::FirstSeen, |shasum| {
            Expectation::Known(Expected::from_iter([shasum]))
        })
}

/// Where registries keep a tarball of this name.
pub fn usual_place(asset: &AssetId) -> Location {
    let path = UpstreamPath::new(&asset.package.full_name()).join("-");
    Location::Path(path.join(&asset.file))
}

/// A tarball of the usual name lies at the usual place, and its version's manifest, `/{name}/{version}`,
/// says what it must be: a few kilobytes in the place of a packument's hundreds.
pub fn predicted_facts(asset: &AssetId) -> Option<AssetFacts> {
    let (package, version) = (&asset.package, usual_version(asset)?);
    let manifest = Promise {
        location: Location::Path(name::segment(&package.full_name()).join(version)),
        algorithm: None,
    };
    Some(AssetFacts {
        file: asset.file.clone(),
        version: version.into(),
        location: usual_place(asset),
        expectation: Expectation::Required(vec![manifest]),
        published: None,
        mutable: false,
        runs_on: Box::default(),
        is_withdrawn: false,
    })
}

/// The digests in a version's manifest.
pub fn promised(manifest: &[u8]) -> Expected {
    let Ok(manifest) = Node::object_document(manifest) else {
        return Expected::none();
    };
    let dist = manifest.get("dist").and_then(|dist| dist.read().ok());
    match dist.map(|dist: Dist<'_>| expectation(&dist)) {
        Some(Expectation::Known(expected)) => expected,
        _ => Expected::none(),
    }
}

/// The file name under which we serve a version's tarball: upstream's own where it has the
/// registry's usual form, `{name}/-/{file}`, and the usual name where upstream keeps it elsewhere.
pub fn file(package: &PackageId, version: &str, url: &Url) -> String {
    usual_file(package, url).map_or_else(
        || format!("{}-{version}.tgz", package.name()),
        str::to_owned,
    )
}

/// The file name of a tarball address of the usual form.
pub fn usual_file<'a>(package: &PackageId, url: &'a Url) -> Option<&'a str> {
    let (before, file) = url.path().rsplit_once("/-/")?;
    let file = path::last_segment(file);
    let plain = file
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.~+".contains(c));
    let before = before.to_ascii_lowercase();
    let ends_with = |name: &str| before.ends_with(&format!("/{}", name.to_ascii_lowercase()));
    (plain
        && !file.is_empty()
        && (ends_with(&package.full_name()) || ends_with(&name::encoded(package))))
    .then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKUMENT: &str = r#"{"name":"left-pad","versions":{
        "1.3.0":{"dist":{"tarball":"https://npm.example/left-pad/-/left-pad-1.3.0.tgz","shasum":"a9993e364706816aba3e25717850c26c9cd0d89d",
          "integrity":"sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=="}},
        "1.2.0":{"dist":{"tarball":"https://cdn.example/x/1.tgz","shasum":"a9993e364706816aba3e25717850c26c9cd0d89d"}},
        "1.1.0":{"dist":{"tarball":"odd.tgz"}},
        "1.0.0":{}},
        "time":{"created":"2014-01-01T00:00:00.000Z","1.3.0":"2018-04-09T01:24:43.000Z","1.2.0":7}}"#;

    #[test]
    fn a_usual_tarball_is_promised_by_its_versions_manifest() {
        let asset = |package: &str, file: &str| AssetId {
            package: name::parse(package).unwrap(),
            file: file.into(),
        };
        let guessed = predicted_facts(&asset("@a/b", "b-1.2.3-rc.1.tgz")).unwrap();
        assert_eq!(&*guessed.version, "1.2.3-rc.1");
        assert_eq!(
            guessed.location,
            Location::Path(UpstreamPath::new("@a/b/-/b-1.2.3-rc.1.tgz"))
        );
        for file in ["b.tgz", "c-1.0.0.tgz", "b-one.tgz", "b-1.0.0.zip"] {
            assert!(predicted_facts(&asset("@a/b", file)).is_none(), "{file}");
        }
        let digest = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let manifest = format!(r#"{{"name":"b","dist":{{"tarball":"x","shasum":"{digest}"}}}}"#);
        let expected = promised(manifest.as_bytes());
        assert_eq!(expected.strongest().unwrap().to_hex(), digest);
        for nothing in [
            "{}",
            "[]",
            "",
            r#"{"dist":{"tarball":"x"}}"#,
            "\"not found\"",
        ] {
            assert!(promised(nothing.as_bytes()).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn facts_name_digest_date_and_address_of_every_tarball() {
        let package = name::parse("left-pad").unwrap();
        let base = Url::parse("https://npm.example/left-pad").unwrap();
        let upstream = Upstream {
            bytes: PACKUMENT.as_bytes(),
            media_type: "application/json",
            url: &base,
            base: &base,
            directory: None,
        };
        let part = facts(&package, &upstream, PackedFacts::new()).unwrap();
        let facts = crate::package::Facts::new(crate::package::Format::Npm, part.assets);
        let of_file = |file: &str| facts.file(file).unwrap().facts().unwrap();
        let newest = of_file("left-pad-1.3.0.tgz");
        let Expectation::Known(expected) = &newest.expectation else {
            panic!("1.3.0 has an integrity")
        };
        assert_eq!(expected.strongest().unwrap().algorithm(), Algorithm::Sha512);
        assert_eq!(newest.published, date("2018-04-09T01:24:43Z"));
        let elsewhere = of_file("left-pad-1.2.0.tgz");
        assert_eq!(
            elsewhere.location,
            Location::Url(Url::parse("https://cdn.example/x/1.tgz").unwrap())
        );
        assert_eq!(elsewhere.published, None);
        assert_eq!(
            facts.version("1.1.0").unwrap().facts().unwrap().expectation,
            Expectation::FirstSeen
        );
        assert!(facts.version("1.0.0").is_none());
        let asset = |file: &str| AssetId {
            package: package.clone(),
            file: file.into(),
        };
        let one = fact(&asset("left-pad-1.3.0.tgz"), &upstream).unwrap();
        assert_eq!(one.expectation, newest.expectation);
        assert_eq!(one.location, newest.location);
        assert!(fact(&asset("left-pad-1.0.0.tgz"), &upstream).is_none());
        assert!(fact(&asset("left-pad-9.0.0.tgz"), &upstream).is_none());
    }
}
