//! A database of packages elsewhere (PostgreSQL): how it is made ready, and which Larder uses it.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use url::Url;

use super::door::{self, Door, Manners};
use super::{moved, random_name};
use crate::secret::Secret;
use crate::store::markers::Markers;
use crate::store::sql;

/// How long connecting may take at the start.
const CONNECTING_MAX: Duration = Duration::from_secs(10);
/// One of all Larders that begin at the same moment makes the tables.
const MAKING: &str = "SELECT pg_advisory_xact_lock(5273)";
/// Order is by bytes, as in SQLite, whatever the database's collation is.
const ORDER: &str = r#"DO $$ DECLARE one RECORD; BEGIN
FOR one IN SELECT c.relname, a.attname FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
JOIN pg_collation l ON l.oid = a.attcollation AND l.collname <> 'C'
WHERE a.atttypid = 'text'::regtype AND a.attnum > 0 AND NOT a.attisdropped AND c.relname <> '_sqlx_migrations'
LOOP EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE TEXT COLLATE "C"', one.relname, one.attname); END LOOP;
END $$"#;
/// A statement that waits for a lock ends before its client has given it up, and a transaction that was
/// left ends by itself.
const SETTINGS: &str = "SET lock_timeout = '4s'; SET idle_in_transaction_session_timeout = '60s'";
/// Milliseconds since 1970, by the database's clock.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// For how long a Larder holds a database, unless it says so again.
const HELD_MS: i64 = 30_000;

/// Opens the database, with its tables, for the Larder of this place alone. Without markers, it is not
/// asked whether it is this data directory's.
///
/// # Errors
/// Where it cannot be reached or used, is another one than last time's, or another Larder uses it.
pub(super) async fn open(
    url: &Secret,
    place: &str,
    steps: &Migrator,
    markers: Option<&Markers>,
) -> Result<Door, crate::store::Error> {
    let parsed = Url::parse(url.expose()).map_err(|_| unusable("the address", "it is no URL"))?;
    let at = at(&parsed);
    let named = named(parsed);
    let url = named.as_str();
    let manners = Manners::new(true);
    let failed = |error: sqlx::Error| sql::Error::from(error).at(&at);
    let connecting = tokio::time::timeout(CONNECTING_MAX, AnyConnection::connect(url));
    let connected = connecting
        .await
        .map_err(|_| unusable(&at, "it does not answer"))?;
    let mut connection = connected.map_err(failed)?;
    door::try_named_statements(url, &manners)
        .await
        .map_err(failed)?;
    make_tables(&mut connection, steps)
        .await
        .map_err(|error| error.at(&at))?;
    // Its statements have names that the door's connections may not meet.
    let _ = connection.close().await;
    let settings = Some(SETTINGS).filter(|_| !manners.is_pooled());
    let door = Door::open(url, settings, &manners).await.map_err(failed)?;
    if let Some(markers) = markers {
        identify(&door, &at, markers).await?;
    }
    match take(&door, place).await.map_err(failed)? {
        None => Ok(door),
        Some(machine) => Err(unusable(
            &at,
            &format!(
                "another Larder uses it, on the machine `{machine}`: two on one database would each list what the \
                 other has the files of. Stop that one and wait for half a minute, or give this one another database"
            ),
        )),
    }
}

/// Names the database of an address, without credentials.
pub(super) fn name(url: &Secret) -> Option<String> {
    Url::parse(url.expose()).ok().map(|url| at(&url))
}

/// `HOST:PORT/NAME`, without credentials.
fn at(url: &Url) -> String {
    let host = url.host_str().filter(|host| !host.is_empty());
    format!(
        "{}:{}{}",
        host.unwrap_or("localhost"),
        url.port().unwrap_or(5432),
        url.path()
    )
}

/// The address, by which the database's own lists of connections name Larder.
fn named(mut url: Url) -> Url {
    if !url.query_pairs().any(|(key, _)| key == "application_name") {
        url.query_pairs_mut()
            .append_pair("application_name", "larder");
    }
    url
}

fn unusable(at: &str, why: &str) -> crate::store::Error {
    crate::store::Error::Database {
        at: at.to_owned(),
        why: why.to_owned(),
    }
}

/// Makes the tables, or brings them up to date, all of it or nothing.
async fn make_tables(connection: &mut AnyConnection, steps: &Migrator) -> Result<(), sql::Error> {
    let mut transaction = connection.begin().await?;
    // Behind a pooler, names may be there that this connection knows nothing of.
    transaction.execute(sqlx::raw_sql("DEALLOCATE ALL")).await?;
    transaction.execute(sqlx::raw_sql(MAKING)).await?;
    if !are_made(&mut transaction, steps).await? {
        steps.run_direct(None, &mut *transaction, false).await?;
    }
    transaction.execute(sqlx::raw_sql(ORDER)).await?;
    transaction.execute(sqlx::raw_sql("DEALLOCATE ALL")).await?;
    transaction.commit().await?;
    Ok(())
}

