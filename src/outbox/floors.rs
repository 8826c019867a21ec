//! Floors: how far a lane was claimed. Index entries of rows that are gone stay as long as an old snapshot may see them; whoever starts
//! at the floor does not walk over them at every claim.
//!
//! Invariant: what is due before its floor (committed late, let go by somebody else, its lease over) is found by whoever clears the
//! floors, which a worker does once a second.

use jiff::Timestamp;

use crate::model::rule::LANE_CLASSES;

/// For each class of a lane the due time before which nothing is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors([Timestamp; LANE_CLASSES]);

impl Floors {
    /// Nothing was claimed yet.
    pub const NONE: Self = Self([Timestamp::UNIX_EPOCH; LANE_CLASSES]);

    /// The lane was claimed up to the `last` class and its floor; the classes before it hold nothing that was due before `empty_before`;
    /// without a last one, all of them.
    pub fn raise(&mut self, last: Option<(i16, Timestamp)>, empty_before: Timestamp) {
        for (class, known) in (0..).zip(&mut self.0) {
            let floor = match last {
                Some((last, _)) if class > last => return,
                Some((last, floor)) if class == last => floor,
                _ => empty_before,
            };
            *known = floor.max(*known);
        }
    }

    /// Where others rose higher, these do too.
    pub fn rise_to(&mut self, others: Self) {
        for (known, other) in self.0.iter_mut().zip(others.0) {
            *known = other.max(*known);
        }
    }

    /// By class.
    pub fn iter(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn floors_rise_up_to_where_a_lane_was_claimed_and_never_fall() {
        // What was known, how far a claim came, before when the classes before that are empty; what is known then.
        let cases = [
            ("nothing was due", [0; 8], None, 9, [9; 8]),
            ("it came into the first class", [0; 8], Some((0, 5)), 9, [5, 0, 0, 0, 0, 0, 0, 0]),
            ("those before are empty", [0; 8], Some((3, 5)), 9, [9, 9, 9, 5, 0, 0, 0, 0]),
            ("it came into the last", [0; 8], Some((7, 5)), 9, [9, 9, 9, 9, 9, 9, 9, 5]),
            ("those after keep theirs", [1, 2, 3, 4, 5, 6, 7, 8], Some((1, 5)), 9, [9, 5, 3, 4, 5, 6, 7, 8]),
            ("what is known is higher", [20; 8], Some((2, 5)), 9, [20; 8]),
            ("some are higher", [20, 1, 20, 1, 20, 1, 20, 1], None, 9, [20, 9, 20, 9, 20, 9, 20, 9]),
        ];
        for (what, known, last, empty_before, expected) in cases {
            let mut floors = Floors(known.map(at));
            floors.raise(last.map(|(class, floor)| (class, at(floor))), at(empty_before));
            assert_eq!(floors, Floors(expected.map(at)), "{what}");
        }
    }

    #[test]
    fn of_two_claims_at_once_the_higher_floor_of_each_class_is_kept() {
        let mut floors = Floors([1, 9, 3, 9, 5, 9, 7, 9].map(at));
        floors.rise_to(Floors([9, 2, 9, 4, 9, 6, 9, 8].map(at)));
        assert_eq!(floors, Floors([9; 8].map(at)));
    }
}
