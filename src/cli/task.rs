//! How tasks of the configuration are told of, by `larder check` and `larder report`.

use std::time::Duration;

use jiff::Timestamp;

use super::closing::{size, waiting};
use crate::format::counted;
use crate::repository::schedule::TaskStatus;
use crate::rule::coarse;
use crate::store::{TaskEnd, TaskRun};

/// How the task ended last, and when it begins next.
pub fn line(task: &TaskStatus, now: Timestamp) -> String {
    let name = if task.name == task.run {
        format!("`{}`", task.name)
    } else {
        format!("`{}` ({})", task.name, task.run)
    };
    let last = task.last.as_ref();
    let last = last.map_or_else(|| "was never done".to_owned(), |run| ended(task, run, now));
    let next = if task.due > now {
        task.due
            .strftime("it begins on %-d %B %Y, %H:%M UTC")
            .to_string()
    } else {
        "it is due, and begins soon in a Larder that serves".to_owned()
    };
    format!("{name} {last}; {next}")
}

fn ended(task: &TaskStatus, run: &TaskRun, now: Timestamp) -> String {
    let ago = |at: Timestamp| {
        let age = Duration::try_from(now.duration_since(at)).unwrap_or_default();
        format!("{} ago", coarse(age))
    };
    let when = ago(run.ended.unwrap_or(run.began));
    let took = waiting(run.ms);
    let why = run.message.as_deref().unwrap_or("nobody knows why");
    match run.end {
        TaskEnd::UnderWay => format!("has been under way since {}", run.began),
        TaskEnd::Done => format!("was done {when} in {took}: {}", result(&task.run, run)),
        TaskEnd::Stopped => format!("was stopped {when} with Larder"),
        TaskEnd::Failed if run.counts.is_empty() => format!("failed {when}: {why}"),
        TaskEnd::Failed => format!("failed {when}: {why} ({})", result(&task.run, run)),
    }
}

/// The counts, in the words of the command.
fn result(command: &str, run: &TaskRun) -> String {
    let count = |name: &str| run.counts.get(name).copied().unwrap_or_default();
    match command {
        "retain" => format!(
            "{} deleted, {}",
            counted(count("deleted"), "version"),
            size(count("bytes"))
        ),
        "gc" => format!(
            "{} taken away, {}",
            counted(count("unnamed") + count("stray"), "file"),
            size(count("unnamed_bytes") + count("stray_bytes"))
        ),
        "verify" => format!(
            "{} read through, {}; {} damaged, {} of them repaired",
            counted(count("checked"), "file"),
            size(count("bytes")),
            count("damaged"),
            count("repaired")
        ),
        _ => format!(
            "{}, {}; {} of them new, {}",
            counted(count("files"), "file"),
            size(count("bytes")),
            count("copied_files"),
            size(count("copied_bytes"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_task_is_told_in_a_sentence() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-30T12:00:00Z");
        let mut task = TaskStatus {
            name: "nightly".to_owned(),
            run: "gc".to_owned(),
            due: at("2026-12-01T03:31:00Z"),
            last: None,
            last_success: None,
        };
        let never = "`nightly` (gc) was never done; it begins on 1 December 2026, 03:31 UTC";
        assert_eq!(line(&task, now), never);
        let counts = [("unnamed", 2), ("unnamed_bytes", 2048), ("stray", 1)];
        let counts = counts.map(|(name, count)| (name.to_owned(), count));
        let mut run = TaskRun {
            ended: Some(at("2026-11-30T09:00:00Z")),
            ms: 1500,
            end: TaskEnd::Done,
            counts: BTreeMap::from(counts),
            ..TaskRun::begun(at("2026-11-30T08:59:58Z"))
        };
        task.last = Some(run.clone());
        task.due = now;
        assert_eq!(
            line(&task, now),
            "`nightly` (gc) was done 3 hours ago in 1.5 s: 3 files taken away, 2.0 KiB; it is due, and begins soon in a Larder that serves"
        );
        run.end = TaskEnd::Failed;
        run.message = Some("the disk is full".to_owned());
        run.counts.clear();
        task.last = Some(run);
        assert!(
            line(&task, now).starts_with("`nightly` (gc) failed 3 hours ago: the disk is full;")
        );
    }
}
