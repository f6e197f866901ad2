//! Packages in four formats whose every byte follows from the seed: what the registry has, and what
//! is published.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::{Chance, integrity, noise, nuget, pypi, sha256};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Npm,
    Pypi,
    Maven,
    Nuget,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Npm, Self::Pypi, Self::Maven, Self::Nuget];

    pub fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Maven => "maven",
            Self::Nuget => "nuget",
        }
    }
}

/// Where Maven's packages lie.
pub const GROUP: &str = "org/chaos";

/// A version, with its one file.
#[derive(Debug)]
pub struct Version {
    pub version: String,
    pub bytes: Bytes,
    pub sha256: String,
    pub integrity: String,
}

impl Version {
    pub fn new(format: Format, name: &str, version: String, filling: &[u8]) -> Self {
        let bytes = file(format, name, &version, filling);
        Self {
            version,
            sha256: sha256(&bytes),
            integrity: integrity(&bytes),
            bytes: bytes.into(),
        }
    }

    /// Whether a document that says such a digest says it of this file.
    pub fn is_said(&self, digest: &str) -> bool {
        digest == self.sha256 || digest == self.integrity
    }
}

/// What a version's file is called.
pub fn file_name(format: Format, name: &str, version: &str) -> String {
    match format {
        Format::Npm => format!("{}-{version}.tgz", name.rsplit('/').next().unwrap()),
        Format::Pypi => format!("{}-{version}-py3-none-any.whl", name.replace('-', "_")),
        Format::Maven => format!("{name}-{version}.jar"),
        Format::Nuget => format!("{}.{version}.nupkg", name.to_lowercase()),
    }
}

pub fn pom(name: &str, version: &str) -> String {
    let group = GROUP.replace('/', ".");
    format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></project>"
    )
}

/// A real package of that format, with so much in it.
fn file(format: Format, name: &str, version: &str, filling: &[u8]) -> Vec<u8> {
    match format {
        Format::Npm => tarball(name, version, filling),
        Format::Pypi => zip_with(pypi::wheel(name, version, &[]), filling),
        Format::Nuget => zip_with(nuget::nupkg(name, version, &[]), filling),
        Format::Maven => filling.to_vec(),
    }
}

fn tarball(name: &str, version: &str, filling: &[u8]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut archive = tar::Builder::new(encoder);
    let manifest = format!(r#"{{"name":"{name}","version":"{version}"}}"#);
    for (file, bytes) in [
        ("package/package.json", manifest.as_bytes()),
        ("package/data.bin", filling),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(499_162_500);
        header.set_cksum();
        archive.append_data(&mut header, file, bytes).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn zip_with(archive: Vec<u8>, filling: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new_append(std::io::Cursor::new(archive)).unwrap();
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("data.bin", stored).unwrap();
    archive.write_all(filling).unwrap();
    archive.finish().unwrap().into_inner()
}

/// Mostly small, sometimes large, as real ones are.
pub fn filling(chance: &mut Chance, largest: u64) -> Vec<u8> {
    let most = *chance.pick(&[64, 64, 16, 16, 4, 1]);
    let size = 100 + chance.below(largest / most);
    noise(
        usize::try_from(size).unwrap(),
        chance.below(u64::from(u32::MAX)),
    )
}

/// A package of the registry's. Versions come while the run goes on.
#[derive(Debug)]
pub struct Package {
    pub format: Format,
    pub name: String,
    pub versions: Vec<Version>,
    /// The registry says of it now and then that it does not exist.
    pub is_denied: bool,
    /// Has forms that other packages have not: manifests alone, pages of registrations, pages in
    /// HTML alone.
    pub is_odd: bool,
    released: AtomicUsize,
    releases: Mutex<Vec<Instant>>,
}

/// Versions that a package has from the begin.
pub const FIRST: usize = 4;
const LATER: usize = 4;
/// Larder looks anew by then, and what it knew is no longer fresh.
const SETTLED: Duration = Duration::from_secs(6);
pub const PACKAGES: usize = 24;
/// The largest file of the registry's.
const LARGEST: u64 = 1 << 20;

impl Package {
    fn new(format: Format, number: usize, chance: &mut Chance) -> Self {
        let name = match format {
            Format::Npm if number.is_multiple_of(3) => format!("@up/p-{number}"),
            Format::Nuget => format!("Up.P{number}"),
            _ => format!("up-{number}"),
        };
        let version = |index| {
            let filling = filling(chance, LARGEST);
            Version::new(format, &name, format!("1.{index}.0"), &filling)
        };
        Self {
            format,
            versions: (0..FIRST + LATER).map(version).collect(),
            is_denied: number % 4 == 1,
            is_odd: number % 2 == 1,
            released: AtomicUsize::new(FIRST),
            releases: Mutex::default(),
            name,
        }
    }

    /// How many versions the registry has by now.
    pub fn released(&self) -> usize {
        self.released.load(Ordering::Acquire)
    }

    /// How many of them it has had for a while. Newer ones are not asked for by name: who was told that a
    /// version is not there is told so in an outage, too.
    pub fn settled(&self) -> usize {
        let releases = self.releases.lock().unwrap();
        let is_settled = |it: &&Instant| it.elapsed() > SETTLED;
        FIRST + releases.iter().filter(is_settled).count()
    }

    /// Has one more version, where one is left.
    pub fn release(&self) {
        let mut releases = self.releases.lock().unwrap();
        if self.released() < self.versions.len() {
            releases.push(Instant::now());
            self.released.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub fn has(&self) -> &[Version] {
        &self.versions[..self.released()]
    }
}

/// The packages of all four formats.
pub struct Stock(Vec<Package>);

impl Stock {
    pub fn new(chance: &mut Chance) -> Self {
        let mut packages = Vec::new();
        for format in Format::ALL {
            packages.extend((0..PACKAGES).map(|number| Package::new(format, number, chance)));
        }
        Self(packages)
    }

    pub fn all(&self) -> &[Package] {
        &self.0
    }

    /// The packages of one format.
    pub fn of(&self, format: Format) -> &[Package] {
        let at = Format::ALL.iter().position(|it| *it == format).unwrap();
        &self.0[at * PACKAGES..(at + 1) * PACKAGES]
    }

    /// How often something can be released.
    pub fn releases(&self) -> usize {
        self.0.len() * LATER
    }

    /// The registry's file of that digest.
    pub fn has_digest(&self, sha256: &str) -> bool {
        let mut versions = self.0.iter().flat_map(|package| &package.versions);
        versions.any(|version| version.sha256 == sha256)
    }
}

/// Maven's list of a package's versions.
pub fn metadata(name: &str, versions: &[Version]) -> String {
    let mut listed = String::new();
    for version in versions {
        let _ = write!(listed, "<version>{}</version>", version.version);
    }
    let group = GROUP.replace('/', ".");
    let last = &versions.last().unwrap().version;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata><groupId>{group}</groupId><artifactId>{name}</artifactId><versioning><latest>{last}</latest><release>{last}</release><versions>{listed}</versions><lastUpdated>20200101000000</lastUpdated></versioning></metadata>\n"
    )
}
