//! npm's package-lock.json and npm-shrinkwrap.json, versions 1 to 3.
//! Source: npm's documentation of package-lock.json.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Needs, Read, json, want};
use crate::airgap::platform::Platforms;
use crate::airgap::want::WantedFile;
use crate::package::{Expected, Format};

#[derive(Deserialize)]
struct Lockfile {
    packages: Option<BTreeMap<String, Package>>,
    /// Present in lockfiles of version 1.
    dependencies: Option<BTreeMap<String, Dependency>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    /// Where it is not the folder's.
    name: Option<String>,
    version: Option<String>,
    resolved: Option<String>,
    integrity: Option<String>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    in_bundle: bool,
    #[serde(default)]
    os: Vec<String>,
    #[serde(default)]
    cpu: Vec<String>,
    #[serde(default)]
    libc: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    version: String,
    integrity: Option<String>,
    #[serde(default)]
    bundled: bool,
    dependencies: Option<BTreeMap<String, Dependency>>,
}

pub fn read(text: &str, platforms: &Platforms) -> Read {
    let lockfile: Lockfile = json(text)?;
    let mut needs = Needs::default();
    match (lockfile.packages, lockfile.dependencies) {
        (Some(packages), _) => {
            for (folder, package) in packages {
                add(&mut needs, &folder, &package, platforms)?;
            }
        }
        (None, Some(dependencies)) => add_all(&mut needs, dependencies, 0)?,
        (None, None) => return Err("it has neither `packages` nor `dependencies`".to_owned()),
    }
    Ok(needs)
}

fn add(
    needs: &mut Needs,
    folder: &str,
    package: &Package,
    platforms: &Platforms,
) -> Result<(), String> {
    // Folders of the project itself, and what comes within another package's tarball.
    let Some((_, folder)) = folder.rsplit_once("node_modules/") else {
        return Ok(());
    };
    if package.link || package.in_bundle {
        return Ok(());
    }
    if !platforms.npm(&package.os, &package.cpu, &package.libc) {
        return Ok(());
    }
    let name = package.name.as_deref().unwrap_or(folder);
    let is_web = |url: &str| url.starts_with("http:") || url.starts_with("https:");
    match (&package.version, &package.resolved) {
        (Some(version), resolved) if resolved.as_deref().is_none_or(is_web) => {
            let file = tarball(package.integrity.as_deref());
            needs
                .wants
                .push(want(Format::Npm, name, version)?.with(file));
        }
        (_, resolved) => {
            needs.elsewhere(format!(
                "{name}: {}",
                resolved.as_deref().unwrap_or("no version")
            ));
        }
    }
    Ok(())
}

/// Dependencies within dependencies. Deeper ones are no lockfile of npm's; the reader of JSON would
/// refuse twice as many.
const DEPTH_MAX: usize = 32;

fn add_all(
    needs: &mut Needs,
    dependencies: BTreeMap<String, Dependency>,
    depth: usize,
) -> Result<(), String> {
    if depth >= DEPTH_MAX {
        return Err("it is nested too deep".to_owned());
    }
    for (name, dependency) in dependencies {
        if let Some(within) = dependency.dependencies {
            add_all(needs, within, depth + 1)?;
        }
        if dependency.bundled {
            continue;
        }
        let (name, version) = match dependency.version.strip_prefix("npm:") {
            Some(alias) => alias.rsplit_once('@').unwrap_or((alias, "")),
            None => (name.as_str(), dependency.version.as_str()),
        };
        if version.contains([':', '/']) || version.is_empty() {
            needs.elsewhere(format!("{name}: {}", dependency.version));
            continue;
        }
        let file = tarball(dependency.integrity.as_deref());
        needs
            .wants
            .push(want(Format::Npm, name, version)?.with(file));
    }
    Ok(())
}

/// The one file of a version, by what the lockfile promises of it.
pub(super) fn tarball(integrity: Option<&str>) -> WantedFile {
    let expected = Expected::from_integrity(integrity.unwrap_or_default());
    WantedFile::of("", expected.strongest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_within_dependencies_are_nested_no_deeper_than_may_be() {
        let nested = |depth: usize| {
            let begin = r#"{"dependencies":{"a":{"version":"1.0.0""#;
            let mut text = begin.to_owned();
            for _ in 1..depth {
                text.push_str(&begin.replacen('{', ",", 1));
            }
            text.push_str(&"}}".repeat(depth));
            text.push('}');
            read(&text, &Platforms::default())
        };
        assert_eq!(nested(DEPTH_MAX).unwrap().wants.len(), DEPTH_MAX);
        let why = nested(DEPTH_MAX + 1).err().unwrap();
        assert!(why.contains("nested too deep"), "{why}");
    }
}
