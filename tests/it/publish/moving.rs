//! Packages move between SQLite and PostgreSQL, and are whole in one of them whenever the move is killed.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use larder::package::Format;
use larder::rule::{Group, Settings};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;

use super::backup::{answers, back_up, database, furnish, publish_one, rows, text};
use super::npm_versions;
use crate::command::Setup;
use crate::support::database::on_sqlite;
use crate::support::postgres::Postgres;
use crate::support::tool::said;
use crate::support::{TestLarder, Upstream, until};

/// A data directory that is moved to and fro.
struct Move {
    postgres: Postgres,
    /// The configurations of the two places.
    sqlite: String,
    remote: String,
    folder: TempDir,
    setup: Setup,
}

impl Move {
    async fn new(upstream: &Upstream) -> Self {
        let (postgres, folder) = (Postgres::start(&[]).await, TempDir::new().unwrap());
        let remote = text(upstream, &database(&folder, &postgres.url));
        Self {
            sqlite: on_sqlite(&text(upstream, "")),
            setup: Setup::new(&remote),
            remote,
            postgres,
            folder,
        }
    }

    fn arguments<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["packages", "move", "--data-dir", data], more].concat()
    }

    /// Runs `larder packages move` with the database configured.
    async fn run(&self, data: &Path, more: &[&str]) -> Output {
        let data = data.display().to_string();
        self.setup.run(&Self::arguments(&data, more)).await
    }

    /// The rows of a backup of it.
    async fn rows(&self, larder: &TestLarder, name: &str) -> Vec<String> {
        let backup = self.folder.path().join(name);
        back_up(larder, &backup).await;
        rows(&backup)
    }

    async fn connection(&self) -> sqlx::PgConnection {
        sqlx::PgConnection::connect(&self.postgres.url)
            .await
            .unwrap()
    }

    /// Whether the database has a row of that kind.
    async fn has(&self, sql: &'static str) -> bool {
        let mut connection = self.connection().await;
        let found = sqlx::query(sql).fetch_optional(&mut connection).await;
        found.is_ok_and(|row| row.is_some())
    }

    /// Why a Larder does not start there.
    async fn refusal(&self, text: &str, data: &Path) -> String {
        self.setup.configure(text);
        let data = data.display().to_string();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
        let output = self.setup.run(&serve).await;
        self.setup.configure(&self.remote);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    }
}

