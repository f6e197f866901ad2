//! Facts about the domain as a whole.

use super::{Error, Packages};

/// The domain in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainFacts {
    /// When the oldest repository was made; milliseconds since 1970.
    pub created_at: i64,
    /// The size of all published files; each blob counts once.
    pub asset_bytes: i64,
}

impl Packages {
    /// The domain in numbers.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn domain_facts(&self) -> Result<DomainFacts, Error> {
        let created_at = "SELECT COALESCE(MIN(created_at), 0) FROM repository";
        let asset_bytes = "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM \
             (SELECT MIN(size) AS size FROM package_asset GROUP BY blob) AS blobs";
        Ok(DomainFacts {
            created_at: sqlx::query_scalar(created_at)
                .fetch_one(&self.database.door)
                .await?,
            asset_bytes: sqlx::query_scalar(asset_bytes)
                .fetch_one(&self.database.door)
                .await?,
        })
    }
}
