//! `[[task]]`: work on the store that the running Larder does by itself, at its times.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Time;
use toml::de::DeValue;

use super::document::{FromValue, Section, nearest};

/// A task of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSettings {
    /// The name in reports, metrics and the log; no two have the same.
    pub name: String,
    pub work: TaskWork,
    pub pace: Pace,
}

/// Work that a task does, as the command of that name does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskWork {
    Retain,
    Gc,
    Verify {
        /// Fetches damaged files again.
        repair: bool,
    },
    Backup {
        /// A folder, or a file.
        out: PathBuf,
    },
}

/// How often a task is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// This long after it began last.
    Every(Duration),
    /// Each day at this time, UTC.
    Daily(Time),
}

/// The commands that a task may run.
const WORKS: [&str; 4] = ["retain", "gc", "verify", "backup"];

/// Shorter pauses would be no pauses.
const EVERY_MIN: Duration = Duration::from_secs(1);

impl TaskWork {
    /// The command's name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Retain => "retain",
            Self::Gc => "gc",
            Self::Verify { .. } => "verify",
            Self::Backup { .. } => "backup",
        }
    }
}

/// A pause between two runs.
struct Every(Duration);

impl FromValue for Every {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        match Duration::from_value(value)? {
            time if time < EVERY_MIN => Err("has to be a second or longer".to_owned()),
            time => Ok(Self(time)),
        }
    }
}

/// A time of the day.
struct TimeOfDay(Time);

impl FromValue for TimeOfDay {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let text = match value {
            DeValue::Datetime(time) => time.to_string(),
            other => other.as_str().unwrap_or_default().to_owned(),
        };
        let time = text.parse().ok().filter(|_| text.contains(':'));
        time.map(Self)
            .ok_or_else(|| "has to be a time of the day, UTC, such as \"03:30\"".to_owned())
    }
}

/// Reads all tasks. `data_dir` is where no backup may lie, and `has_retention` says whether `retain`
/// would do anything.
pub(super) fn read(
    sections: Vec<Section<'_>>,
    data_dir: Option<&Path>,
    has_retention: bool,
) -> Vec<TaskSettings> {
    let mut tasks: Vec<TaskSettings> = Vec::new();
    for section in sections {
        let name = section.take_placed::<String>("name");
        let work = work(&section, data_dir, has_retention);
        let pace = pace(&section);
        if let Some(work) = &work {
            let place = name.as_ref().map_or(&section.place, |(_, place)| place);
            let name = name.as_ref().map_or(work.as_str(), |(name, _)| name);
            if tasks.iter().any(|task| task.name == name) {
                section.fault(
                    place,
                    format!("there are two tasks `{name}`: give each a `name` of its own"),
                );
            }
        }
        section.finish();
        if let (Some(work), Some(pace)) = (work, pace) {
            let name = name.map_or_else(|| work.as_str().to_owned(), |(name, _)| name);
            tasks.push(TaskSettings { name, work, pace });
        }
    }
    tasks
}

fn work(section: &Section<'_>, data_dir: Option<&Path>, has_retention: bool) -> Option<TaskWork> {
    let run = section.require::<String>("run");
    let repair = section.take_placed::<bool>("repair");
    let out = section.take_placed::<String>("out");
    let (run, place) = run?;
    for (key, of, said) in [
        ("repair", "verify", repair.as_ref().map(|(_, place)| place)),
        ("out", "backup", out.as_ref().map(|(_, place)| place)),
    ] {
        if let Some(place) = said.filter(|_| run != of) {
            section.fault(
                place,
                format!("`task.{key}` is of use with run = \"{of}\" alone"),
            );
        }
    }
    match run.as_str() {
        "retain" => {
            if !has_retention {
                section.fault(
                    &place,
                    "`task.run` = \"retain\" deletes what no [[retain]] keeps, and there is none",
                );
            }
            Some(TaskWork::Retain)
        }
        "gc" => Some(TaskWork::Gc),
        "verify" => Some(TaskWork::Verify {
            repair: repair.is_some_and(|(repair, _)| repair),
        }),
        "backup" => {
            let Some((out, place)) = out else {
                section.fault(
                    &section.place,
                    "a task with run = \"backup\" needs `out`, the folder or file that it writes",
                );
                return None;
            };
            let out = PathBuf::from(out);
            if !out.is_absolute() {
                section.fault(
                    &place,
                    "`task.out` has to be a path from the root, such as \"/srv/backups/larder\": a server's own folder may be any",
                );
            }
            if data_dir.is_some_and(|directory| is_within(&out, directory)) {
                section.fault(
                    &place,
                    "`task.out` lies within the data directory: name a place on another disk",
                );
            }
            Some(TaskWork::Backup { out })
        }
        other => {
            let hint = nearest(other, WORKS.into_iter())
                .map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            section.fault(
                &place,
                format!(
                    "`task.run` has to be one of {}, not `{other}`{hint}",
                    WORKS.join(", ")
                ),
            );
            None
        }
    }
}

fn pace(section: &Section<'_>) -> Option<Pace> {
    let every = section.take::<Every>("every");
    let at = section.take::<TimeOfDay>("at");
    if section.has("every") == section.has("at") {
        section.fault(
            &section.place,
            "a [[task]] has one of `every`, such as \"6h\", and `at`, such as \"03:30\"",
        );
        return None;
    }
    let every = every.map(|Every(time)| Pace::Every(time));
    every.or_else(|| at.map(|TimeOfDay(time)| Pace::Daily(time)))
}

/// Whether the path lies in the directory, as either is written.
fn is_within(path: &Path, directory: &Path) -> bool {
    let (path, directory) = (std::path::absolute(path), std::path::absolute(directory));
    matches!((path, directory), (Ok(path), Ok(directory)) if path.starts_with(&directory))
}
