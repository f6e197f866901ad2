//! `larder encrypt [--undo]`

use std::process::ExitCode;
use std::sync::Arc;

use bytesize::ByteSize;

use super::{Global, Output, control, progress, settings};
use crate::format::counted;
use crate::store::{CopyProgress, Resealed, Store, rendered};
use crate::task::Tasks;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "The key is in the configuration, [encryption] key = { file = \"…\" } or { env = \"…\" }: 32 random bytes in base64 (`openssl rand -base64 32`). What comes in is sealed from then on; this seals what is there. No Larder may serve the data directory meanwhile. It may be stopped and begun again.\n\nExamples:\n  larder encrypt\n  larder encrypt --undo      # then take [encryption] out of the configuration"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Lay plain what is sealed
    #[arg(long)]
    undo: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    if config.encryption.is_none() {
        return Err(settings::UsageError(
            "[encryption] has no key: say key = { file = \"…\" } or key = { env = \"…\" } in the configuration".to_owned(),
        )
        .into());
    }
    let tasks = Tasks::default();
    let store = Store::open(&config.data_dir, &config, &tasks).await?;
    rendered::remove(&config.data_dir)?;
    let resealed = Arc::<CopyProgress>::default();
    let work = store.reseal(arguments.undo, &resealed);
    let done = progress::copying(output, &resealed, work).await??;
    let is_whole = done.damaged.is_empty();
    control::show(output, &done, |done| lines(done, arguments.undo))?;
    store.flush().await;
    Ok(if is_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lines(done: &Resealed, undo: bool) -> Vec<String> {
    let verb = if undo { "laid plain" } else { "sealed" };
    let size = ByteSize(done.bytes).display().iec();
    let mut lines = vec![format!("{} {verb}, {size}", counted(done.blobs, "blob"))];
    lines.extend(
        done.damaged
            .iter()
            .map(|path| format!("{path} is not what its name says, and stays as it is")),
    );
    lines
}
