//! `larder env`

use std::process::ExitCode;

use super::{Global, print, settings};
use crate::{store, tool};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  eval \"$(larder env)\"\n  larder env --json\n  larder env --address http://packages.corp.example"
)]
pub struct Arguments {
    /// Where Larder serves; else the one that runs here, or the configured address
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The repository to point at
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let place = place(&global, arguments.address, arguments.repository)?;
    let variables = tool::environment(&place);
    if global.json {
        print(&serde_json::to_string_pretty(&variables)?);
    } else {
        for (name, value) in variables {
            print(&format!("export {name}='{value}'"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the clients are to be pointed.
pub fn place(
    global: &Global,
    address: Option<String>,
    repository: Option<String>,
) -> anyhow::Result<tool::Place> {
    let source = settings::source(global)?;
    let learned = crate::config::Learned {
        data_dir: global.data_dir.clone(),
        ..Default::default()
    };
    let config = crate::config::load(&source, &learned)?;
    let root = address
        .or_else(|| config.public_url.as_ref().map(ToString::to_string))
        .or_else(|| store::holder(&config.data_dir)?.address)
        .unwrap_or_else(|| {
            let scheme = if config.tls.is_some() {
                "https"
            } else {
                "http"
            };
            format!("{scheme}://{}", config.listen)
        });
    let repository = repository
        .or_else(|| {
            config
                .repositories
                .first()
                .map(|repository| repository.name.clone())
        })
        .unwrap_or_else(|| "public".to_owned());
    Ok(tool::Place {
        root: root.trim_end_matches('/').to_owned(),
        repository,
    })
}
