//! Counts with their nouns: `1 file`, `2 files`.

use std::fmt::Display;

/// The count and its noun, in the plural unless there is one of it.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = match noun {
        _ if count == N::from(1) => "",
        _ if noun.ends_with("sh") => "es",
        _ => "s",
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_named_in_the_singular() {
        assert_eq!(counted(0_u64, "file"), "0 files");
        assert_eq!(counted(1_usize, "file"), "1 file");
        assert_eq!(counted(2_u32, "hit"), "2 hits");
        assert_eq!(counted(2_u64, "wish"), "2 wishes");
    }
}
