//! Changes to a document, kept as ranges of the original: what is not named in one stays byte
//! for byte as upstream sent it.

use std::ops::Range;

/// Replacements and removals, to be applied in one copy.
#[derive(Debug, Default)]
pub struct Edits {
    edits: Vec<(Range<usize>, Vec<u8>)>,
}

impl Edits {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub fn replace(&mut self, range: Range<usize>, with: impl Into<Vec<u8>>) {
        self.edits.push((range, with.into()));
    }

    pub fn remove(&mut self, range: Range<usize>) {
        self.edits.push((range, Vec::new()));
    }

    /// Removes the items of a comma-separated list that `keep` refuses, separators included.
    /// `items` are the ranges of all items in order.
    pub fn retain(&mut self, items: &[Range<usize>], keep: impl Fn(usize) -> bool) {
        let mut last_kept_end = None;
        let mut run_start: Option<usize> = None;
        for (index, item) in items.iter().enumerate() {
            if keep(index) {
                if let Some(start) = run_start.take() {
                    // The separator behind the run goes with it.
                    self.remove(start..item.start);
                }
                last_kept_end = Some(item.end);
            } else if run_start.is_none() {
                run_start = Some(item.start);
            }
        }
        if let (Some(start), Some(last)) = (run_start, items.last()) {
            // At the end there is no separator behind the run: the one before it goes.
            self.remove(last_kept_end.unwrap_or(start)..last.end);
        }
    }

    /// The document with all changes made; `None` where there are none. Of two overlapping
    /// changes the one that begins first stands, and of two that begin together the longer.
    #[must_use]
    pub fn apply(mut self, original: &[u8]) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits
            .sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let added: usize = self.edits.iter().map(|(_, with)| with.len()).sum();
        let mut changed = Vec::with_capacity(original.len().saturating_add(added));
        let mut at = 0;
        for (range, with) in &self.edits {
            if range.start < at {
                continue;
            }
            changed.extend_from_slice(original.get(at..range.start).unwrap_or_default());
            changed.extend_from_slice(with);
            at = range.end;
        }
        changed.extend_from_slice(original.get(at..).unwrap_or_default());
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte ranges of the single digits in `text`.
    fn items(text: &str) -> Vec<Range<usize>> {
        text.bytes()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_digit())
            .map(|(at, _)| at..at + 1)
            .collect()
    }

    #[test]
    fn without_a_change_there_is_no_copy() {
        assert_eq!(Edits::new().apply(b"abc"), None);
    }

    #[test]
    fn a_change_inside_a_removed_item_goes_with_it() {
        let mut edits = Edits::new();
        edits.replace(2..3, "x");
        edits.remove(1..4);
        assert_eq!(edits.apply(b"abcde").unwrap(), b"ae");
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_list_is_a_list_in_the_same_order(keep in proptest::collection::vec(any::<bool>(), 1..9)) {
            let all: Vec<String> = (0..keep.len()).map(|n| n.to_string()).collect();
            let text = format!("[ {} ]", all.join(" , "));
            let mut edits = Edits::new();
            edits.retain(&items(&text), |index| keep[index]);
            let kept: Vec<&str> = all.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(n, _)| n.as_str()).collect();
            let changed = edits.apply(text.as_bytes()).unwrap_or_else(|| text.clone().into_bytes());
            let parsed: Vec<u8> = serde_json::from_slice(&changed).unwrap();
            prop_assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), kept);
        }
    }
}
