//! yarn.lock of both kinds.

use yarn_lock_parser::{Entry, parse_str};

use super::npm::tarball;
use super::{Needs, Read, want};
use crate::package::Format;

pub fn read(text: &str) -> Read {
    let lockfile = parse_str(text).map_err(|_| "it is not what Yarn writes".to_owned())?;
    let mut needs = Needs::default();
    for entry in &lockfile.entries {
        add(&mut needs, entry)?;
    }
    Ok(needs)
}

fn add(needs: &mut Needs, entry: &Entry<'_>) -> Result<(), String> {
    let described = || format!("{}: {}", entry.name, entry.resolved);
    // Berry says what it resolved to in its own words, `name@npm:1.0.0`.
    if let Some((name, range)) = berry(entry.resolved) {
        let Some(version) = range.strip_prefix("npm:") else {
            // A patched package has an entry of its own, beside that of the package from the
            // registry.
            if !range.starts_with("workspace:") && !range.starts_with("patch:") {
                needs.elsewhere(described());
            }
            return Ok(());
        };
        // A tarball that has no usual place stands behind the version.
        let version = version.split("::").next().unwrap_or_default();
        // Its checksum is of Yarn's own archive, not of the registry's.
        needs
            .wants
            .push(want(Format::Npm, name, version)?.with(tarball(None)));
        return Ok(());
    }
    let is_of_registry = entry.integrity.len() > 1 || entry.resolved.contains(".tgz#");
    if !entry.resolved.starts_with("http") || !is_of_registry {
        needs.elsewhere(described());
        return Ok(());
    }
    // An alias is locked under its own name: `alias@npm:name@^1`.
    let alias = entry
        .descriptors
        .iter()
        .find_map(|(_, range)| range.strip_prefix("npm:"));
    let name = match alias {
        Some(alias) => {
            alias.rsplit_once('@').map_or(
                alias,
                |(name, _)| {
                    if name.is_empty() { alias } else { name }
                },
            )
        }
        None => entry.name,
    };
    let integrity = Some(entry.integrity).filter(|text| !text.is_empty());
    let want = want(Format::Npm, name, entry.version)?;
    needs.wants.push(want.with(tarball(integrity)));
    Ok(())
}

/// `@scope/name@npm:1.0.0`; none where it is an address, as yarn classic has it.
fn berry(resolved: &str) -> Option<(&str, &str)> {
    if resolved.starts_with("http:") || resolved.starts_with("https:") {
        return None;
    }
    let at = resolved.get(1..)?.find('@')? + 1;
    Some((resolved.get(..at)?, resolved.get(at + 1..)?))
}
