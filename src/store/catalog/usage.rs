//! Uses of blobs: noted in memory, written in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Catalog;
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
    pub(in crate::store) fn start(catalog: &Catalog, tasks: &Tasks) -> Self {
        let catalog = catalog.clone();
        let write = move |notes| {
            let catalog = catalog.clone();
            async move { catalog.used(notes).await.map_err(Into::into) }
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

impl Catalog {
    async fn used(&self, notes: HashMap<BlobId, i64>) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for (id, used_at) in notes {
            sqlx::query("UPDATE blob SET used_at = ?, reused = 1 WHERE id = ?")
                .bind(used_at)
                .bind(id.as_bytes().as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }
}