async fn furnished(upstream: &Upstream, text: &str) -> TestLarder {
    let larder = TestLarder::with(text).await;
    furnish(upstream, &larder).await;
    let group = Group {
        pattern: format!("/{}//nobody$", Format::Npm).parse().unwrap(),
        contact: "ops@example.org".to_owned(),
        description: "of nobody".to_owned(),
        created_at: 1,
        settings: Settings::default(),
    };
    let groups = larder.larder.store.packages().groups();
    let tags = [("team".to_owned(), "a".to_owned())];
    groups.put(&group, &tags, "made").await.unwrap();
    larder
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_move_to_a_database_and_back_and_the_old_place_is_refused() {
    let upstream = Upstream::start().await;
    let moving = Move::new(&upstream).await;
    let larder = furnished(&upstream, &moving.sqlite).await;
    let (before, rows_before) = (answers(&larder).await, moving.rows(&larder, "1").await);

    // Somebody serves: nothing is moved.
    let refused = moving.run(larder.data.path(), &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("is held by another Larder"),
        "{}",
        said(&refused)
    );

    let data = larder.stop().await;
    let moved = moving.run(data.path(), &["--json"]).await;
    assert!(moved.status.success(), "{}", said(&moved));
    let report: serde_json::Value = serde_json::from_slice(&moved.stdout).unwrap();
    assert_eq!(
        (&report["packages"], &report["versions"]),
        (&4.into(), &4.into())
    );
    let refused = moving.refusal(&moving.sqlite, data.path()).await;
    assert!(refused.contains("were moved to 127.0.0.1"), "{refused}");
    let again = moving.run(data.path(), &[]).await;
    assert!(again.status.success(), "{}", said(&again));
    assert!(said(&again).contains("were moved to"), "{}", said(&again));

    let larder = TestLarder::in_dir(&moving.remote, data).await;
    assert_eq!(answers(&larder).await, before);
    assert_eq!(moving.rows(&larder, "2").await, rows_before);
    assert_eq!(publish_one(&larder, "acme-late", "1.0.0").await, 201);
    let (before, rows_before) = (answers(&larder).await, moving.rows(&larder, "2").await);
    let data = larder.stop().await;

    let back = moving.run(data.path(), &["--to", "sqlite"]).await;
    assert!(back.status.success(), "{}", said(&back));
    assert!(
        said(&back).contains("take `packages.database` out"),
        "{}",
        said(&back)
    );
    let refused = moving.refusal(&moving.remote, data.path()).await;
    assert!(refused.contains("packages.sqlite"), "{refused}");
    let larder = TestLarder::in_dir(&moving.sqlite, data).await;
    assert_eq!(answers(&larder).await, before);
    assert_eq!(moving.rows(&larder, "1").await, rows_before);
    assert_eq!(publish_one(&larder, "acme-late", "1.0.1").await, 201);
    let data = larder.stop().await;

    // What was left there is taken for what it is.
    let moved = moving.run(data.path(), &[]).await;
    assert!(moved.status.success(), "{}", said(&moved));
    let larder = TestLarder::in_dir(&moving.remote, data).await;
    assert_eq!(npm_versions(&larder, "acme-late").await, ["1.0.0", "1.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_where_it_would_mix_packages_or_has_nothing_to_move() {
    let upstream = Upstream::start().await;
    let moving = Move::new(&upstream).await;
    let others = TestLarder::with(&moving.remote).await;
    assert_eq!(publish_one(&others, "theirs", "1.0.0").await, 201);
    let theirs = others.stop().await;

    let larder = TestLarder::with(&moving.sqlite).await;
    assert_eq!(publish_one(&larder, "ours", "1.0.0").await, 201);
    let data = larder.stop().await;
    let empty = TempDir::new().unwrap();
    let address = &moving.postgres.url;
    let cases: [(&Path, &[&str], i32, &str); 6] = [
        (data.path(), &[], 1, "has packages or tokens already"),
        (
            data.path(),
            &["--from", address, "--to", "sqlite"],
            1,
            "are not those of this data directory",
        ),
        (
            data.path(),
            &["--to", "sqlite", "--from", "sqlite"],
            2,
            "where they are",
        ),
        (data.path(), &["--to", "mysql://x"], 2, "write sqlite"),
        (empty.path(), &[], 2, "where are the packages?"),
        (empty.path(), &["--from", "sqlite"], 1, "is not there"),
    ];
    for (data, more, code, words) in cases {
        let refused = moving.run(data, more).await;
        let text = said(&refused);
        assert!(text.contains(words), "{more:?}: {text}");
        assert_eq!(refused.status.code(), Some(code), "{text}");
    }
    for (text, data, name) in [
        (&moving.sqlite, data, "ours"),
        (&moving.remote, theirs, "theirs"),
    ] {
        let larder = TestLarder::in_dir(text, data).await;
        assert_eq!(npm_versions(&larder, name).await, ["1.0.0"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_a_configured_database_leaves_behind_are_taken_along_later() {
    let upstream = Upstream::start().await;
    let moving = Move::new(&upstream).await;
    let larder = furnished(&upstream, &moving.sqlite).await;
    let before = answers(&larder).await;
    let data = larder.stop().await;
    // The database is begun, and has seen names outside.
    let larder = TestLarder::in_dir(&moving.remote, data).await;
    let outside = "/npm/team/left-pad/-/left-pad-1.3.0.tgz";
    larder.get(outside).await.expect(200);
    let data = larder.stop().await;
    let moved = moving.run(data.path(), &[]).await;
    assert!(moved.status.success(), "{}", said(&moved));
    let larder = TestLarder::in_dir(&moving.remote, data).await;
    assert_eq!(answers(&larder).await, before);
}

/// Makes the database wait wherever it is about to do this to the catalog's row about itself, until the
/// connection that is given back ends.
async fn held(moving: &Move, when: &str) -> sqlx::PgConnection {
    let mut connection = moving.connection().await;
    let sql = format!(
        "CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END'; \
         DROP TRIGGER IF EXISTS hold ON catalog; \
         CREATE TRIGGER hold BEFORE UPDATE ON catalog FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION hold(); \
         SELECT pg_advisory_lock(42)"
    );
    let sql = sqlx::AssertSqlSafe(sql);
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
    connection
}

const WAITS: &str = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'larder'";

/// Kills the move when it waits in the database.
async fn kill_at(moving: &Move, data: &Path, more: &[&str], when: &str) {
    let mut hold = held(moving, when).await;
    let data = data.display().to_string();
    let mut command = moving.setup.command(&Move::arguments(&data, more));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    until("the move waits", async || moving.has(WAITS).await).await;
    crate::command::signal(&child, rustix::process::Signal::KILL);
    child.wait().await.unwrap();
    // The server sees only when it waits no more that nobody is there; by then it would be done.
    let end = format!("SELECT pg_terminate_backend(pid) FROM ({WAITS}) AS waiting");
    let end = sqlx::raw_sql(sqlx::AssertSqlSafe(end));
    hold.execute(end).await.unwrap();
    until("the session is gone", async || !moving.has(WAITS).await).await;
    hold.close().await.unwrap();
    let mut connection = moving.connection().await;
    let drop = sqlx::raw_sql("DROP TRIGGER hold ON catalog");
    connection.execute(drop).await.unwrap();
}

const NOT_DONE: &str = "did not come to its end: run the same `larder packages move` again";

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_a_database_that_is_killed_between_steps_goes_on_and_loses_nothing() {
    let upstream = Upstream::start().await;
    let moving = Move::new(&upstream).await;
    let larder = furnished(&upstream, &moving.sqlite).await;
    let data = larder.stop().await;
    // It makes the tables; then the database is new again, for its rows.
    let moved = moving.run(data.path(), &[]).await;
    assert!(moved.status.success(), "{}", said(&moved));
    let back = moving.run(data.path(), &["--to", "sqlite"]).await;
    assert!(back.status.success(), "{}", said(&back));

    // In the transaction that writes the rows.
    kill_at(&moving, data.path(), &[], "NEW.is_arriving = 1").await;
    let refused = moving.refusal(&moving.remote, data.path()).await;
    assert!(refused.contains("were moved to"), "{refused}");
    let larder = TestLarder::in_dir(&moving.sqlite, data).await;
    assert_eq!(publish_one(&larder, "acme-late", "1.0.0").await, 201);
    let data = larder.stop().await;

    // Behind it, before the old place is marked.
    let url = format!("sqlite://{}", data.path().join("packages.sqlite").display());
    let mut file = sqlx::SqliteConnection::connect(&url).await.unwrap();
    file.execute(sqlx::raw_sql("BEGIN IMMEDIATE"))
        .await
        .unwrap();
    let path = data.path().display().to_string();
    let mut command = moving.setup.command(&Move::arguments(&path, &[]));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let written = "SELECT 1 FROM catalog WHERE is_arriving = 1";
    until("the rows are written", async || moving.has(written).await).await;
    crate::command::signal(&child, rustix::process::Signal::KILL);
    child.wait().await.unwrap();
    file.close().await.unwrap();
    let refused = moving.refusal(&moving.remote, data.path()).await;
    assert!(refused.contains(NOT_DONE), "{refused}");
    // The old place is whole, and goes on.
    let larder = TestLarder::in_dir(&moving.sqlite, data).await;
    assert_eq!(publish_one(&larder, "acme-late", "1.0.1").await, 201);
    let (before, rows_before) = (answers(&larder).await, moving.rows(&larder, "1").await);
    let data = larder.stop().await;

    // Before the last step: neither is used.
    let last = "OLD.is_arriving = 1 AND NEW.is_arriving = 0";
    kill_at(&moving, data.path(), &[], last).await;
    let refused = moving.refusal(&moving.remote, data.path()).await;
    assert!(refused.contains(NOT_DONE), "{refused}");
    let refused = moving.refusal(&moving.sqlite, data.path()).await;
    assert!(refused.contains("were moved to"), "{refused}");
    // The same before the marker files were written.
    let marker = |name: &str| data.path().join(name);
    std::fs::rename(marker("database.id"), marker("packages.id")).unwrap();
    let refused = moving.refusal(&moving.sqlite, data.path()).await;
    assert!(refused.contains("were moved to"), "{refused}");
    let moved = moving.run(data.path(), &[]).await;
    assert!(moved.status.success(), "{}", said(&moved));

    let larder = TestLarder::in_dir(&moving.remote, data).await;
    assert_eq!(answers(&larder).await, before);
    assert_eq!(moving.rows(&larder, "1").await, rows_before);
    assert_eq!(npm_versions(&larder, "acme-late").await, ["1.0.0", "1.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_from_a_database_that_is_killed_between_steps_goes_on_and_loses_nothing() {
    let upstream = Upstream::start().await;
    let moving = Move::new(&upstream).await;
    let larder = furnished(&upstream, &moving.remote).await;
    let data = larder.stop().await;
    let to_file = ["--to", "sqlite"];

    // All rows are written, and the old place is not marked.
    kill_at(&moving, data.path(), &to_file, "NEW.moved_to IS NOT NULL").await;
    let refused = moving.refusal(&moving.sqlite, data.path()).await;
    assert!(
        refused.contains("what was published here is in a database"),
        "{refused}"
    );
    let larder = TestLarder::in_dir(&moving.remote, data).await;
    assert_eq!(publish_one(&larder, "acme-late", "1.0.0").await, 201);
    let (before, rows_before) = (answers(&larder).await, moving.rows(&larder, "1").await);
    let data = larder.stop().await;

    // At any instant.
    for pause in 0..40 {
        let path = data.path().display().to_string();
        let mut command = moving.setup.command(&Move::arguments(&path, &to_file));
        let command = command.stderr(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pause = Duration::from_millis(10 * pause);
        match tokio::time::timeout(pause, child.wait()).await {
            Ok(Ok(ended)) if ended.success() => break,
            Ok(_) => {}
            Err(_) => {
                crate::command::signal(&child, rustix::process::Signal::KILL);
                child.wait().await.unwrap();
            }
        }
    }
    let moved = moving.run(data.path(), &to_file).await;
    assert!(moved.status.success(), "{}", said(&moved));
    let refused = moving.refusal(&moving.remote, data.path()).await;
    assert!(refused.contains("packages.sqlite"), "{refused}");
    let larder = TestLarder::in_dir(&moving.sqlite, data).await;
    assert_eq!(answers(&larder).await, before);
    assert_eq!(moving.rows(&larder, "1").await, rows_before);
}
