//! Writes down what was published and acknowledged, and asks for it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::account::Wrong;
use super::client::{Client, Got};
use super::document::View;
use super::reader::{Read, document, place};
use super::stock::{Format, Version};
use crate::support::Chance;

/// The repository of our own packages.
pub const OWN: &str = "team";

/// How far a version of our own has come; it only goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Sent, and perhaps there.
    Sent,
    Acknowledged,
    /// To be deleted, and perhaps there.
    Leaving,
    Gone,
}

pub struct Own {
    pub format: Format,
    pub name: String,
    pub version: Version,
    stage: AtomicU8,
    /// Unlisted at some time: it is served, and listed or not.
    pub was_unlisted: AtomicBool,
}

impl Own {
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Sent,
            1 => Stage::Acknowledged,
            2 => Stage::Leaving,
            _ => Stage::Gone,
        }
    }

    pub fn becomes(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
    }

    fn told(&self) -> String {
        let (name, version) = (&self.name, &self.version.version);
        let (format, stage) = (self.format.name(), self.stage());
        format!("{format}:{name} {version}, which is {stage:?}")
    }
}

#[derive(Default)]
pub struct Ledger {
    entries: Mutex<Vec<Arc<Own>>>,
    numbers: AtomicUsize,
}

impl Ledger {
    /// A number that no other version has.
    pub fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Before it is sent.
    pub fn enter(&self, format: Format, name: &str, version: Version) -> Arc<Own> {
        let own = Arc::new(Own {
            format,
            name: name.to_owned(),
            version,
            stage: AtomicU8::new(Stage::Sent as u8),
            was_unlisted: AtomicBool::new(false),
        });
        self.entries.lock().unwrap().push(Arc::clone(&own));
        own
    }

    pub fn all(&self) -> Vec<Arc<Own>> {
        self.entries.lock().unwrap().clone()
    }

    /// One whose fate is known.
    pub fn pick(&self, chance: &mut Chance, format: Format) -> Option<Arc<Own>> {
        let entries = self.entries.lock().unwrap();
        for _ in 0..20 {
            if entries.is_empty() {
                return None;
            }
            let own = chance.pick(&entries);
            if own.format == format && own.stage() != Stage::Sent {
                return Some(Arc::clone(own));
            }
        }
        None
    }

    pub async fn read_file(&self, client: &Client, chance: &mut Chance, format: Format) {
        if let Some(own) = self.pick(chance, format) {
            self.ask_for(client, chance, &own).await;
        }
    }

    pub async fn read_document(&self, client: &Client, chance: &mut Chance, format: Format) {
        if let Some(own) = self.pick(chance, format) {
            let view = *chance.pick(View::of(format));
            self.list(client, chance, &own, view).await;
        }
    }

    /// Asks for its file; whether the answer is what it has to be.
    pub async fn ask_for(&self, client: &Client, chance: &mut Chance, own: &Own) -> bool {
        let before = own.stage();
        let (format, name) = (own.format, &own.name);
        let mut path = place(client, format, OWN, name, &own.version.version);
        if path.is_none() {
            let view = View::of(format)[0];
            if !self.list(client, chance, own, view).await {
                return false;
            }
            path = place(client, format, OWN, name, &own.version.version);
        }
        // A version that was unlisted before anybody saw its address.
        let Some(path) = path else {
            return true;
        };
        let Some(got) = client.file(chance, format, &path, &own.version.bytes).await else {
            return false;
        };
        let after = own.stage();
        match got {
            Got::File if before == Stage::Gone => {
                let story = format!("{} came back", own.told());
                client.account.wrong(Wrong::Lost, &story);
            }
            Got::File => return true,
            Got::Other(answer) if before == Stage::Acknowledged && after == before => {
                let wrong = match answer.status {
                    404 | 410 => Wrong::Lost,
                    _ => Wrong::Odd,
                };
                client.wrong(wrong, &own.told(), &answer);
            }
            Got::Other(answer) => return answer.status == 404,
        }
        false
    }

    /// Asks for the document of its package, which has to list what was acknowledged; whether it was
    /// read.
    pub async fn list(&self, client: &Client, chance: &mut Chance, own: &Own, view: View) -> bool {
        let (format, name) = (own.format, &own.name);
        let of_package = || {
            let mut all = self.all();
            all.retain(|it| it.format == format && it.name == *name);
            all
        };
        let is_sure = |it: &Own| {
            it.stage() == Stage::Acknowledged && !it.was_unlisted.load(Ordering::Acquire)
        };
        let before: Vec<(Arc<Own>, Stage, bool)> = of_package()
            .into_iter()
            .map(|it| (Arc::clone(&it), it.stage(), is_sure(&it)))
            .collect();
        let Some(read) = document(client, chance, format, view, OWN, name).await else {
            return false;
        };
        let listing = match read {
            Read::Listing(listing) => listing,
            Read::Unread => return false,
            Read::Other(answer) => {
                let is_wrong = |(it, _, sure): &(Arc<Own>, Stage, bool)| *sure && is_sure(it);
                if let Some((lost, ..)) = before.iter().find(|it| is_wrong(it)) {
                    let wrong = match answer.status {
                        404 => Wrong::Lost,
                        _ => Wrong::Odd,
                    };
                    client.wrong(wrong, &lost.told(), &answer);
                }
                return false;
            }
        };
        let path = view.path(OWN, name);
        for (it, stage, sure) in &before {
            let listed = listing
                .versions
                .iter()
                .find(|one| one.version == it.version.version);
            match listed {
                None if *sure && is_sure(it) => {
                    let story = format!("{path} ({view:?}) does not list {}", it.told());
                    client.account.wrong(Wrong::Lost, &story);
                }
                Some(_) if *stage == Stage::Gone => {
                    let story = format!("{path} ({view:?}) still lists {}", it.told());
                    client.account.wrong(Wrong::Lost, &story);
                }
                _ => {}
            }
        }
        let all = of_package();
        for listed in &listing.versions {
            let sent = all.iter().find(|it| it.version.version == listed.version);
            let is_right = sent.is_some_and(|it| {
                listed
                    .digest
                    .as_ref()
                    .is_none_or(|digest| it.version.is_said(digest))
            });
            if !is_right {
                let story = format!("{path} ({view:?}) lists {} otherwise", listed.version);
                client.account.wrong(Wrong::Bytes, &story);
            }
        }
        client.account.verified(format);
        true
    }
}
