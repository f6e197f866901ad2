//! NuGet's documents with our addresses, and without hidden versions.

use std::borrow::Cow;

use super::registration::{self, string};
use super::service::{self, Addresses};
use super::{View, name, version};
use crate::format::edit::Edits;
use crate::format::json::{Node, quoted};
use crate::format::{
    Alias, FormatError, RenderInput, Rendering, Subject, View as AnyView, query_of,
};
use crate::package::{BlobId, PackageId};

/// Members whose strings are addresses that clients follow.
const ADDRESSES: &[&str] = &[
    "@id",
    "packageContent",
    "registration",
    "parent",
    "catalogEntry",
    "iconUrl",
    "readmeUrl",
    "contentUrl",
];
const DEPTH_MAX: usize = 12;

pub fn render(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let AnyView::Nuget(view) = &input.document.view else {
        return Err(FormatError::shape("not a document of NuGet"));
    };
    let mut edits = Edits::new();
    let mut aliases = Vec::new();
    match view {
        View::ServiceIndex => {
            return Ok(Rendering {
                body: service::render(input)?,
                content_type: Cow::Borrowed("application/json"),
                aliases,
            });
        }
        View::FlatIndex => flat_index(input, &mut edits)?,
        View::Autocomplete { query } => autocomplete(input, query, &mut edits)?,
        View::Search { .. } => {
            addresses(input, &mut edits, &mut aliases)?;
            search(input, &mut edits)?;
        }
        View::Registration { .. } | View::Elsewhere { .. } => {
            addresses(input, &mut edits, &mut aliases)?;
            hide_leaves(input, &mut edits)?;
        }
        View::Vulnerabilities | View::Signatures | View::Catalog { .. } => {
            addresses(input, &mut edits, &mut aliases)?;
        }
    }
    Ok(Rendering {
        body: edits.apply(input.upstream.bytes),
        content_type: Cow::Borrowed("application/json"),
        aliases,
    })
}

fn addresses(
    input: &RenderInput<'_>,
    edits: &mut Edits,
    aliases: &mut Vec<Alias>,
) -> Result<(), FormatError> {
    let addresses = Addresses::new(input.upstream.directory, &input.address.base);
    let mut walk = Walk {
        input,
        addresses,
        edits,
        aliases,
    };
    walk.node(Node::document(input.upstream.bytes)?, 0)
}

struct Walk<'a> {
    input: &'a RenderInput<'a>,
    addresses: Addresses,
    edits: &'a mut Edits,
    aliases: &'a mut Vec<Alias>,
}

