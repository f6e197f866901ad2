//! A Larder in this process, on a port and in a data directory of its own.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use larder::Larder;
use larder::config::{ConfigSource, Learned, load};
use larder::server::Listener;
use reqwest::header::HeaderMap;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::Upstream;

pub struct TestLarder {
    pub larder: Arc<Larder>,
    pub url: String,
    pub data: TempDir,
    http: reqwest::Client,
    stop: CancellationToken,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// What came of the body, and whether it came to its end.
    pub body: Result<Bytes, String>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn bytes(&self) -> &Bytes {
        self.body.as_ref().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let said = self
            .body
            .as_ref()
            .map(|body| String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned());
        assert_eq!(self.status, status, "{said:?}");
        self
    }
}

/// A configuration with one connection of each format below the upstream. Nothing is fetched ahead
/// of the client, so that every request to upstream is one that the test made.
pub fn config(upstream: &Upstream, more: &str) -> String {
    let url = upstream.url();
    format!(
        "listen = \"127.0.0.1:0\"\n{more}\n[ahead]\nenabled = false\n\
         [[connection]]\nname = \"up:npm\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n\
         [[connection]]\nname = \"up:pypi\"\nformat = \"pypi\"\nurl = \"{url}/simple/\"\n\
         [[connection]]\nname = \"up:maven\"\nformat = \"maven\"\nurl = \"{url}/maven2/\"\n\
         [[connection]]\nname = \"up:nuget\"\nformat = \"nuget\"\nurl = \"{url}/v3/index.json\"\n"
    )
}

/// Retries and rests as short as tests need them.
pub const IMPATIENT: &str = "[fetch]\nretries = 2\npatience = \"3s\"\nstale_after = \"2s\"\nread_timeout = \"1s\"\nrest = \"100ms\"\n[cache]\nrendered_disk = 0\nmin_free = 0\n";

impl TestLarder {
    /// Gives a version of a package of one's own another status, as `larder status` does.
    pub async fn set_status(
        &self,
        repository: &str,
        package: &str,
        version: &str,
        status: larder::package::Status,
    ) {
        let command = larder::repository::manage::ManageCommand::Status {
            repository: repository.to_owned(),
            package: package.to_owned(),
            versions: vec![version.to_owned()],
            from: Vec::new(),
            status,
        };
        let manager = &self.larder.manager;
        manager
            .execute(&self.larder.snapshot(), command)
            .await
            .unwrap();
    }

    pub async fn start(upstream: &Upstream) -> Self {
        Self::with(&config(upstream, IMPATIENT)).await
    }

    /// With rules, or other tables that stand at the end.
    pub async fn start_and(upstream: &Upstream, tables: &str) -> Self {
        Self::with(&format!("{}{tables}", config(upstream, IMPATIENT))).await
    }

    pub async fn with(text: &str) -> Self {
        Self::in_dir(text, TempDir::new().unwrap()).await
    }

    pub async fn in_dir(text: &str, data: TempDir) -> Self {
        let config = load(&source(text, data.path()), &learned(&data))
            .unwrap_or_else(|faults| panic!("{faults}"));
        let larder = Larder::start(config).await.unwrap();
        let listener = Listener::bind(&larder).await.unwrap();
        let (url, stop) = (listener.url(), CancellationToken::new());
        tokio::spawn(listener.serve(stop.clone()));
        Self {
            larder,
            url,
            data,
            http: reqwest::Client::builder()
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            stop,
        }
    }

    /// Puts another configuration in force.
    pub async fn reload(&self, text: &str) {
        let config = load(&source(text, self.data.path()), &learned(&self.data))
            .unwrap_or_else(|faults| panic!("{faults}"));
        self.larder.reload(config).await.unwrap();
    }

    /// Stops, and hands back the data directory for another.
    pub async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        self.larder.stop().await;
        let kept = std::mem::replace(&mut self.data, TempDir::new().unwrap());
        drop(self);
        // The directory's lock goes with the last socket's task that holds the store.
        super::until("the directory's lock is free", async || {
            larder::store::holder(kept.path()).is_none()
        })
        .await;
        kept
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(reqwest::Method::GET, path, headers, None).await
    }

    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.map_err(|error| format!("{error:?}")),
        }
    }

    /// Whether the answer cannot be taken for the whole: it breaks off in its body, before its head
    /// where the failure was quicker than that, or is an error of the registry's.
    pub async fn is_cut(&self, path: &str) -> bool {
        match self.http.get(format!("{}{path}", self.url)).send().await {
            Ok(response) if response.status() == 200 => response.bytes().await.is_err(),
            Ok(response) => response.status() == 502,
            Err(error) => !error.is_connect(),
        }
    }

    /// A request whose body is read by the test.
    pub async fn open(&self, path: &str) -> reqwest::Response {
        self.http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    pub fn blobs(&self) -> usize {
        files_below(&self.data.path().join("blobs"))
    }

    /// Nothing is kept, and nothing half done is left.
    pub async fn assert_nothing_kept(&self) {
        assert_eq!(self.blobs(), 0);
        let partial = self.data.path().join("partial");
        super::until("nothing half done is left", async || {
            files_below(&partial) == 0
        })
        .await;
    }
}

impl Drop for TestLarder {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The configuration of a Larder on this data directory.
pub fn source(text: &str, data: &Path) -> ConfigSource {
    let database = super::database::variable(data, text);
    let environment = database.map(|(name, value)| (name.to_owned(), value));
    ConfigSource {
        file: "test.toml".to_owned(),
        text: text.to_owned(),
        environment: environment.into_iter().collect(),
    }
}

fn learned(data: &TempDir) -> Learned {
    Learned {
        data_dir: Some(data.path().to_owned()),
        ..Learned::default()
    }
}

fn files_below(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| {
                if entry.path().is_dir() {
                    files_below(&entry.path())
                } else {
                    1
                }
            })
            .sum()
    })
}

impl TestLarder {
    /// No asset is kept, though documents may be: the one blob there can be is the package's
    /// document.
    pub async fn assert_nothing_kept_of_assets(&self) {
        assert!(self.blobs() <= 1, "{} blobs", self.blobs());
        let partial = self.data.path().join("partial");
        super::until("nothing half done is left", async || {
            files_below(&partial) == 0
        })
        .await;
    }
}

impl TestLarder {
    /// Waits until these bytes are stored, or are no longer.
    pub async fn wait_for_blob(&self, bytes: &[u8], stored: bool) {
        let name = super::sha256(bytes);
        let file = self
            .data
            .path()
            .join("blobs/sha256")
            .join(&name[..2])
            .join(&name);
        super::until("the blob is stored, or gone", async || {
            file.exists() == stored
        })
        .await;
    }
}
