//! A database of packages elsewhere (PostgreSQL): what is found there, how it is made ready, and which
//! Larder uses it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyArguments;
use sqlx::migrate::Migrator;
use sqlx::query::QueryAs;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Executor as _};
use url::Url;

use super::door::{self, Door, Manners};
use super::{moved, random_name, tables};
use crate::secret::Secret;
use crate::store::markers::Markers;
use crate::store::sql;

/// How long connecting may take at the start.
const CONNECTING_MAX: Duration = Duration::from_secs(10);
/// How long looking at what is there may take.
const LOOKING_MAX: Duration = Duration::from_secs(10);
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
/// A statement that waits for a lock ends before its client has given it up, a transaction that was
/// left ends by itself, and so does the session of a Larder whose machine is gone.
const SETTINGS: &str = "SET lock_timeout = '4s'; SET idle_in_transaction_session_timeout = '60s'; \
     SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
     SET tcp_user_timeout = '60s'";
/// Milliseconds since 1970, by the database's clock.
const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// For how long a Larder holds a database, unless it says so again.
const HELD_MS: i64 = 30_000;

/// A database that was reached.
pub(super) struct Reached {
    /// Its address for people, without credentials.
    pub at: String,
    url: Url,
    manners: Arc<Manners>,
    connection: AnyConnection,
}

/// A database's contents, as far as a start needs to know them.
#[derive(Debug)]
pub(super) struct Found {
    pub tables: Tables,
    /// PostgreSQL's own number.
    pub server: String,
    /// The machine of another Larder that uses it now.
    pub held_by: Option<String>,
    /// Named statements fail there.
    pub is_pooled: bool,
    /// The name of the catalog in it.
    identity: Option<String>,
    /// Whether packages were moved from there, or are on their way; known where the tables are made.
    mark: Option<moved::CatalogMark>,
    role: String,
    /// Empty where there is none that the role may look into.
    schema: String,
    may_make: bool,
    /// A table that the role may not read and write.
    shut: Option<String>,
}

/// The state of a database's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// There are none yet.
    Missing,
    /// They are of an earlier Larder, and a start brings them up to date.
    Earlier,
    Made,
}

/// Connects to a database.
///
/// # Errors
/// Where it cannot be reached.
pub(super) async fn reach(url: &Secret) -> Result<Reached, crate::store::Error> {
    let parsed = Url::parse(url.expose()).map_err(|_| unusable("the address", "it is no URL"))?;
    let at = at(&parsed);
    let url = named(parsed);
    let manners = Manners::new(true);
    let failed = |error: sqlx::Error| sql::Error::from(error).at(&at);
    let connecting = tokio::time::timeout(CONNECTING_MAX, AnyConnection::connect(url.as_str()));
    let connected = connecting
        .await
        .map_err(|_| unusable(&at, "it does not answer"))?;
    let connection = connected.map_err(failed)?;
    door::try_named_statements(url.as_str(), &manners)
        .await
        .map_err(failed)?;
    Ok(Reached {
        at,
        url,
        manners,
        connection,
    })
}

impl Reached {
    /// Looks at what is there for the Larder of this place, and changes nothing.
    ///
    /// # Errors
    /// Where this Larder cannot use it, whatever was said to it.
    pub async fn look(
        &mut self,
        place: &str,
        steps: &Migrator,
        markers: Option<&Markers>,
    ) -> Result<Found, crate::store::Error> {
        let looking = look(&mut self.connection, place, steps);
        let looking = tokio::time::timeout(LOOKING_MAX, looking);
        let looked = looking
            .await
            .map_err(|_| unusable(&self.at, "it does not answer"))?;
        let mut found = looked.map_err(|error| error.at(&self.at))?;
        found.is_pooled = self.manners.is_pooled();
        found.hold_against(&self.at, markers)?;
        Ok(found)
    }

    /// Ends the connection.
    pub async fn leave(self) {
        let _ = self.connection.close().await;
    }
}

