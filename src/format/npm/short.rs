//! The short packument, derived from the full one: what `application/vnd.npm.install-v1+json`
//! has, by npm's registry documentation (package metadata, abbreviated form).

use crate::FormatError;
use crate::json::{Member, Node, quoted};

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

pub fn short(full: &[u8]) -> Result<Vec<u8>, FormatError> {
    let root = Node::document(full)?.members()?;
    let mut out = String::with_capacity(full.len() / 2);
    out.push('{');
    for member in &root {
        match member.name.as_ref() {
            "name" | "dist-tags" => push(&mut out, &member.name, member.value.text()),
            "time" => {
                if let Some(modified) = member.value.get("modified")? {
                    push(&mut out, "modified", modified.text());
                }
            }
            "versions" => {
                let mut versions = String::from("{");
                for version in member.value.members()? {
                    push(&mut versions, &version.name, &short_version(&version)?);
                }
                versions.push('}');
                push(&mut out, "versions", &versions);
            }
            _ => {}
        }
    }
    out.push('}');
    Ok(out.into_bytes())
}

fn short_version(version: &Member<'_>) -> Result<String, FormatError> {
    let manifest = version.value.object()?;
    let fields = manifest.members();
    let mut out = String::from("{");
    for field in fields {
        if VERSION_FIELDS.contains(&field.name.as_ref()) {
            push(&mut out, &field.name, field.value.text());
        }
    }
    if let (None, Some(scripts)) = (manifest.get("hasInstallScript"), manifest.get("scripts")) {
        for hook in ["preinstall", "install", "postinstall"] {
            if scripts.get(hook)?.is_some() {
                push(&mut out, "hasInstallScript", "true");
                break;
            }
        }
    }
    out.push('}');
    Ok(out)
}

fn push(out: &mut String, name: &str, value: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(&quoted(name));
    out.push(':');
    out.push_str(value);
}
