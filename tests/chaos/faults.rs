//! Deals blows to Larder, one after the other in an order by the seed, and makes the registry's weather.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::account::{Account, Blow, Wrong};
use super::client::{Ask, Client};
use super::ledger::{Ledger, Own, Stage};
use super::process::{BARRED, Machine, PATIENCE, Settings};
use super::stock::{Format, Stock};
use super::upstream::{Fault, Upstream};
use crate::support::Chance;
use crate::support::tool::faketime;

/// Versions that are asked for after a start; at the end it is all.
const ASKED_FOR: usize = 60;
/// Questions at the same time.
const AT_ONCE: usize = 8;

/// Has the registry misbehave in changing ways for as long as it runs.
pub async fn weather(upstream: Arc<Upstream>, mut chance: Chance) {
    let mut turn = 0;
    loop {
        // Each kind by itself comes in turn; between them all at once, or none.
        let (faults, odds, length) = match chance.below(10) {
            0..3 => (Vec::new(), 0, 1500),
            3..5 => (Fault::ALL.to_vec(), 30, 2500),
            _ => {
                turn += 1;
                (vec![Fault::ALL[turn % Fault::ALL.len()]], 60, 1500)
            }
        };
        upstream.weather(faults, odds);
        sleep(Duration::from_millis(500 + chance.below(length))).await;
    }
}

/// Has the registry's packages get new versions, spread over the time.
pub async fn releases(stock: Arc<Stock>, mut chance: Chance, time: Duration) {
    let pause = time.mul_f64(0.8) / u32::try_from(stock.releases()).unwrap();
    loop {
        sleep(pause).await;
        chance.pick(stock.all()).release();
    }
}

pub struct Storm {
    pub machine: Machine,
    pub client: Arc<Client>,
    pub ledger: Arc<Ledger>,
    pub stock: Arc<Stock>,
    pub account: Arc<Account>,
    pub chance: Chance,
}

/// Larder does not start: there is nothing left to try.
pub struct Dead;

impl Storm {
    /// Blow after blow until the time is over.
    pub async fn rage(&mut self, until: Instant) -> Result<(), Dead> {
        let mut order: Vec<Blow> = Vec::new();
        while Instant::now() < until {
            if order.is_empty() {
                // Each kind once in a round, the kill twice.
                order = Blow::ALL.to_vec();
                order.push(Blow::Kill);
                for at in (1..order.len()).rev() {
                    let other = self.chance.below(at as u64 + 1);
                    order.swap(at, usize::try_from(other).unwrap());
                }
            }
            let quiet = 500 + self.chance.below(2500);
            sleep(Duration::from_millis(quiet)).await;
            if let Some(status) = self.machine.ended() {
                let story = format!("Larder has ended by itself: {status}");
                self.account.wrong(Wrong::Odd, &story);
                self.start().await?;
            }
            let Some(blow) = order.pop() else {
                continue;
            };
            match blow {
                Blow::Kill => self.kill_and_start().await?,
                Blow::Stop => {
                    self.end(false).await;
                    self.start().await?;
                }
                Blow::Reload => self.reload().await,
                Blow::FullDisk => self.full_disk().await?,
                Blow::Clock => {
                    if !self.clock().await? {
                        continue;
                    }
                }
                Blow::CatalogLoss => self.lose_catalog().await?,
                Blow::DamagedFile => self.damage().await?,
            }
            if blow != Blow::Kill {
                self.account.blow(blow);
            }
        }
        Ok(())
    }

    pub async fn start(&mut self) -> Result<(), Dead> {
        self.start_with(&[]).await
    }

    /// Starts, and asks for what was acknowledged.
    async fn start_with(&mut self, variables: &[(&str, String)]) -> Result<(), Dead> {
        if let Err(why) = self.machine.start(variables).await {
            self.account.wrong(Wrong::Hang, &why);
            return Err(Dead);
        }
        let mut all = self.ledger.all();
        all.retain(|own| own.stage() != Stage::Sent);
        // The newest, and some others.
        let newest = all.split_off(all.len().saturating_sub(ASKED_FOR));
        let mut some: Vec<Arc<Own>> = Vec::new();
        while some.len() < ASKED_FOR && !all.is_empty() {
            some.push(Arc::clone(self.chance.pick(&all)));
        }
        some.extend(newest);
        self.ask_for(some).await;
        Ok(())
    }

    async fn ask_for(&mut self, owns: Vec<Arc<Own>>) {
        let asked: Vec<_> = owns
            .into_iter()
            .map(|own| {
                let (client, ledger) = (Arc::clone(&self.client), Arc::clone(&self.ledger));
                let mut chance = self.chance.another();
                async move { ledger.ask_for(&client, &mut chance, &own).await }
            })
            .collect();
        stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<bool>>()
            .await;
    }

