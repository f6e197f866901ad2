//! NuGet's documents with our addresses, and without hidden versions.

use std::borrow::Cow;

use url::Url;

use super::registration::{self, string};
use super::service::{self, Addresses};
use super::{Nuget, NugetView, name, version};
use crate::edit::Edits;
use crate::json::{Node, quoted};
use crate::package::{BlobId, PackageId, encode_segment};
use crate::{Alias, FormatError, RenderInput, Rendering, Subject, Versions as _, View};

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
    let View::Nuget(view) = &input.document.view else {
        return Err(FormatError::shape("not a document of NuGet"));
    };
    let mut edits = Edits::new();
    let mut aliases = Vec::new();
    match view {
        NugetView::ServiceIndex => {
            return Ok(Rendering {
                body: service::render(input)?,
                content_type: Cow::Borrowed("application/json"),
                aliases,
            });
        }
        NugetView::FlatIndex => flat_index(input, &mut edits)?,
        NugetView::Autocomplete { .. } => autocomplete(input, &mut edits)?,
        NugetView::Search { .. } => {
            addresses(input, &mut edits, &mut aliases)?;
            search(input, &mut edits)?;
        }
        NugetView::Registration { .. } | NugetView::Elsewhere { .. } => {
            addresses(input, &mut edits, &mut aliases)?;
            hide_leaves(input, &mut edits)?;
        }
        NugetView::Vulnerabilities => addresses(input, &mut edits, &mut aliases)?,
        NugetView::Signatures => {
            addresses(input, &mut edits, &mut aliases)?;
            if !input.is_only_source {
                // Clients refuse whatever is unsigned of a source that says so (NU3004).
                let root = Node::document(input.upstream.bytes)?;
                set(&mut edits, &root, "allRepositorySigned", "false".to_owned())?;
            }
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
        package: input.document.package.clone(),
    };
    let root = Node::document(input.upstream.bytes)?;
    if !root.is_object() && !root.is_array() {
        return Err(FormatError::shape("it is no document of NuGet's"));
    }
    walk.node(root, 0)
}

