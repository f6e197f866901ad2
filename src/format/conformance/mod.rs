//! The promises that every format keeps. Tests check them with recorded documents, fuzz targets
//! with any bytes; a promise that is not kept ends in a panic that says why.

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod version;

use std::collections::BTreeSet;

use http::Method;
use url::Url;

use crate::package::{Location, PackageId, PackedFacts, UpstreamPath, VersionId, is_risky_segment};
use crate::{
    Address, ClientRequest, DocumentId, Evidence, Protocol, RenderInput, Rendering, Shows, Subject,
    Target, Upstream, path,
};

/// Larder's own address of a repository.
const OURS: &str = "http://l.example/r/";
/// How many times its own bytes a rendering may have, beside one address of ours per address in it.
const TIMES_MAX: usize = 4;

/// A document as a registry sent it.
#[derive(Clone, Copy)]
pub struct Recorded<'a> {
    pub document: &'a DocumentId,
    pub bytes: &'a [u8],
    pub media_type: &'a str,
    /// Where it was found.
    pub url: &'a Url,
    /// Where Larder serves it, below a repository.
    pub served_at: &'a str,
    /// It says all that its format asks for: what is odd may be left out where rules decide.
    pub is_well_formed: bool,
}

impl Recorded<'_> {
    fn upstream(&self) -> Upstream<'_> {
        Upstream {
            bytes: self.bytes,
            media_type: self.media_type,
            url: self.url,
            base: self.url,
            directory: None,
        }
    }

    fn render(&self, protocol: &dyn Protocol, kept: bool, shows: Option<&Shows<'_>>) -> Outcome {
        let base = OURS.to_owned();
        let rendering = protocol.render(&RenderInput {
            document: self.document,
            upstream: self.upstream(),
            address: &Address { base, kept },
            shows,
            is_only_source: true,
        });
        rendering.ok().map(|rendering| self.whole(rendering))
    }

    /// The rendering with its bytes, also where they are upstream's.
    fn whole(&self, rendering: Rendering) -> (Vec<u8>, String) {
        let media_type = rendering.content_type.split(';').next().unwrap_or_default();
        let media_type = media_type.trim().to_owned();
        let body = rendering.body.unwrap_or_else(|| self.bytes.to_vec());
        (body, media_type)
    }
}

/// A rendering with its media type; none where the document cannot be read.
type Outcome = Option<(Vec<u8>, String)>;

/// A file, and the version that it is of.
type File = (VersionId, Box<str>);

/// The versions that a document names, and the files with their versions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named {
    versions: BTreeSet<VersionId>,
    files: Vec<File>,
    /// Where the files are, for those that have an address.
    addresses: Vec<(Url, Box<str>)>,
}

fn named(protocol: &dyn Protocol, document: &DocumentId, upstream: &Upstream<'_>) -> Option<Named> {
    let package = document.package.as_ref()?;
    let mut named = Named::default();
    if let Evidence::Path(evidence) = protocol.evidence() {
        let listed = evidence.versions(document, upstream).ok()?;
        let listed = listed.iter().map(|text| protocol.known_version(text));
        named.versions.extend(listed);
    }
    let facts = protocol.evidence().documents();
    if let Some(Ok(facts)) = facts.map(|it| it.facts(package, upstream, PackedFacts::new())) {
        for asset in facts.assets.iter().filter_map(|asset| asset.facts()) {
            let version = protocol.known_version(&asset.version);
            named.versions.insert(version.clone());
            if let Location::Url(url) = asset.location {
                named.addresses.push((url, asset.file.clone()));
            }
            named.files.push((version, asset.file));
        }
    }
    Some(named)
}

