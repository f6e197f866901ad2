//! One document of several sources', the nearest first.

use std::collections::HashSet;

use super::NpmView;
use crate::json::{Node, Object, quoted};
use crate::{DocumentId, FormatError, View};

pub fn merges(document: &DocumentId) -> bool {
    matches!(
        document.view,
        View::Npm(
            NpmView::Packument | NpmView::ShortPackument | NpmView::DistTags | NpmView::Search(_)
        )
    )
}

pub fn merge(document: &DocumentId, parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
    let length = parts.iter().map(|part| part.len()).sum();
    let roots: Vec<Node<'_>> = parts
        .iter()
        .map(|part| Node::document(part))
        .collect::<Result<_, _>>()?;
    let mut out = String::with_capacity(length);
    if let View::Npm(NpmView::DistTags) = document.view {
        object(&roots, &mut out)?;
        return Ok(out.into_bytes());
    }
    let objects: Vec<Object<'_>> = roots.iter().map(Node::object).collect::<Result<_, _>>()?;
    if let View::Npm(NpmView::Search(_)) = document.view {
        return search(&objects);
    }
    packument(&objects, &mut out)?;
    Ok(out.into_bytes())
}

/// The nearest one's words, and all versions with their times and tags.
fn packument(parts: &[Object<'_>], out: &mut String) -> Result<(), FormatError> {
    out.push('{');
    let mut written = HashSet::new();
    for member in parts.iter().flat_map(|part| part.members()) {
        if !written.insert(&member.name) {
            continue;
        }
        name(&member.name, out);
        match member.name.as_ref() {
            "versions" | "time" | "dist-tags" => {
                let of_all = parts.iter().filter_map(|part| part.get(&member.name));
                object(&of_all.collect::<Vec<_>>(), out)?;
            }
            _ => out.push_str(member.value.text()),
        }
    }
    out.push('}');
    Ok(())
}

/// All members of objects; of two of one name the nearer stands.
fn object(parts: &[Node<'_>], out: &mut String) -> Result<(), FormatError> {
    out.push('{');
    let mut written = HashSet::new();
    for part in parts {
        part.each_member(|member| {
            if !written.contains(&member.name) {
                name(&member.name, out);
                out.push_str(member.value.text());
                written.insert(member.name);
            }
            Ok(())
        })?;
    }
    out.push('}');
    Ok(())
}

/// Writes the name of another member.
fn name(name: &str, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(&quoted(name));
    out.push(':');
}

fn search(parts: &[Object<'_>]) -> Result<Vec<u8>, FormatError> {
    let mut objects = Vec::new();
    let mut seen = HashSet::new();
    let mut total = 0;
    for part in parts {
        total += part
            .get("total")
            .and_then(|total| total.read::<u64>().ok())
            .unwrap_or(0);
        let found = part
            .get("objects")
            .map_or_else(|| Ok(Vec::new()), |it| it.elements())?;
        for object in found {
            let package = object.get("package")?;
            let name = match package {
                Some(package) => package.get("name")?,
                None => None,
            };
            let name = name.and_then(|name| name.string());
            if name.is_some_and(|name| seen.insert(name.into_owned())) {
                objects.push(object.text());
            }
        }
    }
    Ok(format!("{{\"objects\":[{}],\"total\":{total}}}", objects.join(",")).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_wins_and_nothing_is_lost() {
        let near = r#"{"name":"a","dist-tags":{"latest":"2.0.0"},"versions":{"2.0.0":{"n":1}},"time":{"2.0.0":"x"}}"#;
        let far = r#"{"name":"A","dist-tags":{"latest":"1.0.0","next":"1.0.0"},"versions":{"1.0.0":{}},"time":{"1.0.0":"y"},"readme":"r"}"#;
        let document = DocumentId {
            package: None,
            view: View::Npm(NpmView::Packument),
        };
        let merged = merge(&document, &[near.as_bytes(), far.as_bytes()]).unwrap();
        assert_eq!(
            String::from_utf8(merged).unwrap(),
            r#"{"name":"a","dist-tags":{"latest":"2.0.0","next":"1.0.0"},"versions":{"2.0.0":{"n":1},"1.0.0":{}},"time":{"2.0.0":"x","1.0.0":"y"},"readme":"r"}"#
        );
    }
}
