//! The commands, as a user runs them.

mod control;
mod encrypt;
mod log;
mod login;
mod many_files;
mod memory;
mod private;
mod refusals;
mod run;
mod schedule;
mod serve;
mod settings;
mod terminal;

use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::eventually;
use crate::support::npm::{publish, version};
use crate::support::tool::Tool;
use crate::support::{Upstream, database};

pub const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// A configuration file and a data directory.
pub struct Setup {
    pub folder: TempDir,
}

impl Setup {
    pub fn new(text: &str) -> Self {
        larder::use_ring();
        let setup = Self {
            folder: TempDir::new().unwrap(),
        };
        setup.configure(text);
        setup
    }

    pub fn configure(&self, text: &str) {
        std::fs::write(self.folder.path().join("larder.toml"), text).unwrap();
    }

    pub fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LARDER);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("LARDER_CONFIG", self.at("larder.toml"))
            .env("LARDER_DATA_DIR", self.at("data"))
            .envs(self.database(arguments))
            .kill_on_drop(true);
        command
    }

    /// The variable that names the database of the command's data directory.
    pub fn database(&self, arguments: &[&str]) -> Option<(&'static str, String)> {
        let named = |option: &str| {
            let mut rest = arguments.iter().skip_while(|it| **it != option).skip(1);
            rest.next().map(|it| self.folder.path().join(it))
        };
        let data = named("--data-dir").unwrap_or_else(|| self.at("data").into());
        let file = named("--config").unwrap_or_else(|| self.at("larder.toml").into());
        let text = std::fs::read_to_string(file).unwrap_or_default();
        database::variable(&data, &text)
    }

    /// A client of the socket by which the running Larder takes commands.
    pub fn control(&self) -> reqwest::Client {
        let socket = self.at("data/control/larder.sock");
        reqwest::Client::builder()
            .unix_socket(socket)
            .build()
            .unwrap()
    }

    pub async fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Starts `larder serve` and waits until it says where.
    pub async fn serve(&self) -> Served {
        self.serve_with(&[]).await
    }

    /// With variables in its environment.
    pub async fn serve_with(&self, variables: &[(&str, &str)]) -> Served {
        self.serve_at("127.0.0.1:0", variables).await
    }

    /// Starts `larder serve` with such a standard error, and waits until the lock file says where.
    pub async fn serve_unheard(&self, stderr: impl Into<Stdio>) -> (Child, String) {
        let child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stderr(stderr)
            .spawn()
            .unwrap();
        let url = self.address().await;
        (child, url)
    }

    /// Waits until the lock file says where it is served.
    pub async fn address(&self) -> String {
        eventually("the lock file has an address", async || {
            // Read as a file: who asks for the lock is in the way of the one that takes it.
            let text = std::fs::read_to_string(self.at("data/larder.lock")).unwrap_or_default();
            let holder: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            holder["address"].as_str().map(str::to_owned)
        })
        .await
    }

    /// On a port of the test's choice.
    pub async fn serve_at(&self, address: &str, variables: &[(&str, &str)]) -> Served {
        let mut child = self
            .command(&["serve", "--listen", address])
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut begun = String::new();
        loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("larder ended early");
            begun.push_str(&line);
            begun.push('\n');
            let line: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(address) = line["address"].as_str() {
                let url = address.to_owned();
                return Served {
                    child,
                    url,
                    begun,
                    lines,
                };
            }
        }
    }
}

pub struct Served {
    pub child: Child,
    pub url: String,
    /// What it said until it served.
    pub begun: String,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

/// Sends a signal to a process that this test has started.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

impl Served {
    pub fn signal(&self, which: rustix::process::Signal) {
        signal(&self.child, which);
    }

    /// Lets the log run off, for tests with more of it than a pipe holds; gives the address.
    pub fn unread(self) -> String {
        let Self {
            child,
            url,
            mut lines,
            ..
        } = self;
        tokio::spawn(async move {
            let _child = child;
            while let Ok(Some(_)) = lines.next_line().await {}
        });
        url
    }

    /// What it still says until it ends.
    pub async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    /// Waits for a log line that has `part` in it.
    pub async fn logged(&mut self, part: &str) -> String {
        loop {
            let line = self
                .lines
                .next_line()
                .await
                .unwrap()
                .expect("larder ended early");
            if line.contains(part) {
                return line;
            }
        }
    }
}

pub async fn registry() -> Upstream {
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[("once", "*")])]);
    publish(&upstream, "once", &[version("2.0.1", &[])]);
    upstream
}

/// A client's folder whose `larder run` has the machine's PATH and a home of its own.
pub async fn run(setup: &Setup, tool: &Tool, command: &[&str]) -> std::process::Output {
    let mut arguments = vec!["run", "--"];
    arguments.extend(command);
    let (file, data) = (setup.at("larder.toml"), setup.at("data"));
    let database = setup.database(&[]);
    let mut variables = vec![("LARDER_CONFIG", &*file), ("LARDER_DATA_DIR", &data)];
    variables.extend(
        database
            .as_ref()
            .map(|(name, value)| (*name, value.as_str())),
    );
    tool.run(LARDER, &arguments, &variables).await
}

pub const MANIFEST: &str = r#"{"name":"app","version":"1.0.0","dependencies":{"left-pad":"*"}}"#;
