//! Finds the packages that a file needs and that no lockfile names: those that its metadata
//! requires, where it was not locked, and those that a source distribution is built with (PEP 517,
//! 518).

use serde::Deserialize;

use super::hints::{requirement, requirements};
use crate::Need;
use crate::plain;
use crate::problem::Problem;
use crate::upload::{Readable, bounded_bytes, tar_entry, zip_entry};

/// The longest file that is read out of an archive.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The bound on a wheel's metadata and twice its directory: there are wheels with tens of thousands of files.
const WORDS_BYTES_MAX: u64 = 32 * 1024 * 1024;

#[derive(Default, Deserialize)]
struct Project {
    #[serde(rename = "build-system", default)]
    build_system: BuildSystem,
}

#[derive(Default, Deserialize)]
struct BuildSystem {
    requires: Option<Vec<String>>,
}

pub fn needs(file: &str, content: &mut dyn Readable) -> Result<Vec<Need>, Problem> {
    if file.ends_with(".metadata") {
        let text = bounded_bytes(content, WORDS_BYTES_MAX, file)?;
        return Ok(requirements(&String::from_utf8_lossy(&text)));
    }
    // Not every index has the metadata beside it.
    if file.ends_with(".whl") {
        let metadata = zip_entry(content, file, WORDS_BYTES_MAX, |path| {
            path.split('/').count() == 2 && path.ends_with(".dist-info/METADATA")
        })?;
        return Ok(metadata.map_or_else(Vec::new, |(_, text)| requirements(&text)));
    }
    if !file.ends_with(".tar.gz") {
        return Ok(Vec::new());
    }
    let project = tar_entry(content, file, TEXT_BYTES_MAX, |path| {
        path.split('/').count() == 2 && path.ends_with("/pyproject.toml")
    })?;
    let project: Project = match project {
        Some(text) => toml::from_str(&text).map_err(|error| {
            let why = plain::toml(&error, &text);
            Problem::invalid(format!("pyproject.toml in {file} cannot be read: {why}"))
        })?,
        None => Project::default(),
    };
    // Where nothing is said, and behind what setuptools says while it runs.
    let mut requires = project
        .build_system
        .requires
        .unwrap_or_else(|| vec!["setuptools".to_owned()]);
    if requires.iter().any(|it| it.starts_with("setuptools")) {
        requires.push("wheel".to_owned());
    }
    let mut needs: Vec<Need> = requires.iter().filter_map(|it| requirement(it)).collect();
    needs.sort();
    needs.dedup();
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use super::*;
    use crate::problem::Kind;

    fn sdist(files: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut archive = tar::Builder::new(encoder);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_cksum();
            archive
                .append_data(&mut header, name, text.as_bytes())
                .unwrap();
        }
        let mut encoder = archive.into_inner().unwrap();
        encoder.flush().unwrap();
        Cursor::new(encoder.finish().unwrap())
    }

    fn told(file: &str, mut content: Cursor<Vec<u8>>) -> Vec<String> {
        let needs = needs(file, &mut content).unwrap();
        let told = |need: &Need| format!("{} {}", need.package, need.range);
        needs
            .iter()
            .map(|need| told(need).trim_end().to_owned())
            .collect()
    }

    #[test]
    fn a_source_distribution_says_what_builds_it() {
        let old = sdist(&[("a-1/setup.py", "")]);
        assert_eq!(told("a-1.tar.gz", old), ["pypi:setuptools", "pypi:wheel"]);
        let new = sdist(&[
            ("a-1/vendor/pyproject.toml", "no"),
            (
                "a-1/pyproject.toml",
                "[build-system]\nrequires = [\"Hatch_ling>=1\", \"flit_core (>=3)\"]\n",
            ),
        ]);
        assert_eq!(
            told("a-1.tar.gz", new),
            ["pypi:flit-core >=3", "pypi:hatch-ling >=1"]
        );
        let metadata =
            "Requires-Dist: Acme_Lib>=1\nRequires-Dist: x ; extra == 'y'\n\nRequires-Dist: no\n";
        let metadata = Cursor::new(metadata.as_bytes().to_vec());
        assert_eq!(told("a-1.whl.metadata", metadata), ["pypi:acme-lib >=1"]);
        assert!(told("a-1.zip", Cursor::new(Vec::new())).is_empty());
    }

    #[test]
    fn no_file_is_read_further_than_its_bound() {
        let filled = |text: &str, bytes: u64, with: u8| {
            let mut bytes = vec![with; usize::try_from(bytes).unwrap()];
            bytes[..text.len()].copy_from_slice(text.as_bytes());
            bytes
        };
        let source = |bytes| {
            let project = filled("[build-system]\nrequires = [\"hatchling\"]\n#", bytes, b'x');
            let project = String::from_utf8(project).unwrap();
            needs(
                "a-1.tar.gz",
                &mut sdist(&[("a-1/pyproject.toml", &project)]),
            )
        };
        assert_eq!(source(TEXT_BYTES_MAX).unwrap().len(), 1);
        assert_eq!(source(TEXT_BYTES_MAX + 1).unwrap_err().kind, Kind::TooLarge);
        let metadata = |bytes| {
            let text = filled("Requires-Dist: b\n\n", bytes, b'x');
            needs("a-1.whl.metadata", &mut Cursor::new(text))
        };
        assert_eq!(metadata(WORDS_BYTES_MAX).unwrap().len(), 1);
        assert_eq!(
            metadata(WORDS_BYTES_MAX + 1).unwrap_err().kind,
            Kind::TooLarge
        );
    }
}
