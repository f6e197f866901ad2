//! The tasks of the configuration: the running Larder does them by itself, one at a time, as the
//! commands of those names do.
//!
//! Only when a task began last decides when it is due, so a clock that jumps has it done once more at
//! most, and a time that was missed is made up for once.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::civil::Time;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{info, warn};

use super::manage::{ManageCommand, ManageOutcome, Manager};
use super::upkeep::{Upkeep, UpkeepCommand, UpkeepOutcome, VerifySummary};
use super::{Snapshot, scrub};
use crate::clock;
use crate::config::{Pace, TaskSettings, TaskWork};
use crate::problem::{Kind, Problem};
use crate::store::backup::EarlierFiles;
use crate::store::{TaskBook, TaskEnd, TaskRecord, TaskRun};
use crate::task::Tasks;
use crate::telemetry::{Metrics, TaskLabels};

/// Between two looks at the clock and the configuration: either may change at any time.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// By how much the tasks of a fleet are spread, so that not all begin at once: a tenth of what is
/// between two runs, but no more than this.
const SPREAD_MAX: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Under which name it is remembered how far a task has verified. The command has a place of its own,
/// so that neither reads what the other has to.
const VERIFY: &str = "verify by task";
/// Bytes that are verified in one step.
const BYTES_AT_ONCE: u64 = 16 * 1024 * 1024;

/// A task as it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub name: String,
    /// The command that it runs.
    pub run: String,
    /// When it begins next; in the past where it only waits for its turn, or for a Larder that serves.
    pub due: Timestamp,
    /// None where it has never been done.
    pub last: Option<TaskRun>,
    pub last_success: Option<Timestamp>,
}

/// How the tasks stand, in the configuration's order.
#[must_use]
pub fn statuses(tasks: &[TaskSettings], book: &TaskBook, now: Timestamp) -> Vec<TaskStatus> {
    let status = |task: &TaskSettings| {
        let record = book.record(&task.name, task.work.as_str());
        TaskStatus {
            name: task.name.clone(),
            run: task.work.as_str().to_owned(),
            due: due(task, book, now),
            last: record.and_then(|record| record.last.clone()),
            last_success: record.and_then(|record| record.last_success),
        }
    };
    tasks.iter().map(status).collect()
}

