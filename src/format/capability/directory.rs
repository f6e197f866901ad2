use url::Url;

use crate::Resource;
use crate::package::{UpstreamPath, UpstreamUrl};

/// The document that says where a registry keeps its resources (NuGet Server API, "Service index").
/// Resources are named by type, [`crate::package::Location::Service`].
pub trait Directory: Sync {
    /// Where a connection has the document.
    fn directory_document(&self) -> Resource;

    /// The addresses that the document has for what Larder asks for.
    fn services(&self, directory: &[u8]) -> Vec<Url>;

    /// The address of `path` below the first of `types` that the document has; `None` where it has
    /// none of them, or the address would lead elsewhere.
    fn locate(&self, directory: &[u8], types: &[&str], path: &UpstreamPath) -> Option<UpstreamUrl>;

    /// The document of our own packages.
    fn own_directory(&self) -> Vec<u8>;
}