struct Walk<'a> {
    input: &'a RenderInput<'a>,
    addresses: Addresses,
    edits: &'a mut Edits,
    aliases: &'a mut Vec<Alias>,
    /// The package that the addresses belong to: the document's, or the current search result's.
    package: Option<PackageId>,
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
                if self.input.document.package.is_none()
                    && let Some(id) = string(&node, "id")?
                {
                    self.package = name::parse(&id).ok();
                }
                for member in node.members()? {
                    let address = ADDRESSES
                        .iter()
                        .find(|name| name.eq_ignore_ascii_case(&member.name));
                    match (member.value.string(), address) {
                        (Some(url), Some(name)) => self.address(name, &url, node, member.value)?,
                        (Some(_), None) => {}
                        (None, _) if member.name == "@context" => {}
                        (None, _) => self.node(member.value, depth + 1)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn address(
        &mut self,
        member: &str,
        url: &str,
        owner: Node<'_>,
        value: Node<'_>,
    ) -> Result<(), FormatError> {
        // Also where the scheme is written large, or white space stands before it.
        let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        // A file is fetched here, wherever upstream says that it lies.
        if !is_web && member != "packageContent" {
            return Ok(());
        }
        let ours = match (self.addresses.ours(url), member) {
            (Some(ours), _) => Some(ours),
            (None, "packageContent") => self.content(owner)?,
            // Pictures and pages for people may lie anywhere.
            (None, "iconUrl" | "readmeUrl") => None,
            (None, _) => Some(self.elsewhere(url)),
        };
        if let Some(ours) = ours {
            self.edits.replace(value.range(), quoted(&ours));
        }
        Ok(())
    }

    /// The flat container's address of the package that a leaf or entry is about.
    fn content(&self, owner: Node<'_>) -> Result<Option<String>, FormatError> {
        let leaf = registration::leaf(&owner)?;
        let id = string(&leaf.entry, "id")?.and_then(|id| name::parse(&id).ok());
        // A package's own document names files of that package alone, whatever id its entries have.
        let (Some(id), Some(version)) = (self.package.clone().or(id), leaf.version) else {
            return Err(FormatError::shape(
                "it names the file of a package without saying which",
            ));
        };
        let (base, id) = (&self.input.address.base, id.name());
        // A text that is no version may have any character in it.
        let version = encode_segment(&version);
        Ok(Some(format!(
            "{base}v3/flat/{id}/{version}/{id}.{version}.nupkg"
        )))
    }

    /// An address that the stored table of aliases leads back to upstream's.
    fn elsewhere(&mut self, url: &str) -> String {
        let hash = BlobId::of(url.as_bytes()).to_hex();
        let path = format!("v3/elsewhere/{}", hash.get(..32).unwrap_or_default());
        let ours = format!("{}{path}", self.input.address.base);
        // The alias keeps the package, because rules are asked about it when the alias is served.
        let package = self.package.as_ref().map_or("", PackageId::name);
        self.aliases.push(Alias {
            path,
            target: format!("{package} {url}"),
        });
        ours
    }
}

fn flat_index(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let versions = list(input, "versions")?;
    let Some(shows) = input.shows else {
        return Ok(());
    };
    retain(edits, &versions, |version| {
        version
            .string()
            .is_some_and(|version| shows(Subject::Version(&version::normalised(&version))))
    });
    Ok(())
}

/// The list that the document is for.
fn list<'a>(input: &RenderInput<'a>, name: &str) -> Result<Vec<Node<'a>>, FormatError> {
    Node::object_document(input.upstream.bytes)?
        .get_in_any_case(name)?
        .ok_or_else(|| FormatError::shape(format!("it has no `{name}`")))?
        .elements()
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
    let Some(pages) = registration::pages(root)? else {
        return leaf(input, &root, shows);
    };
    let mut empty = Vec::new();
    for page in &pages {
        let Some(leaves) = &page.leaves else { continue };
        let nodes: Vec<Node<'_>> = leaves.iter().map(|leaf| leaf.node).collect();
        let shown: Vec<bool> = leaves
            .iter()
            .map(|leaf| {
                // An entry without a version is hidden: no rule could allow it.
                let version = leaf.version.as_deref();
                version.is_some_and(|version| shows(Subject::Version(version)))
            })
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
            .filter_map(|(leaf, _)| leaf.version.as_deref())
            .collect();
        set(edits, &page.node, "count", left.len().to_string())?;
        if let (Some(lower), Some(upper)) = (left.first(), left.last()) {
            set(edits, &page.node, "lower", quoted(lower))?;
            set(edits, &page.node, "upper", quoted(upper))?;
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
        )?;
    }
    Ok(())
}

/// A leaf's own document: there or not.
fn leaf(
    input: &RenderInput<'_>,
    root: &Node<'_>,
    shows: &crate::Shows<'_>,
) -> Result<(), FormatError> {
    if input.document.package.is_none() {
        // A page of vulnerabilities is about no single package.
        return Ok(());
    }
    match registration::leaf(root)?.version {
        Some(version) if shows(Subject::Version(&version)) => Ok(()),
        Some(version) => Err(FormatError::Absent(format!(
            "{version} is held back by a rule"
        ))),
        None => Err(FormatError::shape("it does not say which version it is of")),
    }
}

fn set(edits: &mut Edits, node: &Node<'_>, member: &str, value: String) -> Result<(), FormatError> {
    if let Some(node) = node.get_in_any_case(member)? {
        edits.replace(node.range(), value);
    }
    Ok(())
}

fn search(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let results = list(input, "data")?;
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let mut left = Vec::with_capacity(results.len());
    for result in &results {
        left.push(search_result(result, shows, edits)?);
    }
    let ranges: Vec<_> = results.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| left.get(index).copied().unwrap_or(false));
    Ok(())
}

