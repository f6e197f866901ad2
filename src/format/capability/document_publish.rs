use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::package::AssetId;
use crate::problem::Problem;
use crate::upload::Parted;
use crate::{DocumentId, FormatError};

/// Publishes that are the package's document, edited: with a new version and its file in it
/// (CouchDB's inline `_attachments`, which npm's registry takes), or with other words about versions
/// that are there. The document without the file is its *words*.
pub trait DocumentPublish: Sync {
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

    /// Reads a document that was sent without a file, to change published versions; `None` where
    /// it changes none.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn amendment(&self, words: &[u8]) -> Result<Option<Amendment>, Problem>;

    /// The manifest with another word of deprecation; `None` where it says that already.
    fn deprecated(&self, manifest: &str, word: &str) -> Option<String>;
}

/// The changes to published versions in a document that was sent without a file.
#[derive(Debug, Default)]
pub struct Amendment {
    /// Each named version with its word of deprecation; empty: none.
    pub deprecated: BTreeMap<String, String>,
    /// `None`: the document does not say.
    pub tags: Option<BTreeMap<String, String>>,
    /// The revision of the document that the client read, where it says so.
    pub revision: Option<String>,
}
