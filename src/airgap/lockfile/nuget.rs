//! packages.lock.json, project.assets.json and packages.config. The hashes that they say are of a
//! package without its signature, so the registry's own promise is what is held against the bytes.
//! Source: NuGet's documentation.

use std::collections::BTreeMap;

use quick_xml::de::from_str;
use serde::Deserialize;

use super::{Needs, Read, json, want};
use crate::format::plain;
use crate::package::Format;

pub fn lockfile(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Lockfile {
        #[serde(default)]
        dependencies: BTreeMap<String, BTreeMap<String, Resolved>>,
    }
    #[derive(Deserialize)]
    struct Resolved {
        #[serde(rename = "type")]
        kind: String,
        resolved: Option<String>,
    }
    let lockfile: Lockfile = json(text)?;
    let mut needs = Needs::default();
    for (name, one) in lockfile.dependencies.into_values().flatten() {
        match one.resolved {
            Some(version) if one.kind != "Project" => {
                needs.wants.push(want(Format::Nuget, &name, &version)?);
            }
            _ => {}
        }
    }
    Ok(needs)
}

pub fn assets(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Assets {
        #[serde(default)]
        libraries: BTreeMap<String, Library>,
        project: Option<Project>,
    }
    #[derive(Deserialize)]
    struct Library {
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(Deserialize)]
    struct Project {
        #[serde(default)]
        frameworks: BTreeMap<String, Framework>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Framework {
        /// Packs of the framework itself, which no library names.
        #[serde(default)]
        download_dependencies: Vec<Download>,
    }
    #[derive(Deserialize)]
    struct Download {
        name: String,
        version: String,
    }
    let assets: Assets = json(text)?;
    let mut needs = Needs::default();
    for (key, library) in assets.libraries {
        if library.kind != "package" {
            continue;
        }
        let (name, version) = key
            .split_once('/')
            .ok_or_else(|| format!("`{key}` is not name/version"))?;
        needs.wants.push(want(Format::Nuget, name, version)?);
    }
    let frameworks = assets
        .project
        .into_iter()
        .flat_map(|it| it.frameworks.into_values());
    for one in frameworks.flat_map(|framework| framework.download_dependencies) {
        // An exact range, `[8.0.1, 8.0.1]`.
        let version = one.version.trim_start_matches('[').split(',').next();
        let version = version.unwrap_or_default().trim_end_matches(']').trim();
        needs.wants.push(want(Format::Nuget, &one.name, version)?);
    }
    Ok(needs)
}

pub fn packages_config(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Packages {
        #[serde(default)]
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        #[serde(rename = "@id")]
        id: String,
        #[serde(rename = "@version")]
        version: String,
    }
    let packages: Packages = from_str(text).map_err(|_| plain::XML.to_owned())?;
    let mut needs = Needs::default();
    for one in packages.package {
        needs
            .wants
            .push(want(Format::Nuget, &one.id, &one.version)?);
    }
    Ok(needs)
}
