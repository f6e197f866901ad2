//! What a list needs.

use serde::{Deserialize, Serialize};

use crate::package::{Algorithm, AssetFacts, Digest, Expectation};

/// A package version that a list needs, or a package of which the newest will do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Want {
    /// `npm:@scope/name`.
    pub package: String,
    /// In the format's own scheme; none: the newest.
    #[serde(default)]
    pub version: Option<String>,
    /// The files of it that the list names; none: all of the version's.
    #[serde(default)]
    pub files: Vec<File>,
}

/// A file as a list names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct File {
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
            files: Vec::new(),
        }
    }

    #[must_use]
    pub fn with(mut self, file: File) -> Self {
        self.files.push(file);
        self
    }
}

impl File {
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
        let last = facts.file.rsplit('/').next().unwrap_or_default();
        match (self.name.is_empty(), promised) {
            (true, Some(true)) => Match::Yes,
            (true, _) => Match::No,
            (false, _) if self.name != last && *self.name != *facts.file => Match::No,
            (false, Some(false)) => Match::Differs,
            (false, _) => Match::Yes,
        }
    }
}
