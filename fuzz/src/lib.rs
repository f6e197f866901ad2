//! Fuzz targets as plain functions: bytes in, and a panic where a law does not hold. `fuzz/run`
//! builds and runs them with libFuzzer, on the stable toolchain.

#[cfg(test)]
mod tests;
#[cfg(feature = "whole")]
pub mod whole;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{Cursor, Read as _, Write as _};

use http::Method;
use larder_format::conformance::{self, Recorded};
use larder_format::maven::pom::Pom;
use larder_format::package::{Algorithm, Digester, Format, VersionId};
use larder_format::rule::{GroupPattern, Pattern};
use larder_format::upload::Upload;
use larder_format::{ClientRequest, DocumentId, PrefetchInput, Protocol, Target, Upstream};
use url::Url;

const METHODS: [Method; 4] = [Method::GET, Method::PUT, Method::DELETE, Method::POST];

/// The two halves of the data at its first line's end.
fn two_lines(data: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(data).ok()?.split_once('\n')
}

/// Hides about half of all versions, each time the same ones.
fn hides(version: &VersionId) -> bool {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(version);
    hash % 2 == 0
}

/// A path leads to one thing however it is encoded, and to nothing that climbs.
pub fn path(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let Ok(rest) = std::str::from_utf8(rest) else {
        return;
    };
    let (rest, query) = rest
        .split_once('?')
        .map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let choice = usize::from(choice);
    let method = METHODS.get(choice % METHODS.len()).unwrap_or(&Method::GET);
    for format in Format::SERVED {
        let ask = ClientRequest {
            method,
            rest,
            query,
            accept: "",
        };
        conformance::paths(format.protocol(), &ask);
    }
}

/// Asks all laws of documents of the bytes as a registry's document.
fn document(format: Format, url: &str, served_at: &str, media_type: &str, data: &[u8]) {
    let protocol = format.protocol();
    let target = protocol.parse(&ClientRequest {
        method: &Method::GET,
        rest: served_at,
        query: None,
        accept: media_type,
    });
    let (Ok(Target::Document(id)), Ok(url)) = (target, Url::parse(url)) else {
        return;
    };
    let recorded = Recorded {
        document: &id,
        bytes: data,
        media_type,
        url: &url,
        served_at,
        is_well_formed: false,
    };
    conformance::rendering(protocol, &recorded, &hides);
    conformance::addresses(protocol, &recorded);
    conformance::merging(protocol, &recorded, &hides);
    hints(protocol, &Target::Document(id), &url, media_type, data);
}

/// What leads name, the format itself takes.
fn hints(protocol: &dyn Protocol, of: &Target, url: &Url, media_type: &str, data: &[u8]) {
    let upstream = Upstream {
        bytes: data,
        media_type,
        url,
        base: url,
        directory: None,
    };
    let Some(prefetch) = protocol.prefetch() else {
        return;
    };
    let found = prefetch.prefetch_hints(&PrefetchInput {
        of,
        upstream,
        range: None,
        shows: None,
    });
    for hint in found.unwrap_or_default() {
        if let Target::Document(DocumentId {
            package: Some(package),
            ..
        }) = hint.target
        {
            let again = protocol.package(&package.full_name());
            assert_eq!(again.ok(), Some(package), "a hint's name is none");
        }
    }
}

pub fn packument(data: &[u8]) {
    let url = "https://up.example/npm/a";
    document(Format::Npm, url, "a", "application/json", data);
}

pub fn simple_json(data: &[u8]) {
    let media_type = "application/vnd.pypi.simple.v1+json";
    let url = "https://up.example/simple/a/";
    document(Format::Pypi, url, "simple/a/", media_type, data);
}

pub fn simple_html(data: &[u8]) {
    let url = "https://up.example/simple/a/";
    document(Format::Pypi, url, "simple/a/", "text/html", data);
}

pub fn maven_metadata(data: &[u8]) {
    let path = "a/a/maven-metadata.xml";
    let url = "https://up.example/m/a/a/maven-metadata.xml";
    document(Format::Maven, url, path, "application/xml", data);
}

pub fn registration(data: &[u8]) {
    let url = "https://up.example/r/a/index.json";
    let path = "v3/registration/a/index.json";
    document(Format::Nuget, url, path, "application/json", data);
    let url = "https://up.example/f/a/index.json";
    let path = "v3/flat/a/index.json";
    document(Format::Nuget, url, path, "application/json", data);
}

/// What is filled into a pom is bounded by what stands in it.
pub fn pom(data: &[u8]) {
    let Ok(pom) = Pom::read(data) else {
        return;
    };
    if let Some(filled) = pom.filled("${project.version}") {
        assert!(
            filled.len() <= (64 << 10) + (data.len() << 4),
            "{}",
            filled.len()
        );
    }
    let target = Format::Maven.protocol().parse(&ClientRequest {
        method: &Method::GET,
        rest: "a/a/1/a-1.pom",
        query: None,
        accept: "",
    });
    if let (Ok(target), Ok(url)) = (target, Url::parse("https://up.example/m/a/a/1/a-1.pom")) {
        hints(Format::Maven.protocol(), &target, &url, "text/xml", data);
    }
}

