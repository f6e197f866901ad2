//! Registrations: the leaves of an index or a page, wherever they stand in it.

use std::borrow::Cow;

use super::version;
use crate::format::FormatError;
use crate::format::json::Node;

/// One version's entry.
pub struct Leaf<'a> {
    pub node: Node<'a>,
    /// Normalised.
    pub version: String,
    pub entry: Node<'a>,
}

/// A page of an index; `leaves` is absent where they stand in a document of their own.
pub struct Page<'a> {
    pub node: Node<'a>,
    pub leaves: Option<Vec<Leaf<'a>>>,
}

/// The pages of an index, or the one page that the document is.
pub fn pages(root: Node<'_>) -> Result<Vec<Page<'_>>, FormatError> {
    let Some(items) = root.get("items") else {
        return Ok(Vec::new());
    };
    let items = items.elements()?;
    if items.iter().any(|item| item.get("catalogEntry").is_some()) {
        return Ok(vec![Page {
            node: root,
            leaves: Some(leaves(&items)),
        }]);
    }
    items
        .into_iter()
        .map(|node| {
            let leaves = match node.get("items") {
                Some(items) => Some(leaves(&items.elements()?)),
                None => None,
            };
            Ok(Page { node, leaves })
        })
        .collect()
}

fn leaves<'a>(items: &[Node<'a>]) -> Vec<Leaf<'a>> {
    items
        .iter()
        .filter_map(|node| {
            let entry = node.get("catalogEntry")?;
            let version = string(&entry, "version")?;
            Some(Leaf {
                node: *node,
                version: version::normalised(&version),
                entry,
            })
        })
        .collect()
}

pub fn string<'a>(node: &Node<'a>, name: &str) -> Option<Cow<'a, str>> {
    node.get(name)?.string()
}
