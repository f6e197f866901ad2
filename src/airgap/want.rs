//! The packages and files that a lockfile or list needs.

use serde::{Deserialize, Serialize};

use crate::format::{self, path};
use crate::package::{Algorithm, AssetFacts, Digest, Expectation};

/// A package version that a list needs, or a package of which the newest will do.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Want {
    /// `npm:@scope/name`.
    pub package: String,
    /// In the format's own scheme; none: the newest.
    #[serde(default)]
    pub version: Option<String>,
    /// Which versions will do where none is named, in the format's own scheme; empty: any.
    #[serde(default)]
    pub range: String,
    /// The files of it that the list names; none: all of the version's.
    #[serde(default)]
    pub files: Vec<WantedFile>,
}

/// A file as a list names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WantedFile {
    /// Its path below the package, or the last segment of that; empty where the list says a digest
    /// alone.
    #[serde(default)]
    pub name: String,
    /// `sha512:` and hexadecimal; empty where the list says none.
    #[serde(default)]
    pub digest: String,
    /// Nothing is missed where there is no such file.
    #[serde(default)]
    pub is_optional: bool,
}

/// How a file that a list names goes with one that a registry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is another file.
    No,
    Yes,
    /// It is the file, and the registry promises other bytes than the list.
    Differs,
}

impl Want {
    #[must_use]
    pub fn new(package: impl ToString, version: &str) -> Self {
        Self {
            package: package.to_string(),
            version: Some(version.to_owned()),
            ..Self::default()
        }
    }

    /// The newest that the range takes.
    #[must_use]
    pub fn newest(package: impl ToString, range: &str) -> Self {
        Self {
            package: package.to_string(),
            range: range.to_owned(),
            ..Self::default()
        }
    }

    /// Whether bringing this in brings in what `need`, a package of which a range will do, asks for.
    #[must_use]
    pub fn serves(&self, need: &Self) -> bool {
        let takes = |version: &str| {
            let package = format::package(&need.package).ok()?;
            package.format().protocol().version_in(version, &need.range)
        };
        self.package == need.package
            && match &self.version {
                Some(version) => need.range.is_empty() || takes(version) == Some(true),
                None => self.range == need.range,
            }
    }

    #[must_use]
    pub fn with(mut self, file: WantedFile) -> Self {
        self.files.push(file);
        self
    }
}

impl WantedFile {
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn of(name: &str, digest: Option<&Digest>) -> Self {
        Self {
            name: name.to_owned(),
            digest: digest.map(ToString::to_string).unwrap_or_default(),
            is_optional: false,
        }
    }

    #[must_use]
    pub fn or_none(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// The digest that the list says; none where it says none that can be read.
    #[must_use]
    pub fn expected(&self) -> Option<Digest> {
        let (algorithm, hex) = self.digest.split_once(':')?;
        Digest::from_hex(Algorithm::parse(algorithm)?, hex).ok()
    }

    /// Whether the list means the file that a registry has.
    #[must_use]
    pub fn matches(&self, facts: &AssetFacts) -> Match {
        let promised = match (&facts.expectation, self.expected()) {
            (Expectation::Known(promised), Some(expected)) => {
                let same = promised
                    .iter()
                    .find(|it| it.algorithm() == expected.algorithm());
                same.map(|it| *it == expected)
            }
            _ => None,
        };
        let last = path::last_segment(&facts.file);
        match (self.name.is_empty(), promised) {
            (true, Some(true)) => Match::Yes,
            (true, _) => Match::No,
            (false, _) if self.name != last && *self.name != *facts.file => Match::No,
            (false, Some(false)) => Match::Differs,
            (false, _) => Match::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_serves_needs_that_its_version_is_in_range_of() {
        let need = |range| Want::newest("pypi:setuptools", range);
        let locked = Want::new("pypi:setuptools", "70.1");
        for (want, range, serves) in [
            (&locked, "", true),
            (&locked, ">=61", true),
            (&locked, "<60", false),
            (&need("<60"), "<60", true),
            (&need("<60"), "", false),
            (&need(""), "<60", false),
            (&Want::new("pypi:wheel", "70.1"), "", false),
        ] {
            assert_eq!(want.serves(&need(range)), serves, "{want:?} {range}");
        }
    }
}