/// A rendering shows what no rule hides, in upstream's order, and nothing else; without rules it is
/// upstream's bytes where addresses stay; and it is not much larger than its document.
///
/// # Panics
/// Where that does not hold.
pub fn rendering(
    protocol: &dyn Protocol,
    recorded: &Recorded<'_>,
    hides: &dyn Fn(&VersionId) -> bool,
) {
    let all = |_: Subject<'_>| true;
    let Some((verbatim, _)) = recorded.render(protocol, true, None) else {
        let shown = recorded.render(protocol, true, Some(&all));
        assert!(shown.is_none(), "with rules more can be read than without");
        return;
    };
    if keeps_addresses(protocol, recorded.document) {
        assert_eq!(
            verbatim, recorded.bytes,
            "no rule, no address, and yet an edit"
        );
    }
    let before = named(protocol, recorded.document, &recorded.upstream());
    let shows = |subject: Subject<'_>| match subject {
        Subject::Version(version)
        | Subject::File { version, .. }
        | Subject::Other { version, .. } => !hides(&protocol.known_version(version)),
        Subject::Name(_) => true,
    };
    let (Some((body, media_type)), Some(before)) =
        (recorded.render(protocol, false, Some(&shows)), before)
    else {
        return;
    };
    let addresses = before.files.len() * 2 * (OURS.len() + 64);
    let bound = recorded.bytes.len() * TIMES_MAX + addresses + 1024;
    assert!(
        body.len() <= bound,
        "{} bytes of {}",
        body.len(),
        recorded.bytes.len()
    );
    let Some(url) = Url::parse(OURS)
        .ok()
        .and_then(|ours| ours.join(recorded.served_at).ok())
    else {
        return;
    };
    let served = Upstream {
        bytes: &body,
        media_type: &media_type,
        url: &url,
        base: &url,
        directory: None,
    };
    let after = named(protocol, recorded.document, &served);
    let Some(after) = after else {
        panicked("what was rendered cannot be read");
        return;
    };
    let shown: BTreeSet<_> = before.versions.iter().filter(|it| !hides(it)).collect();
    let left: BTreeSet<_> = after.versions.iter().collect();
    assert!(
        left.is_subset(&shown),
        "hidden, and yet shown: {left:?} {shown:?}"
    );
    if !recorded.is_well_formed {
        return;
    }
    assert_eq!(left, shown, "what is shown is not what no rule hides");
    let shown: Vec<_> = before.files.iter().filter(|(it, _)| !hides(it)).collect();
    let left: Vec<_> = after.files.iter().collect();
    assert_eq!(
        left.len(),
        shown.len(),
        "files are lost: {left:?} {shown:?}"
    );
}

#[allow(clippy::panic, reason = "this is what tells that a law does not hold")]
fn panicked(why: &str) {
    panic!("{why}");
}

/// Whether the document has no addresses, or the client puts ours in their place itself.
fn keeps_addresses(protocol: &dyn Protocol, document: &DocumentId) -> bool {
    use crate::package::Format;
    match protocol.format() {
        Format::Npm => matches!(
            document.view,
            crate::View::Npm(crate::npm::NpmView::Packument | crate::npm::NpmView::DistTags)
        ),
        Format::Maven => true,
        _ => false,
    }
}

/// Each address that a rendering prints leads back to the file that the document named.
///
/// # Panics
/// Where one does not.
pub fn addresses(protocol: &dyn Protocol, recorded: &Recorded<'_>) {
    let Some((body, media_type)) = recorded.render(protocol, false, None) else {
        return;
    };
    let served_at = Url::parse(OURS).and_then(|ours| ours.join(recorded.served_at));
    let Ok(url) = served_at else {
        return;
    };
    let served = Upstream {
        bytes: &body,
        media_type: &media_type,
        url: &url,
        base: &url,
        directory: None,
    };
    let after = named(protocol, recorded.document, &served).unwrap_or_default();
    for (address, file) in &after.addresses {
        let rest = address.as_str().strip_prefix(OURS);
        assert!(rest.is_some(), "{address} is not below {OURS}");
        let rest = rest.unwrap_or_default();
        let target = protocol.parse(&ClientRequest {
            method: &Method::GET,
            rest: rest.split(['#', '?']).next().unwrap_or_default(),
            query: None,
            accept: "",
        });
        match target {
            Ok(Target::Asset(asset)) => {
                // A slash at the end names no file, and npm's files have no folders.
                let file = file.trim_end_matches('/');
                assert!(file.ends_with(&*asset.file), "{address} is not {file}");
                assert_eq!(Some(&asset.package), recorded.document.package.as_ref());
            }
            // The stored table of aliases knows it.
            Ok(Target::Alias(_)) => {}
            // An address among the package's own documents stays one of its documents.
            Ok(Target::Document(id)) => assert_eq!(id.package, recorded.document.package),
            // The registry's own name for it makes no address that is allowed.
            Err(_) if path::segments(rest).is_err() => {}
            other => panicked(&format!("{address} leads to {other:?}")),
        }
    }
}

