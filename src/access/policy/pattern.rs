//! Text with wildcards. What a policy writes as `*` or `?` stands for others; what a variable puts in
//! the place of its name is text, whatever characters it has.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// This character.
    Text(char),
    /// `?`: one character, whichever.
    One,
    /// `*`: any number of them.
    Any,
}

/// A text with its wildcards told apart from characters that look like them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyPattern(Vec<Piece>);

impl PolicyPattern {
    /// Reads a text in which every `*` and `?` is a wildcard.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut pattern = Self::default();
        pattern.push_wild(text);
        pattern
    }

    /// Reads a policy's text in which `${name}` stands for what `put` adds to the pattern, and `${*}`,
    /// `${?}` and `${$}` for these characters. `None` where a name has no end, or `put` has nothing.
    pub fn filled(text: &str, put: impl Fn(&mut Self, &str) -> Option<()>) -> Option<Self> {
        let mut pattern = Self::default();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once("${") {
            let (name, after) = from.split_once('}')?;
            pattern.push_wild(before);
            match name {
                "*" | "?" | "$" => pattern.push_text(name),
                name => put(&mut pattern, name)?,
            }
            rest = after;
        }
        pattern.push_wild(rest);
        Some(pattern)
    }

    /// Adds a policy's own text.
    fn push_wild(&mut self, text: &str) {
        self.0.extend(text.chars().map(|c| match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            c => Piece::Text(c),
        }));
    }

    /// Adds text that is meant to the letter.
    pub fn push_text(&mut self, text: &str) {
        self.0.extend(text.chars().map(Piece::Text));
    }

    /// Adds what may be any text.
    pub fn push_any(&mut self) {
        self.0.push(Piece::Any);
    }

    /// Whether it is a lone `*`.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0 == [Piece::Any]
    }

    /// Its characters, for comparisons that know no wildcards.
    #[must_use]
    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(c) => *c,
                Piece::One => '?',
                Piece::Any => '*',
            })
            .collect()
    }

    /// Whether it means this text, whole.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        means(&self.0, text)
    }

    /// Whether it means this ARN. A wildcard does not reach from one part of an ARN into the next,
    /// but for the last.
    #[must_use]
    pub fn matches_arn(&self, arn: &str) -> bool {
        let parts: Vec<&[Piece]> = self.arn_parts().collect();
        let asked: Vec<&str> = arn.splitn(6, ':').collect();
        parts.len() == asked.len()
            && parts
                .iter()
                .zip(&asked)
                .all(|(part, asked)| means(part, asked))
    }

    fn arn_parts(&self) -> impl Iterator<Item = &[Piece]> {
        self.0.splitn(6, |piece| *piece == Piece::Text(':'))
    }

    /// The last part of an ARN that begins with these five, where there is one.
    #[must_use]
    pub fn within(&self, leading: [&str; 5]) -> Option<Self> {
        let parts: Vec<&[Piece]> = self.arn_parts().collect();
        let (last, before) = parts.split_last()?;
        let is_within = before.len() == leading.len()
            && before
                .iter()
                .zip(leading)
                .all(|(part, text)| means(part, text));
        is_within.then(|| Self(last.to_vec()))
    }

    /// Whether it means some text that begins with this one.
    #[must_use]
    pub fn can_begin(&self, text: &str) -> bool {
        // Every place in the pattern up to which the text may have come.
        let mut places = self.with_skipped(vec![0]);
        for c in text.chars() {
            let mut next = Vec::with_capacity(places.len());
            for place in places {
                match self.0.get(place) {
                    Some(Piece::Any) => next.push(place),
                    Some(Piece::One) => next.push(place + 1),
                    Some(Piece::Text(meant)) if *meant == c => next.push(place + 1),
                    _ => {}
                }
            }
            places = self.with_skipped(next);
        }
        !places.is_empty()
    }

    /// The places, with those that are reached where a `*` stands for nothing; in order, each once.
    fn with_skipped(&self, places: Vec<usize>) -> Vec<usize> {
        let mut all = Vec::with_capacity(places.len());
        for mut place in places {
            all.push(place);
            while self.0.get(place) == Some(&Piece::Any) {
                place += 1;
                all.push(place);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Its parts between slashes.
    #[must_use]
    pub fn segments(&self) -> Vec<Self> {
        self.0
            .split(|piece| *piece == Piece::Text('/'))
            .map(|segment| Self(segment.to_vec()))
            .collect()
    }

    /// Whether anything in it is left open.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.0.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }
}

/// Whether the pieces mean the text: to the last `*` whose extent may still grow, no further back.
fn means(pieces: &[Piece], text: &str) -> bool {
    let (mut place, mut rest) = (0, text.chars());
    let mut again: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let ahead = rest.clone().next();
        match (pieces.get(place), ahead) {
            (Some(Piece::Any), _) => {
                again = Some((place + 1, rest.clone()));
                place += 1;
                continue;
            }
            (Some(Piece::One), Some(_)) => {
                place += 1;
                rest.next();
                continue;
            }
            (Some(Piece::Text(meant)), Some(c)) if *meant == c => {
                place += 1;
                rest.next();
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after, from)) = &mut again else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (place, rest) = (*after, from.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_others_and_text_for_itself() {
        for (pattern, text, is_meant) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("*a*", "bab", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "axxcxxb", false),
            ("?", "", false),
            ("?", "ä", true),
            ("a?c", "abc", true),
            ("*?*", "", false),
            ("**a", "aaa", true),
        ] {
            assert_eq!(
                PolicyPattern::new(pattern).matches(text),
                is_meant,
                "{pattern} {text}"
            );
        }
        let mut literal = PolicyPattern::new("a");
        literal.push_text("*?");
        assert!(literal.matches("a*?") && !literal.matches("abc") && !literal.has_wildcards());
    }

    #[test]
    fn what_can_begin_so_can_go_on() {
        for (pattern, text, can) in [
            ("*", "package/corp/", true),
            ("package/*", "package/corp/team/npm/", true),
            ("package/corp/team/npm/*", "package/corp/team/npm/", true),
            ("package/corp/team/npmm/*", "package/corp/team/npm/", false),
            ("package/corp/team/npm", "package/corp/team/npm/", false),
            ("package/*/npm/*", "package/corp/team/npm/", true),
            ("domain/*", "package/corp/", false),
        ] {
            assert_eq!(
                PolicyPattern::new(pattern).can_begin(text),
                can,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_wildcard_ends_with_its_part_of_an_arn() {
        let arn = "arn:aws:iam::444455556666:user/ada";
        for (pattern, is_meant) in [
            ("arn:aws:iam::444455556666:user/*", true),
            ("arn:aws:*", false),
            ("*", false),
            ("arn:*:*:*:*:*", true),
            ("arn:aws:iam:*:user/ada", false),
        ] {
            assert_eq!(
                PolicyPattern::new(pattern).matches_arn(arn),
                is_meant,
                "{pattern}"
            );
        }
    }
}
