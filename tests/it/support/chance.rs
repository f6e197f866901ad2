//! Numbers that look random, the same for the same seed.

pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 up to, and not with, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

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
        Self(self.below(1 << 31) << 31 | self.below(1 << 31))
    }
}
