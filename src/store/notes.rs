//! Notes that are gathered in memory and written in batches: uses of blobs, wishes, names seen
//! outside.

use std::collections::HashMap;
use std::error::Error;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tracing::warn;

use crate::task::Tasks;

/// Writes one batch.
type Write<K, V> = dyn Fn(HashMap<K, V>) -> BoxFuture<'static, Result<(), Box<dyn Error + Send + Sync>>>
    + Send
    + Sync;

/// Notes of one kind, at most one for each key.
pub(super) struct Notes<K, V> {
    /// How the log calls them.
    what: &'static str,
    waiting: Mutex<HashMap<K, V>>,
    waiting_max: usize,
    full: Notify,
    write: Box<Write<K, V>>,
    /// The last batch was lost: the log has said so.
    is_failing: AtomicBool,
}

impl<K: Hash + Eq + Send + 'static, V: Send + 'static> Notes<K, V> {
    /// Begins to write what is noted, `every` so long or when `waiting_max` wait, until Larder stops.
    pub fn start<F, Writing>(
        tasks: &Tasks,
        what: &'static str,
        every: Duration,
        waiting_max: usize,
        write: F,
    ) -> Arc<Self>
    where
        F: Fn(HashMap<K, V>) -> Writing + Send + Sync + 'static,
        Writing: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let notes = Arc::new(Self {
            what,
            waiting: Mutex::default(),
            waiting_max,
            full: Notify::new(),
            write: Box::new(move |batch| Box::pin(write(batch))),
            is_failing: AtomicBool::default(),
        });
        let writer = Arc::clone(&notes);
        tasks.spawn_until_stop(async move {
            loop {
                let _ = tokio::time::timeout(every, writer.full.notified()).await;
                writer.flush().await;
            }
        });
        notes
    }

    /// Notes the value; `join` adds it to one that waits under the same key. Says whether there was
    /// room: a note that is not taken is lost.
    pub fn note(&self, key: K, value: V, join: impl FnOnce(&mut V, V)) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.waiting_max {
            self.full.notify_one();
            return false;
        }
        match waiting.entry(key) {
            std::collections::hash_map::Entry::Occupied(mut noted) => join(noted.get_mut(), value),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(value);
            }
        }
        true
    }

    /// Writes what waits.
    pub async fn flush(&self) {
        let batch =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return;
        }
        let what = self.what;
        match (self.write)(batch).await {
            Ok(()) => self.is_failing.store(false, Ordering::Relaxed),
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                warn!(%error, what, "Writing a batch of notes failed; these and the next are lost until a batch is written again");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notes_of_one_key_are_joined_and_written_once_and_no_more_wait_than_may() {
        let (sender, mut written) = tokio::sync::mpsc::unbounded_channel();
        let tasks = Tasks::default();
        let notes = Notes::start(&tasks, "test", Duration::from_secs(3600), 2, move |batch| {
            let sent = sender.send(batch);
            async move { sent.map_err(|error| error.to_string().into()) }
        });
        let add = |sum: &mut u32, more| *sum += more;
        assert!(notes.note("a", 1, add));
        assert!(notes.note("a", 2, add));
        assert!(notes.note("b", 1, add));
        // The third key wakes the writer.
        assert!(!notes.note("c", 1, add));
        let batch = written.recv().await.unwrap();
        assert_eq!(batch, HashMap::from([("a", 3), ("b", 1)]));
        notes.flush().await;
        assert!(written.try_recv().is_err(), "nothing waits");
    }
}
