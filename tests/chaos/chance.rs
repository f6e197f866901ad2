//! Choices, by numbers that look random.

use crate::support::Chance;

impl Chance {
    /// Whether so many of a hundred throws fall this way.
    pub fn of_100(&mut self, odds: u64) -> bool {
        self.below(100) < odds
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len() as u64);
        &of[usize::try_from(at).unwrap()]
    }

    /// Another source of numbers, which this one's further ones do not depend on.
    pub fn another(&mut self) -> Self {
        Self::new((self.below(1 << 31) << 31) | self.below(1 << 31))
    }
}
