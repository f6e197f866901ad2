//! `larder check` says of the packages' database what a start would say, and changes nothing there; and
//! how many statements a publish and a read are.

use std::path::Path;

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::database::{NONE_FREE, packages};
use super::{Day, OWN, stop};
use crate::publish::npm_document;
use crate::support::database::on_sqlite;
use crate::support::npm::tarball;
use crate::support::postgres::{Line, LineState, Postgres};
use crate::support::{nuget, pypi, until};

/// What a check says of the packages, in words and for programs.
struct Checked {
    is_right: bool,
    lines: String,
    packages: Value,
}

impl Checked {
    #[track_caller]
    fn says(&self, is_right: bool, words: &str) {
        assert_eq!(self.is_right, is_right, "{}", self.lines);
        assert_eq!(self.packages["usable"], is_right, "{}", self.packages);
        assert!(self.lines.contains(words), "{words}: {}", self.lines);
        assert!(!self.lines.contains("data directory"), "{}", self.lines);
    }
}

impl Day {
    /// Checks, with this database where there is one.
    async fn check(&self, url: Option<&str>) -> Checked {
        self.use_database(url);
        let json = self.setup.run(&["check", "--json"]).await;
        let text = self.setup.run(&["check"]).await;
        assert_eq!(json.status.code(), text.status.code());
        let found: Value = serde_json::from_slice(&json.stdout).unwrap();
        let lines = String::from_utf8_lossy(&text.stdout).into_owned();
        let lines = lines.lines().filter(|line| line.contains(" packages"));
        Checked {
            is_right: json.status.success(),
            lines: lines.collect::<Vec<_>>().join("\n"),
            packages: found["packages"].clone(),
        }
    }

    fn use_database(&self, url: Option<&str>) {
        let text = std::fs::read_to_string(self.setup.at("larder.toml")).unwrap();
        let before = text.split("[packages]").next().unwrap();
        let tables = url.map(packages).unwrap_or_default();
        self.setup
            .configure(&on_sqlite(&format!("{before}{tables}")));
    }

    /// A check and a start are of one mind.
    async fn neither_checks_nor_starts(&self, url: Option<&str>, words: &str) {
        self.check(url).await.says(false, words);
        let said = self.refuses_to_start().await;
        assert!(said.contains(words), "{words}: {said}");
        assert!(!said.contains("emove the data directory"), "{said}");
    }
}

async fn run(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    connection.execute(sqlx::raw_sql(sql)).await.unwrap();
}

