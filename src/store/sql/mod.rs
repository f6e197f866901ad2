//! The parts that both catalogs share: how a database fails, and columns as the types that they
//! stand for.

mod column;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ColumnIndex, Connection, Decode, Executor, Row, Type};

pub(super) use column::{Column, Count, Field, Flag, Millis, Seconds};

use super::markers::LastEnd;
use crate::format::plain;
use crate::problem::{Decider, Kind, Problem};

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
    let mut migrator = Migrator::with_migrations(steps.iter().zip(1..).map(migration).collect());
    // SQLite's writers exclude each other, and PostgreSQL's tables are made in one transaction with a
    // lock of its own: the driver's would be a session's, which no pooler keeps.
    migrator.set_locking(false);
    migrator
}

/// A step that a database says was taken: its number, its checksum, and 1 if it came to its end.
pub(super) type Taken = (i64, Vec<u8>, i64);

/// How a database's list of steps is read, where it has one.
pub(super) const TAKEN: &str = "SELECT version, checksum, CAST(CASE WHEN success THEN 1 ELSE 0 END AS BIGINT) AS whole \
     FROM _sqlx_migrations ORDER BY version";

/// Holds the steps that a database says were taken against those that this Larder knows; says whether
/// all were.
///
/// # Errors
/// Where another Larder took them, or one did not come to its end.
pub(super) fn are_all_taken(steps: &Migrator, taken: &[Taken]) -> Result<bool, Error> {
    for (version, checksum, whole) in taken {
        let step = steps.iter().find(|step| step.version == *version);
        let wrong = match step {
            _ if *whole == 0 => MigrateError::Dirty(*version),
            None => MigrateError::VersionMissing(*version),
            Some(step) if *step.checksum != **checksum => MigrateError::VersionMismatch(*version),
            Some(_) => continue,
        };
        return Err(wrong.into());
    }
    Ok(taken.len() == steps.iter().count())
}

/// Rows that are written by one statement.
pub(super) const ROWS_AT_ONCE: usize = 100;

/// The places of so many rows of so many columns in a statement: `($1, $2), ($3, $4)`.
pub(super) fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers = (1..=columns).map(|column| format!("${}", row * columns + column));
        format!("({})", numbers.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// How a catalog's database fails. What its driver says is for the log alone.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{}", said(.0))]
    Statement(sqlx::Error),
    #[error("{}", migration(.0))]
    Migration(MigrateError),
    /// A check found this.
    #[error("its file is damaged ({0})")]
    Damaged(String),
}

/// Kinds of failure that whoever opens a database treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ailment {
    /// Its file is not what it was.
    Damaged,
    /// A newer Larder has written it.
    Newer,
    /// The disk takes nothing: it is full, read-only, or fails.
    Disk,
    /// It does not answer, or takes nothing at present.
    Away,
    Other,
}

/// SQLite's primary codes, and the one extended code that tells a cut file from a failing disk.
const READ_ONLY: u32 = 8;
const DISK_FAILED: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NO_DATABASE: u32 = 26;
const SHORT_READ: u32 = 522;

/// SQLite's code; PostgreSQL's have five characters.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse().ok().filter(|_| code.len() < 5)
}

/// Whether the connection, not the statement, is to blame.
pub(super) fn is_cut_off(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        // The classes of PostgreSQL's codes: no connection, ended by the operator.
        error => class(error).is_some_and(|class| matches!(class.as_str(), "08" | "57")),
    }
}

/// Whether the database answers, and takes no changes: it is read-only (25006), or its disk is full
/// (53100).
pub(super) fn refuses_changes(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("25006" | "53100"))
}

/// Whether the database says that a statement's name is taken, or not there.
pub(super) fn is_without_named_statements(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42P05" | "26000"))
}

/// The class of a code of PostgreSQL's.
fn class(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    code.get(..2).filter(|_| code.len() == 5).map(str::to_owned)
}

/// Whether the database takes no changes at present: too few resources, a read-only copy, a lock that
/// others hold.
fn is_at_a_loss(error: &sqlx::Error) -> bool {
    let class = class(error);
    matches!(class.as_deref(), Some("25" | "40" | "53" | "55"))
}

fn ailment(error: &sqlx::Error) -> Ailment {
    if is_cut_off(error) || is_at_a_loss(error) || is_without_named_statements(error) {
        return Ailment::Away;
    }
    match code(error) {
        Some(SHORT_READ) => Ailment::Damaged,
        Some(code) => match code & 0xff {
            CORRUPT | NO_DATABASE => Ailment::Damaged,
            READ_ONLY | DISK_FAILED | FULL | CANNOT_OPEN => Ailment::Disk,
            _ => Ailment::Other,
        },
        None => Ailment::Other,
    }
}

fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => return plain::io(error),
        sqlx::Error::Protocol(_) => return "it broke off, or is no PostgreSQL".to_owned(),
        _ => {}
    }
    match code(error) {
        Some(SHORT_READ) => "its file is damaged".to_owned(),
        Some(code) => match code & 0xff {
            CORRUPT | NO_DATABASE => format!("its file is damaged ({error})"),
            READ_ONLY => "its file, or the file system, is read-only".to_owned(),
            FULL => "the disk is full: make room on it".to_owned(),
            DISK_FAILED => {
                format!("the disk is full, or fails: make room on it, or see to it ({error})")
            }
            _ => error.to_string(),
        },
        // The driver adds a line of the server's own source.
        None => match error.as_database_error() {
            Some(said) if said.message().contains("extra_float_digits") => format!(
                "{}; behind PgBouncer, set `ignore_startup_parameters = extra_float_digits` in its configuration",
                said.message()
            ),
            Some(said) => match said.code().as_deref() {
                Some("28P01" | "28000") => {
                    format!(
                        "{}; correct the user or password in `packages.database`",
                        said.message()
                    )
                }
                Some("3D000") => format!(
                    "{}; make it (`createdb`), or correct `packages.database`",
                    said.message()
                ),
                _ => said.message().to_owned(),
            },
            None => error.to_string(),
        },
    }
}

