//! Knows the package clients: where each learns its registry, how it is pointed at Larder, and
//! what it leaves behind.

pub mod client;
mod command;
pub mod ini;
pub mod lockfile;
pub mod login;
pub mod maven;
pub mod npm;
pub mod nuget;
mod own;
pub mod paste;
pub mod pip;
pub mod xml;
pub mod yarn;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_util::future::OptionFuture;
use tracing::warn;

pub use own::OwnAddresses;

use crate::config::{Auth, ConnectionSettings};
use crate::package::Format;
use crate::store::private;

/// A registry that a client of this machine is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientUpstream {
    pub url: String,
    pub auth: Option<Auth>,
}

/// Learns the upstreams of formats from this machine's clients, all at once. What leads to this
/// Larder itself is none: the client's next setting is looked at.
pub async fn learn(formats: &[Format], own: &OwnAddresses) -> Vec<ConnectionSettings> {
    let wants = |format: Format| formats.contains(&format);
    let (npm, pypi, maven, nuget) = tokio::join!(
        OptionFuture::from(wants(Format::Npm).then(|| npm::learn(own))),
        OptionFuture::from(wants(Format::Pypi).then(|| pip::learn(own))),
        OptionFuture::from(wants(Format::Maven).then(|| maven::learn(own))),
        OptionFuture::from(wants(Format::Nuget).then(|| nuget::learn(own))),
    );
    let learned = [
        (Format::Npm, npm),
        (Format::Pypi, pypi),
        (Format::Maven, maven),
        (Format::Nuget, nuget),
    ];
    learned
        .into_iter()
        .filter_map(|(format, upstream)| {
            let upstream = upstream.flatten()?;
            let connection = ConnectionSettings::new(&format!("public:{format}"), format, &upstream.url);
            match connection {
                Ok(connection) => Some(ConnectionSettings {
                    auth: upstream.auth.or(connection.auth),
                    is_learned: true,
                    ..connection
                }),
                Err(why) => {
                    warn!(%format, "The registry that this machine's client is set to cannot be used: {why}");
                    None
                }
            }
        })
        .collect()
}

/// Where Larder is, for the clients.
#[derive(Clone, Debug)]
pub struct LarderAddress {
    /// `http://127.0.0.1:5273`, or that with `/-/run/{id}`.
    pub root: String,
    pub repository: String,
}

impl LarderAddress {
    /// The repository's address in one format, with its slash.
    #[must_use]
    pub fn of(&self, format: Format) -> String {
        format!("{}/{format}/{}/", self.root, self.repository)
    }

    /// Python's simple index.
    #[must_use]
    pub fn simple(&self) -> String {
        format!("{}simple/", self.of(Format::Pypi))
    }

    /// NuGet's service index.
    #[must_use]
    pub fn service_index(&self) -> String {
        format!("{}v3/index.json", self.of(Format::Nuget))
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_near(&self) -> bool {
        let url = url::Url::parse(&self.root);
        url.is_ok_and(|url| match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        })
    }

    /// Whether clients get there by plain HTTP over a network, which some of them have to be allowed.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.root.starts_with("http:") && !self.is_near()
    }

    /// The host, for clients that trust plain HTTP by name.
    #[must_use]
    pub fn host(&self) -> String {
        url::Url::parse(&self.root)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// The environment that points the clients of these formats, where it can point them. A client whose
/// format Larder has nothing of is left as it is.
#[must_use]
pub fn environment(place: &LarderAddress, formats: &[Format]) -> BTreeMap<&'static str, String> {
    let mut variables = BTreeMap::new();
    for format in formats {
        match format {
            Format::Npm => variables.extend(npm::environment(place)),
            Format::Pypi => variables.extend(pip::environment(place)),
            Format::Nuget => variables.extend(nuget::environment(place)),
            // Maven and Gradle are pointed by files.
            Format::Maven | Format::Generic => {}
        }
    }
    variables
}

/// The line about formats that Larder has no registry of; none where it serves all.
#[must_use]
pub fn left_alone(missing: &[Format]) -> Option<String> {
    let first = missing.first()?;
    let words: Vec<&str> = missing.iter().map(|format| format.as_str()).collect();
    let words = words.join(" and ");
    Some(format!(
        "larder: no registry is known here for {words}, whose clients are left as they are; name one in a [[connection]] with format = \"{first}\" to have Larder serve it"
    ))
}

/// The formats that a command's own client speaks; all, where it may start any client.
#[must_use]
pub fn formats_of_command(program: &str) -> &'static [Format] {
    match program.trim_end_matches(".exe") {
        "npm" | "npx" | "pnpm" | "pnpx" | "yarn" | "yarnpkg" | "bun" | "bunx" | "deno" => {
            &[Format::Npm]
        }
        "pip" | "pip3" | "uv" | "uvx" | "poetry" | "pdm" | "pipenv" | "twine" => &[Format::Pypi],
        "mvn" | "mvnw" | "mvnd" | "gradle" | "gradlew" => &[Format::Maven],
        "dotnet" | "nuget" | "mono" => &[Format::Nuget],
        _ => &Format::SERVED,
    }
}

/// The text with each `${name}` replaced by what `value_of` gives for the text before it and its name;
/// where that is nothing, it stays as it is.
fn fill_in(text: &str, value_of: &dyn Fn(&str, &str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut left = text;
    while let Some((before, rest)) = left.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = rest.split_once('}') else {
            out.push_str("${");
            left = rest;
            continue;
        };
        match value_of(before, name) {
            Some(value) => out.push_str(&value),
            None => {
                out.push_str("${");
                out.push_str(name);
                out.push('}');
            }
        }
        left = after;
    }
    out.push_str(left);
    out
}

/// This user's home directory.
fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// A file's text; `None` where there is none.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "clients' settings are files")]
pub fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// Writes a settings file, whole or not at all: readable as it was before, or by nobody else where it
/// is new.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(file: &Path, text: &str) -> std::io::Result<()> {
    replace(file, text, Readers::AsBefore)
}

/// Writes a settings file that has a secret in it, whole or not at all: readable by its owner alone.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write_secret(file: &Path, text: &str) -> std::io::Result<()> {
    replace(file, text, Readers::Owner)
}

/// Who may read a file that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    AsBefore,
    Owner,
}

#[allow(clippy::disallowed_methods, reason = "clients' settings are files")]
fn replace(file: &Path, text: &str, readers: Readers) -> std::io::Result<()> {
    // A link that leads to the settings, as among dotfiles, goes on leading there.
    let place = std::fs::read_link(file).map(|place| match file.parent() {
        Some(folder) => folder.join(place),
        None => place,
    });
    if let Ok(place) = place {
        return replace(&place, text, readers);
    }
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    private::folder(folder)?;
    // Taken away again where it does not get to its place.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    if readers == Readers::AsBefore
        && let Ok(metadata) = std::fs::metadata(file)
    {
        new.as_file().set_permissions(metadata.permissions())?;
    }
    new.write_all(text.as_bytes())?;
    new.persist(file)?;
    Ok(())
}
