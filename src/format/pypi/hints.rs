//! Predicts what an installer asks for when it has read a project's page: the metadata of the
//! newest version that it may take, and the pages of what that requires (PEP 508, 658, 714).

use std::str::FromStr as _;

use pep440_rs::{Version, VersionSpecifiers};
use url::Url;

use super::page::PageFile;
use super::{Form, PypiView, address, name, page};
use crate::package::{AssetId, PackageId};
use crate::{DocumentId, FormatError, Need, PrefetchHint, PrefetchInput, Target, View};

const METADATA: &str = ".metadata";

pub fn gives_hints(target: &Target) -> bool {
    match target {
        Target::Document(id) => matches!(id.view, View::Pypi(PypiView::Project(_))),
        Target::Asset(asset) => asset.file.ends_with(METADATA),
        _ => false,
    }
}

pub fn prefetch_hints(input: &PrefetchInput<'_>) -> Result<Vec<PrefetchHint>, FormatError> {
    match input.of {
        Target::Document(DocumentId {
            package: Some(package),
            ..
        }) => Ok(metadata(input, package)?.into_iter().collect()),
        Target::Asset(_) => Ok(required(&String::from_utf8_lossy(input.upstream.bytes))),
        _ => Ok(Vec::new()),
    }
}

/// The metadata file of the newest wheel that the range takes; a prerelease is not taken.
fn metadata(
    input: &PrefetchInput<'_>,
    package: &PackageId,
) -> Result<Option<PrefetchHint>, FormatError> {
    let range = input.range.unwrap_or_default();
    let Ok(range) = VersionSpecifiers::from_str(range) else {
        return Ok(None);
    };
    let version_of = |file: &PageFile| {
        if file.metadata.is_none() || file.yanked.is_some() {
            return None;
        }
        let text = name::version_of(package.name(), &file.name)?;
        let version = Version::from_str(text).ok()?;
        let fits = !version.any_prerelease() && range.contains(&version) && input.shows(text);
        fits.then_some(version)
    };
    let mut newest: Option<(Version, Url)> = None;
    page::read(&input.upstream, &mut |file| {
        // The first of a version's wheels stands for all: their metadata seldom differs.
        if let Some(version) = version_of(&file)
            && newest.as_ref().is_none_or(|(newest, _)| version > *newest)
        {
            newest = Some((version, file.url));
        }
        Ok(())
    })?;
    Ok(newest.map(|(_, url)| PrefetchHint {
        target: Target::Asset(AssetId {
            package: package.clone(),
            file: format!("{}{METADATA}", address::file(&url)).into(),
        }),
        range: None,
    }))
}

/// The pages of what `Requires-Dist` names.
fn required(metadata: &str) -> Vec<PrefetchHint> {
    let required = requirements(metadata).into_iter();
    required
        .map(|Need { package, range }| PrefetchHint {
            target: Target::Document(DocumentId {
                package: Some(package),
                view: View::Pypi(PypiView::Project(Form::Json)),
            }),
            range: Some(range).filter(|range| !range.is_empty()),
        })
        .collect()
}

/// The packages that `Requires-Dist` names, with their ranges, without those of extras.
pub fn requirements(metadata: &str) -> Vec<Need> {
    // The headers end with an empty line; the description may say anything.
    let headers = metadata.lines().take_while(|line| !line.is_empty());
    headers
        .filter_map(|line| requirement(line.strip_prefix("Requires-Dist:")?))
        .collect()
}

/// A requirement's package and range (PEP 508); none of an address, and of what only an extra or
/// another system asks for.
pub fn requirement(text: &str) -> Option<Need> {
    let text = text.trim();
    let (what, marker) = text.split_once(';').unwrap_or((text, ""));
    if marker.contains("extra") || marker.contains("win32") {
        return None;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = what.find(|c| !is_name(c)).unwrap_or(what.len());
    let (project, rest) = what.split_at_checked(end)?;
    let package = name::parse(project).ok()?;
    let rest = rest.trim_start();
    let rest = rest
        .strip_prefix('[')
        .and_then(|extras| Some(extras.split_once(']')?.1))
        .unwrap_or(rest);
    let range = rest.trim().trim_start_matches('(').trim_end_matches(')');
    (!range.starts_with('@')).then(|| Need {
        package,
        range: range.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::Upstream;

    fn of_page(range: Option<&str>) -> Vec<PrefetchHint> {
        let file = |name: &str, more: &str| {
            format!(
                r#"{{"filename":"{name}","url":"https://files.example/{name}","hashes":{{}}{more}}}"#
            )
        };
        let files = [
            file("a-1.0-py3-none-any.whl", r#","core-metadata":true"#),
            file("a-1.10-py3-none-any.whl", r#","core-metadata":true"#),
            file("a-1.9-py3-none-any.whl", r#","core-metadata":true"#),
            file("a-2.0rc1-py3-none-any.whl", r#","core-metadata":true"#),
            file(
                "a-3.0-py3-none-any.whl",
                r#","core-metadata":true,"yanked":"broken""#,
            ),
            file("a-1.11.tar.gz", ""),
        ];
        let text = format!(
            r#"{{"meta":{{"api-version":"1.0"}},"name":"a","files":[{}]}}"#,
            files.join(",")
        );
        let base = Url::parse("https://py.example/simple/a/").unwrap();
        let of = Target::Document(DocumentId {
            package: Some(name::parse("a").unwrap()),
            view: View::Pypi(PypiView::Project(Form::Json)),
        });
        prefetch_hints(&PrefetchInput {
            of: &of,
            upstream: Upstream {
                bytes: text.as_bytes(),
                media_type: super::super::JSON_TYPE,
                url: &base,
                base: &base,
                directory: None,
            },
            range,
            shows: None,
        })
        .unwrap()
    }

    #[test]
    fn a_page_leads_to_the_metadata_of_the_newest_wheel_that_fits() {
        for (range, file) in [
            (None, Some("files.example/a-1.10-py3-none-any.whl.metadata")),
            (
                Some("<1.10"),
                Some("files.example/a-1.9-py3-none-any.whl.metadata"),
            ),
            (Some(">=5"), None),
        ] {
            let hints = of_page(range);
            let found = hints.first().map(|hint| match &hint.target {
                Target::Asset(asset) => &*asset.file,
                other => panic!("{other:?}"),
            });
            assert_eq!(found, file, "{range:?}");
        }
    }

    #[test]
    fn metadata_leads_to_the_pages_of_what_it_requires() {
        let text = "Metadata-Version: 2.1\nName: a\nRequires-Dist: Foo_Bar[x,y] (>=1.0,<2)\n\
            Requires-Dist: plain\nRequires-Dist: quux >= 3 ; python_version > '3'\n\
            Requires-Dist: test-only; extra == 'test'\nRequires-Dist: there @ https://x.example/t.whl\n\n\
            Requires-Dist: not-a-header\n";
        let found: Vec<(String, Option<String>)> = required(text)
            .into_iter()
            .map(|hint| match hint.target {
                Target::Document(id) => (id.package.unwrap().full_name(), hint.range),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            found,
            [
                ("foo-bar".to_owned(), Some(">=1.0,<2".to_owned())),
                ("plain".to_owned(), None),
                ("quux".to_owned(), Some(">= 3".to_owned())),
            ]
        );
    }
}
