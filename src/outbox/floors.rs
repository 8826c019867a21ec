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

    /// By class.
    pub fn iter(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().copied()
    }
}
