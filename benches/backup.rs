//! Backups while clients publish: how long each takes and what it copies, what publishes wait beside it,
//! and whether all of it comes back. `cargo bench --bench backup [PACKAGES]`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so by panicking"
)]

mod own;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder::Larder;
use larder::repository::upkeep::{UpkeepCommand, UpkeepOutcome};
use larder::store::CopyProgress;
use larder::store::backup::{BackupReport, EarlierFiles, restore};
use larder::task::Tasks;

const PACKAGES: usize = 20_000;
const CLIENTS: usize = 8;
/// The content of each package, which does not compress.
const CONTENT_BYTES: usize = 8 * 1024;
/// How long publishes are measured with nothing beside them.
const ALONE: Duration = Duration::from_secs(10);
const MIB: f64 = 1024.0 * 1024.0;

/// Bytes that do not compress, others for each number.
fn content(number: usize) -> Vec<u8> {
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(CONTENT_BYTES / 8).flatten().collect()
}

/// Clients that publish packages, each another one.
struct Clients {
    url: String,
    next: AtomicUsize,
}

impl Clients {
    /// All clients publish until `is_enough` says so; the latencies, in order.
    async fn publish(
        self: &Arc<Self>,
        is_enough: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Vec<Duration> {
        let is_enough = Arc::new(is_enough);
        let clients = (0..CLIENTS).map(|_| {
            let (clients, is_enough) = (Arc::clone(self), Arc::clone(&is_enough));
            tokio::spawn(async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut latencies = Vec::new();
                loop {
                    let number = clients.next.fetch_add(1, Ordering::Relaxed);
                    if is_enough(number) {
                        return latencies;
                    }
                    let name = format!("acme-{number:06}");
                    let document = own::document(&name, "1.0.0", &content(number));
                    latencies.push(own::publish(&http, &clients.url, &name, document).await);
                }
            })
        });
        let mut all = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            all.extend(client.await.unwrap());
        }
        all.sort_unstable();
        all
    }

    /// They publish beside the work.
    async fn beside<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> (T, Vec<Duration>) {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let publishing = self.publish(move |_| is_done.load(Ordering::Relaxed));
        let work = async {
            let result = work.await;
            done.store(true, Ordering::Relaxed);
            result
        };
        tokio::join!(work, publishing)
    }
}

fn percentile(latencies: &[Duration], share: f64) -> f64 {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = (latencies.len() as f64 * share) as usize;
    latencies[at.min(latencies.len() - 1)].as_secs_f64() * 1000.0
}

/// The median, and the latency that one of a hundred exceeds, in milliseconds.
fn both(latencies: &[Duration]) -> [f64; 2] {
    [percentile(latencies, 0.5), percentile(latencies, 0.99)]
}

fn told(what: &str, latencies: &[Duration], alone: Option<[f64; 2]>) -> [f64; 2] {
    let [median, worst] = both(latencies);
    let ratio = alone.map_or_else(String::new, |alone| {
        format!(", {:.2} x and {:.2} x", median / alone[0], worst / alone[1])
    });
    println!(
        "{what:<44} {:>6} publishes, p50 {median:.1} ms, p99 {worst:.1} ms{ratio}",
        latencies.len()
    );
    [median, worst]
}

async fn back_up(larder: &Larder, out: &Path) -> (BackupReport, Duration) {
    let started = Instant::now();
    let command = UpkeepCommand::Backup {
        out: out.to_owned(),
        earlier: EarlierFiles::Trust,
    };
    let UpkeepOutcome::BackedUp(report) = larder.upkeep(command).await.unwrap() else {
        panic!("a backup says what it has");
    };
    assert!(report.lost.is_empty());
    (*report, started.elapsed())
}

fn told_of(what: &str, (report, took): &(BackupReport, Duration)) {
    println!(
        "{what:<44} {:>6.1} s, {} versions, {:.1} MiB in it, {:.1} MiB of files copied, {:.2} MiB of rows",
        took.as_secs_f64(),
        report.versions,
        report.bytes as f64 / MIB,
        report.copied_bytes as f64 / MIB,
        report.rows_bytes as f64 / MIB,
    );
}

