//! The repositories that there are: those of the configuration, and those made by the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::{error, warn};

use super::Snapshot;
use crate::config::{Config, Repository as Written, is_repository_name};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{Group, Groups};
use crate::store::packages::{Managed, Packages};
use crate::task::Tasks;
use crate::telemetry::Metrics;

/// All repositories, as they are now.
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    packages: Packages,
    metrics: Arc<Metrics>,
    /// What the snapshot is made of; changes come one after another.
    parts: Mutex<Parts>,
}

struct Parts {
    /// As it was read.
    config: Config,
    managed: Vec<Managed>,
    groups: Arc<Groups>,
    number: i64,
}

fn unreadable(error: sqlx::Error) -> Problem {
    Problem::internal("the repositories cannot be read", error)
}

fn unwritable(error: crate::store::packages::Error) -> Problem {
    Problem::internal("the repositories cannot be written", error)
}

impl Registry {
    /// Makes the connections and repositories of the configuration, with those made by the API.
    ///
    /// # Errors
    /// Where a connection cannot be made, or the catalog fails.
    pub async fn open(
        config: Config,
        packages: &Packages,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, Problem> {
        let managed = packages.managed().await.map_err(unreadable)?;
        let number = packages.repositories_number().await.map_err(unreadable)?;
        let groups = Arc::new(packages.groups().await.map_err(unreadable)?);
        let whole = with_managed(&config, &managed);
        let snapshot = Snapshot::new(whole, &groups, None, metrics).map_err(Problem::invalid)?;
        packages.tell(&snapshot.config);
        let registry = Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            packages: packages.clone(),
            metrics: Arc::clone(metrics),
            parts: Mutex::new(Parts {
                config,
                managed,
                groups,
                number,
            }),
        });
        registry.register().await?;
        Ok(registry)
    }

    /// Takes up what other processes change.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        if !self.packages.is_shared() {
            return;
        }
        let registry = Arc::clone(self);
        tasks.spawn_until_stop(async move {
            loop {
                let every = registry.snapshot().config.access.refresh;
                tokio::time::sleep(every).await;
                if let Err(problem) = registry.reread().await {
                    warn!(%problem, "The repositories are as they were");
                }
            }
        });
    }

    async fn reread(&self) -> Result<(), Problem> {
        let number = self.packages.repositories_number().await;
        let number = number.map_err(unreadable)?;
        let mut parts = self.parts.lock().await;
        if number == parts.number {
            return Ok(());
        }
        parts.managed = self.packages.managed().await.map_err(unreadable)?;
        parts.groups = Arc::new(self.packages.groups().await.map_err(unreadable)?);
        parts.number = number;
        self.compose(&parts)
    }

    /// The configuration in force; a request keeps the one it began with.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Which configuration is in force.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.snapshot.load().number
    }

    /// Puts a new configuration in force.
    ///
    /// # Errors
    /// Why the old one stays in force.
    pub async fn reload(&self, config: Config) -> Result<(), Problem> {
        let mut parts = self.parts.lock().await;
        let before = std::mem::replace(&mut parts.config, config);
        if let Err(problem) = self.compose(&parts) {
            parts.config = before;
            return Err(problem);
        }
        drop(parts);
        self.register().await
    }

    fn compose(&self, parts: &Parts) -> Result<(), Problem> {
        let before = self.snapshot();
        let whole = with_managed(&parts.config, &parts.managed);
        let snapshot = Snapshot::new(whole, &parts.groups, Some(&before), &self.metrics)
            .map_err(Problem::invalid)?;
        self.packages.tell(&snapshot.config);
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    async fn register(&self) -> Result<(), Problem> {
        let names = self.snapshot().repository_names();
        self.packages.register(&names).await.map_err(unwritable)
    }

    /// What was said of the repository where it was made by the API.
    pub async fn managed(&self, name: &str) -> Option<Managed> {
        let parts = self.parts.lock().await;
        parts.managed.iter().find(|it| it.name == name).cloned()
    }

    /// Makes a repository.
    ///
    /// # Errors
    /// Where there is one of that name, or what it draws on is not there.
    pub async fn create(&self, new: Managed) -> Result<(), Problem> {
        if !is_repository_name(&new.name) {
            return Err(Problem::invalid(format!(
                "`{}` is no repository name: lower-case letters, digits, `-`, `_` and `.`, a letter or digit first",
                new.name
            )));
        }
        let mut parts = self.parts.lock().await;
        if self.snapshot().repository(&new.name).is_ok() {
            return Err(conflict(format!("there is a repository `{}`", new.name)));
        }
        self.put(&mut parts, new).await?;
        drop(parts);
        self.register().await
    }

    /// Changes a repository that was made by the API.
    ///
    /// # Errors
    /// Where there is none, or what it draws on then is not there or leads in a circle.
    pub async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Managed) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut parts = self.parts.lock().await;
        let mut changed = self.one(&parts, name)?;
        change(&mut changed)?;
        self.put(&mut parts, changed).await
    }

    fn one(&self, parts: &Parts, name: &str) -> Result<Managed, Problem> {
        let found = parts.managed.iter().find(|it| it.name == name);
        if let Some(found) = found {
            return Ok(found.clone());
        }
        self.snapshot().repository(name)?;
        Err(
            Problem::invalid(format!("`{name}` is a repository of the configuration"))
                .advice("change it there; SIGHUP reads it again"),
        )
    }

    async fn put(&self, parts: &mut Parts, one: Managed) -> Result<(), Problem> {
        let mut managed = parts.managed.clone();
        managed.retain(|it| it.name != one.name);
        managed.push(one.clone());
        check(&parts.config, &managed)?;
        self.packages.put_managed(&one).await.map_err(unwritable)?;
        parts.managed = managed;
        self.compose(parts)
    }

    /// Makes a package group.
    ///
    /// # Errors
    /// Where there is one of that pattern.
    pub async fn create_group(&self, group: Group) -> Result<(), Problem> {
        let mut parts = self.parts.lock().await;
        let pattern = group.pattern.as_str();
        if parts.groups.get(pattern).is_some() {
            return Err(conflict(format!("there is a package group `{pattern}`")));
        }
        self.put_group(&mut parts, group, "Created").await
    }

    /// Changes a package group; gives it as it is then.
    ///
    /// # Errors
    /// Where there is none, or what the change says.
    pub async fn change_group<T>(
        &self,
        pattern: &str,
        change: impl FnOnce(&mut Group) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut parts = self.parts.lock().await;
        let mut group = group_of(&parts.groups, pattern)?.clone();
        let done = change(&mut group)?;
        self.put_group(&mut parts, group, "Updated").await?;
        Ok(done)
    }

    async fn put_group(
        &self,
        parts: &mut Parts,
        group: Group,
        operation: &str,
    ) -> Result<(), Problem> {
        let put = self.packages.put_group(&group, operation).await;
        put.map_err(unwritable)?;
        let others = parts.groups.iter();
        let mut all: Vec<Group> = others
            .filter(|it| it.pattern != group.pattern)
            .cloned()
            .collect();
        all.push(group);
        parts.groups = Arc::new(Groups::new(all));
        self.compose(parts)
    }

    /// Takes a package group away; those below it are then below the one above it.
    ///
    /// # Errors
    /// Where there is none, or it is the one above all.
    pub async fn delete_group(&self, pattern: &str) -> Result<(), Problem> {
        let mut parts = self.parts.lock().await;
        if group_of(&parts.groups, pattern)?.is_root() {
            return Err(Problem::invalid(
                "the package group `/*` has all packages and stays",
            ));
        }
        let dropped = self.packages.drop_group(pattern).await;
        dropped.map_err(unwritable)?;
        let others = parts.groups.iter();
        let others = others.filter(|it| it.pattern.as_str() != pattern);
        parts.groups = Arc::new(Groups::new(others.cloned().collect()));
        self.compose(&parts)
    }

    /// Takes a repository that was made by the API away, with all that it has of its own; gives the
    /// blobs that nobody may need any more.
    ///
    /// # Errors
    /// Where there is none, or another draws on it.
    pub(super) async fn delete(&self, name: &str) -> Result<Vec<crate::package::BlobId>, Problem> {
        let mut parts = self.parts.lock().await;
        self.one(&parts, name)?;
        let snapshot = self.snapshot();
        let mut others = snapshot.config.repositories.iter();
        if let Some(other) = others.find(|it| it.upstreams.iter().any(|one| one == name)) {
            return Err(conflict(format!(
                "`{name}` is an upstream of `{}`",
                other.name
            )));
        }
        let freed = self.packages.drop_managed(name).await.map_err(unwritable)?;
        parts.managed.retain(|it| it.name != name);
        self.compose(&parts)?;
        Ok(freed)
    }
}

