//! `larder wait`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::{Global, print, settings};
use crate::store;

/// How often the data directory is looked at.
const LOOKING: Duration = Duration::from_millis(50);

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder serve & larder wait\n  larder wait --timeout 2m --config larder.toml"
)]
pub struct Arguments {
    /// How long to wait, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
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
    let Ok(address) = tokio::time::timeout(arguments.timeout, served).await else {
        bail!(
            "after {}, no Larder serves the data directory {}; `larder serve` starts one, and its log says why it ended",
            humantime::format_duration(arguments.timeout),
            config.data_dir.display()
        );
    };
    print(&format!("Serving {address}"));
    Ok(ExitCode::SUCCESS)
}
