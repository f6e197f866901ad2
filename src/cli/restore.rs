//! `larder restore --from DIR|FILE`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::closing::size;
use super::{Global, Output, control, progress, settings};
use crate::format::counted;
use crate::store::CopyProgress;
use crate::store::backup::{self, Restored};
use crate::task::Tasks;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "The data directory has to be empty, and so has the database where `packages.database` names one. Either may be SQLite or PostgreSQL, whatever the backup was made of. Every file is read through and held against its digest; where one is damaged, the restore fails and names it, and Larder does not start on the directory. It may be stopped and run again. The restored Larder takes the place of the one that was backed up: do not run both, or publishes that wait for their upstream are sent twice.\n\nWhere the database is the one that the backup is of, because it outlived the data directory, its rows stay, and the files are restored.\n\nExit code 1: the backup is refused, or it was made without a file that was damaged or gone.\n\nExamples:\n  larder restore --from /mnt/backup/larder --data-dir /var/lib/larder\n  larder restore --from /mnt/backup/larder.tar.zst --data-dir /var/lib/larder\n  larder restore --from /mnt/backup/larder --config larder.toml"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// The backup's folder or file
    #[arg(long, value_name = "DIR|FILE")]
    from: PathBuf,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    crate::use_ring();
    let config = Arc::new(settings::config(&global, None).await?);
    let (tasks, copied) = (Tasks::default(), Arc::<CopyProgress>::default());
    let work = backup::restore(&arguments.from, &config, &tasks, &copied);
    let restored = progress::copying(output, &copied, work).await??;
    let directory = config.data_dir.display().to_string();
    control::show(output, &restored, |restored| lines(restored, &directory))?;
    Ok(if restored.lost.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lines(restored: &Restored, directory: &str) -> Vec<String> {
    let mut lines = vec![format!(
        "{directory}: restored as of {:.0}: {} of {}, {}, {}",
        restored.created,
        counted(restored.versions, "version"),
        counted(restored.packages, "package"),
        counted(restored.files, "file"),
        size(restored.bytes),
    )];
    if restored.rows_were_there {
        lines.push(
            "the database is the one that the backup is of: its rows stay as they are. `larder verify` names files that were published since then"
                .to_owned(),
        );
    }
    lines.extend(
        restored
            .lost
            .iter()
            .map(|lost| format!("{lost} was damaged or gone when the backup was made")),
    );
    lines
}
