//! Wishes: packages that were asked for and are not here. Noted in memory, written in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::clock;
use crate::package::PackageId;
use crate::store::notes::Notes;
use crate::store::sql::{Count, Error, from_row};
use crate::task::Tasks;

const EVERY: Duration = Duration::from_secs(5);
/// Wishes that may wait to be written; at this many they are written at once.
const WAITING_MAX: usize = 1000;

/// Something that a client wanted while there was no line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub repository: String,
    /// `npm:@scope/name`.
    pub package: String,
    /// Empty where the package itself was asked for.
    #[serde(default)]
    pub version: String,
    /// Its path below the package; empty where the package's document was asked for.
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub times: u64,
    #[serde(default, deserialize_with = "clock::read_time")]
    pub first_at: Timestamp,
    #[serde(default, deserialize_with = "clock::read_time")]
    pub last_at: Timestamp,
}

from_row!(
    SqliteRow,
    Wish {
        repository,
        package,
        version,
        file,
        times,
        first_at,
        last_at
    }
);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    repository: String,
    package: String,
    version: String,
    file: String,
}

/// Wishes on their way to the catalog.
pub struct Wishes {
    rows: WishRows,
    notes: Arc<Notes<Wanted, u64>>,
}

impl Wishes {
    pub(in crate::store) fn start(rows: WishRows, tasks: &Tasks) -> Self {
        let writer = rows.clone();
        let write = move |wanted| {
            let rows = writer.clone();
            async move { rows.add(wanted).await.map_err(Into::into) }
        };
        Self {
            rows,
            notes: Notes::start(tasks, "wishes", EVERY, WAITING_MAX, write),
        }
    }

    /// Notes that somebody wanted this; the version and the file are empty where the package's
    /// document was asked for.
    pub fn note(&self, repository: &str, package: &PackageId, version: &str, file: &str) {
        let wanted = Wanted {
            repository: repository.to_owned(),
            package: package.to_string(),
            version: version.to_owned(),
            file: file.to_owned(),
        };
        self.notes.note(wanted, 1, |times, more| *times += more);
    }

    /// The wishes that are still not stored, the most wanted first.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn list(&self) -> Result<Vec<Wish>, Error> {
        self.flush().await;
        self.rows.list().await
    }

    /// Forgets all wishes; says how many there were.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn clear(&self) -> Result<u64, Error> {
        self.flush().await;
        self.rows.clear().await
    }

    pub(in crate::store) async fn flush(&self) {
        self.notes.flush().await;
    }
}

/// The catalog's wishes, no more than `max` of them.
#[derive(Clone)]
pub struct WishRows {
    pub(super) pool: SqlitePool,
    pub(super) max: usize,
}

impl WishRows {
    async fn add(&self, wanted: HashMap<Wanted, u64>) -> Result<(), Error> {
        let now = clock::unix_now();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for (wanted, times) in wanted {
            sqlx::query(
                "INSERT INTO wish (repository, package, version, file, first_at, last_at, times) \
                 VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE \
                 SET last_at = excluded.last_at, times = times + excluded.times",
            )
            .bind(&wanted.repository)
            .bind(&wanted.package)
            .bind(&wanted.version)
            .bind(&wanted.file)
            .bind(now)
            .bind(now)
            .bind(Count(times))
            .execute(&mut *transaction)
            .await?;
        }
        // The oldest go where there are too many.
        sqlx::query(
            "DELETE FROM wish WHERE (repository, package, version, file) IN (SELECT repository, \
             package, version, file FROM wish ORDER BY last_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(Count(self.max as u64))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    async fn list(&self) -> Result<Vec<Wish>, Error> {
        let wishes = sqlx::query_as(
            "SELECT repository, package, version, file, first_at, last_at, times FROM wish \
             WHERE NOT EXISTS (SELECT 1 FROM asset JOIN blob ON blob.id = asset.blob \
             WHERE asset.package = wish.package AND (wish.file = '' OR asset.file = wish.file)) \
             ORDER BY times DESC, package, version, file",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(wishes)
    }

    async fn clear(&self) -> Result<u64, Error> {
        let done = sqlx::query("DELETE FROM wish").execute(&self.pool).await?;
        Ok(done.rows_affected())
    }
}
