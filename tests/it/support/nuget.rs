//! NuGet packages as a V3 source has them: service index, flat container, registrations with
//! pages of their own, catalog.

use std::io::Write as _;

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::{Reply, Upstream};

/// A real package.
pub fn nupkg(id: &str, version: &str, dependencies: &[(&str, &str)]) -> Vec<u8> {
    let dependencies: Vec<String> = dependencies
        .iter()
        .map(|(id, range)| format!("<dependency id=\"{id}\" version=\"{range}\" />"))
        .collect();
    let dependencies = dependencies.concat();
    let nuspec = format!(
        "<?xml version=\"1.0\"?><package xmlns=\"http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd\"><metadata>\
         <id>{id}</id><version>{version}</version><authors>t</authors><description>d</description>\
         <dependencies>{dependencies}</dependencies></metadata></package>"
    );
    let types = "<?xml version=\"1.0\"?><Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"nuspec\" ContentType=\"application/octet\" /><Default Extension=\"txt\" ContentType=\"application/octet\" /></Types>";
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (file, text) in [
        (format!("{id}.nuspec"), nuspec.as_str()),
        ("[Content_Types].xml".to_owned(), types),
        ("content/readme.txt".to_owned(), "hello\n"),
    ] {
        archive.start_file(file, options).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The service index; call once before packages are published.
pub fn serve(upstream: &Upstream) {
    let url = upstream.url();
    let service = |kind: &str, path: &str| json!({ "@id": format!("{url}{path}"), "@type": kind });
    let index = json!({ "version": "3.0.0", "resources": [
        service("PackageBaseAddress/3.0.0", "/flat/"),
        service("RegistrationsBaseUrl", "/reg/"),
        service("RegistrationsBaseUrl/3.0.0-beta", "/reg/"),
        service("RegistrationsBaseUrl/3.4.0", "/reg-gz/"),
        service("RegistrationsBaseUrl/3.6.0", "/reg-gz/"),
        json!({ "@id": format!("{url}/reg-gz/"), "@type": "RegistrationsBaseUrl/Versioned", "clientVersion": "4.3.0-alpha" }),
        service("SearchQueryService", "/query"),
        service("SearchAutocompleteService", "/autocomplete"),
        service("Catalog/3.0.0", "/catalog/index.json"),
        service("VulnerabilityInfo/6.7.0", "/vulnerabilities/index.json"),
        service("PackageDetailsUriTemplate/5.1.0", "/packages/{id}/{version}?_src=template"),
        service("Unknown/1.0.0", "/unknown"),
    ]});
    upstream.put("/v3/index.json", Reply::json(index.to_string()));
    let page = json!([{ "@name": "base", "@id": format!("{url}/elsewhere/base.json"), "@updated": "2026-01-01T00:00:00Z" }]);
    upstream.put("/vulnerabilities/index.json", Reply::json(page.to_string()));
    upstream.put("/elsewhere/base.json", Reply::json("{}"));
}

/// Publishes versions of a package; with `paged`, leaves stand in a page of its own.
pub fn publish(upstream: &Upstream, id: &str, versions: &[&str], paged: bool) {
    let url = upstream.url();
    let lower = id.to_lowercase();
    let mut leaves = Vec::new();
    for version in versions {
        let bytes = nupkg(id, version, &[]);
        let catalog = format!("/catalog/data/{lower}.{version}.json");
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha512::digest(&bytes));
        let leaf = json!({ "id": id, "version": version, "packageHash": hash, "packageHashAlgorithm": "SHA512" });
        upstream.put(&catalog, Reply::json(leaf.to_string()));
        leaves.push(json!({
            "@id": format!("{url}/reg-gz/{lower}/{version}.json"),
            "catalogEntry": {
                "@id": format!("{url}{catalog}"), "id": id, "version": version, "listed": true,
                "published": "2020-01-01T00:00:00+00:00",
                "packageContent": format!("{url}/flat/{lower}/{version}/{lower}.{version}.nupkg"),
            },
            "packageContent": format!("{url}/flat/{lower}/{version}/{lower}.{version}.nupkg"),
            "registration": format!("{url}/reg-gz/{lower}/index.json"),
        }));
        upstream.put(
            &format!("/flat/{lower}/{version}/{lower}.{version}.nupkg"),
            Reply::bytes(bytes),
        );
    }
    registrations(upstream, &lower, &leaves, versions, paged);
    upstream.put(
        &format!("/flat/{lower}/index.json"),
        Reply::json(json!({ "versions": versions }).to_string()),
    );
    let listed: Vec<Value> = versions
        .iter()
        .map(|version| json!({ "version": version, "@id": format!("{url}/reg/{lower}/{version}.json") }))
        .collect();
    let result = json!({ "totalHits": 1, "data": [{ "@id": format!("{url}/reg/{lower}/index.json"), "id": id,
        "version": versions.last().unwrap(), "registration": format!("{url}/reg/{lower}/index.json"), "versions": listed }]});
    upstream.put("/query", Reply::json(result.to_string()));
}

fn registrations(
    upstream: &Upstream,
    lower: &str,
    leaves: &[Value],
    versions: &[&str],
    paged: bool,
) {
    let url = upstream.url();
    // A page's address is not always below the registrations.
    let page_path = format!("/pages-of-registrations/{lower}.json");
    let page = json!({
        "@id": format!("{url}{page_path}"), "count": leaves.len(), "items": leaves,
        "lower": versions.first().unwrap(), "upper": versions.last().unwrap(),
    });
    let listed = if paged {
        let mut listed = page.clone();
        listed.as_object_mut().unwrap().remove("items");
        listed
    } else {
        page.clone()
    };
    let index =
        json!({ "@id": format!("{url}/reg-gz/{lower}/index.json"), "count": 1, "items": [listed] });
    upstream.put(&page_path, Reply::json(page.to_string()));
    for folder in ["reg", "reg-gz"] {
        upstream.put(
            &format!("/{folder}/{lower}/index.json"),
            Reply::json(index.to_string()),
        );
    }
}