impl Found {
    /// Refuses what this Larder cannot use.
    fn hold_against(&self, at: &str, markers: Option<&Markers>) -> Result<(), crate::store::Error> {
        let Self { role, schema, .. } = self;
        if let Some(table) = &self.shut {
            return Err(unusable(
                at,
                &format!(
                    "`{role}` may not read and write the table {table}: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
                ),
            ));
        }
        if markers.is_some() {
            moved::refuse_mark(self.mark.clone(), at)?;
        }
        if let Some(expected) = markers.and_then(Markers::database)
            && self.identity.as_ref() != Some(&expected)
        {
            return Err(crate::store::Error::OtherDatabase { at: at.to_owned() });
        }
        if self.tables != Tables::Made && schema.is_empty() {
            return Err(unusable(
                at,
                &format!(
                    "there is no schema that `{role}` may use: CREATE SCHEMA AUTHORIZATION {role}"
                ),
            ));
        }
        if self.tables != Tables::Made && !self.may_make {
            return Err(unusable(
                at,
                &format!(
                    "it has not all tables yet, and `{role}` may make none: GRANT CREATE ON SCHEMA {schema} TO {role}, or have a role that may make them start Larder once"
                ),
            ));
        }
        Ok(())
    }
}

/// A question that leaves no named statement behind, which another connection might meet.
fn ask<T>(text: &str) -> QueryAs<'static, Any, T, AnyArguments>
where
    T: for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>,
{
    sqlx::query_as(AssertSqlSafe(text)).persistent(false)
}

async fn look(
    connection: &mut AnyConnection,
    place: &str,
    steps: &Migrator,
) -> Result<Found, sql::Error> {
    // A pooler keeps to one connection within a transaction.
    let mut view = connection.begin().await?;
    let about = "SELECT CAST(current_user AS TEXT), COALESCE(CAST(current_schema() AS TEXT), ''), \
         CAST(CASE WHEN has_schema_privilege(current_schema(), 'CREATE') THEN 1 ELSE 0 END AS BIGINT), \
         current_setting('server_version')";
    let (role, schema, may_make, server): (String, String, i64, String) =
        ask(about).fetch_one(&mut *view).await?;
    let mut found = Found {
        tables: Tables::Made,
        server: server.split(' ').next().unwrap_or_default().to_owned(),
        held_by: None,
        is_pooled: false,
        identity: None,
        mark: None,
        role,
        schema,
        may_make: may_make != 0,
        shut: None,
    };
    let names: Vec<String> = tables::all_names()
        .map(|name| format!("'{name}'"))
        .collect();
    let shut = format!(
        "SELECT CAST(c.relname AS TEXT) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND c.relname IN ('_sqlx_migrations', {}) AND NOT ( \
         has_table_privilege(c.oid, 'SELECT') AND (c.relname = '_sqlx_migrations' OR has_table_privilege(c.oid, 'INSERT') AND \
         has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))) ORDER BY c.relname LIMIT 1",
        names.join(", ")
    );
    let shut: Option<(String,)> = ask(&shut).fetch_optional(&mut *view).await?;
    found.shut = shut.map(|(table,)| table);
    if found.shut.is_some() {
        return Ok(found);
    }
    found.tables = tables_of(&mut view, steps).await?;
    if is_there(&mut view, "catalog").await? {
        let identity = ask("SELECT identity FROM catalog").fetch_optional(&mut *view);
        found.identity = identity.await?.map(|(identity,): (String,)| identity);
    }
    if found.tables == Tables::Made {
        found.mark = moved::mark_of(&mut view).await?;
    }
    if is_there(&mut view, "holder").await? {
        let sql =
            format!("SELECT machine FROM holder WHERE id = 1 AND place <> $1 AND until >= {NOW}");
        let holder = ask(&sql).bind(place.to_owned()).fetch_optional(&mut *view);
        found.held_by = holder.await?.map(|(machine,): (String,)| machine);
    }
    view.rollback().await?;
    Ok(found)
}