impl Walk<'_> {
    fn node(&mut self, node: Node<'_>, depth: usize) -> Result<(), FormatError> {
        if depth > DEPTH_MAX {
            return Err(FormatError::shape("nested too deeply"));
        }
        match node.text().trim_start().as_bytes().first() {
            Some(b'[') => {
                for element in node.elements()? {
                    self.node(element, depth + 1)?;
                }
            }
            Some(b'{') => {
                for member in node.members()? {
                    match member.value.string() {
                        Some(url) if ADDRESSES.contains(&member.name.as_ref()) => {
                            self.address(&member.name, &url, node, member.value);
                        }
                        Some(_) => {}
                        None if member.name == "@context" => {}
                        None => self.node(member.value, depth + 1)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn address(&mut self, member: &str, url: &str, owner: Node<'_>, value: Node<'_>) {
        if !url.starts_with("http:") && !url.starts_with("https:") {
            return;
        }
        let ours = self.addresses.ours(url).or_else(|| match member {
            "packageContent" => self.content(owner),
            // Pictures and pages for people may lie anywhere.
            "iconUrl" | "readmeUrl" => None,
            _ => Some(self.elsewhere(url)),
        });
        if let Some(ours) = ours {
            self.edits.replace(value.range(), quoted(&ours));
        }
    }

    /// The flat container's address of the package that a leaf or entry is about.
    fn content(&self, owner: Node<'_>) -> Option<String> {
        let entry = owner.get("catalogEntry").unwrap_or(owner);
        let id = name::parse(&string(&entry, "id")?).ok()?;
        let version = version::normalised(&string(&entry, "version")?);
        let (base, id) = (&self.input.address.base, id.name());
        Some(format!("{base}v3/flat/{id}/{version}/{id}.{version}.nupkg"))
    }

    /// An address that the stored table of aliases leads back to upstream's.
    fn elsewhere(&mut self, url: &str) -> String {
        let hash = BlobId::of(url.as_bytes()).to_hex();
        let path = format!("v3/elsewhere/{}", hash.get(..32).unwrap_or_default());
        let ours = format!("{}{path}", self.input.address.base);
        // Whose it is has to be known where it is served: rules are asked about it there.
        let package = self
            .input
            .document
            .package
            .as_ref()
            .map_or("", PackageId::name);
        self.aliases.push(Alias {
            path,
            target: format!("{package} {url}"),
        });
        ours
    }
}

fn flat_index(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let Some(versions) = Node::document(input.upstream.bytes)?.get("versions") else {
        return Ok(());
    };
    retain(edits, &versions.elements()?, |version| {
        let version = version.string().unwrap_or_default();
        shows(Subject::Version(&version::normalised(&version)))
    });
    Ok(())
}

fn retain(edits: &mut Edits, nodes: &[Node<'_>], keep: impl Fn(&Node<'_>) -> bool) -> usize {
    let kept: Vec<bool> = nodes.iter().map(keep).collect();
    let ranges: Vec<_> = nodes.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| kept.get(index).copied().unwrap_or(true));
    kept.iter().filter(|kept| **kept).count()
}

/// Takes hidden leaves out of their pages, and pages that become empty out of the index.
fn hide_leaves(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let root = Node::document(input.upstream.bytes)?;
    let pages = registration::pages(root)?;
    if pages.is_empty() {
        return leaf(&root, shows);
    }
    let mut empty = Vec::new();
    for page in &pages {
        let Some(leaves) = &page.leaves else { continue };
        let nodes: Vec<Node<'_>> = leaves.iter().map(|leaf| leaf.node).collect();
        let shown: Vec<bool> = leaves
            .iter()
            .map(|leaf| shows(Subject::Version(&leaf.version)))
            .collect();
        if !shown.contains(&false) {
            continue;
        }
        let ranges: Vec<_> = nodes.iter().map(Node::range).collect();
        edits.retain(&ranges, |index| shown.get(index).copied().unwrap_or(true));
        let left: Vec<&str> = leaves
            .iter()
            .zip(&shown)
            .filter(|(_, shown)| **shown)
            .map(|(leaf, _)| leaf.version.as_str())
            .collect();
        set(edits, &page.node, "count", left.len().to_string());
        if let (Some(lower), Some(upper)) = (left.first(), left.last()) {
            set(edits, &page.node, "lower", quoted(lower));
            set(edits, &page.node, "upper", quoted(upper));
        } else {
            empty.push(page.node.range());
        }
    }
    let of_index = pages.iter().all(|page| page.node.range() != root.range());
    if of_index && !empty.is_empty() {
        let ranges: Vec<_> = pages.iter().map(|page| page.node.range()).collect();
        edits.retain(&ranges, |index| {
            ranges.get(index).is_none_or(|range| !empty.contains(range))
        });
        set(
            edits,
            &root,
            "count",
            (pages.len() - empty.len()).to_string(),
        );
    }
    Ok(())
}

/// A leaf's own document: there or not.
fn leaf(root: &Node<'_>, shows: &crate::format::Shows<'_>) -> Result<(), FormatError> {
    let entry = root.get("catalogEntry").unwrap_or(*root);
    let from_entry = string(&entry, "version");
    // The plain form names its entry by address; the version stands in the document's own.
    let from_address = string(root, "@id").and_then(|id| {
        let file = id.rsplit('/').next()?.strip_suffix(".json")?.to_owned();
        Some(Cow::Owned(file))
    });
    match from_entry.or(from_address) {
        Some(version) if !shows(Subject::Version(&version::normalised(&version))) => Err(
            FormatError::Absent(format!("{version} is held back by a rule")),
        ),
        _ => Ok(()),
    }
}

fn set(edits: &mut Edits, node: &Node<'_>, member: &str, value: String) {
    if let Some(node) = node.get(member) {
        edits.replace(node.range(), value);
    }
}

fn search(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let Some(data) = Node::document(input.upstream.bytes)?.get("data") else {
        return Ok(());
    };
    let results = data.elements()?;
    let mut left = Vec::with_capacity(results.len());
    for result in &results {
        left.push(search_result(result, shows, edits).unwrap_or(false));
    }
    let ranges: Vec<_> = results.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| left.get(index).copied().unwrap_or(false));
    Ok(())
}

/// Hides versions of one result, and says whether any is left.
fn search_result(
    result: &Node<'_>,
    shows: &crate::format::Shows<'_>,
    edits: &mut Edits,
) -> Option<bool> {
    let package = name::parse(&string(result, "id")?).ok()?;
    let shown = |version: &str| {
        shows(Subject::Other {
            package: &package,
            version: &version::normalised(version),
        })
    };
    let version_of = |node: &Node<'_>| string(node, "version").unwrap_or_default().into_owned();
    let versions = result
        .get("versions")
        .and_then(|versions| versions.elements().ok())
        .unwrap_or_default();
    let newest = version_of(result);
    if versions.is_empty() {
        return Some(shown(&newest));
    }
    let left: Vec<String> = versions
        .iter()
        .map(version_of)
        .filter(|version| shown(version))
        .collect();
    retain(edits, &versions, |node| shown(&version_of(node)));
    if !shown(&newest) {
        let best = left.iter().max_by(|a, b| {
            let stable = |version: &str| !version::is_prerelease(version);
            stable(a)
                .cmp(&stable(b))
                .then(version::compare(a, b).unwrap_or(std::cmp::Ordering::Equal))
        })?;
        set(edits, result, "version", quoted(best));
    }
    Some(!left.is_empty())
}

/// With `id`, autocompletion lists versions of one package.
fn autocomplete(
    input: &RenderInput<'_>,
    query: &str,
    edits: &mut Edits,
) -> Result<(), FormatError> {
    let package = query_of(Some(query))
        .remove("id")
        .and_then(|id| name::parse(&id).ok());
    let (Some(shows), Some(package)) = (input.shows, package) else {
        return Ok(());
    };
    if let Some(data) = Node::document(input.upstream.bytes)?.get("data") {
        retain(edits, &data.elements()?, |version| {
            shows(Subject::Other {
                package: &package,
                version: &version::normalised(&version.string().unwrap_or_default()),
            })
        });
    }
    Ok(())
}
