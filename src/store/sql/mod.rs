//! What both catalogs share: how a database fails, and columns as the types that they stand for.

mod column;

pub(super) use column::{Column, Count, Days, Flag, Millis, Seconds};

use crate::problem::Problem;

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
