//! What repositories have, in more detail than a list shows.

use std::collections::HashMap;
use std::sync::Arc;

use super::publish::Publisher;
use super::{Registry, Repository};
use crate::package::{Dependency, PackageId};
use crate::problem::Problem;
use crate::rule::Restrictions;
use crate::store::packages::DomainFacts;

fn failed(error: sqlx::Error) -> Problem {
    Problem::internal("the package catalog cannot be read", error)
}

/// What a version of our own says of itself, beside its files.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// What documents say of it, as JSON; empty for versions from outside.
    pub manifest: String,
    pub readme: Option<String>,
    pub dependencies: Vec<Dependency>,
}

impl Publisher {
    /// The domain in numbers.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn domain_facts(&self) -> Result<DomainFacts, Problem> {
        let facts = self.store().packages().domain_facts().await;
        facts.map_err(failed)
    }

    /// When each repository was first seen, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, Problem> {
        self.store().packages().created_at().await.map_err(failed)
    }

    /// What the nearest repository that has the version says of it; nothing where none of ours has.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn words_of(
        self: &Arc<Self>,
        repository: &Repository,
        package: &PackageId,
        version: &str,
    ) -> Result<Words, Problem> {
        let packages = self.store().packages();
        for name in repository.own_names() {
            let manifest = packages.manifest(name, package, version).await;
            let Some(manifest) = manifest.map_err(failed)? else {
                continue;
            };
            let readme = packages.readme(name, package, version).await;
            let dependencies = packages.dependencies(name, package, version).await;
            return Ok(Words {
                manifest,
                readme: readme.map_err(failed)?,
                dependencies: dependencies.map_err(failed)?,
            });
        }
        Ok(Words::default())
    }

    /// Says what holds of a package's origins where no setting names it.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub async fn restrict(
        &self,
        repository: &str,
        package: &PackageId,
        said: Restrictions,
    ) -> Result<(), Problem> {
        let done = self
            .store()
            .packages()
            .restrict(repository, package, said)
            .await;
        self.reader.own.changed(repository, package).await;
        done.map_err(|error| Problem::internal("the package catalog cannot be written", error))
    }

    /// Takes a repository that was made by the API away, with all that it has of its own.
    ///
    /// # Errors
    /// Where there is none, or another draws on it.
    pub async fn delete_repository(&self, registry: &Registry, name: &str) -> Result<(), Problem> {
        let freed = registry.delete(name).await?;
        self.reader.own.forget(name).await;
        self.let_go(&freed).await;
        Ok(())
    }

    /// The tags of a resource, by ARN.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn resource_tags(&self, resource: &str) -> Result<Vec<(String, String)>, Problem> {
        let tags = self.store().packages().resource_tags(resource).await;
        tags.map_err(failed)
    }

    /// Sets tags of a resource and takes others away.
    ///
    /// # Errors
    /// Where the catalog cannot be written.
    pub async fn set_resource_tags(
        &self,
        resource: &str,
        set: &[(String, String)],
        taken: &[String],
    ) -> Result<(), Problem> {
        let packages = self.store().packages();
        let done = packages.set_resource_tags(resource, set, taken).await;
        done.map_err(|error| Problem::internal("the package catalog cannot be written", error))
    }
}
