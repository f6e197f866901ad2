//! One page of several sources', the nearest first.

use std::collections::HashSet;

use url::Url;

use super::{Form, HTML_TYPE, PypiView, page};
use crate::json::Node;
use crate::{DocumentId, FormatError, OWN, Upstream, View};

pub fn merges(document: &DocumentId) -> bool {
    matches!(
        document.view,
        View::Pypi(PypiView::Project(_) | PypiView::Index(_))
    )
}

pub fn merge(document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
    match document.view {
        View::Pypi(PypiView::Project(Form::Json)) => json(parts, "files", "filename"),
        View::Pypi(PypiView::Project(_)) => html(parts),
        _ => Err(FormatError::shape("not a page that is merged")),
    }
}

/// The nearest page, with the others' files and versions behind its own.
fn json(parts: &[&[u8]], list: &str, key: &str) -> Result<Vec<u8>, FormatError> {
    let mut files = Vec::new();
    let mut versions = Vec::new();
    let (mut seen, mut named) = (HashSet::new(), HashSet::new());
    let mut has_versions = true;
    for part in parts {
        let root = Node::object_document(part)?;
        for file in root
            .get(list)
            .map_or_else(|| Ok(Vec::new()), |it| it.elements())?
        {
            let name = file.get(key)?.and_then(|name| name.string());
            if name.is_some_and(|name| seen.insert(name.into_owned())) {
                files.push(file.text());
            }
        }
        match root.get("versions") {
            Some(list) => {
                for version in list.elements()? {
                    if named.insert(version.text().to_owned()) {
                        versions.push(version.text());
                    }
                }
            }
            None => has_versions = false,
        }
    }
    let mut out = String::from("{");
    if let Some(nearest) = parts.first() {
        for member in Node::document(nearest)?.members()? {
            if member.name == "meta" {
                out.push_str(&format!("\"meta\":{},", meta(member.value, has_versions)?));
            } else if member.name != list && member.name != "versions" {
                out.push_str(&format!(
                    "{}:{},",
                    crate::json::quoted(&member.name),
                    member.value.text()
                ));
            }
        }
    }
    if has_versions {
        out.push_str(&format!("\"versions\":[{}],", versions.join(",")));
    }
    out.push_str(&format!("\"{list}\":[{}]}}", files.join(",")));
    Ok(out.into_bytes())
}

/// The nearest page's `meta`, without members that are about its source alone: the number of the
/// registry's last change, and PEP 700's promises where not every source keeps them.
fn meta(nearest: Node<'_>, has_versions: bool) -> Result<String, FormatError> {
    if !has_versions {
        return Ok(r#"{"api-version":"1.0"}"#.to_owned());
    }
    let kept: Vec<String> = nearest
        .members()?
        .iter()
        .filter(|member| member.name != "_last-serial")
        .map(|member| {
            format!(
                "{}:{}",
                crate::json::quoted(&member.name),
                member.value.text()
            )
        })
        .collect();
    Ok(format!("{{{}}}", kept.join(",")))
}

/// The nearest page, with the others' links before its end.
fn html(parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
    let base = Url::parse(OWN).map_err(|_| FormatError::shape("no address"))?;
    let mut seen = HashSet::new();
    let mut links = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let page = page::read(&Upstream {
            bytes: part,
            media_type: HTML_TYPE,
            url: &base,
            base: &base,
            directory: None,
        })?;
        for file in page.files {
            if seen.insert(file.name) && index > 0 {
                let link = part.get(file.range).unwrap_or_default();
                links.extend_from_slice(link);
                links.extend_from_slice(b"<br />\n");
            }
        }
    }
    let nearest = parts.first().copied().unwrap_or_default();
    let end = memchr::memmem::rfind(nearest, b"</body>").unwrap_or(nearest.len());
    let (before, after) = nearest.split_at_checked(end).unwrap_or((nearest, b""));
    Ok([before, &links, without_serial(after)].concat())
}

/// The end of a page without the comment that gives the number of the registry's last change: that
/// of one source is not that of all.
fn without_serial(end: &[u8]) -> &[u8] {
    memchr::memmem::find(end, b"<!--SERIAL ")
        .and_then(|at| end.get(..at))
        .unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(form: Form, parts: &[&str]) -> String {
        let document = DocumentId {
            package: None,
            view: View::Pypi(PypiView::Project(form)),
        };
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        String::from_utf8(merge(&document, &parts).unwrap()).unwrap()
    }

    #[test]
    fn files_of_all_are_listed_once_in_either_form() {
        let near = r#"{"meta":{"_last-serial":7,"api-version":"1.1"},"name":"a","versions":["2"],"files":[{"filename":"a-2.tar.gz","url":"-/a-2.tar.gz"}]}"#;
        let far = r#"{"meta":{"api-version":"1.1"},"name":"a","versions":["1","2"],"files":[{"filename":"a-1.tar.gz","url":"h/a-1.tar.gz"},{"filename":"a-2.tar.gz","url":"h/a-2.tar.gz"}]}"#;
        assert_eq!(
            merged(Form::Json, &[near, far]),
            r#"{"meta":{"api-version":"1.1"},"name":"a","versions":["2","1"],"files":[{"filename":"a-2.tar.gz","url":"-/a-2.tar.gz"},{"filename":"a-1.tar.gz","url":"h/a-1.tar.gz"}]}"#
        );
        let old = r#"{"meta":{"api-version":"1.0"},"files":[]}"#;
        assert!(merged(Form::Json, &[near, old]).starts_with(r#"{"meta":{"api-version":"1.0"}"#));
        let near =
            "<html><body><a href=\"-/a-2.tar.gz\">a-2.tar.gz</a></body></html>\n<!--SERIAL 7-->";
        let far = "<body><a href=\"h/a-1.tar.gz\">a-1.tar.gz</a><a href=\"h/a-2.tar.gz\">a-2.tar.gz</a></body>";
        assert_eq!(
            merged(Form::PlainHtml, &[near, far]),
            "<html><body><a href=\"-/a-2.tar.gz\">a-2.tar.gz</a><a href=\"h/a-1.tar.gz\">a-1.tar.gz</a><br />\n</body></html>\n"
        );
    }
}