async fn is_there(connection: &mut AnyConnection, table: &str) -> sqlx::Result<bool> {
    let sql =
        "SELECT COUNT(*) FROM pg_tables WHERE tablename = $1 AND schemaname = current_schema()";
    let (count,): (i64,) = ask(sql)
        .bind(table.to_owned())
        .fetch_one(connection)
        .await?;
    Ok(count > 0)
}

/// The state of the tables there. Where all are made, no right to make some is needed.
async fn tables_of(connection: &mut AnyConnection, steps: &Migrator) -> Result<Tables, sql::Error> {
    if !is_there(connection, "_sqlx_migrations").await? {
        return Ok(Tables::Missing);
    }
    let taken: Vec<sql::Taken> = ask(sql::TAKEN).fetch_all(connection).await?;
    let are_all = sql::are_all_taken(steps, &taken)?;
    Ok(match are_all {
        true => Tables::Made,
        false if taken.is_empty() => Tables::Missing,
        false => Tables::Earlier,
    })
}

/// Opens the database, with its tables, for the Larder of this place alone. Without markers, it is not
/// asked whether it is this data directory's.
///
/// # Errors
/// Where it cannot be reached or used, is another one than last time's, or another Larder uses it.
pub(super) async fn open(
    url: &Secret,
    connections: u32,
    place: &str,
    steps: &Migrator,
    markers: Option<&Markers>,
) -> Result<Door, crate::store::Error> {
    let mut reached = reach(url).await?;
    // A start that comes to nothing makes no tables.
    let found = reached.look(place, steps, markers).await?;
    if let Some(machine) = found.held_by {
        return Err(held(&reached.at, &machine));
    }
    let Reached {
        at,
        url,
        manners,
        mut connection,
    } = reached;
    let failed = |error: sqlx::Error| sql::Error::from(error).at(&at);
    make_tables(&mut connection, steps)
        .await
        .map_err(|error| error.at(&at))?;
    // Its statements have names that the door's connections may not meet.
    let _ = connection.close().await;
    let settings = Some(SETTINGS).filter(|_| !manners.is_pooled());
    let door = Door::open(url.as_str(), connections, settings, &manners)
        .await
        .map_err(failed)?;
    if let Some(markers) = markers {
        identify(&door, &at, markers).await?;
    }
    match take(&door, place).await.map_err(failed)? {
        None => Ok(door),
        Some(machine) => Err(held(&at, &machine)),
    }
}

fn held(at: &str, machine: &str) -> crate::store::Error {
    unusable(
        at,
        &format!(
            "another Larder uses it, on the machine `{machine}`: two on one database would each list what the \
             other has the files of. Stop that one and wait for half a minute, or give this one another database"
        ),
    )
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
    if tables_of(&mut transaction, steps).await? != Tables::Made {
        steps.run_direct(None, &mut *transaction, false).await?;
    }
    transaction.execute(sqlx::raw_sql(ORDER)).await?;
    transaction.execute(sqlx::raw_sql("DEALLOCATE ALL")).await?;
    transaction.commit().await?;
    Ok(())
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
        door.was_changed();
        return Ok(None);
    }
    let sql = "SELECT machine FROM holder WHERE id = 1";
    let machine: Option<String> = sqlx::query_scalar(sql).fetch_optional(door).await?;
    Ok(Some(machine.unwrap_or_default()))
}

/// How often a Larder says that it still uses its database.
pub(super) const TAKEN_EVERY: Duration = Duration::from_secs(10);
/// How often a database that does not answer is tried where nobody asks for anything.
pub(super) const SOUGHT_EVERY: Duration = Duration::from_secs(2);

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
        let opened = open(&url, 2, "here", &sql::migrator(&[]), Some(&markers)).await;
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
