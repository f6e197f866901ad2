//! The older JSON documents, `/pypi/{project}/json`: addresses changed, hidden files left out.

use std::borrow::Cow;

use super::{address, name};
use crate::format::edit::Edits;
use crate::format::json::{Node, quoted};
use crate::format::{FormatError, RenderInput, Rendering, Subject};
use crate::package::PackageId;

pub fn render(input: &RenderInput<'_>, package: &PackageId) -> Result<Rendering, FormatError> {
    let root = Node::document(input.upstream.bytes)?;
    let mut edits = Edits::new();
    if let Some(urls) = root.get("urls") {
        files(input, package, urls, &mut edits)?;
    }
    if let Some(releases) = root.get("releases") {
        let releases = releases.members()?;
        let mut left = Vec::with_capacity(releases.len());
        for release in &releases {
            left.push(files(input, package, release.value, &mut edits)?);
        }
        let ranges: Vec<_> = releases
            .iter()
            .map(|release| release.range.clone())
            .collect();
        edits.retain(&ranges, |index| left.get(index).is_none_or(|left| *left));
    }
    Ok(Rendering {
        body: edits.apply(input.upstream.bytes),
        content_type: Cow::Borrowed("application/json"),
        aliases: Vec::new(),
    })
}

/// Says whether anything is left to show: an empty release always was.
fn files(
    input: &RenderInput<'_>,
    package: &PackageId,
    list: Node<'_>,
    edits: &mut Edits,
) -> Result<bool, FormatError> {
    let files = list.elements()?;
    let mut shown = Vec::with_capacity(files.len());
    for file in &files {
        let node = file.get("url");
        let url = node
            .and_then(|url| url.string())
            .and_then(|url| input.upstream.url.join(&url).ok())
            .ok_or_else(|| FormatError::shape("a file has no address"))?;
        if let Some(node) = node {
            let place = format!(
                "{}simple/{}/{}",
                input.address.base,
                package.name(),
                address::relative(&url)
            );
            edits.replace(node.range(), quoted(&place));
        }
        let file_name = file
            .get("filename")
            .and_then(|name| name.string())
            .unwrap_or_default();
        shown.push(input.shows.is_none_or(|shows| {
            shows(Subject::File {
                file: &address::file(&url),
                version: name::version_of(package.name(), &file_name).unwrap_or_default(),
            })
        }));
    }
    let ranges: Vec<_> = files.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| shown.get(index).copied().unwrap_or(true));
    Ok(files.is_empty() || shown.contains(&true))
}
