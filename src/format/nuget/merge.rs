//! One document of several sources', the nearest first.

use std::collections::HashSet;

use super::{NugetView, version};
use crate::json::{Node, quoted};
use crate::package::BlobId;
use crate::{DocumentId, FormatError, View};

pub fn merges(document: &DocumentId) -> bool {
    match &document.view {
        View::Nuget(NugetView::Registration { path, .. }) => path.ends_with("/index.json"),
        View::Nuget(view) => matches!(
            view,
            NugetView::ServiceIndex
                | NugetView::FlatIndex
                | NugetView::Search { .. }
                | NugetView::Autocomplete { .. }
                | NugetView::Vulnerabilities
        ),
        _ => false,
    }
}

pub fn merge(document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
    let parts: Vec<Node<'_>> = parts
        .iter()
        .map(|part| Node::document(part))
        .collect::<Result<_, _>>()?;
    let View::Nuget(view) = &document.view else {
        return Err(FormatError::shape("not a document of NuGet"));
    };
    match view {
        NugetView::FlatIndex => flat_index(&parts),
        NugetView::Vulnerabilities => pages(&parts),
        NugetView::ServiceIndex => list(&parts, "resources", |node| text(node, "@type")),
        NugetView::Search { .. } => found(&parts, |node| text(node, "id")),
        NugetView::Autocomplete { .. } => found(&parts, |node| node.text().to_lowercase()),
        _ => list(&parts, "items", page),
    }
}

/// The key that tells pages apart. Pages of several sources may have one address. With their leaves
/// in them they are different pages all the same, since no two sources show one version.
fn page(node: &Node<'_>) -> String {
    match node.get_in_any_case("items") {
        Ok(Some(_)) => BlobId::of(node.text().as_bytes()).to_hex(),
        _ => text(node, "@id"),
    }
}

/// The text of the member that identifies an element; the whole element where it has none.
fn text(node: &Node<'_>, member: &str) -> String {
    let value = node.get(member).ok().flatten();
    value.unwrap_or(*node).text().to_lowercase()
}

/// The elements of all lists of that name; of two with one key the nearer stands.
fn elements<'a>(
    parts: &[Node<'a>],
    name: &str,
    key: impl Fn(&Node<'a>) -> String,
) -> Result<Vec<&'a str>, FormatError> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for part in parts {
        for element in part
            .get(name)?
            .map_or_else(|| Ok(Vec::new()), |it| it.elements())?
        {
            if seen.insert(key(&element)) {
                all.push(element.text());
            }
        }
    }
    Ok(all)
}

/// The nearest document with the lists of all in the place of its own.
fn list<'a>(
    parts: &[Node<'a>],
    name: &str,
    key: impl Fn(&Node<'a>) -> String,
) -> Result<Vec<u8>, FormatError> {
    let all = elements(parts, name, key)?;
    let mut out = String::from("{");
    for member in parts
        .first()
        .map_or_else(|| Ok(Vec::new()), Node::members)?
    {
        if !out.ends_with('{') {
            out.push(',');
        }
        out.push_str(&quoted(&member.name));
        out.push(':');
        if member.name == name {
            array(&all, &mut out);
        } else if member.name == "count" {
            out.push_str(&all.len().to_string());
        } else {
            out.push_str(member.value.text());
        }
    }
    out.push('}');
    Ok(out.into_bytes())
}

fn array(elements: &[&str], out: &mut String) {
    let length: usize = elements.iter().map(|element| element.len() + 1).sum();
    out.reserve(length);
    out.push('[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(element);
    }
    out.push(']');
}

fn found<'a>(
    parts: &[Node<'a>],
    key: impl Fn(&Node<'a>) -> String,
) -> Result<Vec<u8>, FormatError> {
    let all = elements(parts, "data", key)?;
    let total: u64 = parts
        .iter()
        .filter_map(|part| part.get("totalHits").ok()??.read::<u64>().ok())
        .sum();
    let mut out = format!("{{\"totalHits\":{total},\"data\":");
    array(&all, &mut out);
    out.push('}');
    Ok(out.into_bytes())
}

/// The pages of all: each is about packages by their names, whoever lists it.
fn pages(parts: &[Node<'_>]) -> Result<Vec<u8>, FormatError> {
    let mut all = Vec::new();
    for part in parts {
        all.extend(part.elements()?.iter().map(Node::text));
    }
    let mut out = String::new();
    array(&all, &mut out);
    Ok(out.into_bytes())
}

fn flat_index(parts: &[Node<'_>]) -> Result<Vec<u8>, FormatError> {
    let mut versions = elements(parts, "versions", |node| node.text().to_lowercase())?;
    versions.sort_by(|a, b| version::compare(a.trim_matches('"'), b.trim_matches('"')));
    let mut out = String::from("{\"versions\":");
    array(&versions, &mut out);
    out.push('}');
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(view: NugetView, near: &str, far: &str) -> String {
        let document = DocumentId {
            package: None,
            view: View::Nuget(view),
        };
        String::from_utf8(merge(&document, &[near.as_bytes(), far.as_bytes()]).unwrap()).unwrap()
    }

    #[test]
    fn lists_are_joined_and_counted() {
        assert_eq!(
            merged(
                NugetView::FlatIndex,
                r#"{"versions":["1.10.0"]}"#,
                r#"{"versions":["1.9.0","1.10.0"]}"#
            ),
            r#"{"versions":["1.9.0","1.10.0"]}"#
        );
        assert_eq!(
            merged(
                NugetView::ServiceIndex,
                r#"{"version":"3.0.0","resources":[{"@id":"a","@type":"X"}]}"#,
                r#"{"resources":[{"@id":"b","@type":"X"},{"@id":"c","@type":"Y"}]}"#
            ),
            r#"{"version":"3.0.0","resources":[{"@id":"a","@type":"X"},{"@id":"c","@type":"Y"}]}"#
        );
        assert_eq!(
            merged(
                NugetView::Vulnerabilities,
                r#"[{"@name":"base"}]"#,
                r#"[{"@name":"base"},{"@name":"update"}]"#
            ),
            r#"[{"@name":"base"},{"@name":"base"},{"@name":"update"}]"#
        );
        assert_eq!(
            merged(
                NugetView::Search {
                    query: String::new()
                },
                r#"{"totalHits":1,"data":[{"id":"A"}]}"#,
                r#"{"totalHits":2,"data":[{"id":"a"},{"id":"b"}]}"#
            ),
            r#"{"totalHits":3,"data":[{"id":"A"},{"id":"b"}]}"#
        );
    }
}
