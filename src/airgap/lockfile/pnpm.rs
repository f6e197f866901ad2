//! pnpm-lock.yaml, versions 5 to 9.
//! Source: pnpm's lockfile types.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::npm::tarball;
use super::{Needs, Read, want};
use crate::airgap::platform::Platforms;
use crate::package::Format;

#[derive(Deserialize)]
struct Lockfile {
    #[serde(default)]
    packages: BTreeMap<String, Package>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    resolution: Resolution,
    #[serde(default)]
    os: Vec<String>,
    #[serde(default)]
    cpu: Vec<String>,
    #[serde(default)]
    libc: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Resolution {
    integrity: Option<String>,
    /// `git`, `directory`; none: a registry's tarball.
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub fn read(text: &str, platforms: &Platforms) -> Read {
    let lockfile: Lockfile = super::yaml(text)?;
    let mut needs = Needs::default();
    for (key, package) in lockfile.packages {
        if !platforms.npm(&package.os, &package.cpu, &package.libc) {
            continue;
        }
        let integrity = package.resolution.integrity.as_deref();
        match name_and_version(&key) {
            Some((name, version)) if package.resolution.kind.is_none() && integrity.is_some() => {
                let want = want(Format::Npm, name, version)?;
                needs.wants.push(want.with(tarball(integrity)));
            }
            _ => needs.elsewhere(&key),
        }
    }
    Ok(needs)
}

/// `@scope/name@1.0.0(peer@2)`, `/name@1.0.0_peer@2`, and `/@scope/name/1.0.0` of version 5.
fn name_and_version(key: &str) -> Option<(&str, &str)> {
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let old = key.strip_prefix('/');
    let key = old.unwrap_or(key).split('(').next()?;
    let of_5 = key.match_indices('/').find_map(|(at, _)| {
        let version = key.get(at + 1..)?.split('_').next()?;
        (is_version(version) && !version.contains('@')).then_some((key.get(..at)?, version))
    });
    if let (Some(_), Some(parts)) = (old, of_5) {
        return Some(parts);
    }
    // A scope's own `@` stands at the beginning.
    let at = key.get(1..)?.find('@')? + 1;
    let (name, version) = (key.get(..at)?, key.get(at + 1..)?);
    let version = version.split('_').next()?;
    is_version(version).then_some((name, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_apart() {
        for (key, parts) in [
            ("left-pad@1.3.0", Some(("left-pad", "1.3.0"))),
            (
                "@a/b@1.0.0-rc.1(react@18.0.0)(x@1.0.0)",
                Some(("@a/b", "1.0.0-rc.1")),
            ),
            ("/@a/b@1.0.0", Some(("@a/b", "1.0.0"))),
            ("/@a/b/1.0.0", Some(("@a/b", "1.0.0"))),
            ("/left-pad/1.3.0_react@18.0.0", Some(("left-pad", "1.3.0"))),
            ("/@a/7zip@1.0.0", Some(("@a/7zip", "1.0.0"))),
            ("/left-pad/1.3.0", Some(("left-pad", "1.3.0"))),
            ("https://git.example/x", None),
            ("x@file:../x", None),
        ] {
            assert_eq!(name_and_version(key), parts, "{key}");
        }
    }
}
