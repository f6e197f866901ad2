//! Small answers with the log at its default level beside the same without it. Both write to a file.
//!
//! `cargo bench --bench versus -- log --rounds 9`: the two take turns, each round in the other
//! order, and what counts is the median of the rounds' ratios. The mark is 0.95.

use std::path::Path;

use super::Options;
use super::load::{self, Load};
use super::registry;
use super::servers::{Kind, Server};
use super::table::{Samples, Table};
use super::upstream::{Line, Upstream};
use super::warm::cores;

const WORKS: [(&str, &str); 3] = [
    ("1 KB blob", "file-1k/-/file-1k-0.0.0.tgz"),
    ("10 KB blob", "file-10k/-/file-10k-0.0.0.tgz"),
    ("30 KB document, plain", "small-doc"),
];

pub fn run(options: &Options, folder: &Path) {
    let upstream = Upstream::start(Line::default(), registry::sizes);
    let without = Server::start(Kind::Larder, upstream.address, folder);
    let with = Server::start(Kind::Logged, upstream.address, folder);
    println!(
        "\nThe log, {} rounds of {} s, {} cores\n",
        options.rounds,
        options.seconds,
        cores()
    );
    let mut table = Table::new(&[
        "work",
        "requests/s without",
        "requests/s with",
        "with : without",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let works = WORKS.iter();
    for (name, path) in works.filter(|(name, _)| name.contains(&options.work)) {
        let size = |server: &Server| {
            let mut size = 0;
            for _ in 0..2 {
                size = runtime.block_on(length(server, path));
            }
            size
        };
        let sizes = (size(&without), size(&with));
        let mut samples: [Samples; 3] = Default::default();
        for round in 0..options.rounds {
            let ask = |server: &Server, size| rate(options, server, path, size);
            let (plain, logged) = if round % 2 == 0 {
                let plain = ask(&without, sizes.0);
                (plain, ask(&with, sizes.1))
            } else {
                let logged = ask(&with, sizes.1);
                (ask(&without, sizes.0), logged)
            };
            samples[0].push(plain);
            samples[1].push(logged);
            samples[2].push(logged / plain);
        }
        table.row(&[
            (*name).to_owned(),
            samples[0].text(),
            samples[1].text(),
            samples[2].text(),
        ]);
    }
    let lines = std::fs::read_to_string(with.folder.join("log")).unwrap();
    let lines = lines.lines().filter(|line| line.contains("\"cache\":"));
    println!("\n{} lines in the log", lines.count());
}

async fn length(server: &Server, path: &str) -> u64 {
    let response = reqwest::get(format!("{}{path}", server.url()))
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.bytes().await.unwrap().len() as u64
}

/// Requests a second.
fn rate(options: &Options, server: &Server, path: &str, size: u64) -> f64 {
    let request = format!(
        "GET {}{path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: identity\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n",
        server.root(),
        server.address
    );
    let load = Load {
        address: server.address,
        request: request.into_bytes(),
        sockets: 64,
        threads: 2,
        time: options.time(),
    };
    let had = load::run(&load, size).unwrap_or_else(|error| panic!("{path}: {error}"));
    had.requests as f64 / had.seconds
}
