//! Python's project names (PEP 503, PEP 508) and the versions that file names carry.

use crate::package::{Format, PackageId};
use crate::problem::Problem;

/// Reads a name in any spelling and normalises it.
///
/// # Errors
/// Where it is no project name.
pub fn parse(text: &str) -> Result<PackageId, Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if text.len() > 200
        || !text.chars().all(allowed)
        || !ends(text.chars().next())
        || !ends(text.chars().next_back())
    {
        return Err(Problem::invalid(format!(
            "`{text}` is no Python project name"
        )));
    }
    Ok(PackageId::new(Format::Pypi, None, &normalised(text)))
}

/// Lower case, with every run of `-`, `_` and `.` as one dash (PEP 503).
pub fn normalised(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '-' | '_' | '.') {
            if !name.ends_with('-') {
                name.push('-');
            }
        } else {
            name.push(c.to_ascii_lowercase());
        }
    }
    name
}

/// The version in a distribution's file name; `None` where the file is none of the project's.
pub fn version_of<'a>(project: &str, file: &'a str) -> Option<&'a str> {
    if let Some(stem) = file.strip_suffix(".whl") {
        // name-version[-build]-python-abi-platform (binary distribution format).
        let mut parts = stem.split('-');
        let name = parts.next()?;
        return (normalised(name) == project)
            .then(|| parts.next())
            .flatten();
    }
    let endings = [
        ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz", ".tar.Z", ".tar", ".egg", ".exe", ".msi",
        ".rpm", ".deb", ".dmg",
    ];
    let stem = endings
        .iter()
        .find_map(|ending| file.strip_suffix(ending))?;
    // A source distribution's name may have dashes: the split is where the name ends.
    let rest = stem
        .match_indices('-')
        .find(|(at, _)| {
            stem.get(..*at)
                .is_some_and(|name| normalised(name) == project)
        })
        .and_then(|(at, _)| stem.get(at + 1..))?;
    // Old binary forms: 1.0-py2.7.egg, 1.0.win32-py2.7.exe.
    let rest = rest.split_once("-py").map_or(rest, |(version, _)| version);
    Some(
        [".win32", ".win-amd64", ".linux-x86_64", ".macosx"]
            .iter()
            .find_map(|platform| rest.split_once(platform))
            .map_or(rest, |(version, _)| version),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_one_name() {
        for text in [
            "Foo.Bar_baz",
            "foo-bar-baz",
            "foo._-bar---baz",
            "FOO_BAR.BAZ",
        ] {
            assert_eq!(parse(text).unwrap().name(), "foo-bar-baz");
        }
        for text in ["", "-a", "a-", "a b", "../a", "a/b", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_found_in_every_kind_of_file() {
        for (project, file, version) in [
            (
                "requests",
                "requests-2.31.0-py3-none-any.whl",
                Some("2.31.0"),
            ),
            (
                "foo-bar",
                "foo_bar-1.0-1-cp311-cp311-linux_x86_64.whl",
                Some("1.0"),
            ),
            ("foo-bar", "foo-bar-1.0.tar.gz", Some("1.0")),
            ("foo-bar", "foo_bar-1.0.post1.zip", Some("1.0.post1")),
            ("foo", "foo-1.0-py2.7.egg", Some("1.0")),
            ("foo", "foo-1.0.win32-py2.7.exe", Some("1.0")),
            ("foo", "bar-1.0.tar.gz", None),
            ("foo", "foo-1.0.txt", None),
        ] {
            assert_eq!(version_of(project, file), version, "{file}");
        }
    }
}
