//! Python projects as an index has them, with their files on another host.

use std::io::Write as _;

use serde_json::json;

use super::{Reply, Upstream, sha256};

pub const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// A real wheel.
pub fn wheel(name: &str, version: &str, requires: &[&str]) -> Vec<u8> {
    let module = name.replace('-', "_");
    let info = format!("{module}-{version}.dist-info");
    let metadata = metadata(name, version, requires);
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (file, text) in [
        (format!("{module}.py"), format!("VERSION = '{version}'\n")),
        (format!("{info}/METADATA"), metadata),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
                .to_owned(),
        ),
        (
            format!("{info}/RECORD"),
            format!("{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"),
        ),
    ] {
        archive.start_file(file, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A real source distribution; `builds_with` is the TOML list of what builds it.
pub fn sdist(name: &str, version: &str, builds_with: &str) -> Vec<u8> {
    let folder = format!("{}-{version}", name.replace('-', "_"));
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (file, text) in [
        ("PKG-INFO", metadata(name, version, &[])),
        (
            "setup.py",
            "from setuptools import setup\nsetup()\n".to_owned(),
        ),
        (
            "pyproject.toml",
            format!("[build-system]\nrequires = {builds_with}\n"),
        ),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive
            .append_data(&mut header, format!("{folder}/{file}"), text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn metadata(name: &str, version: &str, requires: &[&str]) -> String {
    let requires: Vec<String> = requires
        .iter()
        .map(|one| format!("Requires-Dist: {one}\n"))
        .collect();
    let requires = requires.concat();
    format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}\n")
}

/// The type of an upload's form.
pub const FORM: &str = "multipart/form-data; boundary=B";

/// The form that an upload tool sends.
pub fn form(file: &str, bytes: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    body.extend(format!("--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\nContent-Type: application/octet-stream\r\n\r\n").bytes());
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--B--\r\n");
    body
}

/// Publishes versions of a project, `(version, requirements)`: the page at `index`, wheels and
/// their metadata at `files`. `json` says which form the index has.
pub fn publish(
    index: &Upstream,
    files: &Upstream,
    name: &str,
    versions: &[(&str, &[&str])],
    in_json: bool,
) {
    let module = name.replace('-', "_");
    let mut entries = Vec::new();
    let mut anchors = String::new();
    for (version, requires) in versions {
        let file = format!("{module}-{version}-py3-none-any.whl");
        let bytes = wheel(name, version, requires);
        let metadata = metadata(name, version, requires);
        let (hash, metadata_hash) = (sha256(&bytes), sha256(metadata.as_bytes()));
        let path = format!("/packages/{}/{file}", &hash[..4]);
        let url = format!("{}{path}", files.url());
        entries.push(json!({
            "filename": file, "url": url, "hashes": { "sha256": hash }, "requires-python": ">=3.8",
            "core-metadata": { "sha256": metadata_hash }, "upload-time": "2020-01-01T00:00:00.000000Z",
            "size": bytes.len(), "yanked": false,
        }));
        anchors.push_str(&format!(
            "<a href=\"{url}#sha256={hash}\" data-requires-python=\"&gt;=3.8\" data-core-metadata=\"sha256={metadata_hash}\">{file}</a>\n"
        ));
        files.put(&path, Reply::bytes(bytes));
        files.put(&format!("{path}.metadata"), Reply::bytes(metadata));
    }
    let names: Vec<&str> = versions.iter().map(|(version, _)| *version).collect();
    let page = json!({ "meta": { "api-version": "1.1" }, "name": name, "versions": names, "files": entries });
    let reply = if in_json {
        Reply {
            gzip: true,
            ..Reply::typed(JSON, page.to_string())
        }
    } else {
        Reply {
            gzip: true,
            ..Reply::typed(
                "text/html",
                format!("<!DOCTYPE html><html><body>\n{anchors}</body></html>"),
            )
        }
    };
    index.put(
        &format!("/simple/{name}/"),
        reply.header("cache-control", "max-age=600"),
    );
}
