use std::io::{Read, Write};

use crate::package::AssetId;
use crate::problem::Problem;
use crate::upload::Parted;
use crate::{DocumentId, FormatError};

/// Publishes that are a document with the file in it, base64, in its `_attachments` (CouchDB's
/// inline attachments, which npm's registry takes). The document without the file is its *words*.
pub trait Attachments: Sync {
    /// Takes a publish apart while it comes in. The file's bytes go to `file`.
    ///
    /// # Errors
    /// Where it is not what the format says, or its words have more than `words_max` bytes.
    fn take_apart(
        &self,
        body: &mut dyn Read,
        file: &mut dyn Write,
        words_max: u64,
    ) -> Result<Parted, Problem>;

    /// The document of a registry that has the words of an asset's version, since its file has
    /// fewer than documents need.
    fn words_in(&self, asset: &AssetId) -> DocumentId;

    /// The words out of that document, as a publish of the version would have them.
    ///
    /// # Errors
    /// Where it is not what the format says, or has no such version.
    fn words(&self, document: &[u8], version: &str) -> Result<Vec<u8>, FormatError>;
}