/// Whether all steps were taken: then no right to make tables is needed.
async fn are_made(connection: &mut AnyConnection, steps: &Migrator) -> sqlx::Result<bool> {
    let there = "SELECT COUNT(*) FROM pg_tables WHERE tablename = '_sqlx_migrations' AND schemaname = current_schema()";
    let there: i64 = sqlx::query_scalar(there)
        .fetch_one(&mut *connection)
        .await?;
    if there == 0 {
        return Ok(false);
    }
    let taken: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version",
    )
    .fetch_all(connection)
    .await?;
    Ok(taken.len() == steps.iter().count()
        && steps.iter().zip(&taken).all(|(step, (version, checksum))| {
            step.version == *version && *step.checksum == **checksum
        }))
}

/// Holds the database against the one that belongs to this data directory, and remembers it.
async fn identify(door: &Door, at: &str, markers: &Markers) -> Result<(), crate::store::Error> {
    let failed = |error: sqlx::Error| sql::Error::from(error).at(at);
    moved::refuse(door, at).await?;
    let found: Option<String> = sqlx::query_scalar("SELECT identity FROM catalog")
        .fetch_optional(door)
        .await
        .map_err(failed)?;
    let expected = markers.database();
    let name = match (found, expected) {
        (Some(found), Some(expected)) if found == expected => return Ok(()),
        (_, Some(_)) => {
            return Err(crate::store::Error::OtherDatabase { at: at.to_owned() });
        }
        (Some(found), None) => found,
        (None, None) => {
            let name = random_name();
            sqlx::query("INSERT INTO catalog (identity, opened_at) VALUES ($1, 0)")
                .bind(&name)
                .execute(door)
                .await
                .map_err(failed)?;
            name
        }
    };
    markers.remember_database(&name)?;
    Ok(())
}

/// Takes the database for this place, or takes it anew; the machine of another Larder that has it, else.
///
/// # Errors
/// Where the database fails.
pub(super) async fn take(door: &Door, place: &str) -> sqlx::Result<Option<String>> {
    let sql = format!(
        "INSERT INTO holder (id, place, machine, until) VALUES (1, $1, $2, {NOW} + $3) \
         ON CONFLICT (id) DO UPDATE SET place = excluded.place, machine = excluded.machine, until = excluded.until \
         WHERE holder.place = excluded.place OR holder.until < {NOW}"
    );
    let machine = rustix::system::uname();
    let done = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(place)
        .bind(machine.nodename().to_string_lossy().into_owned())
        .bind(HELD_MS)
        .execute(door)
        .await?;
    if done.rows_affected() > 0 {
        return Ok(None);
    }
    let sql = "SELECT machine FROM holder WHERE id = 1";
    let machine: Option<String> = sqlx::query_scalar(sql).fetch_optional(door).await?;
    Ok(Some(machine.unwrap_or_default()))
}

/// How often a Larder says that it still uses its database.
pub(super) const TAKEN_EVERY: Duration = Duration::from_secs(10);

/// Lets another Larder use it at once.
pub(super) async fn leave(door: &Door, place: &str) {
    let sql = "UPDATE holder SET until = 0 WHERE id = 1 AND place = $1";
    // Where this fails, the other one waits.
    let _ = sqlx::query(sql).bind(place).execute(door).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_ends_the_start() {
        sqlx::any::install_default_drivers();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = Secret::new(&format!("postgres://larder@127.0.0.1:{port}/packages"));
        let folder = tempfile::tempdir().unwrap();
        let markers = Markers::of(folder.path()).unwrap();
        let opened = open(&url, "here", &sql::migrator(&[]), Some(&markers)).await;
        let said = opened.err().unwrap().to_string();
        assert!(said.ends_with("it does not answer"), "{said}");
        assert!(
            said.contains(&format!("127.0.0.1:{port}/packages")),
            "{said}"
        );
    }

    #[test]
    fn a_database_is_named_without_its_credentials() {
        let url =
            Url::parse("postgres://larder:secret@db.example/packages?sslmode=require").unwrap();
        assert_eq!(at(&url), "db.example:5432/packages");
        let named = named(url);
        assert!(
            named
                .as_str()
                .ends_with("sslmode=require&application_name=larder")
        );
    }
}
