//! A database of packages elsewhere: away, silent, another one, another's, behind a pooler, in another
//! order.

use std::time::{Duration, Instant};

use super::{Day, OWN, WARM, own, stop, warnings};
use crate::support::postgres::{Line, LineState, Postgres};
use crate::support::until;

pub fn packages(url: &str) -> String {
    // A secret comes from a file or the environment; this one is none.
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_, path) = file.keep().unwrap();
    std::fs::write(&path, url).unwrap();
    format!(
        "[packages]\ndatabase = {{ file = \"{}\" }}\n",
        path.display()
    )
}

pub const NONE_FREE: &str = "min_free = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn away() {
    let postgres = Postgres::start(&[]).await;
    let line = Line::to(postgres.port()).await;
    let day = Day::with(NONE_FREE, &packages(&postgres.by(line.port))).await;
    let served = day.begin().await;
    for path in ["/npm/team/acme", "/npm/team/warm"] {
        day.get(&served, path).await.expect(200);
    }
    for state in [LineState::Refuses, LineState::Silent] {
        line.set(state);
        let name = format!("late-{state:?}").to_lowercase();
        for _ in 0..2 {
            let begun = Instant::now();
            day.put(&served, &name).await.expect(503);
            for path in ["/npm/team/acme", OWN, "/npm/team/warm", WARM] {
                day.get(&served, path).await.expect(200);
            }
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(10), "{state:?}: {took:?}");
        }
        let ready = day.get(&served, "/-/ready").await.expect(200).text();
        assert!(
            ready.contains("database of packages does not answer"),
            "{ready}"
        );
        let metrics = day.get(&served, "/-/metrics").await.expect(200).text();
        assert!(metrics.contains("larder_database_away 1\n"), "{metrics}");
        line.set(LineState::Passes);
        until("it heals by itself", async || {
            day.put(&served, &name).await.status == 201
        })
        .await;
        let ready = day.get(&served, "/-/ready").await.expect(200).text();
        assert_eq!(ready, "ready\n");
    }
    // Who asks nothing is told as well.
    line.set(LineState::Refuses);
    let metrics = async || day.get(&served, "/-/metrics").await.expect(200).text();
    until("it is seen", async || {
        metrics().await.contains("larder_database_away 1\n")
    })
    .await;
    line.set(LineState::Passes);
    until("it is back", async || {
        metrics().await.contains("larder_database_away 0\n")
    })
    .await;
    let log = stop(served).await;
    assert_eq!(
        warnings(&log, "The database of packages does not answer").len(),
        3,
        "{log}"
    );
    assert_eq!(
        warnings(&log, "The database of packages answers again").len(),
        3,
        "{log}"
    );
    assert!(!log.contains("after_release"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another() {
    let postgres = Postgres::start(&[]).await;
    let day = Day::with(NONE_FREE, &packages(&postgres.url)).await;
    let served = day.begin().await;

    // Another Larder, meanwhile.
    let other = Day::with(NONE_FREE, &packages(&postgres.url)).await;
    let said = other.refuses_to_start().await;
    assert!(said.contains("another Larder uses it"), "{said}");
    stop(served).await;

    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    let (before, _) = text.split_once("[packages]").unwrap();
    let wrong = postgres.database("wrong").await;
    for tables in [packages(&wrong), String::new()] {
        day.setup.configure(&format!("{before}{tables}"));
        let said = day.refuses_to_start().await;
        assert!(said.contains("database.id"), "{said}");
        assert!(day.blob(&own("acme")).exists());
    }
    day.setup.configure(&text);
    let served = day.setup.serve().await;
    day.has_what_it_had(&served).await;
    stop(served).await;

    // The other one may have it now, and is told that it has not the files.
    let served = other.setup.serve().await;
    let verified = other.setup.run(&["verify"]).await;
    assert_eq!(verified.status.code(), Some(1));
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(said.contains("acme-1.0.0.tgz"), "{said}");
    let log = stop(served).await;
    assert_eq!(
        warnings(&log, "not in this data directory").len(),
        1,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_that_stay_behind_are_told_of() {
    let postgres = Postgres::start(&[]).await;
    let day = Day::on_sqlite(NONE_FREE).await;
    stop(day.begin().await).await;
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    day.setup
        .configure(&format!("{text}{}", packages(&postgres.url)));
    let log = stop(day.setup.serve().await).await;
    let told = warnings(&log, "stay behind");
    assert_eq!(told.len(), 1, "{log}");
    for words in ["1 package and", "`larder packages move`"] {
        assert!(told[0].contains(words), "{}", told[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_by_bytes_whatever_the_databases_is() {
    let language = ["--locale-provider=icu", "--icu-locale=en-US"];
    let postgres = Postgres::start(&language).await;
    let day = Day::with(NONE_FREE, &packages(&postgres.url)).await;
    let served = day.begin().await;
    for name in ["acme_a", "acme-b", "acme.c"] {
        day.put(&served, name).await.expect(201);
    }
    let found = day.get(&served, "/npm/team/-/v1/search?text=acme").await;
    let text = found.expect(200).text();
    let places: Vec<_> = ["acme", "acme-b", "acme.c", "acme_a"]
        .map(|name| text.find(&format!("\"name\":\"{name}\"")))
        .to_vec();
    assert!(places.is_sorted() && places[0].is_some(), "{text}");
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_that_gives_each_transaction_another_connection() {
    let postgres = Postgres::start(&[]).await;
    let pooler = postgres.pooler().await;
    for _ in 0..2 {
        let day = Day::with(NONE_FREE, &packages(&pooler.url)).await;
        let served = day.setup.serve().await;
        let names: Vec<String> = (0..12).map(|number| format!("lib-{number}")).collect();
        let published = names.iter().map(|name| day.put(&served, name));
        for said in futures_util::future::join_all(published).await {
            assert!(matches!(said.status, 200 | 201), "{}", said.text());
        }
        for name in &names {
            let path = format!("/npm/team/{name}");
            assert!(
                day.get(&served, &path)
                    .await
                    .expect(200)
                    .text()
                    .contains(name)
            );
        }
        stop(served).await;
    }
}
