//! What users read when something is wrong: each message says what, who decided, and what to do, and
//! none has a library's words. The pages are in `snapshots`.

use std::fmt::Write as _;

use super::{Setup, registry, signal};
use crate::publish::{TEAM, npm_document};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::{publish, tarball, version};
use crate::support::{Fault, Reply, TestLarder, Upstream};

/// What was asked, and what it was refused with, one behind the other.
#[derive(Default)]
struct Page {
    text: String,
    /// What differs from run to run, and what stands for it.
    names: Vec<(String, &'static str)>,
}

impl Page {
    /// Has `name` stand for a text that differs from run to run.
    fn name(&mut self, text: impl Into<String>, name: &'static str) {
        self.names.push((text.into(), name));
    }

    fn add(&mut self, asked: &str, refused: &str) {
        let mut entry = format!("{asked}\n{}\n\n", refused.trim_end());
        for (text, name) in &self.names {
            entry = entry.replace(text, name);
        }
        self.text.push_str(&entry);
    }

    /// Runs a command, which has to fail.
    async fn run(&mut self, setup: &Setup, arguments: &[&str]) {
        let output = setup.command(arguments).output().await.unwrap();
        let code = output.status.code().unwrap();
        assert_ne!(code, 0, "{arguments:?} is not refused");
        let said = String::from_utf8_lossy(&output.stdout);
        let refused = String::from_utf8_lossy(&output.stderr);
        // The log of `serve`, which has lines before the last one.
        let refused = refused.lines().filter(|line| !line.starts_with('{'));
        let refused = refused.collect::<Vec<_>>().join("\n");
        let mut told = format!("{said}{refused}").trim_end().to_owned();
        let _ = write!(told, "\n(exit code {code})");
        self.add(&format!("$ larder {}", arguments.join(" ")), &told);
    }

