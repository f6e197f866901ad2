//! Aliases: paths that stand for addresses which no path can be read from.

use moka::sync::Cache;
use sqlx::SqlitePool;

use crate::store::rendered::KeptAlias;
use crate::store::sql::Error;

/// Aliases that are remembered whether the database took them or not.
const LATE_MAX: u64 = 10_000;

/// The catalog's aliases.
#[derive(Clone)]
pub struct Aliases {
    pool: SqlitePool,
    /// The latest aliases, by connection and path.
    late: Cache<(String, String), String>,
}

impl Aliases {
    pub(super) fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            late: Cache::new(LATE_MAX),
        }
    }

    /// The address that the path stands for.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn target(&self, connection: &str, path: &str) -> Result<Option<String>, Error> {
        if let Some(target) = self.late.get(&(connection.to_owned(), path.to_owned())) {
            return Ok(Some(target));
        }
        let sql = "SELECT target FROM alias WHERE connection = ? AND path = ?";
        let target = sqlx::query_scalar(sql)
            .bind(connection)
            .bind(path)
            .fetch_optional(&self.pool)
            .await?;
        Ok(target)
    }

    /// Keeps aliases, each in the place of what its path stood for before.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn keep(&self, aliases: &[KeptAlias]) -> Result<(), Error> {
        for alias in aliases {
            let place = (alias.connection.clone(), alias.path.clone());
            self.late.insert(place, alias.target.clone());
        }
        let mut transaction = self.pool.begin().await?;
        for alias in aliases {
            sqlx::query("INSERT OR REPLACE INTO alias (connection, path, target) VALUES (?, ?, ?)")
                .bind(&alias.connection)
                .bind(&alias.path)
                .bind(&alias.target)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::catalog::Catalog;
    use crate::store::markers::LastEnd;

    #[tokio::test]
    async fn so_many_addresses_are_known_in_memory_and_all_in_the_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("larder.sqlite");
        let catalog = Catalog::open(&file, LastEnd::Closed);
        let catalog = catalog.await.unwrap();
        let aliases = catalog.aliases();
        let all: Vec<KeptAlias> = (0..LATE_MAX + 50)
            .map(|number| KeptAlias {
                connection: "up:pypi".to_owned(),
                path: format!("path-{number}"),
                target: format!("target-{number}"),
            })
            .collect();
        aliases.keep(&all).await.unwrap();
        aliases.late.run_pending_tasks();
        assert_eq!(aliases.late.entry_count(), LATE_MAX);
        for alias in &all {
            let place = (alias.connection.clone(), alias.path.clone());
            if !aliases.late.contains_key(&place) {
                let found = aliases.target("up:pypi", &alias.path).await.unwrap();
                assert_eq!(found.as_deref(), Some(&*alias.target));
            }
        }
    }
}
