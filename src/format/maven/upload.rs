//! Files that are deployed: each at its own path, the pom saying what they are.

use serde::Deserialize;
use serde_json::json;

use crate::package::Dependency;
use crate::problem::Problem;
use crate::text;
use crate::upload::{Inspected, Upload, bounded_bytes};

/// The largest POM. The largest that are known list the versions of some ten thousand artifacts in 1.5 MB.
const POM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The parts of a POM that are read (Maven's POM reference).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pom {
    group_id: Option<String>,
    artifact_id: Option<String>,
    version: Option<String>,
    packaging: Option<String>,
    name: Option<String>,
    description: Option<String>,
    parent: Option<Parent>,
    dependencies: Option<Dependencies>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parent {
    group_id: Option<String>,
    version: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dependencies {
    dependency: Vec<PomDependency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PomDependency {
    group_id: String,
    artifact_id: String,
    version: String,
    scope: Option<String>,
}

pub fn inspect(upload: &mut Upload<'_>) -> Result<Inspected, Problem> {
    let asset = upload
        .asset
        .ok_or_else(|| Problem::invalid("a file is deployed to its own path"))?;
    let (version, file) = asset
        .file
        .split_once('/')
        .ok_or_else(|| Problem::invalid(format!("`{}` has no version", asset.file)))?;
    let found = Inspected::new(
        asset.package.clone(),
        version,
        asset.file.to_string(),
        media_type(file),
    );
    if !file.ends_with(".pom") {
        return Ok(found);
    }
    let bytes = bounded_bytes(&mut *upload.bytes, POM_BYTES_MAX, file)?;
    let text = text::xml(&bytes)
        .map_err(|error| Problem::invalid(format!("{file} cannot be read: {error}")))?;
    if text.contains("<!DOCTYPE") {
        return Err(Problem::invalid(format!(
            "{file} has a document type, which poms have not"
        )));
    }
    let pom: Pom = quick_xml::de::from_str(&text)
        .map_err(|error| Problem::invalid(format!("{file} is no pom")).caused_by(error))?;
    let parent = pom.parent.as_ref();
    let group = pom
        .group_id
        .as_deref()
        .or(parent.and_then(|parent| parent.group_id.as_deref()));
    let own_version = pom
        .version
        .as_deref()
        .or(parent.and_then(|parent| parent.version.as_deref()));
    for (what, said, path) in [
        (
            "groupId",
            group,
            asset.package.namespace().unwrap_or_default(),
        ),
        (
            "artifactId",
            pom.artifact_id.as_deref(),
            asset.package.name(),
        ),
        ("version", own_version, version),
    ] {
        let said = said.unwrap_or_default().trim();
        // Only Maven can resolve a property, so such a value is not compared.
        if said != path && !said.contains("${") {
            return Err(Problem::invalid(format!(
                "the {what} in {file} is `{said}`, and it is deployed to the path of `{path}`"
            )));
        }
    }
    let dependencies = pom
        .dependencies
        .unwrap_or_default()
        .dependency
        .into_iter()
        .map(|one| Dependency {
            kind: one.scope.unwrap_or_else(|| "compile".to_owned()),
            name: format!("{}:{}", one.group_id, one.artifact_id),
            requirement: one.version,
        })
        .collect();
    let packaging = pom.packaging.unwrap_or_else(|| "jar".to_owned());
    Ok(Inspected {
        manifest: json!({ "packaging": packaging, "name": pom.name }).to_string(),
        description: pom.description.or(pom.name).unwrap_or_default(),
        dependencies,
        ..found
    })
}

fn media_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "pom" | "xml" => "application/xml",
        "jar" | "war" | "ear" | "aar" => "application/java-archive",
        "module" => "application/json",
        "asc" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{AssetId, Format};
    use crate::problem::Kind;

    #[test]
    fn a_pom_is_no_larger_than_may_be() {
        let asset = AssetId {
            package: crate::package("maven:org.x:lib").unwrap(),
            file: "1.0/lib-1.0.pom".into(),
        };
        let inspect = |bytes: u64| {
            let mut pom = b"<project><groupId>org.x</groupId><artifactId>lib</artifactId>\
                <version>1.0</version></project>"
                .to_vec();
            pom.resize(usize::try_from(bytes).unwrap(), b' ');
            crate::upload::tests::inspect(Format::Maven, Some(&asset), b"", pom)
        };
        assert_eq!(inspect(POM_BYTES_MAX).unwrap().version, "1.0");
        let problem = inspect(POM_BYTES_MAX + 1).unwrap_err();
        assert_eq!(problem.kind, Kind::TooLarge);
        assert_eq!(problem.advice, None, "there is no key for it");
    }
}
