//! PostgreSQL, and a line to it that fails on command.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use sqlx::{Connection as _, Executor as _};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

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

    /// Starts the server, and waits until it answers.
    async fn begin(&self) {
        let log = self.folder.path().join("log").display().to_string();
        let options = format!(
            "-p {} -h 127.0.0.1 -k {} {}",
            self.port,
            self.folder.path().display(),
            self.options
        );
        let data = self.data();
        let start = ["-D", &data, "-w", "-l", &log, "-o", &options, "start"];
        self.run("pg_ctl", &start).await;
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
        let folder = self.folder.path().join("pooler");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let port = free_port();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=larder\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n\
             unix_socket_dir =\nignore_startup_parameters = extra_float_digits\n\
             max_client_conn = 2000\nserver_idle_timeout = 5\n",
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

    async fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = command_as_postgres(&self.bin.join(program));
        let output = command.args(arguments).status().await.unwrap();
        assert!(output.success(), "{arguments:?}");
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
        let pid = std::fs::read_to_string(self.folder.path().join("db/postmaster.pid")).ok();
        let pid = pid.and_then(|text| text.lines().next()?.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
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
}

/// A line to a server, of which this is one end.
pub struct Line {
    pub port: u16,
    state: Arc<watch::Sender<LineState>>,
}

impl Line {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(watch::channel(LineState::Passes).0);
        let seen = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut state = seen.subscribe();
                tokio::spawn(async move {
                    if *state.borrow() == LineState::Refuses {
                        return;
                    }
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    loop {
                        let passes = *state.borrow_and_update() == LineState::Passes;
                        let passing = async {
                            if passes {
                                let _ = copy_bidirectional(&mut client, &mut server).await;
                            } else {
                                std::future::pending::<()>().await;
                            }
                        };
                        tokio::select! {
                            () = passing => return,
                            _ = state.changed() => {}
                        }
                        if *state.borrow() == LineState::Refuses {
                            return;
                        }
                    }
                });
            }
        });
        Self { port: own, state }
    }

    pub fn set(&self, state: LineState) {
        self.state.send_replace(state);
    }
}
