//! Reads NuGet's paths, as our own service index names them.

use http::Method;

use super::{Nuget, NugetView, Registrations, name};
use crate::package::{AssetId, PackageId, Status};
use crate::problem::{Decider, Problem};
use crate::{Change, ClientRequest, DocumentId, Protocol as _, Target, View, path, query_of};

pub fn parse(ask: &ClientRequest<'_>) -> Result<Target, Problem> {
    let segments = path::segments(ask.rest)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if ask.method == Method::POST || ask.method == Method::PUT || ask.method == Method::DELETE {
        return change(&parts, ask).map(Target::Change);
    }
    let query = || ask.query.unwrap_or_default().to_owned();
    match parts.as_slice() {
        ["v3", "index.json"] => Ok(document(None, NugetView::ServiceIndex)),
        ["v3", "flat", id, "index.json"] => {
            Ok(document(Some(name::parse(id)?), NugetView::FlatIndex))
        }
        ["v3", "flat", id, version, file] => Ok(Target::Asset(AssetId {
            package: name::parse(id)?,
            file: format!("{}/{}", Nuget.version(version)?, file.to_lowercase()).into(),
        })),
        ["v3", "query"] => Ok(document(None, NugetView::Search { query: query() })),
        // With an id it lists that package's versions, else names that begin so.
        ["v3", "autocomplete"] => {
            let id = query_of(ask.query).remove("id").filter(|id| !id.is_empty());
            let package = id.map(|id| name::parse(&id)).transpose()?;
            Ok(document(
                package,
                NugetView::Autocomplete { query: query() },
            ))
        }
        ["v3", "vulnerabilities", "index.json"] => Ok(document(None, NugetView::Vulnerabilities)),
        ["v3", "repository-signatures", "index.json"] => Ok(document(None, NugetView::Signatures)),
        ["v3", "elsewhere", _] => Ok(Target::Alias(parts.join("/"))),
        ["v3", folder, id, rest @ ..] if !rest.is_empty() => {
            let form = Registrations::ALL
                .into_iter()
                .find(|form| form.folder() == *folder)
                .ok_or_else(|| unknown(ask.rest))?;
            let package = name::parse(id)?;
            let path = format!("{}/{}", package.name(), rest.join("/"));
            Ok(document(
                Some(package),
                NugetView::Registration { form, path },
            ))
        }
        _ => Err(unknown(ask.rest)),
    }
}

/// A push, and taking a version out of the lists and back.
fn change(parts: &[&str], ask: &ClientRequest<'_>) -> Result<Change, Problem> {
    match parts {
        ["api", "v2", "package" | "symbolpackage"] if ask.method == Method::PUT => Ok(Change::Form),
        ["api", "v2", "package", id, version] if ask.method != Method::PUT => Ok(Change::Status {
            package: name::parse(id)?,
            version: Nuget.version(version)?,
            status: if ask.method == Method::DELETE {
                Status::Unlisted
            } else {
                Status::Published
            },
        }),
        _ => Err(unknown(ask.rest)),
    }
}

pub fn document(package: Option<PackageId>, view: NugetView) -> Target {
    Target::Document(DocumentId {
        package,
        view: View::Nuget(view),
    })
}

fn unknown(rest: &str) -> Problem {
    Problem::not_found(
        Decider::Larder,
        format!("`{rest}` is no path of a NuGet source"),
    )
    .advice("the source's address ends in v3/index.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_that_the_service_index_names_is_known() {
        let get = |rest: &str| {
            parse(&ClientRequest {
                method: &Method::GET,
                rest,
                query: Some("q=x"),
                accept: "",
            })
        };
        let package = || Some(name::parse("newtonsoft.json").unwrap());
        for (rest, target) in [
            ("v3/index.json", document(None, NugetView::ServiceIndex)),
            (
                "v3/flat/Newtonsoft.Json/index.json",
                document(package(), NugetView::FlatIndex),
            ),
            (
                "v3/flat/newtonsoft.json/13.0/Newtonsoft.Json.13.0.0.nupkg",
                Target::Asset(AssetId {
                    package: package().unwrap(),
                    file: "13.0.0/newtonsoft.json.13.0.0.nupkg".into(),
                }),
            ),
            (
                "v3/registration-gz/newtonsoft.json/page/1/2.json",
                document(
                    package(),
                    NugetView::Registration {
                        form: Registrations::Gzipped,
                        path: "newtonsoft.json/page/1/2.json".into(),
                    },
                ),
            ),
            (
                "v3/query",
                document(
                    None,
                    NugetView::Search {
                        query: "q=x".into(),
                    },
                ),
            ),
            ("v3/elsewhere/0a", Target::Alias("v3/elsewhere/0a".into())),
        ] {
            assert_eq!(get(rest).unwrap(), target, "{rest}");
        }
        for rest in [
            "",
            "v3",
            "v3/flat",
            "v3/unknown/a/b",
            "v3/flat/../../etc",
            "v3/flat/a/%20/a.nupkg",
            "v3/flat/a/%20./a.nupkg",
            "v3/flat/a/..%20%20/a.nupkg",
        ] {
            assert!(get(rest).is_err(), "{rest}");
        }
    }
}
