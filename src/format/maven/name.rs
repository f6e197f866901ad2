//! Maven's coordinates: `group:artifact`.

use crate::package::{Format, PackageId};
use crate::problem::Problem;

/// # Errors
/// Where the text is not `group:artifact`.
pub fn parse(text: &str) -> Result<PackageId, Problem> {
    match text.split_once(':') {
        Some((group, artifact)) if is_id(group) && is_id(artifact) => {
            Ok(PackageId::new(Format::Maven, Some(group), artifact))
        }
        _ => Err(Problem::invalid(format!("`{text}` is not group:artifact"))),
    }
}

/// Whether Maven's own validation takes the text as an id.
pub fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
