//! `larder wait`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::{Global, Output, print, progress, settings};
use crate::store;

/// How often the data directory is looked at.
const LOOKING: Duration = Duration::from_millis(50);

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder serve & larder wait\n  larder wait --timeout 2m --config larder.toml"
)]
pub struct Arguments {
    /// How long to wait, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = settings::time)]
    timeout: Duration,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let (config, _) = settings::learned(&global, None, &[]).await?;
    let served = async {
        loop {
            let holder = store::holder(&config.data_dir);
            if let Some(address) = holder.and_then(|holder| holder.address) {
                return address;
            }
            tokio::time::sleep(LOOKING).await;
        }
    };
    let served = tokio::time::timeout(arguments.timeout, served);
    let waited = progress::beside(Output::default(), "Waiting for `larder serve`", served);
    let Ok(address) = waited.await else {
        bail!(
            "after {} seconds, no Larder serves the data directory {}; `larder serve` starts one, and its log says why it ended",
            arguments.timeout.as_secs(),
            config.data_dir.display()
        );
    };
    print(&format!("Serving {address}"));
    Ok(ExitCode::SUCCESS)
}
