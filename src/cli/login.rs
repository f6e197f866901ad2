//! `larder login --tool T`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::settings::UsageError;
use super::{Global, env, print, settings};
use crate::package::Format;
use crate::secret::Secret;
use crate::tool::client::{Entry, entry};
use crate::tool::login::{Client, ClientLogin, log_in};
use crate::tool::{paste, yarn};

#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  larder login --tool npm\n  larder login --tool maven --address https://packages.corp.example --repository team\n  larder login --tool pip --address https://packages.corp.example --token-file ada.token --ca corp-ca.pem\n  larder login --print --address https://packages.corp.example --repository team"
)]
pub struct Arguments {
    /// The client
    #[arg(long, required_unless_present = "print")]
    tool: Option<Client>,
    /// Where Larder serves; else the one that runs here, or the configured address
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The repository to point at
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,
    /// A file whose first line is the token to write
    #[arg(long, value_name = "FILE", conflicts_with = "print")]
    token_file: Option<PathBuf>,
    /// The certificate authority that issued Larder's certificate, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print lines to paste for somebody without this program, and write nothing
    #[arg(long)]
    print: bool,
}

pub async fn run(global: Global, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let token = arguments.token_file.as_deref().map(token_in).transpose()?;
    let ca = arguments.ca.as_deref().map(absolute).transpose()?;
    let is_elsewhere = arguments.address.is_some();
    let (address, repository) = (arguments.address, arguments.repository);
    let place = env::place(&global, address, repository, ca.as_deref()).await?;
    if ca.is_some() && !place.root.starts_with("https://") {
        let why = format!(
            "--ca is for addresses that begin with https://, and Larder's is {}",
            place.root
        );
        return Err(UsageError(why).into());
    }
    let mut clients = match arguments.tool {
        Some(client) => vec![client],
        None => Client::value_variants().to_vec(),
    };
    let login = ClientLogin { place, token, ca };
    let entry = entry(&login).await;
    let entry = if arguments.print {
        entry
    } else {
        entry.context("nothing was written")
    }?;
    if !is_elsewhere {
        let formats: Vec<Format> = clients.iter().map(|client| client.format()).collect();
        let served = env::served(&global, &login.place.repository, &formats).await?;
        clients.retain(|client| served.contains(&client.format()));
        if let (true, Some(format)) = (clients.is_empty(), formats.first()) {
            anyhow::bail!(
                "no {format} registry is known here, and nothing was written: a client that is pointed at Larder would find nothing there. Name a registry in a [[connection]] with format = \"{format}\", or another Larder with --address"
            );
        }
    }
    if arguments.print {
        print_lines(&clients, &login, entry);
        return Ok(ExitCode::SUCCESS);
    }
    for client in clients {
        write(&global, client, &login, entry).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes Larder into the client's settings, and says what was done.
async fn write(
    global: &Global,
    client: Client,
    login: &ClientLogin,
    entry: Entry,
) -> anyhow::Result<()> {
    let upstream = match client {
        Client::Gradle => {
            let format = client.format();
            let (config, _) = settings::learned(global, None, &[format]).await?;
            let mut connections = config.connections.into_iter();
            let found = connections.find(|connection| connection.format == format);
            found.map(|connection| connection.url.to_string())
        }
        _ => None,
    };
    let token = if login.token.is_some() {
        ", with the token"
    } else {
        ""
    };
    for file in log_in(client, login, upstream.as_deref())? {
        print(&format!(
            "{} points at {} now{token}",
            file.display(),
            login.place.root
        ));
    }
    if client == Client::Yarn && yarn::classic_has_its_own() {
        print(
            "A .yarnrc names another registry, which yarn classic asks still: take the line out.",
        );
    }
    if let Some(ca) = &login.ca {
        print(&client.trust_by_hand(ca).unwrap_or_else(|| {
            format!(
                "It trusts the certificates of {} instead of its own list.",
                ca.display()
            )
        }));
    }
    match (entry, &login.token) {
        (Entry::Anyone, _) => {}
        (Entry::TokenHolders, None) => print(
            "This server lets nobody read without a token, and none was written. Run the same command with --token-file FILE; on the server, `larder token create` makes a token.",
        ),
        (Entry::TokenHolders, Some(_)) => print(
            "This server lets nobody read without a token: colleagues run the same command with a token of their own. `larder login --print` prints lines for those without this program.",
        ),
    }
    Ok(())
}

/// Prints what points each client at Larder by its own means.
fn print_lines(clients: &[Client], login: &ClientLogin, entry: Entry) {
    let login = paste::for_a_colleague(login, entry == Entry::TokenHolders);
    // pnpm reads what npm reads.
    let is_double = |client: &Client| clients.len() > 1 && *client == Client::Pnpm;
    let clients = clients.iter().filter(|client| !is_double(client));
    let preparation = paste::preparation(&login).map(|line| vec![line]);
    let sections = clients.map(|client| paste::lines(*client, &login));
    for (index, section) in preparation.into_iter().chain(sections).enumerate() {
        if index > 0 {
            print("");
        }
        for line in section {
            print(&line);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
fn absolute(file: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(file).with_context(|| format!("{}", file.display()))
}

/// The token in the file's first line: further lines are what `larder token create` says of it.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line names this file"
)]
fn token_in(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"'\\<>&`$".contains(c);
    match line {
        "" => anyhow::bail!(
            "{} has no token: its first line is empty. `larder token create` prints one",
            file.display()
        ),
        line if line.chars().all(is_plain) => Ok(Secret::new(line)),
        _ => anyhow::bail!(
            "{} has no token: its first line has blanks, quotes or other characters that no token has",
            file.display()
        ),
    }
}
