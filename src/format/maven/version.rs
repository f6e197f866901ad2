//! Maven's order of versions and its ranges.

use std::cmp::Ordering;

use crate::range::{self, Scheme};

const SCHEME: Scheme = Scheme {
    compare: |a, b| Some(precedence(a, b)),
    has_unions: true,
};

/// A Maven version as it is compared: runs of numbers and runs of words in turn, the first run
/// being of numbers. A run goes on with nothings for ever, so that `1.0` is `1`. Source:
/// `GenericVersion` of Maven's resolver.
struct Runs {
    begins_with_number: bool,
    runs: Vec<Vec<Item>>,
}

/// A number or a word; the default is the nothing that runs go on with.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    /// Orders words: negative ranks are below the nothing that runs go on with, positive ones above
    /// it. Zero for numbers.
    rank: i8,
    /// How many digits a number has, without leading zeros.
    digits: usize,
    text: String,
}

const MILESTONE: i8 = -3;
const BETA: i8 = -4;
const ALPHA: i8 = -5;

impl Item {
    fn number(digits: &str) -> Self {
        let digits = digits.trim_start_matches('0');
        Self {
            rank: 0,
            digits: digits.len(),
            text: digits.to_owned(),
        }
    }

    fn word(word: &str, is_before_number: bool) -> Self {
        let lower = word.to_lowercase();
        let rank = match lower.as_str() {
            "a" if is_before_number => ALPHA,
            "b" if is_before_number => BETA,
            "m" if is_before_number => MILESTONE,
            "alpha" => ALPHA,
            "beta" => BETA,
            "milestone" => MILESTONE,
            "rc" | "cr" => -2,
            "snapshot" => -1,
            "ga" | "final" | "release" => 0,
            "sp" => 1,
            _ => 2,
        };
        Self {
            rank,
            digits: 0,
            text: if rank == 2 { lower } else { String::new() },
        }
    }
}

impl Runs {
    fn read(version: &str) -> Self {
        let mut runs = vec![Vec::new()];
        let mut are_numbers = true;
        let mut begins_with_number = true;
        let mut rest = version;
        while let Some(first) = rest.chars().next() {
            let is_number = first.is_ascii_digit() || is_separator(first);
            let end = rest
                .find(|c: char| is_separator(c) || c.is_ascii_digit() != is_number)
                .unwrap_or(rest.len());
            let (token, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
            let is_before_number = behind.starts_with(|c: char| c.is_ascii_digit());
            let item = if is_number {
                Item::number(token)
            } else {
                Item::word(token, is_before_number)
            };
            if rest.len() == version.len() {
                begins_with_number = is_number;
            }
            if is_number != are_numbers {
                runs.push(Vec::new());
                are_numbers = is_number;
            }
            if let Some(run) = runs.last_mut() {
                run.push(item);
            }
            rest = behind.strip_prefix(is_separator).unwrap_or(behind);
        }
        Self {
            begins_with_number,
            runs,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let by_begin = self.begins_with_number.cmp(&other.begins_with_number);
        let in_run = |a: &Vec<Item>, b: &Vec<Item>| in_turn(a, b, Item::cmp);
        by_begin.then_with(|| in_turn(&self.runs, &other.runs, in_run))
    }
}

/// Compares one by one; the shorter list goes on with defaults.
fn in_turn<T: Default>(a: &[T], b: &[T], compare: impl Fn(&T, &T) -> Ordering) -> Ordering {
    let missing = T::default();
    (0..a.len().max(b.len()))
        .map(|index| {
            let (a, b) = (a.get(index), b.get(index));
            compare(a.unwrap_or(&missing), b.unwrap_or(&missing))
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '-' | '_')
}

/// Compares as Maven does: `1.0` equals `1`.
fn precedence(a: &str, b: &str) -> Ordering {
    Runs::read(a).compare(&Runs::read(b))
}

/// The order of all texts; of two that are one to Maven, by their letters.
pub fn compare(a: &str, b: &str) -> Ordering {
    precedence(a, b).then_with(|| a.cmp(b))
}

/// Whether it comes before a release: an alpha, beta, milestone, release candidate or snapshot.
pub fn is_prerelease(version: &str) -> bool {
    let runs = Runs::read(version).runs;
    runs.iter().flatten().any(|item| item.rank < 0)
}

/// A range of Maven's: one interval or several, as advisories with fixes on several lines have
/// them; a version is in it where it is in any of them.
/// Source: Maven's `VersionRange` and its resolver's `GenericVersionScheme`.
pub struct MavenRange(range::VersionRange);

impl MavenRange {
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        range::VersionRange::parse(text, SCHEME).map(Self)
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
    MavenRange::parse(range).ok()?.contains(version)
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
            ("1.0-rc9", "1.0-rc10"),
            ("1.0-alpha", "1.0-beta"),
            ("1.0-milestone", "1.0-cr"),
            ("33.0-android", "33.0-jre"),
            ("1-sp", "1-jre"),
            ("1-jre", "1.1"),
            ("1.1", "1.1-1"),
            ("1.0-20240101.120000-1", "1.0-20240102.120000-1"),
            ("99999999999999999999", "100000000000000000000"),
            ("release", "0"),
        ] {
            assert_eq!(precedence(a, b), Ordering::Less, "{a} {b}");
        }
        for (a, b) in [
            ("1.0", "1"),
            ("1.0-ga", "1"),
            ("1.0.Final", "1-0"),
            ("1.a1", "1.0-alpha-1"),
            ("1.cr2", "1_RC_2"),
            ("01.00", "1"),
        ] {
            assert_eq!(precedence(a, b), Ordering::Equal, "{a} {b}");
        }
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
            assert!(MavenRange::parse(range).is_err(), "{range}");
        }
        assert_eq!(MavenRange::parse("[1.0]").unwrap().exact(), Some("1.0"));
        assert_eq!(MavenRange::parse("[1.0][2.0]").unwrap().exact(), None);
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
            let above = self.low.is_none_or(|low| match precedence(low, version) {
                Ordering::Equal => self.is_low_in,
                order => order.is_lt(),
            });
            let below = self
                .high
                .is_none_or(|high| match precedence(high, version) {
                    Ordering::Equal => self.is_high_in,
                    order => order.is_gt(),
                });
            above && below
        }

        /// Whether Maven takes it: bounds in order, and some version between them.
        fn is_one(&self) -> bool {
            let (Some(low), Some(high)) = (self.low, self.high) else {
                return true;
            };
            match precedence(low, high) {
                Ordering::Less => true,
                Ordering::Equal => self.is_low_in && self.is_high_in,
                Ordering::Greater => false,
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
            let read = MavenRange::parse(&written);
            prop_assert_eq!(read.is_ok(), parts.iter().all(Restriction::is_one), "{}", written);
            for version in SOME_VERSIONS.iter().filter(|_| read.is_ok()) {
                let is_in = parts.iter().any(|part| part.contains(version));
                prop_assert_eq!(in_range(version, &written), Some(is_in), "{} in {}", version, written);
            }
        }
    }

    /// Versions in a repository may be of any length, and every listing compares them.
    #[test]
    fn a_long_version_takes_no_longer_than_its_letters() {
        let long = "1-".repeat(100_000);
        assert_eq!(precedence(&long, &format!("{long}0")), Ordering::Equal);
        assert_eq!(precedence(&long, &format!("{long}1")), Ordering::Less);
    }
}
