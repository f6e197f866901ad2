//! Version ranges for formats whose own notation is the interval: `[1.0,2.0)`, in Maven several of
//! them, `(,1.1),(1.1,)`; and beside it the comparisons that people write in rules: `<2.20`,
//! `>=1,<2`, `1.3.0`, `*`. A range is read to its end or not at all.

use std::cmp::Ordering;
use std::fmt;

/// How a format's versions are ordered, and what of ranges it knows.
#[derive(Clone, Copy)]
pub struct Scheme {
    /// `None` where one of the two is no version.
    pub compare: fn(&str, &str) -> Option<Ordering>,
    /// Whether a range may have several intervals, or one that is open on both sides.
    pub has_unions: bool,
}

/// The versions of any of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRange {
    parts: Vec<Part>,
}

/// The versions between two bounds; without a bound there is no end on that side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    low: Option<Bound>,
    high: Option<Bound>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    version: String,
    /// Whether the version itself is in.
    is_closed: bool,
}

impl VersionRange {
    /// Reads a range; the empty text is any version, as `*` is.
    ///
    /// # Errors
    /// Why it is none: it cannot be read to its end, or no version can be in it.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, String> {
        let text = text.trim();
        let parts = if text.is_empty() || text == "*" {
            vec![Part::default()]
        } else if text.starts_with(['[', '(']) {
            intervals(text, scheme)?
        } else {
            let whole = text.split(',').try_fold(Part::default(), |whole, one| {
                whole.and(comparison(one.trim(), scheme)?, scheme)
            })?;
            vec![whole]
        };
        for part in &parts {
            if part.is_empty(scheme) {
                return Err(format!("no version is in `{part}`"));
            }
        }
        Ok(Self { parts })
    }

    /// Whether the version is in one of the parts; `None` where it cannot be compared.
    #[must_use]
    pub fn contains(&self, version: &str, scheme: Scheme) -> Option<bool> {
        self.parts.iter().try_fold(false, |is_in, part| {
            Some(is_in | part.contains(version, scheme)?)
        })
    }

    /// The version, where the range is that one and no other: `[1.0]`.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [
                Part {
                    low: Some(low),
                    high: Some(high),
                },
            ] if low == high => Some(&low.version),
            _ => None,
        }
    }
}

/// Intervals one behind the other, with commas between them.
fn intervals(text: &str, scheme: Scheme) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix(['[', '(']) {
        let end = inner
            .find([']', ')'])
            .ok_or_else(|| format!("`{rest}` has no end"))?;
        let (inner, behind) = inner.split_at_checked(end).unwrap_or((inner, ""));
        parts.push(interval(
            inner,
            rest.starts_with('['),
            behind.starts_with(']'),
            scheme,
        )?);
        rest = behind.get(1..).unwrap_or_default().trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    if !rest.is_empty() {
        return Err(format!("`{rest}` is no interval"));
    }
    if parts.len() > 1 && !scheme.has_unions {
        return Err("the format knows no ranges of several parts".to_owned());
    }
    Ok(parts)
}

fn interval(
    inner: &str,
    is_closed_below: bool,
    is_closed_above: bool,
    scheme: Scheme,
) -> Result<Part, String> {
    let bound = |text: &str, is_closed| match text.trim() {
        "" => Ok(None),
        text => bound(text, is_closed, scheme).map(Some),
    };
    match inner.split(',').collect::<Vec<_>>().as_slice() {
        [one] if is_closed_below && is_closed_above => {
            let exact = bound(one, true)?.ok_or("`[]` names no version")?;
            Ok(Part::exact(exact))
        }
        [one] => Err(format!("one version alone is written `[{}]`", one.trim())),
        [low, high] => {
            let part = Part {
                low: bound(low, is_closed_below)?,
                high: bound(high, is_closed_above)?,
            };
            if part == Part::default() && !scheme.has_unions {
                return Err("an interval needs a bound".to_owned());
            }
            Ok(part)
        }
        _ => Err(format!("`{inner}` has more than two bounds")),
    }
}

fn comparison(text: &str, scheme: Scheme) -> Result<Part, String> {
    let of = |text: &str, is_closed| bound(text.trim(), is_closed, scheme);
    let (mut low, mut high) = (None, None);
    if let Some(text) = text.strip_prefix("<=") {
        high = Some(of(text, true)?);
    } else if let Some(text) = text.strip_prefix(">=") {
        low = Some(of(text, true)?);
    } else if let Some(text) = text.strip_prefix('<') {
        high = Some(of(text, false)?);
    } else if let Some(text) = text.strip_prefix('>') {
        low = Some(of(text, false)?);
    } else {
        let text = text.strip_prefix('=').unwrap_or(text);
        let text = text.strip_prefix('=').unwrap_or(text);
        return Ok(Part::exact(of(text, true)?));
    }
    Ok(Part { low, high })
}

/// A version that the scheme can compare. What stands in no version is no part of one here either,
/// so that nothing is taken for a version that was meant as something else.
fn bound(text: &str, is_closed: bool, scheme: Scheme) -> Result<Bound, String> {
    if text.is_empty() {
        return Err("a version is missing".to_owned());
    }
    let is_foreign = |c: char| c.is_whitespace() || "[](){}<>=|,*!^\"'".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || text.contains(is_foreign) || (scheme.compare)(text, text).is_none() {
        return Err(format!("`{text}` is no version"));
    }
    Ok(Bound {
        version: text.to_owned(),
        is_closed,
    })
}

