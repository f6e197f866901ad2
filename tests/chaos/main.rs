//! Everything at once, by a seed: clients in four formats that compare every byte, publishes that are
//! written down, a registry with weather, and a Larder that is killed, filled, robbed and reloaded.
//!
//! `cargo test --test chaos` runs for a good minute. By hand it runs for as long as one likes, and with
//! another program: `LARDER_BIN=target/release/larder cargo test --test chaos -- --minutes 20 --seed 7`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a test that cannot go on says so by panicking"
)]

mod account;
mod chance;
mod client;
mod document;
mod faults;
mod ledger;
mod process;
mod publisher;
mod reader;
mod registry;
mod stock;
mod upstream;

#[allow(
    dead_code,
    unused_imports,
    reason = "what tests are written with; this one does without some of it"
)]
#[path = "../it/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use account::{Account, Wrong};
use client::Client;
use document::View;
use faults::{Dead, Storm};
use ledger::{Ledger, Stage};
use process::Machine;
use publisher::Publisher;
use reader::{Reader, read_document, read_file};
use stock::{Format, Package, Stock};
use support::Chance;
use upstream::Upstream;

/// How the clients are dealt out to each format.
const READERS: usize = 5;
const PUBLISHERS: usize = 2;
const READER_PAUSE: Duration = Duration::from_millis(100);
const PUBLISHER_PAUSE: Duration = Duration::from_secs(4);

/// After the faults everything is served again by then.
const HEALED: Duration = Duration::from_secs(30);

struct Arguments {
    seed: u64,
    minutes: f64,
}

