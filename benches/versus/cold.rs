//! Files that no cache has: how long until the first byte and the last, for one client and for
//! fifty at once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::Options;
use super::registry::{self, Numbers};
use super::servers::{Kind, Server};
use super::table::{Samples, Table, short};
use super::upstream::{Line, Upstream};

const FAR: Line = Line {
    round_trip: Duration::from_millis(30),
    width: 100_000_000,
};
const CLIENTS: usize = 50;

pub fn run(options: &Options, folder: &Path) {
    let wants = |name: &str| name.contains(&options.work);
    println!("\nCold, {} rounds\n", options.rounds);
    let mut table = Table::new(&["work", "server", "first byte, ms", "whole, ms", "× direct"]);
    for (name, line) in [
        ("100 MB at 30 ms and 100 MB/s", FAR),
        ("100 MB on loopback", Line::default()),
    ] {
        if wants(name) {
            one_client(options, folder, name, line, &mut table);
        }
    }
    if wants("50 clients") {
        stampede(options, folder);
    }
}

fn one_client(options: &Options, folder: &Path, name: &str, line: Line, table: &mut Table) {
    let kinds = [Kind::Direct, Kind::Nginx, Kind::Varnish, Kind::Larder];
    let upstream = Upstream::start(line, registry::sizes);
    let servers: Vec<Server> = kinds
        .iter()
        .map(|kind| Server::start(*kind, upstream.address, folder))
        .collect();
    let mut first = vec![Samples::default(); kinds.len()];
    let mut whole = vec![Samples::default(); kinds.len()];
    for round in 0..options.rounds.min(registry::COLD) {
        for (index, server) in servers.iter().enumerate() {
            // As a client does: the document is asked for first, and names the file.
            fetch(
                server.address,
                &format!("{}file-100m", server.root()),
                false,
            );
            let path = format!("{}file-100m/-/file-100m-{round}.0.0.tgz", server.root());
            let got = fetch(server.address, &path, round == 0);
            assert_eq!(got.bytes, 100_000_000, "{}", server.kind.name());
            if round == 0 {
                assert_eq!(got.digest, digest(100_000_000), "{}", server.kind.name());
            } else {
                first[index].push(got.first.as_secs_f64() * 1e3);
                whole[index].push(got.whole.as_secs_f64() * 1e3);
            }
        }
    }
    for (index, server) in servers.iter().enumerate() {
        table.row(&[
            name.to_owned(),
            server.kind.name().to_owned(),
            first[index].text(),
            whole[index].text(),
            short(whole[index].median() / whole[0].median()),
        ]);
    }
}

fn stampede(options: &Options, folder: &Path) {
    let kinds = [Kind::Nginx, Kind::Varnish, Kind::Larder];
    let upstream = Upstream::start(FAR, registry::sizes);
    let servers: Vec<Server> = kinds
        .iter()
        .map(|kind| Server::start(*kind, upstream.address, folder))
        .collect();
    println!("\n{CLIENTS} clients at once on one cold 50 MB file at 100 MB/s\n");
    let mut table = Table::new(&["server", "fetches", "all have it, ms", "memory more, MB"]);
    let mut whole = vec![Samples::default(); kinds.len()];
    let mut memory = vec![Samples::default(); kinds.len()];
    let mut fetches = vec![0; kinds.len()];
    for round in 0..options.rounds.min(registry::COLD) {
        for (index, server) in servers.iter().enumerate() {
            fetch(server.address, &format!("{}file-50m", server.root()), false);
            upstream.count();
            let before = server.resident();
            server.forget_peak();
            let path = format!("{}file-50m/-/file-50m-{round}.0.0.tgz", server.root());
            let (address, together) = (server.address, Arc::new(Barrier::new(CLIENTS)));
            let started = Instant::now();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let (path, together) = (path.clone(), Arc::clone(&together));
                    std::thread::spawn(move || {
                        together.wait();
                        fetch(address, &path, false).bytes
                    })
                })
                .collect();
            for client in clients {
                assert_eq!(client.join().unwrap(), 50_000_000, "{}", server.kind.name());
            }
            whole[index].push(started.elapsed().as_secs_f64() * 1e3);
            memory[index].push(server.peak_memory().saturating_sub(before) as f64 / 1e6);
            fetches[index] = fetches[index].max(upstream.count().0);
            assert_eq!(fetch(address, &path, true).digest, digest(50_000_000));
        }
    }
    for (index, server) in servers.iter().enumerate() {
        table.row(&[
            server.kind.name().to_owned(),
            fetches[index].to_string(),
            whole[index].text(),
            memory[index].text(),
        ]);
    }
}

/// The digest of the registry's file of that size.
fn digest(size: usize) -> [u8; 32] {
    Sha256::digest(Numbers::new(size as u64).bytes(size)).into()
}

struct Got {
    bytes: u64,
    digest: [u8; 32],
    first: Duration,
    whole: Duration,
}

/// Asks once on a socket of its own and reads to the end, as `curl` does.
fn fetch(address: SocketAddr, path: &str, hashed: bool) -> Got {
    let started = Instant::now();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(120)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let (mut head, mut bytes, mut first) = (Vec::new(), 0, None);
    let mut hash = Sha256::new();
    loop {
        let count = socket.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        let mut piece = &buffer[..count];
        if first.is_none() {
            head.extend_from_slice(piece);
            let Some(end) = memchr::memmem::find(&head, b"\r\n\r\n") else {
                continue;
            };
            assert!(
                head.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            piece = &piece[piece.len() - (head.len() - end - 4)..];
            if piece.is_empty() {
                // The first byte of the body is what counts.
                head.truncate(end + 4);
                continue;
            }
        }
        first.get_or_insert_with(|| started.elapsed());
        bytes += piece.len() as u64;
        if hashed {
            hash.update(piece);
        }
    }
    Got {
        bytes,
        digest: hash.finalize().into(),
        first: first.unwrap_or_default(),
        whole: started.elapsed(),
    }
}