    /// Sends a request, which has to fail.
    async fn ask(&mut self, larder: &TestLarder, method: &str, path: &str, body: Option<&[u8]>) {
        let headers = [("content-type", "application/json")];
        let body = body.map(<[u8]>::to_vec).map(Into::into);
        let answer = larder
            .send(method.parse().unwrap(), path, &headers, body)
            .await;
        let status = answer.status;
        assert!(status >= 400, "{method} {path} is answered with {status}");
        self.add(
            &format!("{method} {path}"),
            &format!("{status} {}", answer.text()),
        );
    }
}

fn with_file(setup: &Setup, name: &str, text: &str) -> String {
    std::fs::write(setup.at(name), text).unwrap();
    setup.at(name)
}

const MISTAKES: &str = r#"listne = "127.0.0.1:5273"
offline = "perhaps"
[cache]
max_size = "lots"
[fetch]
patience = "soon"
[log]
level = 5
[[connection]]
name = "up"
format = "npm"
url = "registry.example"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_command_line_and_in_files_are_told_in_plain_words() {
    let setup = Setup::new(MISTAKES);
    let mut page = Page::default();
    page.name(setup.folder.path().display().to_string(), "DIR");
    page.run(&setup, &["serv"]).await;
    page.run(&setup, &["serve", "--prot", "80"]).await;
    page.run(&setup, &["wait", "--timeout", "soon"]).await;
    page.run(&setup, &["verify", "--rate", "lots"]).await;
    page.run(&setup, &["login", "--tool", "cargo"]).await;
    page.run(&setup, &["check", "--config", &setup.at("none.toml")])
        .await;
    page.run(&setup, &["check"]).await;
    let text = with_file(&setup, "no.toml", "listen = 127.0.0.1\n");
    page.run(&setup, &["check", "--config", &text]).await;
    setup.configure("listen = \"0.0.0.0:0\"\n");
    page.run(&setup, &["serve"]).await;
    setup.configure("[log]\nlevel = \"loud=very\"\n");
    page.run(&setup, &["serve"]).await;
    let (certificate, key) = (with_file(&setup, "tls.pem", "none"), setup.at("key.pem"));
    let tls = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    setup.configure(&format!("listen = \"127.0.0.1:0\"\n{tls}"));
    page.run(&setup, &["serve"]).await;
    setup.configure("");
    page.run(&setup, &["who-decides", "left-pad"]).await;
    page.run(&setup, &["who-decides", "cargo:serde@1.0.0"])
        .await;
    page.run(
        &setup,
        &["copy", "npm:left-pad", "--from", "a", "--to", "b"],
    )
    .await;
    let lock = with_file(&setup, "package-lock.json", "{\"packages\": [");
    page.run(&setup, &["warm", &lock]).await;
    let lock = with_file(&setup, "uv.lock", "version = 1\npackage = 5\n");
    page.run(&setup, &["warm", &lock]).await;
    let lock = with_file(&setup, "notes.md", "# Notes\n");
    page.run(&setup, &["warm", &lock]).await;
    page.run(&setup, &["import", &setup.at("none.larder")])
        .await;
    insta::assert_snapshot!("command-line", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_larder_refuses_its_operator_is_told_in_plain_words() {
    let upstream = registry().await;
    let setup = Setup::new(&format!("{}{TEAM}", config(&upstream, IMPATIENT)));
    let served = setup.serve().await;
    let address = served.url.trim_start_matches("http://").to_owned();
    let mut page = Page::default();
    page.name(setup.folder.path().display().to_string(), "DIR");
    page.name(address.clone(), "127.0.0.1:PORT");
    page.name(served.child.id().unwrap().to_string(), "PID");
    page.name(upstream.address.clone(), "REGISTRY");
    page.run(&setup, &["serve"]).await;
    let other = setup.at("other");
    page.run(
        &setup,
        &["serve", "--listen", &address, "--data-dir", &other],
    )
    .await;
    page.run(&setup, &["encrypt"]).await;
    page.run(&setup, &["list", "--repository", "tema"]).await;
    page.run(
        &setup,
        &["delete", "npm:acme@1.0.0", "--repository", "team"],
    )
    .await;
    page.run(
        &setup,
        &[
            "copy",
            "npm:left-pad@9.9.9",
            "--from",
            "public",
            "--to",
            "team",
        ],
    )
    .await;
    let policy = with_file(&setup, "list.json", "[1, 2");
    page.run(&setup, &["policy", "put", &policy]).await;
    let text = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "codeartifact:Read", "Resource": "*"}}"#;
    let policy = with_file(&setup, "action.json", text);
    page.run(&setup, &["policy", "put", &policy]).await;
    page.run(&setup, &["policy", "put", &setup.at("none.json")])
        .await;
    page.run(&setup, &["token", "create", "--principal", "a b"])
        .await;
    page.run(&setup, &["token", "revoke", "5f0c1a2b3c4d"]).await;
    let bundle = with_file(&setup, "broken.larder", "no bundle");
    page.run(&setup, &["import", &bundle]).await;
    page.run(&setup, &["who-decides", "npm:none@1.0.0"]).await;
    upstream.vanish();
    page.run(&setup, &["who-decides", "npm:once@2.0.1"]).await;
    signal(&served.child, rustix::process::Signal::TERM);
    insta::assert_snapshot!("operator", page.text);
}

const RULES: &str = "[[rule]]\nname = \"worm\"\naction = \"deny\"\npackages = [\"npm:once\"]\nreason = \"a worm in it\"\n[[rule]]\nname = \"frozen\"\naction = \"allow\"\npackages = [\"npm:late\"]\nnot_after = \"2019-06-01\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_print_is_told_in_plain_words() {
    let upstream = Upstream::start().await;
    for name in ["left-pad", "once", "late", "lied", "halved", "odd"] {
        publish(&upstream, name, &[version("1.3.0", &[])]);
    }
    upstream.fault("/npm/lied/-/lied-1.3.0.tgz", Fault::Corrupt);
    upstream.put(
        "/npm/odd",
        Reply::json("{\"name\": \"odd\", \"versions\": ["),
    );
    let larder = TestLarder::start_and(&upstream, &format!("{TEAM}{RULES}")).await;
    let mut page = Page::default();
    page.name(upstream.address.clone(), "REGISTRY");
    let get = "GET";
    page.ask(&larder, get, "/npm/public/once/-/once-1.3.0.tgz", None)
        .await;
    page.ask(&larder, get, "/npm/public/late/-/late-1.3.0.tgz", None)
        .await;
    page.ask(&larder, get, "/npm/public/left-pda", None).await;
    page.ask(
        &larder,
        get,
        "/npm/public/left-pad/-/left-pad-9.9.9.tgz",
        None,
    )
    .await;
    page.ask(&larder, get, "/npm/nowhere/left-pad", None).await;
    page.ask(&larder, get, "/nowhere", None).await;
    page.ask(&larder, get, "/npm/public/lied/-/lied-1.3.0.tgz", None)
        .await;
    page.ask(&larder, get, "/npm/public/odd", None).await;
    page.ask(&larder, "DELETE", "/pypi/public/simple/six/", None)
        .await;
    let packed = tarball("acme", "1.0.0", &[]);
    let document = npm_document("acme", "1.0.0", &packed);
    let put = "PUT";
    page.ask(&larder, put, "/npm/team/acme", Some(b"no document"))
        .await;
    page.ask(
        &larder,
        put,
        "/npm/team/acme",
        Some(b"{\"_attachments\": 5}"),
    )
    .await;
    let other = npm_document("acme", "1.0.0", b"no tarball");
    page.ask(&larder, put, "/npm/team/acme", Some(&other)).await;
    let headers = [("content-type", "application/json")];
    let sent = larder.send(
        reqwest::Method::PUT,
        "/npm/team/acme",
        &headers,
        Some(document),
    );
    sent.await.expect(201);
    let again = npm_document("acme", "1.0.0", &tarball("acme", "1.0.0", &[("once", "*")]));
    page.ask(&larder, put, "/npm/team/acme", Some(&again)).await;
    page.ask(&larder, put, "/npm/public/acme", Some(&again))
        .await;
    upstream.vanish();
    page.ask(&larder, get, "/npm/public/halved", None).await;
    let closed = "[domain]\nname = \"acme\"\nowner = \"123456789012\"\n[access]\nrequired = true\n";
    larder
        .reload(&format!("{}{closed}", config(&upstream, IMPATIENT)))
        .await;
    page.ask(&larder, get, "/npm/public/left-pad", None).await;
    insta::assert_snapshot!("answers", page.text);
}
