use http::HeaderName;

use crate::Resource;
use crate::package::{Location, PackageId, UpstreamPath};
use crate::problem::Problem;
use crate::upload::{Inspected, Upload};

/// How clients publish files, and where registries take them.
pub trait Uploads {
    /// Looks into a file that is to be published: what it is, and whether it agrees with what was
    /// said of it.
    ///
    /// # Errors
    /// Where it does not.
    fn inspect(&self, upload: &mut Upload<'_>) -> Result<Inspected, Problem>;

    /// Where a registry of the format takes what is sent to this path below a repository, and the
    /// same below an address that is for publishes alone.
    fn published_at(&self, rest: &str) -> (Location, UpstreamPath);

    /// All documents of a registry that a publish of the package makes old; `None` where they
    /// cannot be told from the package alone.
    fn outdated_by_publish(&self, package: &PackageId) -> Option<Vec<Resource>>;

    /// Whether clients publish a file of this name, and registries do not make it of another.
    fn is_published(&self, file: &str) -> bool;

    /// The headers beside `Authorization` by which clients say who they are.
    fn credential_headers(&self) -> &'static [HeaderName];
}

/// [`Uploads::published_at`] where registries take publishes at the path that clients send them to.
pub fn at_its_path(rest: &str) -> (Location, UpstreamPath) {
    let path = UpstreamPath::from_request(rest);
    (Location::Path(path.clone()), path)
}
