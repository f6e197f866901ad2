//! The repositories that there are: those of the configuration, and those made by the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tracing::{error, warn};

use super::Snapshot;
use crate::config::{Config, RepositorySettings, is_repository_name};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{Group, Groups, WayIn};
use crate::store::Store;
use crate::store::catalog::RegistryIds;
use crate::store::packages::{Managed, Packages};
use crate::task::Tasks;
use crate::telemetry::Metrics;

/// All repositories, as they are now.
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    store: Arc<Store>,
    packages: Packages,
    metrics: Arc<Metrics>,
    /// The parts that the snapshot is made of. The lock lets one change happen after another.
    parts: Mutex<Parts>,
}

struct Parts {
    /// The configuration file's part, before repositories made by the API are added.
    config: Config,
    /// Where the connections of the configuration are asked.
    registries: RegistryIds,
    managed: Vec<Managed>,
    groups: Arc<Groups>,
    number: i64,
}

impl Registry {
    /// Makes the connections and repositories of the configuration, with those made by the API.
    ///
    /// # Errors
    /// Where a connection cannot be made, or the catalog fails.
    pub async fn open(
        config: Config,
        store: &Arc<Store>,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, Problem> {
        let packages = store.packages();
        let registries = registries_of(store, &config).await?;
        let managed = packages.repositories().managed().await?;
        let number = packages.repositories().number().await?;
        let groups = Arc::new(packages.groups().all().await?);
        let whole = with_managed(&config, &managed);
        let snapshot =
            Snapshot::new(whole, &registries, &groups, None, metrics).map_err(Problem::invalid)?;
        packages.events().tell(&snapshot.config);
        let registry = Arc::new(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            packages: packages.clone(),
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            parts: Mutex::new(Parts {
                config,
                registries,
                managed,
                groups,
                number,
            }),
        });
        registry.register().await?;
        Ok(registry)
    }

    /// Takes up changes whose answer the database did not give any more.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let registry = Arc::clone(self);
        let look = move || {
            let registry = Arc::clone(&registry);
            async move { registry.reread().await }
        };
        let what = "repositories and groups";
        self.packages.look_after_outages(what, tasks, look);
    }

    async fn reread(&self) -> Result<(), Problem> {
        let number = self.packages.repositories().number().await?;
        let mut parts = self.parts.lock().await;
        if number == parts.number {
            return Ok(());
        }
        parts.managed = self.packages.repositories().managed().await?;
        parts.groups = Arc::new(self.packages.groups().all().await?);
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
        let registries = registries_of(&self.store, &config).await?;
        let before = std::mem::replace(&mut parts.config, config);
        let registries_before = std::mem::replace(&mut parts.registries, registries);
        if let Err(problem) = self.compose(&parts) {
            parts.config = before;
            parts.registries = registries_before;
            return Err(problem);
        }
        drop(parts);
        self.register().await
    }

    fn compose(&self, parts: &Parts) -> Result<(), Problem> {
        let before = self.snapshot();
        let whole = with_managed(&parts.config, &parts.managed);
        let snapshot = Snapshot::new(
            whole,
            &parts.registries,
            &parts.groups,
            Some(&before),
            &self.metrics,
        )
        .map_err(Problem::invalid)?;
        self.packages.events().tell(&snapshot.config);
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    async fn register(&self) -> Result<(), Problem> {
        let names = self.snapshot().repository_names();
        Ok(self.packages.repositories().register(&names).await?)
    }

    /// The settings of a repository that was made by the API; `None` for others.
    pub async fn managed(&self, name: &str) -> Option<Managed> {
        let parts = self.parts.lock().await;
        parts.managed.iter().find(|it| it.name == name).cloned()
    }

    /// Makes a repository with these tags.
    ///
    /// # Errors
    /// Where there is one of that name, or what it draws on is not there.
    pub async fn create(&self, new: Managed, tags: &[(String, String)]) -> Result<(), Problem> {
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
        self.put(&mut parts, new, tags).await?;
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
        self.put(&mut parts, changed, &[]).await
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

    async fn put(
        &self,
        parts: &mut Parts,
        one: Managed,
        tags: &[(String, String)],
    ) -> Result<(), Problem> {
        let mut managed = parts.managed.clone();
        managed.retain(|it| it.name != one.name);
        managed.push(one.clone());
        check(&parts.config, &managed)?;
        self.packages.repositories().put(&one, tags).await?;
        parts.managed = managed;
        self.compose(parts)
    }

    /// Makes a package group with these tags.
    ///
    /// # Errors
    /// Where there is one of that pattern.
    pub async fn create_group(
        &self,
        group: Group,
        tags: &[(String, String)],
    ) -> Result<(), Problem> {
        let mut parts = self.parts.lock().await;
        let pattern = group.pattern.as_str();
        if parts.groups.get(pattern).is_some() {
            return Err(conflict(format!("there is a package group `{pattern}`")));
        }
        self.put_group(&mut parts, group, tags, "Created").await
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
        self.put_group(&mut parts, group, &[], "Updated").await?;
        Ok(done)
    }

    async fn put_group(
        &self,
        parts: &mut Parts,
        group: Group,
        tags: &[(String, String)],
        operation: &str,
    ) -> Result<(), Problem> {
        self.packages.groups().put(&group, tags, operation).await?;
        parts.groups = Arc::new(with_groups(&parts.groups, vec![group]));
        self.compose(parts)
    }

    /// Takes a package group away, with its tags; those below it are then below the one above it.
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
        self.packages.groups().delete(pattern).await?;
        let others = parts.groups.iter();
        let others = others.filter(|it| it.pattern.as_str() != pattern);
        parts.groups = Arc::new(Groups::new(others.cloned().collect()));
        self.compose(&parts)
    }

    /// Takes a repository that was made by the API away, with all that it has of its own, its policy
    /// and its tags, and out of the lists of package groups. Gives the blobs that nobody may need any
    /// more.
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
        let groups = without_repository(&parts.groups, name);
        let freed = self.packages.repositories().delete(name, &groups).await?;
        parts.managed.retain(|it| it.name != name);
        parts.groups = Arc::new(with_groups(&parts.groups, groups));
        self.compose(&parts)?;
        Ok(freed)
    }
}

