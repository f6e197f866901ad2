//! Answers the AWS CodeArtifact API from Larder's own repositories. The operations are those of
//! botocore's service model `codeartifact` 2018-09-22.

mod call;
mod copy;
mod domain;
mod error;
mod group;
mod operation;
mod package;
mod page;
mod policy;
mod repository;
mod tag;
mod version;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use call::Call;
pub use error::{ApiFailure, shape};
pub use operation::Operation;

use domain::DomainCalls;
use group::GroupCalls;
use package::{PackageCalls, of_package};
use policy::PolicyCalls;
use repository::RepositoryCalls;
use tag::TagCalls;
use version::VersionCalls;

use crate::access::{Permissions, PolicyResource};
use crate::config::Domain;
use crate::package::PackageId;
use crate::repository::manage::{ManageCommand, ManageOutcome, Version};
use crate::repository::{
    AssetReply, BodySender, BodyStream, Manager, Publisher, Reader, Registry, Repository, Snapshot,
};

/// The answer of an operation.
pub enum ApiAnswer {
    /// JSON.
    Words(Value),
    /// An asset's bytes, with the headers that say which.
    Asset {
        reply: Box<AssetReply>,
        headers: Vec<(&'static str, String)>,
    },
}

/// Everything that operations are answered from, for one request.
pub struct Api<'a> {
    pub snapshot: &'a Arc<Snapshot>,
    pub reader: &'a Arc<Reader>,
    pub publisher: &'a Arc<Publisher>,
    pub manager: &'a Arc<Manager>,
    pub registry: &'a Arc<Registry>,
    pub pass: Permissions<'a>,
    /// `https://packages.corp.example`, without a slash at its end.
    pub root: &'a str,
}

type Answered = Result<ApiAnswer, ApiFailure>;

/// The members that have a value: a member without one is left out, never `null`.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn words<const N: usize>(members: [(&str, Value); N]) -> ApiAnswer {
    ApiAnswer::Words(object(members))
}

/// A time as the protocol writes it: seconds since 1970, with milliseconds after the point.
#[allow(
    clippy::cast_precision_loss,
    reason = "exact for the next 280,000 years"
)]
fn time(ms: i64) -> Value {
    (ms as f64 / 1000.0).into()
}

