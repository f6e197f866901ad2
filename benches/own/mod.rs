//! A Larder with a repository of its own, and what is published there.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use larder::Larder;
use larder::config::{Config, ConfigSource, Learned, load};
use larder::server::Listener;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const CONFIG: &str =
    "listen = \"127.0.0.1:0\"\n[[repository]]\nname = \"team\"\npublish = \"local\"\n";

pub fn config(folder: &Path) -> Config {
    let source = ConfigSource {
        file: "bench".to_owned(),
        text: CONFIG.to_owned(),
        environment: Vec::new(),
    };
    let learned = Learned {
        data_dir: Some(folder.to_owned()),
        ..Learned::default()
    };
    load(&source, &learned).unwrap()
}

/// Starts a Larder in the folder, which serves until the token is cancelled.
pub async fn start(folder: &Path) -> (Arc<Larder>, String, CancellationToken) {
    let larder = Larder::start(config(folder)).await.unwrap();
    let listener = Listener::bind(&larder).await.unwrap();
    let url = listener.url();
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(stop.clone()));
    (larder, url, stop)
}

/// What `npm publish` sends, with a file of this content in the package.
pub fn document(name: &str, version: &str, content: &[u8]) -> Vec<u8> {
    let manifest =
        json!({ "name": name, "version": version, "dependencies": { "left-pad": "^1.3.0" } });
    let text = manifest.to_string();
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes).unwrap();
    };
    add("package/package.json", text.as_bytes());
    if !content.is_empty() {
        add("package/content", content);
    }
    let mut encoder = archive.into_inner().unwrap();
    encoder.flush().unwrap();
    let data = base64::engine::general_purpose::STANDARD.encode(encoder.finish().unwrap());
    json!({
        "name": name, "dist-tags": { "latest": version }, "versions": { version: manifest },
        "_attachments": { format!("{name}-{version}.tgz"): { "data": data } },
    })
    .to_string()
    .into_bytes()
}

/// Publishes the document; how long the answer took.
pub async fn publish(http: &reqwest::Client, url: &str, name: &str, body: Vec<u8>) -> Duration {
    let started = Instant::now();
    let response = http
        .put(format!("{url}/npm/team/{name}"))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    started.elapsed()
}
