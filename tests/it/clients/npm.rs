use std::ffi::OsString;

use crate::support::npm::{publish, publish_at, version};
use crate::support::tool::{Tool, clients, said, succeeded};
use crate::support::{Fault, TestLarder, Upstream};

pub const MANIFEST: &str =
    r#"{"name":"app","version":"1.0.0","dependencies":{"left-pad":"^1.0.0","@acme/lib":"*"}}"#;

/// A small tree: `@acme/lib` on another host, `left-pad`, and what they need.
pub async fn registry() -> (Upstream, Upstream) {
    let (upstream, cdn) = (Upstream::start().await, Upstream::start().await);
    publish(
        &upstream,
        "left-pad",
        &[version("1.2.0", &[]), version("1.3.0", &[("once", "^2")])],
    );
    publish(&upstream, "once", &[version("2.0.1", &[])]);
    let place = |file: &str| {
        (
            format!("{}/blobs/{file}", cdn.url()),
            format!("/blobs/{file}"),
        )
    };
    publish_at(
        &upstream,
        "@acme/lib",
        &[version("3.0.0", &[("once", "*")])],
        place,
        &cdn,
    );
    (upstream, cdn)
}

struct Client {
    program: OsString,
    install: &'static [&'static str],
    /// Installs what the lockfile says.
    again: &'static [&'static str],
    lockfile: &'static str,
}

pub fn node(package: &str, file: &str) -> String {
    clients()
        .join("node/node_modules")
        .join(package)
        .join(file)
        .display()
        .to_string()
}

