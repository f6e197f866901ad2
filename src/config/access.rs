//! `[access]`: who is let in.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::document::Section;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether clients have to say who they are. Policies decide what they may do.
    pub required: bool,
    /// Whether a client that does not say who it is, is the principal `anonymous`. Policies decide
    /// what that one may do.
    pub anonymous: bool,
    /// Different wrong credentials of one address in a minute.
    pub failures_max: u32,
    /// A file of JSON lines: who did what, and what was refused; none: the log.
    pub audit: Option<PathBuf>,
}

impl AccessSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let access = Self {
            required: section.take("required").unwrap_or(false),
            anonymous: section.take("anonymous").unwrap_or(false),
            failures_max: section
                .take::<NonZeroU32>("failures_max")
                .map_or(20, NonZeroU32::get),
            audit: section.take::<String>("audit").map(PathBuf::from),
        };
        section.finish();
        access
    }
}