/// The rows of a backup, but for those that each start writes; and the lengths of its files by their names.
fn inside(backup: &Path) -> (Vec<String>, BTreeMap<String, u64>) {
    let (mut rows, mut files) = (Vec::new(), BTreeMap::new());
    for entry in std::fs::read_dir(backup).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("rows-") {
            let file = std::fs::File::open(entry.path()).unwrap();
            let mut text = String::new();
            let mut decoder = zstd::Decoder::new(file).unwrap();
            decoder.read_to_string(&mut text).unwrap();
            rows.extend(text.lines().map(str::to_owned));
        }
    }
    rows.retain(|row| !row.starts_with("[\"catalog\"") && !row.starts_with("[\"access_state\""));
    rows.sort_unstable();
    for folder in std::fs::read_dir(backup.join("blobs")).unwrap().flatten() {
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            files.insert(name, file.metadata().unwrap().len());
        }
    }
    (rows, files)
}

/// Restores the backup, starts on it, and has it backed up again: that has to be the same.
async fn comes_back(from: &Path, folder: &Path, original: &Path) {
    let data = folder.join("restored");
    let started = Instant::now();
    let progress = Arc::<CopyProgress>::default();
    let config = Arc::new(own::config(&data));
    let restored = restore(from, &config, &Tasks::default(), &progress)
        .await
        .unwrap();
    let took = started.elapsed();
    let (larder, _, stop) = own::start(&data).await;
    let again = folder.join("again");
    back_up(&larder, &again).await;
    stop.cancel();
    larder.stop().await;
    assert!(
        inside(&again) == inside(original),
        "what was restored is another"
    );
    println!(
        "{:<44} {:>6.1} s, {} versions, compared: equal",
        format!("restored from {}", from.file_name().unwrap().display()),
        took.as_secs_f64(),
        restored.versions
    );
    drop(larder);
    for folder in [data, again] {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::main]
async fn main() {
    larder::use_ring();
    let wanted = std::env::args().find_map(|it| it.parse().ok());
    let packages = wanted.unwrap_or(PACKAGES);
    let target = std::env::current_dir().unwrap().join("target");
    let folder = tempfile::TempDir::new_in(target).unwrap();
    let (larder, url, stop) = own::start(&folder.path().join("data")).await;
    let clients = Arc::new(Clients {
        url,
        next: AtomicUsize::new(0),
    });
    let started = Instant::now();
    clients.publish(move |number| number >= packages).await;
    println!(
        "{packages} packages published by {CLIENTS} clients: {:.1} s",
        started.elapsed().as_secs_f64()
    );

    let alone = || {
        let until = Instant::now() + ALONE;
        clients.publish(move |_| Instant::now() >= until)
    };
    let before = alone().await;
    let out = |name: &str| folder.path().join(name);
    let (first, beside_first) = clients
        .beside(Box::pin(back_up(&larder, &out("backup"))))
        .await;
    let (second, beside_second) = clients
        .beside(Box::pin(back_up(&larder, &out("backup"))))
        .await;
    let (file, beside_file) = clients
        .beside(Box::pin(back_up(&larder, &out("backup.tar.zst"))))
        .await;
    let after = alone().await;
    let mut all = [before, after].concat();
    all.sort_unstable();
    let alone = Some(told("nothing beside", &all, None));
    for (what, made, latencies) in [
        ("first backup", &first, &beside_first),
        ("second backup", &second, &beside_second),
        ("backup in one file", &file, &beside_file),
    ] {
        told_of(what, made);
        told(&format!("beside the {what}"), latencies, alone);
    }

    // Nobody publishes any more.
    told_of("last backup", &back_up(&larder, &out("backup")).await);
    back_up(&larder, &out("backup.tar.zst")).await;
    stop.cancel();
    larder.stop().await;
    for from in ["backup", "backup.tar.zst"] {
        comes_back(&out(from), folder.path(), &out("backup")).await;
    }
}
