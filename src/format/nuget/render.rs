//! NuGet's documents with our addresses, and without hidden versions.

use std::borrow::Cow;

use url::Url;

use super::registration::{self, Registration, string};
use super::service::{self, Addresses};
use super::{Nuget, NugetView, name, version};
use crate::edit::{Edits, ListEdit};
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
    let mut edits = Edits::new(input.upstream.bytes);
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
        body: edits.apply(),
        content_type: Cow::Borrowed("application/json"),
        aliases,
    })
}

fn addresses<'a>(
    input: &RenderInput<'a>,
    edits: &mut Edits<'a>,
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

struct Walk<'a, 'b> {
    input: &'a RenderInput<'b>,
    addresses: Addresses,
    edits: &'a mut Edits<'b>,
    aliases: &'a mut Vec<Alias>,
    /// The package that the addresses belong to: the document's, or the current search result's.
    package: Option<PackageId>,
}

impl Walk<'_, '_> {
    fn node(&mut self, node: Node<'_>, depth: usize) -> Result<(), FormatError> {
        if depth > DEPTH_MAX {
            return Err(FormatError::shape("nested too deeply"));
        }
        match node.text().trim_start().as_bytes().first() {
            Some(b'[') => {
                node.each_element(|element| self.node(element, depth + 1))?;
            }
            Some(b'{') => {
                if self.input.document.package.is_none()
                    && let Some(id) = string(&node, "id")?
                {
                    self.package = name::parse(&id).ok();
                }
                node.each_member(|member| {
                    let address = ADDRESSES
                        .iter()
                        .find(|name| name.eq_ignore_ascii_case(&member.name));
                    match (member.value.string(), address) {
                        (Some(url), Some(name)) => self.address(name, &url, node, member.value)?,
                        (Some(_), None) => {}
                        (None, _) if member.name == "@context" => {}
                        (None, _) => self.node(member.value, depth + 1)?,
                    }
                    Ok(())
                })?;
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

fn flat_index(input: &RenderInput<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    retain(input, "versions", edits, |version, _, shows| {
        let version = version.string();
        Ok(version.is_some_and(|version| shows(Subject::Version(&version::normalised(&version)))))
    })
}

/// Leaves out of the list that the document is for what `keep` refuses.
fn retain(
    input: &RenderInput<'_>,
    name: &str,
    edits: &mut Edits<'_>,
    keep: impl Fn(&Node<'_>, &mut Edits<'_>, &crate::Shows<'_>) -> Result<bool, FormatError>,
) -> Result<(), FormatError> {
    let listed = Node::object_document(input.upstream.bytes)?
        .get_in_any_case(name)?
        .ok_or_else(|| FormatError::shape(format!("it has no `{name}`")))?;
    let mut list = ListEdit::default();
    listed.each_element(|element| {
        if let Some(shows) = input.shows {
            let is_kept = keep(&element, edits, shows)?;
            list.item(edits, &element.range(), is_kept);
        }
        Ok(())
    })?;
    list.end(edits);
    Ok(())
}

/// Takes hidden leaves out of their pages, and pages that become empty out of the index.
fn hide_leaves(input: &RenderInput<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    let Some(shows) = input.shows else {
        return Ok(());
    };
    let root = Node::document(input.upstream.bytes)?;
    // Pages that become empty go, where they are an index's.
    let mut list = ListEdit::default();
    let (mut count, mut left_count) = (0, 0);
    let kind = registration::each_page(root, |page| {
        let left = match page.leaves()? {
            Some(leaves) => hide_leaves_of(&page.node, leaves, shows, edits)?,
            None => Left::Some,
        };
        count += 1;
        left_count += usize::from(left == Left::Some);
        if page.node.range() != root.range() {
            list.item(edits, &page.node.range(), left == Left::Some);
        }
        Ok(())
    })?;
    list.end(edits);
    match kind {
        Registration::Other => leaf(input, &root, shows),
        Registration::Index if left_count < count => {
            set(edits, &root, "count", left_count.to_string())
        }
        Registration::Index | Registration::Page => Ok(()),
    }
}

/// Whether anything is left of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Some,
    Nothing,
}

fn hide_leaves_of(
    page: &Node<'_>,
    leaves: Node<'_>,
    shows: &crate::Shows<'_>,
    edits: &mut Edits<'_>,
) -> Result<Left, FormatError> {
    let mut list = ListEdit::default();
    let (mut hides, mut count) = (false, 0);
    let (mut lower, mut upper) = (None, None);
    leaves.each_element(|node| {
        let version = registration::leaf(&node)?.version;
        // An entry without a version is hidden: no rule could allow it.
        let shown = version.filter(|version| shows(Subject::Version(version)));
        list.item(edits, &node.range(), shown.is_some());
        match shown {
            Some(version) => {
                count += 1;
                lower = lower.take().or_else(|| Some(version.clone()));
                upper = Some(version);
            }
            None => hides = true,
        }
        Ok(())
    })?;
    list.end(edits);
    if !hides {
        return Ok(Left::Some);
    }
    set(edits, page, "count", count.to_string())?;
    let (Some(lower), Some(upper)) = (lower, upper) else {
        return Ok(Left::Nothing);
    };
    set(edits, page, "lower", quoted(&lower))?;
    set(edits, page, "upper", quoted(&upper))?;
    Ok(Left::Some)
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

fn set(
    edits: &mut Edits<'_>,
    node: &Node<'_>,
    member: &str,
    value: String,
) -> Result<(), FormatError> {
    if let Some(node) = node.get_in_any_case(member)? {
        edits.replace(node.range(), value);
    }
    Ok(())
}

fn search(input: &RenderInput<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    retain(input, "data", edits, |result, edits, shows| {
        search_result(result, shows, edits)
    })
}

/// Hides versions of one result, and says whether any is left.
fn search_result(
    result: &Node<'_>,
    shows: &crate::Shows<'_>,
    edits: &mut Edits<'_>,
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
fn autocomplete(input: &RenderInput<'_>, edits: &mut Edits<'_>) -> Result<(), FormatError> {
    let is_of_package = input.document.package.is_some();
    retain(input, "data", edits, |node, _, shows| {
        let text = node.string().unwrap_or_default();
        if is_of_package {
            return Ok(shows(Subject::Version(&version::normalised(&text))));
        }
        Ok(name::parse(&text).is_ok_and(|package| shows(Subject::Name(&package))))
    })
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