/// When the task is due. A time that is still to come, and was noted as past, is of a clock that was
/// wrong: nothing is concluded from it.
fn due(task: &TaskSettings, book: &TaskBook, now: Timestamp) -> Timestamp {
    let has_come = |at: &Timestamp| clock::has_come(at.as_second(), now.as_second());
    let record = book.record(&task.name, task.work.as_str());
    let last = record.and_then(|record| record.last.as_ref());
    if last.is_some_and(|run| run.end == TaskEnd::Stopped) {
        // It is made up for, as one that was missed.
        return now;
    }
    let last = last.map(|run| run.began).filter(has_come);
    match task.pace {
        Pace::Every(pause) => last.map_or(now, |began| later(began, pause)),
        Pace::Daily(at) => {
            let seen = record.map(|record| record.seen).filter(has_come);
            let next = next_at(at, last.or(seen).unwrap_or(now));
            later(next, spread(task, &book.seed))
        }
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The first instant behind `after` at which it is `at` o'clock, UTC.
fn next_at(at: Time, after: Timestamp) -> Timestamp {
    let after = Offset::UTC.to_datetime(after);
    let days = [Ok(after.date()), after.date().tomorrow()];
    let times = days.into_iter().flatten().map(|day| day.to_datetime(at));
    let next = times.into_iter().find(|time| *time > after);
    next.and_then(|next| Offset::UTC.to_timestamp(next).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long after its time this directory's task begins, and how long after a start at least.
fn spread(task: &TaskSettings, seed: &str) -> Duration {
    let pause = match task.pace {
        Pace::Every(pause) => pause,
        Pace::Daily(_) => DAY,
    };
    let digest = Sha256::digest(format!("{seed} {}", task.name));
    let share = digest.iter().next().copied().unwrap_or_default();
    (pause / 10).min(SPREAD_MAX) * u32::from(share) / 256
}

/// The book with these tasks: those that were not seen before are new, and those that the configuration
/// has no more are forgotten. A task that was seen in the future is seen now: the clock was wrong, and the
/// task must not wait until that time comes.
fn taken_up(tasks: &[TaskSettings], book: &TaskBook, now: Timestamp) -> TaskBook {
    let record = |task: &TaskSettings| {
        let run = task.work.as_str();
        let mut record = book.record(&task.name, run).cloned();
        if let Some(record) = &mut record
            && !clock::has_come(record.seen.as_second(), now.as_second())
        {
            record.seen = now;
        }
        let record = record.unwrap_or_else(|| TaskRecord {
            run: run.to_owned(),
            seen: now,
            last: None,
            last_success: None,
        });
        (task.name.clone(), record)
    };
    TaskBook {
        seed: book.seed.clone(),
        tasks: tasks.iter().map(record).collect(),
    }
}

/// The task whose turn it is: of those that are due, the one that was begun longest ago, so that none
/// waits for ever behind one that is due again and again. After a start, those that were missed are not
/// made up for at once.
fn next<'t>(
    tasks: &'t [TaskSettings],
    book: &TaskBook,
    now: Timestamp,
    up_for: Duration,
) -> Option<&'t TaskSettings> {
    let is_due =
        |task: &&TaskSettings| due(task, book, now) <= now && up_for >= spread(task, &book.seed);
    let begun = |task: &&TaskSettings| {
        let record = book.record(&task.name, task.work.as_str());
        record.and_then(|record| Some(record.last.as_ref()?.began))
    };
    tasks.iter().filter(is_due).min_by_key(begun)
}

/// Does the tasks of the configuration in force, until Larder stops.
pub async fn keep(
    manager: Weak<Manager>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    current: impl Fn() -> Option<Arc<Snapshot>>,
) {
    let begun = Instant::now();
    let mut shown = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOKED_EVERY) => {}
            () = tasks.stopped() => return,
        }
        let (Some(manager), Some(snapshot)) = (manager.upgrade(), current()) else {
            return;
        };
        let schedule = Schedule {
            manager: &manager,
            snapshot: &snapshot,
            metrics: &metrics,
        };
        schedule.take_up().await;
        if shown != Some(snapshot.number) {
            shown = Some(snapshot.number);
            schedule.show_all();
        }
        if let Some(task) = schedule.next(begun.elapsed()) {
            schedule.run(task).await;
        }
    }
}

/// The tasks of one configuration.
struct Schedule<'a> {
    manager: &'a Arc<Manager>,
    snapshot: &'a Arc<Snapshot>,
    metrics: &'a Metrics,
}

/// A command's result that was carried out to its end.
struct Finished {
    counts: BTreeMap<String, u64>,
    /// Why the command would not exit with 0.
    failure: Option<String>,
}

