//! The parts that both catalogs share: how a database fails, and columns as the types that they
//! stand for.

mod column;

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{ColumnIndex, Decode, Row, Type};

pub(super) use column::{Column, Count, Field, Flag, Millis, Seconds};

use crate::problem::Problem;

/// Reads a row's column of that name.
pub(super) fn field<'r, R, F>(row: &'r R, name: &str) -> sqlx::Result<F>
where
    R: Row,
    F: Field<Column: Decode<'r, R::Database> + Type<R::Database>>,
    for<'n> &'n str: ColumnIndex<R>,
{
    row.try_get(name).map(F::of)
}

/// Rows of a kind are read into a struct by the names of its fields. sqlx's own derive would have both
/// drivers, SQLite among them, built a second time: a fourteenth of Larder's build.
macro_rules! from_row {
    ($row:ty, $of:ty { $($field:ident),* $(,)? }) => {
        impl sqlx::FromRow<'_, $row> for $of {
            fn from_row(row: &$row) -> sqlx::Result<Self> {
                Ok(Self { $($field: $crate::store::sql::field(row, stringify!($field))?),* })
            }
        }
    };
}
pub(super) use from_row;

/// The steps that make a catalog's tables, oldest first: their descriptions and their SQL. A step
/// that has been released is never changed: databases remember its checksum.
pub(super) fn migrator(steps: &[(&'static str, &'static str)]) -> Migrator {
    let migration = |((description, sql), version): (&(&'static str, &'static str), i64)| {
        Migration::new(
            version,
            Cow::Borrowed(*description),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            false,
        )
    };
    Migrator::with_migrations(steps.iter().zip(1..).map(migration).collect())
}

/// How a catalog's database fails. What its driver says is for the log alone.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Statement(sqlx::Error),
    #[error(
        "it was made by another version of Larder ({0}); say --data-dir with another directory, or remove this one"
    )]
    Migration(sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self(Cause::Statement(error))
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self(Cause::Migration(error))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::internal("the catalog failed", error)
    }
}
