//! Background work that has an owner: spawned through here, counted, and waited for at the end.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long to wait after so many failed attempts: a second, doubling up to ten minutes.
#[must_use]
pub fn pause_after(attempts: u32) -> Duration {
    const PAUSE_MIN: Duration = Duration::from_secs(1);
    PAUSE_MIN
        .saturating_mul(1 << attempts.min(16))
        .min(PAUSE_MAX)
}

/// The longest pause between two attempts.
pub const PAUSE_MAX: Duration = Duration::from_secs(600);

tokio::task_local! {
    static CAME_THROUGH: Arc<str>;
}

/// Does `work` for a request that came through other Larders. The tasks that it spawns do their
/// part for it too.
pub async fn through<T>(hops: String, work: impl Future<Output = T>) -> T {
    CAME_THROUGH.scope(hops.into(), work).await
}

/// The Larders that the request in hand came through, where it did.
#[must_use]
pub fn came_through() -> Option<Arc<str>> {
    CAME_THROUGH.try_with(Arc::clone).ok()
}

/// The owner of background tasks. They run on the runtime that it was made on, whoever spawns
/// them: a thread that serves sockets does nothing else. Work is boxed, since the runtime's part of
/// a task would else be compiled for each kind of work anew (measured: a fifteenth of the program).
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    runtime: Handle,
}

impl Default for Tasks {
    /// # Panics
    /// Outside a runtime.
    fn default() -> Self {
        Self {
            tracker: TaskTracker::default(),
            stopping: CancellationToken::default(),
            runtime: Handle::current(),
        }
    }
}

impl Tasks {
    /// Runs `work` to its end, whoever stops waiting for it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let work = match came_through() {
            Some(hops) => CAME_THROUGH.scope(hops, work).boxed(),
            None => work.boxed(),
        };
        self.tracker.spawn_on(work, &self.runtime)
    }

    /// Runs `work` on the runtime that it is called on.
    pub fn spawn_here<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tracker.spawn(work.boxed())
    }

    /// Runs `work` until it ends or Larder stops, whichever is first.
    pub fn spawn_until_stop(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        let work = async move { stopping.run_until_cancelled(work).await };
        self.tracker.spawn_on(work.boxed(), &self.runtime);
    }

    /// Looks for changes of what was read (`what`, as the log calls it) again and again, until Larder
    /// stops. Where a look fails, what was read before stays in force, and the log says so.
    pub fn poll<Looking, E>(
        &self,
        what: &'static str,
        every: impl Fn() -> Duration + Send + 'static,
        mut look: impl FnMut() -> Looking + Send + 'static,
    ) where
        Looking: Future<Output = Result<(), E>> + Send,
        E: fmt::Display + Send,
    {
        self.spawn_until_stop(async move {
            loop {
                tokio::time::sleep(every()).await;
                if let Err(error) = look().await {
                    warn!(%error, what, "Reloading failed; the previous state stays in force");
                }
            }
        });
    }

    /// Runs `work` where blocking is allowed (files, hashing, compression).
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
        self.tracker.spawn_blocking_on(work, &self.runtime)
    }

    /// Resolves when [`Tasks::stop`] was called.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Ends what runs until stop, then waits for the rest, but no longer than `patience`.
    /// Says whether all of it ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// Work under way, to be awaited by any number.
pub type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// Work under way, by key: whoever asks for the same key while it runs shares its outcome.
pub struct Flights<K, V: Clone> {
    tasks: Tasks,
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[must_use]
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            under_way: Arc::default(),
        }
    }

    /// Joins the work for `key`, or starts it as a task of the owner's, so that the one who came
    /// first may leave. `None` where the work panicked.
    pub fn join<F>(&self, key: &K, start: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(key) {
            return flight.clone();
        }
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
        };
        let (done, outcome) = oneshot::channel();
        let flight = async move { outcome.await.ok() }.boxed().shared();
        under_way.insert(key.clone(), flight.clone());
        // A runtime that has ended drops what it is given at once, and the landing takes this lock.
        drop(under_way);
        let work = start();
        self.tasks.spawn(async move {
            // Dropped before the outcome is told, also at the end of a panic: the next to ask starts
            // anew.
            let landing = landing;
            let outcome = work.await;
            drop(landing);
            let _ = done.send(outcome);
        });
        flight
    }
}

struct Landing<K: Eq + Hash, V: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V: Clone> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let landed = under_way.remove(&self.key);
        drop(under_way);
        // The result may be the last owner of something; it is dropped outside the lock.
        drop(landed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, mpsc};

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_one_flight_and_the_next_starts_anew() {
        let flights = Flights::<u8, usize>::new(Tasks::default());
        let (count, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let start = || {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            async move {
                gate.notified().await;
                count.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let first = flights.join(&1, start);
        let second = flights.join(&1, start);
        drop(first);
        gate.notify_one();
        assert_eq!(second.await, Some(1));
        gate.notify_one();
        assert_eq!(flights.join(&1, start).await, Some(2));
    }

    #[tokio::test]
    async fn a_look_that_fails_is_followed_by_another_until_the_stop() {
        let (tasks, (sender, mut looks)) = (Tasks::default(), mpsc::unbounded_channel());
        let look = move || std::future::ready(sender.send(()).map_or(Ok(()), |()| Err("broken")));
        tasks.poll("test", || Duration::ZERO, look);
        for _ in 0..3 {
            assert_eq!(looks.recv().await, Some(()));
        }
        assert!(tasks.stop(Duration::from_secs(10)).await);
        while looks.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn a_panic_ends_its_flight_and_no_other() {
        let flights = Flights::<u8, ()>::new(Tasks::default());
        assert_eq!(flights.join(&1, || async { panic!("boom") }).await, None);
        assert_eq!(flights.join(&1, || async {}).await, Some(()));
    }
}