/// A path leads to one thing however it is encoded, and to nothing that climbs.
///
/// # Panics
/// Where it does not.
pub fn paths(protocol: &dyn Protocol, ask: &ClientRequest<'_>) {
    let Ok(target) = protocol.parse(ask) else {
        return;
    };
    match &target {
        Target::Asset(asset) | Target::Checksum(asset, _) => {
            is_below(&asset.file);
            is_name(&asset.package);
        }
        Target::Document(id) | Target::DocumentChecksum(id, _) => {
            id.package.iter().for_each(is_name);
            for dates in [false, true] {
                is_outside(&protocol.resource(id, dates).location);
            }
            for resource in protocol.resources(id) {
                is_outside(&resource.location);
            }
        }
        Target::Question { location, .. } => is_outside(location),
        Target::Redirect(to) => {
            let again = protocol.parse(&ClientRequest { rest: to, ..*ask });
            let leads_on = matches!(again, Ok(Target::Redirect(_)) | Err(_));
            assert!(!leads_on, "{to} leads on");
        }
        Target::Alias(path) => is_below(path),
        Target::Answer { .. } | Target::Change(_) => {}
    }
    if let Ok(segments) = path::segments(ask.rest) {
        let slash = if ask.rest.ends_with('/') { "/" } else { "" };
        let again = path::encode_path(&segments.join("/")) + slash;
        let again = protocol.parse(&ClientRequest {
            rest: &again,
            ..*ask
        });
        assert_eq!(again.ok(), Some(target), "another spelling of {}", ask.rest);
    }
}

fn is_below(path: &str) {
    for segment in path.split('/') {
        let is_safe = !segment.is_empty() && !is_risky_segment(segment);
        assert!(is_safe, "{path} leads elsewhere");
    }
}

fn is_name(package: &PackageId) {
    let parts = package.namespace().into_iter().chain([package.name()]);
    for part in parts {
        let is_safe = !part.is_empty() && !is_risky_segment(part);
        assert!(is_safe, "{package} leads elsewhere");
    }
}

/// Below every base, and at its host.
fn is_outside(location: &Location) {
    let (Location::Path(path) | Location::Beside(path) | Location::Service { path, .. }) = location
    else {
        return;
    };
    stays(path);
}

fn stays(path: &UpstreamPath) {
    let Ok(base) = Url::parse("https://up.example/a/b/") else {
        return;
    };
    if let Some(url) = path.below(&base) {
        assert!(
            url.as_str().starts_with(base.as_str()),
            "{} climbs",
            url.as_str()
        );
    }
}

/// A merge of parts names what they name, in each part's own order.
///
/// # Panics
/// Where it does not.
pub fn merging(
    protocol: &dyn Protocol,
    recorded: &Recorded<'_>,
    is_near: &dyn Fn(&VersionId) -> bool,
) {
    if !protocol.merges(recorded.document) {
        return;
    }
    let part = |near: bool| {
        let shows = move |subject: Subject<'_>| match subject {
            Subject::Version(version)
            | Subject::File { version, .. }
            | Subject::Other { version, .. } => is_near(&protocol.known_version(version)) == near,
            Subject::Name(_) => true,
        };
        recorded.render(protocol, false, Some(&shows))
    };
    let (Some((near, media_type)), Some((far, _))) = (part(true), part(false)) else {
        return;
    };
    let Ok(url) = Url::parse(OURS).and_then(|ours| ours.join(recorded.served_at)) else {
        return;
    };
    let read = |bytes: &[u8]| {
        let upstream = Upstream {
            bytes,
            media_type: &media_type,
            url: &url,
            base: &url,
            directory: None,
        };
        named(protocol, recorded.document, &upstream).unwrap_or_default()
    };
    let merged = protocol.merge(recorded.document, &[&near, &far]);
    let merged = match merged {
        Ok(merged) => merged,
        // A document that is passed on unchanged need not be one that a merge can read.
        Err(_) if !recorded.is_well_formed => return,
        Err(error) => {
            panicked(&format!("what was rendered cannot be merged: {error}"));
            return;
        }
    };
    let (mut near, mut far, mut merged) = (read(&near), read(&far), read(&merged));
    // A version's file that is named twice is one, also where it lies in two folders.
    for part in [&mut near, &mut far, &mut merged] {
        let mut seen = BTreeSet::new();
        part.files.retain(|(version, file)| {
            let name = file.rsplit('/').next().unwrap_or_default();
            seen.insert((version.clone(), name.to_owned()))
        });
    }
    let all: BTreeSet<_> = near.versions.iter().chain(&far.versions).collect();
    let named: BTreeSet<_> = merged.versions.iter().collect();
    assert!(named.is_subset(&all), "{named:?} {all:?}");
    if recorded.is_well_formed {
        assert_eq!(named, all);
    }
    for part in [near, far] {
        let own = |file: &&File| part.files.contains(file);
        let kept: Vec<_> = merged.files.iter().filter(own).collect();
        let mut rest = part.files.iter();
        for file in &kept {
            assert!(
                rest.any(|it| it == *file),
                "an order is lost: {kept:?} {part:?}"
            );
        }
        if recorded.is_well_formed {
            assert_eq!(kept.len(), part.files.len(), "files are lost");
        }
    }
}
