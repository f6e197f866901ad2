//! Places of sockets: how many may be open, in all and from one address, and which of them gives its
//! place up when there is none left.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::problem::{Decider, Kind, Problem};

/// Sockets beyond the bound whose first request is read all the same: probes are answered there, and
/// others wait for a place.
pub const LATE_MAX: usize = 64;
/// Answers in a row that a socket's client resets or leaves; then the socket ends (`CVE-2023-44487`).
const BROKEN_OFF_MAX: u32 = 512;
/// How often a request that waits for a place looks whether somebody has fallen silent.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How a socket stands to the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Held = 0,
    Late = 1,
    GivenUp = 2,
}

/// The message to a socket's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Answer what is under way, and end.
    Drain = 1,
    /// End now.
    GiveUp = 2,
}

/// One open socket, as its thread and whoever looks for places see it. Times are milliseconds since
/// the places were made.
pub struct Presence {
    number: u64,
    began: Instant,
    /// The address that it is counted by, where it is.
    address: Option<IpAddr>,
    standing: AtomicU8,
    /// When bytes last went either way.
    moved_at: AtomicU64,
    /// Since when no request is under way.
    idle_since: AtomicU64,
    written: AtomicU64,
    under_way: AtomicUsize,
    /// Requests whose body is waited for.
    awaited_bodies: AtomicUsize,
    /// Answers whose last piece was not taken yet.
    untaken_answers: AtomicUsize,
    broken_off: AtomicU32,
    /// The client takes nothing at the moment.
    is_blocked: AtomicBool,
    signal: AtomicU8,
    waker: AtomicWaker,
}

impl Presence {
    fn now(&self) -> u64 {
        milliseconds(self.began.elapsed())
    }

    /// Bytes went either way.
    pub fn has_moved(&self) {
        self.moved_at.store(self.now(), Ordering::Relaxed);
    }

    /// The client took bytes.
    pub fn has_written(&self, count: usize) {
        let now = self.now();
        self.moved_at.store(now, Ordering::Relaxed);
        self.written.fetch_add(count as u64, Ordering::Relaxed);
        if self.is_blocked.load(Ordering::Relaxed) {
            self.is_blocked.store(false, Ordering::Relaxed);
            self.idle_since.store(now, Ordering::Relaxed);
        }
    }

    /// The client takes nothing for now.
    pub fn is_now_blocked(&self) {
        self.is_blocked.store(true, Ordering::Relaxed);
    }

