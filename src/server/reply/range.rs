//! `Range` (RFC 9110 §14): one range of bytes. Several at once are answered with the whole, as
//! the standard allows.

/// The part of a body that a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedRange {
    Whole,
    /// From the first to the last byte, both included.
    Part {
        first: u64,
        last: u64,
    },
    /// Nothing of the body lies in the range.
    Nothing,
}

/// Reads the header for a body of `size` bytes.
pub fn parse(header: &str, size: u64) -> WantedRange {
    let Some(spec) = header.strip_prefix("bytes=") else {
        return WantedRange::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else {
        return WantedRange::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => WantedRange::Whole,
        (Some(first), _) if first >= size => WantedRange::Nothing,
        (Some(first), Some(last)) => WantedRange::Part {
            first,
            last: last.min(size - 1),
        },
        (Some(first), None) if last.is_empty() => WantedRange::Part {
            first,
            last: size - 1,
        },
        (None, Some(0)) if first.is_empty() => WantedRange::Nothing,
        (None, Some(_)) if first.is_empty() && size == 0 => WantedRange::Nothing,
        (None, Some(count)) if first.is_empty() => WantedRange::Part {
            first: size.saturating_sub(count),
            last: size - 1,
        },
        _ => WantedRange::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let part = |first, last| WantedRange::Part { first, last };
        for (header, wanted) in [
            ("bytes=0-4", part(0, 4)),
            ("bytes=5-", part(5, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=8-99", part(8, 9)),
            ("bytes=10-", WantedRange::Nothing),
            ("bytes=-0", WantedRange::Nothing),
            ("bytes=4-2", WantedRange::Whole),
            ("bytes=0-1,3-4", WantedRange::Whole),
            ("bytes=a-b", WantedRange::Whole),
            ("bytes=-", WantedRange::Whole),
            ("lines=1-2", WantedRange::Whole),
            ("", WantedRange::Whole),
        ] {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_the_body(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in 0u64..1000) {
            if let WantedRange::Part { first, last } = parse(&header, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
