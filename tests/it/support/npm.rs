//! npm packages as a registry has them.

use std::io::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Reply, Upstream, integrity, sha1};

/// One version to be published upstream.
pub struct Version<'a> {
    pub version: &'a str,
    pub dependencies: &'a [(&'a str, &'a str)],
    pub published: &'a str,
}

pub fn version<'a>(version: &'a str, dependencies: &'a [(&'a str, &'a str)]) -> Version<'a> {
    Version {
        version,
        dependencies,
        published: "2020-01-01T00:00:00.000Z",
    }
}

/// A real package archive.
pub fn tarball(name: &str, version: &str, dependencies: &[(&str, &str)]) -> Vec<u8> {
    let dependencies: Map<String, Value> = dependencies
        .iter()
        .map(|(name, range)| ((*name).to_owned(), json!(range)))
        .collect();
    let manifest = json!({ "name": name, "version": version, "dependencies": dependencies, "main": "index.js" });
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (file, text) in [
        ("package/package.json", manifest.to_string()),
        (
            "package/index.js",
            format!("module.exports = '{name}@{version}'\n"),
        ),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(499_162_500);
        header.set_cksum();
        archive
            .append_data(&mut header, file, text.as_bytes())
            .unwrap();
    }
    let mut encoder = archive.into_inner().unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

/// Publishes a package below `/npm/`, its tarballs where the registry usually has them.
pub fn publish(upstream: &Upstream, name: &str, versions: &[Version<'_>]) {
    let base = format!("{}/npm/", upstream.url());
    publish_at(
        upstream,
        name,
        versions,
        |file| {
            (
                format!("{base}{name}/-/{file}"),
                format!("/npm/{name}/-/{file}"),
            )
        },
        upstream,
    );
}

/// The same with tarballs elsewhere: `place` gives a file's address and its path at `files`.
pub fn publish_at(
    upstream: &Upstream,
    name: &str,
    versions: &[Version<'_>],
    place: impl Fn(&str) -> (String, String),
    files: &Upstream,
) {
    let bare = name.rsplit('/').next().unwrap();
    let mut documents = Map::new();
    let mut time = Map::new();
    time.insert("created".to_owned(), json!("2020-01-01T00:00:00.000Z"));
    time.insert("modified".to_owned(), json!("2020-01-01T00:00:00.000Z"));
    for one in versions {
        let bytes = tarball(name, one.version, one.dependencies);
        let (url, path) = place(&format!("{bare}-{}.tgz", one.version));
        let dependencies: Map<String, Value> = one
            .dependencies
            .iter()
            .map(|(name, range)| ((*name).to_owned(), json!(range)))
            .collect();
        let manifest = json!({
            "name": name, "version": one.version, "dependencies": dependencies,
            "dist": { "tarball": url, "shasum": sha1(&bytes), "integrity": integrity(&bytes) },
        });
        documents.insert(one.version.to_owned(), manifest);
        time.insert(one.version.to_owned(), json!(one.published));
        files.put(&path, Reply::bytes(bytes));
    }
    let latest = versions.last().unwrap().version;
    let packument = json!({ "name": name, "dist-tags": { "latest": latest }, "versions": documents, "time": time });
    let reply = Reply::json(packument.to_string()).header("cache-control", "public, max-age=300");
    upstream.put(&format!("/npm/{name}"), reply.clone());
    upstream.put(&format!("/npm/{}", name.replace('/', "%2f")), reply);
}

/// Has the registry give each version's manifest by itself, as the public one does.
pub fn publish_manifests(upstream: &Upstream, name: &str, versions: &[Version<'_>]) {
    publish(upstream, name, versions);
    for one in versions {
        let bytes = tarball(name, one.version, one.dependencies);
        let manifest = json!({ "name": name, "version": one.version, "dist": { "integrity": integrity(&bytes) } });
        let path = format!("/npm/{}/{}", name.replace('/', "%2f"), one.version);
        upstream.put(&path, Reply::json(manifest.to_string()));
    }
}

/// What `npm publish` sends.
pub fn npm_document(name: &str, version: &str, tarball: &[u8]) -> Bytes {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(tarball);
    let file = format!("{name}-{version}.tgz");
    json!({
        "_id": name,
        "name": name,
        "dist-tags": { "latest": version },
        "versions": { version: {
            "name": name,
            "version": version,
            "dist": { "integrity": integrity(tarball), "shasum": sha1(tarball), "tarball": "http://localhost/x.tgz" },
        } },
        "_attachments": { file: { "content_type": "application/octet-stream", "data": data, "length": tarball.len() } },
    })
    .to_string()
    .into()
}
