//! Origin restrictions of packages.

use std::sync::Arc;

use super::Error;
use super::database::Database;

/// Origin restrictions of packages.
#[derive(Clone)]
pub struct OriginRestrictions {
    pub(super) database: Arc<Database>,
}

impl OriginRestrictions {
    /// The repositories of which anything was said of a package's origins.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn repositories(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT DISTINCT repository FROM package_restriction";
        let names = sqlx::query_scalar(sql);
        Ok(names.fetch_all(&self.database.door).await?)
    }
}
