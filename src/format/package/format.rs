use std::fmt;
use std::str::FromStr;

/// The package formats that Larder speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    Npm,
    Pypi,
    Maven,
    Nuget,
    /// Files of any kind, which have no client of their own.
    Generic,
}

impl Format {
    /// The formats that clients ask for and registries serve.
    pub const SERVED: [Self; 4] = [Self::Npm, Self::Pypi, Self::Maven, Self::Nuget];

    /// The word for the format in paths, patterns, configuration and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Maven => "maven",
            Self::Nuget => "nuget",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no format.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no format; the formats are npm, pypi, maven, nuget and generic")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::SERVED
            .into_iter()
            .chain([Self::Generic])
            .find(|format| format.as_str() == word)
            .ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}
