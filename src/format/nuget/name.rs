//! NuGet's package ids: case does not tell them apart.

use crate::package::{Format, PackageId};
use crate::problem::Problem;

/// # Errors
/// Where the text is no package id (letters, digits, `.`, `_`, `-`; 100 characters at most).
pub fn parse(text: &str) -> Result<PackageId, Problem> {
    let allowed = |c: char| c.is_alphanumeric() || "._-".contains(c);
    if text.is_empty()
        || text.chars().count() > 100
        || !text.chars().all(allowed)
        || text.starts_with('.')
    {
        return Err(Problem::invalid(format!("`{text}` is no NuGet package id")));
    }
    Ok(PackageId::new(Format::Nuget, None, &text.to_lowercase()))
}
