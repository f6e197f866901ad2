//! What Maven's paths ask for.

use http::Method;

use super::{View, name};
use crate::format::{Ask, Change, DocumentId, Target, View as AnyView, path};
use crate::package::{Algorithm, AssetId, Format, PackageId};
use crate::problem::{Decider, Problem};

pub fn parse(ask: &Ask<'_>) -> Result<Target, Problem> {
    let segments = path::segments(ask.rest)?;
    let Some((file, folder)) = segments.split_last() else {
        return Err(
            Problem::not_found(Decider::Larder, "a Maven repository has no index")
                .advice("ask for a file by its path"),
        );
    };
    if ask.rest.ends_with('/') {
        return Err(
            Problem::not_found(Decider::Larder, format!("`{}` is a folder", ask.rest))
                .advice("ask for a file by its path"),
        );
    }
    if ask.method == Method::PUT {
        return deployed(folder, file).map(Target::Change);
    }
    if let Some((of, algorithm)) = checksum(file) {
        return Ok(match target(folder, of) {
            Target::Asset(asset) => Target::Checksum(asset, algorithm),
            Target::Document(document) => Target::DocumentChecksum(document, algorithm),
            other => other,
        });
    }
    Ok(target(folder, file))
}

/// What a file that is put somewhere is.
fn deployed(folder: &[String], file: &str) -> Result<Change, Problem> {
    let checksum = checksum(file);
    let of = checksum.map_or(file, |(of, _)| of);
    match (target(folder, of), checksum) {
        (Target::Asset(asset), None) => Ok(Change::File(asset)),
        (Target::Asset(asset), Some((_, algorithm))) => Ok(Change::Checksum(asset, algorithm)),
        (
            Target::Document(
                id @ DocumentId {
                    view: AnyView::Maven(View::Metadata { .. } | View::SnapshotMetadata { .. }),
                    ..
                },
            ),
            checksum,
        ) => Ok(match checksum {
            None => Change::Finish(id),
            Some((_, algorithm)) => Change::FinishChecksum(id, algorithm),
        }),
        _ => Err(Problem::invalid(format!(
            "`{}/{file}` is no place for a file of a package",
            folder.join("/")
        ))
        .advice(
            "files lie at group/as/path/artifact/version/artifact-version[-classifier].ending",
        )),
    }
}

/// The file that a checksum file is of.
fn checksum(file: &str) -> Option<(&str, Algorithm)> {
    let (of, ending) = file.rsplit_once('.')?;
    let algorithm = Algorithm::ALL
        .into_iter()
        .find(|it| it.as_str() == ending)?;
    Some((of, algorithm))
}

fn target(folder: &[String], file: &str) -> Target {
    if file == "maven-metadata.xml" && !folder.is_empty() {
        return metadata(folder);
    }
    // group/as/path/artifact/version/artifact-version[-classifier].ending
    if let [group @ .., artifact, version] = folder
        && !group.is_empty()
        && is_file_of(file, artifact, version)
        && let Some(package) = package(group, artifact)
    {
        return Target::Asset(AssetId {
            package,
            file: format!("{version}/{file}").into(),
        });
    }
    let mut path = folder.join("/");
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(file);
    document(None, View::Other { path })
}

/// Whether the file is named after its artifact and version; a snapshot's file may carry a
/// timestamp in the place of `SNAPSHOT`.
fn is_file_of(file: &str, artifact: &str, version: &str) -> bool {
    let base = version.strip_suffix("SNAPSHOT").unwrap_or(version);
    file.strip_prefix(artifact)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|rest| rest.starts_with(base))
}

fn metadata(folder: &[String]) -> Target {
    let joined = folder.join("/");
    match folder {
        [group @ .., artifact, version] if version.ends_with("-SNAPSHOT") && !group.is_empty() => {
            document(
                package(group, artifact),
                View::SnapshotMetadata {
                    folder: joined,
                    version: version.clone(),
                },
            )
        }
        // Whether it is a group or an artifact shows in the document alone; read as an artifact's
        // path it has a package, and a group's metadata lists no versions to hide.
        [group @ .., artifact] if !group.is_empty() => {
            document(package(group, artifact), View::Metadata { folder: joined })
        }
        _ => document(None, View::Metadata { folder: joined }),
    }
}

