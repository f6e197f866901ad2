//! What documents cost in memory: how much the process of Larder grows while each is read and
//! rendered, and what it still holds afterwards. `cargo bench --bench memory [WORD]`, on Linux
//! alone; another program is measured where `LARDER_BIN` names it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so by panicking"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MIB: f64 = 1024.0 * 1024.0;
/// What was not given back after so long is counted as kept.
const KEPT_AFTER: Duration = Duration::from_secs(4);

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const SIMPLE_JSON: &str = "application/vnd.pypi.simple.v1+json";
const SHORT: &str = "application/vnd.npm.install-v1+json";
const ANY: &str = "*/*";

const RULE: &str = "[[rule]]\naction = \"allow\"\npackages = [\"npm:*\", \"pypi:*\", \"nuget:*\", \"maven:*\"]\nmin_age = \"3d\"\n";

/// Documents by their paths, with their media types.
type Documents = HashMap<String, (&'static str, Arc<[u8]>)>;

/// A registry of all formats, whose documents are put in by the measurement.
struct Upstream {
    address: SocketAddr,
    documents: Arc<Mutex<Documents>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let documents: Arc<Mutex<Documents>> = Arc::default();
        let served = Arc::clone(&documents);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, served) = (socket.unwrap(), Arc::clone(&served));
                std::thread::spawn(move || serve(&socket, &served));
            }
        });
        Self { address, documents }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn put(&self, path: &str, media_type: &'static str, document: Vec<u8>) -> usize {
        let size = document.len();
        let mut documents = self.documents.lock().unwrap();
        documents.insert(path.to_owned(), (media_type, document.into()));
        size
    }
}

fn serve(socket: &TcpStream, documents: &Mutex<Documents>) {
    let mut lines = BufReader::new(socket).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let path = first.split(' ').nth(1).unwrap_or_default();
        let found = documents.lock().unwrap().get(path).cloned();
        let (status, media_type, body) = match found {
            Some((media_type, body)) => ("200 OK", media_type, body),
            None => ("404 Not Found", "text/plain", Arc::from(&b""[..])),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut out = socket;
        if out.write_all(head.as_bytes()).is_err() || out.write_all(&body).is_err() {
            return;
        }
    }
}

