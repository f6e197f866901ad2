//! All rows of the package catalog, read in one view and written into an empty one, whichever database
//! either is in.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _};
use tokio::sync::SemaphorePermit;

use super::door::Statements;
use super::{Error, Packages};
use crate::store::sql::{ROWS_AT_ONCE, places};
use Kind::{Bytes, Number, Text};

/// Kinds of columns. Each may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Text,
    Number,
    Bytes,
}

/// A column's name and kind.
pub(in crate::store) type Column = (&'static str, Kind);

/// A table and its columns.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub name: &'static str,
    pub columns: &'static [Column],
}

/// The columns that rows have, by table: a backup from before a column was made has fewer.
pub(in crate::store) type Layout = BTreeMap<&'static str, Vec<Column>>;

/// Tables that speak of this moment and this database alone.
const OF_THE_MOMENT: [&str; 1] = ["holder"];

/// The names of all tables.
pub(super) fn all_names() -> impl Iterator<Item = &'static str> {
    let outlasting = TABLES.iter().map(|table| table.name);
    outlasting.chain(OF_THE_MOMENT)
}

/// Tables that have rows in a database that was only begun.
const BEGUN: [&str; 6] = [
    "access_state",
    "catalog",
    "pin",
    "repository",
    "signing_key",
    OUTSIDE,
];
/// Names that were seen outside while a database was new stay seen.
const OUTSIDE: &str = "outside_name";

/// Every table whose rows outlast a database.
pub(in crate::store) const TABLES: &[Table] = &[
    Table {
        name: "repository",
        columns: &[("name", Text), ("created_at", Number)],
    },
    Table {
        name: "package",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("origin", Text),
            ("revision", Text),
            ("changed_at", Number),
            ("description", Text),
            ("keywords", Text),
            ("latest", Text),
            ("versions", Number),
        ],
    },
    Table {
        name: "package_version",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("version", Text),
            ("position", Number),
            ("status", Text),
            ("origin", Text),
            ("revision", Text),
            ("published_at", Number),
            ("manifest", Text),
            ("readme", Text),
        ],
    },
    Table {
        name: "package_asset",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("file", Text),
            ("version", Text),
            ("blob", Bytes),
            ("size", Number),
            ("md5", Text),
            ("sha1", Text),
            ("sha512", Text),
            ("media_type", Text),
            ("published_at", Number),
            ("facts", Text),
            ("staged", Number),
        ],
    },
    Table {
        name: "package_tag",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("tag", Text),
            ("version", Text),
        ],
    },
    Table {
        name: "package_dependency",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("version", Text),
            ("position", Number),
            ("kind", Text),
            ("name", Text),
            ("requirement", Text),
        ],
    },
    Table {
        name: "spool",
        columns: &[
            ("id", Text),
            ("repository", Text),
            ("connection", Text),
            ("method", Text),
            ("path", Text),
            ("headers", Text),
            ("blob", Bytes),
            ("size", Number),
            ("queued_at", Number),
            ("attempts", Number),
            ("next_at", Number),
            ("said", Text),
            ("place", Text),
            ("set_aside", Number),
        ],
    },
    Table {
        name: "access_state",
        columns: &[("id", Number), ("number", Number)],
    },
    Table {
        name: "signing_key",
        columns: &[("id", Text), ("secret", Text), ("created_at", Number)],
    },
    Table {
        name: "revoked_token",
        columns: &[("id", Text), ("expires_at", Number)],
    },
    Table {
        name: "machine_token",
        columns: &[
            ("id", Text),
            ("hash", Bytes),
            ("principal", Text),
            ("note", Text),
            ("created_at", Number),
            ("expires_at", Number),
        ],
    },
    Table {
        name: "access_key",
        columns: &[
            ("id", Text),
            ("secret", Text),
            ("principal", Text),
            ("created_at", Number),
        ],
    },
    Table {
        name: "policy",
        columns: &[("resource", Text), ("document", Text), ("revision", Text)],
    },
    Table {
        name: "resource_tag",
        columns: &[("resource", Text), ("tag", Text), ("value", Text)],
    },
    Table {
        name: "managed_repository",
        columns: &[
            ("name", Text),
            ("description", Text),
            ("upstreams", Text),
            ("connections", Text),
        ],
    },
    Table {
        name: "package_restriction",
        columns: &[
            ("repository", Text),
            ("package", Text),
            ("publish", Text),
            ("upstream", Text),
        ],
    },
    Table {
        name: "event_sequence",
        columns: &[("subject", Text), ("number", Number)],
    },
    Table {
        name: "delivery",
        columns: &[
            ("event", Text),
            ("target", Text),
            ("subject", Text),
            ("number", Number),
            ("document", Text),
            ("created_at", Number),
            ("state", Text),
            ("attempts", Number),
            ("next_at", Number),
            ("said", Text),
        ],
    },
    Table {
        name: "package_group",
        columns: &[
            ("pattern", Text),
            ("contact", Text),
            ("description", Text),
            ("created_at", Number),
            ("settings", Text),
        ],
    },
    Table {
        name: "outside_name",
        columns: &[("connection", Text), ("package", Text), ("seen_at", Number)],
    },
    Table {
        name: "pin",
        columns: &[("pattern", Text), ("since", Number)],
    },
    Table {
        name: "catalog",
        columns: &[
            ("identity", Text),
            ("opened_at", Number),
            ("is_arriving", Number),
            ("moved_to", Text),
        ],
    },
];

