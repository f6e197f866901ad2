//! The packages that npm asks for when it has read a packument.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use nodejs_semver::{Range, Version};
use serde::Deserialize;

use super::{NpmView, name, version};
use crate::json::{Member, Node};
use crate::{DocumentId, FormatError, PrefetchHint, PrefetchInput, Target, View};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    #[serde(borrow, default)]
    dependencies: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default)]
    optional_dependencies: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default)]
    peer_dependencies: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default)]
    peer_dependencies_meta: BTreeMap<Cow<'a, str>, PeerMeta>,
}

#[derive(Default, Deserialize)]
struct PeerMeta {
    #[serde(default)]
    optional: bool,
}

pub fn gives_hints(target: &Target) -> bool {
    view_of(target).is_some()
}

fn view_of(target: &Target) -> Option<&NpmView> {
    match target {
        Target::Document(DocumentId {
            view: View::Npm(view @ (NpmView::Packument | NpmView::ShortPackument)),
            ..
        }) => Some(view),
        _ => None,
    }
}

pub fn prefetch_hints(input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
    let Some(view) = view_of(input.of) else {
        return Ok(Vec::new());
    };
    let root = Node::object_document(input.upstream.bytes)?;
    let tags: BTreeMap<Cow<'_, str>, Cow<'_, str>> = root
        .get("dist-tags")
        .map_or_else(|| Ok(BTreeMap::new()), |tags| tags.read())?;
    let Some(versions) = root.get("versions") else {
        return Ok(Vec::new());
    };
    let Some(chosen) = choose(input, versions, &tags)? else {
        return Ok(Vec::new());
    };
    let manifest: Manifest<'_> = chosen.value.read()?;
    let is_optional = |name: &str| {
        let meta = manifest.peer_dependencies_meta.get(name);
        meta.is_some_and(|meta| meta.optional)
    };
    let peers = manifest
        .peer_dependencies
        .iter()
        .filter(|(name, _)| !is_optional(name));
    let wanted = manifest
        .dependencies
        .iter()
        .chain(&manifest.optional_dependencies)
        .chain(peers);
    Ok(wanted
        .filter_map(|(name, range)| hint(name, range, view))
        .collect())
}

/// The version that npm takes: `latest` where the range takes it, else the newest that it takes
/// (npm-pick-manifest). Without a range, `latest`.
fn choose<'a>(
    input: &PrefetchInput<'_>,
    versions: Node<'a>,
    tags: &BTreeMap<Cow<'_, str>, Cow<'_, str>>,
) -> Result<Option<Member<'a>>, FormatError> {
    let range = input.range.unwrap_or("latest");
    let tagged = tags.get(range);
    let read = Range::parse(range).ok();
    let takes = |text: &str| {
        let version = Version::parse(text).ok();
        version
            .zip(read.as_ref())
            .is_some_and(|(version, range)| version.satisfies(range))
    };
    let latest = || tags.get("latest").filter(|latest| takes(latest));
    let preferred = tagged.or_else(latest);
    let (mut named, mut newest) = (None, None::<Member<'a>>);
    versions.each_member(|member| {
        if preferred.is_some_and(|version| *version == member.name) {
            named = Some(member).filter(|member| input.shows(&member.name));
        } else if tagged.is_none() && takes(&member.name) && input.shows(&member.name) {
            let is_newer = |newest: &Member<'_>| {
                version::compare(&member.name, &newest.name) != Ordering::Less
            };
            if newest.as_ref().is_none_or(is_newer) {
                newest = Some(member);
            }
        }
        Ok(())
    })?;
    Ok(named.or(newest))
}

/// The hint for one dependency; `None` where it does not come from the registry.
fn hint(name: &str, range: &str, view: &NpmView) -> Option<PrefetchHint> {
    let (name, range) = match range.strip_prefix("npm:") {
        Some(alias) => {
            let at = alias.rfind('@').filter(|at| *at > 0);
            at.map_or((alias, ""), |at| {
                (
                    alias.get(..at).unwrap_or_default(),
                    alias.get(at + 1..).unwrap_or_default(),
                )
            })
        }
        None => (name, range),
    };
    if range.contains([':', '/']) {
        return None;
    }
    Some(PrefetchHint {
        target: Target::Document(DocumentId {
            package: Some(name::parse(name).ok()?),
            view: View::Npm(view.clone()),
        }),
        range: Some(range.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::{Shows, Subject, Upstream};

    const PACKUMENT: &str = r#"{"name":"a","dist-tags":{"latest":"2.0.0","next":"3.0.0-rc.1"},"versions":{
        "1.0.0":{"dependencies":{"old":"^1"}},
        "1.1.0":{"dependencies":{"b":"^1.0.0","c":"npm:@x/real@~2.1","d":"git+https://code.example/d","e":"file:../e"},
                 "optionalDependencies":{"f":"*"},
                 "peerDependencies":{"g":">=3","h":"*"},"peerDependenciesMeta":{"h":{"optional":true}}},
        "2.0.0":{"dependencies":{"two":"latest"}},
        "3.0.0-rc.1":{"dependencies":{"three":"3"}}}}"#;

    fn leads_of(range: Option<&str>, shows: Option<&Shows<'_>>) -> Vec<String> {
        let base = Url::parse("https://npm.example/").unwrap();
        let of = Target::Document(DocumentId {
            package: Some(name::parse("a").unwrap()),
            view: View::Npm(NpmView::ShortPackument),
        });
        let input = PrefetchInput {
            of: &of,
            upstream: Upstream {
                bytes: PACKUMENT.as_bytes(),
                media_type: "application/json",
                url: &base,
                base: &base,
                directory: None,
            },
            range,
            shows,
        };
        let hints = prefetch_hints(&input).unwrap().into_iter();
        hints
            .map(|hint| match hint.target {
                Target::Document(id) => {
                    let package = id.package.unwrap().full_name();
                    format!("{package}@{}", hint.range.unwrap())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_version_that_npm_would_take_leads_to_its_dependencies() {
        for (range, expected) in [
            (None, vec!["two@latest"]),
            (Some("*"), vec!["two@latest"]),
            (
                Some("^1.0.0"),
                vec!["b@^1.0.0", "@x/real@~2.1", "f@*", "g@>=3"],
            ),
            (Some("1.0.0"), vec!["old@^1"]),
            (Some("next"), vec!["three@3"]),
            (Some("^9"), vec![]),
            (Some("not a range"), vec![]),
        ] {
            assert_eq!(leads_of(range, None), expected, "{range:?}");
        }
    }

    #[test]
    fn a_hidden_version_leads_nowhere() {
        let shows = |subject: Subject<'_>| !matches!(subject, Subject::Version("1.1.0" | "2.0.0"));
        assert_eq!(leads_of(Some("^1.0.0"), Some(&shows)), ["old@^1"]);
        assert!(leads_of(None, Some(&shows)).is_empty());
    }
}
