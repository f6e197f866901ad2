//! `larder packages move`

use std::process::ExitCode;
use std::sync::Arc;

use super::settings::UsageError;
use super::{Global, Output, control, progress, settings};
use crate::config::Config;
use crate::format::counted;
use crate::secret::Secret;
use crate::store::CopyProgress;
use crate::store::moving::{self, MovedPackages, PackagesPlace};
use crate::task::Tasks;

#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:\n  larder packages move\n  larder packages move --to sqlite")]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Move published packages, tokens and policies between SQLite and PostgreSQL
    #[command(
        after_help = "Moves to the database that the configuration names, `packages.database`; without that key, to packages.sqlite of the data directory. Rows are moved; files stay where they are. No Larder may use the data directory meanwhile. A move that was stopped is run again. It loses nothing, and until it is done the old database is whole. What is moved is left in the old database, which no Larder starts on any more.\n\nThe new database has to be empty. An address may leave the password to the variable PGPASSWORD or to ~/.pgpass.\n\nExamples:\n  larder packages move                     # packages.sqlite to `packages.database`\n  larder packages move --to sqlite         # back; then take `packages.database` out of the configuration\n  larder packages move --from postgres://larder@old.example/packages"
    )]
    Move {
        /// Where the packages are: sqlite, or the address of a database [default: packages.sqlite where it is there]
        #[arg(long, value_name = "PLACE", value_parser = place)]
        from: Option<PackagesPlace>,
        /// Where they are to be: sqlite, or the address of a database [default: what is configured]
        #[arg(long, value_name = "PLACE", value_parser = place)]
        to: Option<PackagesPlace>,
    },
}

fn place(text: &str) -> Result<PackagesPlace, String> {
    match text {
        "sqlite" => Ok(PackagesPlace::Sqlite),
        url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            Ok(PackagesPlace::Postgres(Secret::new(url)))
        }
        _ => Err(
            "write sqlite, or an address as in postgres://larder@db.example/packages".to_owned(),
        ),
    }
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    crate::use_ring();
    let config = settings::config(&global, None).await?;
    let Action::Move { from, to } = arguments.action;
    let to = to.unwrap_or_else(|| configured(&config));
    let from = from.map_or_else(|| source(&config, &to), Ok)?;
    if from == to {
        return Err(UsageError(
            "the packages are to be moved to where they are: name another place with --to or --from".to_owned(),
        )
        .into());
    }
    let (tasks, progress) = (Tasks::default(), Arc::<CopyProgress>::default());
    let work = moving::move_packages(&config.data_dir, &from, &to, &tasks, &progress);
    let moved =
        progress::counting(output, "{human_pos}/{human_len} rows", &progress, work).await??;
    control::show(output, &moved, |moved| lines(moved, &config, &to))?;
    Ok(ExitCode::SUCCESS)
}

/// The place that the configuration names.
fn configured(config: &Config) -> PackagesPlace {
    let database = config.packages.database.clone();
    database.map_or(PackagesPlace::Sqlite, PackagesPlace::Postgres)
}

/// The place that packages come from where the command line names none.
fn source(config: &Config, to: &PackagesPlace) -> Result<PackagesPlace, UsageError> {
    if *to != PackagesPlace::Sqlite && moving::has_packages_file(&config.data_dir) {
        return Ok(PackagesPlace::Sqlite);
    }
    match configured(config) {
        from if from != *to && from != PackagesPlace::Sqlite => Ok(from),
        _ => Err(UsageError(
            "where are the packages? Name the database with --from postgres://…".to_owned(),
        )),
    }
}

fn lines(moved: &MovedPackages, config: &Config, to: &PackagesPlace) -> Vec<String> {
    let mut lines = vec![if moved.were_moved {
        format!(
            "the packages of {} were moved to {} already",
            moved.from, moved.to
        )
    } else if moved.rows == 0 {
        format!("{} to {}: the move is done", moved.from, moved.to)
    } else {
        format!(
            "{} to {}: {} of {}, {}",
            moved.from,
            moved.to,
            counted(moved.versions, "version"),
            counted(moved.packages, "package"),
            counted(moved.rows, "row"),
        )
    }];
    if configured(config) != *to {
        lines.push(match to {
            PackagesPlace::Sqlite => {
                "take `packages.database` out of the configuration before Larder starts".to_owned()
            }
            PackagesPlace::Postgres(_) => {
                "name the database by `packages.database` in the configuration before Larder starts"
                    .to_owned()
            }
        });
    }
    lines
}
