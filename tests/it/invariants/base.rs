//! Nothing that a client writes changes whom we ask, or leaves a connection's base.

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::support::larder::IMPATIENT;
use crate::support::{Reply, TestLarder, Upstream};

/// Connections below `/base/`, and repositories that read from them and pass publishes on to them.
fn config(upstream: &Upstream) -> String {
    let url = upstream.url().replace("http://", "http://user:canary@");
    let connection = |format: &str, path: &str| {
        format!(
            "[[connection]]\nname = \"{format}\"\nformat = \"{format}\"\nurl = \"{url}/base/{path}\"\n"
        )
    };
    let connections = [
        connection("npm", "npm/"),
        connection("pypi", "simple/"),
        connection("maven", "maven2/"),
        connection("nuget", "v3/index.json"),
    ];
    let forwards: Vec<String> = ["npm", "pypi", "maven", "nuget"]
        .iter()
        .map(|format| {
            format!("[[repository]]\nname = \"to-{format}\"\nexternal_connections = [\"{format}\"]\npublish = \"forward:{format}\"\n")
        })
        .collect();
    format!(
        "listen = \"127.0.0.1:0\"\n{IMPATIENT}\n[ahead]\nenabled = false\n{}\
         [[repository]]\nname = \"public\"\nexternal_connections = [\"npm\", \"pypi\", \"maven\", \"nuget\"]\n{}",
        connections.concat(),
        forwards.concat()
    )
}

fn serve_index(upstream: &Upstream) {
    let service = |kind: &str, path: &str| json!({ "@id": format!("{}/base/{path}", upstream.url()), "@type": kind });
    let index = json!({ "version": "3.0.0", "resources": [
        service("PackageBaseAddress/3.0.0", "flat/"),
        service("RegistrationsBaseUrl", "reg"),
        service("RegistrationsBaseUrl/3.6.0", "reg-gz/"),
        service("SearchQueryService", "query"),
        service("SearchAutocompleteService", "autocomplete"),
        service("Catalog/3.0.0", "catalog/index.json"),
        service("VulnerabilityInfo/6.7.0", "vulnerabilities/index.json"),
        service("PackagePublish/2.0.0", "push"),
        service("SymbolPackagePublish/4.9.0", "symbols"),
    ]});
    upstream.put("/base/v3/index.json", Reply::json(index.to_string()));
}

/// What a segment of a path may be made of that means more than itself to some server or other.
fn segments(inside: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        "..",
        ".",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "%25252e%25252e",
        "..%2f..%2fadmin",
        "%2e%2e%2fadmin",
        "%252e%252e%252fadmin",
        "..%5cadmin",
        "%5c..%5cadmin",
        "..%255cadmin",
        "..;",
        "..;x=1",
        "..%3b",
        "..%3bx=1",
        "..%253b",
        ".;",
        "a;x=1",
        "a%3bx",
        "%2f",
        "%2f%2f",
        "%2fadmin",
        "%00",
        "a%00b",
        "%0d%0aHost:%20evil.example",
        "x%3fadmin=1",
        "x%23f",
        "x%2523f",
        "~",
        "%ff",
        "a%20b",
        "@evil.example",
        "user:pw@evil.example",
        "%40evil.example",
        "a:b",
        "",
        "[::1]",
        "%5b::1%5d",
        "*",
        "%c0%ae%c0%ae",
        "%e2%80%ae",
        "index.json",
        "-",
        "@a%2f..",
        "@a%2fb",
    ]
    .iter()
    .map(|it| (*it).to_owned())
    .collect();
    for scheme in ["http:", "HTTP:", "http%3a", "https:", "file:"] {
        for slashes in ["", "/", "//", "%2f%2f", "%5c%5c", "%252f%252f"] {
            all.push(format!("{scheme}{slashes}{inside}"));
        }
    }
    all.extend([
        format!("%2f%2f{inside}"),
        format!("//{inside}"),
        format!("%5c%5c{inside}"),
        inside.to_owned(),
        inside.replace(':', "%3a"),
    ]);
    all
}

