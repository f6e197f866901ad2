//! The registrations that NuGet asks for when it has read one.

use super::registration::{self, Leaf, string};
use super::{NugetView, name, version};
use crate::json::Node;
use crate::{DocumentId, FormatError, PrefetchHint, PrefetchInput, Target, View};

pub fn gives_hints(target: &Target) -> bool {
    view_of(target).is_some()
}

/// A registration's index, and in which form.
fn view_of(target: &Target) -> Option<super::Registrations> {
    match target {
        Target::Document(DocumentId {
            view: View::Nuget(NugetView::Registration { form, path }),
            ..
        }) if path.ends_with("/index.json") => Some(*form),
        _ => None,
    }
}

/// Hints of the dependencies of the version that a resolver takes: the lowest that the range takes,
/// without a range the newest that is no prerelease. Versions on pages of their own are not looked
/// for.
pub fn prefetch_hints(input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
    let Some(form) = view_of(input.of) else {
        return Ok(Vec::new());
    };
    let is_taken = |leaf: &Leaf<'_>| {
        leaf.version.as_ref().is_some_and(|version| {
            input.shows(version)
                && match input.range {
                    Some(range) => version::in_range(version, range) == Some(true),
                    None => !version::is_prerelease(version),
                }
        })
    };
    // A registration's leaves are in ascending order.
    let mut chosen = None;
    registration::each_page(Node::document(input.upstream.bytes)?, |page| {
        let Some(leaves) = page.leaves()? else {
            return Ok(());
        };
        leaves.each_element(|leaf| {
            let leaf = registration::leaf(&leaf)?;
            if (chosen.is_none() || input.range.is_none()) && is_taken(&leaf) {
                chosen = Some(leaf);
            }
            Ok(())
        })
    })?;
    let groups = match chosen {
        Some(leaf) => leaf.entry.get_in_any_case("dependencyGroups")?,
        None => None,
    };
    let mut hints = Vec::new();
    for group in groups.map_or_else(|| Ok(Vec::new()), |groups| groups.elements())? {
        let dependencies = group.get_in_any_case("dependencies")?;
        for one in dependencies.map_or_else(|| Ok(Vec::new()), |all| all.elements())? {
            let package = string(&one, "id")?.and_then(|id| name::parse(&id).ok());
            let Some(package) = package else { continue };
            let hint = PrefetchHint {
                range: string(&one, "range")?.map(std::borrow::Cow::into_owned),
                target: Target::Document(DocumentId {
                    view: View::Nuget(NugetView::Registration {
                        form,
                        path: format!("{}/index.json", package.name()),
                    }),
                    package: Some(package),
                }),
            };
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    Ok(hints)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::Upstream;

    const INDEX: &str = r#"{"items":[{"items":[
        {"catalogEntry":{"version":"1.0.0","dependencyGroups":[{"dependencies":[{"id":"Old.Dep","range":"[1.0.0, )"}]}]}},
        {"catalogEntry":{"version":"2.0.0","dependencyGroups":[
            {"targetFramework":"net6.0","dependencies":[{"id":"New.Dep","range":"[3.0.0, )"}]},
            {"targetFramework":"net8.0","dependencies":[{"id":"new.dep","range":"[3.0.0, )"},{"id":"Other"}]},
            {"targetFramework":"net9.0"}]}},
        {"catalogEntry":{"version":"3.0.0-beta"}}]}]}"#;

    #[test]
    fn a_registration_leads_to_those_of_its_dependencies() {
        let base = Url::parse("https://nuget.example/").unwrap();
        for (range, expected) in [
            (None, vec!["new.dep/index.json", "other/index.json"]),
            (Some("[1.0.0, )"), vec!["old.dep/index.json"]),
            (
                Some("[1.5.0, )"),
                vec!["new.dep/index.json", "other/index.json"],
            ),
            (Some("[9.0.0, )"), vec![]),
        ] {
            let of = Target::Document(DocumentId {
                package: Some(name::parse("A").unwrap()),
                view: View::Nuget(NugetView::Registration {
                    form: super::super::Registrations::Gzipped,
                    path: "a/index.json".to_owned(),
                }),
            });
            let found = prefetch_hints(&PrefetchInput {
                of: &of,
                upstream: Upstream {
                    bytes: INDEX.as_bytes(),
                    media_type: "application/json",
                    url: &base,
                    base: &base,
                    directory: None,
                },
                range,
                shows: None,
            })
            .unwrap();
            let paths: Vec<&str> = found
                .iter()
                .map(|hint| match &hint.target {
                    Target::Document(DocumentId {
                        view: View::Nuget(NugetView::Registration { path, .. }),
                        ..
                    }) => path.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(paths, expected, "{range:?}");
        }
    }
}
