//! Which packages and versions a rule speaks of: `npm:@evil/*`, `pypi:requests@<2.20`.

use std::fmt;

use wildmatch::WildMatch;

use crate::package::{Format, PackageId};

/// A pattern over format, name and version range. `*` in a name stands for anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    text: String,
    /// `None`: every format.
    format: Option<Format>,
    name: WildMatch,
    range: Option<String>,
}

/// A pattern that cannot be read, and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{pattern}` is no pattern: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl Pattern {
    /// Reads `format:name`, `format:name@range`, or `*` for everything.
    ///
    /// # Errors
    /// Where the format is unknown or the range is none in the format's own version scheme.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let refused = |why: &str| PatternError {
            pattern: text.to_owned(),
            why: why.to_owned(),
        };
        if text == "*" {
            return Ok(Self {
                text: text.to_owned(),
                format: None,
                name: WildMatch::new("*"),
                range: None,
            });
        }
        let (format, rest) = text
            .split_once(':')
            .ok_or_else(|| refused("it needs a format and a colon, as in `npm:left-pad`"))?;
        let format: Format = format
            .parse()
            .map_err(|error: crate::package::UnknownFormat| refused(&error.to_string()))?;
        // A scope's own `@` stands at the beginning.
        let (name, range) = match rest.get(1..).and_then(|tail| tail.find('@')) {
            Some(at) => (
                rest.get(..=at).unwrap_or_default(),
                rest.get(at + 2..).map(str::trim),
            ),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(refused("it names no package"));
        }
        if let Some(range) = range
            && (range.is_empty() || format.protocol().version_in("1.0.0", range).is_none())
        {
            return Err(refused(&format!(
                "`{range}` is no range of {format} versions"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            format: Some(format),
            name: WildMatch::new(&normalised(format, name)),
            range: range.filter(|range| *range != "*").map(str::to_owned),
        })
    }

    /// Whether it speaks of the package, whatever the version.
    #[must_use]
    pub fn names(&self, package: &PackageId) -> bool {
        self.format.is_none_or(|format| format == package.format())
            && self.name.matches(&package.full_name())
    }

    /// Whether it speaks of one version of a package that it names; `None` where the version
    /// cannot be compared with the range.
    #[must_use]
    pub fn takes(&self, package: &PackageId, version: &str) -> Option<bool> {
        match &self.range {
            None => Some(true),
            Some(range) => package.format().protocol().version_in(version, range),
        }
    }

    #[must_use]
    pub fn has_range(&self) -> bool {
        self.range.is_some()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name's pattern in the spelling in which packages of the format are held.
fn normalised(format: Format, name: &str) -> String {
    match format {
        Format::Npm | Format::Maven | Format::Generic => name.to_owned(),
        Format::Pypi => name.to_lowercase().replace(['_', '.'], "-"),
        Format::Nuget => name.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(text: &str) -> PackageId {
        let (format, name) = text.split_once(':').unwrap();
        format
            .parse::<Format>()
            .unwrap()
            .protocol()
            .package(name)
            .unwrap()
    }

    #[test]
    fn patterns_name_packages_and_take_versions() {
        for (pattern, named, version, takes) in [
            ("npm:@evil/*", "npm:@evil/x", "1.0.0", Some(true)),
            ("npm:left-pad@1.3.0", "npm:left-pad", "1.3.0", Some(true)),
            ("npm:left-pad@1.3.0", "npm:left-pad", "1.3.1", Some(false)),
            ("npm:@a/b@<2", "npm:@a/b", "1.9.0", Some(true)),
            ("pypi:Requests@<2.20", "pypi:requests", "2.19", Some(true)),
            ("pypi:requests@<2.20", "pypi:requests", "odd!version", None),
            ("maven:org.x:*@[1,2)", "maven:org.x:lib", "1.5", Some(true)),
            (
                "nuget:Newtonsoft.*",
                "nuget:Newtonsoft.Json",
                "1.0.0",
                Some(true),
            ),
            ("*", "npm:anything", "x", Some(true)),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            assert!(pattern.names(&package(named)), "{pattern} {named}");
            assert_eq!(
                pattern.takes(&package(named), version),
                takes,
                "{pattern} {version}"
            );
        }
        assert!(
            !Pattern::parse("npm:@evil/*")
                .unwrap()
                .names(&package("npm:@good/x"))
        );
        assert!(!Pattern::parse("pypi:*").unwrap().names(&package("npm:x")));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for text in [
            "left-pad",
            "gem:x",
            "npm:",
            "npm:a@",
            "npm:a@<<1",
            "pypi:x@nonsense range",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
