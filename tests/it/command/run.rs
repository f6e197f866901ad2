//! `larder run`

use super::{LARDER, MANIFEST, Setup, registry, run};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish_at, version};
use crate::support::tool::{Tool, clients, said, succeeded};
use crate::support::{Reply, Upstream};

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
async fn a_run_that_fails_says_which_versions_are_held_back() {
    let upstream = registry().await;
    let rule = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@>=1\"]\n";
    let setup = Setup::new(&format!("{}{rule}", config(&upstream, IMPATIENT)));
    let tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let output = run(
        &setup,
        &tool,
        &["npm", "install", "--no-fund", "--no-audit"],
    )
    .await;
    assert!(!output.status.success());
    let held = "larder: versions are held back: left-pad 1.3.0 is held back by rule \"bad\"";
    assert!(said(&output).contains(held), "{}", said(&output));
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
    let database = setup.database(&[]);
    let mut variables = vec![
        ("LARDER_CONFIG", file.as_str()),
        ("LARDER_DATA_DIR", data.as_str()),
        ("npm_config_omit_lockfile_registry_resolved", "true"),
    ];
    variables.extend(
        database
            .as_ref()
            .map(|(name, value)| (*name, value.as_str())),
    );
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

/// Publishes go by what arrives where, with which credential.
fn puts(upstream: &Upstream) -> Vec<(String, String)> {
    let text = |value: Option<&reqwest::header::HeaderValue>| {
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    upstream
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| (seen.path.clone(), text(seen.headers.get("authorization"))))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_yarns_under_run_goes_to_yarns_own_registry_or_nowhere() {
    let (npms, yarns) = (Upstream::start().await, Upstream::start().await);
    for upstream in [&npms, &yarns] {
        for path in ["/npm/acme-lib", "/npm/@acme%2flib"] {
            upstream.put(path, Reply::json("{}"));
        }
    }
    let berry = clients().join("node/node_modules/@yarnpkg/cli-dist/bin/yarn.js");
    let berry = berry.display().to_string();
    let classic = clients().join("node/node_modules/yarn/bin/yarn.js");
    let classic = classic.display().to_string();
    // berry publishes what is installed.
    let script = format!("node {berry} install && node {berry} npm publish");
    let publish_berry: &[&str] = &["sh", "-c", &script];
    let publish_classic: &[&str] = &["node", &classic, "publish", "--new-version", "1.0.0"];
    let (host, own) = (&npms.address, yarns.url());
    let server = format!("npmRegistryServer: \"{own}/npm\"\nnpmAuthToken: of-yarn\n");
    let registries = format!(
        "npmRegistryServer: \"{own}/npm\"\nnpmRegistries:\n  \"{own}/npm\":\n    npmAuthToken: of-yarn\n"
    );
    let publish_registry = format!("npmPublishRegistry: \"{own}/npm/\"\nnpmAuthToken: of-yarn\n");
    let token_alone = "npmAuthToken: of-yarn\n".to_owned();
    let same_token = "npmAuthToken: of-npm\n".to_owned();
    let classic_own = format!("registry \"{own}/npm/\"\n");
    let to_yarns = || vec![("/npm/acme-lib".to_owned(), "Bearer of-yarn".to_owned())];
    let to_npms = || vec![("/npm/acme-lib".to_owned(), "Bearer of-npm".to_owned())];
    for (what, file, text, command, at_npms, at_yarns) in [
        (
            "npmRegistryServer",
            ".yarnrc.yml",
            server,
            publish_berry,
            vec![],
            to_yarns(),
        ),
        (
            "npmRegistries",
            ".yarnrc.yml",
            registries,
            publish_berry,
            vec![],
            to_yarns(),
        ),
        (
            "npmPublishRegistry",
            ".yarnrc.yml",
            publish_registry,
            publish_berry,
            vec![],
            to_yarns(),
        ),
        (
            "a token alone",
            ".yarnrc.yml",
            token_alone,
            publish_berry,
            vec![],
            vec![],
        ),
        (
            "npm's token",
            ".yarnrc.yml",
            same_token,
            publish_berry,
            vec![],
            vec![],
        ),
        (
            "classic's registry",
            ".yarnrc",
            classic_own,
            publish_classic,
            vec![],
            vec![],
        ),
        (
            "classic without its own",
            ".unused",
            String::new(),
            publish_classic,
            to_npms(),
            vec![],
        ),
        (
            "npm",
            ".unused",
            String::new(),
            &["npm", "publish"],
            to_npms(),
            vec![],
        ),
    ] {
        npms.forget_seen();
        yarns.forget_seen();
        let setup = Setup::new("[ahead]\nenabled = false\n");
        let tool = Tool::new();
        tool.write("package.json", r#"{"name":"acme-lib","version":"1.0.0"}"#);
        tool.write("yarn.lock", "");
        tool.write(
            ".npmrc",
            &format!("registry=http://{host}/npm/\n//{host}/npm/:_authToken=of-npm\n"),
        );
        tool.write(file, &text);
        let whitelist = "unsafeHttpWhitelist: [\"127.0.0.1\"]\nenableTelemetry: false\nenableImmutableInstalls: false\n";
        if file == ".yarnrc.yml" {
            tool.write(file, &format!("{text}{whitelist}"));
        }
        let output = run(&setup, &tool, command).await;
        let is_published = !at_npms.is_empty() || !at_yarns.is_empty();
        assert_eq!(
            output.status.success(),
            is_published,
            "{what}: {}",
            said(&output)
        );
        assert_eq!(puts(&npms), at_npms, "{what}: {}", said(&output));
        assert_eq!(puts(&yarns), at_yarns, "{what}: {}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_passes_on_no_publish_with_another_credential_or_of_another_format() {
    let upstream = registry().await;
    let setup = Setup::new("[ahead]\nenabled = false\n");
    let tool = Tool::new();
    let host = &upstream.address;
    tool.write(
        ".npmrc",
        &format!("registry=http://{host}/npm/\n//{host}/npm/:_authToken=of-npm\n"),
    );
    tool.write(
        "send.js",
        r#"const [agent, authorization] = process.argv.slice(2);
        fetch(process.env.npm_config_registry + "acme-lib", {method: "PUT", body: "{}",
            headers: {"user-agent": agent, ...(authorization ? {authorization} : {})}})
            .then(async answer => console.log("answer:", answer.status, await answer.text()));"#,
    );
    upstream.put("/npm/acme-lib", Reply::json("{}"));
    for (agent, authorization, is_passed_on) in [
        ("npm/11.0.0 node/v24", "Bearer of-npm", true),
        ("npm/11.0.0 node/v24", "Bearer of-another", false),
        ("npm/11.0.0 node/v24", "bearer of-npm ", false),
        ("npm/11.0.0 node/v24", "", false),
        ("Bun/1.3.0", "Bearer of-npm", false),
        ("yarn/4.9.0 npm/? node/v24", "Bearer of-npm", false),
        ("", "Bearer of-npm", false),
    ] {
        upstream.forget_seen();
        let output = run(&setup, &tool, &["node", "send.js", agent, authorization]).await;
        let passed_on = !puts(&upstream).is_empty();
        assert_eq!(
            passed_on,
            is_passed_on,
            "{agent} {authorization}: {}",
            said(&output)
        );
        if !is_passed_on {
            assert!(said(&output).contains("answer: 403"), "{}", said(&output));
            assert!(
                said(&output).contains("without `larder run`"),
                "{}",
                said(&output)
            );
            assert!(!said(&output).contains("of-npm"), "{}", said(&output));
        }
    }
}
