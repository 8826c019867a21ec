//! Chance that can be repeated: the same seed and name draw the same numbers. SplitMix64 (Steele, Lea and Flood 2014).

/// Draws numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Each `name` has numbers of its own, so that who draws more often does not change what others draw.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut random = Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash) ^ seed);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in from..until.
    pub fn between(&mut self, from: f64, until: f64) -> f64 {
        from + self.unit() * (until - from)
    }

    /// A number in 0..count; 0 if there is none.
    pub fn below(&mut self, count: usize) -> usize {
        self.next().checked_rem(count as u64).unwrap_or(0) as usize
    }

    /// True so often.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_names_do_not_share_theirs() {
        let draw = |seed, name| {
            let mut random = Random::new(seed, name);
            std::array::from_fn::<u64, 4, _>(|_| random.next())
        };
        assert_eq!(draw(7, "load"), draw(7, "load"));
        assert_ne!(draw(7, "load"), draw(8, "load"));
        assert_ne!(draw(7, "load"), draw(7, "faults"));
    }

    #[test]
    fn chances_come_about_as_often_as_asked() {
        let mut random = Random::new(1, "test");
        let hits = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| (3.0..5.0).contains(&random.between(3.0, 5.0)) && random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
