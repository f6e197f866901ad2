//! Python's lockfiles: uv.lock, poetry.lock, pdm.lock, Pipfile.lock and pylock.toml (PEP 751).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Needs, Read, json, want};
use crate::airgap::want::{Want, WantedFile};
use crate::format::path::last_segment;
use crate::format::plain;
use crate::package::{Algorithm, Digest, Format};

/// A file in whatever words a lockfile has for it.
#[derive(Default, Deserialize)]
struct Written {
    url: Option<String>,
    path: Option<String>,
    name: Option<String>,
    file: Option<String>,
    hash: Option<String>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

impl Written {
    fn file(&self) -> Option<WantedFile> {
        let address = self.url.as_deref().or(self.path.as_deref());
        let named = self.name.as_deref().or(self.file.as_deref());
        let last = address.map(|url| {
            let path = url.split(['#', '?']).next().unwrap_or_default();
            last_segment(path)
        });
        let name = named.or(last)?;
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        let mut digests: Vec<Digest> = self
            .hashes
            .iter()
            .map(|(algorithm, hex)| (algorithm.as_str(), hex.as_str()))
            .chain(self.hash.as_deref().and_then(|hash| hash.split_once(':')))
            .filter_map(|(algorithm, hex)| Digest::from_hex(Algorithm::parse(algorithm)?, hex).ok())
            .collect();
        digests.sort_by_key(Digest::algorithm);
        Some(WantedFile::of(&name, digests.last()))
    }
}

#[derive(Deserialize)]
struct Lockfile {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    /// uv's and poetry's: where it comes from.
    #[serde(default)]
    source: BTreeMap<String, toml::Value>,
    sdist: Option<Written>,
    #[serde(default)]
    wheels: Vec<Written>,
    #[serde(default)]
    files: Vec<Written>,
    /// pdm's.
    git: Option<String>,
    path: Option<String>,
    url: Option<String>,
}

impl Package {
    fn want(&self, version: &str) -> Result<Want, String> {
        let mut want = want(Format::Pypi, &self.name, version)?;
        let all = self.sdist.iter().chain(&self.wheels).chain(&self.files);
        want.files = all.filter_map(Written::file).collect();
        Ok(want)
    }

    fn described(&self) -> String {
        let source = self
            .source
            .iter()
            .map(|(kind, value)| format!("{kind} {value}"));
        let source = source.collect::<Vec<_>>().join(", ");
        format!("{}: {source}", self.name)
    }
}

fn read(text: &str, is_elsewhere: impl Fn(&Package) -> bool) -> Read {
    let lockfile: Lockfile = super::toml(text)?;
    let mut needs = Needs::default();
    for package in &lockfile.package {
        match &package.version {
            Some(version) if !is_elsewhere(package) => needs.wants.push(package.want(version)?),
            _ => needs.elsewhere(package.described()),
        }
    }
    Ok(needs)
}

pub fn uv(text: &str) -> Read {
    let mut needs = read(text, |package| !package.source.contains_key("registry"))?;
    // The project itself.
    needs
        .elsewhere
        .retain(|what| !what.contains(": virtual ") && !what.contains(": editable "));
    Ok(needs)
}

pub fn poetry(text: &str) -> Read {
    read(text, |package| {
        let kind = package.source.get("type").and_then(toml::Value::as_str);
        kind.is_some_and(|kind| kind != "legacy")
    })
}

pub fn pdm(text: &str) -> Read {
    read(text, |package| {
        package.git.is_some() || package.path.is_some() || package.url.is_some()
    })
}

pub fn pipfile(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Pinned {
        version: Option<String>,
        #[serde(default)]
        hashes: Vec<String>,
    }
    let groups: BTreeMap<String, Value> = json(text)?;
    let mut needs = Needs::default();
    for (group, packages) in groups {
        if group == "_meta" {
            continue;
        }
        let packages: BTreeMap<String, Pinned> =
            serde_json::from_value(packages).map_err(|error| plain::json(&error))?;
        for (name, pinned) in packages {
            let version = pinned
                .version
                .as_deref()
                .and_then(|it| it.strip_prefix("=="));
            let Some(version) = version else {
                needs.elsewhere(name);
                continue;
            };
            let mut want = want(Format::Pypi, &name, version)?;
            want.files = pinned
                .hashes
                .iter()
                .filter_map(|hash| hash.split_once(':'))
                .filter_map(|(algorithm, hex)| {
                    let digest = Digest::from_hex(Algorithm::parse(algorithm)?, hex).ok()?;
                    Some(WantedFile::of("", Some(&digest)))
                })
                .collect();
            needs.wants.push(want);
        }
    }
    Ok(needs)
}

pub fn pylock(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Pylock {
        #[serde(default)]
        packages: Vec<Package>,
    }
    let lockfile: Pylock = super::toml(text)?;
    let mut needs = Needs::default();
    for package in &lockfile.packages {
        let has_files = package.sdist.is_some() || !package.wheels.is_empty();
        match &package.version {
            Some(version) if has_files => needs.wants.push(package.want(version)?),
            _ => needs.elsewhere(&package.name),
        }
    }
    Ok(needs)
}
