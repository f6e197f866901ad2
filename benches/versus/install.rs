//! Whole installs by the real clients, from a registry 30 ms away: without a lockfile, with one,
//! and of pinned wheels; cold and warm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Options;
use super::registry;
use super::servers::{Kind, Server};
use super::table::{Samples, Table, short};
use super::upstream::{Line, Upstream};

const FAR: Line = Line {
    round_trip: Duration::from_millis(30),
    width: 100_000_000,
};

const KINDS: [Kind; 4] = [Kind::Direct, Kind::Nginx, Kind::Varnish, Kind::Larder];

pub fn run(options: &Options, folder: &Path) {
    let rounds = options.rounds.min(3);
    println!("\nInstalls from a registry 30 ms away, {rounds} rounds\n");
    let upstream = Upstream::start(FAR, |base| {
        let mut resources = registry::tree(base);
        resources.extend(registry::wheels(base).0);
        resources
    });
    let (_, requirements) = registry::wheels(&upstream.url());
    let place = Place::new(folder, &upstream, &requirements);
    let mut table = Table::new(&[
        "work",
        "by",
        "cold, s",
        "warm, s",
        "cold × direct",
        "requests to the registry, cold",
        "MB from it, cold",
    ]);
    let wants = |name: &str| name.contains(&options.work);
    if wants("npm install") {
        let name = "npm install, no lockfile, 800 packages";
        measure(rounds, folder, &upstream, &mut table, name, |by| {
            place.npm_install(by)
        });
    }
    if wants("npm ci") {
        place.lock(&upstream);
        let name = "npm ci, 800 packages";
        measure(rounds, folder, &upstream, &mut table, name, |by| {
            place.npm_ci(by)
        });
    }
    if wants("pip install") {
        let name = "pip install, 42 pinned wheels";
        measure(rounds, folder, &upstream, &mut table, name, |by| {
            place.pip_install(by)
        });
    }
}

/// Who a client goes through.
struct By<'a> {
    server: &'a Server,
    /// Through `larder run`, which finds the running server.
    run: bool,
}

fn measure(
    rounds: usize,
    folder: &Path,
    upstream: &Upstream,
    table: &mut Table,
    name: &str,
    install: impl Fn(&By<'_>),
) {
    let all: Vec<(Kind, bool)> = KINDS
        .iter()
        .map(|kind| (*kind, false))
        .chain([(Kind::Larder, true)])
        .collect();
    let mut cold = vec![Samples::default(); all.len()];
    let mut warm = vec![Samples::default(); all.len()];
    let mut asked = vec![(0, 0); all.len()];
    for _ in 0..rounds {
        for (index, (kind, run)) in all.iter().enumerate() {
            let server = Server::start(*kind, upstream.address, folder);
            let by = By {
                server: &server,
                run: *run,
            };
            upstream.count();
            cold[index].push(timed(|| install(&by)));
            asked[index] = upstream.count();
            if *kind != Kind::Direct {
                warm[index].push(timed(|| install(&by)));
            }
        }
    }
    for (index, (kind, run)) in all.iter().enumerate() {
        let by = if *run { "larder run" } else { kind.name() };
        let warm = &warm[index];
        table.row(&[
            name.to_owned(),
            by.to_owned(),
            cold[index].text(),
            if *kind == Kind::Direct {
                "–".to_owned()
            } else {
                warm.text()
            },
            short(cold[index].median() / cold[0].median()),
            asked[index].0.to_string(),
            short(asked[index].1 as f64 / 1e6),
        ]);
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// Folders that the clients work in.
struct Place {
    folder: PathBuf,
    lockfile: PathBuf,
    requirements: PathBuf,
    upstream: String,
}

impl Place {
    fn new(folder: &Path, upstream: &Upstream, requirements: &str) -> Self {
        let folder = folder.join("clients");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("requirements.txt");
        fs::write(&file, requirements).unwrap();
        Self {
            lockfile: folder.join("package-lock.json"),
            requirements: file,
            folder,
            upstream: upstream.url(),
        }
    }

    /// An empty project and an empty cache.
    fn project(&self) -> PathBuf {
        let project = self.folder.join("project");
        let _ = fs::remove_dir_all(&project);
        fs::create_dir_all(&project).unwrap();
        fs::write(project.join("package.json"), registry::application()).unwrap();
        project
    }

    fn npm_install(&self, by: &By<'_>) {
        let project = self.project();
        npm(by, &project, "install");
        check(&project);
    }

    /// Makes the lockfile that `npm ci` reads.
    fn lock(&self, upstream: &Upstream) {
        let direct = Server::start(Kind::Direct, upstream.address, &self.folder);
        let project = self.project();
        npm(
            &By {
                server: &direct,
                run: false,
            },
            &project,
            "install",
        );
        fs::copy(project.join("package-lock.json"), &self.lockfile).unwrap();
    }

    fn npm_ci(&self, by: &By<'_>) {
        let project = self.project();
        let lockfile = fs::read_to_string(&self.lockfile).unwrap();
        // As the same team's lockfile would read behind that proxy; a run leaves upstream's.
        let lockfile = if by.run {
            lockfile
        } else {
            lockfile.replace(&self.upstream, &by.server.url())
        };
        fs::write(project.join("package-lock.json"), lockfile).unwrap();
        npm(by, &project, "ci");
        check(&project);
    }

    fn pip_install(&self, by: &By<'_>) {
        let project = self.project();
        let mut command = if by.run {
            larder_run(by, &["python3", "-m", "pip", "install"])
        } else {
            let index = match by.server.kind {
                Kind::Larder => format!("http://{}/pypi/public/simple/", by.server.address),
                _ => format!("http://{}/simple/", by.server.address),
            };
            let mut command = Command::new("python3");
            command
                .args(["-m", "pip", "install", "--index-url"])
                .arg(index);
            command
        };
        command
            .args([
                "--require-hashes",
                "--no-cache-dir",
                "--no-compile",
                "--no-deps",
            ])
            .args([
                "--disable-pip-version-check",
                "--root-user-action=ignore",
                "-r",
            ])
            .arg(&self.requirements)
            .arg("--target")
            .arg(project.join("site"));
        finish(&mut command);
        let installed = fs::read_dir(project.join("site")).unwrap();
        let wheels = installed.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".dist-info")
        });
        assert_eq!(wheels.count(), registry::WHEELS, "wheels are missing");
    }
}

fn larder_run(by: &By<'_>, client: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command
        .arg("run")
        .arg("--config")
        .arg(by.server.folder.join("larder.toml"))
        .arg("--")
        .args(client);
    command
}

fn npm(by: &By<'_>, project: &Path, what: &str) {
    let mut command = if by.run {
        larder_run(by, &["npm"])
    } else {
        let mut command = Command::new("npm");
        command.arg("--registry").arg(by.server.url());
        command
    };
    command
        .arg(what)
        .args([
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-update-notifier",
        ])
        .arg("--omit-lockfile-registry-resolved=false")
        .arg("--cache")
        .arg(project.join("cache"))
        .current_dir(project);
    finish(&mut command);
}

/// npm itself has checked each tarball against its integrity.
fn check(project: &Path) {
    let installed = fs::read_dir(project.join("node_modules")).unwrap();
    let packages = installed.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("bench-p")
    });
    assert_eq!(packages.count(), registry::PACKAGES, "packages are missing");
}

fn finish(command: &mut Command) {
    let output = command
        .env_remove("npm_config_registry")
        .env_remove("LARDER_DATA_DIR")
        .env_remove("LARDER_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
