//! Reads Maven's paths.

use http::Method;

use super::{MavenView, name};
use crate::package::{Algorithm, AssetId, Format, PackageId};
use crate::problem::{Decider, Problem};
use crate::{Change, ClientRequest, DocumentId, Target, View, path};

const METADATA: &str = "maven-metadata.xml";

pub fn parse(ask: &ClientRequest<'_>) -> Result<Target, Problem> {
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
        return Ok(match target(folder, of)? {
            Target::Asset(asset) => Target::Checksum(asset, algorithm),
            Target::Document(document) => Target::DocumentChecksum(document, algorithm),
            other => other,
        });
    }
    target(folder, file)
}

/// Reads what a deployed file is from its path.
fn deployed(folder: &[String], file: &str) -> Result<Change, Problem> {
    let checksum = checksum(file);
    let of = checksum.map_or(file, |(of, _)| of);
    match (target(folder, of)?, checksum) {
        (Target::Asset(asset), None) => Ok(Change::File(asset)),
        (Target::Asset(asset), Some((_, algorithm))) => Ok(Change::Checksum(asset, algorithm)),
        (
            Target::Document(
                id @ DocumentId {
                    view:
                        View::Maven(MavenView::Metadata { .. } | MavenView::VersionMetadata { .. }),
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

/// Reads what a path names. `group/as/path/artifact/version/file` is a file of that version,
/// whatever the file is called. Where the file is not named after artifact and version, the path
/// could as well lead into a folder that no layout has, below a version or beside it; so the
/// version has to look like one then (`1.0`, not `lib`), and nothing before it may.
///
/// # Errors
/// Where the path is no package's, and the format does not name it either.
fn target(folder: &[String], file: &str) -> Result<Target, Problem> {
    if file == METADATA && !folder.is_empty() {
        return metadata(folder);
    }
    if is_of_repository(folder, file) {
        let path = [folder, &[file.to_owned()]].concat().join("/");
        return Ok(document(None, MavenView::Other { path }));
    }
    if let [group @ .., artifact, version] = folder
        && let Some(package) = package(group, artifact)
        && (is_file_of(file, artifact, version)
            || is_version(version)
                && !is_version(artifact)
                && !group.iter().any(|it| is_version(it)))
    {
        return Ok(Target::Asset(AssetId {
            package,
            file: format!("{version}/{file}").into(),
        }));
    }
    Err(Problem::not_found(
        Decider::Larder,
        format!(
            "`{}/{file}` is no path of a Maven repository",
            folder.join("/")
        ),
    )
    .advice("files lie at group/as/path/artifact/version/artifact-version[-classifier].ending"))
}

/// Whether the path is a file about a whole repository, or such a file's signature: the catalog of
/// archetypes, what Nexus and Maven keep of a whole repository, the index of Maven's indexer.
fn is_of_repository(folder: &[String], file: &str) -> bool {
    let folder: Vec<&str> = folder.iter().map(String::as_str).collect();
    let file = file.strip_suffix(".asc").unwrap_or(file);
    match folder.as_slice() {
        [] => file == "archetype-catalog.xml",
        [".meta"] => matches!(file, "prefixes.txt" | "repository-metadata.xml"),
        [".index"] => file.starts_with("nexus-maven-repository-index"),
        _ => false,
    }
}

/// Whether the file is named after its artifact and version; a snapshot's file may carry a
/// timestamp in the place of `SNAPSHOT`.
fn is_file_of(file: &str, artifact: &str, version: &str) -> bool {
    let base = version.strip_suffix("SNAPSHOT").unwrap_or(version);
    file.strip_prefix(artifact)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|rest| rest.starts_with(base))
}

/// Whether the version is one that goes on changing.
pub fn is_snapshot(version: &str) -> bool {
    version == "SNAPSHOT" || version.ends_with("-SNAPSHOT")
}

/// Whether a snapshot's file carries the time of its build: `lib-1.0-20260101.120000-3.jar`.
pub fn has_timestamp(file: &str) -> bool {
    let is_digits = |text: &str, count| text.len() == count && is_all_digits(text);
    let parts: Vec<&str> = file.split('-').collect();
    parts.windows(2).any(|pair| {
        let [time, build] = pair else { return false };
        let build = build.split('.').next().unwrap_or_default();
        time.split_once('.')
            .is_some_and(|(day, time)| is_digits(day, 8) && is_digits(time, 6))
            && is_all_digits(build)
    })
}

fn is_all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether it can hardly be anything but a version: its first word is a number, as in `1.0-rc1`, or
/// one with a letter before it in several, as in `v1.0`.
fn is_version(text: &str) -> bool {
    let words = text.strip_prefix(['v', 'V', 'r', 'R']);
    let words = words.filter(|words| words.contains('.')).unwrap_or(text);
    let first = words.split(['.', '-', '_', '+']).next().unwrap_or_default();
    is_snapshot(text) || is_all_digits(first)
}

fn metadata(folder: &[String]) -> Result<Target, Problem> {
    let joined = folder.join("/");
    match folder {
        [group @ .., artifact, version] if is_version(version) && !group.is_empty() => {
            let version = version.clone();
            let folder = joined;
            owned(
                group,
                artifact,
                MavenView::VersionMetadata { folder, version },
            )
        }
        // Whether it is a group or an artifact shows in the document alone; read as an artifact's
        // path it has a package, and a group's metadata lists no versions to hide.
        [group @ .., artifact] if !group.is_empty() => {
            owned(group, artifact, MavenView::Metadata { folder: joined })
        }
        _ => Ok(document(None, MavenView::Metadata { folder: joined })),
    }
}

/// A package's document.
///
/// # Errors
/// Where the folder is none that a package can have.
fn owned(group: &[String], artifact: &str, view: MavenView) -> Result<Target, Problem> {
    match package(group, artifact) {
        Some(package) => Ok(document(Some(package), view)),
        None => Err(Problem::not_found(
            Decider::Larder,
            format!(
                "`{}/{artifact}` is the folder of no package",
                group.join("/")
            ),
        )
        .advice("folders are named after groups and artifacts: letters, digits, `-`, `_` and `.`")),
    }
}

fn document(package: Option<PackageId>, view: MavenView) -> Target {
    Target::Document(DocumentId {
        package,
        view: View::Maven(view),
    })
}

fn package(group: &[String], artifact: &str) -> Option<PackageId> {
    // A dot within a folder's name would be another spelling of another folder.
    if group.iter().any(|it| it.contains('.')) {
        return None;
    }
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
        parse(&ClientRequest {
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
            View::Maven(MavenView::Metadata { folder })
        );
        assert_eq!(
            metadata("org/x/lib/1-SNAPSHOT", "org.x:lib"),
            View::Maven(MavenView::VersionMetadata {
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
                MavenView::Other {
                    path: "archetype-catalog.xml".into()
                }
            )
        );
    }

    #[test]
    fn what_is_deployed_is_a_file_its_checksum_or_metadata() {
        let put = |rest: &str| {
            parse(&ClientRequest {
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
        assert_eq!(
            put("x/lib/1.0/ivy-1.0.xml").unwrap(),
            Target::Change(Change::File(asset("x:lib", "1.0/ivy-1.0.xml")))
        );
        for rest in ["x/lib/other.jar", "archetype-catalog.xml", "x/../y/z"] {
            assert!(put(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn every_path_below_a_version_is_that_versions() {
        let evil = |file: &str| asset("org.evil:lib", file);
        for file in [
            "install.sh",
            "other.jar",
            "LIB-1.0.jar",
            "lib-2.0.jar",
            "lib-1.0.jar.asc",
            "lib-1.0.jar.SHA1",
            "maven-metadata-local.xml",
            "_remote.repositories",
            "lib;x",
        ] {
            let of = format!("1.0/{file}");
            assert_eq!(get(&format!("org/evil/lib/{of}")), Target::Asset(evil(&of)));
        }
        assert_eq!(
            get("org/evil/lib/1.0/install.sh.sha1"),
            Target::Checksum(evil("1.0/install.sh"), Algorithm::Sha1)
        );
        for version in ["1.0", "1.0-SNAPSHOT", "SNAPSHOT", "20041127.091804", "v2.0"] {
            let folder = format!("org/evil/lib/{version}");
            let Target::Document(id) = get(&format!("{folder}/maven-metadata.xml")) else {
                panic!("{folder}")
            };
            assert_eq!(id.package, Some(name::parse("org.evil:lib").unwrap()));
            let version = version.to_owned();
            assert_eq!(
                id.view,
                View::Maven(MavenView::VersionMetadata { folder, version })
            );
        }
    }

    #[test]
    fn what_is_no_packages_and_is_not_named_by_the_format_is_refused() {
        for rest in [
            "org/evil/lib/x.sh",
            "org/evil/log4j2/x.sh",
            "org/evil/lib/maven-metadata-local.xml",
            "org/evil/lib/1.0/sub/lib-1.0.jar",
            "org/evil/lib/1.0/sub/x.sh",
            "org/evil/lib/1.0/2.0/x.jar",
            "org/evil/lib/1.0/lib/2.0/lib-2.0.jar",
            "org.evil/lib/1.0/lib-1.0.jar",
            "org/evil;x/lib/1.0/lib-1.0.jar",
            "org/evil/lib;x/1.0/lib-1.0.jar",
            "org/evil/lib;x/maven-metadata.xml",
            "org/evil",
            "favicon.ico",
            "index.html",
            ".meta/other",
            ".index/other",
        ] {
            let ask = ClientRequest {
                method: &Method::GET,
                rest,
                query: None,
                accept: "",
            };
            assert!(parse(&ask).is_err(), "{rest}");
        }
        for rest in [
            "archetype-catalog.xml",
            "archetype-catalog.xml.asc",
            ".meta/prefixes.txt",
            ".index/nexus-maven-repository-index.gz",
            ".index/nexus-maven-repository-index.properties",
        ] {
            let path = rest.to_owned();
            assert_eq!(
                get(rest),
                document(None, MavenView::Other { path }),
                "{rest}"
            );
        }
    }

    #[test]
    fn a_snapshots_files_change_unless_they_carry_their_time() {
        for (file, has) in [
            ("lib-1.0-20260101.120000-3.jar", true),
            ("lib-1.0-20260101.120000-3-sources.jar.asc", true),
            ("lib-1.0-SNAPSHOT.jar", false),
            ("install.sh", false),
            ("lib-20260101-3.jar", false),
        ] {
            assert_eq!(has_timestamp(file), has, "{file}");
        }
    }

    #[test]
    fn folders_and_climbing_are_refused() {
        for rest in ["", "org/x/", "org/../../etc/passwd", "org/%2e%2e/x"] {
            let ask = ClientRequest {
                method: &Method::GET,
                rest,
                query: None,
                accept: "",
            };
            assert!(parse(&ask).is_err(), "{rest}");
        }
    }
}