fn document(package: Option<PackageId>, view: View) -> Target {
    Target::Document(DocumentId {
        package,
        view: AnyView::Maven(view),
    })
}

fn package(group: &[String], artifact: &str) -> Option<PackageId> {
    let group = group.join(".");
    (name::is_id(&group) && name::is_id(artifact))
        .then(|| PackageId::new(Format::Maven, Some(&group), artifact))
}

/// The package's folder, `group/as/path/artifact`.
pub fn folder(package: &PackageId) -> String {
    let group = package.namespace().unwrap_or_default().replace('.', "/");
    format!("{group}/{}", package.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(rest: &str) -> Target {
        parse(&Ask {
            method: &Method::GET,
            rest,
            query: None,
            accept: "",
        })
        .unwrap()
    }

    fn asset(package: &str, file: &str) -> AssetId {
        AssetId {
            package: name::parse(package).unwrap(),
            file: file.into(),
        }
    }

    #[test]
    fn files_metadata_and_checksums_are_told_apart() {
        for (rest, id) in [
            (
                "org/x/lib/1.0/lib-1.0.jar",
                asset("org.x:lib", "1.0/lib-1.0.jar"),
            ),
            (
                "org/x/lib/1.0/lib-1.0-sources.jar.asc",
                asset("org.x:lib", "1.0/lib-1.0-sources.jar.asc"),
            ),
            (
                "org/x/lib/1.0/lib-1.0.module",
                asset("org.x:lib", "1.0/lib-1.0.module"),
            ),
            (
                "x/lib/1.0-SNAPSHOT/lib-1.0-20260101.120000-3.jar",
                asset("x:lib", "1.0-SNAPSHOT/lib-1.0-20260101.120000-3.jar"),
            ),
        ] {
            assert_eq!(get(rest), Target::Asset(id), "{rest}");
        }
        assert_eq!(
            get("org/x/lib/1.0/lib-1.0.jar.sha256"),
            Target::Checksum(asset("org.x:lib", "1.0/lib-1.0.jar"), Algorithm::Sha256)
        );
        let metadata = |folder: &str, package: &str| {
            let Target::Document(document) = get(&format!("{folder}/maven-metadata.xml")) else {
                panic!("{folder}")
            };
            assert_eq!(document.package, Some(name::parse(package).unwrap()));
            document.view
        };
        let folder = "org/x/lib".to_owned();
        assert_eq!(
            metadata("org/x/lib", "org.x:lib"),
            AnyView::Maven(View::Metadata { folder })
        );
        assert_eq!(
            metadata("org/x/lib/1-SNAPSHOT", "org.x:lib"),
            AnyView::Maven(View::SnapshotMetadata {
                folder: "org/x/lib/1-SNAPSHOT".into(),
                version: "1-SNAPSHOT".into()
            })
        );
        assert!(matches!(
            get("org/x/maven-metadata.xml.sha1"),
            Target::DocumentChecksum(..)
        ));
        assert_eq!(
            get("archetype-catalog.xml"),
            document(
                None,
                View::Other {
                    path: "archetype-catalog.xml".into()
                }
            )
        );
    }

    #[test]
    fn what_is_deployed_is_a_file_its_checksum_or_metadata() {
        let put = |rest: &str| {
            parse(&Ask {
                method: &Method::PUT,
                rest,
                query: None,
                accept: "",
            })
        };
        assert_eq!(
            put("x/lib/1.0/lib-1.0.jar").unwrap(),
            Target::Change(Change::File(asset("x:lib", "1.0/lib-1.0.jar")))
        );
        assert_eq!(
            put("x/lib/1.0/lib-1.0.jar.sha1").unwrap(),
            Target::Change(Change::Checksum(
                asset("x:lib", "1.0/lib-1.0.jar"),
                Algorithm::Sha1
            ))
        );
        assert!(matches!(
            put("x/lib/maven-metadata.xml").unwrap(),
            Target::Change(Change::Finish(_))
        ));
        for rest in ["x/lib/1.0/other.jar", "archetype-catalog.xml", "x/../y/z"] {
            assert!(put(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn folders_and_climbing_are_refused() {
        for rest in ["", "org/x/", "org/../../etc/passwd", "org/%2e%2e/x"] {
            let ask = Ask {
                method: &Method::GET,
                rest,
                query: None,
                accept: "",
            };
            assert!(parse(&ask).is_err(), "{rest}");
        }
    }
}