/// Paths in which `{}` is such a segment.
const PATHS: [(&str, &[&str]); 4] = [
    (
        "npm",
        &[
            "{}",
            "@a/{}",
            "@{}/a",
            "a/{}",
            "a/-/{}",
            "{}/-/a-1.0.0.tgz",
            "@a%2f{}",
            "-/package/{}/dist-tags",
            "-/npm/v1/attestations/{}",
            "-/npm/v1/attestations/a@{}",
            "-/npm/v1/{}",
            "-/v1/search?text={}",
            "a/{}/-/a-1.0.0.tgz",
            "a/-rev/{}",
            "-/package/a/dist-tags/{}",
            "files/{}/a.tgz",
        ],
    ),
    (
        "pypi",
        &[
            "simple/{}/",
            "simple/{}",
            "simple/a/{}",
            "simple/a/{}/a-1.0.tar.gz",
            "simple/a/files.example/{}/a-1.0.tar.gz",
            "simple/a/+http/{}/a-1.0.tar.gz",
            "pypi/{}/json",
            "pypi/a/{}/json",
            "{}",
            "legacy/{}",
        ],
    ),
    (
        "maven",
        &[
            "{}",
            "org/x/{}",
            "org/{}/lib/1.0/lib-1.0.jar",
            "org/x/lib/{}/lib-1.0.jar",
            "org/x/lib/1.0/{}",
            "org/x/lib/1.0/lib-1.0.jar/{}",
            "org/x/{}/maven-metadata.xml",
            "{}/maven-metadata.xml.sha1",
            "{}/archetype-catalog.xml",
        ],
    ),
    (
        "nuget",
        &[
            "v3/flat/{}/index.json",
            "v3/flat/a/{}/a.1.0.0.nupkg",
            "v3/flat/a/1.0.0/{}",
            "v3/registration/{}/index.json",
            "v3/registration/a/{}",
            "v3/registration-gz/a/page/{}/1.0.0.json",
            "v3/registration-gz-semver2/a/{}",
            "v3/catalog/{}",
            "v3/elsewhere/{}",
            "v3/query?q={}",
            "v3/autocomplete?q={}",
            "v3/{}",
            "{}",
            "api/v2/package/{}",
            "api/v2/package/a/{}",
            "api/v2/symbolpackage/{}",
        ],
    ),
];

/// Whether a server that decodes again, or drops path parameters, still finds it below the base.
fn is_below_base(path: &str) -> bool {
    let mut path = path.to_owned();
    loop {
        let mut plain = path.split('/').map(|it| it.split(';').next().unwrap());
        if !path.starts_with("/base/") || plain.any(|it| it == "." || it == "..") {
            return false;
        }
        let decoded = percent_decode_str(&path)
            .decode_utf8_lossy()
            .replace('\\', "/");
        if decoded == path {
            return true;
        }
        path = decoded;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_however_encoded_makes_a_request_outside_the_connections_base() {
    let (upstream, inside) = (Upstream::start().await, Upstream::start().await);
    serve_index(&upstream);
    let larder = TestLarder::with(&config(&upstream)).await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let segments = segments(&inside.address);
    let mut sent = 0;
    for (format, paths) in PATHS {
        for (path, segment) in paths
            .iter()
            .flat_map(|path| segments.iter().map(move |segment| (path, segment)))
        {
            let rest = path.replace("{}", segment);
            let asked = [
                (Method::GET, "public"),
                (Method::PUT, &*format!("to-{format}")),
                (Method::DELETE, &*format!("to-{format}")),
            ]
            .map(|(method, repository)| {
                (
                    method,
                    format!("{}/{format}/{repository}/{rest}", larder.url),
                )
            });
            for (method, address) in asked {
                // What no client could write is not a path.
                let Ok(uri) = address.parse::<Uri>() else {
                    continue;
                };
                let request = Request::builder().method(method.clone()).uri(uri);
                let response = client.request(request.body(Full::default()).unwrap()).await;
                let response = response.unwrap();
                response.into_body().collect().await.unwrap();
                sent += 1;
                assert_eq!(inside.seen().len(), 0, "{method} {address}");
                for seen in upstream.seen() {
                    assert!(
                        is_below_base(&seen.path),
                        "{method} {address} asked for {}",
                        seen.path
                    );
                }
                upstream.forget_seen();
            }
        }
    }
    println!("{sent} paths, none of which left its connection's base");
    assert!(sent > 5000, "{sent}");
}
