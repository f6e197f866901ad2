//! The memory in which documents are read and rendered: one bound in bytes for all of them together.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::task::Tasks;

/// Memory is counted in units of this size.
const UNIT_BYTES: u64 = 64 * 1024;
/// A small document counts as one of this size, so that not more are worked on than is of use.
const DOCUMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Work on a document of this size is worth giving memory back after it.
const LARGE_BYTES_MIN: u64 = 1024 * 1024;

/// Where documents are read and rendered. Each counts with its size, and takes up to three times that
/// while it is worked on; those that find no room wait, in the order in which they came. A document
/// that is larger than all the room there is waits for all of it.
pub struct DocumentMemory {
    places: Arc<Semaphore>,
    /// The whole room.
    units: u32,
    tasks: Tasks,
    large_work: Arc<Notify>,
}

/// Room for one document, until it is dropped.
pub struct DocumentRoom {
    tasks: Tasks,
    held: Held,
}

struct Held {
    _place: OwnedSemaphorePermit,
    bytes: u64,
    large_work: Arc<Notify>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes >= LARGE_BYTES_MIN {
            self.large_work.notify_one();
        }
    }
}

impl DocumentMemory {
    /// `bytes` is the size of all documents that are worked on at the same time.
    pub fn new(bytes: u64, tasks: &Tasks) -> Arc<Self> {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let units = units.min(most);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(1))),
            units,
            tasks: tasks.clone(),
            large_work: Arc::default(),
        })
    }

    /// Waits for room for a document of this size. Whoever holds room waits for no more of it.
    ///
    /// # Errors
    /// Where Larder stops.
    pub async fn room(&self, bytes: u64) -> Result<DocumentRoom, Problem> {
        let units = bytes.max(DOCUMENT_BYTES_MIN).div_ceil(UNIT_BYTES);
        let units = u32::try_from(units).unwrap_or(u32::MAX).min(self.units);
        let place = Arc::clone(&self.places).acquire_many_owned(units).await;
        let place = place.map_err(|error| Problem::internal("reading documents stopped", error))?;
        Ok(DocumentRoom {
            tasks: self.tasks.clone(),
            held: Held {
                _place: place,
                bytes,
                large_work: Arc::clone(&self.large_work),
            },
        })
    }

    /// Waits for room and does the work in it.
    ///
    /// # Errors
    /// Where Larder stops, or the work panics.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.room(bytes).await?.run(work).await
    }

    /// Resolves when work on a large document is done, also where it was done since the last call.
    pub async fn large_work_done(&self) {
        self.large_work.notified().await;
    }
}

impl DocumentRoom {
    /// Runs the work where it may take its time. The room is free when it ends, whoever waits for
    /// that.
    ///
    /// # Errors
    /// Where the work panics.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let Self { tasks, held } = self;
        tasks
            .spawn_blocking(move || {
                let _held = held;
                work()
            })
            .await
            .map_err(|error| Problem::internal("reading a document failed", error))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test]
    async fn documents_that_find_no_room_wait_in_order() {
        let memory = DocumentMemory::new(10 * MIB, &Tasks::default());
        let first = memory.room(6 * MIB).await.unwrap();
        let small = memory.room(10).await.unwrap();
        let mut large = Box::pin(memory.room(4 * MIB));
        assert!(
            large.as_mut().now_or_never().is_none(),
            "10 bytes count as 1 MiB"
        );
        let mut later = Box::pin(memory.room(10));
        assert!(later.as_mut().now_or_never().is_none(), "it came later");
        drop(small);
        let large = large.await.unwrap();
        drop(first);
        later.await.unwrap();
        drop(large);
    }

    #[tokio::test]
    async fn a_document_larger_than_all_the_room_runs_alone() {
        let memory = DocumentMemory::new(10 * MIB, &Tasks::default());
        let other = memory.room(MIB).await.unwrap();
        let mut huge = Box::pin(memory.room(1000 * MIB));
        assert!(huge.as_mut().now_or_never().is_none());
        drop(other);
        let huge = huge.await.unwrap();
        assert!(memory.room(1).now_or_never().is_none());
        assert_eq!(huge.run(|| 7).await.unwrap(), 7);
        memory.large_work_done().await;
        assert_eq!(memory.run(1, || 8).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_bound_of_nothing_lets_one_through_at_a_time() {
        let memory = DocumentMemory::new(0, &Tasks::default());
        let one = memory.room(1).await.unwrap();
        assert!(memory.room(1).now_or_never().is_none());
        drop(one);
        memory.room(1).await.unwrap();
    }
}
