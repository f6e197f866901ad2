//! A bill of materials beside what is carried over.
//! Source: CycloneDX 1.6 (ECMA-424), package URLs (ECMA-427).

use std::io::Write;

use jiff::Timestamp;
use packageurl::PackageUrl;
use serde_json::{Value, json};

use crate::package::{Format, PackageId};

/// Writes the bill component by component: it is never in memory whole.
pub struct Sbom<W: Write> {
    out: W,
    is_first: bool,
}

/// A version with its files.
pub struct Component<'a> {
    pub package: &'a PackageId,
    pub version: &'a str,
    /// Names and their SHA-256.
    pub files: &'a [(String, String)],
    /// Where it came from.
    pub source: Option<&'a str>,
}

impl<W: Write> Sbom<W> {
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(
        mut out: W,
        serial: &str,
        created: Timestamp,
        name: &str,
    ) -> std::io::Result<Self> {
        let metadata = json!({
            "timestamp": created.to_string(),
            "tools": { "components": [{ "type": "application", "name": "larder", "version": env!("CARGO_PKG_VERSION") }] },
            "component": { "type": "data", "name": name, "bom-ref": "bundle" },
        });
        write!(
            out,
            "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"serialNumber\":\"urn:uuid:{serial}\",\"version\":1,\"metadata\":{metadata},\"components\":["
        )?;
        Ok(Self {
            out,
            is_first: true,
        })
    }

    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, one: &Component<'_>) -> std::io::Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.out.write_all(b",")?;
        }
        let purl = purl(one.package, one.version);
        let hash = |sha256: &str| json!([{ "alg": "SHA-256", "content": sha256 }]);
        let mut component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": one.package.name(),
            "version": one.version,
            "purl": purl,
        });
        let mut set = |name: &str, value: Value| {
            if let Some(component) = component.as_object_mut() {
                component.insert(name.to_owned(), value);
            }
        };
        if let Some(group) = one.package.namespace() {
            let at = if one.package.format() == Format::Npm {
                "@"
            } else {
                ""
            };
            set("group", json!(format!("{at}{group}")));
        }
        match one.files {
            [(_, sha256)] => set("hashes", hash(sha256)),
            files => {
                let files = files.iter().map(|(name, sha256)| {
                    json!({ "type": "file", "name": name, "hashes": hash(sha256) })
                });
                set("components", files.collect());
            }
        }
        if let Some(source) = one.source {
            set(
                "externalReferences",
                json!([{ "type": "distribution", "url": source }]),
            );
        }
        serde_json::to_writer(&mut self.out, &component)?;
        Ok(())
    }

    /// # Errors
    /// Where it cannot be written.
    pub fn end(mut self) -> std::io::Result<W> {
        self.out.write_all(b"]}\n")?;
        Ok(self.out)
    }
}

/// The version's package URL.
fn purl(package: &PackageId, version: &str) -> String {
    let namespace = package.namespace().map(|namespace| match package.format() {
        Format::Npm => format!("@{namespace}"),
        _ => namespace.to_owned(),
    });
    let made = || {
        let mut purl = PackageUrl::new(package.format().as_str(), package.name()).ok()?;
        if let Some(namespace) = &namespace {
            purl.with_namespace(namespace.as_str()).ok()?;
        }
        purl.with_version(version).ok()?;
        Some(purl.to_string())
    };
    made().unwrap_or_else(|| format!("pkg:generic/{}@{version}", package.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::package;

    #[test]
    fn packages_are_called_as_others_call_them() {
        for (name, version, said) in [
            ("npm:@acme/lib", "1.0.0", "pkg:npm/%40acme/lib@1.0.0"),
            ("npm:left-pad", "1.3.0", "pkg:npm/left-pad@1.3.0"),
            (
                "pypi:Some_Thing",
                "1.0+local",
                "pkg:pypi/some-thing@1.0%2Blocal",
            ),
            ("maven:org.acme:lib", "1.0", "pkg:maven/org.acme/lib@1.0"),
            ("nuget:Acme.Lib", "1.0.0", "pkg:nuget/acme.lib@1.0.0"),
        ] {
            assert_eq!(purl(&package(name).unwrap(), version), said);
        }
    }

    #[test]
    fn a_bill_is_json_whatever_is_in_it() {
        let mut sbom = Sbom::begin(Vec::new(), "0f", Timestamp::UNIX_EPOCH, "a \"b\"").unwrap();
        for name in ["npm:@acme/lib", "maven:org.acme:lib"] {
            let files = [
                ("a.jar".to_owned(), "0f".to_owned()),
                ("b".to_owned(), "0e".to_owned()),
            ];
            sbom.add(&Component {
                package: &package(name).unwrap(),
                version: "1",
                files: &files,
                source: Some("https://npm.example/"),
            })
            .unwrap();
        }
        let bill: Value = serde_json::from_slice(&sbom.end().unwrap()).unwrap();
        assert_eq!(bill["components"][0]["group"], "@acme");
        assert_eq!(bill["components"][1]["components"][1]["name"], "b");
    }
}
