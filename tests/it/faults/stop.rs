//! Stopping, whatever is under way.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::timeout;

use super::{Day, PATIENCE, own, stop};
use crate::support::Fault;

const DRAIN: Duration = Duration::from_secs(2);

/// A Larder with a download that does not come to its end.
async fn with_a_download(drain: Duration) -> (Day, super::Served) {
    let day = Day::new("min_free = 0\n").await;
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    let drain = format!(
        "[server]\ndrain = \"{}s\"\n[fetch]\nread_timeout = \"100s\"\n",
        drain.as_secs()
    );
    day.setup.configure(&format!("{text}{drain}"));
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let path = "/npm/cold/-/cold-1.0.0.tgz";
    day.upstream.fault(path, Fault::StallAfter(10, gate));
    let served = day.begin().await;
    let (http, url) = (day.http.clone(), served.url.clone());
    tokio::spawn(async move {
        http.get(format!("{url}/npm/team/cold/-/cold-1.0.0.tgz"))
            .send()
            .await
    });
    crate::support::until("the download is under way", async || {
        day.upstream.count(path) > 0
    })
    .await;
    (day, served)
}

#[tokio::test(flavor = "multi_thread")]
async fn has_one_deadline() {
    let (day, served) = with_a_download(DRAIN).await;
    let began = Instant::now();
    let log = stop(served).await;
    let took = began.elapsed();
    // Two would be twice as long.
    assert!(took >= DRAIN && took < 2 * DRAIN, "{took:?}: {log}");
    let served = day.setup.serve().await;
    day.has_what_it_had(&served).await;
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_at_once_at_the_second_signal() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (day, mut served) = with_a_download(Duration::from_secs(600)).await;
        served.signal(Signal::TERM);
        served.logged("Stopping").await;
        served.signal(second);
        let ended = timeout(PATIENCE, served.child.wait()).await;
        assert_eq!(ended.expect("it ends").unwrap().code(), Some(code));
        let served = day.setup.serve().await;
        day.has_what_it_had(&served).await;
        stop(served).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_and_keeps_a_publish_or_neither() {
    let day = Day::new("min_free = 0\n").await;
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    day.setup
        .configure(&format!("{text}[server]\ndrain = \"1s\"\n"));
    let served = day.begin().await;
    let mut publishes = tokio::task::JoinSet::new();
    for client in 0..4 {
        let (http, url) = (day.http.clone(), served.url.clone());
        publishes.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let name = format!("p{client}-{number}");
                let document = crate::publish::npm_document(&name, "1.0.0", &own(&name));
                let put = http.put(format!("{url}/npm/team/{name}")).body(document);
                match put.send().await {
                    Ok(answer) if answer.status() == 201 => acknowledged.push(name),
                    _ => return (acknowledged, name),
                }
            }
            unreachable!("it is stopped");
        });
    }
    let first = "/npm/team/p0-1";
    crate::support::until("publishes are under way", async || {
        day.get(&served, first).await.status == 200
    })
    .await;
    stop(served).await;
    let served = day.setup.serve().await;
    while let Some(done) = publishes.join_next().await {
        let (acknowledged, refused) = done.unwrap();
        for name in acknowledged {
            let path = format!("/npm/team/{name}/-/{name}-1.0.0.tgz");
            let kept = day.get(&served, &path).await.expect(200);
            assert_eq!(kept.body, own(&name), "{name}");
        }
        // What was not acknowledged is not there.
        let path = format!("/npm/team/{refused}");
        day.get(&served, &path).await.expect(404);
    }
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_goes_on_in_a_new_file_of_the_audit() {
    let day = Day::new("min_free = 0\n").await;
    let (file, moved) = (day.setup.at("audit"), day.setup.at("audit.1"));
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    day.setup
        .configure(&format!("{text}[access]\naudit = \"{file}\"\n"));
    let mut served = day.begin().await;
    std::fs::rename(&file, &moved).unwrap();
    served.signal(Signal::HUP);
    served.logged("was reloaded").await;
    day.put(&served, "late").await.expect(201);
    stop(served).await;
    let lines = |path: &str| std::fs::read_to_string(path).unwrap();
    assert!(lines(&moved).contains("acme") && !lines(&moved).contains("late"));
    assert!(lines(&file).contains("late"));
}