fn migration(error: &MigrateError) -> String {
    use MigrateError::{
        Dirty, Execute, ExecuteMigration, VersionMismatch, VersionMissing, VersionTooNew,
    };
    match error {
        Execute(cause) | ExecuteMigration(cause, _) => said(cause),
        Dirty(step) => format!(
            "its tables are half made: step {step} did not come to its end; bring it back from a copy, or restore a backup into an empty one"
        ),
        VersionMissing(_) | VersionTooNew(..) => {
            "a newer version of Larder has written it; start that version".to_owned()
        }
        VersionMismatch(_) => "another version of Larder has written it".to_owned(),
        error => error.to_string(),
    }
}

impl Error {
    /// Says which kind of failure it is.
    pub(super) fn ailment(&self) -> Ailment {
        use MigrateError::{Execute, ExecuteMigration, VersionMissing, VersionTooNew};
        match &self.0 {
            Cause::Statement(error) => ailment(error),
            Cause::Migration(Execute(cause)) => ailment(cause),
            Cause::Migration(ExecuteMigration(cause, _)) => match ailment(cause) {
                // The steps are right; the tables that they meet are not.
                Ailment::Other => Ailment::Damaged,
                ailment => ailment,
            },
            Cause::Migration(VersionMissing(_) | VersionTooNew(..)) => Ailment::Newer,
            // The list of steps is not what a Larder wrote.
            Cause::Migration(_) | Cause::Damaged(_) => Ailment::Damaged,
        }
    }

    /// Why the database there cannot be used.
    pub(super) fn at(&self, at: &str) -> super::Error {
        super::Error::Database {
            at: at.to_owned(),
            why: self.to_string(),
        }
    }

    /// A database whose check found something.
    pub(super) fn damaged(found: &str) -> Self {
        // The first line names the database, where there are several.
        let mut lines = found.lines().filter(|line| !line.starts_with("***"));
        Self(Cause::Damaged(lines.next().unwrap_or_default().to_owned()))
    }
}

/// Whether a connection may serve again. One that a failing disk left within a transaction may not:
/// each further transaction on it would be refused.
pub(super) async fn is_reusable<C: Connection>(connection: &mut C) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // A rollback may still be under way; the answer to this comes behind it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Whether a connection to SQLite may serve again. SQLite opens a file on a read-only file system to read it, and
/// does not write when that is over.
pub(super) async fn is_reusable_sqlite<C>(connection: &mut C) -> sqlx::Result<bool>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    if !is_reusable(connection).await? {
        return Ok(false);
    }
    let seen = *read_only_seen();
    if seen.is_none_or(|at| at.elapsed() > SUSPECTED_FOR) {
        return Ok(true);
    }
    let tried = connection.execute(sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK"));
    Ok(!tried.await.is_err_and(|error| is_read_only(&error)))
}

/// When a statement last met a read-only file.
static READ_ONLY_SEEN: Mutex<Option<Instant>> = Mutex::new(None);
/// How long connections are tried before they serve again, after one was read-only.
const SUSPECTED_FOR: Duration = Duration::from_secs(600);

fn read_only_seen() -> MutexGuard<'static, Option<Instant>> {
    READ_ONLY_SEEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn is_read_only(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code & 0xff == READ_ONLY)
}

/// Files up to this size are checked at each start; larger ones where the last end was not clean.
const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Whether a database's file is to be looked through before it is used.
pub(super) fn is_to_be_checked(file: &Path, last_end: LastEnd) -> bool {
    last_end != LastEnd::Closed
        || file
            .metadata()
            .is_ok_and(|it| it.len() <= CHECKED_BYTES_MAX)
}

/// Looks through the database's pages: SQLite alone does not see what is wrong in one that it does
/// not come by.
pub(super) const CHECK: &str = "PRAGMA quick_check(1)";

/// The answer of the check about a database that is whole.
pub(super) const WHOLE: &str = "ok";

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_read_only(&error) {
            *read_only_seen() = Some(Instant::now());
        }
        Self(Cause::Statement(error))
    }
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        Self(Cause::Migration(error))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if error.ailment() == Ailment::Disk {
            return Self::new(
                Kind::Unavailable {
                    retry_after: DISK_RETRY,
                },
                Decider::Larder,
                format!("the catalog cannot be written: {error}"),
            )
            .advice("make room on the disk of the data directory, or see to it")
            .caused_by(error);
        }
        if error.ailment() == Ailment::Away {
            return Self::new(
                Kind::Unavailable {
                    retry_after: AWAY_RETRY,
                },
                Decider::Larder,
                "the database of packages does not answer",
            )
            .advice("ask again; the log says what is the matter")
            .caused_by(error);
        }
        Self::internal("the catalog failed", error)
    }
}

/// When a database that did not answer is worth another attempt.
const AWAY_RETRY: Duration = Duration::from_secs(5);

/// When a change that a disk did not take is worth another attempt.
const DISK_RETRY: Duration = Duration::from_secs(60);
