//! Maven's order of versions and its ranges.

use std::cmp::Ordering;

use crate::range::{self, Scheme};

const SCHEME: Scheme = Scheme {
    compare,
    has_unions: true,
};

pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    // The library slices by bytes.
    if !a.is_ascii() || !b.is_ascii() || a.is_empty() || b.is_empty() {
        return None;
    }
    maven_version::compare_version(a, b).ok()
}

/// A range of Maven's: one interval or several, as advisories with fixes on several lines have
/// them; a version is in it where it is in any of them.
/// Source: Maven's `VersionRange` and its resolver's `GenericVersionScheme`.
pub struct Range(range::Range);

impl Range {
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        range::Range::parse(text, SCHEME).map(Self)
    }

    /// `None` where the version cannot be compared.
    #[must_use]
    pub fn contains(&self, version: &str) -> Option<bool> {
        self.0.contains(version, SCHEME)
    }

    /// The version, where the range is that one and no other.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        self.0.exact()
    }
}

pub fn in_range(version: &str, range: &str) -> Option<bool> {
    Range::parse(range).ok()?.contains(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn maven_orders_its_own_way() {
        for (a, b) in [
            ("1.0-alpha-1", "1.0"),
            ("1.0-SNAPSHOT", "1.0"),
            ("1.0", "1.0-sp"),
            ("1.9", "1.10"),
            ("1.0-rc1", "1.0-rc2"),
        ] {
            assert_eq!(compare(a, b), Some(Ordering::Less), "{a} {b}");
        }
        assert_eq!(compare("1.0", "1"), Some(Ordering::Equal));
        assert_eq!(in_range("2.13.0", "[2.0,2.15.0)"), Some(true));
        assert_eq!(in_range("2.17.1", "<2.17.1"), Some(false));
    }

    #[test]
    fn several_parts_are_one_range() {
        let versions = ["0.9", "1.0", "1.0.1", "1.1", "1.1.1", "1.2", "2.0"];
        for (range, taken) in [
            ("(,1.0.1),[1.1,1.1.1)", vec!["0.9", "1.0", "1.1"]),
            ("[1.0],[2.0]", vec!["1.0", "2.0"]),
            (
                "(,1.1),(1.1,)",
                vec!["0.9", "1.0", "1.0.1", "1.1.1", "1.2", "2.0"],
            ),
            ("[1.2,)[0.9]", vec!["0.9", "1.2", "2.0"]),
        ] {
            let found = versions
                .iter()
                .filter(|it| in_range(it, range) == Some(true));
            assert_eq!(found.copied().collect::<Vec<_>>(), taken, "{range}");
        }
        for range in [
            "[1.0,1.1),foo",
            "[1.0,1.1",
            "(1.0)",
            "[1,2,3]",
            "foo bar",
            "${x}",
            "[2,1]",
        ] {
            assert!(Range::parse(range).is_err(), "{range}");
        }
        assert_eq!(Range::parse("[1.0]").unwrap().exact(), Some("1.0"));
        assert_eq!(Range::parse("[1.0][2.0]").unwrap().exact(), None);
    }

    /// One part, as Maven's `Restriction` holds it.
    #[derive(Clone, Debug)]
    struct Restriction {
        low: Option<&'static str>,
        is_low_in: bool,
        high: Option<&'static str>,
        is_high_in: bool,
    }

    impl Restriction {
        /// Maven's `Restriction.containsVersion`.
        fn contains(&self, version: &str) -> bool {
            let above = self.low.is_none_or(|low| match compare(low, version) {
                Some(Ordering::Equal) => self.is_low_in,
                order => order == Some(Ordering::Less),
            });
            let below = self.high.is_none_or(|high| match compare(high, version) {
                Some(Ordering::Equal) => self.is_high_in,
                order => order == Some(Ordering::Greater),
            });
            above && below
        }

        /// Whether Maven takes it: bounds in order, and some version between them.
        fn is_one(&self) -> bool {
            let (Some(low), Some(high)) = (self.low, self.high) else {
                return true;
            };
            match compare(low, high) {
                Some(Ordering::Less) => true,
                Some(Ordering::Equal) => self.is_low_in && self.is_high_in,
                _ => false,
            }
        }

        fn write(&self, space: &str) -> String {
            let (low, high) = (self.low.unwrap_or_default(), self.high.unwrap_or_default());
            let open = if self.is_low_in { '[' } else { '(' };
            let close = if self.is_high_in { ']' } else { ')' };
            format!("{open}{space}{low}{space},{space}{high}{space}{close}")
        }
    }

    const SOME_VERSIONS: &[&str] = &[
        "0.9",
        "1",
        "1.0",
        "1.0-alpha-1",
        "1.0-beta2",
        "1.0-rc1",
        "1.0-SNAPSHOT",
        "1.0-sp",
        "1.0.1",
        "1.1",
        "1.9",
        "1.10",
        "1.10.0",
        "2",
        "2.0.0.Final",
        "2.0-jre",
        "20041127.091804",
    ];

    fn restriction() -> impl Strategy<Value = Restriction> {
        let bound = || proptest::option::of(proptest::sample::select(SOME_VERSIONS));
        (bound(), any::<bool>(), bound(), any::<bool>()).prop_map(
            |(low, is_low_in, high, is_high_in)| Restriction {
                low,
                is_low_in,
                high,
                is_high_in,
            },
        )
    }

    proptest! {
        /// Maven's `VersionRange.containsVersion`: in any of its restrictions.
        #[test]
        fn a_version_is_in_a_range_when_it_is_in_any_part(
            parts in proptest::collection::vec(restriction(), 1..5),
            space in " {0,2}",
        ) {
            let written: Vec<String> = parts.iter().map(|part| part.write(&space)).collect();
            let written = written.join(&format!("{space},{space}"));
            let read = Range::parse(&written);
            prop_assert_eq!(read.is_ok(), parts.iter().all(Restriction::is_one), "{}", written);
            for version in SOME_VERSIONS.iter().filter(|_| read.is_ok()) {
                let is_in = parts.iter().any(|part| part.contains(version));
                prop_assert_eq!(in_range(version, &written), Some(is_in), "{} in {}", version, written);
            }
        }

        #[test]
        fn no_version_makes_it_panic(a in ".{0,24}", b in "[0-9a-z.-]{0,24}") {
            let _ = compare(&a, &b);
        }
    }
}