impl Api<'_> {
    /// Answers the operation.
    ///
    /// # Errors
    /// In the model's shapes, by [`shape`].
    pub async fn answer(&self, operation: Operation, call: &Call) -> Answered {
        use Operation as O;
        if !operation.is_about_no_domain() {
            self.check_domain(call)?;
        }
        let domains = DomainCalls { api: self };
        let repositories = RepositoryCalls { api: self };
        let packages = PackageCalls { api: self };
        let versions = VersionCalls { api: self };
        let groups = GroupCalls { api: self };
        let policies = PolicyCalls { api: self };
        let tags = TagCalls { api: self };
        match operation {
            O::GetAuthorizationToken => domains.token(call),
            O::DescribeDomain => domains.describe().await,
            O::ListDomains => domains.list(call).await,
            O::DescribeRepository => repositories.describe(call).await,
            O::CreateRepository => repositories.create(call).await,
            O::UpdateRepository => repositories.update(call).await,
            O::DeleteRepository => repositories.delete(call).await,
            O::AssociateExternalConnection => repositories.associate(operation, call).await,
            O::DisassociateExternalConnection => repositories.associate(operation, call).await,
            O::ListRepositories => repositories.list(operation, call).await,
            O::ListRepositoriesInDomain => repositories.list(operation, call).await,
            O::GetRepositoryEndpoint => repositories.endpoint(call),
            O::GetDomainPermissionsPolicy => policies.get(operation, call),
            O::GetRepositoryPermissionsPolicy => policies.get(operation, call),
            O::PutDomainPermissionsPolicy => policies.put(operation, call).await,
            O::PutRepositoryPermissionsPolicy => policies.put(operation, call).await,
            O::DeleteDomainPermissionsPolicy => policies.delete(operation, call).await,
            O::DeleteRepositoryPermissionsPolicy => policies.delete(operation, call).await,
            O::ListPackages => packages.list(call).await,
            O::DescribePackage => packages.describe(call).await,
            O::DeletePackage => packages.delete(call).await,
            O::PutPackageOriginConfiguration => packages.put_origin(call).await,
            O::ListPackageVersions => versions.list(call).await,
            O::DescribePackageVersion => versions.describe(call).await,
            O::ListPackageVersionAssets => versions.list_assets(call).await,
            O::ListPackageVersionDependencies => versions.list_dependencies(call).await,
            O::GetPackageVersionReadme => versions.readme(call).await,
            O::GetPackageVersionAsset => versions.asset(call).await,
            O::UpdatePackageVersionsStatus => versions.update_status(call).await,
            O::DisposePackageVersions => versions.dispose(call).await,
            O::DeletePackageVersions => versions.delete(call).await,
            O::CopyPackageVersions => versions.copy(call).await,
            O::ListTagsForResource => tags.list(call).await,
            O::TagResource => tags.add(call).await,
            O::UntagResource => tags.remove(call).await,
            O::CreatePackageGroup => groups.create(call).await,
            O::DescribePackageGroup => groups.describe(call),
            O::UpdatePackageGroup => groups.update(call).await,
            O::DeletePackageGroup => groups.delete(call).await,
            O::UpdatePackageGroupOriginConfiguration => groups.update_origin(call).await,
            O::ListPackageGroups => groups.list(operation, call),
            O::ListSubPackageGroups => groups.list(operation, call),
            O::ListAssociatedPackages => groups.list_packages(call).await,
            O::ListAllowedRepositoriesForGroup => groups.list_allowed_repositories(call),
            O::GetAssociatedPackageGroup => groups.of_package(call),
            other => Err(ApiFailure::not_answered(other)),
        }
    }

    /// Takes a file of a generic package's version, whose SHA-256 is said in hexadecimal.
    ///
    /// # Errors
    /// In the model's shapes, by [`shape`].
    pub async fn publish(
        &self,
        call: &Call,
        body: BodyStream,
        sender: BodySender,
        sha256: &str,
    ) -> Answered {
        self.check_domain(call)?;
        let versions = VersionCalls { api: self };
        versions.publish(call, body, sender, sha256).await
    }

    fn domain(&self) -> &Domain {
        &self.snapshot.config.domain
    }

    /// There is one domain; what is said to another is not said to this Larder.
    fn check_domain(&self, call: &Call) -> Result<(), ApiFailure> {
        let domain = self.domain();
        let name = call.required("domain")?;
        let owner = call
            .optional("domain-owner")
            .or_else(|| call.word("domainOwner"));
        if name != domain.name || owner.is_some_and(|owner| owner != domain.owner) {
            return Err(ApiFailure::absent(
                "domain",
                name,
                format!(
                    "there is no domain `{name}` here; this is the domain `{}` of {}",
                    domain.name, domain.owner
                ),
            ));
        }
        Ok(())
    }

    /// Whether the caller may do this to the repository that the call names.
    fn may_in_repository(&self, operation: Operation, call: &Call) -> Result<(), ApiFailure> {
        let name = call.required("repository")?;
        let resource = PolicyResource::repository(self.domain(), name);
        self.pass.to(operation.action(), &resource)?;
        Ok(())
    }

    /// The repository that the call names, and the package in it, once the caller may do this.
    fn may_to_package(
        &self,
        operation: Operation,
        call: &Call,
    ) -> Result<(&Arc<Repository>, PackageId), ApiFailure> {
        let name = call.required("repository")?;
        let package = call.package()?;
        let resource = PolicyResource::package(self.domain(), name, &package);
        self.pass.to(operation.action(), &resource)?;
        Ok((self.repository(name)?, package))
    }

    fn repository(&self, name: &str) -> Result<&Arc<Repository>, ApiFailure> {
        repository_in(self.snapshot, name)
    }

    /// The versions of a package, with their files.
    async fn versions(
        &self,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Vec<Version>, ApiFailure> {
        let command = ManageCommand::Show {
            repository: repository.name.clone(),
            package: package.to_string(),
        };
        match self.manager.execute(self.snapshot, command).await {
            Ok(ManageOutcome::Versions { versions }) => Ok(versions),
            Ok(_) => Ok(Vec::new()),
            Err(problem) => Err(of_package(problem.into(), package)),
        }
    }
}

fn repository_in<'a>(
    snapshot: &'a Snapshot,
    name: &str,
) -> Result<&'a Arc<Repository>, ApiFailure> {
    snapshot
        .repository(name)
        .map_err(|problem| ApiFailure::of(problem).about("repository", name))
}
