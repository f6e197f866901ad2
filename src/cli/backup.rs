//! `larder backup --out DIR|FILE`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::closing::size;
use super::control::{self, Backend};
use super::{Global, Output, settings};
use crate::format::counted;
use crate::store::backup::{BackupReport, EarlierFiles};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Published packages with their files, tags and statuses, publishes and events on their way, tokens, keys, policies, package groups and pins, as they are at one instant. Clients are served and publish meanwhile.\n\nA name that ends in .tar or .tar.zst is a file, compressed by zstd in the second case. Any other name is a folder, and so is one that ends in /, and a folder that is there. Files that a folder has from a backup before are not copied again, and what was deleted since then is taken away. A file is written anew each time, and takes the place of the one before once it is whole; unpacked, it is a folder of the same form.\n\n What is only cached is not in it, and neither is the configuration. Encrypted files stay encrypted; the key of `[encryption]` is not in it. Folder and file are for their owner alone: they have secrets.\n\nExit code 1: a published file is damaged or gone, and so not in the backup.\n\nExamples:\n  larder backup --out /mnt/backup/larder\n  larder backup --out /mnt/backup/larder       # again: only what is new\n  larder backup --out /mnt/backup/larder --verify\n  larder backup --out /mnt/backup/larder.tar.zst # all of it in one file\n  larder restore --from /mnt/backup/larder     # the way back"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// The backup's folder, empty or with an earlier backup; or its file, NAME.tar or NAME.tar.zst
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Read through the files of the earlier backup, and copy damaged ones again
    #[arg(long)]
    verify: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    // The running Larder has another working directory.
    let out = std::path::absolute(&arguments.out)
        .with_context(|| format!("{} cannot be found", arguments.out.display()))?;
    let earlier = if arguments.verify {
        EarlierFiles::Verify
    } else {
        EarlierFiles::Trust
    };
    let backend = Backend::connect(config).await?;
    let made = backend.back_up(out, earlier, output).await;
    backend.stop().await;
    let report = made?;
    control::show(output, &report, lines)?;
    Ok(match report.failure() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

fn lines(report: &BackupReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} of {}, {}, {}; {} of them new, {}; {} of rows",
        report.out.display(),
        counted(report.versions, "version"),
        counted(report.packages, "package"),
        counted(report.files, "file"),
        size(report.bytes),
        report.copied_files,
        size(report.copied_bytes),
        size(report.rows_bytes),
    )];
    if let Some(bytes) = report.archive_bytes {
        lines.push(format!("the file has {}", size(bytes)));
    }
    if report.sealed > 0 {
        lines.push(format!(
            "encrypted: {}; whoever restores needs the key that `[encryption]` has today, which is not in the backup",
            counted(report.sealed, "file"),
        ));
    }
    lines.extend(report.lost.iter().map(|lost| {
        let what = lost.assets.join(", ");
        format!(
            "{}: {what} is damaged or gone, and not in the backup; `larder verify` says what to do",
            lost.sha256
        )
    }));
    lines
}
