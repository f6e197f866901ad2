//! Changes to a document, kept as ranges of the original: what is not named in one stays byte
//! for byte as upstream sent it.

use std::ops::Range;

/// Replacements and removals in an original, to be applied in one copy. What they hold beside the
/// original is small: an edit is some numbers, and texts that many edits share stand once.
#[derive(Debug)]
pub struct Edits<'a> {
    original: &'a [u8],
    edits: Vec<Edit>,
    /// The texts that take a range's place, one behind the other.
    texts: Vec<u8>,
    /// Where the texts of late stand, the newest first.
    recent: [Range<usize>; RECENT],
}

/// The members of an entry of a registry's document whose texts are looked for again in the next.
const RECENT: usize = 8;

#[derive(Clone, Debug)]
struct Edit {
    range: Range<usize>,
    /// The place of its text in [`Edits::texts`].
    text: Range<usize>,
}

impl<'a> Edits<'a> {
    #[must_use]
    pub fn new(original: &'a [u8]) -> Self {
        Self {
            original,
            edits: Vec::new(),
            texts: Vec::new(),
            recent: Default::default(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub fn replace(&mut self, range: Range<usize>, with: impl AsRef<[u8]>) {
        let with = with.as_ref();
        let before = self.original.get(range.clone()).unwrap_or_default();
        // An address often differs from ours in its beginning alone.
        let same = common_suffix(before, with);
        if same == before.len() && same == with.len() {
            return;
        }
        let (range, with) = (
            range.start..range.end - same,
            with.get(..with.len() - same).unwrap_or_default(),
        );
        let is_it = |recent: &&Range<usize>| self.texts.get((*recent).clone()) == Some(with);
        let text = match self.recent.iter().find(is_it) {
            Some(recent) => recent.clone(),
            None => {
                let start = self.texts.len();
                self.texts.extend_from_slice(with);
                self.recent.rotate_right(1);
                if let Some(newest) = self.recent.first_mut() {
                    *newest = start..self.texts.len();
                }
                start..self.texts.len()
            }
        };
        self.edits.push(Edit { range, text });
    }

    pub fn remove(&mut self, range: Range<usize>) {
        // Ranges side by side are removed as one.
        if let Some(last) = self.edits.last_mut()
            && last.text.is_empty()
            && last.range.end == range.start
        {
            last.range.end = range.end;
            return;
        }
        self.edits.push(Edit { range, text: 0..0 });
    }

    /// Removes the items of a comma-separated list that `keep` refuses, separators included.
    /// `items` are the ranges of all items in order.
    pub fn retain(&mut self, items: &[Range<usize>], keep: impl Fn(usize) -> bool) {
        let mut list = ListEdit::default();
        for (index, item) in items.iter().enumerate() {
            list.item(self, item, keep(index));
        }
        list.end(self);
    }

    /// The document with all changes made; `None` where there are none. Of two overlapping
    /// changes the one that begins first stands, and of two that begin together the longer.
    #[must_use]
    pub fn apply(self) -> Option<Vec<u8>> {
        if self.edits.is_empty() {
            return None;
        }
        let whole = 0..self.original.len();
        Some(self.apply_within(whole))
    }

    /// A part of the document with the changes in it made.
    #[must_use]
    pub fn apply_within(mut self, part: Range<usize>) -> Vec<u8> {
        let order = |edit: &Edit| (edit.range.start, std::cmp::Reverse(edit.range.end));
        if !self.edits.is_sorted_by_key(order) {
            self.edits.sort_by_key(order);
        }
        let added: usize = self.edits.iter().map(|edit| edit.text.len()).sum();
        let mut changed = Vec::with_capacity(part.len().saturating_add(added));
        let mut at = part.start;
        for Edit { range, text } in &self.edits {
            if range.start < at || range.start >= part.end {
                continue;
            }
            changed.extend_from_slice(self.original.get(at..range.start).unwrap_or_default());
            changed.extend_from_slice(self.texts.get(text.clone()).unwrap_or_default());
            at = range.end;
        }
        changed.extend_from_slice(self.original.get(at..part.end).unwrap_or_default());
        changed
    }
}

/// How many bytes at their ends two texts share.
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take_while(|(a, b)| a == b).count()
}

/// A comma-separated list from which items are removed while it is read, separators included.
#[derive(Debug, Default)]
pub struct ListEdit {
    last_kept_end: Option<usize>,
    run_start: Option<usize>,
    last_end: usize,
}

impl ListEdit {
    /// Takes the next item of the list.
    pub fn item(&mut self, edits: &mut Edits<'_>, item: &Range<usize>, is_kept: bool) {
        self.last_end = item.end;
        if !is_kept {
            self.run_start.get_or_insert(item.start);
            return;
        }
        if let Some(start) = self.run_start.take() {
            // The separator behind the run goes with it.
            edits.remove(start..item.start);
        }
        self.last_kept_end = Some(item.end);
    }

    /// Ends the list.
    pub fn end(self, edits: &mut Edits<'_>) {
        if let Some(start) = self.run_start {
            // At the end there is no separator behind the run: the one before it goes.
            edits.remove(self.last_kept_end.unwrap_or(start)..self.last_end);
        }
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
        assert_eq!(Edits::new(b"abc").apply(), None);
        let mut edits = Edits::new(b"abc");
        edits.replace(1..2, "b");
        assert_eq!(edits.apply(), None);
    }

    #[test]
    fn a_change_inside_a_removed_item_goes_with_it() {
        let mut edits = Edits::new(b"abcde");
        edits.replace(2..3, "x");
        edits.remove(1..4);
        assert_eq!(edits.apply().unwrap(), b"ae");
    }

    #[test]
    fn a_part_is_written_with_the_changes_in_it() {
        let mut edits = Edits::new(b"abcdefg");
        edits.replace(0..1, "x");
        edits.replace(3..4, "yy");
        edits.replace(6..7, "z");
        assert_eq!(edits.apply_within(2..5), b"cyye");
    }

    #[test]
    fn a_text_that_many_places_share_is_held_once() {
        let original = b"http://a/1 http://a/2 http://a/3";
        let mut edits = Edits::new(original);
        for (start, with) in [(0, "b/1"), (11, "b/2"), (22, "b/3")] {
            edits.replace(start..start + 10, with);
        }
        assert_eq!(edits.texts, b"b");
        assert_eq!(edits.apply().unwrap(), b"b/1 b/2 b/3");
    }

    proptest! {
        #[test]
        fn what_is_left_of_a_list_is_a_list_in_the_same_order(keep in proptest::collection::vec(any::<bool>(), 1..9)) {
            let all: Vec<String> = (0..keep.len()).map(|n| n.to_string()).collect();
            let text = format!("[ {} ]", all.join(" , "));
            let mut edits = Edits::new(text.as_bytes());
            edits.retain(&items(&text), |index| keep[index]);
            let kept: Vec<&str> = all.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(n, _)| n.as_str()).collect();
            let changed = edits.apply().unwrap_or_else(|| text.clone().into_bytes());
            let parsed: Vec<u8> = serde_json::from_slice(&changed).unwrap();
            prop_assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), kept);
        }
    }
}
