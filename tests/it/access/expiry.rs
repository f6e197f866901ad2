//! What ends with time, under a clock that is moved for the whole process.

use std::path::Path;

use serde_json::Value;

use super::{Aws, GUARDED, aws};
use crate::command::{Served, Setup};
use crate::publish::TEAM;
use crate::support::Upstream;
use crate::support::larder::config;
use crate::support::tool::{Tool, said};

/// Debian's faketime, for programs with threads; found where the dynamic linker's names are of
/// another machine, too.
fn faketime() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap();
    let mut files =
        folders.map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"));
    let file = files.find(|file| Path::exists(file));
    file.expect("tests/clients fetches it")
        .display()
        .to_string()
}

async fn serve(setup: &Setup, moved: &str) -> Served {
    let library = faketime();
    let variables = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", moved),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    setup.serve_with(&variables).await
}

async fn status(url: &str, token: &str) -> u16 {
    let request = reqwest::Client::new().get(format!("{url}/npm/team/-/whoami"));
    let answer = request.bearer_auth(token).send().await.unwrap();
    answer.status().as_u16()
}

async fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let output = setup.run(arguments).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_signatures_end_when_the_clock_has_passed_them() {
    let upstream = Upstream::start().await;
    let setup = Setup::new(&config(&upstream, &format!("{TEAM}{GUARDED}")));
    let key = json(&setup, &["key", "create", "--json"]).await;
    let word = |name: &str| key[name].as_str().unwrap().to_owned();
    let key = (word("accessKeyId"), word("secretAccessKey"));
    let machine = [
        "token",
        "create",
        "--principal",
        "root",
        "--json",
        "--expires",
    ];
    let day = json(&setup, &[&machine[..], &["1d"]].concat()).await;
    let week = json(&setup, &[&machine[..], &["7d"]].concat()).await;
    let (day, week) = (
        day["token"].as_str().unwrap(),
        week["token"].as_str().unwrap(),
    );

    let mut now = serve(&setup, "+0").await;
    let mut aws = Aws {
        tool: Tool::new(),
        url: now.url.clone(),
        key,
    };
    let signed = aws::token(&aws).await;
    for token in [&*signed, day, week] {
        assert_eq!(status(&now.url, token).await, 200);
    }
    now.signal(rustix::process::Signal::TERM);
    now.child.wait().await.unwrap();

    // One token of AWS's holds for twelve hours.
    let mut later = serve(&setup, "+11h").await;
    assert_eq!(status(&later.url, &signed).await, 200);
    aws.url.clone_from(&later.url);
    let output = aws.codeartifact(&["list-domains"]).await;
    let text = said(&output);
    assert!(
        text.contains("more than five minutes from now"),
        "a signature of eleven hours ago: {text}"
    );
    later.signal(rustix::process::Signal::TERM);
    later.child.wait().await.unwrap();

    let past = serve(&setup, "+13h").await;
    assert_eq!(status(&past.url, &signed).await, 401);
    assert_eq!(status(&past.url, day).await, 200);
    let url = past.unread();
    assert_eq!(status(&url, week).await, 200);
}
