//! The short packument, cut out of the full one: what `application/vnd.npm.install-v1+json`
//! has, by npm's registry documentation (package metadata, abbreviated form).

use crate::FormatError;
use crate::edit::{Edits, ListEdit};
use crate::json::{Member, Node, Object};

const VERSION_FIELDS: &[&str] = &[
    "name",
    "version",
    "deprecated",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "bin",
    "directories",
    "dist",
    "engines",
    "funding",
    "_hasShrinkwrap",
    "hasInstallScript",
    "cpu",
    "os",
    "libc",
];

/// Leaves out the members of the packument that the short form has not. Its versions are shortened
/// one by one, by [`shorten_version`].
pub fn shorten(root: &Object<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    let mut list = ListEdit::default();
    for member in root.members() {
        let is_kept = match member.name.as_ref() {
            "name" | "dist-tags" | "versions" => true,
            "time" => match member.value.get("modified")? {
                Some(modified) => {
                    let modified = format!("\"modified\":{}", modified.text());
                    edits.replace(member.range.clone(), modified);
                    true
                }
                None => false,
            },
            _ => false,
        };
        list.item(edits, &member.range, is_kept);
    }
    list.end(edits);
    Ok(())
}

/// Leaves out the members of a version that the short form has not.
pub fn shorten_version(version: Node<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    let manifest = version.object()?;
    let says_so = manifest.get("hasInstallScript").is_some();
    let mut list = ListEdit::default();
    for field in manifest.members() {
        let mut is_kept = VERSION_FIELDS.contains(&field.name.as_ref());
        if field.name == "scripts" && !says_so && is_run_on_install(field)? {
            edits.replace(field.range.clone(), "\"hasInstallScript\":true");
            is_kept = true;
        }
        list.item(edits, &field.range, is_kept);
    }
    list.end(edits);
    Ok(())
}

fn is_run_on_install(scripts: &Member<'_>) -> Result<bool, FormatError> {
    for hook in ["preinstall", "install", "postinstall"] {
        if scripts.value.get(hook)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