/// The registries that the configuration's connections are about.
async fn registries_of(store: &Store, config: &Config) -> Result<RegistryIds, Problem> {
    let registries = store.catalog().registries();
    Ok(registries.of(&config.connections, config.offline).await?)
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

/// The groups, with these in the place of those of their patterns.
fn with_groups(groups: &Groups, new: Vec<Group>) -> Groups {
    let is_replaced = |old: &&Group| !new.iter().any(|it| it.pattern == old.pattern);
    let kept: Vec<Group> = groups.iter().filter(is_replaced).cloned().collect();
    Groups::new(kept.into_iter().chain(new).collect())
}

/// The groups that let packages into the repository by its name, as they are without it: another of
/// the name must not inherit that.
fn without_repository(groups: &Groups, name: &str) -> Vec<Group> {
    let without = |group: &Group| {
        let mut group = group.clone();
        let mut is_named = false;
        for entry in WayIn::ALL {
            is_named |= group.settings.of_mut(entry).repositories.remove(name);
        }
        is_named.then_some(group)
    };
    groups.iter().filter_map(without).collect()
}

fn conflict(message: String) -> Problem {
    Problem::new(Kind::Conflict, Decider::Larder, message)
}

/// The settings of a repository made by the API, as if the configuration had named it.
fn written(one: &Managed) -> RepositorySettings {
    RepositorySettings::made(&one.name, &one.upstreams, &one.connections)
}

/// The configuration with all repositories. Where one made by the API cannot be any more, because
/// of what the configuration says since, all of those stay away until it can.
fn with_managed(config: &Config, managed: &[Managed]) -> Config {
    let new = managed.iter().filter(|one| {
        let is_shadowed = config.repositories.iter().any(|it| it.name == one.name);
        if is_shadowed {
            warn!(repository = one.name, "A repository made by the API has the name of a repository in the configuration; the configuration's is in force");
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
                "Reading the repositories made by the API failed; only those of the configuration are served"
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

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM};
    use super::*;
    use crate::rule::{Mode, Settings};

    fn tags() -> Vec<(String, String)> {
        vec![("team".to_owned(), "build".to_owned())]
    }

    fn group(pattern: &str, repository: &str) -> Group {
        let mut settings = Settings::default();
        let setting = settings.of_mut(WayIn::Publish);
        setting.mode = Mode::AllowSpecificRepositories;
        setting.repositories.insert(repository.to_owned());
        Group {
            pattern: pattern.parse().unwrap(),
            contact: String::new(),
            description: String::new(),
            created_at: 0,
            settings,
        }
    }

    fn made() -> Managed {
        Managed {
            name: "made".to_owned(),
            ..Managed::default()
        }
    }

    #[tokio::test]
    async fn a_repository_takes_policy_tags_and_its_place_in_groups_along() {
        let fixture = Fixture::open(TEAM).await;
        let (registry, packages) = (&fixture.registry, fixture.store.packages());
        let domain = &fixture.snapshot().config.domain;
        let of_domain = |kind: &str, name: &str| {
            let (region, owner, domain) = (&domain.region, &domain.owner, &domain.name);
            format!("arn:aws:codeartifact:{region}:{owner}:{kind}/{domain}{name}")
        };
        let (arn, group_arn) = (
            of_domain("repository", "/made"),
            of_domain("package-group", "/npm/acme/*"),
        );
        registry.create(made(), &tags()).await.unwrap();
        let new = group("/npm/acme/*", "made");
        registry.create_group(new, &tags()).await.unwrap();
        packages
            .access()
            .set_policy(&arn, Some("{}"), None)
            .await
            .unwrap();
        assert_eq!(packages.tags().of(&arn).await.unwrap(), tags());
        assert_eq!(packages.tags().of(&group_arn).await.unwrap(), tags());
        let before = packages.access().number().await.unwrap();

        registry.delete("made").await.unwrap();
        assert!(packages.tags().of(&arn).await.unwrap().is_empty());
        assert!(packages.access().read().await.unwrap().policies.is_empty());
        assert!(packages.access().number().await.unwrap() > before);
        for groups in [
            packages.groups().all().await.unwrap(),
            Groups::clone(&fixture.snapshot().groups),
        ] {
            let group = groups.get("/npm/acme/*").unwrap();
            assert!(group.settings.of(WayIn::Publish).repositories.is_empty());
        }
        // Another of the name begins with nothing.
        registry.create(made(), &[]).await.unwrap();
        assert!(packages.tags().of(&arn).await.unwrap().is_empty());

        registry.delete_group("/npm/acme/*").await.unwrap();
        assert!(packages.tags().of(&group_arn).await.unwrap().is_empty());
    }
}
