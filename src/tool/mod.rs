//! The clients: where each learns its upstream, how it is pointed at Larder, what it leaves
//! behind.

pub mod client;
mod command;
pub mod ini;
pub mod lockfile;
pub mod maven;
pub mod npm;
pub mod nuget;
pub mod pip;
pub mod xml;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::config::{Auth, Connection};
use crate::package::Format;
use crate::store::private;

/// A registry that a client of this machine is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub url: String,
    pub auth: Option<Auth>,
}

/// Learns the upstreams of formats from this machine's clients, all at once.
pub async fn learn(formats: &[Format]) -> Vec<Connection> {
    let wants = |format: Format| formats.contains(&format);
    let (npm, pypi, maven, nuget) = tokio::join!(
        async {
            if wants(Format::Npm) {
                npm::learn().await
            } else {
                None
            }
        },
        async {
            if wants(Format::Pypi) {
                pip::learn().await
            } else {
                None
            }
        },
        async {
            if wants(Format::Maven) {
                maven::learn().await
            } else {
                None
            }
        },
        async {
            if wants(Format::Nuget) {
                nuget::learn().await
            } else {
                None
            }
        },
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
            let upstream = upstream?;
            let connection = Connection::new(&format!("public:{format}"), format, &upstream.url);
            match connection {
                Ok(connection) => Some(Connection {
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
pub struct Place {
    /// `http://127.0.0.1:5273`, or that with `/-/run/{id}`.
    pub root: String,
    pub repository: String,
}

impl Place {
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

    /// The host, for clients that trust plain HTTP by name.
    #[must_use]
    pub fn host(&self) -> String {
        url::Url::parse(&self.root)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// The environment that points every client that can be pointed by it.
#[must_use]
pub fn environment(place: &Place) -> BTreeMap<&'static str, String> {
    let mut variables = BTreeMap::new();
    variables.extend(npm::environment(place));
    variables.extend(pip::environment(place));
    variables.extend(nuget::environment(place));
    variables
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
#[allow(clippy::disallowed_methods, reason = "clients' settings are files")]
pub fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        private::folder(folder)?;
    }
    let beside = file.with_extension("larder-new");
    let mut new = private::create(&beside)?;
    if let Ok(metadata) = std::fs::metadata(file) {
        new.set_permissions(metadata.permissions())?;
    }
    new.write_all(text.as_bytes())?;
    drop(new);
    std::fs::rename(&beside, file)
}
