//! The process itself: how soon it serves with a million blobs in the store, what it holds when it
//! idles, and whether that grows with what it answers.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::format::path::last_segment;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::load::{self, Load};
use super::registry;
use super::servers::{Kind, Server};
use super::table::{Samples, Table};
use super::upstream::{Line, Upstream};

const BLOBS: u64 = 1_000_000;
const REQUESTS: u64 = 1_000_000;

pub fn run(folder: &Path) {
    let upstream = Upstream::start(Line::default(), registry::sizes);
    println!("\nThe process\n");
    let mut table = Table::new(&["what", "measured"]);
    let mut row = |what: &str, measured: String| table.row(&[what.to_owned(), measured]);
    // Makes the data directory and its catalog.
    let server = Server::start(Kind::Larder, upstream.address, folder);
    let place = server.folder.clone();
    drop(server);
    fill(&place.join("data/larder.sqlite"));
    let mut ready = Samples::default();
    for _ in 0..9 {
        let started = Instant::now();
        let server = Server::start_again(Kind::Larder, upstream.address, &place);
        ask(&server, "/-/ready");
        ready.push(started.elapsed().as_secs_f64() * 1e3);
    }
    row("ready with 1,000,000 stored blobs, ms", ready.text());
    let server = Server::start_again(Kind::Larder, upstream.address, &place);
    std::thread::sleep(Duration::from_secs(2));
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    row("resident when idle, MB", megabytes(server.resident()));
    let (mut count, mut marks) = (0, [REQUESTS / 5, REQUESTS].into_iter().peekable());
    while let Some(mark) = marks.peek().copied() {
        count += mixed(&server);
        if count >= mark {
            marks.next();
            let what = format!("resident after {count} mixed requests, MB");
            row(&what, megabytes(server.resident()));
        }
    }
}

/// A second of each kind of request; how many there were.
fn mixed(server: &Server) -> u64 {
    [
        "small-doc",
        "file-10k/-/file-10k-0.0.0.tgz",
        "file-1m/-/file-1m-0.0.0.tgz",
        "large-doc",
        "file-100m/-/file-100m-0.0.0.tgz",
    ]
    .iter()
    .map(|path| {
        let path = format!("{}{path}", server.root());
        ask(server, &format!("{}{}", server.root(), last_segment(&path)));
        let size = ask(server, &path);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        let load = Load {
            address: server.address,
            request: request.into_bytes(),
            sockets: 16,
            threads: 2,
            time: Duration::from_secs(1),
        };
        load::run(&load, size)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .requests
    })
    .sum()
}

/// Asks once; the length of the answer's body.
fn ask(server: &Server, path: &str) -> u64 {
    let mut socket = TcpStream::connect(server.address).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.address
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap();
    (answer.len() - end - 4) as u64
}

/// Rows of blobs and of the assets that they are: what a store of that size has in its catalog.
fn fill(catalog: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", catalog.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BLOBS})");
        for statement in [
            "BEGIN".to_owned(),
            format!("{numbers} INSERT INTO blob (id, size, stored_at, used_at, reused) SELECT randomblob(32), 10000, i, i, i % 2 FROM n"),
            "INSERT INTO asset (connection, package, file, version, blob, size, media_type, first_seen, fetch_ms) \
             SELECT 'npm', 'npm:p' || stored_at, 'p-1.0.0.tgz', '1.0.0', id, size, '', 0, 1 FROM blob".to_owned(),
            "COMMIT".to_owned(),
        ] {
            connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        }
    });
    let size = fs::metadata(catalog).unwrap().len();
    println!(
        "(the catalog of {BLOBS} blobs takes {} MB on disk)",
        size / 1_000_000
    );
}