impl Table {
    /// The table of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<Column> {
        self.columns.iter().copied().find(|(it, _)| *it == name)
    }

    /// A row as JSON: text, numbers, and bytes in hexadecimal.
    fn read(&self, row: &AnyRow) -> sqlx::Result<Vec<Value>> {
        let column = |(name, kind): &(&str, Kind)| {
            Ok(match kind {
                Text => row.try_get::<Option<String>, _>(*name)?.into(),
                Number => row.try_get::<Option<i64>, _>(*name)?.into(),
                Bytes => {
                    let bytes = row.try_get::<Option<Vec<u8>>, _>(*name)?;
                    bytes.map(hex::encode).into()
                }
            })
        };
        self.columns.iter().map(column).collect()
    }

    /// Writes rows of these columns.
    async fn write(
        &self,
        into: &mut Statements,
        columns: &[Column],
        rows: &[Vec<Value>],
    ) -> sqlx::Result<()> {
        let known = if self.name == OUTSIDE {
            " ON CONFLICT DO NOTHING"
        } else {
            ""
        };
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {}{known}",
            self.name,
            names(columns),
            places(rows.len(), columns.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in rows {
            for ((_, kind), value) in columns.iter().zip(row) {
                query = bound(query, *kind, value);
            }
        }
        query.execute(into).await?;
        Ok(())
    }
}

fn names(columns: &[Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

type Insert<'q> = Query<'q, Any, AnyArguments>;

fn bound<'q>(query: Insert<'q>, kind: Kind, value: &Value) -> Insert<'q> {
    match kind {
        Text => query.bind(value.as_str().map(str::to_owned)),
        Number => query.bind(value.as_i64()),
        Bytes => query.bind(value.as_str().and_then(|text| hex::decode(text).ok())),
    }
}

/// Whether rows were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum RowsWritten {
    All,
    /// The database is the one that they are of: its own, which may be newer, stay.
    None,
}

