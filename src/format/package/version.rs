use std::cmp::Ordering;
use std::fmt;

use super::Format;

/// A version of some package of one format, in the one spelling for all that mean the same version.
/// Made by the format alone ([`crate::Protocol::version`]); ordered as the format orders versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionId {
    format: Format,
    text: Box<str>,
}

impl VersionId {
    /// The caller, a format, has normalised the text.
    pub(crate) fn new(format: Format, text: &str) -> Self {
        Self {
            format,
            text: text.into(),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Ord for VersionId {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_format = self.format.cmp(&other.format);
        by_format.then_with(|| self.format.protocol().compare(&self.text, &other.text))
    }
}

impl PartialOrd for VersionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
