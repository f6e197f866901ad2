//! npm's version scheme: semver, read as loosely as npm reads it.

use nodejs_semver::{Range, Version};

/// Whether the range takes the version; a prerelease is taken wherever its place in the order
/// lies, since a rule speaks of everything below or above a version.
pub fn in_range(version: &str, range: &str) -> Option<bool> {
    let range = Range::parse(range).ok()?;
    let version = Version::parse(version).ok()?;
    // Semver ranges leave prereleases out unless they name one; `<2.0.0` in a deny rule means
    // 1.9.0-beta too.
    Some(version.satisfies_with_prerelease(&range, true))
}

/// The version that a tag should point to when its own is hidden: the newest one, a prerelease
/// only where there is nothing else.
pub fn newest<'a>(versions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    versions
        .filter_map(|text| Version::parse(text).ok().map(|version| (version, text)))
        .max_by(|(a, _), (b, _)| (!a.is_prerelease(), a).cmp(&(!b.is_prerelease(), b)))
        .map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_what_a_rule_means() {
        for (version, range, taken) in [
            ("1.9.9", "<2.0.0", Some(true)),
            ("2.0.0", "<2.0.0", Some(false)),
            ("1.9.0-beta.1", "<2.0.0", Some(true)),
            ("1.3.0", "1.3.0", Some(true)),
            ("1.4.2", "^1.3", Some(true)),
            ("not-a-version", "<1", None),
            ("1.0.0", "<<1", None),
        ] {
            assert_eq!(in_range(version, range), taken, "{version} in {range}");
        }
    }

    #[test]
    fn the_newest_is_a_prerelease_only_where_there_is_nothing_else() {
        assert_eq!(
            newest(["1.0.0", "2.0.0-rc.1", "1.10.0", "1.9.0"].into_iter()),
            Some("1.10.0")
        );
        assert_eq!(newest(["1.0.0-a", "1.0.0-b"].into_iter()), Some("1.0.0-b"));
        assert_eq!(newest([].into_iter()), None);
    }
}
