//! What a publish made old: upstream is asked again before it is served.

use super::Fetcher;
use crate::problem::Problem;

impl Fetcher {
    /// Has these documents of the connection asked for anew, or all of them, and forgets what the
    /// connection lately did not have.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub async fn outdate(&self, connection: &str, keys: Option<&[String]>) -> Result<(), Problem> {
        let concerns = |key: &str| keys.is_none_or(|keys| keys.iter().any(|it| it == key));
        self.store
            .catalog()
            .documents()
            .outdate(connection, keys)
            .await
            .map_err(|error| Problem::internal("the catalog cannot be written", error))?;
        // Dropped from memory, a document's answers end, and its row is read again.
        for (key, _) in &self.documents {
            if *key.connection == *connection && concerns(&key.key) {
                self.documents.invalidate(key.as_ref()).await;
            }
        }
        self.forget_absent(connection).await;
        Ok(())
    }

    /// Forgets what the connection lately did not have.
    pub(super) async fn forget_absent(&self, connection: &str) {
        for (key, ()) in &self.absent {
            if *key.connection == *connection {
                self.absent.invalidate(key.as_ref()).await;
            }
        }
        for (key, _) in &self.absent_assets {
            if *key.connection == *connection {
                self.absent_assets.invalidate(key.as_ref()).await;
            }
        }
    }
}
