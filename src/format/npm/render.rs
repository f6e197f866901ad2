//! Packuments with addresses changed and hidden versions left out, and what is cut from them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use url::Url;

use super::{NpmView, SHORT_TYPE, facts, name, scan, short, version};
use crate::edit::Edits;
use crate::json::{Member, Node, quoted};

use crate::package::PackageId;
use crate::path::encode;
use crate::{Alias, FormatError, RenderInput, Rendering, Subject, Upstream, View};

const JSON: &str = "application/json";

pub fn render(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let View::Npm(view) = &input.document.view else {
        return Err(FormatError::shape("not a document of npm"));
    };
    match (view, &input.document.package) {
        (NpmView::Search(_), _) => search(input),
        // `npm audit signatures` calls each package without a signature an error where there are keys.
        (NpmView::Keys, _) if !input.is_only_source => Err(FormatError::Absent(
            "the repository has other packages than those that these keys sign".to_owned(),
        )),
        (NpmView::Keys | NpmView::Attestations(_), _) => {
            Node::object_document(input.upstream.bytes)?;
            Ok(verbatim(input))
        }
        (_, None) => Err(FormatError::shape("the document belongs to no package")),
        (NpmView::Packument, Some(package)) => packument(input, package),
        (NpmView::ShortPackument, Some(package))
            if input.upstream.media_type == SHORT_TYPE || input.shows.is_none() =>
        {
            packument(input, package)
        }
        (NpmView::ShortPackument, Some(package)) => {
            let full = packument(input, package)?;
            let bytes = full.body.as_deref().unwrap_or(input.upstream.bytes);
            Ok(Rendering {
                body: Some(short::short(bytes)?),
                content_type: Cow::Borrowed(SHORT_TYPE),
                aliases: full.aliases,
            })
        }
        (NpmView::Manifest(wanted), Some(package)) => manifest(input, package, wanted),
        (NpmView::DistTags, Some(package)) => {
            let full = packument(input, package)?;
            let bytes = full.body.as_deref().unwrap_or(input.upstream.bytes);
            let tags = Node::object_document(bytes)?
                .get("dist-tags")
                .map_or("{}", |tags| tags.text());
            Ok(json(tags.as_bytes().to_vec()))
        }
    }
}

fn json(body: Vec<u8>) -> Rendering {
    Rendering {
        body: Some(body),
        content_type: Cow::Borrowed(JSON),
        aliases: Vec::new(),
    }
}

fn verbatim(input: &RenderInput<'_>) -> Rendering {
    Rendering {
        body: None,
        content_type: Cow::Owned(input.upstream.media_type.to_owned()),
        aliases: Vec::new(),
    }
}

/// One version's manifest out of the rendered packument; a tag is followed first.
fn manifest(
    input: &RenderInput<'_>,
    package: &PackageId,
    wanted: &str,
) -> Result<Rendering, FormatError> {
    let full = packument(input, package)?;
    let bytes = full.body.as_deref().unwrap_or(input.upstream.bytes);
    let root = Node::object_document(bytes)?;
    let member_of = |object: &str, name: &str| match root.get(object) {
        Some(object) => object.get(name),
        None => Ok(None),
    };
    let tagged = member_of("dist-tags", wanted)?.and_then(|version| version.string());
    let version = tagged.as_deref().unwrap_or(wanted);
    let manifest = member_of("versions", version)?.ok_or_else(|| {
        FormatError::Absent(format!(
            "{} has no version or tag `{wanted}`",
            package.full_name()
        ))
    })?;
    Ok(Rendering {
        aliases: full.aliases,
        ..json(manifest.text().as_bytes().to_vec())
    })
}

