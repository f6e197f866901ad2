//! A bad day, fault by fault: what is served, what is refused, what the log says, and that nothing that
//! was acknowledged is lost. Each row is a test.
//!
//! | fault | served | refused | log |
//! | --- | --- | --- | --- |
//! | `disk::full` | what is here; the rest is passed on | a publish: 503, `cache.min_free` | one WARN at its begin, one at its end |
//! | `disk::nearly_full` | everything | | |
//! | `disk::full_at_the_start` | the same, after a stop or a kill | | WARN: the disk is full |
//! | `disk::below_min_free` | everything | a publish: 503, `cache.min_free` | one WARN; nothing is fetched ahead |
//! | `disk::read_only` | what is here; the rest is passed on | a publish: 5xx | one WARN |
//! | `disk::no_inodes` | what is here; the rest is passed on | a publish: 5xx | one WARN |
//! | `disk::no_descriptors` | sockets that are open | 5xx, and none is taken for a file | WARN; it heals by itself |
//! | `disk::a_pool_is_whole_again` | | publishes, while there is no room | |
//! | `catalog::cache_*` | all: own packages from here, others fetched again | | WARN: laid aside |
//! | `catalog::packages_*` | | the start | what to do |
//! | `file::*` | a cached file: fetched again | a published one: 500 to GET, HEAD and conditions | WARN |
//! | `clock::*` | everything | a token of a clock years ahead | |
//! | `database::away` | what is here, also what is published | a publish: 503 with Retry-After, within seconds | one WARN when it goes, one when it is back; `/-/ready` and `larder_database_away` say so |
//! | `database::another` | | the start, on a database that is not last time's, or that another Larder uses | what to do |
//! | `check::*` | | what a start refuses | `larder check` says the same, and changes nothing |
//! | `load::*` | what is cached, and own packages that were read before | publishes, and reads of what came just now: 503, within seconds | it heals by itself |
//! | `stop::*` | | | |

mod catalog;
mod check;
mod clock;
mod database;
mod disk;
mod file;
mod load;
mod stop;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::command::{Served, Setup};
use crate::publish::{TEAM, npm_document};
use crate::support::database::on_sqlite;
use crate::support::disk::{Mount, fill};
use crate::support::larder::config;
use crate::support::npm::{publish, tarball, version};
use crate::support::{Upstream, sha256};

/// No answer and no end takes longer, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

const OWN: &str = "/npm/team/acme/-/acme-1.0.0.tgz";
const WARM: &str = "/npm/team/warm/-/warm-1.0.0.tgz";

/// A Larder with a package of its own and one of its registry's, before the fault.
struct Day {
    upstream: Upstream,
    setup: Setup,
    http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Said {
    status: u16,
    body: Bytes,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Day {
    async fn new(more: &str) -> Self {
        Self::with(more, "").await
    }

    /// With its packages in `packages.sqlite`, which is what the test is about.
    async fn on_sqlite(more: &str) -> Self {
        let day = Self::new(more).await;
        let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
        day.setup.configure(&on_sqlite(&text));
        day
    }

    /// With tables that stand at the end of the configuration.
    async fn with(more: &str, tables: &str) -> Self {
        let upstream = Upstream::start().await;
        for name in ["warm", "cold", "colder", "coldest"] {
            publish(&upstream, name, &[version("1.0.0", &[])]);
        }
        let text = format!("[cache]\nrendered_disk = 0\n{more}");
        let setup = Setup::new(&format!("{}{TEAM}{tables}", config(&upstream, &text)));
        let http = reqwest::Client::builder().timeout(PATIENCE);
        Self {
            upstream,
            setup,
            http: http.build().unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.setup.folder.path().join("data")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    /// The file of a stored blob.
    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let name = sha256(bytes);
        self.at("blobs/sha256").join(&name[..2]).join(name)
    }

    /// Serves, with something published and something fetched.
    async fn begin(&self) -> Served {
        let served = self.setup.serve().await;
        self.put(&served, "acme").await.expect(201);
        self.get(&served, WARM).await.expect(200);
        served
    }

    async fn ask(&self, method: Method, url: &str, path: &str, body: Option<Bytes>) -> Said {
        let request = self.http.request(method, format!("{url}{path}"));
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body),
            None => request,
        };
        let response = request.send().await.unwrap();
        Said {
            status: response.status().as_u16(),
            body: response.bytes().await.unwrap(),
        }
    }

    async fn get(&self, served: &Served, path: &str) -> Said {
        self.ask(Method::GET, &served.url, path, None).await
    }

    async fn put(&self, served: &Served, name: &str) -> Said {
        let document = npm_document(name, "1.0.0", &own(name));
        let path = format!("/npm/team/{name}");
        self.ask(Method::PUT, &served.url, &path, Some(document))
            .await
    }

    /// What was published before, and what came before, is served.
    async fn has_what_it_had(&self, served: &Served) {
        assert_eq!(self.get(served, OWN).await.expect(200).body, own("acme"));
        let warm = tarball("warm", "1.0.0", &[]);
        assert_eq!(self.get(served, WARM).await.expect(200).body, warm);
    }

    /// What is not here comes, with its document before or without it.
    async fn passes_on(&self, served: &Served, name: &str) {
        let path = format!("/npm/team/{name}");
        let document = self.get(served, &path).await.expect(200);
        assert!(document.text().contains(name));
        let path = format!("/npm/team/{name}/-/{name}-1.0.0.tgz");
        let file = self.get(served, &path).await.expect(200);
        assert_eq!(file.body, tarball(name, "1.0.0", &[]), "{name}");
    }

    /// A start that comes to nothing; what it says.
    async fn refuses_to_start(&self) -> String {
        let run = self.setup.run(&["serve", "--listen", "127.0.0.1:0"]);
        let output = timeout(PATIENCE, run).await.expect("it starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr)
            .lines()
            .find_map(|line| line.strip_prefix("larder: "))
            .expect("it says why")
            .to_owned()
    }
}

impl Said {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A socket over which one request goes after the other.
struct OneSocket(BufReader<TcpStream>);

impl OneSocket {
    async fn to(served: &Served) -> Self {
        let address = served.url.trim_start_matches("http://");
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    async fn get(&mut self, path: &str) -> Said {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let line = line.trim_end().to_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Said {
            status,
            body: body.into(),
        }
    }
}

/// The tarball of a package of our own.
fn own(name: &str) -> Vec<u8> {
    tarball(name, "1.0.0", &[("own", "*")])
}

/// Ends a process as a crash does.
async fn kill(mut served: Served) {
    served.signal(rustix::process::Signal::KILL);
    served.child.wait().await.unwrap();
}

/// Stops it, and gives its log.
async fn stop(mut served: Served) -> String {
    served.signal(rustix::process::Signal::TERM);
    let rest = timeout(PATIENCE, served.rest()).await.expect("it ends");
    assert_eq!(served.child.wait().await.unwrap().code(), Some(0));
    served.begun + &rest
}

/// The lines of a log that warn, and have these words.
fn warnings<'a>(log: &'a str, words: &str) -> Vec<&'a str> {
    let is_one = |line: &&str| line.contains("\"WARN\"") && line.contains(words);
    log.lines().filter(is_one).collect()
}
