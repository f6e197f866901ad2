//! Which connections a repository draws on, in order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config;
use crate::connection::{Connection, LoopId};
use crate::package::Format;
use crate::problem::{Decider, Problem};
use crate::rule::{Entrance, Groups, WayIn};
use crate::store::catalog::RegistryIds;
use crate::telemetry::Metrics;

/// A source of a repository.
#[derive(Clone)]
pub enum Source {
    /// The packages of this repository's own.
    Own(Arc<str>),
    Connection(Arc<Connection>),
}

/// Where a repository's publishes go.
#[derive(Clone)]
pub enum Publish {
    Deny,
    Local,
    /// To one connection of each format.
    Forward {
        to: Vec<Arc<Connection>>,
        spool: bool,
    },
}

/// A repository with its sources, the nearest first.
pub struct Repository {
    pub name: String,
    pub sources: Vec<Source>,
    pub publish: Publish,
}

impl Snapshot {
    /// The formats that a repository can have anything of: those of its connections, or all where it,
    /// or a repository that it draws on, takes publishes of its own.
    #[must_use]
    pub fn formats_of(&self, repository: &Repository) -> Vec<Format> {
        let takes_its_own = self.takes_own(repository);
        let mut formats = Format::SERVED.to_vec();
        formats
            .retain(|format| takes_its_own || repository.connections_of(*format).next().is_some());
        formats
    }
}

impl Snapshot {
    /// Whether the repository, or one that it draws on, takes publishes of its own.
    #[must_use]
    pub fn takes_own(&self, repository: &Repository) -> bool {
        let is_local = |name: &&str| {
            let own = self.repositories.get(*name);
            own.is_some_and(|own| matches!(own.publish, Publish::Local))
        };
        repository.own_names().iter().any(is_local)
    }
}

impl Repository {
    /// Its connections of one format, the nearest first.
    pub fn connections_of(&self, format: Format) -> impl Iterator<Item = &Arc<Connection>> {
        self.connections()
            .filter(move |connection| connection.format == format)
    }

    /// All its connections.
    pub fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.sources.iter().filter_map(|source| match source {
            Source::Connection(connection) => Some(connection),
            Source::Own(_) => None,
        })
    }

    /// The names of the repositories whose own packages it draws on, itself first.
    #[must_use]
    pub fn own_names(&self) -> Vec<&str> {
        let own = self.sources.iter().filter_map(|source| match source {
            Source::Own(name) => Some(&**name),
            Source::Connection(_) => None,
        });
        own.collect()
    }

    /// Where nothing of the format could come from, with the way to have something.
    pub(super) fn no_source(&self, format: Format) -> Problem {
        Problem::not_found(
            Decider::Repository(self.name.clone()),
            format!("repository `{}` has no connection of format {format}", self.name),
        )
        .advice(format!(
            "set up this machine's {format} client, or add a [[connection]] with format = \"{format}\" and list it in the repository"
        ))
    }

    /// Where none of its sources has what was asked for.
    pub(super) fn has_none(&self, format: Format, what: &str) -> Problem {
        if self.connections_of(format).next().is_none() && matches!(self.publish, Publish::Deny) {
            return self.no_source(format);
        }
        Problem::not_found(
            Decider::Repository(self.name.clone()),
            format!("{what} is not there"),
        )
    }
}

/// Names that versions may come from.
#[derive(Debug, Default)]
pub(super) struct OpenSources<'a> {
    pub repositories: HashSet<&'a str>,
    pub connections: HashSet<&'a str>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// One reading of the configuration, made alive. A request keeps the one it began with.
pub struct Snapshot {
    /// No two of a process have the same.
    pub number: u64,
    /// Names this Larder in what it asks upstream.
    pub loop_id: LoopId,
    pub config: config::Config,
    pub connections: Vec<Arc<Connection>>,
    repositories: HashMap<String, Arc<Repository>>,
    /// The repository of addresses that name none (npm's at the host's root).
    pub first: Option<Arc<Repository>>,
    /// The package groups of the domain.
    pub groups: Arc<Groups>,
}

