//! `larder export --out FILE`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bytesize::ByteSize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::control::{self, Backend};
use super::settings::UsageError;
use super::{Global, Output, progress, settings, tell, warm};
use crate::airgap::bundle::BundleHead;
use crate::airgap::platform::Platforms;
use crate::airgap::{AirgapCommand, Order};
use crate::format::counted;
use crate::store::private;

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "A bundle is a zstd-compressed tar: a manifest with every file's digest and source, a CycloneDX bill of materials, the files, and an Ed25519 signature by the key that `bundle.key` names, else by one of the data directory's own. Who takes it in has to trust that key: it is printed at the end.\n\nExamples:\n  larder export --out all.larder\n  larder export --out team.larder --repository team\n  larder export --out app.larder package-lock.json pom.xml     # what these need, as `larder warm` reads them\n  larder export --out since.larder --new                       # what came in since the last export"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Where the bundle is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Only the packages that this repository has and draws on; without it, everything
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// Only files that came in since the last export
    #[arg(long)]
    new: bool,
    /// Lockfiles, lists, or folders with some in them: what they need, and nothing else
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let config = settings::config(&global, None).await?;
    let mut order = Order {
        repository: arguments.repository.clone(),
        wants: None,
        is_new: arguments.new,
    };
    let needs = match arguments.files.as_slice() {
        [] => None,
        files => Some(warm::read_all(files.iter(), &Platforms::default())?),
    };
    let repository = settings::repository(&config, arguments.repository)?;
    let backend = Backend::connect(config).await?;
    let written = async {
        if let Some(needs) = needs {
            let needs = warm::resolved(&backend, &repository, needs, output)
                .await?
                .merged();
            order.wants = Some(needs.wants);
            order.repository = Some(repository);
        }
        write(&backend, order, &arguments.out, output).await
    };
    let written = written.await;
    backend.stop().await;
    let (head, size) = written?;
    let out = arguments.out.display().to_string();
    control::show(output, &head, |head| lines(head, &out, size))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the bundle beside its name, which it gets once it is whole.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
async fn write(
    backend: &Backend,
    order: Order,
    out: &Path,
    output: Output,
) -> anyhow::Result<(BundleHead, u64)> {
    let mut name = out
        .file_name()
        .map(std::ffi::OsStr::to_owned)
        .ok_or_else(|| UsageError(format!("{} is no file", out.display())))?;
    name.push(".partial");
    let partial = out.with_file_name(name);
    let failed = || format!("{} cannot be written", partial.display());
    let mut file = File::from_std(private::create(&partial).with_context(failed)?);
    let begun = backend.export(order);
    let (head, mut pieces) = progress::beside(output, "Listing the files", begun).await?;
    let counts = "{bytes} of {total_bytes} before compression, {bytes_per_sec}";
    let bar = progress::bar(output, head.bytes, counts)?;
    let mut size = 0;
    let copied = async {
        while let Some(piece) = pieces.next().await? {
            size += piece.len() as u64;
            bar.set_position(size.min(head.bytes));
            file.write_all(&piece).await.with_context(failed)?;
        }
        file.sync_all().await.with_context(failed)?;
        tokio::fs::rename(&partial, out).await.with_context(failed)
    };
    let copied = copied.await;
    bar.finish_and_clear();
    if let Err(error) = copied {
        let _ = tokio::fs::remove_file(&partial).await;
        return Err(error);
    }
    // Only now: what was not written down whole is to be in the next one.
    let command = AirgapCommand::Exported {
        created: head.created.as_second(),
    };
    if let Err(error) = backend.air_gap(command).await {
        tell(&format!(
            "larder: that it was exported is not remembered: {error:#}"
        ));
    }
    Ok((head, size))
}

fn lines(head: &BundleHead, out: &str, size: u64) -> Vec<String> {
    let since = match head.since {
        Some(since) => format!(" since {since}"),
        None => String::new(),
    };
    vec![
        format!(
            "{out}: {}{since}, {}, {}; {} in the bundle",
            head.scope,
            counted(head.blobs, "file"),
            ByteSize(head.bytes).display().iec(),
            ByteSize(size).display().iec(),
        ),
        format!("signed by {}", head.key),
    ]
}
