//! Deliveries: at least once, events about one subject in their order, with pauses that grow, and
//! put aside after too many failures.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{StreamExt as _, stream};
use tracing::{info, warn};

use super::send::Sender;
use crate::clock;
use crate::config::{EventTarget, Events};
use crate::store::packages::{Delivery, Packages};
use crate::task::{PAUSE_MAX, Tasks, pause_after};

/// Deliveries that are looked at together.
const BATCH: usize = 256;
/// How often old events are forgotten.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(3600);

/// Tells the targets what happens.
pub struct Deliverer {
    packages: Packages,
    sender: Sender,
    events: ArcSwap<Events>,
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Deliverer {
    /// Begins to deliver; stops when the tasks do.
    #[must_use]
    pub fn start(packages: &Packages, events: &Events, tasks: &Tasks) -> Arc<Self> {
        let deliverer = Arc::new(Self {
            packages: packages.clone(),
            sender: Sender::new(tasks),
            events: ArcSwap::from_pointee(events.clone()),
        });
        let own = Arc::clone(&deliverer);
        tasks.spawn_until_stop(async move { own.run().await });
        let own = Arc::clone(&deliverer);
        tasks.spawn_until_stop(async move {
            loop {
                let events = own.events.load_full();
                let before = clock::unix_ms_now() - ms(events.keep);
                if !events.targets.is_empty()
                    && let Err(error) = own.packages.deliveries().forget_old(before).await
                {
                    warn!(%error, "Deleting old events failed; they are kept until the next attempt");
                }
                tokio::time::sleep(FORGOTTEN_EVERY).await;
            }
        });
        deliverer
    }

    /// Puts other targets in force.
    pub fn reload(&self, events: &Events) {
        self.events.store(Arc::new(events.clone()));
        self.packages.deliveries().bell().notify_waiters();
    }

    async fn run(self: Arc<Self>) {
        let bell = self.packages.deliveries().bell();
        loop {
            // The bell is listened to before the look, so that no event is missed that is written
            // in between.
            let rung = bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let events = self.events.load_full();
            let rounds = events
                .targets
                .iter()
                .map(|target| self.round(&events, target));
            let next: Option<i64> = futures_util::future::join_all(rounds)
                .await
                .into_iter()
                .flatten()
                .min();
            let left = next.map_or(PAUSE_MAX, |at| {
                let left = (at - clock::unix_ms_now()).max(10);
                Duration::from_millis(u64::try_from(left).unwrap_or(10)).min(PAUSE_MAX)
            });
            let _ = tokio::time::timeout(left, rung).await;
        }
    }

    /// Delivers what is due to one target; says when something is due next.
    async fn round(&self, events: &Events, target: &EventTarget) -> Option<i64> {
        loop {
            let due = self
                .packages
                .deliveries()
                .due(&target.name, clock::unix_ms_now(), BATCH)
                .await;
            let due = match due {
                Ok(due) => due,
                Err(error) => {
                    warn!(%error, "Reading the waiting events failed; they are delivered later");
                    return Some(clock::unix_ms_now() + ms(PAUSE_MAX));
                }
            };
            if due.is_empty() {
                return self
                    .packages
                    .deliveries()
                    .next_due(&target.name)
                    .await
                    .ok()
                    .flatten();
            }
            stream::iter(due)
                .for_each_concurrent(events.at_once, |one| async move {
                    self.deliver(events, target, one).await;
                })
                .await;
        }
    }

    async fn deliver(&self, events: &Events, target: &EventTarget, mut one: Delivery) {
        // Another process leaves it alone for as long as this one may take.
        let claimed_until = clock::unix_ms_now() + ms(events.timeout) + 5000;
        let claimed = self
            .packages
            .deliveries()
            .record(&one, "waiting", one.attempts, claimed_until, &one.said)
            .await;
        match claimed {
            Ok(true) => one.next_at = claimed_until,
            Ok(false) => return,
            Err(error) => {
                warn!(%error, "Claiming a waiting event failed; it is delivered later");
                return;
            }
        }
        let sent = tokio::time::timeout(events.timeout, self.sender.send(target, &one)).await;
        let sent = sent.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = clock::unix_ms_now();
        let attempts = one.attempts.saturating_add(1);
        let (state, next_at, said) = match sent {
            Ok(said) => ("delivered", now, said),
            Err(said) if attempts >= events.attempts_max => {
                warn!(
                    target = target.name,
                    event = one.event,
                    said,
                    "An event was refused too often and is put aside; `larder events replay` sends it again"
                );
                ("dead", now, said)
            }
            Err(said) => {
                info!(
                    target = target.name,
                    event = one.event,
                    said,
                    attempts,
                    "An event's target did not accept it; it is sent again later"
                );
                ("waiting", now + ms(pause_after(one.attempts)), said)
            }
        };
        let noted = self
            .packages
            .deliveries()
            .record(&one, state, attempts, next_at, &said);
        if let Err(error) = noted.await {
            warn!(%error, "Recording an event's delivery failed; the event may be sent twice");
        }
    }
}
