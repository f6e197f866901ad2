//! Whatever becomes of the log, starts and answers do not wait for it.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::timeout;

use super::{Setup, registry, signal};
use crate::support::larder::config;

/// A start, a thousand answers and an end with such a standard error; says how many lines were
/// dropped.
async fn served_with(format: &str, stderr: Stdio) -> u64 {
    let upstream = registry().await;
    let text = format!(
        "[log]\nformat = \"{format}\"\nbuffer = \"64KiB\"\n[cache]\nrendered_disk = 0\nmin_free = 0\n"
    );
    let setup = Setup::new(&config(&upstream, &text));
    let started = timeout(Duration::from_secs(20), setup.serve_unheard(stderr)).await;
    let (mut child, url) = started.expect("it does not start");
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let ask = async |path: &str| client.get(format!("{url}{path}")).send().await.unwrap();
    let absent = format!("/npm/public/-/{}", "x".repeat(150));
    for round in 0..500 {
        assert_eq!(ask("/npm/public/left-pad").await.status(), 200, "{round}");
        assert_eq!(ask(&absent).await.status(), 404, "{round}");
    }
    let metrics = ask("/-/metrics").await.text().await.unwrap();
    let dropped = metrics
        .lines()
        .find_map(|line| line.strip_prefix("larder_log_lines_dropped_total "))
        .unwrap()
        .parse()
        .unwrap();
    signal(&child, Signal::TERM);
    let ended = timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.expect("it does not end").unwrap().code(), Some(0));
    dropped
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_stops_nothing() {
    for format in ["json", "human"] {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(served_with(format, writer.into()).await > 0);
        drop(reader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_whose_reader_has_gone_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(served_with("json", writer.into()).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_stops_nothing() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert!(served_with("json", full.into()).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = File::create(&path).unwrap();
    assert_eq!(served_with("json", file.into()).await, 0);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let answers = lines.iter().filter(|line| line["method"] == "GET");
    assert_eq!(answers.count(), 1000);
    assert_eq!(lines.last().unwrap()["message"], "Stopped");
}
