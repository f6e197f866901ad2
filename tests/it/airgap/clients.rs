//! The whole way for each client: its lockfile warmed on one side, carried over in a bundle, and
//! built from on a side with no route to any upstream.

use std::path::Path;
use std::time::Instant;

use super::{carry, closed, told};
use crate::clients::npm::{MANIFEST, node, registry};
use crate::clients::python::program;
use crate::clients::{maven, nuget as nuget_client};
use crate::command::Setup;
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, version};
use crate::support::tool::{Tool, said, succeeded};
use crate::support::until;
use crate::support::{Upstream, nuget, pypi};

/// Warms the list, carries everything over, cuts every line, and serves on the closed side, at the
/// address that the open side had.
async fn across(
    name: &str,
    upstream: &Upstream,
    more: &[&Upstream],
    list: &Path,
) -> (Setup, String) {
    let text = config(upstream, IMPATIENT);
    let open = Setup::new(&text);
    let began = Instant::now();
    let warmed = told(&open, &["warm", list.to_str().unwrap()]).await;
    let warm_ms = began.elapsed().as_millis();
    let closed = closed(&text);
    let report = carry(&open, &closed).await;
    let size = std::fs::metadata(closed.at("all.larder")).unwrap().len();
    upstream.vanish();
    for upstream in more {
        upstream.vanish();
    }
    let served = closed.serve().await.unread();
    println!(
        "{name}: warmed {} files in {warm_ms} ms, a bundle of {size} bytes, {} versions and {} documents taken in",
        warmed["fetched"], report["versions_added"], report["documents_added"]
    );
    (closed, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_ci() {
    let upstream = Upstream::start().await;
    publish(
        &upstream,
        "left-pad",
        &[version("1.2.0", &[]), version("1.3.0", &[("once", "^2")])],
    );
    publish(&upstream, "once", &[version("2.0.1", &[])]);
    publish(
        &upstream,
        "@acme/lib",
        &[version("3.0.0", &[("once", "*")])],
    );
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let direct = format!("{}/npm/", upstream.url());
    let quiet = ["--no-fund", "--no-audit"];
    let install = [&["install"], quiet.as_slice()].concat();
    succeeded(
        &tool
            .run("npm", &install, &[("npm_config_registry", &direct)])
            .await,
    );
    let list = tool.folder.path().join("package-lock.json");
    let (_closed, served) = across("npm ci", &upstream, &[], &list).await;
    tool.empty_home();
    tool.remove("node_modules");
    // The registry's own addresses stand in the lockfile; npm puts the closed side's in their place.
    let there = format!("{served}/npm/public/");
    let variables = [
        ("npm_config_registry", there.as_str()),
        ("npm_config_replace_registry_host", "always"),
    ];
    let ci = [&["ci"], quiet.as_slice()].concat();
    succeeded(&tool.run("npm", &ci, &variables).await);
    assert!(tool.has("node_modules/@acme/lib/package.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pnpm_install_frozen_lockfile() {
    let (upstream, cdn) = registry().await;
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let pnpm = node(".bin", "pnpm");
    let direct = format!("{}/npm/", upstream.url());
    // Made through a Larder, so that no address of another host stands in it.
    let first = crate::support::TestLarder::start(&upstream).await;
    let through = format!("{}/npm/public/", first.url);
    let output = tool
        .run(
            &pnpm,
            &["install", "--no-frozen-lockfile"],
            &[("npm_config_registry", &through)],
        )
        .await;
    succeeded(&output);
    drop((first, direct));
    let list = tool.folder.path().join("pnpm-lock.yaml");
    let (_closed, served) =
        across("pnpm install --frozen-lockfile", &upstream, &[&cdn], &list).await;
    tool.empty_home();
    tool.remove("node_modules");
    let there = format!("{served}/npm/public/");
    let output = tool
        .run(
            &pnpm,
            &["install", "--frozen-lockfile"],
            &[("npm_config_registry", &there)],
        )
        .await;
    succeeded(&output);
    assert!(tool.has("node_modules/@acme/lib/package.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_install_immutable() {
    let (upstream, cdn) = registry().await;
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let berry = node("@yarnpkg/cli-dist", "bin/yarn.js");
    let settings = |registry: String| {
        vec![
            (
                "YARN_NPM_REGISTRY_SERVER",
                registry.trim_end_matches('/').to_owned(),
            ),
            ("YARN_UNSAFE_HTTP_WHITELIST", "127.0.0.1".to_owned()),
            ("YARN_NODE_LINKER", "node-modules".to_owned()),
            ("YARN_ENABLE_TELEMETRY", "0".to_owned()),
            ("YARN_ENABLE_IMMUTABLE_INSTALLS", "false".to_owned()),
            ("YARN_ENABLE_HARDENED_MODE", "0".to_owned()),
        ]
    };
    let run = async |tool: &Tool, registry: String, arguments: &[&str]| {
        let settings = settings(registry);
        let variables: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let mut all = vec![berry.as_str()];
        all.extend(arguments);
        let output = tool.run("node", &all, &variables).await;
        assert!(output.status.success(), "{}", said(&output));
    };
    let first = crate::support::TestLarder::start(&upstream).await;
    run(&tool, format!("{}/npm/public/", first.url), &["install"]).await;
    drop(first);
    let list = tool.folder.path().join("yarn.lock");
    let (_closed, served) = across("yarn install --immutable", &upstream, &[&cdn], &list).await;
    tool.empty_home();
    tool.remove("node_modules");
    run(
        &tool,
        format!("{served}/npm/public/"),
        &["install", "--immutable"],
    )
    .await;
    assert!(tool.has("node_modules/@acme/lib/package.json"));
}

async fn index() -> (Upstream, Upstream) {
    let (upstream, files) = (Upstream::start().await, Upstream::start().await);
    pypi::publish(
        &upstream,
        &files,
        "acme-app",
        &[("1.0", &[]), ("2.0", &["acme-lib>=1"])],
        true,
    );
    pypi::publish(&upstream, &files, "acme-lib", &[("1.5", &[])], true);
    (upstream, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_install_require_hashes() {
    let (upstream, files) = index().await;
    let tool = Tool::new();
    let hash = |name: &str, version: &str, requires: &[&str]| {
        crate::support::sha256(&pypi::wheel(name, version, requires))
    };
    tool.write(
        "requirements.txt",
        &format!(
            "acme-app==2.0 --hash=sha256:{}\nacme-lib==1.5 \\\n    --hash=sha256:{}\n",
            hash("acme-app", "2.0", &["acme-lib>=1"]),
            hash("acme-lib", "1.5", &[])
        ),
    );
    let list = tool.folder.path().join("requirements.txt");
    let (_closed, served) =
        across("pip install --require-hashes", &upstream, &[&files], &list).await;
    let simple = format!("{served}/pypi/public/simple/");
    let install = [
        "install",
        "--require-hashes",
        "-r",
        "requirements.txt",
        "--target",
        "out",
        "--no-compile",
    ];
    let variables = [
        ("PIP_INDEX_URL", simple.as_str()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ];
    succeeded(&tool.run(program("pip"), &install, &variables).await);
    assert!(tool.has("out/acme_lib.py"));
    // Without a lockfile the resolver takes what is here.
    let install = ["install", "acme-app", "--target", "other", "--no-compile"];
    succeeded(&tool.run(program("pip"), &install, &variables).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_sync_locked() {
    let (upstream, files) = index().await;
    let mut tool = Tool::new();
    tool.write(
        "pyproject.toml",
        "[project]\nname = \"app\"\nversion = \"1.0\"\nrequires-python = \">=3.8\"\ndependencies = [\"acme-app\"]\n",
    );
    let python = program("python");
    let settings = |index: &str| {
        [
            ("UV_DEFAULT_INDEX", index.to_owned()),
            ("UV_PYTHON_DOWNLOADS", "never".to_owned()),
            ("UV_PYTHON", python.clone()),
        ]
    };
    let run = async |tool: &Tool, index: &str, arguments: &[&str]| {
        let settings = settings(index);
        let variables: Vec<_> = settings
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        succeeded(&tool.run(program("uv"), arguments, &variables).await);
    };
    // uv.lock names the index: the open side's Larder had the address that the closed side's has.
    let text = config(&upstream, IMPATIENT);
    let open = Setup::new(&text);
    let first = open.serve().await;
    let address = first.url.trim_start_matches("http://").to_owned();
    let index = format!("{}/pypi/public/simple/", first.url);
    run(&tool, &index, &["lock"]).await;
    drop(first);
    until("the directory's lock is free", async || {
        larder::store::holder(Path::new(&open.at("data"))).is_none()
    })
    .await;
    let list = tool.folder.path().join("uv.lock");
    let warmed = told(&open, &["warm", list.to_str().unwrap()]).await;
    assert!(warmed["fetched"].as_u64().unwrap() >= 2, "{warmed}");
    let closed = closed(&text);
    let report = carry(&open, &closed).await;
    upstream.vanish();
    files.vanish();
    let _served = closed.serve_at(&address, &[]).await.unread();
    tool.empty_home();
    run(&tool, &index, &["sync", "--locked"]).await;
    assert!(tool.has(".venv"));
    println!(
        "uv sync --locked: warmed {} files, {} versions taken in",
        warmed["fetched"], report["versions_added"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mvn_with_an_empty_local_repository() {
    let upstream = Upstream::start().await;
    upstream.put_folder("/maven2/", Path::new(maven::DEBIAN));
    let tool = Tool::new();
    let plugins = ["resources", "compiler", "jar", "install", "deploy"].map(|name| {
        let name = format!("maven-{name}-plugin");
        let version = maven::newest(&name);
        format!("<plugin><artifactId>{name}</artifactId><version>{version}</version></plugin>")
    });
    tool.write(
        "pom.xml",
        &format!(
            "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>app</artifactId><version>1</version>\
             <properties><maven.compiler.source>17</maven.compiler.source><maven.compiler.target>17</maven.compiler.target><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>\
             <dependencies><dependency><groupId>commons-io</groupId><artifactId>commons-io</artifactId><version>{}</version></dependency></dependencies>\
             <build><plugins>{}</plugins></build></project>",
            maven::newest_of("commons-io/commons-io"),
            plugins.concat()
        ),
    );
    tool.write("src/main/java/App.java", "public class App { public static void main(String[] a) { System.out.println(org.apache.commons.io.FilenameUtils.getName(\"a/b\")); } }\n");
    let text = config(&upstream, IMPATIENT);
    let open = Setup::new(&text);
    let list = tool.folder.path().join("pom.xml");
    let began = Instant::now();
    // Debian has not all plugins that Maven would run if it were told to: those are missing.
    let output = open.run(&["warm", list.to_str().unwrap(), "--json"]).await;
    let warmed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let warm_ms = began.elapsed().as_millis();
    let closed = closed(&text);
    let report = carry(&open, &closed).await;
    upstream.vanish();
    let served = closed.serve().await.unread();
    let mirror = format!(
        "<settings><mirrors><mirror><id>larder</id><mirrorOf>*</mirrorOf><url>{served}/maven/public/</url></mirror></mirrors></settings>"
    );
    tool.write("settings.xml", &mirror);
    let build = [
        "-B",
        "-q",
        "-s",
        "settings.xml",
        "-Dmaven.repo.local=repository",
        "compile",
        "jar:jar",
    ];
    let output = tool.run("mvn", &build, &[]).await;
    let wishes = closed.run(&["wishes"]).await;
    assert!(
        output.status.success(),
        "{}\nwished for: {}",
        said(&output),
        said(&wishes)
    );
    assert!(tool.has("target/app-1.jar"));
    println!(
        "mvn with an empty local repository: warmed {} files in {warm_ms} ms, {} versions taken in",
        warmed["fetched"], report["versions_added"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nuget_install() {
    for paged in [false, true] {
        let upstream = Upstream::start().await;
        nuget::serve(&upstream);
        nuget::publish(&upstream, "Acme.Lib", &["1.0.0", "1.2.0"], paged);
        let mut tool = Tool::new();
        tool.write(
            "packages.config",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><packages><package id=\"Acme.Lib\" version=\"1.0.0\" targetFramework=\"net48\" /></packages>",
        );
        let list = tool.folder.path().join("packages.config");
        let (_closed, served) = across("nuget install", &upstream, &[], &list).await;
        let source = format!("{served}/nuget/public/v3/index.json");
        let program = nuget_client::program();
        let restore = [
            program.as_str(),
            "install",
            "packages.config",
            "-Source",
            &source,
            "-OutputDirectory",
            "out",
            "-NonInteractive",
        ];
        succeeded(&tool.run("mono", &restore, &[]).await);
        assert!(tool.has("out/Acme.Lib.1.0.0/Acme.Lib.1.0.0.nupkg"));
        // Of the newest, that which is here.
        tool.empty_home();
        let install = [
            program.as_str(),
            "install",
            "Acme.Lib",
            "-Source",
            &source,
            "-OutputDirectory",
            "newest",
            "-NonInteractive",
        ];
        succeeded(&tool.run("mono", &install, &[]).await);
        assert!(tool.has("newest/Acme.Lib.1.0.0/Acme.Lib.1.0.0.nupkg"));
    }
}
