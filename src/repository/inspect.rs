//! Shows a repository's packages in more detail than a list does.

use std::collections::HashMap;
use std::sync::Arc;

use super::change::PackageChange;
use super::manage::Manager;
use super::{Registry, Repository};
use crate::package::{Dependency, PackageId};
use crate::problem::Problem;
use crate::rule::Restrictions;
use crate::store::packages::{DomainFacts, Step};

/// The texts of a version: manifest, readme and dependencies.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The manifest as JSON; empty for versions from outside.
    pub manifest: String,
    pub readme: Option<String>,
    pub dependencies: Vec<Dependency>,
}

impl Manager {
    /// The domain in numbers.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn domain_facts(&self) -> Result<DomainFacts, Problem> {
        Ok(self.packages().domain_facts().await?)
    }

    /// When each repository was first seen, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn created_at(&self) -> Result<HashMap<String, i64>, Problem> {
        Ok(self.packages().repositories().created_at().await?)
    }

    /// Reads the texts from the nearest repository that has the version; empty where none has it.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn words_of(
        &self,
        repository: &Repository,
        package: &PackageId,
        version: &str,
    ) -> Result<Words, Problem> {
        let packages = self.packages();
        for name in repository.own_names() {
            let Some(manifest) = packages.releases().manifest(name, package, version).await? else {
                continue;
            };
            return Ok(Words {
                manifest,
                readme: packages.releases().readme(name, package, version).await?,
                dependencies: packages
                    .releases()
                    .dependencies(name, package, version)
                    .await?,
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
        let change = PackageChange::of(repository, package).step(Step::Restrict(said));
        self.committer.commit(change).await?;
        Ok(())
    }

    /// Takes a repository that was made by the API away, with all that it has of its own.
    ///
    /// # Errors
    /// Where there is none, or another draws on it.
    pub async fn delete_repository(
        &self,
        registry: &Arc<Registry>,
        name: &str,
    ) -> Result<(), Problem> {
        self.committer.delete_repository(registry, name).await
    }

    /// The tags of a resource, by ARN.
    ///
    /// # Errors
    /// Where the catalog cannot be read.
    pub async fn resource_tags(&self, resource: &str) -> Result<Vec<(String, String)>, Problem> {
        Ok(self.packages().tags().of(resource).await?)
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
        let packages = self.packages();
        Ok(packages.tags().change(resource, set, taken).await?)
    }
}
