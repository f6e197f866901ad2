//! The Larder that is tried: a process of its own, its data directory on a small disk where this user
//! may mount one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::support::disk::{Mount, fill};

/// A start or an end that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What may be another from one configuration to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settings {
    Usual,
    /// Other numbers, and a rule that denies one package.
    Other,
    /// As if the disk were full.
    NoRoom,
}

/// The package that the other configuration denies.
pub const BARRED: &str = "up-23";

pub struct Machine {
    pub folder: TempDir,
    program: PathBuf,
    upstream: String,
    port: u16,
    child: Option<Child>,
    disk: Option<Mount>,
    filled: Option<PathBuf>,
}

impl Machine {
    /// The disk has room for so many bytes.
    pub fn new(program: PathBuf, upstream: &str, disk_mebibytes: u64, folder: TempDir) -> Self {
        let disk = Mount::new(
            &folder.path().join("disk"),
            &format!("size={disk_mebibytes}m"),
        );
        let machine = Self {
            program,
            upstream: upstream.to_owned(),
            port: free_port(),
            child: None,
            disk,
            filled: None,
            folder,
        };
        machine.configure(Settings::Usual);
        machine
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("larder.log")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("disk/data")
    }

    pub fn socket(&self) -> PathBuf {
        self.data().join("control/larder.sock")
    }

    pub fn has_small_disk(&self) -> bool {
        self.disk.is_some()
    }

    pub fn configure(&self, settings: Settings) {
        let (port, up) = (self.port, &self.upstream);
        let (max_size, retries, min_free) = match settings {
            Settings::Usual => ("24MiB", 2, "1MiB"),
            Settings::Other => ("40MiB", 3, "2MiB"),
            Settings::NoRoom => ("24MiB", 2, "1000TiB"),
        };
        let mut text = format!(
            "listen = \"127.0.0.1:{port}\"\n[log]\nformat = \"json\"\n[server]\ndrain = \"5s\"\n\
             [cache]\nmax_size = \"{max_size}\"\nmin_free = \"{min_free}\"\nabsent_for = \"1s\"\nfresh_for = \"2s\"\nrendered_disk = \"16MiB\"\n\
             [fetch]\nretries = {retries}\npatience = \"3s\"\nstale_after = \"1s\"\nread_timeout = \"2s\"\nrest = \"200ms\"\n\
             [scrub]\nrate = \"4MiB\"\n\
             [domain]\nname = \"corp\"\n"
        );
        let mut names = Vec::new();
        for (format, path) in [
            ("npm", "npm/"),
            ("pypi", "simple/"),
            ("maven", "maven2/"),
            ("nuget", "v3/index.json"),
        ] {
            text.push_str(&format!("[[connection]]\nname = \"up:{format}\"\nformat = \"{format}\"\nurl = \"{up}/{path}\"\n"));
            names.push(format!("\"up:{format}\""));
        }
        let names = names.join(", ");
        text.push_str(&format!(
            "[[repository]]\nname = \"public\"\nexternal_connections = [{names}]\n\
             [[repository]]\nname = \"team\"\nupstreams = [\"public\"]\npublish = \"local\"\n"
        ));
        if settings == Settings::Other {
            text.push_str(&format!(
                "[[rule]]\nname = \"barred\"\naction = \"deny\"\npackages = [\"npm:{BARRED}\"]\n"
            ));
        }
        std::fs::write(self.folder.path().join("larder.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("RUST_BACKTRACE", "1")
            .env("LARDER_CONFIG", self.folder.path().join("larder.toml"))
            .env("LARDER_DATA_DIR", self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .kill_on_drop(true);
        command
    }

    /// Begins to serve, with such variables, and does not wait for it.
    pub fn begin(&mut self, variables: &[(&str, String)]) {
        let variables = variables.iter().map(|(name, value)| (*name, value));
        let child = self.command(&["serve"]).envs(variables).spawn().unwrap();
        self.child = Some(child);
    }

    /// Serves; told is why it does not.
    pub async fn start(&mut self, variables: &[(&str, String)]) -> Result<(), String> {
        self.begin(variables);
        let begun = Instant::now();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let ready = format!("{}/-/ready", self.url());
        while begun.elapsed() < PATIENCE {
            if http.get(&ready).send().await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                return Err(format!("the start came to nothing: {status}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("it does not serve after {PATIENCE:?}"))
    }

    /// How the process has ended, where it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id);
        if let Some(pid) = id.and_then(|id| Pid::from_raw(i32::try_from(id).unwrap())) {
            let _ = kill_process(pid, signal);
        }
    }

    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            child.wait().await.unwrap();
        }
    }

    /// Asks it to end, which it does in time and with 0.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM);
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        match timeout(PATIENCE, child.wait()).await {
            Ok(status) => {
                let status = status.unwrap();
                let is_right = status.success();
                is_right.then_some(()).ok_or(format!("SIGTERM: {status}"))
            }
            Err(_) => Err(format!("it has not ended {PATIENCE:?} after SIGTERM")),
        }
    }

    /// Runs another command on its data directory; what it said where it failed.
    pub async fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let output = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        let output = timeout(PATIENCE, output)
            .await
            .map_err(|_| format!("{arguments:?} does not end"))?;
        let output = output.unwrap();
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Err(format!("{arguments:?}: {} {said}", output.status))
    }

    /// Takes all room on the disk, or has Larder think so.
    pub fn fill(&mut self) {
        if self.disk.is_some() {
            self.filled = Some(fill(&self.folder.path().join("disk")));
        } else {
            self.configure(Settings::NoRoom);
            self.signal(Signal::HUP);
        }
    }

    pub fn make_room(&mut self) {
        match self.filled.take() {
            Some(file) => std::fs::remove_file(file).unwrap(),
            None => {
                self.configure(Settings::Usual);
                self.signal(Signal::HUP);
            }
        }
    }

    /// The files of blobs, by their digests.
    pub fn blobs(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        let folders = files(&self.data().join("blobs/sha256"));
        for file in folders.iter().flat_map(|folder| files(folder)) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            found.push((name, file));
        }
        found.sort();
        found
    }

    /// How many times Larder has panicked.
    pub fn panics(&self) -> usize {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).matches("panicked").count()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder);
    entries.map_or_else(
        |_| Vec::new(),
        |it| it.flatten().map(|it| it.path()).collect(),
    )
}

/// A port that no socket of a client's is given by the system: while Larder is away, one that asks for
/// it could be answered by itself.
fn free_port() -> u16 {
    let from = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (from..32_000).find(is_free).unwrap()
}
