//! Python's versions (PEP 440).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifiers};

/// One spelling for a version, so that `1.0-RC1` is `1rc1`, and `1.0.0` is `1`. What is no version
/// stays as it is.
pub fn normalised(text: &str) -> Cow<'_, str> {
    let Ok(version) = Version::from_str(text) else {
        return Cow::Borrowed(text);
    };
    let mut numbers = version.release().to_vec();
    while numbers.len() > 1 && numbers.last() == Some(&0) {
        numbers.pop();
    }
    Cow::Owned(version.with_release(numbers).to_string())
}

/// PEP 440's order. What is no version is older than any; of two such the letters decide.
pub fn compare(a: &str, b: &str) -> Ordering {
    let read = |text: &str| Version::from_str(text).ok();
    let letters = || normalised(a).cmp(&normalised(b));
    read(a).cmp(&read(b)).then_with(letters)
}

/// Also what is no version.
pub fn is_prerelease(text: &str) -> bool {
    Version::from_str(text).map_or(true, |version| version.any_prerelease())
}

pub fn in_range(version: &str, range: &str) -> Option<bool> {
    if range.trim() == "*" {
        return Some(true);
    }
    let specifiers = specifiers(range).ok()?;
    let version = Version::from_str(version).ok()?;
    // PEP 440 keeps 2.0rc1 out of `<2.0`; a rule that denies below 2.0 means it too.
    Some(
        specifiers.contains(&version)
            || (version.any_prerelease() && specifiers.contains(&version.only_release())),
    )
}

/// # Errors
/// Why it is no range.
pub fn check_range(range: &str) -> Result<(), String> {
    if range.trim() == "*" {
        return Ok(());
    }
    specifiers(range).map(|_| ())
}

/// PEP 440's specifiers; a version alone is that version.
fn specifiers(range: &str) -> Result<VersionSpecifiers, String> {
    let range = range.trim();
    let bare = range.starts_with(|c: char| c.is_ascii_alphanumeric());
    let exact = format!("=={range}");
    let text = if bare { &exact } else { range };
    if !text.is_empty() && text.split(',').any(|one| one.trim().is_empty()) {
        return Err("a specifier is missing between two commas or at an end".to_owned());
    }
    VersionSpecifiers::from_str(text).map_err(|_| "it is no list of PEP 440 specifiers".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_pep_440_specifiers() {
        for (version, range, taken) in [
            ("2.19.1", "<2.20", Some(true)),
            ("2.20", "<2.20", Some(false)),
            ("1.0", "1.0", Some(true)),
            ("1.0.post1", "==1.0", Some(false)),
            ("1.4.2", "~=1.4", Some(true)),
            ("1.0", ">=1,<2", Some(true)),
            ("not a version", "<1", None),
            ("1.0", "<<1", None),
            ("1.0", ">=1,", None),
            ("1.0", ">=1,,<2", None),
            ("1.0", ">=1 <2", None),
            ("1.0", "1.0 foo", None),
            ("1.0", ">=1.0 <", None),
        ] {
            assert_eq!(in_range(version, range), taken, "{version} {range}");
        }
    }
}
