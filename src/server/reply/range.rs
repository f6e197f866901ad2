//! `Range` (RFC 9110 §14): one range of bytes. Several at once are answered with the whole, as
//! the standard allows.

/// What a `Range` header asks of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
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
pub fn parse(header: &str, size: u64) -> Wanted {
    let Some(spec) = header.strip_prefix("bytes=") else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Wanted::Whole,
        (Some(first), _) if first >= size => Wanted::Nothing,
        (Some(first), Some(last)) => Wanted::Part {
            first,
            last: last.min(size - 1),
        },
        (Some(first), None) if last.is_empty() => Wanted::Part {
            first,
            last: size - 1,
        },
        (None, Some(0)) if first.is_empty() => Wanted::Nothing,
        (None, Some(_)) if first.is_empty() && size == 0 => Wanted::Nothing,
        (None, Some(count)) if first.is_empty() => Wanted::Part {
            first: size.saturating_sub(count),
            last: size - 1,
        },
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, wanted) in [
            ("bytes=0-4", part(0, 4)),
            ("bytes=5-", part(5, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-30", part(0, 9)),
            ("bytes=8-99", part(8, 9)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_range_never_leaves_the_body(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", size in 0u64..1000) {
            if let Wanted::Part { first, last } = parse(&header, size) {
                prop_assert!(first <= last && last < size);
            }
        }
    }
}
