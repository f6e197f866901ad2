//! Tasks of the configuration, done by the running Larder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use larder::repository::manage::{ManageCommand, ManageOutcome};
use larder::repository::schedule::TaskStatus;
use larder::repository::upkeep::{UpkeepCommand, UpkeepOutcome, UsageReport};
use larder::store::TaskEnd;
use tempfile::TempDir;

use super::Setup;
use crate::publish::{TEAM, npm_document, npm_put};
use crate::support::larder::{IMPATIENT, config};
use crate::support::npm::tarball;
use crate::support::tool::said;
use crate::support::{TestLarder, Upstream, eventually, sha256, until};

fn text(upstream: &Upstream, tasks: &str) -> String {
    format!("{}{TEAM}{tasks}", config(upstream, IMPATIENT))
}

/// A Larder that does its tasks, as `larder serve` has it.
async fn scheduled(text: &str, data: TempDir) -> TestLarder {
    let larder = TestLarder::in_dir(text, data).await;
    larder.larder.keep_schedule();
    larder
}

fn task(run: &str, more: &str) -> String {
    format!("[[task]]\nrun = \"{run}\"\n{more}\n")
}

async fn report(larder: &TestLarder) -> UsageReport {
    let command = UpkeepCommand::Report { days: 1, top: 0 };
    match larder.larder.upkeep(command).await.unwrap() {
        UpkeepOutcome::Report(report) => *report,
        outcome => panic!("{outcome:?}"),
    }
}

async fn status(larder: &TestLarder, name: &str) -> TaskStatus {
    let mut tasks = report(larder).await.tasks.into_iter();
    tasks.find(|it| it.name == name).unwrap()
}

/// The task, once it ended so.
async fn ended(larder: &TestLarder, name: &str, end: TaskEnd) -> TaskStatus {
    eventually(&format!("{name} ends as {end:?}"), async || {
        let task = status(larder, name).await;
        let is_it = task.last.as_ref().is_some_and(|run| run.end == end);
        is_it.then_some(task)
    })
    .await
}

async fn publish(larder: &TestLarder, name: &str, version: &str) -> Vec<u8> {
    let tarball = tarball(name, version, &[]);
    let document = npm_document(name, version, &tarball);
    assert_eq!(npm_put(larder, name, document).await.status, 201);
    tarball
}

