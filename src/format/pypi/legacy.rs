//! The older JSON documents, `/pypi/{project}/json`: addresses changed, hidden files left out.

use std::borrow::Cow;

use super::{PypiView, address, page};
use crate::edit::{Edits, ListEdit};
use crate::json::{Node, quoted};
use crate::package::PackageId;
use crate::{FormatError, RenderInput, Rendering, Subject, View};

pub fn render(input: &RenderInput<'_>, package: &PackageId) -> Result<Rendering, FormatError> {
    let root = Node::object_document(input.upstream.bytes)?;
    let mut edits = Edits::new(input.upstream.bytes);
    if let Some(urls) = root.get("urls") {
        let is_left = files(input, package, urls, &mut edits)?;
        // The document of one version that is hidden whole is hidden too.
        if let (
            View::Pypi(PypiView::Legacy {
                version: Some(version),
            }),
            false,
        ) = (&input.document.view, is_left)
        {
            return Err(FormatError::Absent(format!(
                "{} {version} is held back by a rule",
                package.name()
            )));
        }
    }
    if let Some(releases) = root.get("releases") {
        let mut list = ListEdit::default();
        releases.each_member(|release| {
            let is_left = files(input, package, release.value, &mut edits)?;
            list.item(&mut edits, &release.range, is_left);
            Ok(())
        })?;
        list.end(&mut edits);
    }
    Ok(Rendering {
        body: edits.apply(),
        content_type: Cow::Borrowed("application/json"),
        aliases: Vec::new(),
    })
}

/// Says whether anything is left to show: an empty release always was.
fn files(
    input: &RenderInput<'_>,
    package: &PackageId,
    list: Node<'_>,
    edits: &mut Edits<'_>,
) -> Result<bool, FormatError> {
    let (mut is_empty, mut is_left) = (true, false);
    let mut kept = ListEdit::default();
    list.each_element(|element| {
        let file = element.object()?;
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
        let is_shown = input.shows.is_none_or(|shows| {
            shows(Subject::File {
                file: &address::file(&url),
                version: page::version(package, &file_name, &url),
            })
        });
        kept.item(edits, &element.range(), is_shown);
        is_empty = false;
        is_left |= is_shown;
        Ok(())
    })?;
    kept.end(edits);
    Ok(is_empty || is_left)
}
