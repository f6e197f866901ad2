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

/// A page of an index.
pub struct RegistrationPage<'a> {
    pub node: Node<'a>,
}

impl<'a> RegistrationPage<'a> {
    /// The list of its leaves; `None` where they stand in a document of their own.
    pub fn leaves(&self) -> Result<Option<Node<'a>>, FormatError> {
        self.node.get_in_any_case("items")
    }
}

/// The kinds of documents of registrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Index,
    /// One page of an index.
    Page,
    /// It has no pages.
    Other,
}

/// Reads the pages of an index one after the other, or the one page that the document is.
///
/// # Errors
/// Where it cannot be read. Those of `visit` too.
pub fn each_page<'a>(
    root: Node<'a>,
    mut visit: impl FnMut(RegistrationPage<'a>) -> Result<(), FormatError>,
) -> Result<Registration, FormatError> {
    let Some(items) = root.get_in_any_case("items")? else {
        return Ok(Registration::Other);
    };
    let mut has_leaves = false;
    items.each_element(|item| {
        has_leaves = has_leaves || item.get_in_any_case("catalogEntry")?.is_some();
        Ok(())
    })?;
    if has_leaves {
        visit(RegistrationPage { node: root })?;
        return Ok(Registration::Page);
    }
    items.each_element(|node| visit(RegistrationPage { node }))?;
    Ok(Registration::Index)
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
