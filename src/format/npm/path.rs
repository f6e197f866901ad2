//! Reads npm's paths.

use http::Method;

use super::{NpmView, SHORT_TYPE, name, version};
use crate::package::{AssetId, Location, PackageId, UpstreamPath};
use crate::problem::{Decider, Kind, Problem};
use crate::{Change, ClientRequest, DocumentId, Target, View, path};

pub fn parse(ask: &ClientRequest<'_>) -> Result<Target, Problem> {
    let segments = path::segments(ask.rest)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if ask.method == Method::POST {
        return question(&parts);
    }
    if ask.method == Method::PUT || ask.method == Method::DELETE {
        return change(&parts, ask).map(Target::Change);
    }
    if let Some(at) = attestations_at(&parts) {
        return attestations(parts.get(at..).unwrap_or_default());
    }
    match parts.as_slice() {
        ["-", rest @ ..] => special(rest, ask),
        [] => Ok(answer("{}")),
        _ => package_path(&parts, ask),
    }
}

/// Where `-/npm/v1/attestations` begins: npm asks for the pathname of the address that the
/// packument names, behind its registry's own path or at the host's root, by version.
/// Reads the change that a `PUT` or a `DELETE` asks for.
fn change(parts: &[&str], ask: &ClientRequest<'_>) -> Result<Change, Problem> {
    let puts = ask.method == Method::PUT;
    match (parts, puts) {
        (["-", "package", name @ .., "dist-tags", tag], puts) => {
            if puts {
                name::tag(tag)?;
            }
            let (package, tag) = (name::parse(&name.join("/"))?, (*tag).to_owned());
            Ok(if puts {
                Change::Tag { package, tag }
            } else {
                Change::Untag { package, tag }
            })
        }
        (["-", "user", ..], true) => Err(Problem::denied(
            Decider::Larder,
            "Larder keeps no accounts, so there is nothing to log in to",
        )
        .advice("npm needs some token before it publishes: set `//HOST/:_authToken`")),
        (["-", ..], _) => Err(settled_elsewhere()),
        // Paths that end in `/-rev/{revision}`.
        ([of @ .., "-rev", revision], puts) => match package_path(of, ask)? {
            Target::Document(DocumentId {
                package: Some(package),
                ..
            }) => {
                let revision = (*revision).to_owned();
                Ok(if puts {
                    Change::Revision { package, revision }
                } else {
                    Change::RemovePackage { package, revision }
                })
            }
            Target::Asset(asset) if !puts => Ok(Change::RemoveAsset(asset)),
            _ => Err(unknown(ask.rest)),
        },
        (parts, true) => match package_path(parts, ask)? {
            Target::Document(DocumentId {
                package: Some(package),
                view: View::Npm(NpmView::Packument | NpmView::ShortPackument),
            }) => Ok(Change::Document(package)),
            _ => Err(unknown(ask.rest)),
        },
        (_, false) => Err(unknown(ask.rest)),
    }
}

/// Teams, owners and who may read: not for npm to say.
fn settled_elsewhere() -> Problem {
    Problem::denied(
        Decider::Larder,
        "who may read and publish is not set through npm",
    )
    .advice("it is the repository's configuration that says so")
}

fn attestations_at(parts: &[&str]) -> Option<usize> {
    parts
        .windows(4)
        .position(|window| window == ["-", "npm", "v1", "attestations"])
        .map(|at| at + 4)
}

fn attestations(parts: &[&str]) -> Result<Target, Problem> {
    let spec = parts.join("/");
    // Attestations are of a version: by a tag they would be of whichever it is.
    let (package, _version) = spec
        .rsplit_once('@')
        .filter(|(package, version)| !package.is_empty() && version::is_canonical(version))
        .ok_or_else(|| Problem::invalid(format!("`{spec}` is not name@version")))?;
    Ok(document(
        Some(name::parse(package)?),
        NpmView::Attestations(spec),
    ))
}

