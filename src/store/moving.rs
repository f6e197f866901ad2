//! Moving the packages between SQLite in the data directory and PostgreSQL.
//!
//! Rows go over, files stay where they are. Whatever happens on the way, one of the two databases is
//! whole, and at most one can be used:
//!
//! 1. all rows are written into the new one, in one transaction which also marks it as arriving: no
//!    Larder starts on it yet;
//! 2. the old one is marked as moved, and keeps its rows: no Larder starts on it any more;
//! 3. the data directory's marker files name the new one;
//! 4. the new one's mark is taken away.
//!
//! A move that is cut off before the second step begins anew, since the old one may have changed; behind
//! it, it goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::markers::{LastEnd, Markers};
use super::packages::tables::{Layout, TABLES};
use super::packages::{ARRIVING, CatalogMark, Packages};
use super::{CopyProgress, DataDirectory, Error};
use crate::secret::Secret;
use crate::task::Tasks;

/// A database of packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackagesPlace {
    /// The file `packages.sqlite` of the data directory.
    Sqlite,
    /// The database at this address (`postgres://…`).
    Postgres(Secret),
}

/// The result of a move.
#[derive(Clone, Debug, Serialize)]
pub struct MovedPackages {
    /// The databases' names: a file's path, or `HOST:PORT/NAME`.
    pub from: String,
    pub to: String,
    pub packages: u64,
    pub versions: u64,
    /// All rows that were written; none where an earlier run had written them.
    pub rows: u64,
    /// An earlier run had moved them.
    pub were_moved: bool,
}

/// One of the two databases of a move.
struct Side {
    name: String,
    is_file: bool,
    packages: Packages,
    mark: Option<CatalogMark>,
}

/// How far an earlier run came.
enum Step {
    Copy,
    Markers,
    Nothing,
}

/// Whether the data directory has a `packages.sqlite`.
#[must_use]
pub fn has_packages_file(directory: &Path) -> bool {
    file(directory).exists()
}

fn file(directory: &Path) -> PathBuf {
    directory.join("packages.sqlite")
}

/// Moves all packages, tokens and policies of the data directory, which nobody may use meanwhile.
///
/// # Errors
/// Where the directory is held, the old one is not this directory's, the new one has something, or
/// either fails. What is served then is what was served before.
pub async fn move_packages(
    directory: &Path,
    from: &PackagesPlace,
    to: &PackagesPlace,
    tasks: &Tasks,
    progress: &CopyProgress,
) -> Result<MovedPackages, Error> {
    let directory = DataDirectory::take(directory)?;
    let markers = Markers::of(directory.path())?;
    let last_end = markers.last_end();
    let old = Side::open(&directory, from, &markers, MayBegin::No).await?;
    let moved = match Side::open(&directory, to, &markers, MayBegin::Yes).await {
        Ok(new) => {
            for side in [&old, &new] {
                side.packages.hold(tasks);
            }
            let moved = carry_over(&old, &new, &markers, progress).await;
            // Nothing says behind the end that the databases are in use.
            tasks.stop(STOPPING).await;
            new.packages.close().await;
            moved
        }
        Err(error) => Err(error),
    };
    old.packages.close().await;
    if last_end != LastEnd::Closed {
        // The catalog of the cache is still to be looked through.
        markers.mark_opening();
    }
    moved
}

/// How long the work beside a move may take to end.
const STOPPING: Duration = Duration::from_secs(5);

/// Whether a database without tables is made ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MayBegin {
    Yes,
    No,
}

impl Side {
    async fn open(
        directory: &DataDirectory,
        place: &PackagesPlace,
        markers: &Markers,
        may_begin: MayBegin,
    ) -> Result<Self, Error> {
        let file = file(directory.path());
        let (name, url) = match place {
            PackagesPlace::Sqlite => (file.display().to_string(), None),
            PackagesPlace::Postgres(url) => {
                (Packages::database_name(url).unwrap_or_default(), Some(url))
            }
        };
        if may_begin == MayBegin::No && url.is_none() && !file.exists() {
            return Err(refused(format!("{name} is not there, and has no packages")));
        }
        let identity = directory.identity()?;
        let packages = Packages::open_to_move(&file, url, identity, markers).await?;
        let mark = packages.mark().await?;
        Ok(Self {
            name,
            is_file: url.is_none(),
            packages,
            mark,
        })
    }

