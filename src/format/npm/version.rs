//! npm's version scheme: semver, read as loosely as npm reads it.

use std::cmp::Ordering;

use nodejs_semver::{Range, Version};

use super::Npm;
use crate::Versions as _;

/// A range of npm's: comparators that all have to hold, in one of several alternatives. The library
/// passes over what it cannot read in a range, which a rule must not; so it is given one comparator
/// at a time, after npm's grammar.
/// Source: node-semver's range grammar.
pub struct Alternatives(Vec<Vec<Range>>);

impl Alternatives {
    /// # Errors
    /// Why it is no range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let alternatives = text.split("||").map(|one| alternative(one.trim()));
        alternatives.collect::<Result<_, _>>().map(Self)
    }

    /// Whether the range takes the version; a prerelease is taken wherever its place in the order
    /// lies, since a rule speaks of everything below or above a version: `<2.0.0` in a deny rule
    /// means 1.9.0-beta too.
    fn take(&self, version: &Version) -> bool {
        self.0.iter().any(|comparators| {
            comparators
                .iter()
                .all(|one| version.satisfies_with_prerelease(one, true))
        })
    }
}

fn alternative(text: &str) -> Result<Vec<Range>, String> {
    if text.is_empty() {
        return Err("an alternative is empty; any version is `*`".to_owned());
    }
    let read = |text: &str| Range::parse(text).map_err(|_| format!("`{text}` is no range"));
    let comparators = match text.split_once(" - ") {
        Some((low, high)) if is_partial(low.trim()) && is_partial(high.trim()) => vec![read(text)?],
        Some(_) => return Err(format!("`{text}` is not from one version to another")),
        None => comparators(text)?
            .iter()
            .map(|one| read(one))
            .collect::<Result<Vec<_>, _>>()?,
    };
    // All of them together: what contradicts itself takes nothing.
    let mut each = comparators.iter();
    let first = each.next().cloned();
    let all = each.try_fold(first, |all, one| match all {
        Some(all) => all.intersect(one).map(Some),
        None => None,
    });
    match all {
        Some(Some(_)) => Ok(comparators),
        _ => Err(format!("no version is in `{text}`")),
    }
}

/// The comparators of a text, each with its operator.
fn comparators(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut operator = "";
    for word in text.split_whitespace() {
        let begins = word.find(|c| !"<>=~^".contains(c)).unwrap_or(word.len());
        let (sign, version) = word.split_at_checked(begins).unwrap_or((word, ""));
        if !matches!(sign, "" | "<" | "<=" | ">" | ">=" | "=" | "~" | "~>" | "^")
            || !sign.is_empty() && !operator.is_empty()
        {
            return Err(format!("`{word}` is no comparison"));
        }
        let sign = if sign.is_empty() { operator } else { sign };
        // White space may stand between the two.
        operator = if version.is_empty() { sign } else { "" };
        if version.is_empty() {
            continue;
        }
        if !is_partial(version) {
            return Err(format!("`{version}` is no version"));
        }
        found.push(format!("{sign}{version}"));
    }
    if !operator.is_empty() {
        return Err(format!("`{operator}` has no version behind it"));
    }
    Ok(found)
}

/// Whether it is a version, or the beginning of one: `1`, `1.x`, `v1.2.3-rc.1+build`.
fn is_partial(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let (numbers, label) = text
        .split_once('-')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let numbers: Vec<&str> = numbers.split('.').collect();
    let is_number = |text: &&str| {
        matches!(*text, "x" | "X" | "*")
            || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_label = |text: &str| {
        text.split('.').all(|part| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !part.is_empty() && part.bytes().all(is_plain)
        })
    };
    let has_more = label.is_some() || build.is_some();
    numbers.len() <= 3
        && numbers.iter().all(is_number)
        && (!has_more || numbers.len() == 3)
        && label.is_none_or(is_label)
        && build.is_none_or(is_label)
}

/// `None` where the version or the range cannot be read.
pub fn in_range(version: &str, range: &str) -> Option<bool> {
    let range = Alternatives::parse(range).ok()?;
    Some(range.take(&Version::parse(version).ok()?))
}

/// Whether the text is a version as a registry spells it: no tag, and no other spelling of one.
pub fn is_canonical(text: &str) -> bool {
    Version::parse(text).is_ok_and(|version| version.to_string() == text)
}

/// Whether the text is a version, and not a tag.
pub fn is_version(text: &str) -> bool {
    Version::parse(text).is_ok()
}

/// The version as npm's registry has it, without the `v` or `=` that people write before it.
pub fn normalised(text: &str) -> &str {
    let bare = text.trim().trim_start_matches(['v', '=', ' ']);
    if Version::parse(bare).is_ok() {
        bare
    } else {
        text
    }
}

/// SemVer's order, then that of the build metadata, then that of the letters. What is no version is
/// older than any.
pub fn compare(a: &str, b: &str) -> Ordering {
    let build = |version: &Option<Version>| version.as_ref().map(|it| it.build().to_vec());
    let (a, b) = (normalised(a), normalised(b));
    let (read, other) = (Version::parse(a).ok(), Version::parse(b).ok());
    read.cmp(&other)
        .then_with(|| build(&read).cmp(&build(&other)))
        .then_with(|| a.cmp(b))
}

/// Also what is no version.
pub fn is_prerelease(version: &str) -> bool {
    Version::parse(version).map_or(true, |version| version.is_prerelease())
}

/// The version that a tag should point to when its own is not there: the newest one, a prerelease
/// only where there is nothing else.
pub fn newest<'a>(versions: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    versions.reduce(|newest, one| if is_newer(one, newest) { one } else { newest })
}

/// Whether a tag whose own version is hidden should rather point to this one than to the other: the
/// newer one, a prerelease only where there is nothing else.
pub fn is_newer(version: &str, other: &str) -> bool {
    // The later one stands where two are equal.
    Npm.compare_choice(version, other).is_ge()
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
            ("1.4.2", ">= 1.3 < 2 || 0.1.x", Some(true)),
            ("0.1.9", ">= 1.3 < 2 || 0.1.x", Some(true)),
            ("2.1.0", ">= 1.3 < 2 || 0.1.x", Some(false)),
            ("1.9.9", "1.2 - 1.9", Some(true)),
            ("3.0.0", "<2 || >=3", Some(true)),
            ("7.0.0", "*", Some(true)),
            ("1.2.9", "~1.2", Some(true)),
            ("1.0.0", "v1.0.0", Some(true)),
            ("not-a-version", "<1", None),
            ("1.0.0", "<<1", None),
        ] {
            assert_eq!(in_range(version, range), taken, "{version} in {range}");
        }
    }

    #[test]
    fn a_range_is_read_to_its_end_or_not_at_all() {
        for range in [
            "",
            "1.x || foo bar",
            "1.x ||",
            "|| 1.x",
            "1.x || || 2.x",
            "1.2.3 foo",
            "foo 1.2.3",
            ">=1.0 <",
            "< >1",
            ">=1.0,<2",
            "1.0 - foo",
            "1.0 - 2.0 - 3.0",
            "~1.y 1.2.3",
            "1.2.3.4",
            ">=1.0<2",
            "1.2-rc",
            "latest",
            "[1,2)",
            ">2 <1",
            "=> 1",
            "1.2.3-",
            "1.2.3-a..b",
        ] {
            assert!(Alternatives::parse(range).is_err(), "{range}");
            assert_eq!(in_range("1.2.3", range), None, "{range}");
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
