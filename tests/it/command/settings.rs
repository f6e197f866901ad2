//! What is configured and learned: `check`, `who-decides`, `login`, `env`, mistakes.

use super::{Setup, registry};
use crate::support::Reply;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::tool::{said, succeeded};

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

/// What `check --json` says of connections.
fn signs(output: &std::process::Output) -> Vec<serde_json::Value> {
    let findings: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)));
    findings["connections"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_each_upstream_for_a_sign_of_life() {
    let upstream = registry().await;
    upstream.put("/simple/", Reply::json("{}"));
    upstream.put("/v3/index.json", Reply::json("{}"));
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let output = setup.run(&["check", "--json"]).await;
    succeeded(&output);
    let signs = signs(&output);
    assert_eq!(signs.len(), 4);
    assert!(signs.iter().all(|sign| sign["alive"] == true), "{signs:?}");
    upstream.vanish();
    let output = setup.run(&["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("DEAD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_how_a_connection_is_asked_and_no_secret() {
    let setup = Setup::new(
        "[[connection]]\nname = \"office\"\nformat = \"npm\"\nurl = \"https://npm.registry.example/\"\noffline = true\n\
         proxy = \"http://ci:canary@proxy.corp.example:3128\"\ntimeout = \"90s\"\nrate_max = 20\n",
    );
    let output = setup.run(&["check"]).await;
    let text = said(&output);
    for words in [
        "by way of http://proxy.corp.example:3128",
        "may be silent for 1m 30s",
        "asked 20 times a second at most",
    ] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains("canary"), "{text}");
    let output = setup.run(&["check", "--json"]).await;
    assert_eq!(signs(&output)[0]["asked"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_no_registry_that_is_offline_or_that_nothing_draws_on() {
    let upstream = registry().await;
    let (url, address) = (upstream.url(), upstream.address.clone());
    let connection = |name: &str, more: &str| {
        format!("[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n{more}")
    };
    let setup = Setup::new(&format!(
        "{}{}[[repository]]\nname = \"team\"\nexternal_connections = [\"away\", \"near\"]\n",
        connection("away", "offline = true\n"),
        connection("near", ""),
    ));
    // A client's registry that no repository has.
    let pip = format!("[global]\nindex-url = http://{address}/simple/\n");
    std::fs::create_dir_all(setup.at(".config/uv")).unwrap();
    let uv = pip
        .replace("[global]\n", "")
        .replace("http", "\"http")
        .replace("/simple/", "/simple/\"");
    std::fs::write(setup.at(".config/uv/uv.toml"), uv).unwrap();
    let check = async |arguments: &[&str]| {
        let mut command = setup.command(arguments);
        let command = command.env("PATH", no_clients(&setup));
        command
            .current_dir(setup.folder.path())
            .output()
            .await
            .unwrap()
    };
    let output = check(&["check", "--json"]).await;
    succeeded(&output);
    let states: Vec<(String, String)> = signs(&output)
        .iter()
        .map(|sign| ["connection", "state"].map(|key| sign[key].as_str().unwrap().to_owned()))
        .map(|[name, state]| (name, state))
        .collect();
    let expected = [
        ("away", "offline"),
        ("near", "alive"),
        ("public:pypi", "unused"),
    ];
    assert_eq!(
        states,
        expected.map(|(name, state)| (name.to_owned(), state.to_owned()))
    );
    assert_eq!(upstream.seen().len(), 1, "{:?}", upstream.seen());
    // One that is dead fails the check, and those that nobody asks do not.
    upstream.vanish();
    let output = check(&["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(
        text.contains("offline npm    away") && text.contains("DEAD    npm    near"),
        "{text}"
    );
    assert!(text.contains("unused  pypi   public:pypi"), "{text}");
    setup.configure(&format!(
        "offline = true\n{}[[repository]]\nname = \"team\"\nexternal_connections = [\"near\"]\n",
        connection("near", "")
    ));
    let output = check(&["check"]).await;
    succeeded(&output);
    assert!(
        said(&output).contains("offline npm    near"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_a_rule_that_has_ended_with_its_date_and_line() {
    let upstream = registry().await;
    let rule = |name: &str, action: &str, expires: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\naction = \"{action}\"\npackages = [\"npm:a\"]\nexpires = \"{expires}\"\n"
        )
    };
    let before = config(&upstream, IMPATIENT);
    let setup = Setup::new(&format!(
        "{before}{}{}",
        rule("exception", "allow", "2025-03-01"),
        rule("later", "allow", "2999-01-01"),
    ));
    upstream.put("/simple/", Reply::json("{}"));
    upstream.put("/v3/index.json", Reply::json("{}"));
    let output = setup.run(&["check"]).await;
    succeeded(&output);
    let text = said(&output);
    let line = before.lines().count() + 5;
    let ended = format!(
        "ended   allow rule \"exception\" ended on 1 March 2025, 00:00 UTC ({}:{line})",
        setup.at("larder.toml")
    );
    assert!(text.contains(&ended), "{text}");
    assert!(!text.contains("later\""), "{text}");
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
async fn who_decides_of_a_name_tells_what_is_held_back_and_the_newest_that_is_served() {
    let upstream = registry().await;
    publish(
        &upstream,
        "lib",
        &["1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1"].map(|it| version(it, &[])),
    );
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:lib@>=1.1\", \"npm:gone\"]\nreason = \"a worm\"\n";
    let setup = Setup::new(&format!("{}{rule}", config(&upstream, IMPATIENT)));
    let explain = async |name: &str| {
        let output = setup.run(&["who-decides", name]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text
            .lines()
            .map(|line| line.split(':').take(2).collect::<Vec<_>>().join(":"));
        (output.status.code(), lines.collect::<Vec<_>>())
    };
    let told = [
        "npm:lib 1.2.0 is held back by rule \"bad\"",
        "npm:lib 1.1.0 is held back by rule \"bad\"",
        "npm:lib 1.0.0 is served",
        // Clients choose a prerelease last, and a notice may speak of it.
        "npm:lib 2.0.0-rc.1 is held back by rule \"bad\"",
    ];
    for is_served in [false, true] {
        let _served = if is_served {
            Some(setup.serve().await)
        } else {
            None
        };
        let (code, lines) = explain("npm:lib").await;
        assert_eq!((code, lines), (Some(0), told.map(str::to_owned).to_vec()));
        let (code, lines) = explain("npm:gone").await;
        assert_eq!(code, Some(1));
        assert_eq!(lines, ["npm:gone is held back by rule \"bad\""]);
        let (code, lines) = explain("npm:lob").await;
        assert_eq!(code, Some(1));
        assert_eq!(lines, ["npm:lob is not served"]);
    }
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
    let signs = signs(&output);
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
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
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
        let part = part.replace("http://127.0.0.1:5273", &served.url);
        for _ in 0..2 {
            succeeded(&setup.run(&["login", "--tool", tool]).await);
        }
        let text = std::fs::read_to_string(setup.at(file)).unwrap();
        assert_eq!(text.matches(&part).count(), 1, "{tool}: {text}");
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

/// A PATH with none of the clients, so that nothing is learned but by files.
fn no_clients(setup: &Setup) -> String {
    let folder = setup.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    folder.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_never_pointed_at_nothing() {
    let upstream = registry().await;
    let url = upstream.url();
    let setup = Setup::new(&format!(
        "[[connection]]\nname = \"n\"\nformat = \"npm\"\nurl = \"{url}/npm/\"\n"
    ));
    let path = no_clients(&setup);
    let mut env = setup.command(&["env"]);
    let output = env.env("PATH", &path).output().await.unwrap();
    succeeded(&output);
    assert!(said(&output).contains("export npm_config_registry="));
    assert!(
        !said(&output).contains("PIP_INDEX_URL"),
        "{}",
        said(&output)
    );
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert!(lines.contains("pypi and maven and nuget") && lines.contains("[[connection]]"));
    let mut served = setup.serve_with(&[("PATH", &path)]).await;
    for tool in ["pip", "uv", "twine", "maven", "gradle", "nuget"] {
        let mut login = setup.command(&["login", "--tool", tool]);
        let output = login.env("PATH", &path).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("[[connection]]"),
            "{}",
            said(&output)
        );
    }
    assert!(!setup.folder.path().join(".m2").exists());
    served.child.kill().await.unwrap();
    // Another Larder's formats are not known here.
    let other = Setup::new(&config(&upstream, IMPATIENT));
    let served = other.serve().await;
    let mut login = setup.command(&["login", "--tool", "maven", "--address", &served.url]);
    login.args(["--repository", "public"]);
    succeeded(&login.env("PATH", &path).output().await.unwrap());
    // A Maven that is found by nobody but by its path.
    let maven = setup.folder.path().join("mvnw");
    std::fs::write(&maven, "#!/bin/sh\necho \"given: $*\"\nexit 7\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&maven, mode).unwrap();
    let maven = maven.display().to_string();
    std::fs::remove_dir_all(setup.folder.path().join(".m2")).unwrap();
    let mut run = setup.command(&["run", "--", &maven, "validate"]);
    let output = run.env("PATH", &path).output().await.unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(
        said(&output).contains("given: validate\n"),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("no registry is known here for maven"));
    let script = setup.command(&["run", "--", "/bin/sh", "-c", "set"]);
    let mut script = script;
    let output = script.env("PATH", &path).output().await.unwrap();
    assert!(
        !said(&output).contains("PIP_INDEX_URL"),
        "{}",
        said(&output)
    );
    assert!(
        !said(&output).contains("RestoreSources"),
        "{}",
        said(&output)
    );
    assert!(
        said(&output).contains("npm_config_registry"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larder_is_not_its_own_upstream() {
    let upstream = registry().await;
    let (url, here) = (upstream.url(), "http://localhost:5273");
    let setup = Setup::new("listen = \"127.0.0.1:5273\"\npublic_url = \"https://l.example\"\n");
    let path = no_clients(&setup);
    let write = |file: &str, text: &str| {
        let file = setup.folder.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write(".npmrc", &format!("registry={here}/npm/public/\n"));
    write(
        ".config/uv/uv.toml",
        "index-url = \"https://l.example/pypi/public/simple/\"\n",
    );
    let mirrors = |second: &str| {
        format!(
            "<settings><mirrors><mirror><id>larder</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:5273/maven/public/</url></mirror>{second}</mirrors></settings>"
        )
    };
    write(".m2/settings.xml", &mirrors(""));
    let sources = |second: &str| {
        format!(
            "<configuration><packageSources><add key=\"larder\" value=\"http://[::1]:5273/nuget/public/v3/index.json\" />{second}</packageSources></configuration>"
        )
    };
    write(".nuget/NuGet/NuGet.Config", &sources(""));
    let check = async || {
        let mut command = setup.command(&["check", "--json"]);
        let command = command.env("PATH", &path).current_dir(setup.folder.path());
        let output = command.output().await.unwrap();
        let signs = signs(&output);
        let urls: Vec<String> = signs
            .iter()
            .map(|sign| sign["url"].as_str().unwrap().to_owned())
            .collect();
        (urls, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (urls, remarks) = check().await;
    assert!(urls.is_empty(), "{urls:?}");
    assert_eq!(
        remarks.matches("is set to this Larder itself").count(),
        4,
        "{remarks}"
    );
    // The next mirror and the next source are taken instead.
    let mirror =
        format!("<mirror><id>m</id><mirrorOf>central</mirrorOf><url>{url}/maven2</url></mirror>");
    write(".m2/settings.xml", &mirrors(&mirror));
    write(
        ".nuget/NuGet/NuGet.Config",
        &sources(&format!("<add key=\"n\" value=\"{url}/v3/index.json\" />")),
    );
    let (urls, _) = check().await;
    assert_eq!(
        urls,
        [format!("{url}/maven2/"), format!("{url}/v3/index.json")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_no_key_stops_every_command() {
    let setup = Setup::new("");
    for command in [["env"].as_slice(), &["check"], &["run", "--", "true"]] {
        let mut command = setup.command(command);
        let output = command.env("LARDER_CACHE_MAX_SIZ", "1GiB").output().await;
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let hint = "did you mean `LARDER_CACHE_MAX_SIZE`?";
        assert!(said(&output).contains(hint), "{}", said(&output));
    }
}
