//! A database of packages for each Larder that a test starts, where the environment asks for one:
//! `LARDER_TESTS_DATABASE=postgres`, `icu` (the language's order instead of bytes'), or `pooler` (that,
//! behind PgBouncer in transaction mode). Without it, packages are in the data directory's own file.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::postgres::{Pooler, Postgres};

/// Begins the configuration of a Larder that is about `packages.sqlite`, whatever the environment asks
/// for.
const ON_SQLITE: &str = "# Packages are in packages.sqlite.\n";

/// The configuration of a Larder whose packages are in `packages.sqlite` by the nature of its test.
pub fn on_sqlite(text: &str) -> String {
    format!("{ON_SQLITE}{text}")
}

/// The variable that names a data directory's database, and its value; none where it has none, or its
/// configuration says itself where packages are.
pub fn variable(data: &Path, text: &str) -> Option<(&'static str, String)> {
    if text.starts_with(ON_SQLITE) || text.contains("[packages]") {
        return None;
    }
    let file = shared()?.file(data).display().to_string();
    Some(("LARDER_PACKAGES_DATABASE", format!("{{ file = {file:?} }}")))
}

/// One server for all tests of this process.
struct Shared {
    postgres: Postgres,
    pooler: Option<Pooler>,
    /// A data directory's database has the same name as long as the tests run.
    databases: Mutex<HashMap<PathBuf, usize>>,
    /// Stops the server when this process ends, however it does.
    _alive: Child,
}

fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let kind = std::env::var("LARDER_TESTS_DATABASE").ok()?;
            // A test's own runtime ends with the test.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let runtime: &'static _ = Box::leak(Box::new(runtime));
            let started = std::thread::spawn(move || runtime.block_on(Shared::start(&kind)));
            Some(started.join().expect("the shared database starts"))
        })
        .as_ref()
}

/// No test loses power.
const QUICK: &str = "-c fsync=off -c full_page_writes=off -c max_connections=400";

impl Shared {
    async fn start(kind: &str) -> Self {
        let language = ["--locale-provider=icu", "--icu-locale=en-US"];
        let words: &[&str] = match kind {
            "postgres" => &[],
            "icu" | "pooler" => &language,
            other => panic!("LARDER_TESTS_DATABASE is postgres, icu or pooler, not {other}"),
        };
        let postgres = Postgres::with(words, QUICK).await;
        let pooler = match kind {
            "pooler" => Some(postgres.pooler().await),
            _ => None,
        };
        let folder = postgres.folder.path().display();
        let pooler_id = pooler.as_ref().map_or(0, Pooler::id);
        let script = format!(
            "cat > /dev/null; [ {pooler_id} = 0 ] || kill {pooler_id}; \
             kill -INT $(head -n 1 {folder}/db/postmaster.pid); \
             while [ -e {folder}/db/postmaster.pid ]; do sleep 0.1; done; rm -rf {folder}"
        );
        let mut watch = Command::new("sh");
        watch.args(["-c", &script]).stdin(Stdio::piped());
        watch.stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            _alive: watch.spawn().unwrap(),
            postgres,
            pooler,
            databases: Mutex::default(),
        }
    }

    /// The file with the address of a data directory's database.
    fn file(&self, data: &Path) -> PathBuf {
        let mut databases = self.databases.lock().unwrap();
        let next = databases.len();
        let number = *databases.entry(data.to_owned()).or_insert(next);
        let name = format!("packages{number}");
        let file = self.postgres.folder.path().join(&name);
        if number == next {
            self.postgres.create(&name);
            let server = self.pooler.as_ref().map(|it| it.url.as_str());
            let url = server.unwrap_or(&self.postgres.url);
            let mut text = std::fs::File::create(&file).unwrap();
            let url = url.replace("/postgres", &format!("/{name}"));
            text.write_all(url.as_bytes()).unwrap();
        }
        file
    }
}