/// Hides versions of one result, and says whether any is left.
fn search_result(
    result: &Node<'_>,
    shows: &crate::Shows<'_>,
    edits: &mut Edits,
) -> Result<bool, FormatError> {
    let id = string(result, "id")?;
    let Some(package) = id.and_then(|id| name::parse(&id).ok()) else {
        return Ok(false);
    };
    let shown = |version: &str| {
        shows(Subject::Other {
            package: &package,
            version: &version::normalised(version),
        })
    };
    let version_of = |node: &Node<'_>| {
        string(node, "version").map(|version| version.unwrap_or_default().into_owned())
    };
    let versions = result
        .get_in_any_case("versions")?
        .map_or_else(|| Ok(Vec::new()), |versions| versions.elements())?;
    let newest = version_of(result)?;
    if versions.is_empty() {
        return Ok(shown(&newest));
    }
    let named: Vec<String> = versions.iter().map(version_of).collect::<Result<_, _>>()?;
    let is_left: Vec<bool> = named.iter().map(|version| shown(version)).collect();
    let ranges: Vec<_> = versions.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| is_left.get(index).copied().unwrap_or(true));
    let left: Vec<&String> = named
        .iter()
        .zip(&is_left)
        .filter_map(|(version, is_left)| is_left.then_some(version))
        .collect();
    if left.is_empty() {
        return Ok(false);
    }
    if !shown(&newest) {
        let best = left.iter().max_by(|a, b| Nuget.compare_choice(a, b));
        if let Some(best) = best {
            set(edits, result, "version", quoted(best))?;
        }
    }
    Ok(true)
}