impl Arguments {
    /// `None` where other tests are meant.
    fn read() -> Option<Self> {
        let mut read = Self {
            seed: 19,
            minutes: 1.1,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match word.as_str() {
                "--seed" => read.seed = value().parse().expect("--seed takes a number"),
                "--minutes" => read.minutes = value().parse().expect("--minutes takes a number"),
                "--list" => return None,
                // libtest's own words, which other test programs are given with it.
                "--test-threads" | "--skip" | "--color" | "--format" => drop(value()),
                word if word.starts_with('-') => {}
                name if "chaos".contains(name) => {}
                _ => return None,
            }
        }
        Some(read)
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::read() else {
        return ExitCode::SUCCESS;
    };
    larder::use_ring();
    println!("chaos: seed {}", arguments.seed);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runtime.block_on(run(&arguments)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn program() -> PathBuf {
    let given = std::env::var_os("LARDER_BIN").map(PathBuf::from);
    given.unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into())
}

async fn run(arguments: &Arguments) -> bool {
    let mut chance = Chance::new(arguments.seed);
    let stock = Arc::new(Stock::new(&mut chance));
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    // What is published stays: room for it is needed.
    let disk = 160 + time.as_secs() * 16 / 60;
    // The log has to be known before, and the registry before the machine.
    let folder = tempfile::TempDir::new().unwrap();
    let account = Arc::new(Account::new(
        arguments.seed,
        folder.path().join("larder.log"),
    ));
    let upstream = Upstream::start(Arc::clone(&stock), Arc::clone(&account), chance.another());
    let upstream = Arc::new(upstream.await);
    let machine = Machine::new(program(), upstream.url(), disk, folder);
    let client = Arc::new(Client::new(
        machine.url(),
        machine.socket(),
        Arc::clone(&account),
    ));
    let ledger = Arc::new(Ledger::default());
    if !machine.has_small_disk() {
        println!("chaos: this user may not mount a small disk; `cache.min_free` is raised instead");
    }
    let mut storm = Storm {
        machine,
        client: Arc::clone(&client),
        ledger: Arc::clone(&ledger),
        stock: Arc::clone(&stock),
        account: Arc::clone(&account),
        chance: chance.another(),
    };
    let begun = Instant::now();
    if storm.start().await.is_err() {
        return false;
    }
    let mut outside = JoinSet::new();
    outside.spawn(faults::weather(Arc::clone(&upstream), chance.another()));
    outside.spawn(faults::releases(Arc::clone(&stock), chance.another(), time));
    let mut clients = JoinSet::new();
    for format in Format::ALL {
        for _ in 0..READERS {
            let reader = Reader {
                client: Arc::clone(&client),
                stock: Arc::clone(&stock),
                ledger: Arc::clone(&ledger),
                format,
                chance: chance.another(),
                pause: READER_PAUSE,
            };
            clients.spawn(reader.run());
        }
        for _ in 0..PUBLISHERS {
            let publisher = Publisher {
                client: Arc::clone(&client),
                ledger: Arc::clone(&ledger),
                format,
                chance: chance.another(),
                pause: PUBLISHER_PAUSE,
            };
            clients.spawn(publisher.run());
        }
    }
    let raged = storm.rage(begun + time).await;
    outside.shutdown().await;
    clients.shutdown().await;
    upstream.weather(Vec::new(), 0);
    let spent = begun.elapsed();
    let ended = match raged {
        Ok(()) => settle(&mut storm, &mut chance).await,
        Err(Dead) => Err(Dead),
    };
    let panics = storm.machine.panics();
    if panics > 0 {
        let story = format!("Larder has panicked {panics} times");
        account.wrong(Wrong::Odd, &story);
    }
    let (line, is_right) = account.close(spent);
    println!("{line}");
    let is_right = is_right && ended.is_ok();
    if !is_right {
        let kept =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}.log", arguments.seed));
        if std::fs::copy(storm.machine.log(), &kept).is_ok() {
            println!("chaos: Larder's log is kept as {}", kept.display());
        }
    }
    is_right
}

/// The faults are over: everything that exists is served, all that was acknowledged is there, before and
/// after another start, and the files are whole.
async fn settle(storm: &mut Storm, chance: &mut Chance) -> Result<(), Dead> {
    healed(storm, chance).await;
    if let Err(why) = storm.machine.stop().await {
        storm.account.wrong(Wrong::Hang, &why);
    }
    if let Err(why) = storm.machine.run(&["verify", "--anew"]).await {
        storm.account.wrong(Wrong::NotServed, &why);
    }
    storm.start().await?;
    all_published(storm, chance).await;
    if let Err(why) = storm.machine.stop().await {
        storm.account.wrong(Wrong::Hang, &why);
    }
    Ok(())
}

async fn healed(storm: &Storm, chance: &mut Chance) {
    let by = Instant::now() + HEALED;
    let checks = storm.stock.all().iter().map(|package| {
        let client = Arc::clone(&storm.client);
        (client, package, chance.another())
    });
    let checks: Vec<_> = checks
        .map(|(client, package, chance)| whole(client, package, chance, by))
        .collect();
    let unserved: Vec<Option<String>> = stream::iter(checks).buffer_unordered(8).collect().await;
    for story in unserved.into_iter().flatten() {
        storm.account.wrong(Wrong::NotServed, &story);
    }
    all_published(storm, chance).await;
}

/// Waits until all of a package is served; told is what is not.
async fn whole(
    client: Arc<Client>,
    package: &Package,
    mut chance: Chance,
    by: Instant,
) -> Option<String> {
    for view in View::of(package.format) {
        loop {
            let far = read_document(&client, &mut chance, package, *view).await;
            if far == Some(package.released()) {
                break;
            }
            if Instant::now() > by {
                return Some(format!("{view:?} of {} lists {far:?}", package.name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for at in 0..package.released() {
        while !read_file(&client, &mut chance, package, at).await {
            if Instant::now() > by {
                let version = &package.versions[at].version;
                return Some(format!("the file of {} {version}", package.name));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    None
}

/// Asks for all that was acknowledged, each by its file and by its document.
async fn all_published(storm: &Storm, chance: &mut Chance) {
    let by = Instant::now() + HEALED;
    let mut owns = storm.ledger.all();
    owns.retain(|own| own.stage() == Stage::Acknowledged);
    let checks: Vec<_> = owns
        .into_iter()
        .map(|own| {
            let (client, ledger) = (Arc::clone(&storm.client), Arc::clone(&storm.ledger));
            let mut chance = chance.another();
            async move {
                let view = *chance.pick(View::of(own.format));
                loop {
                    let is_there = ledger.ask_for(&client, &mut chance, &own).await
                        && ledger.list(&client, &mut chance, &own, view).await;
                    if is_there || Instant::now() > by {
                        return (!is_there).then(|| own.name.clone());
                    }
                }
            }
        })
        .collect();
    let missing: Vec<Option<String>> = stream::iter(checks).buffer_unordered(8).collect().await;
    for name in missing.into_iter().flatten() {
        let story = format!("{name}, which was published");
        storm.account.wrong(Wrong::NotServed, &story);
    }
}
