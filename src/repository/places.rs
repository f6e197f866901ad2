//! Places of publishes: so many at once, of which one client has a few at most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::UploadSettings;
use crate::problem::{Decider, Kind, Problem};
use crate::telemetry::Who;

/// The client that sends a body.
#[derive(Clone, Debug)]
pub struct BodySender {
    pub who: Who,
    /// Cancelled when it has hung up.
    pub left: CancellationToken,
}

impl BodySender {
    /// Whether work is still done for somebody.
    pub(super) fn here(&self) -> Result<(), Problem> {
        if self.left.is_cancelled() {
            return Err(hung_up());
        }
        Ok(())
    }
}

fn hung_up() -> Problem {
    Problem::invalid("the client hung up before the publish was done")
}

/// The places of all clients.
pub(super) struct Places {
    all: Arc<Semaphore>,
    each_max: usize,
    patience: Duration,
    /// The places of each client that has one, or waits for one.
    own: Arc<Mutex<HashMap<Who, Arc<Semaphore>>>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    _own: OwnPermit,
    _of_all: OwnedSemaphorePermit,
}

/// A client's place among its own, or its waiting for one.
struct OwnPermit {
    permit: Option<OwnedSemaphorePermit>,
    who: Who,
    own: Arc<Mutex<HashMap<Who, Arc<Semaphore>>>>,
}

impl Places {
    pub(super) fn new(upload: &UploadSettings) -> Self {
        Self {
            all: Arc::new(Semaphore::new(upload.at_once)),
            each_max: upload.at_once_each,
            patience: upload.stall_timeout,
            own: Arc::default(),
        }
    }

    /// Waits for a place, not without end.
    ///
    /// # Errors
    /// Where none becomes free in time, or the client hangs up.
    pub(super) async fn take(&self, sender: &BodySender) -> Result<Place, Problem> {
        let taken = tokio::time::timeout(self.patience, self.wait(counted(&sender.who)));
        tokio::select! {
            () = sender.left.cancelled() => Err(hung_up()),
            taken = taken => taken.map_err(|_| self.all_taken())?,
        }
    }

    async fn wait(&self, who: Who) -> Result<Place, Problem> {
        let mut own = OwnPermit {
            permit: None,
            who: who.clone(),
            own: Arc::clone(&self.own),
        };
        let places = Arc::clone(
            lock(&self.own)
                .entry(who)
                .or_insert_with(|| Arc::new(Semaphore::new(self.each_max))),
        );
        let stopped = |error| Problem::internal("publishing stopped", error);
        own.permit = Some(places.acquire_owned().await.map_err(stopped)?);
        let of_all = Arc::clone(&self.all).acquire_owned().await;
        Ok(Place {
            _own: own,
            _of_all: of_all.map_err(stopped)?,
        })
    }

    fn all_taken(&self) -> Problem {
        Problem::new(
            Kind::Unavailable {
                retry_after: self.patience,
            },
            Decider::Larder,
            "too many publishes are under way",
        )
        .advice("try again later, or raise `upload.at_once` or `upload.at_once_each`")
    }
}

impl Drop for OwnPermit {
    fn drop(&mut self) {
        let mut own = lock(&self.own);
        self.permit = None;
        // Whoever waits for a place or has one holds the semaphore too.
        if own
            .get(&self.who)
            .is_some_and(|places| Arc::strong_count(places) == 1)
        {
            own.remove(&self.who);
        }
    }
}

fn lock(own: &Mutex<HashMap<Who, Arc<Semaphore>>>) -> MutexGuard<'_, HashMap<Who, Arc<Semaphore>>> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client as its places are counted: whoever has one IPv6 address has the others of its network.
fn counted(who: &Who) -> Who {
    const NETWORK_BITS: u128 = !0 << 64;
    match who {
        Who::At(IpAddr::V6(address)) => {
            Who::At(IpAddr::V6((u128::from(*address) & NETWORK_BITS).into()))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn places(at_once: usize, each: usize) -> Places {
        Places {
            all: Arc::new(Semaphore::new(at_once)),
            each_max: each,
            patience: Duration::from_millis(20),
            own: Arc::default(),
        }
    }

    fn sender(who: Who) -> BodySender {
        BodySender {
            who,
            left: CancellationToken::new(),
        }
    }

    fn named(name: &str) -> BodySender {
        sender(Who::Named(name.into()))
    }

    #[tokio::test]
    async fn one_client_has_not_all_places() {
        let places = places(3, 2);
        let slow = named("slow");
        let held = [
            places.take(&slow).await.unwrap(),
            places.take(&slow).await.unwrap(),
        ];
        let third = places.take(&slow).await.err().unwrap();
        assert!(matches!(third.kind, Kind::Unavailable { .. }), "{third}");
        let _fast = places.take(&named("fast")).await.unwrap();
        assert!(places.take(&named("other")).await.is_err());
        drop(held);
        places.take(&slow).await.unwrap();
    }

    #[tokio::test]
    async fn clients_without_a_place_are_forgotten() {
        let places = places(3, 1);
        let place = places.take(&named("a")).await.unwrap();
        assert!(places.take(&named("a")).await.is_err());
        assert_eq!(lock(&places.own).len(), 1);
        drop(place);
        assert!(lock(&places.own).is_empty());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_client_that_hung_up() {
        let places = places(1, 1);
        let _place = places.take(&named("a")).await.unwrap();
        let gone = named("b");
        gone.left.cancel();
        let problem = places.take(&gone).await.err().unwrap();
        assert_eq!(problem.kind, Kind::Invalid);
    }

    #[tokio::test]
    async fn the_addresses_of_one_network_are_one_client() {
        let places = places(3, 1);
        let at = |host| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host);
            sender(Who::At(address.into()))
        };
        let _place = places.take(&at(1)).await.unwrap();
        assert!(places.take(&at(2)).await.is_err());
    }
}
