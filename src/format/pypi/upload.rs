//! Distributions that are uploaded: wheels and source distributions, with their core metadata.
//! Sources: the core metadata specification, the binary and source distribution formats, the
//! legacy upload API, PEP 658.

use std::str::FromStr as _;

use pep440_rs::Version;
use serde_json::json;

use super::headers::Headers;
use super::name;
use crate::package::{Algorithm, Dependency};
use crate::problem::Problem;
use crate::upload::{Extracted, Inspected, Upload};

/// Where own files lie below their project.
const FOLDER: &str = "-";

pub fn inspect(upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
    let file = upload.name.to_owned();
    let is_wheel = file.ends_with(".whl");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+!~".contains(c);
    if !file.chars().all(is_plain) || !(is_wheel || file.ends_with(".tar.gz")) {
        return Err(Problem::invalid(format!(
            "`{file}` is no name of a wheel (.whl) or a source distribution (.tar.gz)"
        )));
    }
    promises(upload)?;
    let text = if is_wheel {
        wheel_metadata(upload)?
    } else {
        upload
            .gzipped_tar(|path| path.split('/').count() == 2 && path.ends_with("/PKG-INFO"))?
            .found
            .map(|(_, text)| text)
            .ok_or_else(|| Problem::invalid(format!("{file} has no PKG-INFO in its folder")))?
    };
    let headers = Headers::read(&text, &file)?;
    let first = |field: &str| one_line(headers.first(field).unwrap_or_default());
    let package = name::parse(headers.once("Name", &file)?)?;
    let version = headers.once("Version", &file)?;
    let metadata_version = metadata_version(headers.once("Metadata-Version", &file)?);
    let version = Version::from_str(version).map_err(|error| {
        Problem::invalid(format!("the version in the metadata of {file}: {error}"))
    })?;
    let differs = |what: &str, said: &str| {
        Problem::invalid(format!(
            "{what} is of `{said}`, and the metadata in {file} is of {} {version}",
            package.name()
        ))
    };
    let in_name =
        name::version_of(package.name(), &file).ok_or_else(|| differs("the file's name", &file))?;
    if Version::from_str(in_name).ok().as_ref() != Some(&version) {
        return Err(differs("the file's name", in_name));
    }
    let form_name = upload.field("name");
    if !form_name.is_empty() && name::normalised(form_name) != package.name() {
        return Err(differs("the form", form_name));
    }
    let form_version = upload.field("version");
    if !form_version.is_empty() && Version::from_str(form_version).ok().as_ref() != Some(&version) {
        return Err(differs("the form", form_version));
    }
    // A source distribution's metadata may change when it is built, unless it says that it does not
    // (PEP 643).
    let is_fixed = is_wheel || (metadata_version >= (2, 2) && headers.first("Dynamic").is_none());
    let path = format!("{FOLDER}/{file}");
    let requires_python = first("Requires-Python");
    let mut facts = serde_json::Map::new();
    if !requires_python.is_empty() {
        facts.insert("requires_python".to_owned(), requires_python.into());
    }
    let mut extracted = Vec::new();
    if is_fixed {
        let hash = crate::package::BlobId::of(text.as_bytes()).to_hex();
        facts.insert("metadata_sha256".to_owned(), hash.into());
        extracted.push(Extracted {
            file: format!("{path}.metadata"),
            media_type: "text/plain; charset=utf-8",
            bytes: text.clone().into_bytes(),
        });
    }
    let readme = Some(headers.body.trim())
        .filter(|body| !body.is_empty())
        .or_else(|| headers.first("Description"))
        .map(str::to_owned);
    Ok(Inspected {
        manifest: manifest(&headers, package.name(), &version.to_string()),
        facts: serde_json::Value::Object(facts).to_string(),
        readme,
        description: first("Summary"),
        keywords: first("Keywords"),
        dependencies: dependencies(&headers),
        extracted,
        ..Inspected::new(
            package,
            &version.to_string(),
            path,
            if is_wheel {
                "application/zip"
            } else {
                "application/gzip"
            },
        )
    })
}

fn wheel_metadata(upload: &mut Upload<'_>) -> Result<String, Problem> {
    let mut parts = upload.name.split('-');
    let stem = format!(
        "{}-{}.dist-info/METADATA",
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default()
    );
    let normalised = |path: &str| path.to_lowercase().replace(['-', '.'], "_");
    let wanted = normalised(&stem);
    let contents = upload.zip(|path| normalised(path) == wanted)?;
    let mut folders = contents.files.iter().filter_map(|path| {
        let (folder, _) = path.split_once('/')?;
        folder
            .to_lowercase()
            .ends_with(".dist-info")
            .then_some(folder)
    });
    let folder = folders.next();
    // Installers take one of them, or none.
    if let Some(other) = folders.find(|other| Some(*other) != folder) {
        return Err(Problem::invalid(format!(
            "{} has two folders of metadata, {} and {other}",
            upload.name,
            folder.unwrap_or_default()
        )));
    }
    contents
        .found
        .map(|(_, text)| text)
        .ok_or_else(|| Problem::invalid(format!("{} has no {stem}", upload.name)))
}

/// A value that was folded, in one line.
fn one_line(value: &str) -> String {
    value.replace('\n', " ")
}

fn promises(upload: &Upload<'_>) -> Result<(), Problem> {
    for (field, algorithm) in [
        ("sha256_digest", Algorithm::Sha256),
        ("md5_digest", Algorithm::Md5),
    ] {
        let said = upload.field(field);
        if !said.is_empty() {
            upload.meets(algorithm, said)?;
        }
    }
    Ok(())
}

fn metadata_version(text: &str) -> (u32, u32) {
    text.split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .unwrap_or_default()
}

fn manifest(headers: &Headers<'_>, name: &str, version: &str) -> String {
    let one = |field: &str| headers.first(field).map(one_line);
    let all = |field: &str| headers.all(field).map(one_line).collect::<Vec<_>>();
    json!({
        "name": one("Name").unwrap_or_else(|| name.to_owned()),
        "version": version,
        "summary": one("Summary"),
        "author": one("Author"),
        "author_email": one("Author-email"),
        "license": one("License-Expression").or_else(|| one("License")),
        "keywords": one("Keywords"),
        "home_page": one("Home-page"),
        "project_urls": all("Project-URL"),
        "classifiers": all("Classifier"),
        "requires_dist": all("Requires-Dist"),
        "requires_python": one("Requires-Python"),
    })
    .to_string()
}

fn dependencies(headers: &Headers<'_>) -> Vec<Dependency> {
    headers
        .all("Requires-Dist")
        .map(one_line)
        .map(|text| {
            let end = text
                .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
                .unwrap_or(text.len());
            let (name, requirement) = text.split_at_checked(end).unwrap_or((&text, ""));
            Dependency {
                kind: "requires-dist".to_owned(),
                name: name.to_owned(),
                requirement: requirement.trim().to_owned(),
            }
        })
        .collect()
}