async fn metric(larder: &TestLarder, name: &str, task: &str) -> Option<f64> {
    let text = larder.get("/-/metrics").await.expect(200).text();
    let begin = format!("{name}{{task=\"{task}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    line.map(|value| value.parse().unwrap())
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

/// Damages a stored file.
fn damage(larder: &TestLarder, content: &[u8]) {
    let name = sha256(content);
    let blobs = larder.data.path().join("blobs/sha256");
    let file = blobs.join(&name[..2]).join(&name);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_task_does_what_its_command_does_and_tells_the_same() {
    let upstream = Upstream::start().await;
    let out = TempDir::new().unwrap();
    let (backup, events) = (out.path().join("backup"), out.path().join("events"));
    let retain = "[[retain]]\npackages = [\"npm:acme-old\"]\nkeep_last = 1\n";
    let target = format!("[[target]]\nname = \"log\"\nfile = {events:?}\n");
    let quiet = text(&upstream, &format!("{retain}{target}"));
    let larder = scheduled(&quiet, TempDir::new().unwrap()).await;
    let whole = publish(&larder, "acme-new", "1.0.0").await;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        publish(&larder, "acme-old", version).await;
    }
    let dry_run = ManageCommand::Retain { dry_run: true };
    let manager = &larder.larder.manager;
    let would = manager.execute(&larder.larder.snapshot(), dry_run).await;
    let ManageOutcome::Retained { deleted, .. } = would.unwrap() else {
        panic!("retention says what it deletes");
    };
    let bytes = deleted.iter().map(|it| it.size).sum();

    // A reload takes them in.
    let every = "every = \"1s\"";
    let tasks = [
        task("retain", "at = \"00:00\""),
        task("gc", every),
        task("verify", every),
        task("backup", &format!("{every}\nout = {backup:?}")),
    ];
    larder.reload(&format!("{quiet}{}", tasks.concat())).await;
    let gc = ended(&larder, "gc", TaskEnd::Done).await.last.unwrap();
    let nothing = [
        "unnamed",
        "unnamed_bytes",
        "stray",
        "stray_bytes",
        "gone",
        "old_lines",
    ];
    assert_eq!(gc.counts, counts(nothing.map(|name| (name, 0))));
    let verified = ended(&larder, "verify", TaskEnd::Done).await.last.unwrap();
    assert_eq!(verified.counts["damaged"], 0);
    assert!(verified.counts["checked"] >= 4, "{verified:?}");
    let made = ended(&larder, "backup", TaskEnd::Done).await.last.unwrap();
    assert_eq!((made.counts["versions"], made.counts["lost"]), (4, 0));
    assert!(backup.join("backup.json").is_file());
    let at_midnight = status(&larder, "retain").await;
    assert!(at_midnight.due > larder::clock::now() && at_midnight.last.is_none());
    for (name, least) in [
        ("larder_task_last_end_timestamp_seconds", 1.0),
        ("larder_task_last_success_timestamp_seconds", 1.0),
        ("larder_task_last_run_seconds", 0.0),
    ] {
        assert!(
            metric(&larder, name, "gc").await.unwrap() >= least,
            "{name}"
        );
    }
    let never = metric(&larder, "larder_task_last_end_timestamp_seconds", "retain");
    assert_eq!(never.await, Some(0.0));

    larder
        .reload(&format!("{quiet}{}", task("retain", every)))
        .await;
    let retained = eventually("retention deleted something", async || {
        let run = status(&larder, "retain").await.last?;
        (run.end == TaskEnd::Done).then_some(run)
    });
    let retained = retained.await;
    assert_eq!(retained.counts, counts([("deleted", 2), ("bytes", bytes)]));
    assert_eq!(
        metric(&larder, "larder_task_last_run_seconds", "gc").await,
        None
    );

    // Damage is a failure, as the command's exit code is, an event, and a word of why.
    damage(&larder, &whole);
    larder
        .reload(&format!("{quiet}{}", task("verify", every)))
        .await;
    let found = ended(&larder, "verify", TaskEnd::Failed).await;
    let run = found.last.unwrap();
    assert_eq!((run.counts["damaged"], run.counts["repaired"]), (1, 0));
    let why = "1 stored file is damaged or gone, and not repaired; the log names them";
    assert_eq!(run.message.as_deref(), Some(why));
    until("an event tells of it", async || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        text.contains("Larder Stored File Damaged") && text.contains("acme-new-1.0.0.tgz")
    })
    .await;
    let other = task(
        "backup",
        &format!("{every}\nout = {:?}", out.path().join("b.tar")),
    );
    larder.reload(&format!("{quiet}{other}")).await;
    let run = ended(&larder, "backup", TaskEnd::Failed)
        .await
        .last
        .unwrap();
    assert_eq!(run.counts["lost"], 1);
    assert!(
        run.message
            .unwrap()
            .contains("npm:acme-new/acme-new-1.0.0.tgz")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_remembered_over_a_restart_and_one_that_was_stopped_is_made_up_for() {
    let upstream = Upstream::start().await;
    let daily = text(&upstream, &task("gc", "every = \"1d\""));
    let often = text(&upstream, &task("gc", "every = \"5s\""));
    let larder = scheduled(&often, TempDir::new().unwrap()).await;
    let first = ended(&larder, "gc", TaskEnd::Done).await.last.unwrap();
    let data = larder.stop().await;

    // It was done today.
    let larder = scheduled(&daily, data).await;
    let today = status(&larder, "gc").await;
    assert_eq!(today.last, Some(first));
    assert!(today.due > larder::clock::now());

    // It waits for its turn, which an import has, and Larder stops meanwhile.
    let store = Arc::clone(&larder.larder.store);
    let (took, taken) = tokio::sync::oneshot::channel();
    let importing = async move {
        let _importing = store.imports().take_turn().await;
        took.send(()).unwrap();
        until("the task is stopped", async || {
            let book = store.task_book();
            let last = book.record("gc", "gc").and_then(|it| it.last.as_ref());
            last.is_some_and(|run| run.end == TaskEnd::Stopped)
        })
        .await;
    };
    let stopping = async {
        taken.await.unwrap();
        larder.reload(&often).await;
        ended(&larder, "gc", TaskEnd::UnderWay).await;
        larder.stop().await
    };
    let ((), data) = tokio::join!(importing, stopping);
    let larder = scheduled(&daily, data).await;
    let stopped = status(&larder, "gc").await;
    assert!(stopped.due <= larder::clock::now(), "{stopped:?}");
    let run = stopped.last.unwrap();
    assert!(matches!(run.end, TaskEnd::Stopped), "{run:?}");
    assert!(stopped.last_success.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_say_when_a_task_is_due_and_why_it_failed() {
    let upstream = Upstream::start().await;
    let setup = Setup::new("");
    let in_the_way = setup.at("file");
    std::fs::write(&in_the_way, "").unwrap();
    let out = Path::new(&in_the_way).join("backup");
    let tasks = [
        task(
            "backup",
            &format!("name = \"nightly\"\nevery = \"1h\"\nout = {out:?}"),
        ),
        task("verify", "at = \"03:30\"\nrepair = true"),
    ];
    setup.configure(&text(&upstream, &tasks.concat()));
    let told = said(&setup.run(&["check"]).await);
    assert!(
        told.contains("task    `nightly` (backup) was never done; it is due"),
        "{told}"
    );
    assert!(
        told.contains("task    `verify` was never done; it begins on "),
        "{told}"
    );

    // The first one of an hour begins within minutes: not at once, where a fleet starts.
    let often = tasks.concat().replace("1h", "10s");
    setup.configure(&text(&upstream, &often));
    let mut served = setup.serve().await;
    let line = served.logged("Task `nightly` failed").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    for command in ["check", "report"] {
        let told = said(&setup.run(&[command]).await);
        assert!(told.contains("`nightly` (backup) failed "), "{told}");
    }
    let json = setup.run(&["report", "--json"]).await;
    let report: UsageReport = serde_json::from_slice(&json.stdout).unwrap();
    let run = report.tasks[0].last.as_ref().unwrap();
    assert!(matches!(run.end, TaskEnd::Failed | TaskEnd::UnderWay));
    drop(served);

    let wrong = tasks.concat().replace("backup\"\nname", "bakup\"\nname");
    setup.configure(&text(&upstream, &wrong));
    let refused = setup.run(&["check"]).await;
    assert_eq!(refused.status.code(), Some(2));
    let refused = said(&refused);
    assert!(refused.contains("did you mean \"backup\"?"), "{refused}");
}