    /// How long it has been open without a request under way; `None` where there is one, or where the
    /// last answer is still on its way.
    pub fn idle_for(&self) -> Option<Duration> {
        let is_idle =
            self.under_way.load(Ordering::Relaxed) == 0 && !self.is_blocked.load(Ordering::Relaxed);
        let since = self.idle_since.load(Ordering::Relaxed);
        is_idle.then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    /// Whether nothing is left to do here but for the client to take what it was given.
    pub fn all_is_given(&self) -> bool {
        let under_way = self.under_way.load(Ordering::Relaxed);
        under_way > 0 && self.untaken_answers.load(Ordering::Relaxed) >= under_way
    }

    /// Bytes that the client took since the socket began.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether this socket waits for its client, and not for Larder.
    fn waits_for_client(&self) -> bool {
        let under_way = self.under_way.load(Ordering::Relaxed);
        under_way == 0
            || self.is_blocked.load(Ordering::Relaxed)
            || self.awaited_bodies.load(Ordering::Relaxed) > 0
            || self.all_is_given()
            // A request that waits for a place is no work of Larder's.
            || self.standing() == Standing::Late
    }

    fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Held,
            1 => Standing::Late,
            _ => Standing::GivenUp,
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Release);
    }

    /// Tells the socket's task; the stronger word stands.
    pub fn tell(&self, signal: Signal) {
        self.signal.fetch_max(signal as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Resolves when the socket is told at least this.
    pub async fn told(&self, least: Signal) -> Signal {
        poll_fn(|context| {
            self.waker.register(context.waker());
            match self.signal.load(Ordering::Acquire) {
                told if told < least as u8 => Poll::Pending,
                told if told == Signal::Drain as u8 => Poll::Ready(Signal::Drain),
                _ => Poll::Ready(Signal::GiveUp),
            }
        })
        .await
    }

    /// A body is waited for, until it comes.
    pub fn awaits_body(&self, is_awaited: bool) {
        if is_awaited {
            self.awaited_bodies.fetch_add(1, Ordering::Relaxed);
        } else {
            self.awaited_bodies.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Open {
    /// All but those that have given their place up.
    sockets: HashMap<u64, Arc<Presence>>,
    /// Sockets of an address, and requests under way of one that proxies name.
    addresses: HashMap<IpAddr, usize>,
    held: usize,
    /// All that are not closed yet.
    unclosed: usize,
    next: u64,
}

/// The places of one listener.
pub struct Places {
    began: Instant,
    places_max: usize,
    late_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
    freed: Notify,
}

impl Places {
    #[must_use]
    pub fn new(places_max: usize, late_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            places_max,
            late_max,
            per_address_max,
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a socket, counted by its address where that is given. Where none is left, the one
    /// that has been silent longest gives its own up. `None` where nobody is silent.
    pub fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<SocketPlace> {
        let mut open = self.open();
        if let Some(address) = address {
            let count = open.addresses.get(&address).copied().unwrap_or_default();
            if count >= self.per_address_max {
                open.give_up_longest_silent(|one| one.address == Some(address))?;
            }
        }
        let standing = if self.has_room(&mut open) {
            open.held += 1;
            Standing::Held
        } else {
            let late = open.sockets.len() - open.held;
            if late >= self.late_max {
                open.give_up_longest_silent(|one| one.standing() == Standing::Late)?;
            }
            Standing::Late
        };
        open.next += 1;
        let presence = Arc::new(Presence {
            number: open.next,
            began: self.began,
            address,
            standing: AtomicU8::new(standing as u8),
            moved_at: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            awaited_bodies: AtomicUsize::new(0),
            untaken_answers: AtomicUsize::new(0),
            broken_off: AtomicU32::new(0),
            is_blocked: AtomicBool::new(false),
            signal: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        });
        presence.has_moved();
        presence.idle_since.store(presence.now(), Ordering::Relaxed);
        if let Some(address) = address {
            *open.addresses.entry(address).or_default() += 1;
        }
        open.unclosed += 1;
        open.sockets.insert(presence.number, Arc::clone(&presence));
        Some(SocketPlace {
            places: Arc::clone(self),
            presence,
        })
    }

    /// Whether there is a place, after the longest silent one gave its own up where that is needed.
    fn has_room(&self, open: &mut Open) -> bool {
        open.held < self.places_max
            || open
                .give_up_longest_silent(|one| one.standing() == Standing::Held)
                .is_some()
    }

    /// Counts a request of a client that a trusted proxy names.
    ///
    /// # Errors
    /// Where so many requests of that address are under way already.
    pub fn count(self: &Arc<Self>, address: IpAddr) -> Result<Counted, Problem> {
        let mut open = self.open();
        let count = open.addresses.entry(address).or_default();
        if *count >= self.per_address_max {
            return Err(full(
                "too many requests of this address are under way (`server.connections_per_address_max`)",
            ));
        }
        *count += 1;
        Ok(Counted {
            places: Arc::clone(self),
            address,
        })
    }

    /// Waits for a place for a socket that came too late for one.
    ///
    /// # Errors
    /// Where there is none for so long.
    pub async fn admit(&self, presence: &Presence, patience: Duration) -> Result<(), Problem> {
        if presence.standing() == Standing::Held {
            return Ok(());
        }
        let waited = tokio::time::timeout(patience, async {
            while !self.promote(presence) {
                let freed = self.freed.notified();
                let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
            }
        });
        waited
            .await
            .map_err(|_| full("all places for connections are taken (`server.connections_max`)"))
    }

    fn promote(&self, presence: &Presence) -> bool {
        let mut open = self.open();
        // One that has given its place up is told so, and its request goes with it.
        if presence.standing() != Standing::Late {
            return presence.standing() == Standing::Held;
        }
        let has_room = self.has_room(&mut open);
        if has_room {
            open.held += 1;
            presence.stand(Standing::Held);
        }
        has_room
    }

    /// Tells all to end once what is under way is answered.
    pub fn drain(&self) {
        for presence in self.open().sockets.values() {
            presence.tell(Signal::Drain);
        }
    }

    /// Resolves when all are closed.
    pub async fn closed(&self) {
        loop {
            let freed = self.freed.notified();
            if self.open().unclosed == 0 {
                return;
            }
            let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
        }
    }
}

fn full(message: &str) -> Problem {
    let retry_after = Duration::from_secs(1);
    Problem::new(Kind::Unavailable { retry_after }, Decider::Larder, message)
}

impl Open {
    fn give_up_longest_silent(&mut self, is_meant: impl Fn(&Presence) -> bool) -> Option<()> {
        let silent = self.sockets.values();
        let silent = silent.filter(|one| is_meant(one) && one.waits_for_client());
        let longest = silent.min_by_key(|one| one.moved_at.load(Ordering::Relaxed))?;
        let longest = Arc::clone(longest);
        self.leave(&longest);
        longest.stand(Standing::GivenUp);
        longest.tell(Signal::GiveUp);
        Some(())
    }

    fn leave(&mut self, presence: &Presence) {
        if self.sockets.remove(&presence.number).is_none() {
            return;
        }
        if presence.standing() == Standing::Held {
            self.held -= 1;
        }
        if let Some(address) = presence.address {
            self.discount(address);
        }
    }

    fn discount(&mut self, address: IpAddr) {
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }
}

/// A socket's place; dropped with the socket.
pub struct SocketPlace {
    places: Arc<Places>,
    pub presence: Arc<Presence>,
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let mut open = self.places.open();
        open.leave(&self.presence);
        open.unclosed -= 1;
        drop(open);
        self.places.freed.notify_waiters();
    }
}

/// A request that is counted by the address that a trusted proxy names.
pub struct Counted {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.places.open().discount(self.address);
    }
}

/// A request under way at a socket: from its head to its answer's end.
pub struct UnderWay {
    presence: Arc<Presence>,
    pub counted: Option<Counted>,
    is_untaken: bool,
    is_whole: bool,
}

impl UnderWay {
    #[must_use]
    pub fn begin(presence: &Arc<Presence>) -> Self {
        presence.under_way.fetch_add(1, Ordering::Relaxed);
        Self {
            presence: Arc::clone(presence),
            counted: None,
            is_untaken: false,
            is_whole: false,
        }
    }

    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// A piece of the answer was given out, and is not taken before the next one is asked for.
    pub fn has_given(&mut self, is_last: bool) {
        self.is_whole |= is_last;
        self.untaken(true);
    }

    /// The client took all that there was; Larder has to bring the next piece.
    pub fn has_to_bring(&mut self) {
        self.untaken(false);
    }

    /// The answer has ended as it should.
    pub fn has_ended(&mut self) {
        self.is_whole = true;
    }

    fn untaken(&mut self, is_untaken: bool) {
        if self.is_untaken == is_untaken {
            return;
        }
        self.is_untaken = is_untaken;
        let untaken = &self.presence.untaken_answers;
        if is_untaken {
            untaken.fetch_add(1, Ordering::Relaxed);
        } else {
            untaken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.untaken(false);
        let presence = &self.presence;
        let now = presence.now();
        presence.idle_since.store(now, Ordering::Relaxed);
        presence.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.is_whole {
            presence.broken_off.store(0, Ordering::Relaxed);
        } else if presence.broken_off.fetch_add(1, Ordering::Relaxed) + 1 >= BROKEN_OFF_MAX {
            presence.tell(Signal::GiveUp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent_since(place: &SocketPlace, at: u64) {
        place.presence.moved_at.store(at, Ordering::Relaxed);
    }

    fn told(place: &SocketPlace) -> u8 {
        place.presence.signal.load(Ordering::Relaxed)
    }

    #[test]
    fn the_socket_that_has_been_silent_longest_gives_its_place_up() {
        let places = Places::new(3, 1, usize::MAX);
        let taken = [3, 1, 2].map(|at| {
            let place = places.take(None).unwrap();
            silent_since(&place, at);
            place
        });
        let next = places.take(None).unwrap();
        assert_eq!(taken.each_ref().map(told), [0, Signal::GiveUp as u8, 0]);
        assert_eq!(next.presence.standing(), Standing::Held);
    }

    #[test]
    fn a_socket_that_larder_works_for_keeps_its_place() {
        let places = Places::new(2, 1, usize::MAX);
        let working = places.take(None).unwrap();
        let waiting = places.take(None).unwrap();
        let _works = UnderWay::begin(&working.presence);
        let _waits = UnderWay::begin(&waiting.presence);
        silent_since(&working, 0);
        // Both work: who comes now is late, and the next one takes its turn.
        let late = places.take(None).unwrap();
        assert_eq!(late.presence.standing(), Standing::Late);
        let later = places.take(None).unwrap();
        assert_eq!(told(&late), Signal::GiveUp as u8);
        // One of the two waits for its client's body.
        waiting.presence.awaits_body(true);
        assert!(places.promote(&later.presence));
        assert_eq!((told(&working), told(&waiting)), (0, Signal::GiveUp as u8));
    }

    #[test]
    fn an_address_has_a_bound_of_its_own() {
        let places = Places::new(100, 1, 2);
        let (one, other) = (Some([192, 0, 2, 1].into()), Some([192, 0, 2, 2].into()));
        let near: Vec<_> = (0..10).map(|_| places.take(None).unwrap()).collect();
        let first = places.take(one).unwrap();
        let second = places.take(one).unwrap();
        silent_since(&first, 1);
        silent_since(&second, 2);
        let third = places.take(one).unwrap();
        assert_eq!((told(&first), told(&second)), (Signal::GiveUp as u8, 0));
        assert!(near.iter().all(|place| told(place) == 0));
        // None of the two is silent: the next one is refused, and another address is not.
        let _work = [&second, &third].map(|place| UnderWay::begin(&place.presence));
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(third);
        assert!(places.take(one).is_some());
    }

    #[test]
    fn requests_that_a_proxy_passes_on_are_counted_by_their_client() {
        let places = Places::new(100, 1, 2);
        let client = [192, 0, 2, 1].into();
        let counted = [places.count(client).unwrap(), places.count(client).unwrap()];
        let refused = places.count(client).err().unwrap();
        assert!(matches!(refused.kind, Kind::Unavailable { .. }));
        assert!(
            refused
                .message
                .contains("server.connections_per_address_max")
        );
        drop(counted);
        assert!(places.count(client).is_ok());
        assert!(places.open().addresses.is_empty());
    }

    #[test]
    fn who_breaks_off_every_answer_loses_the_socket() {
        let places = Places::new(1, 1, usize::MAX);
        let place = places.take(None).unwrap();
        let break_off = || drop(UnderWay::begin(&place.presence));
        for _ in 1..BROKEN_OFF_MAX {
            break_off();
        }
        let mut whole = UnderWay::begin(&place.presence);
        whole.has_given(true);
        drop(whole);
        for _ in 1..BROKEN_OFF_MAX {
            break_off();
        }
        assert_eq!(told(&place), 0);
        break_off();
        assert_eq!(told(&place), Signal::GiveUp as u8);
    }

    #[tokio::test]
    async fn all_are_told_to_end_and_waited_for() {
        let places = Places::new(2, 1, usize::MAX);
        let place = places.take(None).unwrap();
        places.drain();
        assert_eq!(place.presence.told(Signal::Drain).await, Signal::Drain);
        drop(place);
        places.closed().await;
    }
}