impl Schedule<'_> {
    fn tasks(&self) -> &[TaskSettings] {
        &self.snapshot.config.tasks
    }

    async fn take_up(&self) {
        let before = self.manager.store().task_book();
        let book = taken_up(self.tasks(), &before, clock::now());
        if book != *before {
            self.keep(book).await;
        }
    }

    /// Shows how these tasks ended, and no others.
    fn show_all(&self) {
        let metrics = &self.metrics;
        metrics.task_ends.clear();
        metrics.task_successes.clear();
        metrics.task_seconds.clear();
        self.tasks().iter().for_each(|task| self.show(task));
    }

    async fn keep(&self, book: TaskBook) {
        if let Err(error) = self.manager.store().keep_task_book(book).await {
            warn!(%error, "Writing down when tasks were done failed; after a restart, they may be done again");
        }
    }

    fn next(&self, up_for: Duration) -> Option<&TaskSettings> {
        let book = self.manager.store().task_book();
        next(self.tasks(), &book, clock::now(), up_for)
    }

    fn show(&self, task: &TaskSettings) {
        let book = self.manager.store().task_book();
        let Some(record) = book.tasks.get(&task.name) else {
            return;
        };
        let labels = TaskLabels {
            task: task.name.clone(),
        };
        let second = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_second);
        let metrics = &self.metrics;
        let last = record.last.as_ref();
        let ended = metrics.task_ends.get_or_create(&labels);
        ended.set(second(last.and_then(|run| run.ended)));
        let success = metrics.task_successes.get_or_create(&labels);
        success.set(second(record.last_success));
        let took = Duration::from_millis(last.map_or(0, |run| run.ms));
        let seconds = metrics.task_seconds.get_or_create(&labels);
        seconds.set(took.as_secs_f64());
    }

    async fn note(&self, task: &TaskSettings, run: &TaskRun) {
        let mut book = TaskBook::clone(&self.manager.store().task_book());
        if let Some(record) = book.tasks.get_mut(&task.name) {
            record.last = Some(run.clone());
            if run.end == TaskEnd::Done {
                record.last_success = run.ended;
            }
        }
        self.keep(book).await;
    }

    /// Does the task, and notes how that ended. A stop cuts it off, as it cuts off the command.
    async fn run(&self, task: &TaskSettings) {
        let (name, work) = (task.name.as_str(), task.work.as_str());
        let mut run = TaskRun::begun(clock::now());
        self.note(task, &run).await;
        let began = Instant::now();
        let finished = AssertUnwindSafe(Box::pin(self.carry_out(&task.work))).catch_unwind();
        let finished = tokio::select! {
            finished = finished => Some(finished),
            () = self.manager.tasks().stopped() => None,
        };
        let took = began.elapsed();
        run.ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        run.ended = Some(clock::now());
        let (end, message) = match finished {
            None => (TaskEnd::Stopped, None),
            Some(Ok(Ok(Finished { counts, failure }))) => {
                run.counts = counts;
                let end = failure.as_ref().map_or(TaskEnd::Done, |_| TaskEnd::Failed);
                (end, failure)
            }
            Some(Ok(Err(problem))) if self.manager.tasks().is_stopping() => {
                (TaskEnd::Stopped, Some(why(&problem)))
            }
            Some(Ok(Err(problem))) => (TaskEnd::Failed, Some(why(&problem))),
            Some(Err(_)) => {
                self.metrics.panics.inc();
                let why = "it failed inside Larder, which goes on".to_owned();
                (TaskEnd::Failed, Some(why))
            }
        };
        (run.end, run.message) = (end, message);
        match (&run.end, &run.message) {
            (TaskEnd::Failed, Some(why)) => {
                warn!(
                    task = name,
                    run = work,
                    ms = run.ms,
                    "Task `{name}` failed, and is done again at its next time: {why}"
                );
            }
            (TaskEnd::Stopped, _) => {
                info!(
                    task = name,
                    run = work,
                    ms = run.ms,
                    "Task `{name}` was stopped, and is done again after the next start"
                );
            }
            _ => info!(
                task = name,
                run = work,
                ms = run.ms,
                "Task `{name}` is done"
            ),
        }
        self.note(task, &run).await;
        self.show(task);
    }

    async fn carry_out(&self, work: &TaskWork) -> Result<Finished, Problem> {
        let upkeep = Upkeep::new(&self.manager.reader, self.snapshot);
        match work {
            TaskWork::Retain => {
                let command = ManageCommand::Retain { dry_run: false };
                let outcome = self.manager.execute(self.snapshot, command).await?;
                let ManageOutcome::Retained { deleted, .. } = outcome else {
                    return Ok(Finished::well(BTreeMap::new()));
                };
                let bytes = deleted.iter().map(|one| one.size).sum();
                let counts = [("deleted", deleted.len() as u64), ("bytes", bytes)];
                let counts = counts.map(|(name, count)| (name.to_owned(), count));
                Ok(Finished::well(counts.into()))
            }
            TaskWork::Gc => {
                let command = UpkeepCommand::Gc { dry_run: false };
                match upkeep.execute(command).await? {
                    UpkeepOutcome::Waste { waste, .. } => Ok(Finished::well(counts(&waste))),
                    _ => Ok(Finished::well(BTreeMap::new())),
                }
            }
            TaskWork::Verify { repair } => self.verify(&upkeep, *repair).await,
            TaskWork::Backup { out } => {
                let store = self.manager.store();
                let report = store
                    .back_up(out, EarlierFiles::Trust, &Arc::default())
                    .await?;
                for lost in &report.lost {
                    if let Some(damage) = upkeep.damage_of(&lost.sha256).await? {
                        scrub::tell(&self.manager.reader, self.snapshot, &damage).await;
                    }
                }
                Ok(Finished {
                    counts: counts(&report),
                    failure: report.failure(),
                })
            }
        }
    }

    /// Reads all files through, from where a task before was cut off, and rests as long as it reads.
    async fn verify(&self, upkeep: &Upkeep<'_>, repair: bool) -> Result<Finished, Problem> {
        let mut summary = VerifySummary::default();
        loop {
            let began = Instant::now();
            let step = upkeep.check_files(VERIFY, BYTES_AT_ONCE, repair).await?;
            for damage in &step.damaged {
                scrub::tell(&self.manager.reader, self.snapshot, damage).await;
            }
            let is_done = step.is_done;
            summary.add(step);
            if is_done {
                break;
            }
            tokio::time::sleep(began.elapsed()).await;
        }
        Ok(Finished {
            counts: counts(&summary),
            failure: summary.failure(),
        })
    }
}

