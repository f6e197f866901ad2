//! What the registry has: documents and files of the sizes in question, a tree of npm packages
//! such as a web application has, and wheels.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256, Sha512};

use super::upstream::Resource;

pub type Resources = HashMap<String, Resource>;

/// Packages of the npm tree.
pub const PACKAGES: usize = 800;
pub const WHEELS: usize = 42;

/// Numbers that are the same in every run (xorshift).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn base64(&mut self, bytes: usize) -> String {
        STANDARD.encode(self.bytes(bytes))
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

pub fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().into()
}

fn document(text: String) -> Resource {
    Resource {
        gzip: Some(gzip(text.as_bytes())),
        body: text.into(),
        media_type: "application/json",
    }
}

fn file(body: impl Into<Bytes>) -> Resource {
    Resource {
        body: body.into(),
        gzip: None,
        media_type: "application/octet-stream",
    }
}

/// One version of a packument, of about a kilobyte.
fn manifest(
    out: &mut String,
    numbers: &mut Numbers,
    name: &str,
    version: &str,
    dependencies: &str,
    integrity: Option<&str>,
) {
    let integrity = integrity.map_or_else(|| numbers.base64(64), ToOwned::to_owned);
    let (shasum, signature) = (numbers.next(), numbers.base64(71));
    write!(
        out,
        r#""{version}":{{"name":"{name}","version":"{version}","description":"A package of the bench, version {version}","keywords":["bench","package","{name}"],"homepage":"https://{name}.example/readme","repository":{{"type":"git","url":"git+https://code.example/{name}.git"}},"license":"MIT","author":{{"name":"Somebody","email":"somebody@mail.example"}},"dependencies":{{{dependencies}}},"devDependencies":{{"tap":"^16.0.0","eslint":"^8.{0}.0"}},"engines":{{"node":">=18"}},"dist":{{"integrity":"sha512-{integrity}","shasum":"{shasum:040x}","tarball":"{{base}}{name}/-/{name}-{version}.tgz","fileCount":{0},"unpackedSize":{1},"signatures":[{{"keyid":"SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA","sig":"{signature}"}}]}},"directories":{{}},"_hasShrinkwrap":false}}"#,
        numbers.below(60),
        numbers.below(900_000),
    )
    .unwrap();
}

/// A packument's template, `{base}` where the registry's address stands, of about `size` bytes.
pub fn packument(name: &str, size: usize) -> String {
    let mut numbers = Numbers::new(name.len() as u64 + size as u64);
    let mut versions = String::new();
    let mut count = 0;
    while versions.len() < size {
        if count > 0 {
            versions.push(',');
        }
        let version = format!("1.{count}.0");
        manifest(
            &mut versions,
            &mut numbers,
            name,
            &version,
            r#""a":"^1.0.0","b":"^2.1.0""#,
            None,
        );
        count += 1;
    }
    format!(
        r#"{{"name":"{name}","dist-tags":{{"latest":"1.{}.0"}},"versions":{{{versions}}}}}"#,
        count - 1
    )
}

/// Sizes of files that are asked for warm, and how many a package of cold ones has.
pub const COLD: usize = 40;

/// Documents and files of the sizes in question.
pub fn sizes(base: &str) -> Resources {
    let mut resources = Resources::new();
    for (name, size) in [("small-doc", 30_000), ("large-doc", 5_800_000)] {
        let text = packument(name, size).replace("{base}", base);
        resources.insert(format!("/{name}"), document(text));
    }
    for (name, size) in [
        ("file-1k", 1_000),
        ("file-10k", 10_000),
        ("file-1m", 1_000_000),
        ("file-100m", 100_000_000),
        ("file-50m", 50_000_000),
    ] {
        let body = Bytes::from(Numbers::new(size as u64).bytes(size));
        let integrity = STANDARD.encode(Sha512::digest(&body));
        let mut numbers = Numbers::new(7);
        let mut versions = String::new();
        for n in 0..COLD {
            if n > 0 {
                versions.push(',');
            }
            let version = format!("{n}.0.0");
            manifest(
                &mut versions,
                &mut numbers,
                name,
                &version,
                "",
                Some(&integrity),
            );
            resources.insert(
                format!("/{name}/-/{name}-{version}.tgz"),
                file(body.clone()),
            );
        }
        let text = format!(
            r#"{{"name":"{name}","dist-tags":{{"latest":"0.0.0"}},"versions":{{{versions}}}}}"#
        );
        resources.insert(format!("/{name}"), document(text.replace("{base}", base)));
    }
    resources
}

