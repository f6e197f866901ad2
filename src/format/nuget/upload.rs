//! Packages that are pushed: a zip archive with a nuspec in it.
//! Sources: the NuGet Server API (PackagePublish, SymbolPackagePublish) and the nuspec reference.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{name, version};
use crate::package::Dependency;
use crate::problem::Problem;
use crate::upload::{Extracted, Inspected, Upload};

/// The most groups of dependencies: one for each framework. The largest that are known have some 40.
const GROUPS_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
struct Nuspec {
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(rename = "@minClientVersion")]
    min_client_version: Option<String>,
    id: String,
    version: String,
    title: Option<String>,
    authors: Option<String>,
    description: Option<String>,
    summary: Option<String>,
    tags: Option<String>,
    language: Option<String>,
    license: Option<Text>,
    license_url: Option<String>,
    project_url: Option<String>,
    icon_url: Option<String>,
    require_license_acceptance: Option<String>,
    dependencies: Option<Dependencies>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Text {
    #[serde(rename = "$text")]
    text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dependencies {
    group: Vec<Group>,
    dependency: Vec<One>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    #[serde(rename = "@targetFramework")]
    target_framework: Option<String>,
    dependency: Vec<One>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct One {
    #[serde(rename = "@id")]
    id: String,
    #[serde(rename = "@version")]
    version: Option<String>,
}

pub fn inspect(upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
    let (file, text) = upload
        .zip(|path| !path.contains('/') && path.to_lowercase().ends_with(".nuspec"))?
        .found
        .ok_or_else(|| Problem::invalid("the package has no nuspec"))?;
    if text.contains("<!DOCTYPE") {
        return Err(Problem::invalid(format!(
            "{file} has a document type, which nuspecs have not"
        )));
    }
    let Nuspec { metadata } = quick_xml::de::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Problem::invalid(format!("{file} is no nuspec")).caused_by(error))?;
    let package = name::parse(metadata.id.trim())?;
    let version = version::normalised(metadata.version.trim());
    if !version::is_version(&version) {
        return Err(Problem::invalid(format!(
            "`{}` in {file} is no version as NuGet reads it",
            metadata.version
        )));
    }
    let id = package.name().to_owned();
    let stem = format!("{version}/{id}.{version}");
    let is_symbols = is_symbols(&text) || upload.name.ends_with(".snupkg");
    if is_symbols {
        return Ok(Inspected {
            is_addition: true,
            ..Inspected::new(
                package,
                &version,
                format!("{stem}.snupkg"),
                "application/octet-stream",
            )
        });
    }
    if groups(&metadata).len() > GROUPS_MAX {
        return Err(Problem::invalid(format!(
            "{file} has more than {GROUPS_MAX} groups of dependencies"
        )));
    }
    let dependencies = dependencies(&metadata);
    Ok(Inspected {
        manifest: Value::Object(manifest(&metadata, &version)).to_string(),
        description: metadata.description.clone().unwrap_or_default(),
        keywords: metadata.tags.clone().unwrap_or_default(),
        dependencies,
        is_whole: true,
        extracted: vec![Extracted {
            file: format!("{version}/{id}.nuspec"),
            media_type: "application/xml",
            bytes: text.into_bytes(),
        }],
        ..Inspected::new(
            package,
            &version,
            format!("{stem}.nupkg"),
            "application/octet-stream",
        )
    })
}

/// A symbol package says so in its nuspec.
fn is_symbols(nuspec: &str) -> bool {
    nuspec.contains("\"SymbolsPackage\"")
}

fn groups(metadata: &Metadata) -> Vec<(Option<&str>, &[One])> {
    let Some(dependencies) = &metadata.dependencies else {
        return Vec::new();
    };
    let mut groups: Vec<(Option<&str>, &[One])> = dependencies
        .group
        .iter()
        .map(|group| (group.target_framework.as_deref(), &*group.dependency))
        .collect();
    if !dependencies.dependency.is_empty() {
        groups.push((None, &dependencies.dependency));
    }
    groups
}

fn dependencies(metadata: &Metadata) -> Vec<Dependency> {
    groups(metadata)
        .into_iter()
        .flat_map(|(framework, ones)| {
            ones.iter().map(move |one| Dependency {
                kind: framework.unwrap_or_default().to_owned(),
                name: one.id.clone(),
                requirement: one.version.clone().unwrap_or_default(),
            })
        })
        .collect()
}

/// The metadata of a registration's entry (NuGet's package metadata resource).
fn manifest(metadata: &Metadata, version: &str) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            entry.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| {
        value
            .as_ref()
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
            .map(Value::from)
    };
    set("id", Some(metadata.id.trim().into()));
    set("version", Some(version.into()));
    set("title", text(&metadata.title));
    set("authors", text(&metadata.authors));
    set("description", text(&metadata.description));
    set("summary", text(&metadata.summary));
    set("language", text(&metadata.language));
    set(
        "licenseExpression",
        metadata
            .license
            .as_ref()
            .map(|license| license.text.trim().into()),
    );
    set("licenseUrl", text(&metadata.license_url));
    set("projectUrl", text(&metadata.project_url));
    set("iconUrl", text(&metadata.icon_url));
    set("minClientVersion", text(&metadata.min_client_version));
    set(
        "requireLicenseAcceptance",
        Some((metadata.require_license_acceptance.as_deref() == Some("true")).into()),
    );
    let tags: Vec<&str> = metadata
        .tags
        .as_deref()
        .unwrap_or_default()
        .split([' ', ','])
        .filter(|tag| !tag.is_empty())
        .collect();
    set("tags", Some(tags.into()));
    let groups: Vec<Value> = groups(metadata)
        .into_iter()
        .map(|(framework, ones)| {
            let ones: Vec<Value> = ones
                .iter()
                .map(|one| json!({ "id": one.id, "range": range(one.version.as_deref()) }))
                .collect();
            let mut group = json!({ "dependencies": ones });
            if let (Some(framework), Some(group)) = (framework, group.as_object_mut()) {
                group.insert("targetFramework".to_owned(), framework.into());
            }
            group
        })
        .collect();
    set(
        "dependencyGroups",
        (!groups.is_empty()).then(|| groups.into()),
    );
    entry
}

/// A bare version is the least that will do.
fn range(requirement: Option<&str>) -> String {
    match requirement.map(str::trim) {
        None | Some("") => "(, )".to_owned(),
        Some(text) if text.starts_with(['[', '(']) => text.to_owned(),
        Some(text) => format!("[{text}, )"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;
    use crate::package::Format;
    use crate::problem::Kind;

    #[test]
    fn a_nuspec_has_no_more_groups_of_dependencies_than_may_be() {
        let inspect = |groups: usize| {
            let nuspec = format!(
                "<package><metadata><id>a</id><version>1.0.0</version><dependencies>{}\
                </dependencies></metadata></package>",
                r#"<group targetFramework="net8.0"/>"#.repeat(groups)
            );
            let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let options = zip::write::SimpleFileOptions::default();
            archive.start_file("a.nuspec", options).unwrap();
            archive.write_all(nuspec.as_bytes()).unwrap();
            let archive = archive.finish().unwrap().into_inner();
            crate::upload::tests::inspect(Format::Nuget, None, b"", archive)
        };
        assert_eq!(inspect(GROUPS_MAX).unwrap().version, "1.0.0");
        let problem = inspect(GROUPS_MAX + 1).unwrap_err();
        assert_eq!(problem.kind, Kind::Invalid);
        assert!(problem.message.contains("groups"), "{problem}");
    }
}
