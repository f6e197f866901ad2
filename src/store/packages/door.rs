//! The one way to the database of packages. A statement that goes through it has an end: a database
//! that is away keeps nobody waiting for long, and a connection that went silent is given up.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use sqlx::any::{AnyArguments, AnyPoolOptions, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::error::BoxDynError;
use sqlx::migrate::Migrator;
use sqlx::{
    Any, AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Either, Execute, Executor,
    SqlSafeStr as _, SqlStr, Transaction,
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tracing::warn;

use crate::store::sql;

/// The longest that a request waits for a connection to a database elsewhere.
const CONNECTING_MAX: Duration = Duration::from_secs(3);
/// The longest that such a database may take for a statement, or for the next of its rows.
const STATEMENT_MAX: Duration = Duration::from_secs(5);
/// Connections that were at rest for longer are tried before they are used, for so long at most.
const TRIED_AFTER: Duration = Duration::from_secs(1);
const TRYING_MAX: Duration = Duration::from_secs(1);
/// A database that did not answer is asked nothing for so long.
const REST: Duration = Duration::from_secs(1);

type Outcome = Either<AnyQueryResult, AnyRow>;

/// The connections to the database, and the manners of speaking with it.
pub(super) struct Door {
    pool: AnyPool,
    /// SQLite has one writer; waiting here is fair, and its own waiting is not.
    writers: Semaphore,
    manners: Arc<Manners>,
}

/// Whether waiting has bounds, and how the database did lately.
pub(super) struct Manners {
    /// It is reached by a network. SQLite waits for the disk alone.
    is_remote: bool,
    /// Named statements fail, as where a pooler gives each transaction another connection.
    is_pooled: AtomicBool,
    /// Another Larder uses it now.
    is_taken: AtomicBool,
    lately: Mutex<Lately>,
    /// How often it has answered again after it did not.
    returns: watch::Sender<u64>,
}

/// How the database did lately.
#[derive(Default)]
struct Lately {
    answered_at: Option<Instant>,
    failed_at: Option<Instant>,
    /// A statement got no answer, and none has got one since.
    has_failed: bool,
    /// The log says that it does not answer, and not yet that it does again.
    is_away: bool,
    /// It answers, and takes no changes: it is read-only, or its disk is full.
    refuses_changes: bool,
}

/// Why the database of packages takes nothing at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It does not answer.
    Away,
    /// It is read-only, or has no room.
    Unchanging,
    /// Another Larder uses it.
    Taken,
}

impl Absence {
    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Away => "the database of packages does not answer",
            Self::Unchanging => {
                "the database of packages takes no changes: it is read-only, or has no room"
            }
            Self::Taken => {
                "another Larder uses the database of packages now, and this one has to be stopped"
            }
        }
    }
}

impl Manners {
    pub fn new(is_remote: bool) -> Arc<Self> {
        Arc::new(Self {
            is_remote,
            is_pooled: AtomicBool::new(false),
            is_taken: AtomicBool::new(false),
            lately: Mutex::default(),
            returns: watch::Sender::new(0),
        })
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    fn absence(&self) -> Option<Absence> {
        if self.is_taken.load(Ordering::Relaxed) {
            return Some(Absence::Taken);
        }
        match *self.lately() {
            Lately { is_away: true, .. } => Some(Absence::Away),
            Lately {
                refuses_changes: true,
                ..
            } => Some(Absence::Unchanging),
            _ => None,
        }
    }

    /// Notes whether the database takes changes, and tells the log where that is new.
    fn note_change(&self, refused: Option<&sqlx::Error>) {
        let was_refused = std::mem::replace(&mut self.lately().refuses_changes, refused.is_some());
        match refused {
            Some(error) if !was_refused => warn!(
                %error,
                "The database of packages takes no changes. What is there is served, and publishes are refused until it does"
            ),
            None if was_refused => warn!("The database of packages takes changes again"),
            _ => {}
        }
    }

    /// Notes that the database answered. The log says so where it had not.
    fn answered(&self) {
        let mut lately = self.lately();
        lately.answered_at = Some(Instant::now());
        if !lately.has_failed {
            return;
        }
        lately.has_failed = false;
        let was_away = std::mem::take(&mut lately.is_away);
        drop(lately);
        if was_away {
            warn!("The database of packages answers again");
        }
        self.returns.send_modify(|count| *count += 1);
    }

    /// Notes that a statement got no answer. Where others have got one since it began, its connection
    /// alone is to blame; else the log says that the database is away.
    fn failed(&self, begun: Instant, error: &sqlx::Error) {
        let mut lately = self.lately();
        lately.failed_at = Some(Instant::now());
        lately.has_failed = true;
        if lately.is_away || lately.answered_at.is_some_and(|at| at > begun) {
            return;
        }
        lately.is_away = true;
        drop(lately);
        warn!(
            %error,
            "The database of packages does not answer. What is here is served; publishes, and what was not read yet, are refused until it does"
        );
    }

    /// Refuses at once what would wait for a database that did not answer a moment ago.
    fn admit(&self) -> sqlx::Result<()> {
        if self.is_taken.load(Ordering::Relaxed) {
            return Err(io::Error::other("another Larder uses it now").into());
        }
        match self.lately().failed_at {
            Some(at) if self.is_remote && at.elapsed() < REST => {
                let said = "it did not answer a moment ago";
                Err(io::Error::new(io::ErrorKind::NotConnected, said).into())
            }
            _ => Ok(()),
        }
    }

    async fn bounded<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        if !self.is_remote {
            return work.await;
        }
        let begun = Instant::now();
        let result = within(STATEMENT_MAX, work).await;
        match &result {
            Err(error) if sql::is_without_named_statements(error) => {
                self.is_pooled.store(true, Ordering::Relaxed);
            }
            Err(error) if sql::is_cut_off(error) => self.failed(begun, error),
            Err(error) if sql::refuses_changes(error) => {
                self.answered();
                self.note_change(Some(error));
            }
            _ => self.answered(),
        }
        result
    }

