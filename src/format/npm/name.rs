//! npm's package names. Old names may have capitals; scopes never change the rules.

use crate::package::{Format, PackageId, UpstreamPath};
use crate::path::encode;
use crate::problem::Problem;

/// Reads `name` or `@scope/name`.
///
/// # Errors
/// Where it is no name that a registry could have (length, leading dot, characters that a URL
/// would have to encode).
pub fn parse(text: &str) -> Result<PackageId, Problem> {
    let (scope, name) = match text.strip_prefix('@') {
        Some(scoped) => {
            let (scope, name) = scoped
                .split_once('/')
                .ok_or_else(|| refused(text, "a scope needs a name behind a slash"))?;
            (Some(scope), name)
        }
        None => (None, text),
    };
    if text.len() > 214 {
        return Err(refused("…", "it is longer than 214 characters"));
    }
    for part in scope.into_iter().chain([name]) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~!'()*".contains(c);
        if part.is_empty() || !part.chars().all(allowed) {
            return Err(refused(text, "it has characters that names do not have"));
        }
        if part.starts_with('.') {
            return Err(refused(text, "it starts with a dot"));
        }
    }
    Ok(PackageId::new(Format::Npm, scope, name))
}

/// Reads a tag, which clients put into paths as it is.
///
/// # Errors
/// Where it has characters that a path would have to encode, or is a step in one.
pub fn tag(text: &str) -> Result<&str, Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~!'()*".contains(c);
    let is_step = matches!(text, "" | "." | "..");
    if is_step || text.len() > 214 || !text.chars().all(allowed) {
        let shown: String = text.chars().take(80).collect();
        return Err(Problem::invalid(format!(
            "`{}` is no tag: letters, digits and -_.~!'()* are",
            shown.escape_debug()
        )));
    }
    Ok(text)
}

/// The name, perhaps with a version behind it, as one path segment: the scope's slash encoded as
/// npm itself does.
#[must_use]
pub fn segment(full_name: &str) -> UpstreamPath {
    match full_name
        .strip_prefix('@')
        .and_then(|it| it.split_once('/'))
    {
        Some((scope, name)) => UpstreamPath::scoped(scope, name),
        None => UpstreamPath::new(full_name),
    }
}

/// [`segment`] as text.
#[must_use]
pub fn encoded(package: &PackageId) -> String {
    match package.namespace() {
        Some(scope) => format!("@{}%2f{}", encode(scope), encode(package.name())),
        None => encode(package.name()),
    }
}

fn refused(text: &str, why: &str) -> Problem {
    Problem::invalid(format!("`{text}` is no npm package name: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_every_spelling_the_registry_has() {
        for (text, full) in [
            ("left-pad", "left-pad"),
            ("@Scope/Name", "@Scope/Name"),
            ("JSONStream", "JSONStream"),
            ("@types/node", "@types/node"),
        ] {
            assert_eq!(parse(text).unwrap().full_name(), full);
        }
        for text in [
            "", "@", "@a", "@a/", "@/a", ".hidden", "a b", "a/b", "@a/b/c", "%2e", "@a/.b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
