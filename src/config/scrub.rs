//! `[scrub]`: stored files are read through in the background.

use super::document::{Bytes, Section};

/// How fast files are read through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubSettings {
    /// Bytes a second; 0: never.
    pub rate: u64,
}

impl ScrubSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let rate = section.take::<Bytes>("rate");
        section.finish();
        Self {
            rate: rate.map_or(1024 * 1024, |rate| rate.0),
        }
    }
}
