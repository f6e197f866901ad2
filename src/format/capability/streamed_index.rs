use std::io::{BufRead, Write};

use crate::package::PackageId;
use crate::{DocumentId, FormatError};

/// A large document on its way.
pub struct StreamInput<'a> {
    pub document: &'a DocumentId,
    pub media_type: &'a str,
    pub reader: &'a mut dyn BufRead,
    /// Whether the index names the package.
    pub shows: &'a (dyn Fn(&PackageId) -> bool + 'a),
    /// Our own packages, which upstream's index does not name.
    pub own: &'a [String],
}

/// An index of all packages, too large to be held whole (PEP 503's root, PEP 691's project list).
pub trait StreamedIndex: Sync {
    /// Renders the index in memory that does not grow with it.
    ///
    /// # Errors
    /// Where it is not what the format says, or reading or writing fails.
    fn stream(&self, input: &mut StreamInput<'_>, out: &mut dyn Write) -> Result<(), FormatError>;

    /// The media type that it is rendered in.
    fn media_type(&self, document: &DocumentId) -> &'static str;
}