impl Part {
    fn exact(version: Bound) -> Self {
        Self {
            low: Some(version.clone()),
            high: Some(version),
        }
    }

    /// The versions that are in both.
    fn and(self, other: Self, scheme: Scheme) -> Result<Self, String> {
        let narrower = |a: Option<Bound>, b: Option<Bound>, nearer: Ordering| {
            let (Some(a), Some(b)) = (&a, &b) else {
                return Ok(a.or(b));
            };
            let order = (scheme.compare)(&a.version, &b.version)
                .ok_or_else(|| format!("`{}` cannot be compared", b.version))?;
            let takes_a = order == nearer || order == Ordering::Equal && !a.is_closed;
            Ok::<_, String>(Some(if takes_a { a } else { b }.clone()))
        };
        Ok(Self {
            low: narrower(self.low, other.low, Ordering::Greater)?,
            high: narrower(self.high, other.high, Ordering::Less)?,
        })
    }

    fn is_empty(&self, scheme: Scheme) -> bool {
        let (Some(low), Some(high)) = (&self.low, &self.high) else {
            return false;
        };
        match (scheme.compare)(&low.version, &high.version) {
            Some(Ordering::Less) => false,
            Some(Ordering::Equal) => !(low.is_closed && high.is_closed),
            Some(Ordering::Greater) | None => true,
        }
    }

    fn contains(&self, version: &str, scheme: Scheme) -> Option<bool> {
        let lies = |bound: &Option<Bound>, inwards: Ordering| match bound {
            None => Some(true),
            Some(bound) => {
                let order = (scheme.compare)(version, &bound.version)?;
                Some(order == inwards || order == Ordering::Equal && bound.is_closed)
            }
        };
        // One that cannot be compared is in no range, also in one without bounds on that side.
        (scheme.compare)(version, version)?;
        let is_above = lies(&self.low, Ordering::Greater)?;
        Some(lies(&self.high, Ordering::Less)? && is_above)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = |bound: &Option<Bound>| bound.as_ref().is_some_and(|it| it.is_closed);
        let version = |bound: &Option<Bound>| bound.as_ref().map(|it| it.version.clone());
        let (low, high) = (version(&self.low), version(&self.high));
        f.write_str(if closed(&self.low) { "[" } else { "(" })?;
        if low == high && low.is_some() && closed(&self.low) && closed(&self.high) {
            return write!(f, "{}]", low.unwrap_or_default());
        }
        write!(
            f,
            "{},{}{}",
            low.unwrap_or_default(),
            high.unwrap_or_default(),
            if closed(&self.high) { "]" } else { ")" }
        )
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(has_unions: bool) -> Scheme {
        Scheme {
            compare: |a, b| Some(a.parse::<u32>().ok()?.cmp(&b.parse().ok()?)),
            has_unions,
        }
    }

    fn contains(range: &str, version: &str) -> Option<bool> {
        let scheme = numbers(true);
        VersionRange::parse(range, scheme)
            .ok()?
            .contains(version, scheme)
    }

    #[test]
    fn ranges_are_read_as_intervals_and_as_comparisons() {
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
            ("[1,10), [14,16)", Some(true)),
            ("(,15),(15,)", Some(false)),
            ("[10", None),
            ("<", None),
            ("<x", None),
        ] {
            assert_eq!(contains(range, "15"), taken, "{range}");
        }
        assert_eq!(contains("(,)", "no version"), None);
    }

    #[test]
    fn what_is_not_read_to_its_end_is_no_range() {
        for range in [
            "[1,2",
            "[1,2),",
            "[1,2),,[3,4)",
            "[1,2),3",
            "[1,2) 3",
            "[1,2,3]",
            "(1)",
            "[1)",
            "[]",
            "1 2",
            ">=1 <2",
            ">=1,",
            ">=1,,<2",
            "[2,1]",
            "(1,1)",
            "[1,1)",
            ">2,<1",
            ">1,<=1",
            "1||2",
            "^1",
            "~1",
            "!=1",
            "1.*",
            "[1.*]",
            "]1,2[",
            "<>1",
            "[<1,2]",
            "[[1,2]]",
        ] {
            let read = VersionRange::parse(range, numbers(true));
            // A comma at the end is Maven's to take.
            assert_eq!(read.is_err(), range != "[1,2),", "{range}: {read:?}");
        }
        for range in ["[1,2),[3,4)", "(,)"] {
            assert!(VersionRange::parse(range, numbers(true)).is_ok(), "{range}");
            assert!(
                VersionRange::parse(range, numbers(false)).is_err(),
                "{range}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_range_is_passed_over(text in "[\\[(][0-9\\[\\](),]{0,12}") {
            if let Ok(range) = VersionRange::parse(&text, numbers(true)) {
                let bare = |text: &str| text.replace(',', "");
                let spelled = range.to_string();
                // `[1,1]` is written `[1]`, and what has no end on a side is open there.
                let again = VersionRange::parse(&spelled, numbers(true)).unwrap();
                prop_assert_eq!(&again, &range);
                prop_assert!(bare(&text).len() >= bare(&spelled).len(), "{} {}", text, spelled);
                let count = |text: &str| text.matches(['[', '(']).count();
                prop_assert_eq!(count(&text), count(&spelled));
            }
        }
    }
}
