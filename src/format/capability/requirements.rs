use crate::package::PackageId;
use crate::problem::Problem;
use crate::upload::Readable;

/// A package that a file needs, in some version of a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    pub package: PackageId,
    /// In the format's own scheme; empty: any version.
    pub range: String,
}

/// Finds the packages that files need to be installed or built, beside those that a list names (PEP
/// 518's `build-system.requires`, core metadata's `Requires-Dist`).
pub trait Requirements: Sync {
    /// # Errors
    /// Where the file is not what its name says.
    fn needs(&self, file: &str, content: &mut dyn Readable) -> Result<Vec<Need>, Problem>;
}
