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
        let name = normalised(format, name);
        if !can_match(format, &name) {
            let better = ["/*", ":*", "*"].into_iter().find_map(|ending| {
                let better = format!("{}{ending}", name.trim_end_matches(['/', ':']));
                can_match(format, &better).then_some(better)
            });
            let advice =
                better.map_or_else(String::new, |better| format!("; write `{format}:{better}`"));
            return Err(refused(&format!(
                "no package of {format} is called so{advice}"
            )));
        }
        if let Some(range) = range {
            let why = if range.is_empty() {
                Err("it is empty".to_owned())
            } else {
                format.protocol().check_range(range)
            };
            why.map_err(|why| {
                refused(&format!(
                    "`{range}` is no range of {format} versions: {why}; write {}",
                    example(format)
                ))
            })?;
        }
        Ok(Self {
            text: text.to_owned(),
            format: Some(format),
            name: WildMatch::new(&name),
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
        Format::Pypi => {
            let mut normal = String::with_capacity(name.len());
            for c in name.to_lowercase().chars() {
                let c = if matches!(c, '_' | '.') { '-' } else { c };
                // PEP 503: a run of them is one.
                if c != '-' || !normal.ends_with('-') {
                    normal.push(c);
                }
            }
            normal
        }
        Format::Nuget => name.to_lowercase(),
    }
}

/// Texts that a wildcard may stand for in a name, whatever the format.
const STANDS_FOR: [&str; 6] = ["a", "", "a/a", "@a", "@a/a", "a:a"];
/// The most wildcards that stand for each text in turn; further ones stand for a letter.
const WILDCARDS_MAX: u32 = 4;

/// Whether some package of the format has a name that the pattern matches: its wildcards are filled
/// in until the format itself takes the name.
fn can_match(format: Format, name: &str) -> bool {
    let pattern = WildMatch::new(name);
    let protocol = format.protocol();
    let count = STANDS_FOR.len();
    let wildcards = name.matches(['*', '?']).count();
    let filled = u32::try_from(wildcards)
        .unwrap_or(u32::MAX)
        .min(WILDCARDS_MAX);
    (0..count.pow(filled)).any(|mut choice| {
        let mut candidate = String::new();
        for c in name.chars() {
            if matches!(c, '*' | '?') {
                candidate.push_str(STANDS_FOR.get(choice % count).unwrap_or(&"a"));
                choice /= count;
            } else {
                candidate.push(c);
            }
        }
        protocol
            .package(&candidate)
            .is_ok_and(|package| pattern.matches(&package.full_name()))
    })
}

/// How ranges of the format are written.
fn example(format: Format) -> &'static str {
    match format {
        Format::Npm => "as in `>=1.2.0 <2.0.0 || 3.x`",
        Format::Pypi => "as in `>=1.2,<2`",
        Format::Maven | Format::Generic => "as in `[1.2,2.0)`, `(,1.1),(1.1,)` or `<2.0`",
        Format::Nuget => "as in `[1.2.0,2.0.0)` or `<2.0.0`",
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
            "npm:a@1.x || foo bar",
            "npm:a@>=1.0 <",
            "pypi:x@>=1.0,",
            "maven:a:b@[1,2",
            "maven:a:b@foo bar",
            "nuget:X@[1,2),[3,4)",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_can_match_nothing_is_no_pattern() {
        for (text, better) in [
            ("npm:@evil", "npm:@evil/*"),
            ("npm:@evil/", "npm:@evil/*"),
            ("npm:@", "npm:@*"),
            ("npm:@evil@1.0.0", "npm:@evil/*"),
            ("maven:org.x", "maven:org.x:*"),
            ("maven:org.x:", "maven:org.x:*"),
            ("maven::lib", ""),
            ("maven:org/x:lib", ""),
            ("maven:org.x:lib:jar", ""),
            ("npm:a b", ""),
            ("npm:@a/b/c", ""),
            ("npm:evil/x", ""),
            ("npm:.hidden", ""),
            ("pypi:a/b", ""),
            ("pypi:flask[async]", ""),
            ("nuget:a b", ""),
        ] {
            let error = Pattern::parse(text).expect_err(text).to_string();
            assert!(error.contains("no package of"), "{error}");
            let advice = format!("write `{better}`");
            assert_eq!(error.contains("write `"), !better.is_empty(), "{error}");
            assert!(better.is_empty() || error.contains(&advice), "{error}");
        }
        for text in [
            "npm:*",
            "npm:@*",
            "npm:@evil*",
            "npm:*/x",
            "npm:@evil/*",
            "npm:?",
            "npm:*-*-*-*-*-x",
            "npm:@?vil/x",
            "maven:*",
            "maven:org.x.*",
            "maven:org.x:*",
            "maven:*:lib",
            "maven:*lib*",
            "pypi:A__B",
            "pypi:foo-*",
            "pypi:*",
            "nuget:Foo.*",
            "nuget:*",
            "generic:*",
            "generic:tools/*",
            "npm:JSONStream",
            "pypi:*.x",
        ] {
            assert!(Pattern::parse(text).is_ok(), "{:?}", Pattern::parse(text));
        }
        assert!(
            Pattern::parse("pypi:A__B")
                .unwrap()
                .names(&package("pypi:a.b"))
        );
    }

    #[test]
    fn so_many_wildcards_stand_for_any_text_and_further_ones_for_a_letter() {
        // Maven's names have a colon, which the last wildcard alone can stand for here.
        let of = |wildcards: u32| {
            let others = "?.".repeat(usize::try_from(wildcards).unwrap() - 1);
            Pattern::parse(&format!("maven:{others}*"))
        };
        assert!(of(WILDCARDS_MAX).is_ok());
        assert!(of(WILDCARDS_MAX + 1).is_err());
    }
}
