//! The commands, as a user runs them.

use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, publish_at, version};
use crate::support::tool::{Tool, clients, said, succeeded};
use crate::support::{Fault, KIB, Reply, Upstream, noise, sha1};

const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// A configuration file and a data directory.
struct Setup {
    folder: TempDir,
}

impl Setup {
    fn new(text: &str) -> Self {
        larder::use_ring();
        let setup = Self {
            folder: TempDir::new().unwrap(),
        };
        setup.configure(text);
        setup
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.folder.path().join("larder.toml"), text).unwrap();
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LARDER);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("LARDER_CONFIG", self.at("larder.toml"))
            .env("LARDER_DATA_DIR", self.at("data"))
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Starts `larder serve` and waits until it says where.
    async fn serve(&self) -> Served {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("larder ended early");
            let line: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if let Some(address) = line["address"].as_str() {
                let url = address.to_owned();
                return Served { child, url, lines };
            }
        }
    }
}

struct Served {
    child: Child,
    url: String,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Served {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap())
            .unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for a log line that has `part` in it.
    async fn logged(&mut self, part: &str) -> String {
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

async fn registry() -> Upstream {
    let upstream = Upstream::start().await;
    publish(&upstream, "left-pad", &[version("1.3.0", &[("once", "*")])]);
    publish(&upstream, "once", &[version("2.0.1", &[])]);
    upstream
}

/// A client's folder whose `larder run` has the machine's PATH and a home of its own.
async fn run(setup: &Setup, tool: &Tool, command: &[&str]) -> std::process::Output {
    let mut arguments = vec!["run", "--"];
    arguments.extend(command);
    let (file, data) = (setup.at("larder.toml"), setup.at("data"));
    tool.run(
        LARDER,
        &arguments,
        &[("LARDER_CONFIG", &file), ("LARDER_DATA_DIR", &data)],
    )
    .await
}

const MANIFEST: &str = r#"{"name":"app","version":"1.0.0","dependencies":{"left-pad":"*"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn run_leaves_the_lockfile_that_a_direct_install_writes() {
    // Tarballs below another path prefix than ours, and one on another host altogether.
    let (upstream, cdn) = (registry().await, Upstream::start().await);
    let place = |file: &str| (format!("{}/odd/{file}", cdn.url()), format!("/odd/{file}"));
    publish_at(
        &upstream,
        "@acme/odd",
        &[version("1.0.0", &[])],
        place,
        &cdn,
    );
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let manifest =
        r#"{"name":"app","version":"1.0.0","dependencies":{"left-pad":"*","@acme/odd":"*"}}"#;
    let (through, direct) = (Tool::new(), Tool::new());
    for tool in [&through, &direct] {
        tool.write("package.json", manifest);
    }
    let output = run(
        &setup,
        &through,
        &["npm", "install", "--no-fund", "--no-audit"],
    )
    .await;
    succeeded(&output);
    assert!(
        said(&output).contains("larder: 6 requests, 0 hits"),
        "{}",
        said(&output)
    );
    let registry = format!("{}/npm/", upstream.url());
    succeeded(
        &direct
            .run(
                "npm",
                &["install", "--no-fund", "--no-audit"],
                &[("npm_config_registry", &registry)],
            )
            .await,
    );
    assert_eq!(
        through.read("package-lock.json"),
        direct.read("package-lock.json")
    );
    // Again from the lockfile, with the upstream gone.
    upstream.vanish();
    let again = Tool::new();
    again.write("package.json", manifest);
    again.write("package-lock.json", &through.read("package-lock.json"));
    let output = run(&setup, &again, &["npm", "ci", "--no-fund", "--no-audit"]).await;
    succeeded(&output);
    assert!(said(&output).contains("3 hits"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_counts_what_npm_asks_for_at_the_hosts_root() {
    // Without addresses in its lockfile, npm takes them from the packuments, keeps their path and
    // puts our host before it. The repository is not the first one.
    let upstream = registry().await;
    let text = config(&upstream, IMPATIENT);
    let repositories = "[[repository]]\nname = \"empty\"\n[[repository]]\nname = \"team\"\nexternal_connections = [\"up:npm\"]\n";
    let setup = Setup::new(&format!("{text}{repositories}"));
    let tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let (file, data) = (setup.at("larder.toml"), setup.at("data"));
    let variables = [
        ("LARDER_CONFIG", file.as_str()),
        ("LARDER_DATA_DIR", data.as_str()),
        ("npm_config_omit_lockfile_registry_resolved", "true"),
    ];
    for command in ["install", "ci"] {
        let arguments = [
            "run",
            "--repository",
            "team",
            "--",
            "npm",
            command,
            "--no-fund",
            "--no-audit",
        ];
        let output = tool.run(LARDER, &arguments, &variables).await;
        succeeded(&output);
        assert!(
            said(&output).contains("larder: 4 requests"),
            "{}",
            said(&output)
        );
        tool.remove("node_modules");
        std::fs::remove_dir_all(tool.home.path().join(".npm")).unwrap();
    }
    assert!(!tool.read("package-lock.json").contains("resolved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_cleans_the_lockfiles_of_clients_that_cannot_be_told() {
    let (upstream, files) = (registry().await, Upstream::start().await);
    crate::support::pypi::publish(&upstream, &files, "acme-lib", &[("1.5", &[])], true);
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let yarn = clients()
        .join("node/node_modules/yarn/bin/yarn.js")
        .display()
        .to_string();
    let tool = Tool::new();
    tool.write("package.json", MANIFEST);
    succeeded(&run(&setup, &tool, &["node", &yarn, "install", "--no-progress"]).await);
    let lock = tool.read("yarn.lock");
    assert!(
        lock.contains(&format!(
            "{}/npm/left-pad/-/left-pad-1.3.0.tgz",
            upstream.url()
        )),
        "{lock}"
    );
    assert!(!lock.contains("/-/run/"), "{lock}");
    let tool = Tool::new();
    let python = clients().join("python/bin");
    tool.write("pyproject.toml", "[project]\nname = \"app\"\nversion = \"1.0\"\nrequires-python = \">=3.8\"\ndependencies = [\"acme-lib\"]\n");
    let uv = python.join("uv").display().to_string();
    let interpreter = python.join("python").display().to_string();
    succeeded(
        &run(
            &setup,
            &tool,
            &[
                &uv,
                "lock",
                "--python",
                &interpreter,
                "--no-python-downloads",
            ],
        )
        .await,
    );
    let lock = tool.read("uv.lock");
    assert!(
        lock.contains(&format!("registry = \"{}/simple", upstream.url())),
        "{lock}"
    );
    assert!(
        lock.contains(&format!("url = \"{}/packages/", files.url())),
        "{lock}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_passes_the_exit_code_through_and_points_every_client() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let output = setup.run(&["run", "--", "sh", "-c", "env; exit 7"]).await;
    assert_eq!(output.status.code(), Some(7));
    let said = said(&output);
    for name in [
        "npm_config_registry=http://127.0.0.1:",
        "PIP_INDEX_URL=http://127.0.0.1:",
        "UV_DEFAULT_INDEX=",
        "YARN_NPM_REGISTRY_SERVER=",
        "RestoreSources=",
    ] {
        assert!(said.contains(name), "{name} in {said}");
    }
    let output = setup.run(&["run", "--", "no-such-program"]).await;
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_uses_the_larder_that_holds_the_data_directory() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    let tool = Tool::new();
    tool.write("package.json", MANIFEST);
    succeeded(
        &run(
            &setup,
            &tool,
            &["npm", "install", "--no-fund", "--no-audit"],
        )
        .await,
    );
    assert_eq!(upstream.count_ending(&[".tgz"]), 2);
    let metrics = reqwest::get(format!("{}/-/metrics", served.url))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("format=\"npm\""), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_larder_says_who_holds_the_directory_or_the_port() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    let second = setup.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(second.status.code(), Some(1));
    let pid = served.child.id().unwrap().to_string();
    assert!(
        said(&second).contains(&pid) && said(&second).contains(&served.url),
        "{}",
        said(&second)
    );
    let address = served.url.trim_start_matches("http://");
    let elsewhere = Setup::new(&config(&upstream, IMPATIENT));
    let third = elsewhere.run(&["serve", "--listen", address]).await;
    assert_eq!(third.status.code(), Some(1));
    assert!(
        said(&third).contains("is in use by another process"),
        "{}",
        said(&third)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_exits_0() {
    let upstream = registry().await;
    let bytes = noise(600 * KIB, 4);
    let path = "/maven2/org/x/big/1/big-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let gate = Arc::new(Notify::new());
    upstream.fault(path, Fault::StallAfter(300 * KIB, Arc::clone(&gate)));
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let mut served = setup.serve().await;
    let under_way = reqwest::get(format!("{}/maven/public/org/x/big/1/big-1.jar", served.url))
        .await
        .unwrap();
    served.signal(rustix::process::Signal::TERM);
    served.logged("Stopping").await;
    assert!(
        reqwest::get(format!("{}/-/live", served.url))
            .await
            .is_err()
    );
    gate.notify_one();
    assert_eq!(under_way.bytes().await.unwrap(), bytes);
    assert_eq!(served.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_again_and_refuses_a_bad_one() {
    let upstream = registry().await;
    let text = config(&upstream, IMPATIENT);
    let setup = Setup::new(&text);
    let mut served = setup.serve().await;
    let tarball = format!("{}/npm/public/left-pad/-/left-pad-1.3.0.tgz", served.url);
    let status = async |url: &str| reqwest::get(url).await.unwrap().status().as_u16();
    assert_eq!(status(&tarball).await, 200);
    setup.configure(&format!("{text}[[rule]]\nactoin = \"deny\"\n"));
    served.signal(rustix::process::Signal::HUP);
    let refusal = served.logged("refused").await;
    assert!(
        refusal.contains("actoin") && refusal.contains("rule.action"),
        "{refusal}"
    );
    assert_eq!(status(&tarball).await, 200);
    setup.configure(&format!(
        "{text}[[rule]]\naction = \"deny\"\npackages = [\"npm:left-pad\"]\n"
    ));
    served.signal(rustix::process::Signal::HUP);
    served.logged("in force").await;
    assert_eq!(status(&tarball).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_download_it_starts_again_with_nothing_torn() {
    let upstream = registry().await;
    let bytes = noise(2 * 1024 * KIB, 5);
    let path = "/maven2/org/x/big/1/big-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    for round in 0..5usize {
        let gate = Arc::new(Notify::new());
        upstream.fault(path, Fault::StallAfter((100 + round * 400) * KIB, gate));
        let mut served = setup.serve().await;
        let url = format!("{}/maven/public/org/x/big/1/big-1.jar", served.url);
        let mut under_way = reqwest::get(&url).await.unwrap();
        under_way.chunk().await.unwrap();
        served.signal(rustix::process::Signal::KILL);
        served.child.wait().await.unwrap();
    }
    let served = setup.serve().await;
    let url = format!("{}/maven/public/org/x/big/1/big-1.jar", served.url);
    assert!(
        reqwest::get(&url).await.unwrap().bytes().await.unwrap() == bytes,
        "other bytes"
    );
    let partial = std::fs::read_dir(setup.at("data/partial")).unwrap().count();
    assert!(partial <= 1, "{partial} partial downloads are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_and_exit_with_2() {
    let setup = Setup::new("listne = \"x\"\n[cache]\nmax_size = \"lots\"\n");
    for command in [
        &["check"][..],
        &["serve"],
        &["run", "--", "true"],
        &["who-decides", "npm:a@1.0.0"],
    ] {
        let output = setup.run(command).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{command:?}: {}",
            said(&output)
        );
        assert!(
            said(&output)
                .contains("larder.toml:1: there is no key `listne`; did you mean `listen`?"),
            "{}",
            said(&output)
        );
        assert!(
            said(&output).contains("larder.toml:3:"),
            "{}",
            said(&output)
        );
    }
    let setup = Setup::new("");
    let output = setup.run(&["who-decides", "left-pad"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("npm:left-pad@1.3.0"));
    assert_eq!(
        setup
            .run(&["serve", "--config", "/nowhere/larder.toml"])
            .await
            .status
            .code(),
        Some(2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    std::fs::write(setup.at("file"), "").unwrap();
    let inside = setup.at("file/data");
    let output = setup.run(&["serve", "--data-dir", &inside]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&format!("the data directory {inside} cannot be made")),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_each_upstream_for_a_sign_of_life() {
    let upstream = registry().await;
    upstream.put("/simple/", Reply::json("{}"));
    upstream.put("/v3/index.json", Reply::json("{}"));
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let output = setup.run(&["check", "--json"]).await;
    succeeded(&output);
    let signs: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(signs.len(), 4);
    assert!(signs.iter().all(|sign| sign["alive"] == true), "{signs:?}");
    upstream.vanish();
    let output = setup.run(&["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("DEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_decides_explains_with_and_without_a_running_larder() {
    let upstream = registry().await;
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@<2\"]\nreason = \"a worm\"\n";
    let setup = Setup::new(&format!("{}{rule}", config(&upstream, IMPATIENT)));
    let explain = async || {
        let output = setup.run(&["who-decides", "npm:left-pad@1.3.0"]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said(&output).contains("held back by rule \"bad\"") && said(&output).contains("a worm"),
            "{}",
            said(&output)
        );
    };
    explain().await;
    let _served = setup.serve().await;
    explain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_are_learned_from_the_machines_own_clients() {
    let upstream = registry().await;
    let setup = Setup::new("");
    let (url, address) = (upstream.url(), upstream.address.clone());
    let write = |file: &str, text: &str| {
        let file = setup.folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write(
        ".npmrc",
        &format!("registry={url}/npm/\n//{address}/npm/:_authToken=canary\n"),
    );
    write(
        ".config/uv/uv.toml",
        &format!("index-url = \"{url}/simple\"\n"),
    );
    write(
        ".m2/settings.xml",
        &format!(
            "<settings><mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf><url>{url}/maven2</url></mirror></mirrors></settings>"
        ),
    );
    write(
        ".nuget/NuGet/NuGet.Config",
        &format!(
            "<configuration><packageSources><add key=\"n\" value=\"{url}/v3/index.json\" /></packageSources></configuration>"
        ),
    );
    let mut command = setup.command(&["check", "--json"]);
    let output = command
        .current_dir(setup.folder.path())
        .output()
        .await
        .unwrap();
    let signs: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let urls: Vec<&str> = signs
        .iter()
        .map(|sign| sign["url"].as_str().unwrap())
        .collect();
    assert_eq!(
        urls,
        [
            format!("{url}/npm/"),
            format!("{url}/simple/"),
            format!("{url}/maven2/"),
            format!("{url}/v3/index.json")
        ]
    );
    let asked = upstream.seen();
    let npm = asked
        .iter()
        .find(|seen| seen.path.starts_with("/npm/"))
        .unwrap();
    assert_eq!(npm.headers["authorization"], "Bearer canary");
    assert!(
        asked
            .iter()
            .filter(|seen| !seen.path.starts_with("/npm/"))
            .all(|seen| !seen.headers.contains_key("authorization"))
    );
    assert!(!said(&output).contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn login_and_env_point_at_larder_and_lose_nothing() {
    let setup = Setup::new("");
    std::fs::write(setup.at(".npmrc"), "# mine\nfund=false\n").unwrap();
    let files = [
        (
            "npm",
            ".npmrc",
            "registry = http://127.0.0.1:5273/npm/public/",
        ),
        (
            "pip",
            ".config/pip/pip.conf",
            "index-url = http://127.0.0.1:5273/pypi/public/simple/",
        ),
        (
            "uv",
            ".config/uv/uv.toml",
            "index-url = \"http://127.0.0.1:5273/pypi/public/simple/\"",
        ),
        (
            "maven",
            ".m2/settings.xml",
            "<url>http://127.0.0.1:5273/maven/public/</url>",
        ),
        (
            "nuget",
            ".nuget/NuGet/NuGet.Config",
            "http://127.0.0.1:5273/nuget/public/v3/index.json",
        ),
        (
            "yarn",
            ".yarnrc.yml",
            "npmRegistryServer: \"http://127.0.0.1:5273/npm/public\"",
        ),
        (
            "twine",
            ".pypirc",
            "repository = http://127.0.0.1:5273/pypi/public/",
        ),
        (
            "gradle",
            ".gradle/init.d/larder.gradle",
            "http://127.0.0.1:5273/maven/public/",
        ),
    ];
    for (tool, file, part) in files {
        for _ in 0..2 {
            succeeded(&setup.run(&["login", "--tool", tool]).await);
        }
        let text = std::fs::read_to_string(setup.at(file)).unwrap();
        assert_eq!(text.matches(part).count(), 1, "{tool}: {text}");
    }
    assert!(
        std::fs::read_to_string(setup.at(".npmrc"))
            .unwrap()
            .starts_with("# mine\nfund=false\n")
    );
    let output = setup
        .run(&[
            "env",
            "--address",
            "https://l.example",
            "--repository",
            "team",
        ])
        .await;
    succeeded(&output);
    assert!(
        said(&output).contains("export PIP_INDEX_URL='https://l.example/pypi/team/simple/'"),
        "{}",
        said(&output)
    );
    succeeded(&setup.run(&["completions", "bash"]).await);
}

/// Twenty clients, one cold file of half a gigabyte, one request, and memory that does not follow.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_a_download() {
    const BOUND_KIB: u64 = 150 * 1024;
    let upstream = Upstream::start().await;
    let bytes = bytes::Bytes::from(noise(500 * 1024 * KIB, 6));
    let path = "/maven2/org/x/huge/1/huge-1.jar";
    upstream.put(path, Reply::bytes(bytes.clone()));
    upstream.put(
        &format!("{path}.sha1"),
        Reply::typed("text/plain", sha1(&bytes)),
    );
    let setup = Setup::new(&config(
        &upstream,
        "[cache]\nmin_free = 0\nrendered_disk = 0\n",
    ));
    let served = setup.serve().await;
    let url = format!("{}/maven/public/org/x/huge/1/huge-1.jar", served.url);
    let clients = (0..20).map(|_| {
        let (url, bytes) = (url.clone(), bytes.clone());
        tokio::spawn(async move {
            let mut body = reqwest::get(url).await.unwrap();
            let mut at = 0;
            while let Some(piece) = body.chunk().await.unwrap() {
                assert!(piece == bytes[at..at + piece.len()], "other bytes at {at}");
                at += piece.len();
            }
            assert_eq!(at, bytes.len());
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", served.child.id().unwrap())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!(
        "20 clients on one cold 500 MiB file: {} request, peak resident {} MiB",
        upstream.count(path),
        peak / 1024
    );
    assert_eq!(upstream.count(path), 1);
    assert!(peak < BOUND_KIB, "{peak} KiB resident at the peak");
}