    /// The name of the catalog that the data directory has in a place of this kind.
    fn expected(&self, markers: &Markers) -> Option<String> {
        if self.is_file {
            markers.package_catalog()
        } else {
            markers.database()
        }
    }
}

async fn carry_over(
    old: &Side,
    new: &Side,
    markers: &Markers,
    progress: &CopyProgress,
) -> Result<MovedPackages, Error> {
    let Some(mark) = &old.mark else {
        return Err(refused(format!(
            "{} has no packages; name the place that has them with --from",
            old.name
        )));
    };
    let step = step(old, mark, new, markers).await?;
    let mut moved = MovedPackages {
        from: old.name.clone(),
        to: new.name.clone(),
        packages: 0,
        versions: 0,
        rows: 0,
        were_moved: matches!(step, Step::Nothing),
    };
    if matches!(step, Step::Copy) {
        copy(old, new, progress, &mut moved).await?;
        old.packages.mark_moved(&new.name).await?;
    }
    if new.is_file {
        markers.packages_are_in_the_file(&mark.identity)?;
    } else {
        markers.packages_are_in_a_database(&mark.identity)?;
    }
    new.packages.mark_arrived().await?;
    Ok(moved)
}

/// Says what is still to be done, or why the packages cannot go there.
async fn step(
    old: &Side,
    mark: &CatalogMark,
    new: &Side,
    markers: &Markers,
) -> Result<Step, Error> {
    let is_the_same = |there: &CatalogMark| there.identity == mark.identity;
    let there = new.mark.as_ref();
    if let Some(to) = &mark.moved_to {
        return match there {
            Some(there) if is_the_same(there) && there.moved_to.is_none() => {
                Ok(if there.is_arriving {
                    Step::Markers
                } else {
                    Step::Nothing
                })
            }
            _ => Err(Error::PackagesMoved {
                at: old.name.clone(),
                to: to.clone(),
            }),
        };
    }
    if mark.is_arriving {
        return Err(Error::PackagesArriving {
            at: old.name.clone(),
        });
    }
    if old.expected(markers).as_ref() != Some(&mark.identity) {
        return Err(refused(format!(
            "the packages in {} are not those of this data directory, which has no files of theirs",
            old.name
        )));
    }
    let is_left_over =
        there.is_some_and(|it| is_the_same(it) && (it.is_arriving || it.moved_to.is_some()));
    if is_left_over || new.packages.is_empty().await? {
        return Ok(Step::Copy);
    }
    Err(refused(format!(
        "{} has packages or tokens already: name an empty database, or empty that one",
        new.name
    )))
}

/// Writes all rows of the old one into the new one.
async fn copy(
    old: &Side,
    new: &Side,
    progress: &CopyProgress,
    moved: &mut MovedPackages,
) -> Result<(), Error> {
    let all = old.packages.count_rows().await?;
    progress.all.store(all, Ordering::Relaxed);
    let columns = TABLES.iter().map(|it| (it.name, it.columns.to_vec()));
    let layout: Layout = columns.collect();
    let mut writer = new.packages.replace_rows(&layout).await?;
    let read = old.packages.all_rows(async |table, row| {
        moved.rows += 1;
        match table.name {
            "package" => moved.packages += 1,
            "package_version" => moved.versions += 1,
            _ => {}
        }
        progress.done.store(moved.rows, Ordering::Relaxed);
        writer.put(table, row).await
    });
    read.await?;
    writer.execute(ARRIVING).await?;
    writer.finish().await
}

fn refused(why: String) -> Error {
    Error::Move(why)
}