fn special(rest: &[&str], ask: &ClientRequest<'_>) -> Result<Target, Problem> {
    match rest {
        ["ping"] => Ok(answer("{}")),
        // Reading needs no name: whoever asks is anonymous.
        ["whoami"] => Ok(answer(r#"{"username":"anonymous"}"#)),
        ["v1", "search"] => Ok(document(
            None,
            NpmView::Search(ask.query.unwrap_or_default().to_owned()),
        )),
        ["npm", "v1", "keys"] => Ok(document(None, NpmView::Keys)),
        ["package", name @ .., "visibility"] => {
            name::parse(&name.join("/"))?;
            // Whoever reaches the repository may read it; it is not the public's registry.
            Ok(answer(r#"{"public":false}"#))
        }
        ["package", name @ .., "collaborators"] => {
            name::parse(&name.join("/"))?;
            Ok(answer("{}"))
        }
        ["org" | "user", _, "package"] | ["team", _, _, "package" | "user"] => Ok(answer("{}")),
        ["package", name @ .., "dist-tags"] => Ok(document(
            Some(name::parse(&name.join("/"))?),
            NpmView::DistTags,
        )),
        _ => Err(unknown(ask.rest)),
    }
}

/// `name`, `name/version`, `name/-/file.tgz`; before a tarball's name there may stand upstream's
/// own prefix, which npm keeps when it puts our host in the place of upstream's.
fn package_path(parts: &[&str], ask: &ClientRequest<'_>) -> Result<Target, Problem> {
    if let Some(dash) = parts.iter().rposition(|part| *part == "-") {
        let (before, file) = (
            parts.get(..dash).unwrap_or_default(),
            parts.get(dash + 1..).unwrap_or_default(),
        );
        let package = match before {
            [.., scope, name] if scope.starts_with('@') => name::parse(&format!("{scope}/{name}"))?,
            [.., name] => name::parse(name)?,
            [] => return Err(unknown(ask.rest)),
        };
        // Artifactory and its kin repeat the scope: `@a/b/-/@a/b-1.0.0.tgz`.
        let file = file.last().ok_or_else(|| unknown(ask.rest))?;
        return Ok(Target::Asset(AssetId {
            package,
            file: (*file).into(),
        }));
    }
    match parts {
        [scope, name] if scope.starts_with('@') => Ok(packument(
            name::parse(&format!("{scope}/{name}"))?,
            ask.accept,
        )),
        [scope, name, version] if scope.starts_with('@') => Ok(document(
            Some(name::parse(&format!("{scope}/{name}"))?),
            NpmView::Manifest((*version).to_owned()),
        )),
        [name] if !is_archive(name) => Ok(packument(name::parse(name)?, ask.accept)),
        [name, version] if !is_archive(version) => Ok(document(
            Some(name::parse(name)?),
            NpmView::Manifest((*version).to_owned()),
        )),
        [.., last] if is_archive(last) => Ok(Target::Alias(parts.join("/"))),
        _ => Err(unknown(ask.rest)),
    }
}

fn is_archive(segment: &str) -> bool {
    [".tgz", ".tar.gz", ".tar"]
        .iter()
        .any(|ending| segment.ends_with(ending))
}

fn packument(package: PackageId, accept: &str) -> Target {
    let view = if accept.contains(SHORT_TYPE) {
        NpmView::ShortPackument
    } else {
        NpmView::Packument
    };
    document(Some(package), view)
}

fn question(parts: &[&str]) -> Result<Target, Problem> {
    match parts {
        ["-", "npm", "v1", "security", "advisories", "bulk"]
        | ["-", "npm", "v1", "security", "audits"]
        | ["-", "npm", "v1", "security", "audits", "quick"] => Ok(Target::Question {
            location: Location::Path(UpstreamPath::new(&parts.join("/"))),
            content_type: "application/json",
        }),
        ["-", "package", .., "access"] => Err(settled_elsewhere()),
        _ => Err(Problem::new(
            Kind::MethodNotAllowed { allow: "GET, HEAD" },
            Decider::Larder,
            format!("npm's `{}` takes no POST", parts.join("/")),
        )),
    }
}

fn answer(body: &str) -> Target {
    Target::Answer {
        content_type: "application/json",
        body: body.to_owned(),
    }
}

fn document(package: Option<PackageId>, view: NpmView) -> Target {
    Target::Document(DocumentId {
        package,
        view: View::Npm(view),
    })
}

fn unknown(rest: &str) -> Problem {
    Problem::not_found(
        Decider::Larder,
        format!("`{rest}` is no path of the npm registry"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, rest: &str, accept: &str) -> Result<Target, Problem> {
        parse(&ClientRequest {
            method,
            rest,
            query: Some("text=x"),
            accept,
        })
    }

    fn get(rest: &str) -> Target {
        ask(&Method::GET, rest, "*/*").unwrap()
    }

    fn doc(package: Option<&str>, view: NpmView) -> Target {
        document(package.map(|name| name::parse(name).unwrap()), view)
    }

    fn tarball(package: &str, file: &str) -> Target {
        Target::Asset(AssetId {
            package: name::parse(package).unwrap(),
            file: file.into(),
        })
    }

    #[test]
    fn every_path_of_the_registry_is_known() {
        for (rest, target) in [
            ("left-pad", doc(Some("left-pad"), NpmView::Packument)),
            ("@a/b", doc(Some("@a/b"), NpmView::Packument)),
            ("@a%2fb", doc(Some("@a/b"), NpmView::Packument)),
            ("@a%2Fb", doc(Some("@a/b"), NpmView::Packument)),
            (
                "left-pad/latest",
                doc(Some("left-pad"), NpmView::Manifest("latest".into())),
            ),
            (
                "@a/b/1.0.0",
                doc(Some("@a/b"), NpmView::Manifest("1.0.0".into())),
            ),
            (
                "left-pad/-/left-pad-1.3.0.tgz",
                tarball("left-pad", "left-pad-1.3.0.tgz"),
            ),
            ("@a/b/-/b-1.0.0.tgz", tarball("@a/b", "b-1.0.0.tgz")),
            ("@a%2fb/-/b-1.0.0.tgz", tarball("@a/b", "b-1.0.0.tgz")),
            ("@a/b/-/@a/b-1.0.0.tgz", tarball("@a/b", "b-1.0.0.tgz")),
            (
                "api/npm/left-pad/-/left-pad-1.3.0.tgz",
                tarball("left-pad", "left-pad-1.3.0.tgz"),
            ),
            (
                "files/1f3/odd.tgz",
                Target::Alias("files/1f3/odd.tgz".into()),
            ),
            (
                "-/package/@a/b/dist-tags",
                doc(Some("@a/b"), NpmView::DistTags),
            ),
            (
                "-/package/@a%2fb/dist-tags",
                doc(Some("@a/b"), NpmView::DistTags),
            ),
            ("-/v1/search", doc(None, NpmView::Search("text=x".into()))),
            ("-/npm/v1/keys", doc(None, NpmView::Keys)),
            (
                "-/npm/v1/attestations/@a/b@1.0.0",
                doc(Some("@a/b"), NpmView::Attestations("@a/b@1.0.0".into())),
            ),
            (
                "up/-/npm/v1/attestations/a@1.0.0",
                doc(Some("a"), NpmView::Attestations("a@1.0.0".into())),
            ),
        ] {
            assert_eq!(get(rest), target, "{rest}");
        }
        assert_eq!(
            ask(
                &Method::GET,
                "a",
                "application/vnd.npm.install-v1+json; q=1.0, application/json"
            )
            .unwrap(),
            doc(Some("a"), NpmView::ShortPackument)
        );
    }

    #[test]
    fn every_change_that_npm_makes_is_known() {
        let package = || name::parse("@a/b").unwrap();
        let tag = || "next".to_owned();
        for (method, rest, change) in [
            (Method::PUT, "@a%2fb", Change::Document(package())),
            (
                Method::PUT,
                "@a%2fb/-rev/1-x",
                Change::Revision {
                    package: package(),
                    revision: "1-x".into(),
                },
            ),
            (
                Method::DELETE,
                "@a%2fb/-rev/1-x",
                Change::RemovePackage {
                    package: package(),
                    revision: "1-x".into(),
                },
            ),
            (
                Method::DELETE,
                "npm/team/@a/b/-/b-1.0.0.tgz/-rev/1-x",
                Change::RemoveAsset(AssetId {
                    package: package(),
                    file: "b-1.0.0.tgz".into(),
                }),
            ),
            (
                Method::PUT,
                "-/package/@a%2fb/dist-tags/next",
                Change::Tag {
                    package: package(),
                    tag: tag(),
                },
            ),
            (
                Method::DELETE,
                "-/package/@a%2fb/dist-tags/next",
                Change::Untag {
                    package: package(),
                    tag: tag(),
                },
            ),
        ] {
            assert_eq!(
                ask(&method, rest, "").unwrap(),
                Target::Change(change),
                "{rest}"
            );
        }
        for rest in ["-/user/org.couchdb.user:x", "-/team/a/b/package", "a/1.0.0"] {
            assert!(ask(&Method::PUT, rest, "").is_err(), "{rest}");
        }
    }

    #[test]
    fn what_is_no_path_of_the_registry_is_refused() {
        for rest in [
            "a/b/c",
            "../etc/passwd",
            "-/nothing",
            ".hidden",
            "a/..%2f..%2fb",
        ] {
            assert!(ask(&Method::GET, rest, "").is_err(), "{rest}");
        }
        assert!(ask(&Method::POST, "a", "").is_err());
    }
}