async fn install_three_times(
    client: &Client,
    settings: impl Fn(&str) -> Vec<(&'static str, String)>,
) {
    let (upstream, cdn) = registry().await;
    let larder = TestLarder::start(&upstream).await;
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let variables = settings(&format!("{}/npm/public/", larder.url));
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let installed = || tool_has_all(&tool);
    let output = tool.run(&client.program, client.install, &variables).await;
    succeeded(&output);
    installed();
    let tarballs = |upstream: &Upstream| upstream.count_ending(&[".tgz"]);
    assert_eq!((tarballs(&upstream), tarballs(&cdn)), (2, 1), "first time");
    assert!(tool.has(client.lockfile));
    for away in [false, true] {
        tool.empty_home();
        tool.remove("node_modules");
        upstream.forget_seen();
        cdn.forget_seen();
        if away {
            upstream.vanish();
            cdn.vanish();
        }
        let output = tool.run(&client.program, client.again, &variables).await;
        succeeded(&output);
        tool_has_all(&tool);
        assert_eq!((tarballs(&upstream), tarballs(&cdn)), (0, 0));
        println!(
            "{}: again, upstream {}: {} requests to it, 0 of them for assets",
            client.lockfile,
            if away { "away" } else { "there" },
            upstream.seen().len()
        );
    }
}

fn tool_has_all(tool: &Tool) {
    for file in [
        "node_modules/left-pad/package.json",
        "node_modules/@acme/lib/package.json",
    ] {
        assert!(tool.has(file), "{file}");
    }
}

fn npm_settings(registry: &str) -> Vec<(&'static str, String)> {
    vec![
        ("npm_config_registry", registry.to_owned()),
        ("npm_config_update_notifier", "false".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_installs_again_without_fetching_and_without_an_upstream() {
    let client = Client {
        program: "npm".into(),
        install: &["install", "--no-fund"],
        again: &["ci", "--no-fund"],
        lockfile: "package-lock.json",
    };
    install_three_times(&client, npm_settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_prints_which_rule_holds_the_version_that_it_cannot_find() {
    let (upstream, _cdn) = registry().await;
    let rule = "[[rule]]\nname = \"quarantine\"\naction = \"allow\"\npackages = [\"npm:left-pad@1.3.0\"]\nmin_age = \"20000d\"\n";
    let larder = TestLarder::start_and(&upstream, rule).await;
    let tool = Tool::new();
    tool.write("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    let settings = npm_settings(&format!("{}/npm/public/", larder.url));
    let variables: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    let output = tool
        .run("npm", &["install", "left-pad@1.3.0"], &variables)
        .await;
    let said = said(&output);
    assert!(
        !output.status.success() && said.contains("ETARGET"),
        "{said}"
    );
    let notice = "npm notice left-pad 1.3.0 is held back by rule \"quarantine\" (until 4 Oct 2074, 00:00 UTC); run \"larder who-decides npm:left-pad\"";
    assert!(said.contains(notice), "{said}");
    println!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pnpm_installs_again_without_fetching_and_without_an_upstream() {
    let client = Client {
        program: node(".bin", "pnpm").into(),
        install: &["install", "--no-frozen-lockfile"],
        again: &["install", "--frozen-lockfile"],
        lockfile: "pnpm-lock.yaml",
    };
    install_three_times(&client, npm_settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_classic_installs_again_without_fetching_and_without_an_upstream() {
    let classic: &'static str = Box::leak(node("yarn", "bin/yarn.js").into_boxed_str());
    let client = Client {
        program: "node".into(),
        install: Box::leak(Box::new([classic, "install", "--no-progress"])),
        again: Box::leak(Box::new([
            classic,
            "install",
            "--frozen-lockfile",
            "--no-progress",
        ])),
        lockfile: "yarn.lock",
    };
    install_three_times(&client, npm_settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_berry_installs_again_without_fetching_and_without_an_upstream() {
    let settings = |registry: &str| {
        vec![
            (
                "YARN_NPM_REGISTRY_SERVER",
                registry.trim_end_matches('/').to_owned(),
            ),
            ("YARN_UNSAFE_HTTP_WHITELIST", "127.0.0.1".to_owned()),
            ("YARN_NODE_LINKER", "node-modules".to_owned()),
            ("YARN_ENABLE_TELEMETRY", "0".to_owned()),
            ("YARN_ENABLE_GLOBAL_CACHE", "true".to_owned()),
            ("YARN_ENABLE_IMMUTABLE_INSTALLS", "false".to_owned()),
            ("YARN_ENABLE_HARDENED_MODE", "0".to_owned()),
        ]
    };
    let berry: &'static str = Box::leak(node("@yarnpkg/cli-dist", "bin/yarn.js").into_boxed_str());
    let client = Client {
        program: "node".into(),
        install: Box::leak(Box::new([berry, "install"])),
        again: Box::leak(Box::new([berry, "install", "--immutable"])),
        lockfile: "yarn.lock",
    };
    install_three_times(&client, settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_says_what_larder_says_of_a_corrupt_tarball_and_then_installs() {
    let (upstream, _cdn) = registry().await;
    let larder = TestLarder::start(&upstream).await;
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let registry = format!("{}/npm/public/", larder.url);
    let variables = [
        ("npm_config_registry", registry.as_str()),
        ("npm_config_fetch_retries", "0"),
    ];
    for fault in [Fault::Corrupt, Fault::EndEarly(100)] {
        upstream.fault("/npm/left-pad/-/left-pad-1.3.0.tgz", fault);
        let output = tool.run("npm", &["install", "--no-fund"], &variables).await;
        assert!(!output.status.success());
        println!("npm: {}", said(&output));
        assert!(
            said(&output).contains("is not what its registry promised"),
            "{}",
            said(&output)
        );
        tool.empty_home();
    }
    succeeded(&tool.run("npm", &["install", "--no-fund"], &variables).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_falls_back_to_what_the_rules_leave_and_is_told_why_it_may_not() {
    let (upstream, _cdn) = registry().await;
    let rules = "[[rule]]\nname = \"bad\"\naction = \"deny\"\npackages = [\"npm:left-pad@1.3.0\"]\nreason = \"a worm\"\n";
    let larder = TestLarder::start_and(&upstream, rules).await;
    let mut tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let registry = format!("{}/npm/public/", larder.url);
    let variables = [("npm_config_registry", registry.as_str())];
    succeeded(&tool.run("npm", &["install", "--no-fund"], &variables).await);
    assert!(
        tool.read("node_modules/left-pad/package.json")
            .contains("\"1.2.0\"")
    );
    // A lockfile that names the denied version is held to the same rule.
    let lock = tool.read("package-lock.json").replace("1.2.0", "1.3.0");
    tool.write("package-lock.json", &lock);
    tool.empty_home();
    let output = tool.run("npm", &["ci", "--no-fund"], &variables).await;
    assert!(!output.status.success());
    assert!(said(&output).contains("a worm"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_audit_goes_through() {
    let (upstream, _cdn) = registry().await;
    let larder = TestLarder::start(&upstream).await;
    let path = "/npm/-/npm/v1/security/advisories/bulk";
    let advisory = r#"{"left-pad":[{"id":1,"url":"https://a.example/1","title":"t","severity":"high","vulnerable_versions":"<=1.3.0","cwe":[],"cvss":{"score":7,"vectorString":null}}]}"#;
    upstream.put(path, crate::support::Reply::json(advisory));
    let tool = Tool::new();
    tool.write("package.json", MANIFEST);
    let registry = format!("{}/npm/public/", larder.url);
    let variables = [("npm_config_registry", registry.as_str())];
    succeeded(
        &tool
            .run("npm", &["install", "--no-fund", "--no-audit"], &variables)
            .await,
    );
    let output = tool.run("npm", &["audit"], &variables).await;
    assert!(
        said(&output).contains("1 high severity"),
        "{}",
        said(&output)
    );
}
