//! What the registry answers where it behaves: documents, files and checksums in four formats.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::stock::{FIRST, Format, Package, Stock, Version, file_name, metadata, pom};
use crate::support::pypi::JSON;
use crate::support::{sha1, sha256};

/// What a resource is, which decides how it may be spoiled so that a proxy can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ends in a way that tells a whole one from one cut short.
    Document,
    /// A page of links, which is whole wherever it ends.
    Page,
    Checksum,
    /// A file whose digest is said elsewhere.
    Promised,
    /// A file of which nobody says a digest.
    Unpromised,
}

pub struct Found {
    pub body: Bytes,
    pub content_type: &'static str,
    pub role: Role,
    /// The registry may say that it does not exist.
    pub is_denied: bool,
}

/// The registry's contents, at an address.
pub struct Registry {
    pub stock: Arc<Stock>,
    pub url: String,
}

const PUBLISHED: &str = "2020-01-01T00:00:00.000Z";
const BINARY: &str = "application/octet-stream";
const JSON_TYPE: &str = "application/json";

impl Registry {
    pub fn find(&self, path: &str, accept: &str) -> Option<Found> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["npm", rest @ ..] => self.npm(rest),
            ["simple", name, ""] => self.simple(name, accept),
            ["packages", name, file] => self.wheel(name, file),
            ["maven2", "org", "chaos", name, rest @ ..] => self.maven(name, rest),
            ["v3", "index.json"] => Some(self.service_index()),
            [folder, rest @ ..] => self.nuget(folder, rest),
            [] => None,
        }
    }

    fn package(&self, format: Format, name: &str) -> Option<&Package> {
        let mut packages = self.stock.of(format).iter();
        packages.find(|package| package.name.eq_ignore_ascii_case(name))
    }

    fn npm(&self, parts: &[&str]) -> Option<Found> {
        // A scope is a part of the name.
        let scope = parts.first().filter(|it| it.starts_with('@'));
        let (name, rest) = match scope {
            Some(scope) => (format!("{scope}/{}", parts.get(1)?), &parts[2..]),
            None => ((*parts.first()?).to_owned(), &parts[1..]),
        };
        let package = self.package(Format::Npm, &name)?;
        match rest {
            [] => {
                let versions: Map<String, Value> = package
                    .has()
                    .iter()
                    .map(|version| (version.version.clone(), self.manifest(package, version)))
                    .collect();
                let time: Map<String, Value> = package
                    .has()
                    .iter()
                    .map(|version| (version.version.clone(), PUBLISHED.into()))
                    .collect();
                let latest = &package.has().last()?.version;
                let document = json!({ "name": package.name, "dist-tags": { "latest": latest }, "versions": versions, "time": time });
                Some(document_of(package, &document))
            }
            ["-", file] => file_of(package, file),
            [version] if package.is_odd => {
                let version = package.has().iter().find(|it| it.version == *version)?;
                Some(document_of(package, &self.manifest(package, version)))
            }
            _ => None,
        }
    }

    fn manifest(&self, package: &Package, version: &Version) -> Value {
        let (name, number) = (&package.name, &version.version);
        let file = file_name(Format::Npm, name, number);
        json!({
            "name": name, "version": number,
            "dist": { "tarball": format!("{}/npm/{name}/-/{file}", self.url), "integrity": version.integrity },
        })
    }

    fn simple(&self, name: &str, accept: &str) -> Option<Found> {
        let package = self.package(Format::Pypi, name)?;
        let address = |file: &str| format!("{}/packages/{name}/{file}", self.url);
        if package.is_odd || !accept.contains("json") {
            let mut page = "<!DOCTYPE html><html><body>\n".to_owned();
            for version in package.has() {
                let file = file_name(Format::Pypi, name, &version.version);
                let (url, hash) = (address(&file), &version.sha256);
                page.push_str(&format!(
                    "<a href=\"{url}#sha256={hash}\">{file}</a><br/>\n"
                ));
            }
            page.push_str("</body></html>\n");
            return Some(Found {
                body: page.into(),
                content_type: "text/html",
                role: Role::Page,
                is_denied: package.is_denied,
            });
        }
        let mut files = Vec::new();
        let mut names = Vec::new();
        for version in package.has() {
            let file = file_name(Format::Pypi, name, &version.version);
            names.push(version.version.clone());
            files.push(json!({ "filename": file, "url": address(&file), "hashes": { "sha256": version.sha256 }, "size": version.bytes.len(), "upload-time": PUBLISHED }));
        }
        let page = json!({ "meta": { "api-version": "1.1" }, "name": name, "versions": names, "files": files });
        Some(Found {
            content_type: JSON,
            ..document_of(package, &page)
        })
    }

    fn wheel(&self, name: &str, file: &str) -> Option<Found> {
        file_of(self.package(Format::Pypi, name)?, file)
    }

    fn maven(&self, name: &str, parts: &[&str]) -> Option<Found> {
        let package = self.package(Format::Maven, name)?;
        let text = |body: String, role| Found {
            body: body.into(),
            content_type: "text/plain",
            role,
            is_denied: package.is_denied,
        };
        let last = parts.last()?;
        if let Some((of, algorithm)) = last.rsplit_once('.')
            && ["sha1", "sha256"].contains(&algorithm)
        {
            let of = [&parts[..parts.len() - 1], &[of]].concat();
            let found = self.maven(name, &of)?;
            let digest = if algorithm == "sha1" { sha1 } else { sha256 };
            return Some(text(digest(&found.body), Role::Checksum));
        }
        match parts {
            ["maven-metadata.xml"] => {
                let body = metadata(name, package.has());
                let mut found = text(body, Role::Document);
                found.content_type = "text/xml";
                Some(found)
            }
            [version, file] if *file == format!("{name}-{version}.pom") => {
                package.has().iter().find(|it| it.version == *version)?;
                Some(text(pom(name, version), Role::Promised))
            }
            [_, file] => file_of(package, file),
            _ => None,
        }
    }

    fn service_index(&self) -> Found {
        let service =
            |kind: &str, path: &str| json!({ "@id": format!("{}{path}", self.url), "@type": kind });
        let index = json!({ "version": "3.0.0", "resources": [
            service("PackageBaseAddress/3.0.0", "/flat/"),
            service("RegistrationsBaseUrl", "/reg/"),
            service("RegistrationsBaseUrl/3.6.0", "/reg/"),
            service("SearchQueryService", "/query"),
        ]});
        Found {
            body: index.to_string().into(),
            content_type: JSON_TYPE,
            role: Role::Document,
            is_denied: false,
        }
    }

    fn nuget(&self, folder: &str, parts: &[&str]) -> Option<Found> {
        let package = self.package(Format::Nuget, parts.first()?)?;
        match (folder, &parts[1..]) {
            ("flat", ["index.json"]) => {
                let versions: Vec<&str> =
                    package.has().iter().map(|it| it.version.as_str()).collect();
                Some(document_of(package, &json!({ "versions": versions })))
            }
            ("flat", [version, file]) if file.ends_with(".nuspec") => {
                let version = package.has().iter().find(|it| it.version == *version)?;
                let reader = std::io::Cursor::new(&version.bytes[..]);
                let mut archive = zip::ZipArchive::new(reader).unwrap();
                let mut file = archive
                    .by_name(&format!("{}.nuspec", package.name))
                    .unwrap();
                let mut body = Vec::new();
                std::io::copy(&mut file, &mut body).unwrap();
                Some(Found {
                    body: body.into(),
                    content_type: "application/xml",
                    role: Role::Unpromised,
                    is_denied: package.is_denied,
                })
            }
            ("flat", [_, file]) => file_of(package, file),
            ("catalog", [version]) => {
                let version = version.strip_suffix(".json")?;
                let version = package.has().iter().find(|it| it.version == version)?;
                let hash = sha2::Sha512::digest(&version.bytes);
                let hash = base64::engine::general_purpose::STANDARD.encode(hash);
                let leaf = json!({ "id": package.name, "version": version.version, "packageHash": hash, "packageHashAlgorithm": "SHA512" });
                Some(document_of(package, &leaf))
            }
            ("reg", ["index.json"]) => {
                let mut pages = self.registration_pages(package);
                if package.is_odd {
                    for page in &mut pages {
                        page.as_object_mut().unwrap().remove("items");
                    }
                }
                let id = format!(
                    "{}/reg/{}/index.json",
                    self.url,
                    package.name.to_lowercase()
                );
                let index = json!({ "@id": id, "count": pages.len(), "items": pages });
                Some(document_of(package, &index))
            }
            ("pages", [number]) if package.is_odd => {
                let number: usize = number.strip_suffix(".json")?.parse().ok()?;
                let page = self.registration_pages(package).into_iter().nth(number)?;
                Some(document_of(package, &page))
            }
            _ => None,
        }
    }

    /// Versions from the begin on one page, later ones on another.
    fn registration_pages(&self, package: &Package) -> Vec<Value> {
        let (url, id) = (&self.url, package.name.to_lowercase());
        let leaf = |version: &Version| {
            let number = &version.version;
            let content = format!("{url}/flat/{id}/{number}/{id}.{number}.nupkg");
            json!({
                "@id": format!("{url}/reg/{id}/{number}.json"),
                "catalogEntry": {
                    "@id": format!("{url}/catalog/{id}/{number}.json"), "id": package.name,
                    "version": number, "listed": true, "published": PUBLISHED, "packageContent": content,
                },
                "packageContent": content,
                "registration": format!("{url}/reg/{id}/index.json"),
            })
        };
        let (first, later) = package.has().split_at(FIRST);
        let pages = [first, later].into_iter().filter(|page| !page.is_empty());
        pages
            .enumerate()
            .map(|(number, versions)| {
                let items: Vec<Value> = versions.iter().map(leaf).collect();
                json!({
                    "@id": format!("{url}/pages/{id}/{number}.json"), "count": items.len(), "items": items,
                    "lower": versions[0].version, "upper": versions.last().unwrap().version,
                })
            })
            .collect()
    }
}

fn document_of(package: &Package, value: &Value) -> Found {
    Found {
        body: value.to_string().into(),
        content_type: JSON_TYPE,
        role: Role::Document,
        is_denied: package.is_denied,
    }
}

fn file_of(package: &Package, file: &str) -> Option<Found> {
    let mut versions = package.has().iter();
    let version =
        versions.find(|it| file_name(package.format, &package.name, &it.version) == file)?;
    Some(Found {
        body: version.bytes.clone(),
        content_type: BINARY,
        role: Role::Promised,
        is_denied: package.is_denied,
    })
}