/// A Larder in a process of its own.
struct Larder {
    process: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Drop for Larder {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Larder {
    fn start(upstream: &Upstream, tables: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let folder = std::env::temp_dir().join(format!("larder-memory-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let (url, data) = (upstream.url(), folder.join("data"));
        let mut config = format!(
            "listen = \"{address}\"\ndata_dir = \"{}\"\n",
            data.display()
        );
        config.push_str("[cache]\nrendered_memory = \"1MiB\"\nblob_memory = \"1MiB\"\nfacts_memory = \"1MiB\"\nblob_mapped = \"1MiB\"\n[ahead]\nenabled = false\n");
        let mut names = Vec::new();
        for (format, path) in [
            ("npm", "npm/"),
            ("pypi", "simple/"),
            ("maven", "maven2/"),
            ("nuget", "v3/index.json"),
        ] {
            write!(config, "[[connection]]\nname = \"up:{format}\"\nformat = \"{format}\"\nurl = \"{url}/{path}\"\n").unwrap();
            names.push(format!("up:{format}"));
        }
        write!(
            config,
            "[[repository]]\nname = \"public\"\nexternal_connections = {names:?}\n{tables}"
        )
        .unwrap();
        let file = folder.join("larder.toml");
        std::fs::write(&file, config).unwrap();
        let own = option_env!("CARGO_BIN_EXE_larder").map(PathBuf::from);
        let named = std::env::var_os("LARDER_BIN").map(PathBuf::from);
        let process = Command::new(named.or(own).unwrap())
            .args(["serve", "--config"])
            .arg(&file)
            .env("HOME", &folder)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let larder = Self {
            process,
            address,
            folder,
        };
        let mut attempts = 0;
        while larder.try_get("/-/ready", ANY) != Some(200) {
            attempts += 1;
            assert!(attempts < 400, "it does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        for small in ["/npm/public/small", "/pypi/public/simple/small/"] {
            larder.try_get(small, ANY);
        }
        larder
    }

    /// Reads an answer to its end, and says its status.
    fn try_get(&self, path: &str, accept: &str) -> Option<u16> {
        let mut socket = TcpStream::connect(self.address).ok()?;
        let address = self.address;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).ok()?;
        let mut first = [0; 12];
        socket.read_exact(&mut first).ok()?;
        std::io::copy(&mut socket, &mut std::io::sink()).ok()?;
        std::str::from_utf8(&first[9..]).ok()?.parse().ok()
    }

    /// In MiB: `VmHWM`, the peak, or `VmRSS`, what it is now.
    fn memory(&self, what: &str) -> f64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        kib.parse::<f64>().unwrap() / 1024.0
    }

    /// From now on the peak is counted.
    fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").unwrap();
    }
}

fn packument(url: &str, name: &str, versions: usize) -> Vec<u8> {
    let mut text =
        format!("{{\"name\":\"{name}\",\"dist-tags\":{{\"latest\":\"1.0.0\"}},\"versions\":{{");
    for version in 0..versions {
        let comma = if version == 0 { "" } else { "," };
        write!(text, "{comma}\"{version}.0.0\":{{\"name\":\"{name}\",\"version\":\"{version}.0.0\",\"dist\":{{\"tarball\":\"{url}/npm/{name}/-/{name}-{version}.0.0.tgz\",\"shasum\":\"{version:040x}\"}}}}").unwrap();
    }
    text.push_str("},\"time\":{");
    for version in 0..versions {
        let comma = if version == 0 { "" } else { "," };
        write!(
            text,
            "{comma}\"{version}.0.0\":\"2020-01-01T00:00:00.000Z\""
        )
        .unwrap();
    }
    text.push_str("}}");
    text.into_bytes()
}

fn html_page(url: &str, name: &str, files: usize) -> Vec<u8> {
    let mut text = "<html><body>".to_owned();
    for file in 0..files {
        let wheel = format!("{name}-{file}.0-py3-none-any.whl");
        writeln!(
            text,
            "<a href=\"{url}/f/{wheel}#sha256={file:064x}\">{wheel}</a>"
        )
        .unwrap();
    }
    text.push_str("</body></html>");
    text.into_bytes()
}

fn json_page(url: &str, name: &str, files: usize) -> Vec<u8> {
    let mut text =
        format!("{{\"meta\":{{\"api-version\":\"1.1\"}},\"name\":\"{name}\",\"files\":[");
    for file in 0..files {
        let comma = if file == 0 { "" } else { "," };
        let wheel = format!("{name}-{file}.0-py3-none-any.whl");
        write!(text, "{comma}{{\"filename\":\"{wheel}\",\"url\":\"{url}/f/{file:060x}/{wheel}\",\"hashes\":{{\"sha256\":\"{file:064x}\"}},\"core-metadata\":{{\"sha256\":\"{file:064x}\"}},\"upload-time\":\"2020-01-01T00:00:00.000000Z\",\"requires-python\":\">=3.8\",\"size\":12345,\"yanked\":false}}").unwrap();
    }
    text.push_str("]}");
    text.into_bytes()
}

fn registration(url: &str, name: &str, versions: usize) -> Vec<u8> {
    let mut text = "{\"count\":1,\"items\":[{\"@id\":\"p\",\"count\":1,\"lower\":\"0.0.0\",\"upper\":\"9.0.0\",\"items\":[".to_owned();
    for version in 0..versions {
        let comma = if version == 0 { "" } else { "," };
        write!(text, "{comma}{{\"@id\":\"{url}/v3/reg/{name}/{version}.0.0.json\",\"catalogEntry\":{{\"@id\":\"{url}/v3/catalog/{name}.{version}.0.0.json\",\"id\":\"{name}\",\"version\":\"{version}.0.0\",\"listed\":true,\"published\":\"2020-01-01T00:00:00Z\",\"packageContent\":\"{url}/v3/flat/{name}/{version}.0.0/{name}.{version}.0.0.nupkg\"}},\"packageContent\":\"{url}/v3/flat/{name}/{version}.0.0/{name}.{version}.0.0.nupkg\"}}").unwrap();
    }
    text.push_str("]}]}");
    text.into_bytes()
}

fn flat_index(versions: usize) -> Vec<u8> {
    let versions: Vec<String> = (0..versions).map(|it| format!("\"{it}.0.0\"")).collect();
    format!("{{\"versions\":[{}]}}", versions.join(",")).into_bytes()
}

fn metadata(name: &str, versions: usize) -> Vec<u8> {
    let mut text = format!(
        "<metadata><groupId>org.x</groupId><artifactId>{name}</artifactId><versioning><latest>1.0</latest><versions>\n"
    );
    for version in 0..versions {
        writeln!(text, "      <version>{version}.0</version>").unwrap();
    }
    text.push_str("</versions></versioning></metadata>");
    text.into_bytes()
}

/// The rows whose document's name has the word in it that was given.
struct Table {
    wanted: String,
}

impl Table {
    fn head() -> Self {
        let mut arguments = std::env::args().skip(1);
        let word = arguments.find(|it| !it.starts_with('-'));
        println!("| document | MiB | form | peak above idle, MiB | per byte | kept after, MiB |");
        println!("| --- | --- | --- | --- | --- | --- |");
        Self {
            wanted: word.unwrap_or_default(),
        }
    }

    fn wants(&self, document: &str) -> bool {
        document.contains(&self.wanted)
    }

    fn row(document: &str, size: f64, form: &str, peak: f64, kept: f64) {
        let ratio = peak / size;
        println!("| {document} | {size:.1} | {form} | {peak:.0} | {ratio:.1} | {kept:.0} |");
    }
}

/// Asks a Larder of its own for a document in its forms, one after the other.
fn measure(
    table: &Table,
    larder: Larder,
    document: &str,
    bytes: usize,
    forms: &[(&str, &str, &str)],
) {
    if !table.wants(document) {
        return;
    }
    let (idle, size) = (larder.memory("VmRSS"), bytes as f64 / MIB);
    for (form, path, accept) in forms {
        larder.reset_peak();
        let status = larder.try_get(path, accept);
        let peak = larder.memory("VmHWM") - idle;
        std::thread::sleep(KEPT_AFTER);
        let form = match status {
            Some(200) => (*form).to_owned(),
            status => format!("{form} ({status:?})"),
        };
        Table::row(document, size, &form, peak, larder.memory("VmRSS") - idle);
    }
}

/// Asks for many documents in turn, and says what the largest of them cost.
fn measure_in_turn(
    table: &Table,
    larder: Larder,
    what: &str,
    documents: &[(usize, Vec<(String, &str)>)],
) {
    if !table.wants(what) {
        return;
    }
    let idle = larder.memory("VmRSS");
    larder.reset_peak();
    for (path, accept) in documents.iter().flat_map(|(_, asked)| asked) {
        assert_eq!(larder.try_get(path, accept), Some(200), "{path}");
    }
    let peak = larder.memory("VmHWM") - idle;
    std::thread::sleep(KEPT_AFTER);
    let largest = documents.iter().map(|(bytes, _)| *bytes).max().unwrap();
    let kept = larder.memory("VmRSS") - idle;
    Table::row(what, largest as f64 / MIB, "all", peak, kept);
}

fn main() {
    // `cargo test` and `cargo bench -- --list` run it too.
    if std::env::args().any(|it| it == "--list" || it == "--test") {
        return;
    }
    let upstream = Upstream::start();
    let url = upstream.url();
    upstream.put(
        "/npm/small",
        JSON,
        b"{\"name\":\"small\",\"versions\":{}}".to_vec(),
    );
    let small = b"<title>Links for small</title>".to_vec();
    upstream.put("/simple/small/", HTML, small);
    let index = format!(
        "{{\"version\":\"3.0.0\",\"resources\":[{{\"@id\":\"{url}/v3/flat/\",\"@type\":\"PackageBaseAddress/3.0.0\"}},{{\"@id\":\"{url}/v3/reg/\",\"@type\":\"RegistrationsBaseUrl/3.6.0\"}}]}}"
    );
    upstream.put("/v3/index.json", JSON, index.into_bytes());
    let table = Table::head();
    for (rule, note) in [("", ""), (RULE, ", min_age")] {
        let page = upstream.put("/simple/m/", HTML, html_page(&url, "m", 50_000));
        let larger = upstream.put("/simple/n/", HTML, html_page(&url, "n", 205_000));
        let json = upstream.put("/simple/j/", SIMPLE_JSON, json_page(&url, "j", 75_000));
        let flat = upstream.put("/v3/flat/b/index.json", JSON, flat_index(2_000_000));
        let leaves = upstream.put(
            "/v3/reg/a/index.json",
            JSON,
            registration(&url, "a", 60_000),
        );
        let xml = metadata("lib", 300_000);
        let xml = upstream.put("/maven2/org/x/lib/maven-metadata.xml", "text/xml", xml);
        for (what, bytes, name) in [
            ("page, HTML", page, "m"),
            ("page, HTML", larger, "n"),
            ("page, JSON", json, "j"),
        ] {
            let path = format!("/pypi/public/simple/{name}/");
            let forms = [("html", &*path, HTML), ("json", &*path, SIMPLE_JSON)];
            let larder = Larder::start(&upstream, rule);
            measure(&table, larder, &format!("PyPI {what}{note}"), bytes, &forms);
        }
        let registration = "/nuget/public/v3/registration-gz-semver2/a/index.json";
        let listing = "/maven/public/org/x/lib/maven-metadata.xml";
        for (what, bytes, form, path) in [
            ("NuGet registration", leaves, "json, gzip", registration),
            (
                "NuGet versions",
                flat,
                "json",
                "/nuget/public/v3/flat/b/index.json",
            ),
            ("Maven metadata", xml, "xml", listing),
        ] {
            let larder = Larder::start(&upstream, rule);
            let what = format!("{what}{note}");
            measure(&table, larder, &what, bytes, &[(form, path, ANY)]);
        }
        for versions in [100_000, 1_000_000] {
            let bytes = upstream.put("/npm/m", JSON, packument(&url, "m", versions));
            let larder = Larder::start(&upstream, rule);
            let forms = [
                ("full", "/npm/public/m", ANY),
                ("short", "/npm/public/m", SHORT),
                ("one version", "/npm/public/m/5.0.0", ANY),
                ("a tarball's facts", "/npm/public/m/-/m-5.0.0.tgz", ANY),
            ];
            measure(
                &table,
                larder,
                &format!("npm packument{note}"),
                bytes,
                &forms,
            );
        }
    }
    let mut documents = Vec::new();
    for number in 0..9 {
        let (page, package) = (format!("p{number}"), format!("q{number}"));
        let bytes = html_page(&url, &page, 32_000 + number * 14_000);
        let bytes = upstream.put(&format!("/simple/{page}/"), HTML, bytes);
        let path = format!("/pypi/public/simple/{page}/");
        documents.push((bytes, vec![(path.clone(), HTML), (path, SIMPLE_JSON)]));
        let bytes = packument(&url, &package, 26_000 + number * 11_500);
        let bytes = upstream.put(&format!("/npm/{package}"), JSON, bytes);
        let path = format!("/npm/public/{package}");
        documents.push((bytes, vec![(path.clone(), ANY), (path, SHORT)]));
    }
    let larder = Larder::start(&upstream, "");
    measure_in_turn(
        &table,
        larder,
        "eighteen of 5 to 25 MB in turn, in both forms",
        &documents,
    );
    let larder = Larder::start(&upstream, "");
    let pages: Vec<_> = (0..100)
        .map(|number| {
            let page = format!("r{number}");
            let bytes = html_page(&url, &page, 50_000);
            let bytes = upstream.put(&format!("/simple/{page}/"), HTML, bytes);
            (
                bytes,
                vec![(format!("/pypi/public/simple/{page}/"), SIMPLE_JSON)],
            )
        })
        .collect();
    measure_in_turn(&table, larder, "a hundred different pages in turn", &pages);
}
