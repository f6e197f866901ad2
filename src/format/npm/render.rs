//! Packuments with addresses changed and hidden versions left out, and what is cut from them.

use std::borrow::Cow;
use std::ops::Range;

use url::Url;

use super::{NpmView, SHORT_TYPE, facts, name, scan, short, version};
use crate::edit::{Edits, ListEdit};
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
        (NpmView::Packument, Some(package)) => packument(input, package, Length::AsItCame),
        (NpmView::ShortPackument, Some(package))
            if input.upstream.media_type == SHORT_TYPE || input.shows.is_none() =>
        {
            packument(input, package, Length::AsItCame)
        }
        (NpmView::ShortPackument, Some(package)) => packument(input, package, Length::Short),
        (NpmView::Manifest(wanted), Some(package)) => manifest(input, package, wanted),
        (NpmView::DistTags, Some(_)) => tags(input),
    }
}

/// How much of a packument is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    AsItCame,
    /// The members that the short form has, out of the full one.
    Short,
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

/// One version's manifest out of the packument; a tag is followed first.
fn manifest(
    input: &RenderInput<'_>,
    package: &PackageId,
    wanted: &str,
) -> Result<Rendering, FormatError> {
    let root = Node::object_document(input.upstream.bytes)?;
    let absent = || {
        FormatError::Absent(format!(
            "{} has no version or tag `{wanted}`",
            package.full_name()
        ))
    };
    let versions = root.get("versions").ok_or_else(absent)?;
    let hidden = HiddenVersions::of(input, versions)?;
    let tagged = match root.get("dist-tags") {
        Some(tags) => tags.get(wanted)?.and_then(|version| version.string()),
        None => None,
    };
    let tagged = match tagged {
        Some(version) if hidden.has(&version) && wanted == LATEST => {
            hidden.newest_left(versions)?
        }
        Some(version) if hidden.has(&version) => None,
        tagged => tagged,
    };
    let version = tagged.as_deref().unwrap_or(wanted);
    let mut found = None;
    versions.each_member(|member| {
        if member.name == version {
            found = Some(member);
        }
        Ok(())
    })?;
    let found = found.filter(|member| !hidden.has(&member.name));
    let found = found.ok_or_else(absent)?;
    let mut edits = Edits::new(input.upstream.bytes);
    let mut aliases = Vec::new();
    addresses(input, package, &found, &mut edits, &mut aliases)?;
    Ok(Rendering {
        aliases,
        ..json(edits.apply_within(found.value.range()))
    })
}

/// The tags out of the packument.
fn tags(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let root = Node::object_document(input.upstream.bytes)?;
    let Some(tags) = root.get("dist-tags") else {
        return Ok(json(b"{}".to_vec()));
    };
    let mut edits = Edits::new(input.upstream.bytes);
    if let Some(versions) = root.get("versions") {
        let hidden = HiddenVersions::of(input, versions)?;
        edit_tags(tags, versions, &hidden, &mut edits)?;
    }
    Ok(json(edits.apply_within(tags.range())))
}

fn packument(
    input: &RenderInput<'_>,
    package: &PackageId,
    length: Length,
) -> Result<Rendering, FormatError> {
    let document = Node::document(input.upstream.bytes)?;
    if input.shows.is_none()
        && let Some(rendering) = readdressed(input, package, &document)?
    {
        return Ok(rendering);
    }
    let root = document.object()?;
    let mut edits = Edits::new(input.upstream.bytes);
    let mut aliases = Vec::new();
    if let Some(versions) = root.get("versions") {
        let mut hidden = HiddenVersions::default();
        let mut list = ListEdit::default();
        versions.each_member(|version| {
            let is_shown = is_shown(input, &version.name);
            list.item(&mut edits, &version.range, is_shown);
            // The address of a hidden one leads to the word of the rule that hides it.
            if is_shown || input.address.kept {
                addresses(input, package, &version, &mut edits, &mut aliases)?;
            }
            if !is_shown {
                hidden.add(version.name);
            } else if length == Length::Short {
                short::shorten_version(version.value, &mut edits)?;
            }
            Ok(())
        })?;
        list.end(&mut edits);
        hidden.sort();
        if !hidden.is_empty() {
            if let Some(time) = root.get("time").filter(|_| length != Length::Short) {
                leave_out_times(time, &hidden, &mut edits)?;
            }
            if let Some(tags) = root.get("dist-tags") {
                edit_tags(tags, versions, &hidden, &mut edits)?;
            }
        }
    }
    let content_type = match length {
        Length::AsItCame => Cow::Owned(input.upstream.media_type.to_owned()),
        Length::Short => {
            short::shorten(&root, &mut edits)?;
            Cow::Borrowed(SHORT_TYPE)
        }
    };
    Ok(Rendering {
        body: edits.apply(),
        content_type,
        aliases,
    })
}

fn is_shown(input: &RenderInput<'_>, version: &str) -> bool {
    let shows = input.shows;
    shows.is_none_or(|shows| shows(Subject::Version(version)))
}