    /// Ends it, by force or not.
    async fn end(&mut self, is_killed: bool) {
        if is_killed {
            self.machine.kill().await;
            self.account.blow(Blow::Kill);
        } else if let Err(why) = self.machine.stop().await {
            self.account.wrong(Wrong::Hang, &why);
        }
    }

    async fn end_somehow(&mut self) {
        let is_killed = self.chance.of_100(50);
        self.end(is_killed).await;
    }

    async fn kill_and_start(&mut self) -> Result<(), Dead> {
        self.end(true).await;
        // Sometimes in the middle of the start, too.
        if self.chance.of_100(40) {
            self.machine.begin(&[]);
            sleep(Duration::from_millis(self.chance.below(600))).await;
            self.end(true).await;
        }
        self.start().await
    }

    /// Another configuration is in force soon, and the old one again.
    async fn reload(&mut self) {
        for (settings, is_barred) in [(Settings::Other, true), (Settings::Usual, false)] {
            self.machine.configure(settings);
            self.machine.signal(Signal::HUP);
            let begun = Instant::now();
            let path = format!("/npm/public/{BARRED}/-/{BARRED}-1.0.0.tgz");
            loop {
                let ask = Ask::get(Format::Npm, path.as_str());
                let answer = self.client.ask(&mut self.chance, &ask).await;
                if answer.is_some_and(|answer| (answer.status == 403) == is_barred) {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    let story = format!("{settings:?} is not in force {PATIENCE:?} after SIGHUP");
                    self.account.wrong(Wrong::Hang, &story);
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
            sleep(Duration::from_millis(self.chance.below(1000))).await;
        }
    }

    async fn full_disk(&mut self) -> Result<(), Dead> {
        self.machine.fill();
        sleep(Duration::from_millis(1500 + self.chance.below(1500))).await;
        if self.chance.of_100(50) {
            self.end_somehow().await;
            self.start().await?;
            sleep(Duration::from_millis(self.chance.below(1000))).await;
        }
        self.machine.make_room();
        Ok(())
    }

    /// The clock jumps while it serves, and back again.
    async fn clock(&mut self) -> Result<bool, Dead> {
        let Some(library) = faketime() else {
            let why = "libfaketime is not installed";
            self.account.cannot(Blow::Clock, why);
            return Ok(false);
        };
        let file = self.machine.folder.path().join("clock");
        let set = |offset: &str| std::fs::write(&file, offset).unwrap();
        set("+0s");
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        self.end_somehow().await;
        self.start_with(&variables).await?;
        let offset = *self.chance.pick(&[
            "+3600s",
            "-3600s",
            "+86400s",
            "-86400s",
            "+315360000s",
            "-315360000s",
        ]);
        set(offset);
        sleep(Duration::from_millis(2500)).await;
        if self.chance.of_100(50) {
            set("+0s");
            sleep(Duration::from_millis(2000)).await;
        }
        self.end_somehow().await;
        self.start().await?;
        Ok(true)
    }

    async fn lose_catalog(&mut self) -> Result<(), Dead> {
        self.end_somehow().await;
        for ending in ["", "-wal", "-shm"] {
            let file = format!("larder.sqlite{ending}");
            let _ = std::fs::remove_file(self.machine.data().join(file));
        }
        self.start().await
    }

    /// Files of the registry's are damaged: while it serves so that it can be seen by looking, or in any
    /// way, and then repaired as the book says.
    async fn damage(&mut self) -> Result<(), Dead> {
        let is_served = self.chance.of_100(50);
        if !is_served {
            self.end_somehow().await;
        }
        let mut blobs = self.machine.blobs();
        blobs.retain(|(digest, _)| self.stock.has_digest(digest));
        for _ in 0..5.min(blobs.len()) {
            let (_, file) = self.chance.pick(&blobs);
            let kinds = if is_served { 2 } else { 4 };
            // It may be evicted meanwhile.
            let _ = spoil(file, self.chance.below(kinds));
        }
        if is_served {
            return Ok(());
        }
        let verified = self.machine.run(&["verify", "--repair", "--anew"]).await;
        if let Err(why) = verified {
            // The registry's weather may keep it from being repaired; then it is served to nobody.
            if why.contains("does not end") {
                self.account.wrong(Wrong::Hang, &why);
            }
        }
        self.start().await
    }
}

fn spoil(file: &Path, kind: u64) -> std::io::Result<()> {
    let open = || {
        std::fs::OpenOptions::new()
            .write(true)
            .read(true)
            .open(file)
    };
    let size = std::fs::metadata(file)?.len();
    match kind {
        0 => std::fs::remove_file(file),
        1 => open()?.set_len(size / 2),
        2 => {
            use std::os::unix::fs::FileExt as _;
            open()?.write_all_at(b"more", size)
        }
        _ => {
            use std::os::unix::fs::FileExt as _;
            let opened = open()?;
            let mut byte = [0];
            opened.read_exact_at(&mut byte, size / 2)?;
            opened.write_all_at(&[byte[0] ^ 0xff], size / 2)
        }
    }
}