    /// Whether a connection from before may be used. What was open when another went silent is not
    /// trusted any more.
    async fn is_usable(
        &self,
        connection: &mut AnyConnection,
        age: Duration,
        rest: Duration,
    ) -> bool {
        if !self.is_remote {
            return true;
        }
        let failed_at = self.lately().failed_at;
        let is_older = failed_at.is_some_and(|at| at.elapsed() < age);
        if is_older || rest < TRIED_AFTER {
            return !is_older;
        }
        let tried = tokio::time::timeout(TRYING_MAX, connection.ping()).await;
        matches!(tried, Ok(Ok(())))
    }

    /// Whether a connection may serve again after this use.
    async fn is_reusable(&self, connection: &mut AnyConnection) -> sqlx::Result<bool> {
        if !self.is_remote {
            return sql::is_reusable_sqlite(connection).await;
        }
        // The pool asks it without an end: one that went silent would keep its place for ever.
        let tried = async {
            connection.ping().await?;
            sql::is_reusable(connection).await
        };
        within(TRYING_MAX, tried).await
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let result = tokio::time::timeout(time, work).await;
    result.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into())
    })
}

/// Tries whether named statements work here, which they do not behind a pooler that gives each
/// transaction another connection: there, names of one client meet those of another.
pub(super) async fn try_named_statements(url: &str, manners: &Manners) -> sqlx::Result<()> {
    let tried = async {
        let mut first = AnyConnection::connect(url).await?;
        let mut second = AnyConnection::connect(url).await?;
        for turn in 0..3i64 {
            for connection in [&mut first, &mut second] {
                let asked = sqlx::query("SELECT CAST($1 AS BIGINT)").bind(turn);
                asked.fetch_one(&mut *connection).await?;
            }
        }
        first.close().await?;
        second.close().await
    };
    match within(STATEMENT_MAX, tried).await {
        Err(error) if sql::is_without_named_statements(&error) => {
            manners.is_pooled.store(true, Ordering::Relaxed);
            Ok(())
        }
        tried => tried,
    }
}

/// A statement out of a query, to be handed on.
struct Statement {
    sql: SqlStr,
    arguments: Option<AnyArguments>,
    is_named: bool,
}

impl Statement {
    fn of<'q>(mut query: impl Execute<'q, Any>, manners: &Manners) -> sqlx::Result<Self> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        Ok(Self {
            arguments,
            is_named: query.persistent() && !manners.is_pooled(),
            sql: query.sql(),
        })
    }
}

impl Execute<'_, Any> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&AnyStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<AnyArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_named
    }
}

