//! PostgreSQL fails while clients read and publish: killed, silent, read-only, full, far away, failed over.
//! Each fault lasts for two seconds, or as many as `LARDER_FAULT_SECONDS` says. A table tells what
//! clients got.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::Method;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::database::{NONE_FREE, packages};
use super::{Day, Mount, OWN, WARM, fill, own};
use crate::publish::npm_document;
use crate::support::npm::tarball;
use crate::support::postgres::{Line, LineState, Postgres};
use crate::support::{nuget, pypi, until};

/// No answer takes longer: a wait for a place, for a connection and for a statement, one after the other.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Packages of each format; their versions are what is published.
const PACKAGES: usize = 5;

fn lasting() -> Duration {
    let seconds = std::env::var("LARDER_FAULT_SECONDS").ok();
    Duration::from_secs(seconds.map_or(2, |text| text.parse().unwrap()))
}

/// Kinds of requests, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Cached,
    /// An own package that was read before and is not changed.
    Own,
    /// A file that was acknowledged a moment ago.
    Late,
    Publish(Format),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cached => f.write_str("cached"),
            Self::Own => f.write_str("own, read before"),
            Self::Late => f.write_str("own, published just now"),
            Self::Publish(format) => write!(f, "publish, {format:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Npm,
    Pypi,
    Nuget,
    Maven,
}

const FORMATS: [Format; 4] = [Format::Npm, Format::Pypi, Format::Nuget, Format::Maven];

/// One request of a publish.
struct Sending {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
}

/// A version on its way.
struct Version {
    sendings: Vec<Sending>,
    file: String,
    bytes: Vec<u8>,
}

impl Version {
    fn of(format: Format, number: usize) -> Self {
        let (package, number) = (number % PACKAGES, number / PACKAGES);
        let sending = |method, path: &str, content_type, body: Vec<u8>| Sending {
            method,
            path: path.to_owned(),
            content_type,
            body: body.into(),
        };
        let octets = "application/octet-stream";
        match format {
            Format::Npm => {
                let (name, version) = (format!("load-{package}"), format!("1.{number}.0"));
                let bytes = tarball(&name, &version, &[]);
                let document = npm_document(&name, &version, &bytes).to_vec();
                let path = format!("/npm/team/{name}");
                Self {
                    sendings: vec![sending(Method::PUT, &path, "application/json", document)],
                    file: format!("{path}/-/{name}-{version}.tgz"),
                    bytes,
                }
            }
            Format::Pypi => {
                let (name, version) = (format!("load-{package}"), format!("1.{number}"));
                let bytes = pypi::wheel(&name, &version, &[]);
                let file = format!("load_{package}-{version}-py3-none-any.whl");
                let form = pypi::form(&file, &bytes, &[]);
                let content_type = "multipart/form-data; boundary=B";
                Self {
                    sendings: vec![sending(Method::POST, "/pypi/team/", content_type, form)],
                    file: format!("/pypi/team/simple/{name}/-/{file}"),
                    bytes,
                }
            }
            Format::Nuget => {
                let (name, version) = (format!("load.n{package}"), format!("1.{number}.0"));
                let bytes = nuget::nupkg(&name, &version, &[]);
                let path = "/nuget/team/api/v2/package";
                Self {
                    sendings: vec![sending(Method::PUT, path, octets, bytes.clone())],
                    file: format!("/nuget/team/v3/flat/{name}/{version}/{name}.{version}.nupkg"),
                    bytes,
                }
            }
            Format::Maven => {
                let folder = format!("/maven/team/org/load/lib{package}");
                let file = format!("{folder}/{number}/lib{package}-{number}.jar");
                let bytes = format!("lib{package} {number}").into_bytes();
                let metadata = format!(
                    "<metadata><versioning><versions><version>{number}</version></versions></versioning></metadata>"
                );
                let at = format!("{folder}/maven-metadata.xml");
                Self {
                    sendings: vec![
                        sending(Method::PUT, &file, octets, bytes.clone()),
                        sending(Method::PUT, &at, "application/xml", metadata.into()),
                    ],
                    file,
                    bytes,
                }
            }
        }
    }
}

/// Answers of one kind with one status.
#[derive(Clone, Copy, Default)]
struct Answers {
    count: usize,
    longest: Duration,
}

/// Clients at a Larder whose database is at the other end of a line.
struct Load {
    day: Day,
    url: String,
    line: Line,
    seen: Mutex<BTreeMap<(Kind, u16), Answers>>,
    acknowledged: Mutex<Vec<(String, Vec<u8>)>>,
    /// Versions that were acknowledged, by format.
    published: [AtomicUsize; FORMATS.len()],
    over: CancellationToken,
}