fn tarball(manifest: &str, filling: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut text = String::from("module.exports = [\n");
    while text.len() < filling {
        let _ = writeln!(text, "  'an entry of {:x}',", numbers.next());
    }
    text.push(']');
    for (name, text) in [
        ("package/package.json", manifest),
        ("package/index.js", &text),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(499_162_500);
        header.set_cksum();
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// The name of a package of the tree.
pub fn package(n: usize) -> String {
    format!("bench-p{n:03}")
}

/// Which packages of the tree the application itself asks for.
pub fn application() -> String {
    let wanted: Vec<String> = (0..20)
        .map(|n| format!(r#""{}":"^1.0.0""#, package(n)))
        .collect();
    format!(
        r#"{{"name":"application","version":"1.0.0","private":true,"dependencies":{{{}}}}}"#,
        wanted.join(",")
    )
}

/// A tree: 20 packages at the top, each package asking for up to four later ones, so that all
/// are reached; documents of 200 KB on average, as public ones are.
pub fn tree(base: &str) -> Resources {
    let mut resources = Resources::new();
    let mut numbers = Numbers::new(11);
    let mut wanted_by: Vec<Vec<usize>> = vec![Vec::new(); PACKAGES];
    for n in 20..PACKAGES {
        // One that is sure to be reached, near enough to make the tree some ten deep.
        let parent = (n / 3).saturating_sub(numbers.below(6)).min(n - 1);
        wanted_by[parent].push(n);
        if numbers.below(2) == 0 {
            let other = numbers.below(n);
            if !wanted_by[other].contains(&n) {
                wanted_by[other].push(n);
            }
        }
    }
    for (n, wanted) in wanted_by.iter().enumerate() {
        let name = package(n);
        let dependencies: Vec<String> = wanted
            .iter()
            .map(|other| format!(r#""{}":"^1.0.0""#, package(*other)))
            .collect();
        let dependencies = dependencies.join(",");
        let count = 20 + numbers.below(40) * numbers.below(18);
        let latest = format!("1.{}.0", count - 1);
        let own = format!(
            r#"{{"name":"{name}","version":"{latest}","main":"index.js","dependencies":{{{dependencies}}}}}"#
        );
        let filling = 2_000 + numbers.below(60_000);
        let bytes = tarball(&own, filling, &mut numbers);
        let integrity = STANDARD.encode(Sha512::digest(&bytes));
        let mut versions = String::new();
        for v in 0..count {
            if v > 0 {
                versions.push(',');
            }
            let of = (v == count - 1).then_some(integrity.as_str());
            manifest(
                &mut versions,
                &mut numbers,
                &name,
                &format!("1.{v}.0"),
                &dependencies,
                of,
            );
        }
        let text = format!(
            r#"{{"name":"{name}","dist-tags":{{"latest":"{latest}"}},"versions":{{{versions}}}}}"#
        );
        resources.insert(format!("/{name}"), document(text.replace("{base}", base)));
        // The public registry gives each version's manifest by itself, too.
        let mut manifest_of = String::new();
        manifest(
            &mut manifest_of,
            &mut numbers,
            &name,
            &latest,
            &dependencies,
            Some(&integrity),
        );
        let alone = manifest_of
            .split_once(':')
            .map_or("", |(_, manifest)| manifest);
        resources.insert(
            format!("/{name}/{latest}"),
            document(alone.replace("{base}", base)),
        );
        resources.insert(format!("/{name}/-/{name}-{latest}.tgz"), file(bytes));
    }
    resources
}

/// Wheels on simple pages, each of half a megabyte, with its hash; the requirements that pin them.
pub fn wheels(base: &str) -> (Resources, String) {
    let mut resources = Resources::new();
    let mut requirements = String::new();
    let mut numbers = Numbers::new(13);
    for n in 0..WHEELS {
        let name = format!("benchwheel{n:02}");
        let size = 300_000 + numbers.below(400_000);
        let module = numbers.bytes(size);
        let bytes = wheel(&name, &module);
        let hash = hex::encode(Sha256::digest(&bytes));
        let file_name = format!("{name}-1.0-py3-none-any.whl");
        let mut links = String::new();
        for v in 0..120 {
            let _ = writeln!(
                links,
                r#"<a href="{base}files/{name}-0.{v}-py3-none-any.whl#sha256={:064x}" data-requires-python="&gt;=3.8">{name}-0.{v}-py3-none-any.whl</a><br/>"#,
                numbers.next()
            );
        }
        let page = format!(
            "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" content=\"1.0\"><title>Links for {name}</title></head><body><h1>Links for {name}</h1>\n{links}<a href=\"{base}files/{file_name}#sha256={hash}\">{file_name}</a><br/>\n</body></html>\n"
        );
        resources.insert(
            format!("/simple/{name}/"),
            Resource {
                gzip: Some(gzip(page.as_bytes())),
                body: page.into(),
                media_type: "text/html",
            },
        );
        resources.insert(format!("/files/{file_name}"), file(bytes));
        let _ = writeln!(requirements, "{name}==1.0 --hash=sha256:{hash}");
    }
    (resources, requirements)
}

fn wheel(name: &str, module: &[u8]) -> Vec<u8> {
    let info = format!("{name}-1.0.dist-info");
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    let kind = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut record = String::new();
    for (path, bytes) in [
        (format!("{name}/data.bin"), module),
        (format!("{name}/__init__.py"), b"".as_slice()),
        (format!("{info}/METADATA"), metadata.as_bytes()),
        (format!("{info}/WHEEL"), kind.as_bytes()),
    ] {
        archive.start_file(path.as_str(), stored).unwrap();
        archive.write_all(bytes).unwrap();
        let _ = writeln!(record, "{path},,");
    }
    let _ = writeln!(record, "{info}/RECORD,,");
    archive
        .start_file(format!("{info}/RECORD"), stored)
        .unwrap();
    archive.write_all(record.as_bytes()).unwrap();
    archive.finish().unwrap().into_inner()
}
