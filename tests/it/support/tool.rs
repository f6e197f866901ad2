//! The real clients, as `tests/clients` has fetched them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

/// Where `tests/clients` puts what it fetches.
pub fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients")
}

/// A client with an empty home and an empty folder to work in.
pub struct Tool {
    pub home: TempDir,
    pub folder: TempDir,
}

impl Tool {
    pub fn new() -> Self {
        Self {
            home: TempDir::new().unwrap(),
            folder: TempDir::new().unwrap(),
        }
    }

    pub fn write(&self, file: &str, text: &str) {
        let file = self.folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap()
    }

    pub fn has(&self, file: &str) -> bool {
        self.folder.path().join(file).exists()
    }

    pub fn remove(&self, file: &str) {
        let file = self.folder.path().join(file);
        if file.is_dir() {
            std::fs::remove_dir_all(file).unwrap();
        } else if file.exists() {
            std::fs::remove_file(file).unwrap();
        }
    }

    /// Forgets what the client has cached, so that the next run asks for everything.
    pub fn empty_home(&mut self) {
        self.home = TempDir::new().unwrap();
    }

    /// Runs a program with none of this machine's own settings.
    pub async fn run(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Output {
        let path = std::env::var("PATH").unwrap();
        let program = program.as_ref();
        for word in arguments.iter().map(Path::new).chain([Path::new(program)]) {
            let is_missing = word.starts_with(clients()) && !word.exists();
            assert!(
                !is_missing,
                "{} is missing; `tests/clients` installs the clients that tests drive",
                word.display()
            );
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home.path())
            // Of root, yarn classic keeps the cache outside the home directory.
            .env("YARN_CACHE_FOLDER", self.home.path().join(".cache/yarn"))
            .env("LANG", "C.UTF-8")
            .env("CI", "true")
            .envs(variables.iter().copied())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_mins(4), command.output()).await;
        let name = program.display();
        output
            .unwrap_or_else(|_| panic!("{name} takes too long"))
            .unwrap_or_else(|error| {
                panic!("{name} does not run ({error}); `tests/clients` installs the clients that tests drive")
            })
    }
}

/// What the client said, both ways.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[track_caller]
pub fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// The library that gives a process another clock; none where it is not installed.
pub fn faketime() -> Option<String> {
    let places = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    let files = places.map(|it| format!("{it}/faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|it| Path::new(it).exists())
}
