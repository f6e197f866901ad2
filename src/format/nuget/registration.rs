//! Registrations: the leaves of an index or a page, wherever they stand in it.

use std::borrow::Cow;

use super::{Nuget, version};
use crate::json::Node;
use crate::path;
use crate::{FormatError, Protocol as _};

/// One version's entry.
pub struct Leaf<'a> {
    pub node: Node<'a>,
    /// Normalised; `None` where the leaf does not say.
    pub version: Option<String>,
    /// The version's metadata, as far as this document has it.
    pub entry: Node<'a>,
}

/// A page of an index; `leaves` is absent where they stand in a document of their own.
pub struct RegistrationPage<'a> {
    pub node: Node<'a>,
    pub leaves: Option<Vec<Leaf<'a>>>,
}

/// The pages of an index, or the one page that the document is; `None` where it is neither.
pub fn pages(root: Node<'_>) -> Result<Option<Vec<RegistrationPage<'_>>>, FormatError> {
    let Some(items) = root.get_in_any_case("items")? else {
        return Ok(None);
    };
    let items = items.elements()?;
    for item in &items {
        if item.get_in_any_case("catalogEntry")?.is_some() {
            return Ok(Some(vec![RegistrationPage {
                node: root,
                leaves: Some(leaves(&items)?),
            }]));
        }
    }
    let pages = items.into_iter().map(|node| {
        let leaves = match node.get_in_any_case("items")? {
            Some(items) => Some(leaves(&items.elements()?)?),
            None => None,
        };
        Ok(RegistrationPage { node, leaves })
    });
    pages.collect::<Result<_, _>>().map(Some)
}

fn leaves<'a>(items: &[Node<'a>]) -> Result<Vec<Leaf<'a>>, FormatError> {
    items.iter().map(leaf).collect()
}

/// A leaf, in a page or as a document of its own.
pub fn leaf<'a>(node: &Node<'a>) -> Result<Leaf<'a>, FormatError> {
    let entry = node.get_in_any_case("catalogEntry")?;
    // The plain form names its entry by address; the version stands in the leaf's own.
    let entry = entry.filter(Node::is_object).unwrap_or(*node);
    let version = match string(&entry, "version")? {
        Some(version) => Some(version),
        None => string(node, "@id")?.and_then(|id| {
            let file = path::last_segment(&id).strip_suffix(".json")?.to_owned();
            Some(Cow::Owned(file))
        }),
    };
    Ok(Leaf {
        node: *node,
        // A text that no path can name is no version.
        version: version
            .map(|version| version::normalised(&version))
            .filter(|version| Nuget.version(version).is_ok()),
        entry,
    })
}

/// A member's text, found as NuGet's clients find it: by its name in any case.
pub fn string<'a>(node: &Node<'a>, name: &str) -> Result<Option<Cow<'a, str>>, FormatError> {
    let member = node.get_in_any_case(name)?;
    Ok(member.and_then(|member| member.string()))
}
