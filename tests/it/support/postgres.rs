//! PostgreSQL, and a line to it that fails on command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A PostgreSQL of this test's own, stopped with it.
pub struct Postgres {
    pub folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    /// Words for the server when it is started.
    options: String,
    pub url: String,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A folder that PostgreSQL's own user may write.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

impl Postgres {
    /// Begun with these words to `initdb` beside the usual ones.
    pub async fn start(more: &[&str]) -> Self {
        Self::with(more, "").await
    }

    /// With words for the server as well.
    pub async fn with(more: &[&str], options: &str) -> Self {
        let postgres = Self::new(options);
        let data = postgres.data();
        let usual = ["-D", &data, "-U", "larder", "-A", "trust", "-E", "UTF8"];
        postgres.run("initdb", &[&usual, more].concat()).await;
        postgres.begin().await;
        postgres
    }

    /// A folder and a port, without a server.
    fn new(options: &str) -> Self {
        let bin = std::fs::read_dir("/usr/lib/postgresql")
            .expect("PostgreSQL is there; `tests/clients` fetches it")
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .max()
            .unwrap();
        let port = free_port();
        Self {
            folder: open_folder(),
            bin,
            port,
            options: options.to_owned(),
            url: format!("postgres://larder@127.0.0.1:{port}/postgres"),
        }
    }

    fn data(&self) -> String {
        self.folder.path().join("db").display().to_string()
    }

    async fn begin(&self) {
        assert!(self.try_begin().await, "the server starts");
    }

    /// Starts the server, and waits until it answers.
    async fn try_begin(&self) -> bool {
        let log = self.folder.path().join("log").display().to_string();
        let options = format!(
            "-p {} -h 127.0.0.1 -k {} {}",
            self.port,
            self.folder.path().display(),
            self.options
        );
        let data = self.data();
        let start = ["-D", &data, "-w", "-l", &log, "-o", &options, "start"];
        self.try_run("pg_ctl", &start).await
    }