/// A row and its table, as long as there are some.
type NextRow = Result<Option<(&'static Table, Vec<Value>)>, crate::store::Error>;

/// Rows on their way into a catalog: all of them or, where this is dropped, none.
pub(in crate::store) struct RowsWriter<'p> {
    _permit: SemaphorePermit<'p>,
    transaction: Box<Statements>,
    layout: &'p Layout,
    waiting: Option<(&'static Table, Vec<Vec<Value>>)>,
}

impl RowsWriter<'_> {
    pub async fn put(
        &mut self,
        table: &'static Table,
        row: Vec<Value>,
    ) -> Result<(), crate::store::Error> {
        match &mut self.waiting {
            Some((of, rows)) if of.name == table.name && rows.len() < ROWS_AT_ONCE => {
                rows.push(row);
                Ok(())
            }
            other => {
                let full = other.replace((table, vec![row]));
                self.write(full).await
            }
        }
    }

    async fn write(
        &mut self,
        rows: Option<(&'static Table, Vec<Vec<Value>>)>,
    ) -> Result<(), crate::store::Error> {
        let Some((table, rows)) = rows else {
            return Ok(());
        };
        let columns = self.layout.get(table.name);
        let columns = columns.map_or(table.columns, Vec::as_slice);
        let written = table.write(&mut self.transaction, columns, &rows);
        Ok(written.await.map_err(Error::from)?)
    }

    /// Carries out a statement behind the rows.
    pub async fn execute(&mut self, sql: &'static str) -> Result<(), crate::store::Error> {
        let last = self.waiting.take();
        self.write(last).await?;
        let done = sqlx::query(sql).execute(&mut *self.transaction).await;
        done.map_err(Error::from)?;
        Ok(())
    }

    pub async fn finish(mut self) -> Result<(), crate::store::Error> {
        let last = self.waiting.take();
        self.write(last).await?;
        Ok(self.transaction.commit().await.map_err(Error::from)?)
    }
}

impl Packages {
    /// Gives all rows, as they are at one instant.
    pub(in crate::store) async fn all_rows(
        &self,
        mut take: impl AsyncFnMut(&'static Table, Vec<Value>) -> Result<(), crate::store::Error>,
    ) -> Result<(), crate::store::Error> {
        let failed = Error::from;
        let mut view = self.database.door.view().await.map_err(failed)?;
        for table in TABLES {
            let sql = format!("SELECT {} FROM {}", names(table.columns), table.name);
            let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *view);
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                take(table, table.read(&row).map_err(failed)?).await?;
            }
        }
        Ok(view.rollback().await.map_err(failed)?)
    }

    /// How many rows there are at present.
    pub(in crate::store) async fn count_rows(&self) -> Result<u64, Error> {
        let counts = TABLES
            .iter()
            .map(|table| format!("(SELECT COUNT(*) FROM {})", table.name));
        let counts = counts.collect::<Vec<_>>().join(" + ");
        let sql = format!("SELECT CAST({counts} AS BIGINT)");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.database.door)
            .await?;
        Ok(count.unsigned_abs())
    }

    /// Whether it has nothing but what a new one has, also after a start.
    pub(in crate::store) async fn is_empty(&self) -> Result<bool, Error> {
        let tables = TABLES.iter().filter(|it| !BEGUN.contains(&it.name));
        let has_rows = tables.map(|table| format!("EXISTS (SELECT 1 FROM {})", table.name));
        let has_rows = has_rows.collect::<Vec<_>>().join(" OR ");
        let sql = format!("SELECT CAST(CASE WHEN {has_rows} THEN 1 ELSE 0 END AS BIGINT)");
        let has_rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.database.door)
            .await?;
        Ok(has_rows == 0)
    }

    /// The catalog's own name.
    pub(in crate::store) async fn identity(&self) -> Result<String, Error> {
        let sql = "SELECT identity FROM catalog";
        let identity: Option<String> = sqlx::query_scalar(sql)
            .fetch_optional(&self.database.door)
            .await?;
        Ok(identity.unwrap_or_default())
    }

    /// Begins to write rows in the place of those that it has, in one transaction.
    pub(in crate::store) async fn replace_rows<'p>(
        &'p self,
        layout: &'p Layout,
    ) -> Result<RowsWriter<'p>, crate::store::Error> {
        let (permit, mut transaction) = self.database.begin().await?;
        for table in TABLES.iter().filter(|it| it.name != OUTSIDE) {
            let sql = format!("DELETE FROM {}", table.name);
            let emptied = sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction);
            emptied.await.map_err(Error::from)?;
        }
        Ok(RowsWriter {
            _permit: permit,
            transaction,
            layout,
            waiting: None,
        })
    }

    /// Writes all rows of a catalog of that name into this one, in one transaction. This one has to be
    /// empty, or to be that one.
    pub(in crate::store) async fn put_rows(
        &self,
        identity: &str,
        layout: &Layout,
        mut next: impl FnMut() -> NextRow,
    ) -> Result<RowsWritten, crate::store::Error> {
        if self.identity().await? == identity {
            return Ok(RowsWritten::None);
        }
        if !self.is_empty().await? {
            return Err(crate::store::Error::RestoreInto);
        }
        let mut writer = self.replace_rows(layout).await?;
        while let Some((table, row)) = next()? {
            writer.put(table, row).await?;
        }
        writer.finish().await?;
        Ok(RowsWritten::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PackageCatalogSettings;
    use crate::store::markers::Markers;

    #[tokio::test]
    async fn every_table_of_the_migrations_is_carried_with_all_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let markers = Markers::of(folder.path()).unwrap();
        let file = folder.path().join("packages.sqlite");
        let settings = PackageCatalogSettings::default();
        let opened = Packages::open(&file, &settings, "here".to_owned(), &markers).await;
        let packages = opened.unwrap();
        let door = &packages.database.door;
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' \
                   AND name NOT LIKE 'sqlite%'";
        let mut found: Vec<String> = sqlx::query_scalar(sql).fetch_all(door).await.unwrap();
        let mut listed: Vec<&str> = all_names().collect();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(found, listed);
        for table in TABLES {
            let sql = format!(
                "SELECT name, type FROM pragma_table_info('{}') ORDER BY cid",
                table.name
            );
            let columns: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
                .fetch_all(door)
                .await
                .unwrap();
            let kind = |kind: &str| match kind {
                "TEXT" => Text,
                "BIGINT" => Number,
                "BYTEA" => Bytes,
                other => panic!("{other}"),
            };
            let columns: Vec<(&str, Kind)> = columns
                .iter()
                .map(|(name, of)| (name.as_str(), kind(of)))
                .collect();
            assert_eq!(columns, table.columns, "{}", table.name);
        }
    }
}
