//! Maven's order of versions and its ranges.

use std::cmp::Ordering;

use crate::format::range;

pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    // The library slices by bytes.
    if !a.is_ascii() || !b.is_ascii() || a.is_empty() || b.is_empty() {
        return None;
    }
    maven_version::compare_version(a, b).ok()
}

pub fn in_range(version: &str, range: &str) -> Option<bool> {
    range::contains(range, |bound| compare(version, bound))
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

    proptest! {
        #[test]
        fn no_version_makes_it_panic(a in ".{0,24}", b in "[0-9a-z.-]{0,24}") {
            let _ = compare(&a, &b);
        }
    }
}
