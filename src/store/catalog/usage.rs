//! Uses of blobs: noted in memory, written in batches.

use std::sync::Arc;
use std::time::Duration;

use super::Blobs;
use crate::clock;
use crate::package::BlobId;
use crate::store::notes::Notes;
use crate::task::Tasks;

const EVERY: Duration = Duration::from_secs(10);
/// Notes that may wait; at this many they are written at once.
const NOTES_MAX: usize = 10_000;

/// When blobs were used last; milliseconds since 1970.
pub struct Usage(Arc<Notes<BlobId, i64>>);

impl Usage {
    pub(in crate::store) fn start(blobs: &Blobs, tasks: &Tasks) -> Self {
        let blobs = blobs.clone();
        let write = move |notes| {
            let blobs = blobs.clone();
            async move { blobs.mark_used(notes).await.map_err(Into::into) }
        };
        let what = "uses of blobs";
        Self(Notes::start(tasks, what, EVERY, NOTES_MAX, write))
    }

    pub(in crate::store) fn note(&self, id: BlobId) {
        let used_at = clock::unix_ms_now();
        self.0.note(id, used_at, |last, now| *last = now);
    }

    pub(in crate::store) async fn flush(&self) {
        self.0.flush().await;
    }
}
