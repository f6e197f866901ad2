//! Answers from a warm cache, under load.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Options;
use super::chart::{self, Group};
use super::load::{self, Load};
use super::registry;
use super::servers::{Kind, Server};
use super::table::{Samples, Table, short};
use super::upstream::{Line, Upstream};

const KINDS: [Kind; 3] = [Kind::Nginx, Kind::Varnish, Kind::Larder];

struct Work {
    name: &'static str,
    path: &'static str,
    gzip: bool,
    sockets: usize,
    /// Counted in bytes rather than in requests.
    bulk: bool,
}

const WORKS: [Work; 7] = [
    work("30 KB document, gzip", "small-doc", true, 64, false),
    work("30 KB document, plain", "small-doc", false, 64, false),
    work("5.8 MB document, gzip", "large-doc", true, 16, false),
    work("5.8 MB document, plain", "large-doc", false, 16, false),
    work(
        "10 KB blob",
        "file-10k/-/file-10k-0.0.0.tgz",
        false,
        64,
        false,
    ),
    work("1 MB blob", "file-1m/-/file-1m-0.0.0.tgz", false, 16, true),
    work(
        "100 MB blob",
        "file-100m/-/file-100m-0.0.0.tgz",
        false,
        4,
        true,
    ),
];

const fn work(
    name: &'static str,
    path: &'static str,
    gzip: bool,
    sockets: usize,
    bulk: bool,
) -> Work {
    Work {
        name,
        path,
        gzip,
        sockets,
        bulk,
    }
}

pub fn run(options: &Options, folder: &Path) {
    let upstream = Upstream::start(Line::default(), registry::sizes);
    let servers: Vec<Server> = KINDS
        .iter()
        .map(|kind| Server::start(*kind, upstream.address, folder))
        .collect();
    println!(
        "\nWarm, {} rounds of {} s, {} cores\n",
        options.rounds,
        options.seconds,
        cores()
    );
    let mut table = Table::new(&[
        "work",
        "server",
        "requests/s",
        "MB/s",
        "CPU s/GB with the load's",
        "× nginx",
        "peak memory, MB",
    ]);
    let works = WORKS
        .iter()
        .filter(|work| work.name.contains(&options.work));
    let groups: Vec<Group> = works
        .map(|work| measure(options, &upstream, &servers, work, &mut table))
        .collect();
    if let Some(file) = &options.svg {
        let (rounds, seconds) = (options.rounds, options.seconds);
        let source = format!(
            "Medians of {rounds} rounds of {seconds} s, {} cores.",
            cores()
        );
        chart::write(&groups, &source, file);
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn measure(
    options: &Options,
    upstream: &Upstream,
    servers: &[Server],
    work: &Work,
    table: &mut Table,
) -> Group {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sizes: Vec<u64> = servers
        .iter()
        .map(|server| {
            let document = work.path.split('/').next().unwrap_or_default();
            runtime.block_on(ask(server, document, false));
            // Twice: what is checked is what comes out of the cache.
            runtime.block_on(checked(server, upstream, work));
            runtime.block_on(checked(server, upstream, work))
        })
        .collect();
    let mut requests = vec![Samples::default(); servers.len()];
    let mut megabytes = vec![Samples::default(); servers.len()];
    let mut cpu = vec![Samples::default(); servers.len()];
    for _ in 0..options.rounds {
        for (index, server) in servers.iter().enumerate() {
            let coding = if work.gzip { "gzip" } else { "identity" };
            let request = format!(
                "GET {}{} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: {coding}\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n",
                server.root(),
                work.path,
                server.address
            );
            let load = Load {
                address: server.address,
                request: request.into_bytes(),
                sockets: work.sockets,
                threads: 2,
                time: options.time(),
            };
            let before = server.cpu();
            let had = load::run(&load, sizes[index])
                .unwrap_or_else(|error| panic!("{}: {error}", work.name));
            let spent = server.cpu() - before + had.cpu;
            requests[index].push(had.requests as f64 / had.seconds);
            megabytes[index].push(had.body_bytes as f64 / 1e6 / had.seconds);
            cpu[index].push(spent / (had.body_bytes as f64 / 1e9));
        }
    }
    let of = |samples: &[Samples]| samples[0].median();
    for (index, server) in servers.iter().enumerate() {
        runtime.block_on(checked(server, upstream, work));
        let samples = if work.bulk { &megabytes } else { &requests };
        table.row(&[
            work.name.to_owned(),
            server.kind.name().to_owned(),
            requests[index].text(),
            megabytes[index].text(),
            cpu[index].text(),
            short(samples[index].median() / of(samples)),
            short(server.peak_memory() as f64 / 1e6),
        ]);
    }
    let rates = if work.bulk { &megabytes } else { &requests };
    Group {
        work: work.name.to_owned(),
        rates: [0, 1, 2].map(|server: usize| rates[server].median()),
        unit: if work.bulk { "MB/s" } else { "requests/s" },
    }
}

/// Asks once and reads it all; the body as it came.
async fn ask(server: &Server, path: &str, gzip: bool) -> (Vec<u8>, bool) {
    let coding = if gzip { "gzip" } else { "identity" };
    let client = reqwest::Client::builder().no_gzip().build().unwrap();
    let response = client
        .get(format!("{}{path}", server.url()))
        .header("accept-encoding", coding)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{}: {path}", server.kind.name());
    let coded = response.headers().get("content-encoding").is_some();
    (response.bytes().await.unwrap().to_vec(), coded)
}

/// Holds the answer's digest against the registry's, addresses apart. Returns its length as sent.
async fn checked(server: &Server, upstream: &Upstream, work: &Work) -> u64 {
    let (sent, coded) = ask(server, work.path, work.gzip).await;
    assert_eq!(coded, work.gzip, "{}: {}", server.kind.name(), work.name);
    let mut body = sent.clone();
    if coded {
        body.clear();
        flate2::read::MultiGzDecoder::new(&sent[..])
            .read_to_end(&mut body)
            .unwrap();
    }
    let expected = reqwest::get(format!("{}{}", upstream.url(), work.path))
        .await
        .unwrap();
    let expected = expected.bytes().await.unwrap();
    // Varnish rewrites nothing.
    let ours = match server.kind {
        Kind::Varnish | Kind::Direct => upstream.url(),
        _ => server.url(),
    };
    let digest = |bytes: &[u8], base: &str| {
        if work.path.ends_with(".tgz") {
            return Sha256::digest(bytes);
        }
        let text = String::from_utf8_lossy(bytes).replace(base, "{base}");
        Sha256::digest(text.as_bytes())
    };
    assert_eq!(
        digest(&body, &ours),
        digest(&expected, &upstream.url()),
        "{}: {} is not what the registry has",
        server.kind.name(),
        work.name
    );
    sent.len() as u64
}
