//! `larder login`: what it writes, whom it asks before, and the lines that it prints.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Served, Setup, registry};
use crate::support::larder::{IMPATIENT, config};
use crate::support::tool::{said, succeeded};

const GUARDED: &str =
    "[domain]\nname = \"corp\"\nowner = \"111122223333\"\n[access]\nrequired = true\n";
const READERS: &str = r#"{"Statement": {"Effect": "Allow", "Principal": {"AWS": "111122223333"},
    "Action": "codeartifact:ReadFromRepository", "Resource": "*"}}"#;

/// A Larder with TLS that lets nobody in without a token, its address, and the token of a reader in
/// a file.
async fn office() -> (Setup, Served, String) {
    let upstream = registry().await;
    let setup = Setup::new("");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(setup.at("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(setup.at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(setup.at("readers.json"), READERS).unwrap();
    let (certificate, key) = (setup.at("ca.pem"), setup.at("key.pem"));
    let tls = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    setup.configure(&format!("{}{GUARDED}{tls}", config(&upstream, IMPATIENT)));
    let served = setup.serve().await;
    let put = [
        "policy",
        "put",
        "--repository",
        "public",
        &setup.at("readers.json"),
    ];
    succeeded(&setup.run(&put).await);
    let token = setup.run(&["token", "create", "--principal", "ada"]).await;
    succeeded(&token);
    std::fs::write(setup.at("ada.token"), &token.stdout).unwrap();
    let address = served.url.replace("127.0.0.1", "localhost");
    (setup, served, address)
}

fn text(setup: &Setup, file: &str) -> String {
    std::fs::read_to_string(setup.at(file)).unwrap()
}

fn mode(setup: &Setup, file: &str) -> u32 {
    let metadata = Path::new(&setup.at(file)).metadata().unwrap();
    metadata.permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_a_file_and_an_authority_go_into_each_clients_settings() {
    let (setup, _served, address) = office().await;
    let token = text(&setup, "ada.token").lines().next().unwrap().to_owned();
    let ca = setup.at("ca.pem");
    // Open to others before: it is not with a token in it.
    std::fs::write(setup.at(".npmrc"), "fund=false\n").unwrap();
    std::fs::set_permissions(setup.at(".npmrc"), PermissionsExt::from_mode(0o644)).unwrap();
    let host = address.strip_prefix("https://").unwrap();
    let files = [
        (
            "npm",
            ".npmrc",
            format!("//{host}/npm/public/:_authToken = {token}"),
            format!("cafile = {ca}"),
        ),
        (
            "yarn",
            ".yarnrc.yml",
            format!("npmAuthToken: \"{token}\""),
            format!("httpsCaFilePath: \"{ca}\""),
        ),
        (
            "pip",
            ".config/pip/pip.conf",
            format!("https://token:{token}@{host}/pypi/public/simple/"),
            format!("cert = {ca}"),
        ),
        (
            "uv",
            ".config/uv/uv.toml",
            format!("https://token:{token}@{host}/pypi/public/simple/"),
            String::new(),
        ),
        (
            "twine",
            ".pypirc",
            format!("password = {token}"),
            format!("ca_cert = {ca}"),
        ),
        (
            "maven",
            ".m2/settings.xml",
            format!("<password>{token}</password>"),
            String::new(),
        ),
        (
            "gradle",
            ".gradle/init.d/larder.gradle",
            format!("it.password = '{token}'"),
            String::new(),
        ),
        (
            "nuget",
            ".nuget/NuGet/NuGet.Config",
            format!("\"ClearTextPassword\" value=\"{token}\""),
            String::new(),
        ),
    ];
    for (tool, file, with_token, with_ca) in files {
        let login = ["login", "--tool", tool, "--address", &address];
        let more = ["--token-file", &setup.at("ada.token"), "--ca", &ca];
        for _ in 0..2 {
            let output = setup.run(&[&login[..], &more[..]].concat()).await;
            succeeded(&output);
            let said = said(&output);
            assert!(!said.contains(&token), "{said}");
            // A client without a setting for an authority is told what to do by hand.
            assert!(said.contains(&ca), "{tool}: {said}");
            assert!(said.contains("lets nobody read without a token"), "{said}");
        }
        let written = text(&setup, file);
        assert_eq!(written.matches(&with_token).count(), 1, "{tool}: {written}");
        assert!(written.contains(&with_ca), "{tool}: {written}");
        assert_eq!(mode(&setup, file), 0o600, "{tool}");
    }
    assert!(text(&setup, ".npmrc").starts_with("fund=false\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_would_not_work_says_why_and_writes_nothing() {
    let (setup, served, address) = office().await;
    std::fs::write(setup.at("empty"), "\n").unwrap();
    std::fs::write(setup.at("wrong.token"), "lrd_no-such-token\n").unwrap();
    let at = |name: &str| setup.at(name);
    let (ca, empty, wrong) = (at("ca.pem"), at("empty"), at("wrong.token"));
    let trusting = ["--address", &address, "--ca", &ca];
    let plain = served.url.replace("https", "http");
    for (arguments, code, why) in [
        (vec!["--address", &address], 1, "--ca FILE"),
        (
            vec!["--address", "http://127.0.0.1:1"],
            1,
            "no Larder answers at http://127.0.0.1:1",
        ),
        (
            vec!["--address", &plain, "--ca", &ca],
            2,
            "--ca is for addresses",
        ),
        (
            vec!["--address", &address, "--ca", &empty],
            1,
            "no certificates",
        ),
        (
            [&trusting[..], &["--token-file", &empty]].concat(),
            1,
            "has no token",
        ),
        (
            [&trusting[..], &["--token-file", &ca]].concat(),
            1,
            "has no token",
        ),
        (
            [&trusting[..], &["--token-file", &wrong]].concat(),
            1,
            "does not let the token read",
        ),
        (
            [&trusting[..], &["--print", "--token-file", &wrong]].concat(),
            2,
            "cannot be used with",
        ),
    ] {
        let arguments = [vec!["login", "--tool", "npm"], arguments].concat();
        let output = setup.run(&arguments).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
    }
    assert!(!Path::new(&setup.at(".npmrc")).exists());
    // Without a token the address can be written; it says that it is not enough.
    let arguments = [&["login", "--tool", "npm"][..], &trusting[..]].concat();
    let output = setup.run(&arguments).await;
    succeeded(&output);
    assert!(
        said(&output).contains("none was written"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_an_open_larder_speaks_of_no_token_and_at_no_repository_fails() {
    let upstream = registry().await;
    let setup = Setup::new(&config(&upstream, IMPATIENT));
    let served = setup.serve().await;
    let output = setup.run(&["login", "--tool", "npm"]).await;
    succeeded(&output);
    assert!(!said(&output).contains("token"), "{}", said(&output));
    let elsewhere = ["--address", &served.url, "--repository", "teem"];
    let output = setup
        .run(&[&["login", "--tool", "npm"], &elsewhere[..]].concat())
        .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("there is no repository `teem`"),
        "{}",
        said(&output)
    );
    // The registry is something that answers, and is no Larder.
    let elsewhere = ["--address", &upstream.url()];
    let output = setup
        .run(&[&["login", "--tool", "npm"], &elsewhere[..]].concat())
        .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is no Larder"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_to_paste_point_every_client_and_have_no_token() {
    let (setup, _served, address) = office().await;
    let print = [
        "login",
        "--print",
        "--address",
        &address,
        "--ca",
        &setup.at("ca.pem"),
    ];
    let output = setup.run(&print).await;
    succeeded(&output);
    let lines = String::from_utf8(output.stdout).unwrap();
    for part in [
        format!("npm config set registry {address}/npm/public/"),
        format!("npmRegistryServer: \"{address}/npm/public\""),
        "pip config set global.index-url \"https://token:$(cat larder.token)@localhost".to_owned(),
        "ca_cert = /path/to/larder-ca.pem".to_owned(),
        format!("<url>{address}/maven/public/</url>"),
        format!("dotnet nuget add source {address}/nuget/public/v3/index.json"),
    ] {
        assert!(lines.contains(&part), "{part}: {lines}");
    }
    assert!(!lines.contains("lrd_"), "{lines}");
    for file in [
        ".npmrc",
        ".m2",
        ".config",
        ".nuget",
        ".yarnrc.yml",
        ".pypirc",
        ".gradle",
    ] {
        assert!(!Path::new(&setup.at(file)).exists(), "{file}");
    }
    let output = setup.run(&[&print[..], &["--tool", "npm"]].concat()).await;
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        lines.contains("npm config set cafile") && !lines.contains("pip"),
        "{lines}"
    );
}