fn packument(input: &RenderInput<'_>, package: &PackageId) -> Result<Rendering, FormatError> {
    let document = Node::document(input.upstream.bytes)?;
    if input.shows.is_none()
        && let Some(versions) = scan::versions(&document)
    {
        return readdressed(input, package, &document, &versions);
    }
    let root = document.object()?;
    let versions = root
        .get("versions")
        .map_or_else(|| Ok(Vec::new()), |it| it.members())?;
    let mut edits = Edits::new();
    let mut aliases = Vec::new();
    for version in &versions {
        addresses(input, package, version, &mut edits, &mut aliases)?;
    }
    if let Some(shows) = input.shows {
        let shown: Vec<bool> = versions
            .iter()
            .map(|version| shows(Subject::Version(&version.name)))
            .collect();
        if shown.contains(&false) {
            leave_out(
                &versions,
                &shown,
                root.member("dist-tags"),
                root.member("time"),
                &mut edits,
            )?;
        }
    }
    Ok(Rendering {
        body: edits.apply(input.upstream.bytes),
        content_type: Cow::Owned(input.upstream.media_type.to_owned()),
        aliases,
    })
}

/// Rewrites the addresses of a packument without hidden versions, in one pass. An address that begins
/// like the one before it is not parsed again.
fn readdressed(
    input: &RenderInput<'_>,
    package: &PackageId,
    document: &Node<'_>,
    versions: &[scan::TarballFacts<'_>],
) -> Result<Rendering, FormatError> {
    let mut edits = Edits::new();
    let mut aliases = Vec::new();
    let mut usual: Option<Usual> = None;
    for found in versions {
        let Some(dist) = &found.dist else { continue };
        if let Some(tarball) = dist.tarball {
            let value = document.child(tarball);
            match usual.as_ref().and_then(|usual| usual.place(&value)) {
                Some(_) if input.address.kept => {}
                Some((range, prefix)) => edits.replace(range, prefix),
                None => {
                    this_tarball(
                        input,
                        package,
                        &found.version,
                        value,
                        &mut edits,
                        &mut aliases,
                    )?;
                    usual = Usual::of(input, package, &value).or(usual);
                }
            }
        }
        if let Some(url) = dist.attestations.as_ref().and_then(|them| them.url)
            && !input.address.kept
        {
            let place = attestations(input, package, &found.version);
            edits.replace(document.child(url).range(), place);
        }
    }
    Ok(Rendering {
        body: edits.apply(input.upstream.bytes),
        content_type: Cow::Owned(input.upstream.media_type.to_owned()),
        aliases,
    })
}

/// How the usual addresses of a package's tarballs begin, upstream's and ours, with the quote.
struct Usual {
    theirs: String,
    ours: String,
}

impl Usual {
    /// Reads an address whose path shows the package and the file.
    fn of(input: &RenderInput<'_>, package: &PackageId, value: &Node<'_>) -> Option<Self> {
        let url = parse_url(&input.upstream, *value)?;
        let file = facts::usual_file(package, &url)?;
        let theirs = value.text().strip_suffix('"')?.strip_suffix(file)?;
        let ours = format!("\"{}{}/-/", input.address.base, name_path(package));
        (theirs.ends_with("/-/") && !theirs.contains('\\')).then(|| Self {
            theirs: theirs.to_owned(),
            ours,
        })
    }

    /// The part of another such address that gives way to ours.
    fn place(&self, value: &Node<'_>) -> Option<(Range<usize>, &str)> {
        let file = value.text().strip_prefix(&self.theirs)?.strip_suffix('"')?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+".contains(&byte);
        let start = value.range().start;
        (!file.is_empty() && file.bytes().all(is_plain))
            .then(|| (start..start + self.theirs.len(), &*self.ours))
    }
}

/// Points a version's tarball and attestations to us.
fn addresses(
    input: &RenderInput<'_>,
    package: &PackageId,
    version: &Member<'_>,
    edits: &mut Edits,
    aliases: &mut Vec<Alias>,
) -> Result<(), FormatError> {
    let Some(dist) = version.value.get("dist")? else {
        return Ok(());
    };
    for member in dist.members()? {
        match member.name.as_ref() {
            "tarball" => {
                this_tarball(input, package, &version.name, member.value, edits, aliases)?;
            }
            "attestations" => {
                if let (false, Some(url)) = (input.address.kept, member.value.get("url")?) {
                    edits.replace(url.range(), attestations(input, package, &version.name));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Points one tarball to us, wherever it lies.
fn this_tarball(
    input: &RenderInput<'_>,
    package: &PackageId,
    version: &str,
    value: Node<'_>,
    edits: &mut Edits,
    aliases: &mut Vec<Alias>,
) -> Result<(), FormatError> {
    let Some(url) = parse_url(&input.upstream, value) else {
        return Err(FormatError::shape(format!(
            "the tarball address of {} {version} is no URL",
            package.full_name(),
        )));
    };
    let file = facts::file(package, version, &url);
    if !input.address.kept {
        let (base, name) = (&input.address.base, name_path(package));
        // Upstream's name of a version may need encoding in a path.
        let place = format!("{base}{name}/-/{}", encode(&file));
        edits.replace(value.range(), quoted(&place));
    } else if facts::usual_file(package, &url).is_none() {
        // The client puts our host before upstream's path; where that path does not show the
        // package, the table of aliases does.
        aliases.push(Alias {
            path: url.path().trim_start_matches('/').to_owned(),
            target: format!("{}/-/{file}", package.full_name()),
        });
    }
    Ok(())
}

fn attestations(input: &RenderInput<'_>, package: &PackageId, version: &str) -> String {
    quoted(&format!(
        "{}-/npm/v1/attestations/{}@{}",
        input.address.base,
        name::encoded(package),
        encode(version),
    ))
}

fn parse_url(upstream: &Upstream<'_>, value: Node<'_>) -> Option<Url> {
    upstream.url.join(&value.string()?).ok()
}

fn name_path(package: &PackageId) -> String {
    match package.namespace() {
        Some(scope) => format!("@{scope}/{}", package.name()),
        None => package.name().to_owned(),
    }
}

/// Takes hidden versions out of `versions`, `time` and `dist-tags`. A tag whose version is hidden
/// goes, except `latest`, which moves to the newest version that is left.
fn leave_out(
    versions: &[Member<'_>],
    shown: &[bool],
    tags: Option<&Member<'_>>,
    time: Option<&Member<'_>>,
    edits: &mut Edits,
) -> Result<(), FormatError> {
    let is_shown = |index: usize| shown.get(index).copied().unwrap_or(true);
    let ranges: Vec<_> = versions
        .iter()
        .map(|version| version.range.clone())
        .collect();
    edits.retain(&ranges, is_shown);
    let hidden: HashSet<&str> = versions
        .iter()
        .enumerate()
        .filter(|(index, _)| !is_shown(*index))
        .map(|(_, version)| version.name.as_ref())
        .collect();
    if let Some(time) = time {
        let times = time.value.members()?;
        let ranges: Vec<_> = times.iter().map(|member| member.range.clone()).collect();
        edits.retain(&ranges, |index| {
            times
                .get(index)
                .is_none_or(|member| !hidden.contains(member.name.as_ref()))
        });
    }
    if let Some(tags) = tags {
        let left = versions
            .iter()
            .map(|version| version.name.as_ref())
            .filter(|version| !hidden.contains(version));
        let newest = version::newest(left);
        let tags = tags.value.members()?;
        let tag_hidden = |tag: &Member<'_>| {
            tag.value
                .string()
                .is_some_and(|version| hidden.contains(version.as_ref()))
        };
        for tag in tags
            .iter()
            .filter(|tag| tag.name == "latest" && tag_hidden(tag))
        {
            if let Some(newest) = newest {
                edits.replace(tag.value.range(), quoted(newest));
            }
        }
        let ranges: Vec<_> = tags.iter().map(|tag| tag.range.clone()).collect();
        edits.retain(&ranges, |index| {
            tags.get(index)
                .is_none_or(|tag| !tag_hidden(tag) || (tag.name == "latest" && newest.is_some()))
        });
    }
    Ok(())
}

/// Search results without the versions that rules hide.
fn search(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let root = Node::object_document(input.upstream.bytes)?;
    let (Some(shows), Some(objects)) = (input.shows, root.get("objects")) else {
        return Ok(verbatim(input));
    };
    let objects = objects.elements()?;
    let shown = |object: &Node<'_>| {
        let package = object.get("package").ok()??.object().ok()?;
        let id = name::parse(&package.get("name")?.string()?).ok()?;
        let version = package.get("version")?.string()?.into_owned();
        Some(shows(Subject::Other {
            package: &id,
            version: &version,
        }))
    };
    let keep: Vec<bool> = objects
        .iter()
        .map(|object| shown(object).unwrap_or(false))
        .collect();
    let mut edits = Edits::new();
    let ranges: Vec<_> = objects.iter().map(Node::range).collect();
    edits.retain(&ranges, |index| keep.get(index).copied().unwrap_or(false));
    Ok(Rendering {
        body: edits.apply(input.upstream.bytes),
        ..verbatim(input)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, DocumentId};

    const FULL: &str = r#"{ "name":"@a/b", "dist-tags":{"latest":"2.0.0", "next":"3.0.0-rc.1","old":"1.0.0"},
 "versions": {
  "1.0.0": {"name":"@a/b","version":"1.0.0","scripts":{"install":"x"},"dist":{"tarball":"https:\/\/up.example\/npm\/@a\/b\/-\/b-1.0.0.tgz","attestations":{"url":"https://up.example/-/npm/v1/attestations/@a%2fb@1.0.0"}}},
  "2.0.0": {"name":"@a/b","version":"2.0.0","readme":"\"tarball\":\"https://up.example/npm/@a/b/-/b-1.0.0.tgz\"","dist":{"tarball":"https://cdn.example/x.tgz"}},
  "3.0.0-rc.1": {"name":"@a/b","version":"3.0.0-rc.1","dist":{"tarball":"https://up.example/npm/@a/b/-/b-3.0.0-rc.1.tgz"}}
 },
 "time":{"created":"c","1.0.0":"x","2.0.0":"y","3.0.0-rc.1":"z"}, "extra":[ 1,2 ]}"#;

    fn run(view: NpmView, address: &Address, shows: Option<&crate::Shows<'_>>) -> Rendering {
        let base = Url::parse("https://up.example/npm/").unwrap();
        let document = DocumentId {
            package: Some(name::parse("@a/b").unwrap()),
            view: View::Npm(view),
        };
        let upstream = Upstream {
            bytes: FULL.as_bytes(),
            media_type: "application/json",
            url: &base,
            base: &base,
            directory: None,
        };
        render(&RenderInput {
            document: &document,
            upstream,
            address,
            shows,
            is_only_source: true,
        })
        .unwrap()
    }

    fn ours() -> Address {
        Address {
            base: "http://l.example/npm/team/".to_owned(),
            kept: false,
        }
    }

    fn kept() -> Address {
        Address {
            kept: true,
            ..ours()
        }
    }

    #[test]
    fn untouched_means_byte_for_byte_and_odd_addresses_are_remembered() {
        let rendering = run(NpmView::Packument, &kept(), None);
        assert!(rendering.body.is_none());
        assert_eq!(
            rendering.aliases,
            [Alias {
                path: "x.tgz".into(),
                target: "@a/b/-/b-2.0.0.tgz".into()
            }]
        );
    }

    #[test]
    fn addresses_change_and_nothing_else_does() {
        let body = String::from_utf8(run(NpmView::Packument, &ours(), None).body.unwrap()).unwrap();
        let back = body
            .replace(
                "http://l.example/npm/team/@a/b/-/b-1.0.0.tgz",
                r"https:\/\/up.example\/npm\/@a\/b\/-\/b-1.0.0.tgz",
            )
            .replace(
                "http://l.example/npm/team/@a/b/-/b-2.0.0.tgz",
                "https://cdn.example/x.tgz",
            )
            .replace(
                "http://l.example/npm/team/@a/b/-/b-3.0.0-rc.1.tgz",
                "https://up.example/npm/@a/b/-/b-3.0.0-rc.1.tgz",
            )
            .replace(
                "http://l.example/npm/team/-/npm/v1/attestations/@a%2fb@1.0.0",
                "https://up.example/-/npm/v1/attestations/@a%2fb@1.0.0",
            );
        assert_ne!(body, FULL);
        assert_eq!(back, FULL);
    }

    /// No registry takes such a version; what a hostile one has must not lead elsewhere.
    #[test]
    fn what_a_version_is_called_stays_in_its_segment() {
        let odd = "1.0?.5#/../x";
        let packument = format!(
            r#"{{"name":"@a/b","versions":{{"{odd}":{{"dist":{{"tarball":"https://cdn.example/x.tgz"}}}}}}}}"#
        );
        let base = Url::parse("https://up.example/npm/").unwrap();
        let document = DocumentId {
            package: Some(name::parse("@a/b").unwrap()),
            view: View::Npm(NpmView::Packument),
        };
        let rendering = render(&RenderInput {
            document: &document,
            upstream: Upstream {
                bytes: packument.as_bytes(),
                media_type: "application/json",
                url: &base,
                base: &base,
                directory: None,
            },
            address: &ours(),
            shows: None,
            is_only_source: true,
        });
        let body = String::from_utf8(rendering.unwrap().body.unwrap()).unwrap();
        assert!(
            body.contains("/@a/b/-/b-1.0%3F.5%23%2F..%2Fx.tgz"),
            "{body}"
        );
    }

    #[test]
    fn both_ways_through_a_packument_change_the_same() {
        let shows = |_: Subject<'_>| true;
        for address in [ours(), kept()] {
            let quick = run(NpmView::Packument, &address, None);
            let thorough = run(NpmView::Packument, &address, Some(&shows));
            assert_eq!(quick.body, thorough.body);
            assert_eq!(quick.aliases, thorough.aliases);
        }
    }

    #[test]
    fn a_hidden_version_leaves_no_trace_and_latest_moves() {
        let shows =
            |subject: Subject<'_>| !matches!(subject, Subject::Version("2.0.0" | "3.0.0-rc.1"));
        let rendering = run(NpmView::Packument, &kept(), Some(&shows));
        let body: serde_json::Value = serde_json::from_slice(&rendering.body.unwrap()).unwrap();
        assert_eq!(
            body["dist-tags"],
            serde_json::json!({"latest": "1.0.0", "old": "1.0.0"})
        );
        assert_eq!(
            body["time"],
            serde_json::json!({"created": "c", "1.0.0": "x"})
        );
        assert_eq!(body["versions"].as_object().unwrap().len(), 1);
        assert_eq!(body["extra"], serde_json::json!([1, 2]));
    }

    #[test]
    fn the_short_form_is_derived_where_rules_need_dates() {
        let shows = |_: Subject<'_>| true;
        let rendering = run(NpmView::ShortPackument, &ours(), Some(&shows));
        assert_eq!(rendering.content_type, SHORT_TYPE);
        let body: serde_json::Value = serde_json::from_slice(&rendering.body.unwrap()).unwrap();
        assert_eq!(body["versions"]["1.0.0"]["hasInstallScript"], true);
        assert!(body["versions"]["1.0.0"].get("scripts").is_none());
        assert!(body.get("time").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_handed_on_in_no_view() {
        let base = Url::parse("https://up.example/").unwrap();
        let shows = |_: Subject<'_>| true;
        for view in [
            NpmView::Packument,
            NpmView::ShortPackument,
            NpmView::DistTags,
            NpmView::Manifest("1.0.0".into()),
            NpmView::Search(String::new()),
            NpmView::Keys,
            NpmView::Attestations("@a/b@1.0.0".into()),
        ] {
            let document = DocumentId {
                package: Some(name::parse("@a/b").unwrap()),
                view: View::Npm(view),
            };
            for body in [
                "",
                "<html></html>",
                "[]",
                "{",
                "{} more",
                r#"{"versions":{},"version\u0073":{}}"#,
                // A search's results, which packuments do not have.
                r#"{"objects":[],"objects":[]}"#,
            ] {
                if body.contains("objects")
                    && !matches!(document.view, View::Npm(NpmView::Search(_)))
                {
                    continue;
                }
                for shows in [None, Some(&shows as &crate::Shows<'_>)] {
                    let rendered = render(&RenderInput {
                        document: &document,
                        upstream: Upstream {
                            bytes: body.as_bytes(),
                            media_type: "application/json",
                            url: &base,
                            base: &base,
                            directory: None,
                        },
                        address: &ours(),
                        shows,
                        is_only_source: true,
                    });
                    assert!(rendered.is_err(), "{:?} {body}", document.view);
                }
            }
        }
    }

    #[test]
    fn a_manifest_is_found_by_version_and_by_tag() {
        let by_tag = run(NpmView::Manifest("next".into()), &ours(), None)
            .body
            .unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&by_tag).unwrap();
        assert_eq!(manifest["version"], "3.0.0-rc.1");
    }
}
