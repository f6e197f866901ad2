//! Version ranges for formats whose own notation is the interval: `[1.0,2.0)`, and beside it the
//! comparisons that people write in rules: `<2.20`, `>=1,<2`, `1.3.0`, `*`.

use std::cmp::Ordering;

/// Whether a version lies in `range`; `compare` orders the version against a bound. `None` where
/// the range cannot be read.
pub fn contains(range: &str, compare: impl Fn(&str) -> Option<Ordering>) -> Option<bool> {
    let range = range.trim();
    if range == "*" || range.is_empty() {
        return Some(true);
    }
    if let Some(inner) = range.strip_prefix(['[', '(']) {
        let (inner, closed_above) = match inner.strip_suffix(']') {
            Some(inner) => (inner, true),
            None => (inner.strip_suffix(')')?, false),
        };
        return interval(inner, range.starts_with('['), closed_above, compare);
    }
    range.split(',').try_fold(true, |taken, comparison| {
        Some(taken & meets(comparison.trim(), &compare)?)
    })
}

fn interval(
    inner: &str,
    closed_below: bool,
    closed_above: bool,
    compare: impl Fn(&str) -> Option<Ordering>,
) -> Option<bool> {
    let Some((low, high)) = inner.split_once(',') else {
        return Some(compare(inner.trim())? == Ordering::Equal);
    };
    let (low, high) = (low.trim(), high.trim());
    let above = low.is_empty()
        || match compare(low)? {
            Ordering::Greater => true,
            Ordering::Equal => closed_below,
            Ordering::Less => false,
        };
    let below = high.is_empty()
        || match compare(high)? {
            Ordering::Less => true,
            Ordering::Equal => closed_above,
            Ordering::Greater => false,
        };
    Some(above && below)
}

fn meets(comparison: &str, compare: &impl Fn(&str) -> Option<Ordering>) -> Option<bool> {
    let (holds, bound): (fn(Ordering) -> bool, &str) =
        if let Some(bound) = comparison.strip_prefix("<=") {
            (Ordering::is_le, bound)
        } else if let Some(bound) = comparison.strip_prefix(">=") {
            (Ordering::is_ge, bound)
        } else if let Some(bound) = comparison.strip_prefix('<') {
            (Ordering::is_lt, bound)
        } else if let Some(bound) = comparison.strip_prefix('>') {
            (Ordering::is_gt, bound)
        } else {
            (Ordering::is_eq, comparison.trim_start_matches('='))
        };
    let bound = bound.trim();
    if bound.is_empty() {
        return None;
    }
    compare(bound).map(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_intervals_and_as_comparisons() {
        let version = 15u32;
        for (range, taken) in [
            ("*", Some(true)),
            ("[10,20)", Some(true)),
            ("(15,20)", Some(false)),
            ("[15]", Some(true)),
            ("[,15]", Some(true)),
            ("(,15)", Some(false)),
            ("<15", Some(false)),
            (">=10, <16", Some(true)),
            ("15", Some(true)),
            ("=14", Some(false)),
            ("[10", None),
            ("<", None),
            ("<x", None),
        ] {
            let compare = |bound: &str| Some(version.cmp(&bound.parse().ok()?));
            assert_eq!(contains(range, compare), taken, "{range}");
        }
    }
}
