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
    let roots: Vec<_> = parts
        .iter()
        .map(|part| Node::object_document(part))
        .collect::<Result<_, _>>()?;
    let has_versions = roots.iter().all(|root| root.get("versions").is_some());
    let length = parts.iter().map(|part| part.len()).sum();
    let mut out = String::with_capacity(length);
    out.push('{');
    for member in roots.first().map_or(&[][..], |nearest| nearest.members()) {
        if member.name == "meta" {
            out.push_str(&format!("\"meta\":{},", meta(member.value, has_versions)?));
        } else if member.name != list && member.name != "versions" {
            out.push_str(&crate::json::quoted(&member.name));
            out.push(':');
            out.push_str(member.value.text());
            out.push(',');
        }
    }
    if has_versions {
        out.push_str("\"versions\":[");
        let mut named = HashSet::new();
        for versions in roots.iter().filter_map(|root| root.get("versions")) {
            versions.each_element(|version| {
                if named.insert(version.text()) {
                    push(&mut out, version.text());
                }
                Ok(())
            })?;
        }
        out.push_str("],");
    }
    out.push_str(&format!("\"{list}\":["));
    let mut seen = HashSet::new();
    for files in roots.iter().filter_map(|root| root.get(list)) {
        files.each_element(|file| {
            let name = file.get(key)?.and_then(|name| name.string());
            if name.is_some_and(|name| seen.insert(name)) {
                push(&mut out, file.text());
            }
            Ok(())
        })?;
    }
    out.push_str("]}");
    Ok(out.into_bytes())
}

/// Writes another element of an array.
fn push(out: &mut String, element: &str) {
    if !out.ends_with('[') {
        out.push(',');
    }
    out.push_str(element);
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
    let nearest = parts.first().copied().unwrap_or_default();
    let end = memchr::memmem::rfind(nearest, b"</body>").unwrap_or(nearest.len());
    let (before, after) = nearest.split_at_checked(end).unwrap_or((nearest, b""));
    let mut seen = HashSet::new();
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    out.extend_from_slice(before);
    for (index, part) in parts.iter().enumerate() {
        let upstream = Upstream {
            bytes: part,
            media_type: HTML_TYPE,
            url: &base,
            base: &base,
            directory: None,
        };
        page::read(&upstream, &mut |file| {
            if seen.insert(file.name) && index > 0 {
                let link = part.get(file.range).unwrap_or_default();
                out.extend_from_slice(link);
                out.extend_from_slice(b"<br />\n");
            }
            Ok(())
        })?;
    }
    out.extend_from_slice(without_serial(after));
    Ok(out)
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