/// What a package says it is, its own path says again.
pub fn nuspec(data: &[u8]) {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let written = archive
        .start_file("a.nuspec", options)
        .is_ok_and(|()| archive.write_all(data).is_ok());
    let (true, Ok(mut bytes)) = (written, archive.finish()) else {
        return;
    };
    bytes.set_position(0);
    let mut digester = Digester::new(&Algorithm::ALL);
    digester.update(bytes.get_ref());
    let inspected = Format::Nuget.protocol().inspect(&mut Upload {
        bytes: &mut bytes,
        digests: &digester.finish(),
        name: "a.nupkg",
        asset: None,
        fields: &BTreeMap::new(),
        words: &[],
    });
    let Ok(inspected) = inspected else {
        return;
    };
    let version = Format::Nuget.protocol().version(&inspected.version);
    assert_eq!(
        version.ok().as_ref().map(VersionId::as_str),
        Some(inspected.version.as_str())
    );
    let rest = format!("v3/flat/{}/{}", inspected.package.name(), inspected.file);
    let target = Format::Nuget.protocol().parse(&ClientRequest {
        method: &Method::GET,
        rest: &larder_format::path::encode_path(&rest),
        query: None,
        accept: "",
    });
    let Ok(Target::Asset(asset)) = target else {
        assert!(target.is_ok(), "{rest}: {target:?}");
        return;
    };
    assert_eq!(
        (asset.package, &*asset.file),
        (inspected.package, inspected.file.as_str())
    );
}

/// An archive that is taken has what another reader finds in it, and nothing that climbs.
pub fn archive(data: &[u8]) {
    let mut bytes = Cursor::new(data);
    if let Ok(contents) = larder_format::archive::zip(&mut bytes, "a.zip", is_metadata) {
        let Ok(mut other) = zip::ZipArchive::new(Cursor::new(data)) else {
            return;
        };
        assert!(contents.files.len() <= other.len());
        let climbs = |path: &String| path.split('/').any(|segment| segment == "..");
        assert!(!contents.files.iter().any(climbs));
        if let Some((path, text)) = contents.found {
            let name = other
                .file_names()
                .filter_map(Result::ok)
                .find(|name| is_metadata(name) && name.len() == path.len())
                .map(std::borrow::Cow::into_owned);
            if let Some(Ok(mut entry)) = name.map(|name| other.by_name(&name)) {
                let mut found = String::new();
                if entry.read_to_string(&mut found).is_ok() {
                    assert_eq!(found, text);
                }
            }
        }
    }
    // The archive in a gzip: what is fuzzed is not the packing.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    if let (Ok(()), Ok(packed)) = (packed.write_all(data), packed.finish()) {
        let mut packed = Cursor::new(packed);
        let read = larder_format::archive::gzipped_tar(&mut packed, "a.tgz", is_metadata);
        assert!(read.is_err() || data.len().is_multiple_of(512));
    }
}

fn is_metadata(path: &str) -> bool {
    path.ends_with("package.json") || path.ends_with("METADATA")
}

/// What stands in a source distribution is what was sent as it, or is refused.
pub fn package_info(data: &[u8]) {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::none(),
    ));
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    let written = archive.append_data(&mut header, "a-1/PKG-INFO", data);
    let bytes = archive.into_inner().and_then(|packed| packed.finish());
    let (Ok(()), Ok(bytes)) = (written, bytes) else {
        return;
    };
    let mut digester = Digester::new(&Algorithm::ALL);
    digester.update(&bytes);
    let inspected = Format::Pypi.protocol().inspect(&mut Upload {
        bytes: &mut Cursor::new(bytes),
        digests: &digester.finish(),
        name: "a-1.tar.gz",
        asset: None,
        fields: &BTreeMap::new(),
        words: &[],
    });
    if let Ok(inspected) = inspected {
        assert_eq!(
            (inspected.package.name(), inspected.version.as_str()),
            ("a", "1")
        );
        assert!(inspected.manifest.len() <= 1024 + 16 * data.len());
    }
}

/// Python's METADATA.
pub fn core_metadata(data: &[u8]) {
    let target = Format::Pypi.protocol().parse(&ClientRequest {
        method: &Method::GET,
        rest: "simple/a/up.example/a-1-py3-none-any.whl.metadata",
        query: None,
        accept: "",
    });
    if let (Ok(target), Ok(url)) = (target, Url::parse("https://up.example/a.metadata")) {
        hints(Format::Pypi.protocol(), &target, &url, "", data);
    }
}

/// A pattern that is read prints as it was written, and takes the same packages when it is read again.
pub fn pattern(data: &[u8]) {
    let Some((text, name)) = two_lines(data) else {
        return;
    };
    let package = larder_format::package(name);
    if let Ok(pattern) = Pattern::parse(text) {
        assert_eq!(pattern.to_string(), text);
        if let Ok(package) = &package {
            let _ = pattern.names(package);
            let _ = pattern.takes(package, "1.0");
        }
    }
    if let Ok(group) = text.parse::<GroupPattern>() {
        let again = group.to_string().parse::<GroupPattern>();
        assert_eq!(again.ok().as_ref(), Some(&group), "{text}");
    }
    if let Ok(package) = package {
        let again = larder_format::package(&package.to_string());
        assert_eq!(again.ok(), Some(package), "{name}");
    }
}

/// Versions have one order, and ranges are read without end.
pub fn version(data: &[u8]) {
    let Some((a, b)) = two_lines(data) else {
        return;
    };
    for format in Format::SERVED {
        let protocol = format.protocol();
        let order = protocol.compare(a, b);
        assert_eq!(order, protocol.compare(b, a).reverse(), "{format} {a} {b}");
        let normal = protocol.normal_version(a);
        assert_eq!(protocol.normal_version(&normal), normal, "{format} {a}");
        assert_eq!(order.is_eq(), protocol.normal_version(b) == normal);
        if protocol.check_range(b).is_err() {
            assert_ne!(protocol.version_in(a, b), Some(true), "{format} {a} in {b}");
        }
    }
}
