//! `larder verify [--repair]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::control::{self, Backend};
use super::{Global, Output, progress, settings, tell};
use crate::format::counted;
use crate::repository::upkeep::{Damage, UpkeepCommand, UpkeepOutcome, VerifySummary};

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

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let backend = Backend::connect(config).await?;
    let verified = verify(&backend, &arguments).await;
    backend.stop().await;
    let summary = verified?;
    control::show(output, &summary, lines)?;
    Ok(match summary.failure() {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

async fn verify(backend: &Backend, arguments: &Arguments) -> anyhow::Result<VerifySummary> {
    let bar = progress::bar(arguments.output, 0, progress::BYTES)?;
    let mut summary = VerifySummary::default();
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
        let (bytes, is_done, bytes_in_all) = (step.bytes, step.is_done, step.bytes_in_all);
        // Told at once: who stops it now is not told at the end.
        for damage in &step.damaged {
            bar.suspend(|| tell(&line(damage)));
        }
        summary.add(step);
        bar.set_length(bytes_in_all.max(summary.bytes));
        bar.set_position(summary.bytes);
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

fn lines(summary: &VerifySummary) -> Vec<String> {
    vec![format!(
        "{}, {}, read through: {} damaged, {} of them repaired",
        counted(summary.checked, "file"),
        ByteSize(summary.bytes).display().iec(),
        summary.damaged.len(),
        summary.repaired,
    )]
}