impl Door {
    /// Opens the connections, so many at most.
    pub async fn open(
        url: &str,
        connections: u32,
        settings: Option<&'static str>,
        manners: &Arc<Manners>,
    ) -> sqlx::Result<Self> {
        let (before, after) = (Arc::clone(manners), Arc::clone(manners));
        let is_remote = manners.is_remote;
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(if is_remote {
                CONNECTING_MAX
            } else {
                Duration::from_secs(30)
            })
            // Our own trial has an end.
            .test_before_acquire(false)
            .before_acquire(move |connection, found| {
                let manners = Arc::clone(&before);
                Box::pin(async move {
                    Ok(manners
                        .is_usable(connection, found.age, found.idle_for)
                        .await)
                })
            })
            .after_release(move |connection, _| {
                let manners = Arc::clone(&after);
                Box::pin(async move { manners.is_reusable(connection).await })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if let Some(settings) = settings {
                        connection.execute(sqlx::raw_sql(settings)).await?;
                    }
                    Ok(())
                })
            });
        Ok(Self {
            pool: pool.connect(url).await?,
            // Two are left for those who read.
            writers: Semaphore::new(if is_remote {
                connections.saturating_sub(2).max(1) as usize
            } else {
                1
            }),
            manners: Arc::clone(manners),
        })
    }

    /// Makes SQLite's tables, or brings them up to date.
    pub async fn make_tables(&self, steps: &Migrator) -> Result<(), sql::Error> {
        Ok(steps.run(&self.pool).await?)
    }

    /// Notes that a change was made by a statement alone.
    pub fn was_changed(&self) {
        self.manners.note_change(None);
    }

    /// Refuses everything from now on, because another Larder uses the database.
    pub fn give_up(&self) {
        self.manners.is_taken.store(true, Ordering::Relaxed);
    }

    /// Ends when no connection is open any more; whoever asks afterwards is refused.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Why it takes nothing at present; `None` where it does.
    pub fn absence(&self) -> Option<Absence> {
        self.manners.absence()
    }

    /// Changes each time when the database answers again after it did not.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.manners.returns.subscribe()
    }

    /// A transaction that writes, and the permit to be held as long as it does. Of several that name
    /// the same lock, one goes on at a time.
    pub async fn begin(
        &self,
        lock: Option<i64>,
    ) -> sqlx::Result<(SemaphorePermit<'_>, Box<Statements>)> {
        let closed = |_| sqlx::Error::PoolClosed;
        let permit = async { self.writers.acquire().await.map_err(closed) };
        self.manners.admit()?;
        let permit = if self.manners.is_remote {
            within(STATEMENT_MAX, permit).await?
        } else {
            permit.await?
        };
        let begin = match lock {
            // SQLite has one writer.
            _ if !self.manners.is_remote => SqlStr::from_static("BEGIN IMMEDIATE"),
            None => SqlStr::from_static("BEGIN"),
            Some(lock) => {
                let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({lock})");
                AssertSqlSafe(sql).into_sql_str()
            }
        };
        Ok((permit, self.transaction(begin).await?))
    }

    /// One view of all the tables, though somebody writes meanwhile.
    pub async fn view(&self) -> sqlx::Result<Box<Statements>> {
        self.manners.admit()?;
        self.transaction(SqlStr::from_static(if self.manners.is_remote {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        } else {
            "BEGIN"
        }))
        .await
    }

    async fn transaction(&self, begin: SqlStr) -> sqlx::Result<Box<Statements>> {
        let begun = self.manners.bounded(self.pool.begin_with(begin)).await?;
        Ok(Box::new(Statements {
            transaction: begun,
            manners: Arc::clone(&self.manners),
        }))
    }

    /// Carries out one statement by itself.
    async fn run(&self, statement: Statement) -> sqlx::Result<Vec<Outcome>> {
        self.manners.admit()?;
        self.manners
            .bounded(async {
                if !self.manners.is_pooled() {
                    let mut connection = self.pool.acquire().await?;
                    return connection.fetch_many(statement).try_collect().await;
                }
                // An unnamed statement is prepared first, and has to meet the same connection again.
                let mut transaction = self.pool.begin().await?;
                let done = transaction.fetch_many(statement).try_collect().await?;
                transaction.commit().await?;
                Ok(done)
            })
            .await
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Door").finish_non_exhaustive()
    }
}