/// The group of a pattern.
///
/// # Errors
/// Where there is none.
pub fn group_of<'a>(groups: &'a Groups, pattern: &str) -> Result<&'a Group, Problem> {
    groups.get(pattern).ok_or_else(|| {
        let pattern: String = pattern.chars().take(100).collect();
        Problem::not_found(
            Decider::Larder,
            format!("there is no package group `{pattern}`"),
        )
    })
}

fn conflict(message: String) -> Problem {
    Problem::new(Kind::Conflict, Decider::Larder, message)
}

/// What a repository made by the API is among those of the configuration.
fn written(one: &Managed) -> Written {
    Written::made(&one.name, &one.upstreams, &one.connections)
}

/// The configuration with all repositories. Where one made by the API cannot be any more, because
/// of what the configuration says since, all of those stay away until it can.
fn with_managed(config: &Config, managed: &[Managed]) -> Config {
    let new = managed.iter().filter(|one| {
        let is_shadowed = config.repositories.iter().any(|it| it.name == one.name);
        if is_shadowed {
            warn!(repository = one.name, "The configuration has a repository of the name of one that was made by the API, and takes its place");
        }
        !is_shadowed
    });
    let mut all = config.repositories.clone();
    all.extend(new.map(written));
    let mut whole = config.clone();
    match crate::config::resolved(all, &config.connections) {
        Ok(all) => whole.repositories = all,
        Err(why) => {
            error!(
                why = why.join("; "),
                "The repositories that were made by the API stay away"
            );
        }
    }
    whole
}

fn check(config: &Config, managed: &[Managed]) -> Result<(), Problem> {
    let mut all = config.repositories.clone();
    all.extend(managed.iter().map(written));
    crate::config::resolved(all, &config.connections)
        .map(drop)
        .map_err(|why| Problem::invalid(why.join("; ")))
}