/// With `id`, autocompletion lists versions of one package.
/// Versions of the document's package, or names where it has none: one that a rule denies whatever
/// its version is not told.
fn autocomplete(input: &RenderInput<'_>, edits: &mut Edits) -> Result<(), FormatError> {
    let data = list(input, "data")?;
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let is_of_package = input.document.package.is_some();
    retain(edits, &data, |node| {
        let text = node.string().unwrap_or_default();
        if is_of_package {
            return shows(Subject::Version(&version::normalised(&text)));
        }
        name::parse(&text).is_ok_and(|package| shows(Subject::Name(&package)))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nuget::Registrations;
    use crate::{Address, DocumentId, Upstream};

    const UP: &str = "https://up.example";

    fn run(view: NugetView, body: &str) -> Result<String, FormatError> {
        let url = Url::parse(UP).unwrap();
        let id = name::parse("x").unwrap();
        let document = DocumentId {
            package: matches!(
                view,
                NugetView::FlatIndex | NugetView::Registration { .. } | NugetView::Elsewhere { .. }
            )
            .then_some(id),
            view: View::Nuget(view),
        };
        let shows = |subject: Subject<'_>| {
            !matches!(
                subject,
                Subject::Version("1.0.0" | "")
                    | Subject::Other {
                        version: "1.0.0" | "",
                        ..
                    }
            )
        };
        let rendering = render(&RenderInput {
            document: &document,
            upstream: Upstream {
                bytes: body.as_bytes(),
                media_type: "application/json",
                url: &url,
                base: &url,
                directory: None,
            },
            address: &Address {
                base: "http://l.example/nuget/team/".to_owned(),
                kept: false,
            },
            shows: Some(&shows),
            is_only_source: true,
        })?;
        let body = rendering.body.unwrap_or_else(|| body.as_bytes().to_vec());
        Ok(String::from_utf8(body).unwrap())
    }

    fn views() -> [NugetView; 6] {
        let query = || String::new();
        [
            NugetView::FlatIndex,
            NugetView::Registration {
                form: Registrations::Plain,
                path: "x/index.json".to_owned(),
            },
            NugetView::Elsewhere { url: UP.to_owned() },
            NugetView::Search { query: query() },
            NugetView::Autocomplete { query: query() },
            NugetView::Vulnerabilities,
        ]
    }

    fn leaf(version: &str) -> String {
        format!(
            r#"{{"@id":"{UP}/r/{version}.json","packageContent":"{UP}/f/x.{version}.nupkg","catalogEntry":{{"id":"x","version":"{version}"}}}}"#
        )
    }

    #[test]
    fn what_cannot_be_read_is_handed_on_in_no_view() {
        for view in views() {
            for body in [
                "",
                "not JSON",
                "\"1.0.0\"",
                "{\"versions\":[\"1.0.0\"]",
                "{\"versions\":[\"1.0.0\"],\"data\":[],\"items\":[]} 1.0.0",
                "{\"versions\":[],\"versions\":[],\"data\":[],\"data\":[],\"items\":[],\"items\":[]}",
                "{// comment\n\"versions\":[\"1.0.0\"],\"data\":[],\"items\":[]}",
            ] {
                let rendered = run(view.clone(), body);
                assert!(rendered.is_err(), "{view:?} {body}: {rendered:?}");
            }
        }
    }

    #[test]
    fn members_are_found_as_clients_find_them() {
        let [_, registration, elsewhere, search, ..] = views();
        let page = format!(
            r#"{{"Items":[{{"COUNT":2,"ITEMS":[{},{}]}}]}}"#,
            leaf("1.0.0").replace("catalogEntry", "CatalogEntry"),
            leaf("2.0.0").replace("packageContent", "PACKAGECONTENT")
        );
        for view in [registration.clone(), elsewhere] {
            let body = run(view, &format!("\u{feff}{page}")).unwrap();
            assert!(!body.contains("1.0.0") && body.contains("2.0.0"), "{body}");
            assert!(!body.contains(UP), "{body}");
        }
        let twice = page.replacen("\"COUNT\":2", "\"items\":[]", 1);
        assert!(run(registration, &twice).is_err());
        let found = r#"{"data":[{"ID":"x","Version":"1.0.0","Versions":[{"Version":"1.0.0"}]}]}"#;
        assert_eq!(run(search, found).unwrap(), r#"{"data":[]}"#);
    }

    #[test]
    fn a_leaf_that_does_not_say_its_version_is_not_shown() {
        let [_, registration, ..] = views();
        for odd in [
            r#"{"catalogEntry":{"id":"x","version":1.0}}"#,
            r#"{"catalogEntry":{"id":"x"}}"#,
            "{}",
            "7",
        ] {
            let page = format!(r#"{{"items":[{{"items":[{odd},{}]}}]}}"#, leaf("2.0.0"));
            let body = run(registration.clone(), &page).unwrap();
            assert!(body.contains("2.0.0") && !body.contains(odd), "{body}");
        }
        let alone = r#"{"catalogEntry":{"id":"x"}}"#;
        assert!(run(registration, alone).is_err());
    }

    #[test]
    fn an_address_is_one_in_any_spelling() {
        let [_, registration, ..] = views();
        for spelled in ["HTTPS://other.example/x", " https://other.example/x"] {
            let page = format!(
                r#"{{"items":[{{"items":[{}]}}]}}"#,
                leaf("2.0.0").replace(&format!("{UP}/f/x.2.0.0.nupkg"), spelled)
            );
            let body = run(registration.clone(), &page).unwrap();
            assert!(!body.contains("other.example"), "{body}");
        }
    }

    #[test]
    fn a_registration_is_nested_no_deeper_than_may_be() {
        let nested = |depth: usize| {
            let within = format!(
                "{}{{}}{}",
                r#"{"x":"#.repeat(depth - 1),
                "}".repeat(depth - 1)
            );
            let body = format!(r#"{{"catalogEntry":{{"id":"x","version":"2.0.0"}},"x":{within}}}"#);
            run(NugetView::Elsewhere { url: UP.to_owned() }, &body)
        };
        nested(DEPTH_MAX).unwrap();
        assert!(nested(DEPTH_MAX + 1).is_err());
    }
}