impl Load {
    /// The answer to those who ask whether it is ready.
    async fn ready(&self) -> String {
        let address = format!("{}/-/ready", self.url);
        reqwest::get(address).await.unwrap().text().await.unwrap()
    }

    async fn on(url: &str, line: Line) -> Self {
        let day = Day::with(NONE_FREE, &packages(url)).await;
        let served = day.begin().await;
        for path in ["/npm/team/acme", OWN, "/npm/team/warm", WARM] {
            day.get(&served, path).await.expect(200);
        }
        Self {
            day,
            url: served.unread(),
            line,
            seen: Mutex::default(),
            acknowledged: Mutex::default(),
            published: Default::default(),
            over: CancellationToken::new(),
        }
    }

    /// Asks, writes down how that went, and gives the status.
    async fn ask(&self, kind: Kind, sending: &Sending) -> (u16, Bytes) {
        let begun = Instant::now();
        let url = format!("{}{}", self.url, sending.path);
        let request = self.day.http.request(sending.method.clone(), url);
        let request = request
            .header("content-type", sending.content_type)
            .body(sending.body.clone());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap();
        let mut seen = self.seen.lock().unwrap();
        let answers = seen.entry((kind, status)).or_default();
        answers.count += 1;
        answers.longest = answers.longest.max(begun.elapsed());
        if status == 500 || status == 404 {
            println!(
                "{kind:?} {} {status} {}",
                sending.path,
                String::from_utf8_lossy(&body)
            );
        }
        (status, body)
    }

    async fn read(&self, kind: Kind, path: &str, expected: Option<&[u8]>) {
        let sending = Sending {
            method: Method::GET,
            path: path.to_owned(),
            content_type: "text/plain",
            body: Bytes::new(),
        };
        let (status, body) = self.ask(kind, &sending).await;
        if let Some(expected) = expected
            && status == 200
        {
            assert_eq!(body, expected, "{path}");
        }
    }

