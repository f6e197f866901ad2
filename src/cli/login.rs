//! `larder login --tool T`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use super::{Global, env, print, settings};
use crate::package::Format;
use crate::tool::{self, LarderAddress, ini, maven, nuget};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder login --tool npm\n  larder login --tool maven --address https://packages.corp.example --repository team"
)]
pub struct Arguments {
    /// The client
    #[arg(long)]
    tool: Tool,
    /// Where Larder serves; else the one that runs here, or the configured address
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The repository to point at
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tool {
    Npm,
    Pnpm,
    Yarn,
    Pip,
    Uv,
    Twine,
    Maven,
    Gradle,
    Nuget,
}

impl Tool {
    fn format(self) -> Format {
        match self {
            Self::Npm | Self::Pnpm | Self::Yarn => Format::Npm,
            Self::Pip | Self::Uv | Self::Twine => Format::Pypi,
            Self::Maven | Self::Gradle => Format::Maven,
            Self::Nuget => Format::Nuget,
        }
    }
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let is_elsewhere = arguments.address.is_some();
    let place = env::place(&global, arguments.address, arguments.repository).await?;
    let format = arguments.tool.format();
    if !is_elsewhere
        && !env::served(&global, &place.repository, &[format])
            .await?
            .contains(&format)
    {
        anyhow::bail!(
            "no {format} registry is known here, and nothing was written: a client that is pointed at Larder would find nothing there. Name a registry in a [[connection]] with format = \"{format}\", or another Larder with --address"
        );
    }
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .context("this user has no home directory")?;
    let written = match arguments.tool {
        Tool::Npm | Tool::Pnpm => vec![set(home.join(".npmrc"), None, "registry", &npm(&place))?],
        // Classic reads .npmrc, berry a file of its own.
        Tool::Yarn => vec![
            set(home.join(".npmrc"), None, "registry", &npm(&place))?,
            yarn(home.join(".yarnrc.yml"), &place)?,
        ],
        Tool::Pip => vec![set(
            home.join(".config/pip/pip.conf"),
            Some("global"),
            "index-url",
            &place.simple(),
        )?],
        Tool::Uv => vec![set(
            home.join(".config/uv/uv.toml"),
            None,
            "index-url",
            &format!("\"{}\"", place.simple()),
        )?],
        Tool::Twine => {
            let upload = place.of(crate::package::Format::Pypi);
            vec![set(
                home.join(".pypirc"),
                Some("larder"),
                "repository",
                &upload,
            )?]
        }
        Tool::Maven => vec![maven::login(&place)?],
        Tool::Gradle => {
            let (config, _) = settings::learned(&global, None, &[format]).await?;
            let upstream = config
                .connections
                .iter()
                .find(|connection| connection.format == format)
                .map(|connection| connection.url.as_str());
            vec![maven::gradle_login(&place, upstream)?]
        }
        Tool::Nuget => vec![nuget::login(&place)?],
    };
    for file in &written {
        print(&format!("{} points at {} now", file.display(), place.root));
    }
    Ok(ExitCode::SUCCESS)
}

fn npm(place: &LarderAddress) -> String {
    place.of(crate::package::Format::Npm)
}

#[allow(clippy::disallowed_methods, reason = "clients' settings are files")]
fn text(file: &PathBuf) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn set(file: PathBuf, section: Option<&str>, key: &str, value: &str) -> anyhow::Result<PathBuf> {
    let changed = ini::set(&text(&file), section, key, value);
    tool::write(&file, &changed)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}

fn yarn(file: PathBuf, place: &LarderAddress) -> anyhow::Result<PathBuf> {
    const KEYS: [&str; 2] = ["npmRegistryServer:", "unsafeHttpWhitelist:"];
    let own = text(&file);
    let mut lines: Vec<String> = own
        .lines()
        .filter(|line| {
            !(line.starts_with(KEYS[0]) || line.starts_with(KEYS[1]) && line.contains("larder"))
        })
        .map(str::to_owned)
        .collect();
    lines.push(format!(
        "{} \"{}\"",
        KEYS[0],
        npm(place).trim_end_matches('/')
    ));
    let listed = lines.iter().any(|line| line.starts_with(KEYS[1]));
    if place.root.starts_with("http:") && !listed {
        lines.push(format!("{} [\"{}\"] # larder", KEYS[1], place.host()));
    }
    lines.push(String::new());
    tool::write(&file, &lines.join("\n"))
        .with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}
