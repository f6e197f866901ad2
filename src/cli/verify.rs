//! `larder verify [--repair]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use serde::Serialize;

use super::control::{self, Backend};
use super::{Global, Output, progress, settings, tell};
use crate::format::counted;
use crate::repository::upkeep::{Damage, UpkeepCommand, UpkeepOutcome, VerifyProgress};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Reads every stored file through and holds it against its name. It may be stopped, and goes on where it was. Exit code 1: something is damaged, and not repaired.\n\nExamples:\n  larder verify\n  larder verify --rate 100MiB       # at most so much a second\n  larder verify --repair            # what is damaged is fetched again"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Fetch again what is damaged
    #[arg(long)]
    repair: bool,
    /// From the first file, whatever an earlier run has read
    #[arg(long)]
    anew: bool,
    /// Bytes a second, at most
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    rate: Option<ByteSize>,
}

/// The result of all steps.
#[derive(Debug, Default, Serialize)]
struct Summary {
    checked: u64,
    bytes: u64,
    damaged: Vec<Damage>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let backend = Backend::connect(config).await?;
    let verified = verify(&backend, &arguments).await;
    backend.stop().await;
    let summary = verified?;
    control::show(output, &summary, lines)?;
    Ok(if summary.damaged.iter().all(|it| it.is_repaired) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn verify(backend: &Backend, arguments: &Arguments) -> anyhow::Result<Summary> {
    let bar = progress::bar(arguments.output, 0, progress::BYTES)?;
    let mut summary = Summary::default();
    let mut anew = arguments.anew;
    loop {
        let began = Instant::now();
        let repair = arguments.repair;
        let outcome = backend
            .upkeep(UpkeepCommand::Verify { anew, repair })
            .await?;
        let UpkeepOutcome::Verified(step) = outcome else {
            anyhow::bail!("the running Larder answers something else; is it of this version?");
        };
        anew = false;
        let VerifyProgress {
            checked,
            bytes,
            damaged,
            is_done,
            bytes_in_all,
        } = step;
        summary.checked += checked;
        summary.bytes += bytes;
        bar.set_length(bytes_in_all.max(summary.bytes));
        bar.set_position(summary.bytes);
        // Told at once: who stops it now is not told at the end.
        for damage in &damaged {
            bar.suspend(|| tell(&line(damage)));
        }
        summary.damaged.extend(damaged);
        if is_done {
            break;
        }
        if let Some(rate) = arguments.rate.filter(|rate| rate.0 > 0) {
            let share = Duration::from_secs(bytes) / u32::try_from(rate.0).unwrap_or(u32::MAX);
            tokio::time::sleep(share.saturating_sub(began.elapsed())).await;
        }
    }
    bar.finish_and_clear();
    Ok(summary)
}

fn line(damage: &Damage) -> String {
    let what = match damage.assets.first() {
        Some(asset) => asset.as_str(),
        None => "a document",
    };
    format!(
        "{}: {what} is {}: {}",
        damage.sha256, damage.found, damage.message
    )
}

fn lines(summary: &Summary) -> Vec<String> {
    let repaired = summary.damaged.iter().filter(|it| it.is_repaired).count();
    vec![format!(
        "{}, {}, read through: {} damaged, {repaired} of them repaired",
        counted(summary.checked, "file"),
        ByteSize(summary.bytes).display().iec(),
        summary.damaged.len(),
    )]
}
