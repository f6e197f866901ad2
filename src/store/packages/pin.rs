//! Pins: packages from outside that are never evicted, by the operator's word.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::Error;
use super::database::Database;
use crate::clock;
use crate::rule::Pattern;
use crate::store::sql::from_row;

/// A pattern of packages that are never evicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub pattern: String,
    /// Seconds since 1970.
    pub since: i64,
}

from_row!(AnyRow, Pin { pattern, since });

/// The rows of pins.
#[derive(Clone)]
pub struct Pins {
    pub(super) database: Arc<Database>,
}

impl Pins {
    /// The patterns that are pinned, in their order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn all(&self) -> Result<Vec<Pin>, Error> {
        let sql = "SELECT pattern, since FROM pin ORDER BY pattern";
        Ok(sqlx::query_as(sql).fetch_all(&self.database.door).await?)
    }

    /// Adds and removes pins; says which of those to be removed there were.
    pub(in crate::store) async fn change(
        &self,
        add: &[Pattern],
        remove: &[String],
    ) -> Result<Vec<String>, Error> {
        let since = clock::unix_now();
        let pins = add.iter().map(|pattern| Pin {
            pattern: pattern.to_string(),
            since,
        });
        self.write(&pins.collect::<Vec<_>>(), remove).await
    }

    /// Brings pins that were kept elsewhere, with the times since when they hold.
    pub(in crate::store) async fn bring(&self, pins: &[Pin]) -> Result<(), Error> {
        self.write(pins, &[]).await.map(drop)
    }

    async fn write(&self, add: &[Pin], remove: &[String]) -> Result<Vec<String>, Error> {
        let (_permit, mut transaction) = self.database.begin().await?;
        for pin in add {
            sqlx::query("INSERT INTO pin (pattern, since) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(&pin.pattern)
                .bind(pin.since)
                .execute(&mut *transaction)
                .await?;
        }
        let mut removed = Vec::new();
        for pattern in remove {
            let done = sqlx::query("DELETE FROM pin WHERE pattern = $1")
                .bind(pattern)
                .execute(&mut *transaction)
                .await?;
            if done.rows_affected() > 0 {
                removed.push(pattern.clone());
            }
        }
        transaction.commit().await?;
        Ok(removed)
    }
}