/// Rewrites the addresses of a packument without hidden versions, in one pass. An address that begins
/// like the one before it is not parsed again.
fn readdressed(
    input: &RenderInput<'_>,
    package: &PackageId,
    document: &Node<'_>,
) -> Result<Option<Rendering>, FormatError> {
    let mut edits = Edits::new(input.upstream.bytes);
    let mut aliases = Vec::new();
    let mut usual: Option<Usual> = None;
    let build = scan::each_version(document, |found| {
        let Some(dist) = &found.dist else {
            return Ok(());
        };
        if let Some(tarball) = dist.tarball {
            let value = document.child(tarball);
            match usual.as_ref().and_then(|usual| usual.place(&value)) {
                Some(_) if input.address.kept => {}
                Some((range, prefix)) => edits.replace(range, prefix),
                None => {
                    let version = &found.version;
                    this_tarball(input, package, version, value, &mut edits, &mut aliases)?;
                    usual = Usual::of(input, package, &value).or(usual.take());
                }
            }
        }
        if let Some(url) = dist.attestations.as_ref().and_then(|them| them.url)
            && !input.address.kept
        {
            let place = attestations(input, package, &found.version);
            edits.replace(document.child(url).range(), place);
        }
        Ok(())
    })?;
    Ok((build == scan::Build::Usual).then(|| Rendering {
        body: edits.apply(),
        content_type: Cow::Owned(input.upstream.media_type.to_owned()),
        aliases,
    }))
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
    edits: &mut Edits<'_>,
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
    edits: &mut Edits<'_>,
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

/// The tag that clients follow who name no version.
const LATEST: &str = "latest";

/// The versions that rules hide, in the order of their texts.
#[derive(Default)]
struct HiddenVersions<'a>(Vec<Cow<'a, str>>);

impl<'a> HiddenVersions<'a> {
    fn of(input: &RenderInput<'_>, versions: Node<'a>) -> Result<Self, FormatError> {
        let mut hidden = Self::default();
        if input.shows.is_some() {
            versions.each_member(|version| {
                if !is_shown(input, &version.name) {
                    hidden.add(version.name);
                }
                Ok(())
            })?;
            hidden.sort();
        }
        Ok(hidden)
    }

    fn add(&mut self, version: Cow<'a, str>) {
        self.0.push(version);
    }

    /// Once all are there.
    fn sort(&mut self) {
        self.0.sort_unstable();
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, version: &str) -> bool {
        let found = self
            .0
            .binary_search_by(|hidden| hidden.as_ref().cmp(version));
        found.is_ok()
    }

    /// The version that `latest` points to where its own is hidden.
    fn newest_left(&self, versions: Node<'a>) -> Result<Option<Cow<'a, str>>, FormatError> {
        let mut newest: Option<Cow<'a, str>> = None;
        versions.each_member(|version| {
            if !self.has(&version.name) {
                let is_newer = |newest: &Cow<'_, str>| version::is_newer(&version.name, newest);
                if newest.as_ref().is_none_or(is_newer) {
                    newest = Some(version.name);
                }
            }
            Ok(())
        })?;
        Ok(newest)
    }
}

fn leave_out_times(
    time: Node<'_>,
    hidden: &HiddenVersions<'_>,
    edits: &mut Edits<'_>,
) -> Result<(), FormatError> {
    let mut list = ListEdit::default();
    time.each_member(|member| {
        list.item(edits, &member.range, !hidden.has(&member.name));
        Ok(())
    })?;
    list.end(edits);
    Ok(())
}

/// Takes tags of hidden versions out; `latest` moves to the newest version that is left.
fn edit_tags(
    tags: Node<'_>,
    versions: Node<'_>,
    hidden: &HiddenVersions<'_>,
    edits: &mut Edits<'_>,
) -> Result<(), FormatError> {
    let mut list = ListEdit::default();
    tags.each_member(|tag| {
        let version = tag.value.string();
        let is_hidden = version.is_some_and(|version| hidden.has(&version));
        let newest = if is_hidden && tag.name == LATEST {
            hidden.newest_left(versions)?
        } else {
            None
        };
        if let Some(newest) = &newest {
            edits.replace(tag.value.range(), quoted(newest));
        }
        list.item(edits, &tag.range, !is_hidden || newest.is_some());
        Ok(())
    })?;
    list.end(edits);
    Ok(())
}

/// Search results without the versions that rules hide.
fn search(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let root = Node::object_document(input.upstream.bytes)?;
    let (Some(shows), Some(objects)) = (input.shows, root.get("objects")) else {
        return Ok(verbatim(input));
    };
    let shown = |object: &Node<'_>| {
        let package = object.get("package").ok()??.object().ok()?;
        let id = name::parse(&package.get("name")?.string()?).ok()?;
        let version = package.get("version")?.string()?.into_owned();
        Some(shows(Subject::Other {
            package: &id,
            version: &version,
        }))
    };
    let mut edits = Edits::new(input.upstream.bytes);
    let mut list = ListEdit::default();
    objects.each_element(|object| {
        let is_shown = shown(&object).unwrap_or(false);
        list.item(&mut edits, &object.range(), is_shown);
        Ok(())
    })?;
    list.end(&mut edits);
    Ok(Rendering {
        body: edits.apply(),
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
