//! Daily counts: requests per repository, fetches per connection, and who took which version.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;

use crate::clock;
use crate::config;
use crate::store::sql::{Count, Error, from_row};
use crate::telemetry::{LedgerPage, Who};

const DAY_SECONDS: i64 = 24 * 3600;

/// The requests to a repository on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficOfDay {
    pub day: Date,
    pub repository: String,
    pub format: String,
    pub requests: u64,
    pub hits: u64,
    pub failures: u64,
    /// Bytes sent to clients.
    pub served: u64,
}

from_row!(
    SqliteRow,
    TrafficOfDay {
        day,
        repository,
        format,
        requests,
        hits,
        failures,
        served
    }
);

/// The fetches from one connection on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressOfDay {
    pub day: Date,
    pub connection: String,
    pub format: String,
    pub fetches: u64,
    /// Bytes received; of compressed documents, those within.
    pub bytes: u64,
}

from_row!(
    SqliteRow,
    EgressOfDay {
        day,
        connection,
        format,
        fetches,
        bytes
    }
);

/// One user's pulls of a version on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    pub day: Date,
    /// A principal's ARN, or an address.
    pub who: String,
    pub repository: String,
    pub version: String,
    pub last_at: Timestamp,
    pub times: u64,
    pub bytes: u64,
}

from_row!(
    SqliteRow,
    Pull {
        day,
        who,
        repository,
        version,
        last_at,
        times,
        bytes
    }
);

/// A package, and how much of it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// `npm:@scope/name`.
    pub package: String,
    pub files: u64,
    pub bytes: u64,
    pub last_used: Timestamp,
}

from_row!(
    SqliteRow,
    Size {
        package,
        files,
        bytes,
        last_used
    }
);

/// The catalog's lines for reports, one a day of each kind.
#[derive(Clone)]
pub struct Reports {
    pub(super) pool: SqlitePool,
}

impl Reports {
    /// Adds what was counted to today's lines. Lines of days that are not remembered any more go, and who
    /// pulled what beyond the bound, the oldest first.
    pub(in crate::store) async fn add(
        &self,
        page: LedgerPage,
        bounds: &config::ReportSettings,
    ) -> Result<(), Error> {
        let now = clock::unix_now();
        let day = now.div_euclid(DAY_SECONDS);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for one in page.traffic {
            sqlx::query(
                "INSERT INTO traffic (day, repository, format, requests, hits, failures, served) \
                 VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, \
                 hits = hits + excluded.hits, failures = failures + excluded.failures, served = served + excluded.served",
            )
            .bind(day)
            .bind(one.repository)
            .bind(one.format.as_str())
            .bind(Count(one.counts.requests))
            .bind(Count(one.counts.hits))
            .bind(Count(one.counts.failures))
            .bind(Count(one.counts.served_bytes))
            .execute(&mut *transaction)
            .await?;
        }
        for one in page.egress {
            sqlx::query(
                "INSERT INTO egress (day, connection, format, fetches, bytes) VALUES (?, ?, ?, ?, ?) \
                 ON CONFLICT DO UPDATE SET fetches = fetches + excluded.fetches, bytes = bytes + excluded.bytes",
            )
            .bind(day)
            .bind(one.connection)
            .bind(one.format.as_str())
            .bind(Count(one.fetches))
            .bind(Count(one.bytes))
            .execute(&mut *transaction)
            .await?;
        }
        let pulls = page.pulls.len();
        for (of, who, times) in page.pulls {
            let who = match who {
                Who::Named(name) => name.into_string(),
                Who::At(address) => address.to_string(),
            };
            sqlx::query(
                "INSERT INTO pull (package, version, day, who, repository, last_at, times, bytes) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last_at = excluded.last_at, \
                 times = times + excluded.times, bytes = bytes + excluded.bytes",
            )
            .bind(&of.package)
            .bind(&of.version)
            .bind(day)
            .bind(who)
            .bind(&of.repository)
            .bind(now)
            .bind(Count(times.times))
            .bind(Count(times.bytes))
            .execute(&mut *transaction)
            .await?;
        }
        if pulls > 0 {
            let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pull")
                .fetch_one(&mut *transaction)
                .await?;
            let surplus = count - i64::try_from(bounds.pulls_max).unwrap_or(i64::MAX);
            if surplus > 0 {
                sqlx::query(
                    "DELETE FROM pull WHERE (package, version, day, who, repository) IN \
                     (SELECT package, version, day, who, repository FROM pull ORDER BY day LIMIT ?)",
                )
                .bind(surplus)
                .execute(&mut *transaction)
                .await?;
            }
        }
        transaction.commit().await?;
        self.old_lines(bounds, true).await?;
        Ok(())
    }

    /// Lines older than they are remembered; says how many there are, or were.
    pub(in crate::store) async fn old_lines(
        &self,
        bounds: &config::ReportSettings,
        forgets: bool,
    ) -> Result<u64, Error> {
        let keep = i64::try_from(bounds.keep.as_secs()).unwrap_or(i64::MAX);
        let before = clock::unix_now()
            .saturating_sub(keep)
            .div_euclid(DAY_SECONDS);
        let mut count = 0;
        for table in ["traffic", "egress", "pull"] {
            let sql = if forgets {
                format!("DELETE FROM {table} WHERE day < ? RETURNING day")
            } else {
                format!("SELECT day FROM {table} WHERE day < ?")
            };
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(before)
                .fetch_all(&self.pool)
                .await?;
            count += rows.len() as u64;
        }
        Ok(count)
    }

    /// The requests to repositories in the last days, including today.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn traffic(&self, days: u32) -> Result<Vec<TrafficOfDay>, Error> {
        let lines = sqlx::query_as(
            "SELECT day, repository, format, requests, hits, failures, served FROM traffic WHERE day > ? \
             ORDER BY day, repository, format",
        )
        .bind(first_day(days))
        .fetch_all(&self.pool)
        .await?;
        Ok(lines)
    }

    /// The fetches from connections in the last days, including today.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn egress(&self, days: u32) -> Result<Vec<EgressOfDay>, Error> {
        let lines = sqlx::query_as(
            "SELECT day, connection, format, fetches, bytes FROM egress WHERE day > ? ORDER BY day, connection",
        )
        .bind(first_day(days))
        .fetch_all(&self.pool)
        .await?;
        Ok(lines)
    }

    /// The pulls of the package's versions, the latest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn pulls(&self, package: &str) -> Result<Vec<Pull>, Error> {
        let lines = sqlx::query_as(
            "SELECT day, who, repository, version, last_at, times, bytes FROM pull \
             WHERE package = ? ORDER BY last_at DESC, who",
        )
        .bind(package)
        .fetch_all(&self.pool)
        .await?;
        Ok(lines)
    }

    /// The packages of which most bytes are here, or those unused for longest.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn package_sizes(&self, by_use: bool, limit: usize) -> Result<Vec<Size>, Error> {
        let order = if by_use {
            "last_used, bytes DESC"
        } else {
            "bytes DESC"
        };
        let sql = format!(
            "SELECT package, COUNT(*) AS files, SUM(blob.size) AS bytes, MAX(used_at) / 1000 AS last_used FROM asset \
             JOIN blob ON blob.id = asset.blob GROUP BY package ORDER BY {order} LIMIT ?"
        );
        let lines = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(Count(limit as u64))
            .fetch_all(&self.pool)
            .await?;
        Ok(lines)
    }
}

/// The day before the first of the last days.
fn first_day(days: u32) -> i64 {
    clock::unix_now().div_euclid(DAY_SECONDS) - i64::from(days)
}
