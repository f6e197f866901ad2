//! `larder env`

use std::path::Path;
use std::process::ExitCode;

use super::{Global, Output, print, settings, tell};
use crate::package::Format;
use crate::telemetry::ClosingReport;
use crate::tool::client::ControlClient;
use crate::{store, tool};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  eval \"$(larder env)\"\n  larder env --json\n  larder env --address http://packages.corp.example"
)]
pub struct Arguments {
    #[command(flatten)]
    output: Output,
    /// Where Larder serves; else the one that runs here, or the configured address
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The repository to point at
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let output = arguments.output;
    let is_elsewhere = arguments.address.is_some();
    let place = place(&global, arguments.address, arguments.repository, None).await?;
    // A Larder elsewhere cannot be asked which formats it serves.
    let formats = if is_elsewhere {
        Format::SERVED.to_vec()
    } else {
        served(&global, &place.repository, &Format::SERVED).await?
    };
    let missing: Vec<Format> = Format::SERVED
        .into_iter()
        .filter(|format| !formats.contains(format))
        .collect();
    if let Some(line) = tool::left_alone(&missing) {
        tell(&line);
    }
    let variables = tool::environment(&place, &formats);
    if output.json {
        print(&serde_json::to_string_pretty(&variables)?);
    } else {
        for (name, value) in variables {
            print(&format!("export {name}='{value}'"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The formats that Larder serves here. Asks the Larder that holds the data directory, else the
/// configuration.
pub async fn served(
    global: &Global,
    repository: &str,
    formats: &[Format],
) -> anyhow::Result<Vec<Format>> {
    let (config, _) = settings::learned(global, None, &[]).await?;
    if store::holder(&config.data_dir).is_some()
        && let Ok(control) = ControlClient::of(&config.data_dir)
        && let Ok(report) = control.report("env", repository).await
    {
        return Ok(known(&report));
    }
    let (config, remarks) = settings::learned(global, None, formats).await?;
    for remark in remarks {
        tell(&format!("larder: {remark}"));
    }
    Ok(config.formats_of(repository))
}

/// The formats that a running Larder says it serves.
pub fn known(report: &ClosingReport) -> Vec<Format> {
    report
        .formats
        .iter()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Where the clients are to be pointed. They trust `ca` beside what this machine trusts.
pub async fn place(
    global: &Global,
    address: Option<String>,
    repository: Option<String>,
    ca: Option<&Path>,
) -> anyhow::Result<tool::LarderAddress> {
    let source = settings::source(global)?;
    let learned = crate::config::Learned {
        data_dir: global.data_dir.clone(),
        ..Default::default()
    };
    let config = crate::config::load(&source, &learned)?;
    let named = address.or_else(|| config.public_url.as_ref().map(ToString::to_string));
    let served = || store::holder(&config.data_dir)?.address;
    let root = match (named, served()) {
        (Some(named), _) => named,
        (None, Some(served)) => client_address(served, None, ca).await,
        (None, None) => {
            let scheme = if config.tls.is_some() {
                "https"
            } else {
                "http"
            };
            format!("{scheme}://{}", config.listen)
        }
    };
    let repository = repository
        .or_else(|| {
            config
                .repositories
                .first()
                .map(|repository| repository.name.clone())
        })
        .unwrap_or_else(|| "public".to_owned());
    Ok(tool::LarderAddress {
        root: root.trim_end_matches('/').to_owned(),
        repository,
    })
}

/// The address by which clients reach the Larder that serves `address`: another one of its names
/// where its certificate is made out to that. Says so where there is none that can be trusted.
pub async fn client_address(
    address: String,
    public_url: Option<&url::Url>,
    ca: Option<&Path>,
) -> String {
    if !address.starts_with("https:") {
        return address;
    }
    match tool::client::trusted(&address, public_url, ca).await {
        Ok(trusted) => trusted,
        Err(why) => {
            tell(&format!("larder: {why}"));
            address
        }
    }
}