    async fn keep_reading(&self) {
        let (own, warm) = (own("acme"), tarball("warm", "1.0.0", &[]));
        while !self.over.is_cancelled() {
            self.read(Kind::Own, "/npm/team/acme", None).await;
            self.read(Kind::Own, OWN, Some(&own)).await;
            self.read(Kind::Cached, "/npm/team/warm", None).await;
            self.read(Kind::Cached, WARM, Some(&warm)).await;
            let late = self.acknowledged.lock().unwrap().last().cloned();
            if let Some((path, bytes)) = late {
                self.read(Kind::Late, &path, Some(&bytes)).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn keep_publishing(&self, format: Format) {
        for number in 0.. {
            let version = Version::of(format, number);
            for sending in &version.sendings {
                // A client that was refused tries again.
                let mut was_refused = false;
                loop {
                    if self.over.is_cancelled() {
                        return;
                    }
                    let (status, body) = self.ask(Kind::Publish(format), sending).await;
                    match status {
                        200 | 201 => break,
                        // What was answered with 503 may have been done.
                        409 if was_refused => break,
                        503 => was_refused = true,
                        _ => panic!("{status} {}", String::from_utf8_lossy(&body)),
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
            let known = (version.file, version.bytes);
            self.acknowledged.lock().unwrap().push(known);
            self.published[format as usize].fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until more is published in each format.
    async fn publishes(&self) {
        let now = || {
            let counts = self.published.iter();
            counts
                .map(|it| it.load(Ordering::Relaxed))
                .collect::<Vec<_>>()
        };
        let before = now();
        until("it is published in each format", async || {
            now().iter().zip(&before).all(|(now, before)| now > before)
        })
        .await;
    }

    /// Lets the fault happen beside the clients' requests, and looks at what became of them.
    async fn suffers(&self, name: &str, fault: impl AsyncFnOnce()) {
        let course = async {
            self.publishes().await;
            fault().await;
            let ended = Instant::now();
            self.publishes().await;
            let healed = ended.elapsed();
            self.publishes().await;
            self.over.cancel();
            healed
        };
        let readers = join_all((0..3).map(|_| self.keep_reading()));
        let publishers = join_all(FORMATS.map(|format| self.keep_publishing(format)));
        let (healed, _, _) = tokio::join!(course, readers, publishers);

        let acknowledged = self.acknowledged.lock().unwrap().clone();
        for (path, bytes) in &acknowledged {
            let url = format!("{}{path}", self.url);
            let found = self.day.http.get(url).send().await.unwrap();
            assert_eq!(found.status(), 200, "{path}");
            assert_eq!(found.bytes().await.unwrap(), bytes, "{path}");
        }
        println!("{}", self.table(name, acknowledged.len(), healed));
        for ((kind, status), answers) in &*self.seen.lock().unwrap() {
            let may_be_refused = !matches!(kind, Kind::Cached | Kind::Own);
            assert!(
                matches!(status, 200 | 201 | 409) || *status == 503 && may_be_refused,
                "{kind:?}: {status}"
            );
            assert!(
                answers.longest < WAIT_MAX,
                "{kind:?} {status}: {:?}",
                answers.longest
            );
        }
    }

    fn table(&self, name: &str, acknowledged: usize, healed: Duration) -> String {
        let mut table = format!(
            "| {name} | {acknowledged} versions acknowledged, all there | healed {} ms after |\n",
            healed.as_millis()
        );
        let mut kinds: BTreeMap<Kind, (String, Duration)> = BTreeMap::new();
        for ((kind, status), answers) in &*self.seen.lock().unwrap() {
            let (text, longest) = kinds.entry(*kind).or_default();
            let _ = write!(text, "{} × {status}, ", answers.count);
            *longest = answers.longest.max(*longest);
        }
        for (kind, (text, longest)) in kinds {
            let text = text.trim_end_matches(", ");
            let _ = writeln!(
                table,
                "| {kind} | {text} | longest {} ms |",
                longest.as_millis()
            );
        }
        table
    }
}

/// A Larder whose database is the server's own, at the other end of a line.
async fn load(postgres: &Postgres) -> Load {
    let line = Line::to(postgres.port()).await;
    Load::on(&postgres.by(line.port), line).await
}

/// How long a server that is killed again and again is away, and there, at most.
const TURN_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let postgres = Postgres::start(&[]).await;
    let load = load(&postgres).await;
    let until = lasting();
    let turn = (until / 2).min(TURN_MAX);
    let fault = async || {
        let begun = Instant::now();
        while begun.elapsed() < until {
            postgres.kill();
            sleep(turn).await;
            postgres.begin_again().await;
            sleep(turn).await;
        }
    };
    load.suffers("killed", fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent() {
    let postgres = Postgres::start(&[]).await;
    let load = load(&postgres).await;
    let fault = async || {
        load.line.set(LineState::Silent);
        sleep(lasting()).await;
        load.line.set(LineState::Passes);
    };
    load.suffers("silent", fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only() {
    let postgres = Postgres::start(&[]).await;
    let load = load(&postgres).await;
    let fault = async || {
        let sql = "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()";
        postgres.execute(sql).await;
        sleep(lasting()).await;
        let ready = load.ready().await;
        assert!(ready.contains("takes no changes"), "{ready}");
        let sql = "SET default_transaction_read_only = off; \
                   ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()";
        postgres.execute(sql).await;
    };
    load.suffers("read-only", fault).await;
    until("it takes changes again", async || {
        load.ready().await == "ready\n"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full() {
    let postgres = Postgres::start(&[]).await;
    let small = postgres.folder.path().join("small");
    let Some(mount) = Mount::new(&small, "size=24m,mode=0777") else {
        println!("not tried: this user may not mount a small file system");
        return;
    };
    let url = postgres.database_in("small", &small.join("tables")).await;
    let line = Line::to(postgres.port()).await;
    let [from, to] = [postgres.port(), line.port].map(|port| format!(":{port}/"));
    let load = Load::on(&url.replace(&from, &to), line).await;
    let fault = async || {
        let file = fill(&small);
        sleep(lasting()).await;
        std::fs::remove_file(file).unwrap();
    };
    load.suffers("full", fault).await;
    drop((load, postgres, mount));
}

#[tokio::test(flavor = "multi_thread")]
async fn far_away() {
    let postgres = Postgres::start(&[]).await;
    let load = load(&postgres).await;
    let fault = async || {
        load.line.set(LineState::Late(Duration::from_millis(100)));
        sleep(lasting()).await;
        load.line.set(LineState::Passes);
    };
    load.suffers("200 ms away", fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_over() {
    let first = Postgres::start(&[]).await;
    let standby = first.standby().await;
    let load = load(&first).await;
    let fault = async || {
        first.kill();
        load.line.set(LineState::Refuses);
        sleep(lasting() / 2).await;
        standby.promote().await;
        load.line.lead_to(standby.port());
        load.line.set(LineState::Passes);
        sleep(lasting() / 2).await;
    };
    load.suffers("failed over", fault).await;
}
