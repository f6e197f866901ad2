//! Origin restrictions of packages.

use std::sync::Arc;

use super::Error;
use super::database::Database;
use crate::package::PackageId;
use crate::rule::{Restrictions, Way};
use crate::store::sql::Column;

/// Origin restrictions of packages.
#[derive(Clone)]
pub struct OriginRestrictions {
    pub(super) database: Arc<Database>,
}

impl OriginRestrictions {
    /// The origin restrictions of a package, where somebody set them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn of(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Option<Restrictions>, Error> {
        let said: Option<(Column<Way>, Column<Way>)> = sqlx::query_as(
            "SELECT publish, upstream FROM package_restriction WHERE repository = $1 AND package = $2",
        )
        .bind(repository)
        .bind(package.to_string())
        .fetch_optional(&self.database.door)
        .await?;
        Ok(said.map(|(publish, upstream)| Restrictions {
            publish: publish.0,
            upstream: upstream.0,
        }))
    }

    /// Whether anything was said of any package's origins.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn exist(&self) -> Result<bool, Error> {
        let found = sqlx::query("SELECT 1 FROM package_restriction LIMIT 1")
            .fetch_optional(&self.database.door)
            .await?;
        Ok(found.is_some())
    }
}