impl<'d> Executor<'d> for &'d Door {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Outcome>>
    where
        'd: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let statement = Statement::of(query, &self.manners);
        stream::once(async move { self.run(statement?).await })
            .map_ok(|rows| stream::iter(rows.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<AnyRow>>>
    where
        'd: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let statement = Statement::of(query, &self.manners);
        async move {
            let rows = self.run(statement?).await?;
            Ok(rows.into_iter().find_map(Either::right))
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<AnyStatement>>
    where
        'd: 'e,
    {
        async move { self.pool.prepare_with(sql, parameters).await }.boxed()
    }
}

/// The statements of one transaction, undone where it is dropped before its end.
pub(super) struct Statements {
    transaction: Transaction<'static, Any>,
    manners: Arc<Manners>,
}

impl Statements {
    /// # Errors
    /// Where the database fails. Whether it has what was written is not known then.
    pub async fn commit(self: Box<Self>) -> sqlx::Result<()> {
        let Self {
            transaction,
            manners,
        } = *self;
        manners.bounded(transaction.commit()).await?;
        manners.note_change(None);
        Ok(())
    }

    /// # Errors
    /// Where the database fails; then it forgets what was written by itself.
    pub async fn rollback(self: Box<Self>) -> sqlx::Result<()> {
        let Self {
            transaction,
            manners,
        } = *self;
        manners.bounded(transaction.rollback()).await
    }
}

impl fmt::Debug for Statements {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Statements").finish_non_exhaustive()
    }
}

impl<'s> Executor<'s> for &'s mut Statements {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Outcome>>
    where
        's: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let manners = &*self.manners;
        let statement = match Statement::of(query, manners) {
            Ok(statement) => statement,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let outcomes = self.transaction.fetch_many(statement);
        // Each row has its own time: a database that goes on is waited for.
        stream::unfold(
            ControlFlow::Continue(outcomes),
            move |outcomes| async move {
                let ControlFlow::Continue(mut outcomes) = outcomes else {
                    return None;
                };
                match manners.bounded(outcomes.try_next()).await {
                    Ok(Some(outcome)) => Some((Ok(outcome), ControlFlow::Continue(outcomes))),
                    Ok(None) => None,
                    Err(error) => Some((Err(error), ControlFlow::Break(()))),
                }
            },
        )
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<AnyRow>>>
    where
        's: 'e,
        E: 'q + Execute<'q, Any>,
    {
        async move {
            let mut outcomes = pin!(self.fetch_many(query));
            while let Some(outcome) = outcomes.try_next().await? {
                if let Either::Right(row) = outcome {
                    return Ok(Some(row));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<AnyStatement>>
    where
        's: 'e,
    {
        self.transaction.prepare_with(sql, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_connections_are_open_at_once_and_further_statements_wait() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("x").display());
        let manners = Manners::new(false);
        let door = Door::open(&url, 3, None, &manners).await.unwrap();
        let mut views = Vec::new();
        for _ in 0..3 {
            views.push(door.view().await.unwrap());
        }
        let mut further = Box::pin(door.view());
        let waited = tokio::time::timeout(Duration::from_millis(50), further.as_mut()).await;
        assert!(waited.is_err());
        views.pop();
        assert!(further.await.is_ok());
    }

    #[tokio::test]
    async fn a_database_that_did_not_answer_is_asked_nothing_for_a_moment() {
        let manners = Manners::new(true);
        assert!(manners.admit().is_ok());
        let cut: sqlx::Result<()> = Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        assert!(manners.bounded(async { cut }).await.is_err());
        assert!(manners.admit().is_err());
        let refused: sqlx::Result<()> = Err(sqlx::Error::RowNotFound);
        let others = Manners::new(true);
        assert!(others.bounded(async { refused }).await.is_err());
        assert!(others.admit().is_ok());
    }

    #[tokio::test]
    async fn that_it_went_and_came_back_is_said_once_each_and_whoever_waits_for_it_is_told() {
        let manners = Manners::new(true);
        let mut returns = manners.returns.subscribe();
        let cut =
            || async { sqlx::Result::<()>::Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) };
        manners.bounded(async { Ok(()) }).await.unwrap();
        assert_eq!(
            (manners.absence(), returns.has_changed().unwrap()),
            (None, false)
        );
        for _ in 0..2 {
            assert!(manners.bounded(cut()).await.is_err());
            assert_eq!(manners.absence(), Some(Absence::Away));
        }
        for _ in 0..2 {
            manners.bounded(async { Ok(()) }).await.unwrap();
            assert_eq!(manners.absence(), None);
        }
        assert_eq!(*returns.borrow_and_update(), 1);
        // Where others are answered meanwhile, the connection is to blame.
        let late = async {
            manners.answered();
            cut().await
        };
        assert!(manners.bounded(late).await.is_err());
        assert_eq!(manners.absence(), None);
        manners.answered();
        assert!(
            returns.has_changed().unwrap(),
            "what was asked may be done all the same"
        );
    }
}
