//! The documents that clients ask for, and what they read in them: versions, digests, addresses.

use serde_json::Value;

use super::stock::{Format, GROUP, file_name};
use crate::support::pypi::JSON;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    NpmFull,
    NpmShort,
    PypiHtml,
    PypiJson,
    MavenMetadata,
    NugetFlat,
    NugetRegistration,
}

/// A version as a document lists it, with what it says of its file.
pub struct Listed {
    pub version: String,
    pub digest: Option<String>,
    pub address: Option<String>,
}

/// What a document lists, and where it goes on.
#[derive(Default)]
pub struct Listing {
    pub versions: Vec<Listed>,
    pub pages: Vec<String>,
}

impl View {
    /// The forms of a format's documents; the first says where files are.
    pub fn of(format: Format) -> &'static [Self] {
        match format {
            Format::Npm => &[Self::NpmFull, Self::NpmShort],
            Format::Pypi => &[Self::PypiJson, Self::PypiHtml],
            Format::Maven => &[Self::MavenMetadata],
            Format::Nuget => &[Self::NugetFlat, Self::NugetRegistration],
        }
    }

    pub fn path(self, repository: &str, name: &str) -> String {
        let lower = name.to_lowercase();
        match self {
            Self::NpmFull | Self::NpmShort => {
                format!("/npm/{repository}/{}", name.replace('/', "%2f"))
            }
            Self::PypiHtml | Self::PypiJson => format!("/pypi/{repository}/simple/{name}/"),
            Self::MavenMetadata => {
                format!("/maven/{repository}/{GROUP}/{name}/maven-metadata.xml")
            }
            Self::NugetFlat => format!("/nuget/{repository}/v3/flat/{lower}/index.json"),
            Self::NugetRegistration => {
                format!("/nuget/{repository}/v3/registration/{lower}/index.json")
            }
        }
    }

    pub fn accept(self) -> &'static str {
        match self {
            Self::NpmFull => "application/json",
            Self::NpmShort => "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8",
            Self::PypiHtml => "text/html",
            Self::PypiJson => JSON,
            _ => "*/*",
        }
    }

    /// Reads the document; what cannot be read is told.
    pub fn read(self, name: &str, body: &[u8]) -> Result<Listing, String> {
        let json = || -> Result<Value, String> {
            serde_json::from_slice(body).map_err(|error| error.to_string())
        };
        let text = || String::from_utf8_lossy(body).into_owned();
        let read = match self {
            Self::NpmFull | Self::NpmShort => npm(&json()?),
            Self::PypiJson => pypi_json(name, &json()?),
            Self::PypiHtml => pypi_html(name, &text()),
            Self::MavenMetadata => maven(&text()),
            Self::NugetFlat => flat(&json()?),
            Self::NugetRegistration => registration(&json()?),
        };
        read.ok_or_else(|| format!("it is no {self:?}"))
    }
}

/// Where a version's file is; PyPI's addresses stand in its pages alone.
pub fn file_path(format: Format, repository: &str, name: &str, version: &str) -> Option<String> {
    let file = file_name(format, name, version);
    Some(match format {
        Format::Npm => format!("/npm/{repository}/{name}/-/{file}"),
        Format::Maven => format!("/maven/{repository}/{GROUP}/{name}/{version}/{file}"),
        Format::Nuget => {
            let id = name.to_lowercase();
            format!("/nuget/{repository}/v3/flat/{id}/{version}/{file}")
        }
        Format::Pypi => return None,
    })
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn bare(version: String) -> Listed {
    Listed {
        version,
        digest: None,
        address: None,
    }
}

fn npm(document: &Value) -> Option<Listing> {
    let manifests = document["versions"].as_object()?;
    let versions = manifests.iter().map(|(version, manifest)| Listed {
        version: version.clone(),
        digest: string(&manifest["dist"]["integrity"]),
        address: string(&manifest["dist"]["tarball"]),
    });
    Some(Listing {
        versions: versions.collect(),
        pages: Vec::new(),
    })
}

/// The version in a wheel's name.
fn version_of(name: &str, file: &str) -> Option<String> {
    let rest = file.strip_prefix(&name.replace('-', "_"))?;
    let version = rest.strip_prefix('-')?.strip_suffix("-py3-none-any.whl")?;
    Some(version.to_owned())
}

fn pypi_json(name: &str, page: &Value) -> Option<Listing> {
    let read = |file: &Value| {
        Some(Listed {
            version: version_of(name, file["filename"].as_str()?)?,
            digest: string(&file["hashes"]["sha256"]),
            address: string(&file["url"]),
        })
    };
    let files = page["files"].as_array()?.iter();
    Some(Listing {
        versions: files.map(read).collect::<Option<_>>()?,
        pages: Vec::new(),
    })
}

fn pypi_html(name: &str, page: &str) -> Option<Listing> {
    page.contains("<html").then_some(())?;
    let read = |anchor: &str| {
        let (address, rest) = anchor.split_once('"')?;
        let (address, digest) = address.split_once("#sha256=")?;
        let file = rest.split_once('>')?.1.split_once("</a>")?.0;
        Some(Listed {
            version: version_of(name, file)?,
            digest: Some(digest.to_owned()),
            address: Some(address.to_owned()),
        })
    };
    let anchors = page.split("href=\"").skip(1);
    Some(Listing {
        versions: anchors.map(read).collect::<Option<_>>()?,
        pages: Vec::new(),
    })
}

fn maven(metadata: &str) -> Option<Listing> {
    metadata.trim_end().ends_with("</metadata>").then_some(())?;
    let (_, rest) = metadata.split_once("<versions>")?;
    let (versions, _) = rest.split_once("</versions>")?;
    let versions = versions.split("<version>").skip(1);
    let read = |text: &str| Some(bare(text.split_once("</version>")?.0.to_owned()));
    Some(Listing {
        versions: versions.map(read).collect::<Option<_>>()?,
        pages: Vec::new(),
    })
}

fn flat(index: &Value) -> Option<Listing> {
    let versions = index["versions"].as_array()?.iter();
    Some(Listing {
        versions: versions
            .map(|it| string(it).map(bare))
            .collect::<Option<_>>()?,
        pages: Vec::new(),
    })
}

/// An index with its leaves or its pages, or a page.
fn registration(index: &Value) -> Option<Listing> {
    let mut listing = Listing::default();
    let mut add = |leaves: &Vec<Value>| {
        for leaf in leaves {
            let version = string(&leaf["catalogEntry"]["version"])?;
            listing.versions.push(Listed {
                version,
                digest: None,
                address: string(&leaf["packageContent"]),
            });
        }
        Some(())
    };
    let items = index["items"].as_array()?;
    if items
        .first()
        .is_some_and(|it| it["catalogEntry"].is_object())
    {
        add(items)?;
        return Some(listing);
    }
    let mut pages = Vec::new();
    for page in items {
        match page["items"].as_array() {
            Some(leaves) => add(leaves)?,
            None => pages.push(string(&page["@id"])?),
        }
    }
    listing.pages = pages;
    Some(listing)
}