    /// Makes a database, without waiting for anything else of this test.
    pub fn create(&self, name: &str) {
        let mut command = std::process::Command::new(self.bin.join("createdb"));
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "larder", name]);
        assert!(command.status().unwrap().success(), "{name}");
    }

    /// Another database of the same server.
    pub async fn database(&self, name: &str) -> String {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(sqlx::raw_sql(sql)).await.unwrap();
        self.url.replace("/postgres", &format!("/{name}"))
    }

    /// A database whose tables lie in this folder, which is made.
    pub async fn database_in(&self, name: &str, folder: &Path) -> String {
        let mut install = std::process::Command::new("install");
        install.args(["-d", "-m", "0700"]);
        if rustix::process::geteuid().is_root() {
            install.args(["-o", "postgres"]);
        }
        assert!(install.arg(folder).status().unwrap().success());
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let sql = format!("CREATE TABLESPACE {name} LOCATION '{}'", folder.display());
        for sql in [sql, format!("CREATE DATABASE {name} TABLESPACE {name}")] {
            let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
            connection.execute(sql).await.unwrap();
        }
        self.url.replace("/postgres", &format!("/{name}"))
    }

    /// The address by another port.
    pub fn by(&self, port: u16) -> String {
        self.url
            .replace(&format!(":{}/", self.port), &format!(":{port}/"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A PgBouncer before it, in transaction mode, without named statements.
    pub async fn pooler(&self) -> Pooler {
        self.pooler_with("ignore_startup_parameters = extra_float_digits")
            .await
    }

    /// One with this setting beside the usual ones.
    pub async fn pooler_with(&self, setting: &str) -> Pooler {
        let port = free_port();
        let folder = self.folder.path().join(format!("pooler-{port}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=larder\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n\
             unix_socket_dir =\n{setting}\nmax_client_conn = 2000\nserver_idle_timeout = 5\n",
            self.port
        );
        let settings = folder.join("pooler.ini");
        std::fs::write(&settings, text).unwrap();
        let mut command = command_as_postgres(Path::new("/usr/sbin/pgbouncer"));
        let child = command.arg(&settings).kill_on_drop(true).spawn().unwrap();
        let pooler = Pooler {
            url: self.by(port),
            child,
        };
        super::until("the pooler answers", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        pooler
    }

    /// Ends it as a crash does. The processes that it leaves end by themselves.
    pub fn kill(&self) {
        let pid = self.pid().expect("the server runs");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Starts it once more after [`Postgres::kill`].
    pub async fn begin_again(&self) {
        // The processes of before have to be gone.
        super::until("the server starts again", async || self.try_begin().await).await;
    }

    fn pid(&self) -> Option<rustix::process::Pid> {
        let file = self.folder.path().join("db/postmaster.pid");
        let text = std::fs::read_to_string(file).ok()?;
        rustix::process::Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
    }

    /// Carries out statements in the database `postgres`.
    pub async fn execute(&self, sql: &'static str) {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        for one in sql.split(';').filter(|one| !one.trim().is_empty()) {
            let one = sqlx::raw_sql(one.trim());
            connection.execute(one).await.unwrap();
        }
    }

    /// A second server with a copy of everything, which waits to take this one's place. Nothing is
    /// acknowledged from now on that it has not as well.
    pub async fn standby(&self) -> Self {
        let standby = Self::new("");
        let (data, port) = (standby.data(), self.port.to_string());
        let copy = [
            "-D",
            &data,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "larder",
        ];
        standby.run("pg_basebackup", &copy).await;
        standby.begin().await;
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()")
            .await;
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        super::until("the standby follows", async || {
            let sql = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
            let found = sqlx::query(sql).fetch_optional(&mut connection).await;
            found.unwrap().is_some()
        })
        .await;
        standby
    }

    /// Lets a standby take the other one's place.
    pub async fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"])
            .await;
    }

    async fn run(&self, program: &str, arguments: &[&str]) {
        assert!(self.try_run(program, arguments).await, "{arguments:?}");
    }

    async fn try_run(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = command_as_postgres(&self.bin.join(program));
        command.args(arguments).status().await.unwrap().success()
    }
}

/// The program, which refuses to run as root.
fn command_as_postgres(program: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        // It stays the same process, which can be ended.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A pooler, ended with this.
pub struct Pooler {
    pub url: String,
    child: Child,
}

impl Pooler {
    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
    }
}

/// How a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineState {
    Passes,
    /// Sockets are closed, and new ones refused.
    Refuses,
    /// Nothing comes through, and no socket is closed.
    Silent,
    /// Everything comes so much later, each way.
    Late(Duration),
}

/// A line to a server, of which this is one end.
pub struct Line {
    pub port: u16,
    /// The server's port; sockets that are open stay with theirs.
    server: Arc<AtomicU16>,
    state: Arc<watch::Sender<LineState>>,
}

impl Line {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            server: Arc::new(AtomicU16::new(port)),
            state: Arc::new(watch::channel(LineState::Passes).0),
        };
        let (server, state) = (Arc::clone(&line.server), Arc::clone(&line.state));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, port) = (state.subscribe(), server.load(Ordering::Relaxed));
                tokio::spawn(passed_on(client, port, state));
            }
        });
        line
    }

    pub fn set(&self, state: LineState) {
        self.state.send_replace(state);
    }

    /// Leads new sockets to another server.
    pub fn lead_to(&self, port: u16) {
        self.server.store(port, Ordering::Relaxed);
    }
}

/// Passes on what a socket brings, until either end closes it or the line refuses.
async fn passed_on(client: TcpStream, port: u16, state: watch::Receiver<LineState>) {
    if *state.borrow() == LineState::Refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let ways = async {
        tokio::join!(
            one_way(from_client, to_server, state.clone()),
            one_way(from_server, to_client, state.clone()),
        )
    };
    let mut refuses = state.clone();
    tokio::select! {
        _ = ways => {}
        _ = refuses.wait_for(|it| *it == LineState::Refuses) => {}
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: watch::Receiver<LineState>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let seen = state.clone();
    let reading = async move {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let late = match *seen.borrow() {
                LineState::Late(late) => late,
                _ => Duration::ZERO,
            };
            let bytes = piece[..count].to_vec();
            if sender.send((Instant::now() + late, bytes)).await.is_err() {
                return;
            }
        }
    };
    let mut state = state;
    let writing = async move {
        while let Some((due, bytes)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            let _ = state.wait_for(|it| *it != LineState::Silent).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