async fn count(url: &str, sql: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn tables(url: &str) -> i64 {
    count(
        url,
        "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'",
    )
    .await
}

/// The address, for another role.
fn of_role(url: &str, role: &str) -> String {
    url.replace("//larder@", &format!("//{role}@"))
}

#[tokio::test(flavor = "multi_thread")]
async fn that_it_cannot_be_reached_is_said_with_its_cause() {
    let postgres = Postgres::start(&[]).await;
    let day = Day::on_sqlite(NONE_FREE).await;
    let folder = postgres.folder.path().join("db");
    let hba = std::fs::read_to_string(folder.join("pg_hba.conf")).unwrap();
    let locked = "host all locked 127.0.0.1/32 scram-sha-256\nhost all shut 127.0.0.1/32 reject\n";
    std::fs::write(folder.join("pg_hba.conf"), format!("{locked}{hba}")).unwrap();
    let roles = "CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE shut LOGIN; SELECT pg_reload_conf()";
    run(&postgres.url, roles).await;

    let url = of_role(&postgres.url, "locked:wrong");
    // The server reads its list anew in its own time.
    until("the list is in force", async || {
        PgConnection::connect(&of_role(&postgres.url, "shut"))
            .await
            .is_err()
    })
    .await;
    let wrong = "password authentication failed for user \"locked\"; correct the user or password in `packages.database`";
    day.neither_checks_nor_starts(Some(&url), wrong).await;
    let url = of_role(&postgres.url, "shut");
    day.neither_checks_nor_starts(Some(&url), "pg_hba.conf rejects connection")
        .await;
    let url = postgres.url.replace("/postgres", "/nowhere");
    day.neither_checks_nor_starts(Some(&url), "database \"nowhere\" does not exist; make it")
        .await;

    let line = Line::to(postgres.port()).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = format!("127.0.0.1:{port}/postgres: the connection was refused");
    day.neither_checks_nor_starts(Some(&postgres.by(port)), &refused)
        .await;
    line.set(LineState::Refuses);
    // Whether it hung up before or while it was spoken to is a matter of the instant.
    let broken = format!("127.0.0.1:{}/postgres: it broke off", line.port);
    day.neither_checks_nor_starts(Some(&postgres.by(line.port)), &broken)
        .await;
    let url = postgres.url.replace("127.0.0.1", "db.nowhere.example");
    day.check(Some(&url))
        .await
        .says(false, "db.nowhere.example");
    assert_eq!(tables(&postgres.url).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_and_what_a_role_may_do_is_said_and_no_table_is_made() {
    let postgres = Postgres::start(&[]).await;
    let day = Day::on_sqlite(NONE_FREE).await;
    let url = postgres.database("packages").await;
    run(&url, "CREATE ROLE reader LOGIN").await;
    let reader = of_role(&url, "reader");
    let rights = "it has not all tables yet, and `reader` may make none: GRANT CREATE ON SCHEMA public TO reader";
    day.neither_checks_nor_starts(Some(&reader), rights).await;
    day.check(Some(&url))
        .await
        .says(true, "no tables yet, the first start makes them");
    assert_eq!(tables(&url).await, 0);

    stop(day.begin().await).await;
    let checked = day.check(Some(&url)).await;
    checked.says(true, "its tables are there");
    assert_eq!(checked.packages["held_by"], Value::Null);
    assert_eq!(checked.packages["pooler"], false);
    let locked = "`reader` may not read and write the table";
    day.check(Some(&reader)).await.says(false, locked);
    // Where the tables are there, no right to make some is needed.
    run(
        &url,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO reader",
    )
    .await;
    day.check(Some(&reader))
        .await
        .says(true, "its tables are there");
    let served = day.setup.serve().await;
    day.put(&served, "late").await.expect(201);
    stop(served).await;

    // Half made, another one's, a later one's.
    let last = "(SELECT MAX(version) FROM _sqlx_migrations)";
    for (made, unmade, words) in [
        (
            format!("UPDATE _sqlx_migrations SET success = false WHERE version = {last}"),
            "UPDATE _sqlx_migrations SET success = true".to_owned(),
            "its tables are half made",
        ),
        (
            format!(
                "UPDATE _sqlx_migrations SET checksum = checksum || 'x' WHERE version = {last}"
            ),
            "UPDATE _sqlx_migrations SET checksum = substring(checksum FOR 48)".to_owned(),
            "another version of Larder has written it",
        ),
        (
            "INSERT INTO _sqlx_migrations VALUES (900, 'later', now(), true, '', 0)".to_owned(),
            "DELETE FROM _sqlx_migrations WHERE version = 900".to_owned(),
            "a newer version of Larder has written it; start that version",
        ),
    ] {
        run(&url, &made).await;
        day.neither_checks_nor_starts(Some(&url), words).await;
        run(&url, &unmade).await;
    }
    let begun = "CREATE TABLE put_away AS SELECT * FROM _sqlx_migrations; DELETE FROM _sqlx_migrations WHERE version > 8";
    run(&url, begun).await;
    let earlier = "its tables are of an earlier Larder, the next start brings them up to date";
    day.check(Some(&url)).await.says(true, earlier);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_it_is_and_who_uses_it_is_said() {
    let postgres = Postgres::start(&[]).await;
    let url = postgres.database("packages").await;
    let day = Day::with(NONE_FREE, &packages(&url)).await;
    let served = day.begin().await;
    // The Larder of this very directory uses it.
    let checked = day.check(Some(&url)).await;
    checked.says(true, "its tables are there");
    assert_eq!(checked.packages["held_by"], Value::Null);
    let other = Day::on_sqlite(NONE_FREE).await;
    let checked = other.check(Some(&url)).await;
    checked.says(true, "another Larder uses this database, on the machine");
    assert!(
        checked.packages["held_by"].is_string(),
        "{}",
        checked.packages
    );

    // A start that is refused changes nothing, whatever there is to be done.
    run(
        &url,
        "DROP TABLE outside_name; DELETE FROM _sqlx_migrations WHERE version = 6",
    )
    .await;
    let before = tables(&url).await;
    let said = other.refuses_to_start().await;
    assert!(said.contains("another Larder uses it"), "{said}");
    assert_eq!(tables(&url).await, before);
    stop(served).await;

    let wrong = postgres.database("wrong").await;
    for (url, words) in [
        (Some(&*wrong), "another one than last time's"),
        (None, "Set `packages.database`"),
    ] {
        let checked = day.check(url).await;
        assert!(!checked.is_right);
        assert!(checked.lines.contains(words), "{}", checked.lines);
        let said = day.refuses_to_start().await;
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(tables(&wrong).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_told_of_and_what_it_lacks() {
    let postgres = Postgres::start(&[]).await;
    let pooler = postgres.pooler().await;
    let day = Day::on_sqlite(NONE_FREE).await;
    day.check(Some(&pooler.url))
        .await
        .says(true, "no tables yet");
    stop({
        day.use_database(Some(&pooler.url));
        day.begin().await
    })
    .await;
    day.check(Some(&pooler.url))
        .await
        .says(true, "its tables are there");
    let pooler = postgres.pooler_with("").await;
    let words = "set `ignore_startup_parameters = extra_float_digits` in its configuration";
    day.neither_checks_nor_starts(Some(&pooler.url), words)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sqlites_file_it_says_what_a_start_would_and_leaves_it_as_it_is() {
    let day = Day::on_sqlite(NONE_FREE).await;
    day.check(None).await.says(true, "");
    assert!(!day.at("packages.sqlite").exists(), "a check makes none");
    stop(day.begin().await).await;
    let checked = day.check(None).await;
    checked.says(true, "");
    assert!(!day.at("packages.sqlite-wal").exists());
    let at = day.at("packages.sqlite");
    let whole = std::fs::read(&at).unwrap();

    let mut flipped = whole.clone();
    for byte in &mut flipped[4096..12288] {
        *byte ^= 0x55;
    }
    let later = {
        let later = day.setup.folder.path().join("later.sqlite");
        std::fs::write(&later, &whole).unwrap();
        let url = format!("sqlite://{}", later.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let sql = "INSERT INTO _sqlx_migrations VALUES (900, 'later', '2026-11-30', true, x'', 0)";
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
        std::fs::read(&later).unwrap()
    };
    for (bytes, words) in [
        (flipped, "cannot be used: its file is damaged"),
        (
            whole[..2000].to_vec(),
            "cannot be used: its file is damaged",
        ),
        (Vec::new(), "it is gone, or empty"),
        (later, "a newer version of Larder has written it"),
    ] {
        std::fs::write(&at, &bytes).unwrap();
        let checked = day.check(None).await;
        assert!(!checked.is_right, "{words}");
        assert!(checked.lines.contains(words), "{words}: {}", checked.lines);
        assert!(std::fs::read(&at).unwrap() == bytes, "{words}");
        let said = day.refuses_to_start().await;
        assert!(said.contains(words), "{words}: {said}");
        for beside in ["packages.sqlite-wal", "packages.sqlite-shm"] {
            let _ = std::fs::remove_file(day.at(beside));
        }
    }
    std::fs::write(&at, &whole).unwrap();
    let form = std::fs::read(day.at("larder.form")).unwrap();
    std::fs::write(day.at("larder.form"), "99").unwrap();
    let checked = day.check(None).await;
    assert!(checked.lines.contains("has form 99"), "{}", checked.lines);
    std::fs::write(day.at("larder.form"), form).unwrap();
    let served = day.setup.serve().await;
    day.get(&served, OWN).await.expect(200);
    stop(served).await;
}

/// The statements that the server was sent, since the last look.
struct Statements<'a> {
    log: &'a Path,
    seen: usize,
}

impl Statements<'_> {
    /// Those of one request, without those that say that the database is in use.
    fn since(&mut self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log).unwrap();
        let new = text[self.seen..].to_owned();
        self.seen = text.len();
        let statements = new.lines().filter_map(|line| {
            let (_, said) = line.split_once("LOG:  ")?;
            let said = said.strip_prefix("statement: ").or_else(|| {
                let (_, said) = said.strip_prefix("execute ")?.split_once(": ")?;
                Some(said)
            })?;
            (!said.contains("holder")).then(|| said.to_owned())
        });
        statements.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_and_a_read_are_few_statements() {
    let postgres = Postgres::start(&[]).await;
    run(&postgres.url, "ALTER SYSTEM SET log_statement = 'all'").await;
    run(&postgres.url, "SELECT pg_reload_conf()").await;
    let day = Day::with(NONE_FREE, &packages(&postgres.url)).await;
    let served = day.begin().await;
    // What was seen outside is written a moment later.
    until("the name is written", async || {
        count(&postgres.url, "SELECT COUNT(*) FROM outside_name").await > 0
    })
    .await;
    let log = postgres.folder.path().join("log");
    let mut statements = Statements { log: &log, seen: 0 };
    let form = |name: &str, version: &str| {
        let wheel = pypi::wheel(name, version, &["left (>=1)", "right"]);
        let file = format!("{name}-{version}-py3-none-any.whl");
        let head = format!(
            "--B\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{file}\"\r\n\r\n"
        );
        [head.as_bytes(), &wheel, b"\r\n--B--\r\n"].concat()
    };
    // The first version of a package, and a further one.
    for (version, most) in [("1.0.0", 9), ("2.0.0", 8)] {
        let npm = npm_document(
            "lib",
            version,
            &tarball("lib", version, &[("left", "1"), ("right", "*")]),
        );
        let nupkg = nuget::nupkg("Lib", version, &[("Left", "1.0.0")]);
        let requests = [
            (
                "npm",
                reqwest::Method::PUT,
                "/npm/team/lib",
                "application/json",
                npm.to_vec(),
            ),
            (
                "PyPI",
                reqwest::Method::POST,
                "/pypi/team/",
                "multipart/form-data; boundary=B",
                form("lib", version),
            ),
            (
                "NuGet",
                reqwest::Method::PUT,
                "/nuget/team/api/v2/package",
                "application/octet-stream",
                nupkg,
            ),
        ];
        for (format, method, path, kind, body) in requests {
            statements.since();
            let request = day.http.request(method, format!("{}{path}", served.url));
            let sent = request
                .header("content-type", kind)
                .body(body)
                .send()
                .await
                .unwrap();
            let status = sent.status();
            assert!(
                status.is_success(),
                "{format}: {}",
                sent.text().await.unwrap()
            );
            let sent = statements.since();
            println!("{format} {version}: {} statements", sent.len());
            assert!(sent.len() <= most, "{format} {version}: {sent:#?}");
        }
    }
    for (path, status, most) in [
        ("/npm/team/lib", 200, 0),
        ("/npm/team/acme", 200, 0),
        ("/pypi/team/simple/lib/", 200, 0),
        ("/npm/team/unknown", 404, 1),
        ("/npm/team/unknown", 404, 0),
        ("/npm/team/cold", 200, 3),
    ] {
        statements.since();
        day.get(&served, path).await.expect(status);
        let sent = statements.since();
        println!("{path}: {} statements", sent.len());
        assert!(sent.len() <= most, "{path}: {sent:#?}");
    }
    // Read for the first time since the start.
    stop(served).await;
    let served = day.setup.serve().await;
    for path in ["/npm/team/lib", "/npm/team/lib/-/lib-1.0.0.tgz"] {
        statements.since();
        day.get(&served, path).await.expect(200);
        let sent = statements.since();
        println!("{path} after a start: {} statements", sent.len());
        assert!(sent.len() <= 3, "{path}: {sent:#?}");
    }
    stop(served).await;
}
