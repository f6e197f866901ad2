//! Gradle's lockfiles and verification metadata.
//! Source: Gradle's user manual, "Locking versions" and "Verifying dependencies".

use quick_xml::de::from_str;
use serde::Deserialize;

use super::{Needs, Read, want};
use crate::airgap::want::{Want, WantedFile};
use crate::format::plain;
use crate::package::{Algorithm, Digest, Format};

/// `group:artifact:version=configuration,configuration`, line by line.
pub fn lockfile(text: &str) -> Read {
    let mut needs = Needs::default();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("empty=") {
            continue;
        }
        let coordinates = line.split('=').next().unwrap_or_default();
        needs.wants.push(library(coordinates)?);
    }
    Ok(needs)
}

/// A version with what Gradle reads of it, as far as that is there.
fn library(coordinates: &str) -> Result<Want, String> {
    let (name, version) = coordinates
        .rsplit_once(':')
        .ok_or_else(|| format!("`{coordinates}` is not group:artifact:version"))?;
    let artifact = name.rsplit(':').next().unwrap_or_default();
    let file =
        |ending: &str| WantedFile::named(&format!("{version}/{artifact}-{version}.{ending}"));
    Ok(want(Format::Maven, name, version)?
        .with(file("pom"))
        .with(file("module").or_none())
        .with(file("jar").or_none()))
}

#[derive(Deserialize)]
struct Verification {
    #[serde(default)]
    components: Components,
}

#[derive(Default, Deserialize)]
struct Components {
    #[serde(default)]
    component: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "@group")]
    group: String,
    #[serde(rename = "@name")]
    name: String,
    #[serde(rename = "@version")]
    version: String,
    #[serde(default)]
    artifact: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    #[serde(rename = "@name")]
    name: String,
    sha512: Option<Sum>,
    sha256: Option<Sum>,
    sha1: Option<Sum>,
}

#[derive(Deserialize)]
struct Sum {
    #[serde(rename = "@value")]
    value: String,
}

pub fn verification(text: &str) -> Read {
    let verification: Verification = from_str(text).map_err(|_| plain::XML.to_owned())?;
    let mut needs = Needs::default();
    for one in verification.components.component {
        let name = format!("{}:{}", one.group, one.name);
        let mut want = want(Format::Maven, &name, &one.version)?;
        for artifact in &one.artifact {
            let digest = [
                (Algorithm::Sha512, &artifact.sha512),
                (Algorithm::Sha256, &artifact.sha256),
                (Algorithm::Sha1, &artifact.sha1),
            ]
            .into_iter()
            .find_map(|(algorithm, sum)| Digest::from_hex(algorithm, &sum.as_ref()?.value).ok());
            let file = format!("{}/{}", one.version, artifact.name);
            want = want.with(WantedFile::of(&file, digest.as_ref()));
        }
        needs.wants.push(want);
    }
    Ok(needs)
}
