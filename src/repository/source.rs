//! Which connections a repository draws on, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use url::Url;

use super::Reader;
use crate::config;
use crate::connection::Connection;
use crate::fetch::{Document, Freshen, Sought};
use crate::format::Resource;
use crate::package::{Format, Location};
use crate::problem::{Decider, Kind, Problem};
use crate::telemetry::Metrics;

/// A repository with its connections.
pub struct Repository {
    pub name: String,
    pub connections: Vec<Arc<Connection>>,
}

impl Repository {
    /// Its connections of one format, the nearest first.
    ///
    /// # Errors
    /// Where there is none, with the way to have one.
    pub fn sources(&self, format: Format) -> Result<Vec<Arc<Connection>>, Problem> {
        let sources: Vec<_> = self
            .connections
            .iter()
            .filter(|connection| connection.format == format)
            .cloned()
            .collect();
        if sources.is_empty() {
            return Err(Problem::not_found(
                Decider::Repository(self.name.clone()),
                format!("repository `{}` has no connection of format {format}", self.name),
            )
            .advice(format!(
                "set up this machine's {format} client, or add a [[connection]] with format = \"{format}\" and list it in the repository"
            )));
        }
        Ok(sources)
    }

    /// Whether no other connection of the format is asked before this one.
    #[must_use]
    pub fn asks_first(&self, connection: &Arc<Connection>) -> bool {
        let first = self
            .connections
            .iter()
            .find(|one| one.format == connection.format);
        first.is_some_and(|first| Arc::ptr_eq(first, connection))
    }

    /// What the nearest source that has it gives.
    ///
    /// # Errors
    /// Where no source has it, or a nearer one is away or says no: a farther one's packages never
    /// take the place of a nearer one's.
    pub(super) async fn nearest<'a, T>(
        &self,
        format: Format,
        ask: impl Fn(Arc<Connection>) -> BoxFuture<'a, Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut absent = None;
        for connection in self.sources(format)? {
            match ask(connection).await {
                Err(problem) if problem.kind == Kind::NotFound => {
                    absent = absent.or(Some(problem));
                }
                result => return result,
            }
        }
        Err(absent
            .unwrap_or_else(|| Problem::internal("no source", "a repository without connections")))
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// One reading of the configuration, made alive. A request keeps the one it began with.
pub struct Snapshot {
    /// No two of a process have the same.
    pub number: u64,
    pub config: config::Config,
    pub connections: Vec<Arc<Connection>>,
    repositories: HashMap<String, Arc<Repository>>,
    /// The repository of addresses that name none (npm's at the host's root).
    pub first: Option<Arc<Repository>>,
}

impl Snapshot {
    /// Makes connections of what is configured, keeping those that have not changed.
    ///
    /// # Errors
    /// Which connection cannot be made, and why.
    pub fn new(
        config: config::Config,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let mut connections = Vec::with_capacity(config.connections.len());
        for one in &config.connections {
            let kept = before.and_then(|before| {
                before.connections.iter().find(|old| {
                    before.config.fetch == config.fetch && old.is_of(one, config.offline)
                })
            });
            connections.push(match kept {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(
                    Connection::new(one, &config, metrics)
                        .map_err(|why| format!("connection `{}`: {why}", one.name))?,
                ),
            });
        }
        let of = |names: &[String]| {
            names
                .iter()
                .filter_map(|name| {
                    connections
                        .iter()
                        .find(|connection| connection.name == *name)
                })
                .cloned()
                .collect()
        };
        let all: Vec<Arc<Repository>> = config
            .repositories
            .iter()
            .map(|repository| {
                Arc::new(Repository {
                    name: repository.name.clone(),
                    connections: of(&repository.connections),
                })
            })
            .collect();
        Ok(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            first: all.first().cloned(),
            repositories: all
                .into_iter()
                .map(|repository| (repository.name.clone(), repository))
                .collect(),
            connections,
            config,
        })
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

impl Reader {
    /// The address of a resource at its connection.
    pub(super) async fn locate(
        &self,
        connection: &Arc<Connection>,
        location: &Location,
    ) -> Result<Url, Problem> {
        let nowhere = |what: &str| {
            Problem::not_found(
                Decider::Connection(connection.name.clone()),
                format!("connection `{}` has no {what}", connection.name),
            )
        };
        match location {
            Location::Url(url) => Ok(url.clone()),
            Location::Path(path) if path.is_empty() => Ok(connection.url.clone()),
            Location::Path(path) => connection
                .url
                .join(&format!("./{path}"))
                .map_err(|_| nowhere(&format!("address for `{path}`"))),
            Location::Service { types, path } => {
                let directory = self.directory(connection).await?;
                let bytes = match &directory {
                    Some(directory) => directory.bytes(&self.fetcher).await?,
                    None => bytes::Bytes::new(),
                };
                let protocol = connection.format.protocol();
                protocol
                    .locate(&bytes, types, path)
                    .ok_or_else(|| nowhere(types.first().copied().unwrap_or("such service")))
            }
        }
    }

    /// The resource's document, as fresh as asked for; `what` is how a problem calls it.
    pub(super) async fn freshen(
        &self,
        connection: &Arc<Connection>,
        resource: &Resource,
        freshen: Freshen,
        what: &str,
    ) -> Result<Arc<Document>, Problem> {
        let url = self.locate(connection, &resource.location).await?;
        self.fetcher
            .freshen(
                connection,
                Sought {
                    key: &resource.key,
                    url: &url,
                    accept: resource.accept,
                    freshen,
                    promises: Vec::new(),
                    what,
                },
            )
            .await
    }

    /// The document that says where the connection keeps its resources, where its format has one.
    pub(super) async fn directory(
        &self,
        connection: &Arc<Connection>,
    ) -> Result<Option<Arc<Document>>, Problem> {
        let Some(resource) = connection.format.protocol().directory() else {
            return Ok(None);
        };
        self.fetcher
            .freshen(
                connection,
                Sought {
                    key: &resource.key,
                    url: &connection.url,
                    accept: resource.accept,
                    freshen: Freshen::AsCached,
                    promises: Vec::new(),
                    what: "the service index",
                },
            )
            .await
            .map(Some)
    }
}
