//! What a document costs in memory: at most three times its bytes while it is read and rendered, and
//! it comes back. Measured at a process of its own.

use std::fmt::Write as _;

use super::{Served, Setup};
use crate::support::larder::config;
use crate::support::{Reply, Upstream, until};

const KIB_PER_MIB: usize = 1024;
/// In KiB: for buffers, code and threads, which have nothing to do with a document's size.
const SLACK: usize = 24 * KIB_PER_MIB;
const SMALL_CACHES: &str = "[cache]\nmin_free = 0\nrendered_memory = \"1MiB\"\nfacts_memory = \"1MiB\"\nblob_memory = \"1MiB\"\n";
const RULE: &str = "[[rule]]\naction = \"allow\"\npackages = [\"npm:*\", \"pypi:*\", \"nuget:*\", \"maven:*\"]\nmin_age = \"3d\"\n";

/// In KiB: `VmHWM` is the peak, `VmRSS` what it is now.
fn memory(served: &Served, what: &str) -> usize {
    let status = format!("/proc/{}/status", served.child.id().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

async fn read(served: &Served, path: &str, accept: &str) {
    let request = reqwest::Client::new().get(format!("{}{path}", served.url));
    let mut response = request.header("Accept", accept).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    while response.chunk().await.unwrap().is_some() {}
}

/// Asks for the document in its forms, without and with a rule that asks for dates.
async fn assert_costs_little(upstream: &Upstream, bytes: usize, forms: &[(&str, &str)]) {
    let bytes = bytes / 1024;
    for rule in ["", RULE] {
        let text = format!("{}{rule}", config(upstream, SMALL_CACHES));
        let setup = Setup::new(&text);
        let served = &setup.serve().await;
        let idle = memory(served, "VmRSS");
        for (path, accept) in forms {
            let reset = format!("/proc/{}/clear_refs", served.child.id().unwrap());
            std::fs::write(reset, "5").unwrap();
            read(served, path, accept).await;
            let peak = memory(served, "VmHWM") - idle;
            println!("{path} {accept} {rule:.8}: {bytes} KiB, peak {peak} KiB above idle");
            assert!(
                peak <= 3 * bytes + SLACK,
                "{path}: {peak} KiB for {bytes} KiB"
            );
        }
        until("the memory comes back", async || {
            memory(served, "VmRSS") <= idle + SLACK
        })
        .await;
    }
}

/// As many items as make a text of some eight megabytes.
fn repeated(mut text: String, item: impl Fn(usize) -> String, end: &str) -> String {
    const BYTES: usize = 8 * 1024 * 1024;
    let mut number = 0;
    while text.len() < BYTES {
        text.push_str(&item(number));
        number += 1;
    }
    text.push_str(end);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packument_costs_three_times_its_bytes_and_gives_them_back() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let begin = r#"{"name":"m","time":{"created":"2020-01-01T00:00:00Z"},"dist-tags":{"latest":"1.0.0"},"versions":{"0.0.0":{}"#;
    let document = repeated(
        begin.to_owned(),
        |number| {
            let version = format!("{}.0.0", number + 1);
            format!(
                r#","{version}":{{"name":"m","version":"{version}","dist":{{"tarball":"{url}/npm/m/-/m-{version}.tgz","shasum":"{number:040x}"}}}}"#
            )
        },
        "}}",
    );
    let bytes = document.len();
    upstream.put("/npm/m", Reply::json(document));
    let short = "application/vnd.npm.install-v1+json";
    let forms = [
        ("/npm/public/m", "*/*"),
        ("/npm/public/m", short),
        ("/npm/public/-/package/m/dist-tags", "*/*"),
    ];
    assert_costs_little(&upstream, bytes, &forms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_many_files_costs_three_times_its_bytes_and_gives_them_back() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let wheel = |number: usize| format!("m-{number}.0-py3-none-any.whl");
    let html = repeated(
        "<html><body>".to_owned(),
        |number| {
            let file = wheel(number);
            format!("<a href=\"{url}/f/{file}#sha256={number:064x}\">{file}</a>\n")
        },
        "</body></html>",
    );
    let json = repeated(
        r#"{"meta":{"api-version":"1.1"},"name":"n","files":[{"filename":"n-1.zip","url":"n-1.zip","hashes":{}}"#
            .to_owned(),
        |number| {
            let file = wheel(number).replace("m-", "n-");
            format!(
                r#",{{"filename":"{file}","url":"{url}/f/{number:060x}/{file}","hashes":{{"sha256":"{number:064x}"}},"upload-time":"2020-01-01T00:00:00Z"}}"#
            )
        },
        "]}",
    );
    let bytes = html.len().min(json.len());
    upstream.put("/simple/m/", Reply::typed("text/html", html));
    let simple_json = "application/vnd.pypi.simple.v1+json";
    upstream.put("/simple/n/", Reply::typed(simple_json, json));
    let mut forms = Vec::new();
    for path in ["/pypi/public/simple/m/", "/pypi/public/simple/n/"] {
        forms.extend([(path, "text/html"), (path, simple_json)]);
    }
    assert_costs_little(&upstream, bytes, &forms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_costs_three_times_its_bytes_and_gives_them_back() {
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let mut index = String::from(r#"{"version":"3.0.0","resources":["#);
    for (path, kind) in [
        ("flat/", "PackageBaseAddress/3.0.0"),
        ("reg/", "RegistrationsBaseUrl/3.6.0"),
    ] {
        let comma = if path == "flat/" { "" } else { "," };
        write!(
            index,
            r#"{comma}{{"@id":"{url}/v3/{path}","@type":"{kind}"}}"#
        )
        .unwrap();
    }
    upstream.put("/v3/index.json", Reply::json(format!("{index}]}}")));
    let leaf = |number: usize| {
        let file = format!("{url}/v3/flat/a/{number}.0.0/a.{number}.0.0.nupkg");
        format!(
            r#"{{"@id":"{url}/v3/reg/a/{number}.0.0.json","catalogEntry":{{"@id":"{url}/v3/reg/e/{number}.0.0.json","id":"a","version":"{number}.0.0","published":"2020-01-01T00:00:00Z","description":"{number:0200}"}},"packageContent":"{file}"}}"#
        )
    };
    let begin = format!(r#"{{"items":[{{"items":[{}"#, leaf(0));
    let registration = repeated(begin, |number| format!(",{}", leaf(number + 1)), "]}]}");
    let bytes = registration.len();
    upstream.put("/v3/reg/a/index.json", Reply::json(registration));
    let versions = r#"{"versions":["0.0.0""#.to_owned();
    let versions = repeated(versions, |number| format!(",\"{number}.0.1\""), "]}");
    upstream.put("/v3/flat/a/index.json", Reply::json(versions));
    let forms = [
        (
            "/nuget/public/v3/registration-gz-semver2/a/index.json",
            "*/*",
        ),
        ("/nuget/public/v3/flat/a/index.json", "*/*"),
    ];
    assert_costs_little(&upstream, bytes, &forms).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_versions_in_xml_costs_three_times_its_bytes_and_gives_them_back() {
    let upstream = Upstream::start().await;
    let begin =
        "<metadata><groupId>org.x</groupId><artifactId>lib</artifactId><versioning><versions>";
    let metadata = repeated(
        begin.to_owned(),
        |number| format!("\n      <version>{number}.0</version>"),
        "</versions></versioning></metadata>",
    );
    let bytes = metadata.len();
    let path = "/maven2/org/x/lib/maven-metadata.xml";
    upstream.put(path, Reply::typed("text/xml", metadata));
    let forms = [("/maven/public/org/x/lib/maven-metadata.xml", "*/*")];
    assert_costs_little(&upstream, bytes, &forms).await;
}
