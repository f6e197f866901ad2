use std::collections::HashSet;

use crate::FormatError;

/// The body of a [`crate::Target::Question`]: a client asks its registry about all packages that a
/// project has (npm's `audit`).
pub trait AuditQuestion: Sync {
    /// The packages, by name, that the question is about; none where it cannot be read.
    fn names(&self, body: &[u8]) -> Vec<String>;

    /// The question without these packages.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn without(&self, body: &[u8], names: &HashSet<String>) -> Result<Vec<u8>, FormatError>;
}
