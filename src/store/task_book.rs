//! The book of tasks: when each task of the configuration was done last, and how that ended. It is a
//! small file of the data directory, so that it outlives the cache's catalog and is read without one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::packages::random_name;
use super::{Error, Store, markers};

/// All tasks that are remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBook {
    /// Another one in each data directory, so that those of a fleet do not start their tasks at once.
    pub seed: String,
    /// By the tasks' names.
    pub tasks: BTreeMap<String, TaskRecord>,
}

/// One task's past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The command that it runs. A task of the same name that runs another one is a new task.
    pub run: String,
    /// When a Larder saw it first.
    pub seen: Timestamp,
    pub last: Option<TaskRun>,
    /// When it ended well last.
    pub last_success: Option<Timestamp>,
}

/// One run of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRun {
    pub began: Timestamp,
    /// None while it is under way.
    pub ended: Option<Timestamp>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    pub end: TaskEnd,
    /// Why it failed, or what it found.
    pub message: Option<String>,
    /// The numbers that the command of that name prints with `--json`, under the same names; of a list,
    /// how long it is.
    pub counts: BTreeMap<String, u64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskEnd {
    UnderWay,
    /// Where the command would exit with 0.
    Done,
    /// Where the command would exit with another code.
    Failed,
    /// Larder stopped before its end.
    Stopped,
}

impl TaskRun {
    /// A run that begins now.
    #[must_use]
    pub fn begun(now: Timestamp) -> Self {
        Self {
            began: now,
            ended: None,
            ms: 0,
            end: TaskEnd::UnderWay,
            message: None,
            counts: BTreeMap::new(),
        }
    }
}

impl TaskBook {
    /// The book of a data directory; an empty one where it has none. Blocks for a moment.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        markers::task_book(directory)
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// The book as a Larder takes it up that has just begun: a run that is under way in it was cut off
    /// with the Larder of that time.
    pub(super) fn taken_up(directory: &Path) -> Self {
        let mut book = Self::of(directory);
        if book.seed.is_empty() {
            book.seed = random_name();
        }
        let runs = book.tasks.values_mut().filter_map(|it| it.last.as_mut());
        for run in runs.filter(|run| run.end == TaskEnd::UnderWay) {
            run.end = TaskEnd::Failed;
            run.message = Some("Larder ended in the middle of it".to_owned());
        }
        book
    }

    /// The past of the task that has this name and runs this command.
    #[must_use]
    pub fn record(&self, name: &str, run: &str) -> Option<&TaskRecord> {
        self.tasks.get(name).filter(|record| record.run == run)
    }
}

impl Store {
    /// The tasks that are remembered.
    #[must_use]
    pub fn task_book(&self) -> Arc<TaskBook> {
        self.task_book.load_full()
    }

    /// Puts another book in the place of the one before. It holds until the end also where the disk
    /// does not take it.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub async fn keep_task_book(self: &Arc<Self>, book: TaskBook) -> Result<(), Error> {
        let text = serde_json::to_string(&book).map_err(std::io::Error::from)?;
        self.task_book.store(Arc::new(book));
        let store = Arc::clone(self);
        let written = move || store.markers.remember_tasks(&text);
        let written = self.tasks.spawn_blocking(written).await;
        Ok(written.map_err(|_| Error::Stopped)??)
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests look at the files themselves"
)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_under_way_when_larder_was_killed_is_told_as_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(TaskBook::of(folder.path()), TaskBook::default());
        let mut book = TaskBook::taken_up(folder.path());
        assert!(!book.seed.is_empty());
        let now = crate::clock::now();
        let record = TaskRecord {
            run: "gc".to_owned(),
            seen: now,
            last: Some(TaskRun::begun(now)),
            last_success: None,
        };
        book.tasks.insert("nightly".to_owned(), record);
        let text = serde_json::to_string(&book).unwrap();
        std::fs::write(folder.path().join("larder.tasks"), text).unwrap();
        assert_eq!(TaskBook::of(folder.path()), book);
        let taken_up = TaskBook::taken_up(folder.path());
        assert_eq!(taken_up.seed, book.seed);
        assert!(taken_up.record("nightly", "verify").is_none());
        let run = taken_up.record("nightly", "gc").unwrap().last.clone();
        assert_eq!(run.unwrap().end, TaskEnd::Failed);
        // One that cannot be read is begun anew.
        std::fs::write(folder.path().join("larder.tasks"), "{").unwrap();
        assert!(TaskBook::of(folder.path()).tasks.is_empty());
    }
}