impl Snapshot {
    /// Makes connections of what is configured, keeping those that have not changed.
    ///
    /// # Errors
    /// Which connection cannot be made, and why.
    pub fn new(
        config: config::Config,
        registries: &RegistryIds,
        groups: &Arc<Groups>,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let loop_id = before.map_or_else(LoopId::default, |before| before.loop_id.clone());
        let mut connections = Vec::with_capacity(config.connections.len());
        for one in &config.connections {
            let registry = registries.of(&one.name);
            let kept = before.and_then(|before| {
                before.connections.iter().find(|old| {
                    before.config.fetch == config.fetch && old.is_of(one, registry, config.offline)
                })
            });
            connections.push(match kept {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(
                    Connection::new(one, registry, &config, metrics, &loop_id)
                        .map_err(|why| format!("connection `{}`: {why}", one.name))?,
                ),
            });
        }
        let named = |name: &str| connections.iter().find(|it| it.name == name).cloned();
        let of = |sources: &[config::SourceSetting]| {
            sources
                .iter()
                .filter_map(|source| match source {
                    config::SourceSetting::Own(name) => Some(Source::Own(name.as_str().into())),
                    config::SourceSetting::Connection(name) => named(name).map(Source::Connection),
                })
                .collect()
        };
        let all: Vec<Arc<Repository>> = config
            .repositories
            .iter()
            .map(|repository| {
                Arc::new(Repository {
                    name: repository.name.clone(),
                    sources: of(&repository.sources),
                    publish: match &repository.publish {
                        config::PublishSetting::Deny => Publish::Deny,
                        config::PublishSetting::Local => Publish::Local,
                        config::PublishSetting::Forward(names) => Publish::Forward {
                            to: names.iter().filter_map(|name| named(name)).collect(),
                            spool: repository.spool,
                        },
                    },
                })
            })
            .collect();
        Ok(Self {
            loop_id,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            first: all.first().cloned(),
            repositories: all
                .into_iter()
                .map(|repository| (repository.name.clone(), repository))
                .collect(),
            connections,
            config,
            groups: Arc::clone(groups),
        })
    }

    /// The sources from which a package group lets versions of a package come into the repository:
    /// the names of repositories, its own among them, and of connections.
    pub(super) fn open_sources(
        &self,
        repository: &str,
        entrance: &Entrance<'_>,
    ) -> OpenSources<'_> {
        let mut open = OpenSources::default();
        let mut waiting = vec![repository];
        while let Some(name) = waiting.pop() {
            let all = &self.config.repositories;
            let Some(written) = all.iter().find(|it| it.name == name) else {
                continue;
            };
            if !open.repositories.insert(written.name.as_str()) {
                continue;
            }
            if entrance.admits(WayIn::ExternalUpstream, &written.name) {
                let external = written.external.iter();
                open.connections.extend(external.map(String::as_str));
            }
            if entrance.admits(WayIn::InternalUpstream, &written.name) {
                waiting.extend(written.upstreams.iter().map(String::as_str));
            }
        }
        open
    }

    /// The formats of all registries, by their ids.
    #[must_use]
    pub fn formats(&self) -> HashMap<String, Format> {
        let connections = self.connections.iter();
        connections
            .map(|it| (it.registry.clone(), it.format))
            .collect()
    }

    /// The registry of a connection; the name itself where there is no such connection.
    pub(super) fn registry_of<'a>(&'a self, connection: &'a str) -> &'a str {
        let mut connections = self.connections.iter();
        let found = connections.find(|it| it.name == connection);
        found.map_or(connection, |it| it.registry.as_str())
    }

    /// The name of a registry's connection; the id itself where none draws on it.
    pub(super) fn connection_of<'a>(&'a self, registry: &'a str) -> &'a str {
        let mut connections = self.connections.iter();
        let found = connections.find(|it| it.registry == registry);
        found.map_or(registry, |it| it.name.as_str())
    }

    /// The names of all repositories.
    #[must_use]
    pub fn repository_names(&self) -> Vec<String> {
        self.repositories.keys().cloned().collect()
    }

    /// All repositories.
    pub fn repositories(&self) -> impl Iterator<Item = &Arc<Repository>> {
        self.repositories.values()
    }

    /// # Errors
    /// Where there is no such repository.
    pub fn repository(&self, name: &str) -> Result<&Arc<Repository>, Problem> {
        self.repositories.get(name).ok_or_else(|| {
            let mut names: Vec<&str> = self.repositories.keys().map(String::as_str).collect();
            names.sort_unstable();
            let name: String = name.chars().take(100).collect();
            Problem::not_found(Decider::Larder, format!("there is no repository `{name}`"))
                .advice(format!("the repositories are: {}", names.join(", ")))
        })
    }
}
