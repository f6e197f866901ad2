//! Lockfiles and lists of every client, read to what they need.

mod bun;
mod gradle;
mod list;
mod npm;
mod nuget;
mod pnpm;
mod python;
mod requirements;
mod yarn;

use std::collections::BTreeMap;

use super::platform::Platforms;
use super::want::Want;
use crate::format::{path, plain};
use crate::package::Format;
use crate::problem::Problem;

/// A list that cannot be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Unreadable {
    file: String,
    why: String,
}

/// The content of a lockfile or list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub wants: Vec<Want>,
    /// Maven's project, to be resolved first.
    pub poms: Vec<String>,
    /// Entries that do not come from a registry (git, folders, addresses), as the list writes them.
    pub elsewhere: Vec<String>,
}

impl Needs {
    fn elsewhere(&mut self, what: impl ToString) {
        self.elsewhere.push(what.to_string());
    }

    /// Adds what a further list needs.
    pub fn add(&mut self, other: Self) {
        self.wants.extend(other.wants);
        self.poms.extend(other.poms);
        self.elsewhere.extend(other.elsewhere);
    }

    /// Each version once, with all that any list names of it, in the order of the names.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let mut merged = BTreeMap::<(String, Option<String>), Want>::new();
        for want in self.wants {
            let key = (want.package.clone(), want.version.clone());
            match merged.get_mut(&key) {
                None => {
                    merged.insert(key, want);
                }
                // An entry that names no file needs all files of its version.
                Some(held) if held.files.is_empty() || want.files.is_empty() => held.files.clear(),
                Some(held) => {
                    for file in want.files {
                        if !held.files.contains(&file) {
                            held.files.push(file);
                        }
                    }
                }
            }
        }
        self.wants = merged.into_values().collect();
        self.elsewhere.sort();
        self.elsewhere.dedup();
        self
    }
}

/// Why one list's text cannot be read.
type Read = Result<Needs, String>;

/// Reads a list by the name that its client gives it, else by what it looks like.
///
/// # Errors
/// Where it is none that is known, or not what its name says.
pub fn read(name: &str, text: &str, platforms: &Platforms) -> Result<Needs, Unreadable> {
    let name = path::client_file_name(name);
    let ending = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    let read = match name {
        "package-lock.json" | "npm-shrinkwrap.json" | ".package-lock.json" => {
            npm::read(text, platforms)
        }
        "pnpm-lock.yaml" => pnpm::read(text, platforms),
        "yarn.lock" => yarn::read(text),
        "bun.lock" => bun::read(text, platforms),
        "uv.lock" => python::uv(text),
        "poetry.lock" => python::poetry(text),
        "pdm.lock" => python::pdm(text),
        "Pipfile.lock" => python::pipfile(text),
        "packages.lock.json" => nuget::lockfile(text),
        "project.assets.json" => nuget::assets(text),
        "packages.config" => nuget::packages_config(text),
        "verification-metadata.xml" => gradle::verification(text),
        _ if ending("package-lock.json") => npm::read(text, platforms),
        _ if ending(".lockfile") => gradle::lockfile(text),
        _ if name.starts_with("pylock.") && ending(".toml") => python::pylock(text),
        _ if ending(".pom") || ending("pom.xml") => Ok(Needs {
            poms: vec![text.to_owned()],
            ..Needs::default()
        }),
        _ if list::is_wishes(text) => list::wishes(text),
        _ if list::is_one(text) => list::read(text),
        _ if ending(".txt") || ending(".in") => requirements::read(text),
        _ => Err(
            "it is none of the lists that are known: lockfiles of npm, pnpm, yarn, bun, pip, uv, poetry, pdm, \
             pipenv, Gradle and NuGet, a pom, or lines such as npm:left-pad@1.3.0"
                .to_owned(),
        ),
    };
    read.map_err(|why| Unreadable {
        file: name.to_owned(),
        why,
    })
}

fn json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| plain::json(&error))
}

fn toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| plain::toml(&error, text))
}

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| {
        let place = error.location().map_or_else(String::new, |at| {
            format!(": see line {}, column {}", at.line(), at.column())
        });
        format!("it is not the YAML that was looked for{place}")
    })
}

/// The want of a version by the name that a client's list has for the package.
fn want(format: Format, name: &str, version: &str) -> Result<Want, String> {
    let package = format.protocol().package(name);
    let package = package.map_err(|Problem { message, .. }| message)?;
    Ok(Want::new(package, version))
}

#[cfg(test)]
mod tests;
