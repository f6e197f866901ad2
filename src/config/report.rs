//! `[report]`: what is remembered of who used what.

use std::time::Duration;

use super::document::Section;

/// How long usage and wishes are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// How long days and pulls are remembered.
    pub keep: Duration,
    /// Lines of who pulled what on one day.
    pub pulls_max: usize,
    /// The most wishes that are remembered: packages that clients asked for offline and that are
    /// not here.
    pub wishes_max: usize,
}

impl ReportSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let report = Self {
            keep: section
                .take("keep")
                .unwrap_or(Duration::from_secs(400 * 24 * 3600)),
            pulls_max: section.take("pulls_max").unwrap_or(1_000_000),
            wishes_max: section.take("wishes_max").unwrap_or(100_000),
        };
        section.finish();
        report
    }
}
