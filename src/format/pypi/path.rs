//! Reads PyPI's paths.

use http::Method;

use super::{Form, HTML_TYPE, JSON_TYPE, PypiView, name};
use crate::package::{AssetId, PackageId};
use crate::problem::{Decider, Problem};
use crate::{Change, ClientRequest, DocumentId, Target, View, path, query_of};

pub fn parse(ask: &ClientRequest<'_>) -> Result<Target, Problem> {
    if ask.method == Method::POST {
        return match ask.rest {
            // twine, uv and the rest post to the address that they are given.
            "" | "legacy/" | "legacy" => Ok(Target::Change(Change::Form)),
            _ => Err(Problem::not_found(
                Decider::Larder,
                format!("`{}` takes no uploads", ask.rest),
            )
            .advice("upload to the repository's own address, which ends in its name and a slash")),
        };
    }
    let segments = path::segments(ask.rest)?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["simple"] if !ask.rest.ends_with('/') => Ok(Target::Redirect("simple/".to_owned())),
        ["simple"] => Ok(document(None, PypiView::Index(form(ask)))),
        ["simple", project] => {
            let package = name::parse(project)?;
            if package.name() == *project && ask.rest.ends_with('/') {
                Ok(document(Some(package), PypiView::Project(form(ask))))
            } else {
                Ok(Target::Redirect(format!("simple/{}/", package.name())))
            }
        }
        ["simple", project, file @ ..] => Ok(Target::Asset(AssetId {
            package: name::parse(project)?,
            file: file.join("/").into(),
        })),
        ["pypi", project, "json"] => legacy(project, None),
        ["pypi", project, version, "json"] => legacy(project, Some((*version).to_owned())),
        _ => Err(Problem::not_found(
            Decider::Larder,
            format!("`{}` is no path of a Python index", ask.rest),
        )
        .advice("the index is at simple/")),
    }
}

fn legacy(project: &str, version: Option<String>) -> Result<Target, Problem> {
    Ok(document(
        Some(name::parse(project)?),
        PypiView::Legacy { version },
    ))
}

fn document(package: Option<PackageId>, view: PypiView) -> Target {
    Target::Document(DocumentId {
        package,
        view: View::Pypi(view),
    })
}

/// The form that the client likes best (PEP 691: `Accept`, or `?format=`).
fn form(ask: &ClientRequest<'_>) -> Form {
    let named = query_of(ask.query).remove("format");
    let accept = named.as_deref().unwrap_or(ask.accept);
    let mut best = (Form::PlainHtml, 0.0f32);
    for entry in accept.split(',') {
        let mut parts = entry.split(';').map(str::trim);
        let form = match parts.next().unwrap_or_default() {
            JSON_TYPE | "application/vnd.pypi.simple.latest+json" => Form::Json,
            HTML_TYPE | "application/vnd.pypi.simple.latest+html" => Form::Html,
            "text/html" => Form::PlainHtml,
            _ => continue,
        };
        let quality = parts
            .find_map(|part| part.strip_prefix("q=")?.trim().parse().ok())
            .unwrap_or(1.0);
        if quality > best.1 {
            best = (form, quality);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(rest: &str, accept: &str) -> Result<Target, Problem> {
        parse(&ClientRequest {
            method: &Method::GET,
            rest,
            query: None,
            accept,
        })
    }

    #[test]
    fn names_that_are_not_normal_are_redirected() {
        assert_eq!(
            ask("simple/Foo_Bar/", "").unwrap(),
            Target::Redirect("simple/foo-bar/".into())
        );
        assert_eq!(
            ask("simple/foo", "").unwrap(),
            Target::Redirect("simple/foo/".into())
        );
        assert_eq!(
            ask("simple", "").unwrap(),
            Target::Redirect("simple/".into())
        );
    }

    #[test]
    fn the_form_follows_accept() {
        let pip = format!("{JSON_TYPE}, {HTML_TYPE}; q=0.1, text/html; q=0.01");
        for (accept, form) in [
            (pip.as_str(), Form::Json),
            ("text/html", Form::PlainHtml),
            ("*/*", Form::PlainHtml),
            ("", Form::PlainHtml),
            (HTML_TYPE, Form::Html),
        ] {
            let package = Some(name::parse("foo").unwrap());
            assert_eq!(
                ask("simple/foo/", accept).unwrap(),
                document(package, PypiView::Project(form)),
                "{accept}"
            );
        }
    }

    #[test]
    fn files_lie_below_their_project() {
        assert_eq!(
            ask("simple/foo/files.example/p/foo-1.0.whl.metadata", "").unwrap(),
            Target::Asset(AssetId {
                package: name::parse("foo").unwrap(),
                file: "files.example/p/foo-1.0.whl.metadata".into(),
            })
        );
        assert!(ask("simple/foo/../../x", "").is_err());
        assert!(ask("etc/passwd", "").is_err());
    }
}