impl Finished {
    fn well(counts: BTreeMap<String, u64>) -> Self {
        Self {
            counts,
            failure: None,
        }
    }
}

/// The numbers of a report, and how long its lists are.
fn counts(report: &impl Serialize) -> BTreeMap<String, u64> {
    let Ok(Value::Object(fields)) = serde_json::to_value(report) else {
        return BTreeMap::new();
    };
    let count = |(name, value): (String, Value)| match value {
        Value::Number(number) => Some((name, number.as_u64()?)),
        Value::Array(list) => Some((name, list.len() as u64)),
        _ => None,
    };
    fields.into_iter().filter_map(count).collect()
}

/// Why a task failed, for its operator.
fn why(problem: &Problem) -> String {
    match &problem.cause {
        Some(cause) if problem.kind == Kind::Internal => cause.to_string(),
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn task(pace: Pace) -> TaskSettings {
        TaskSettings {
            name: "nightly".to_owned(),
            work: TaskWork::Gc,
            pace,
        }
    }

    fn daily() -> TaskSettings {
        task(Pace::Daily("03:30".parse().unwrap()))
    }

    const HOUR: Duration = Duration::from_secs(3600);

    /// A book that knows the task since then, and when it was begun last.
    fn book(seen: Timestamp, last: Option<Timestamp>) -> TaskBook {
        let run = |began| TaskRun {
            end: TaskEnd::Done,
            ..TaskRun::begun(began)
        };
        let record = TaskRecord {
            run: "gc".to_owned(),
            seen,
            last: last.map(run),
            last_success: None,
        };
        TaskBook {
            seed: "seed".to_owned(),
            tasks: [("nightly".to_owned(), record)].into(),
        }
    }

    /// How often the task is done while the clock shows these times, one after another.
    fn done(task: &TaskSettings, times: impl IntoIterator<Item = Timestamp>) -> Vec<Timestamp> {
        let mut times = times.into_iter().peekable();
        let mut book = book(*times.peek().unwrap(), None);
        let mut done = Vec::new();
        for now in times {
            book = taken_up(std::slice::from_ref(task), &book, now);
            if due(task, &book, now) <= now {
                done.push(now);
                book = self::book(book.tasks["nightly"].seen, Some(now));
            }
        }
        done
    }

    /// Minute after minute.
    fn minutes(from: &str, count: i64) -> impl Iterator<Item = Timestamp> {
        let from = at(from);
        (0..count).map(move |minute| from + SignedDuration::from_mins(minute))
    }

    #[test]
    fn a_daily_task_is_done_each_day_at_its_time_and_an_hourly_one_each_hour() {
        let days = done(&daily(), minutes("2026-11-30T12:00:00Z", 3 * 24 * 60));
        let days: Vec<String> = days
            .iter()
            .map(|it| it.strftime("%Y-%m-%dT%H").to_string())
            .collect();
        assert_eq!(days, ["2026-12-01T03", "2026-12-02T03", "2026-12-03T03"]);
        let hourly = task(Pace::Every(HOUR));
        let hours = done(&hourly, minutes("2026-11-30T12:00:00Z", 24 * 60));
        assert_eq!(hours.len(), 24);
        // The end of time is no panic.
        let never = task(Pace::Every(Duration::MAX));
        assert_eq!(done(&never, minutes("2026-11-30T12:00:00Z", 600)).len(), 1);
    }

    #[test]
    fn a_time_that_was_missed_is_made_up_for_once() {
        let last = at("2026-11-20T03:31:00Z");
        for task in [daily(), task(Pace::Every(DAY))] {
            let now = at("2026-11-30T12:00:00Z");
            let before = book(last, Some(last));
            assert!(due(&task, &before, now) <= now);
            let after = book(last, Some(now));
            assert!(due(&task, &after, now) > later(now, 12 * HOUR));
        }
        // A restart is no reason.
        let today = book(last, Some(at("2026-11-30T03:31:00Z")));
        assert!(due(&daily(), &today, at("2026-11-30T12:00:00Z")) > at("2026-12-01T03:00:00Z"));
        // One that was never done waits for its time, however often Larder is restarted before it.
        let seen = book(at("2026-11-29T12:00:00Z"), None);
        assert!(due(&daily(), &seen, at("2026-11-30T12:00:00Z")) < at("2026-11-30T04:00:00Z"));
    }

    #[test]
    fn a_clock_that_jumps_has_a_task_done_once_more_at_most() {
        let before = || minutes("2026-11-30T00:00:00Z", 12 * 60);
        for (jump, then) in [
            ("an hour on", "2026-11-30T13:00:00Z"),
            ("a day on", "2026-12-01T12:00:00Z"),
            ("a year on", "2027-11-30T12:00:00Z"),
            ("ten minutes back", "2026-11-30T11:50:00Z"),
            ("a day back", "2026-11-29T12:00:00Z"),
            ("a year back", "2025-11-30T12:00:00Z"),
            ("to 1970", "1970-01-01T00:00:00Z"),
        ] {
            let after = || minutes(then, 3 * 24 * 60);
            // The clock is put right again.
            let again = || minutes("2026-11-30T15:00:00Z", 24 * 60);
            let days = done(&daily(), before().chain(after()).chain(again()));
            assert!((4..=7).contains(&days.len()), "{jump}: {days:?}");
            let hourly = task(Pace::Every(HOUR));
            let hours = done(&hourly, before().chain(after()).chain(again()));
            assert!(
                (106..=111).contains(&hours.len()),
                "{jump}: {}",
                hours.len()
            );
        }
    }

    #[test]
    fn a_task_that_was_stopped_is_made_up_for_and_one_that_was_cut_off_is_not() {
        let began = at("2026-11-30T03:31:00Z");
        let now = at("2026-11-30T03:40:00Z");
        for (end, is_due) in [
            (TaskEnd::Stopped, true),
            (TaskEnd::Failed, false),
            (TaskEnd::Done, false),
        ] {
            let mut book = book(began, Some(began));
            let record = book.tasks.get_mut("nightly").unwrap();
            record.last.as_mut().unwrap().end = end;
            assert_eq!(due(&daily(), &book, now) <= now, is_due, "{end:?}");
        }
    }

    #[test]
    fn a_task_that_is_due_again_and_again_keeps_none_waiting() {
        let often = task(Pace::Every(Duration::from_secs(1)));
        let tasks = ["a", "b", "c"].map(|name| TaskSettings {
            name: name.to_owned(),
            ..often.clone()
        });
        let (mut book, mut done) = (TaskBook::default(), String::new());
        for now in minutes("2026-11-30T12:00:00Z", 6) {
            let name = &next(&tasks, &book, now, HOUR).unwrap().name;
            done.push_str(name);
            let mut record = self::book(now, Some(now)).tasks["nightly"].clone();
            record.seen = now;
            book.tasks.insert(name.clone(), record);
        }
        assert_eq!(done, "abcabc");
        let at_start = next(&tasks, &TaskBook::default(), clock::now(), Duration::ZERO);
        let spreads = tasks.iter().map(|task| spread(task, ""));
        assert_eq!(at_start.is_none(), spreads.min() > Some(Duration::ZERO));
    }

    #[test]
    fn a_fleet_does_not_begin_at_once() {
        let spreads = |task: &TaskSettings| {
            let seeds = (0..200).map(|seed| spread(task, &format!("{seed}")));
            let spreads: std::collections::BTreeSet<Duration> = seeds.collect();
            spreads
        };
        let days = spreads(&daily());
        assert!(days.len() > 50 && days.last().is_some_and(|it| *it < SPREAD_MAX));
        let often = spreads(&task(Pace::Every(Duration::from_secs(10))));
        assert!(often.len() > 50 && often.last().is_some_and(|it| *it < Duration::from_secs(1)));
    }
}
