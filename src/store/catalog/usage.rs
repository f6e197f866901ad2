//! Uses of blobs: noted in memory, written in batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use super::Catalog;
use crate::clock;
use crate::package::BlobId;
use crate::task::Tasks;

const EVERY: Duration = Duration::from_secs(10);
/// Notes that may wait; at this many they are written at once.
const NOTES_MAX: usize = 10_000;

pub struct Usage {
    catalog: Catalog,
    notes: Mutex<HashMap<BlobId, i64>>,
    full: Notify,
}

/// Writes notes now and then, until Larder stops.
pub(in crate::store) fn start(tasks: &Tasks, usage: &Arc<Usage>) {
    let usage = Arc::clone(usage);
    tasks.spawn_until_stop(async move {
        loop {
            let _ = tokio::time::timeout(EVERY, usage.full.notified()).await;
            usage.flush().await;
        }
    });
}

impl Usage {
    pub(in crate::store) fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            notes: Mutex::default(),
            full: Notify::new(),
        }
    }

    pub(in crate::store) fn note(&self, id: BlobId) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= NOTES_MAX {
            self.full.notify_one();
            return;
        }
        notes.insert(id, clock::unix_ms_now());
    }

    pub(in crate::store) async fn flush(&self) {
        let notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        if notes.is_empty() {
            return;
        }
        if let Err(error) = self.write(notes).await {
            warn!(%error, "Uses of blobs were not written down");
        }
    }

    async fn write(&self, notes: HashMap<BlobId, i64>) -> Result<(), sqlx::Error> {
        let mut transaction = self.catalog.pool.begin().await?;
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
