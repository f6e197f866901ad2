//! NuGet's versions: SemVer 2 with an optional fourth number, compared without case.
//! Source: NuGet's package versioning reference.

use std::cmp::Ordering;

use nodejs_semver::Version;

use crate::range::{Scheme, VersionRange};

const SCHEME: Scheme = Scheme {
    compare: precedence,
    has_unions: false,
};

/// The form in which versions stand in addresses: no build metadata, no leading zeros, three
/// numbers or four, lower case. What is no version stays as it is, in lower case.
pub fn normalised(text: &str) -> String {
    let lower = text.trim().to_lowercase();
    let Some((numbers, prerelease)) = split(&lower) else {
        return lower;
    };
    let [major, minor, patch, revision] = numbers;
    let mut version = format!("{major}.{minor}.{patch}");
    if revision > 0 {
        version.push_str(&format!(".{revision}"));
    }
    if !prerelease.is_empty() {
        version.push_str(&format!("-{prerelease}"));
    }
    version
}

fn split(text: &str) -> Option<([u64; 4], &str)> {
    let (without_build, build) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, prerelease) = without_build.split_once('-').unwrap_or((without_build, ""));
    let is_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !prerelease.chars().chain(build.chars()).all(is_label) {
        return None;
    }
    let mut parsed = [0; 4];
    let mut places = parsed.iter_mut();
    for number in numbers.split('.') {
        *places.next()? = number.parse().ok()?;
    }
    Some((parsed, prerelease))
}

/// Also what is no version.
pub fn is_prerelease(text: &str) -> bool {
    split(text.trim()).is_none_or(|(_, label)| !label.is_empty())
}

/// The numbers, and the label in SemVer's order of labels; none where it is no version.
fn read(text: &str) -> Option<([u64; 4], Version)> {
    let lower = text.trim().to_lowercase();
    let (numbers, prerelease) = split(&lower)?;
    let label = if prerelease.is_empty() {
        "0.0.0".to_owned()
    } else {
        format!("0.0.0-{prerelease}")
    };
    Some((numbers, Version::parse(label).ok()?))
}

/// `None` where one of the two is no version.
fn precedence(a: &str, b: &str) -> Option<Ordering> {
    Some(read(a)?.cmp(&read(b)?))
}

/// The order of all texts: what is no version is older than any, and of two that come at one place
/// the letters decide.
pub fn compare(a: &str, b: &str) -> Ordering {
    let letters = || normalised(a).cmp(&normalised(b));
    read(a).cmp(&read(b)).then_with(letters)
}

pub fn is_version(text: &str) -> bool {
    read(text).is_some()
}

pub fn in_range(version: &str, range: &str) -> Option<bool> {
    VersionRange::parse(range, SCHEME)
        .ok()?
        .contains(version, SCHEME)
}

/// # Errors
/// Why it is no range.
pub fn check_range(range: &str) -> Result<(), String> {
    VersionRange::parse(range, SCHEME).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_normalised_as_addresses_have_them() {
        for (text, normal) in [
            ("1.0", "1.0.0"),
            ("1.01.0", "1.1.0"),
            ("1.0.0.0", "1.0.0"),
            ("1.2.3.4-Beta.1+sha", "1.2.3.4-beta.1"),
            ("odd", "odd"),
            (" 1.0-rc +b", "1.0-rc +b"),
        ] {
            assert_eq!(normalised(text), normal);
        }
    }

    #[test]
    fn a_label_has_letters_digits_and_hyphens_alone() {
        for text in ["1.0-rc.1+b-1", "1.0.0.1-RC", "1.0+b"] {
            assert!(is_version(text), "{text}");
        }
        for text in [
            "1.0-r\0c", "1.0-a/b", "1.0-../x", "1.0-a b", "1.0+b c", "1.0-ä",
        ] {
            assert!(!is_version(text), "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_with_four_numbers_and_labels() {
        for (a, b, order) in [
            ("1.0.0-beta.2", "1.0.0-BETA.10", Ordering::Less),
            ("1.0.0-rc", "1.0.0", Ordering::Less),
            ("1.0.0.1", "1.0.0", Ordering::Greater),
            ("1.0", "1.0.0.0", Ordering::Equal),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
        }
        assert_eq!(in_range("13.0.3", "[13.0.0,14)"), Some(true));
        assert_eq!(in_range("13.0.3", "<13"), Some(false));
        for range in ["[1.0,2.0),[3.0,)", "1.*", ">=1.0 <2.0", "(,)", "1.0.0.0.0"] {
            assert!(check_range(range).is_err(), "{range}");
        }
    }
}
