//! Clocks that were wrong. Where libfaketime is installed, the process has the wrong clock itself; what
//! it wrote down then is what the next one finds.

use std::path::Path;

use sqlx::Connection as _;

use super::{Day, kill, own, stop};
use crate::support::eventually;
use crate::support::tool::faketime;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const TEN_YEARS: i64 = 3653 * DAY;

async fn execute(file: &Path, sql: &str) -> u64 {
    let url = format!("sqlite://{}", file.display());
    let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let done = sqlx::query(sqlx::AssertSqlSafe(sql))
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
    done.rows_affected()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_in_the_future_is_not_fresh() {
    for ahead in [HOUR, DAY, TEN_YEARS] {
        let day = Day::new("min_free = 0\n").await;
        let served = day.begin().await;
        day.get(&served, "/npm/public/warm").await.expect(200);
        stop(served).await;
        let sql = format!(
            "UPDATE document SET fetched_at = fetched_at + {ahead}, checked_at = checked_at + {ahead}, \
             fresh_until = fresh_until + {ahead} WHERE key LIKE 'full:%'"
        );
        assert!(execute(&day.at("larder.sqlite"), &sql).await > 0);
        let served = day.setup.serve().await;
        for _ in 0..3 {
            day.upstream.forget_seen();
            day.get(&served, "/npm/public/warm").await.expect(200);
            if day.upstream.count("/npm/warm") == 0 {
                break;
            }
        }
        // It was asked for anew, and is fresh since.
        assert_eq!(day.upstream.count("/npm/warm"), 0, "{ahead} seconds");
        let sql = "DELETE FROM document WHERE checked_at > unixepoch() + 60";
        assert_eq!(execute(&day.at("larder.sqlite"), sql).await, 0);
        day.has_what_it_had(&served).await;
        stop(served).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_put_off_for_years_is_told_now() {
    let day = Day::on_sqlite("min_free = 0\n").await;
    let events = day.setup.folder.path().join("events");
    let text = std::fs::read_to_string(day.setup.at("larder.toml")).unwrap();
    let with = |file: &Path| format!("{text}[[target]]\nname = \"log\"\nfile = {file:?}\n");
    day.setup.configure(&with(Path::new("/nowhere/at/all")));
    stop(day.begin().await).await;
    let sql = format!(
        "UPDATE delivery SET next_at = next_at + {} WHERE state = 'waiting'",
        TEN_YEARS * 1000
    );
    assert!(execute(&day.at("packages.sqlite"), &sql).await > 0);
    day.setup.configure(&with(&events));
    let served = day.setup.serve().await;
    eventually("the event is told", async || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        text.contains("acme").then_some(())
    })
    .await;
    stop(served).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_jumps_loses_nothing() {
    let Some(library) = faketime() else {
        println!("not tried: libfaketime is not installed");
        return;
    };
    for ahead in [HOUR, DAY, TEN_YEARS, -HOUR, -DAY, -TEN_YEARS] {
        let day = Day::new("min_free = 0\n").await;
        let offset = format!("{ahead:+}s");
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME", &offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        let wrong = day.setup.serve_with(&variables).await;
        day.put(&wrong, "acme").await.expect(201);
        day.get(&wrong, super::WARM).await.expect(200);
        if ahead < 0 {
            stop(wrong).await;
        } else {
            kill(wrong).await;
        }
        let served = day.setup.serve().await;
        day.has_what_it_had(&served).await;
        day.passes_on(&served, "cold").await;
        day.put(&served, "late").await.expect(201);
        // A version that is new upstream is seen.
        let late = crate::support::npm::version("2.0.0", &[]);
        crate::support::npm::publish(&day.upstream, "warm", &[late]);
        if ahead >= 0 {
            let document = day.get(&served, "/npm/public/warm").await.expect(200);
            assert!(document.text().contains("2.0.0"), "{ahead} seconds");
        }
        stop(served).await;
        // And back again, where the clock is what was wrong later.
        let wrong = day.setup.serve_with(&variables).await;
        day.has_what_it_had(&wrong).await;
        let path = "/npm/team/late/-/late-1.0.0.tgz";
        assert_eq!(day.get(&wrong, path).await.expect(200).body, own("late"));
        stop(wrong).await;
    }
}
