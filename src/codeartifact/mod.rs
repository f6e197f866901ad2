//! The AWS CodeArtifact API: its operations as botocore's service model `codeartifact` 2018-09-22
//! has them, answered from Larder's own repositories.

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
pub use error::{Failure, shape};
pub use operation::Operation;

use crate::access::{Permissions, Resource};
use crate::config::Domain;
use crate::package::PackageId;
use crate::repository::{AssetReply, Manager, Publisher, Reader, Registry, Repository, Snapshot};

/// What an operation answers.
pub enum Answer {
    /// JSON.
    Words(Value),
    /// An asset's bytes, with the headers that say which.
    Asset {
        reply: Box<AssetReply>,
        headers: Vec<(&'static str, String)>,
    },
}

/// What operations are answered from, for one request.
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

type Answered = Result<Answer, Failure>;

/// The members that have a value: a member without one is left out, never `null`.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

fn words<const N: usize>(members: [(&str, Value); N]) -> Answer {
    Answer::Words(object(members))
}

/// As the protocol has points in time: seconds since 1970, with milliseconds behind the point.
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
        match operation {
            O::GetAuthorizationToken => self.get_authorization_token(call),
            O::DescribeDomain => self.describe_domain().await,
            O::ListDomains => self.list_domains(call).await,
            O::DescribeRepository => self.describe_repository(call).await,
            O::CreateRepository => self.create_repository(call).await,
            O::UpdateRepository => self.update_repository(call).await,
            O::DeleteRepository => self.delete_repository(call).await,
            O::AssociateExternalConnection => self.associate(operation, call).await,
            O::DisassociateExternalConnection => self.associate(operation, call).await,
            O::PutPackageOriginConfiguration => self.put_package_origin(call).await,
            O::ListRepositories => self.list_repositories(operation, call).await,
            O::ListRepositoriesInDomain => self.list_repositories(operation, call).await,
            O::GetRepositoryEndpoint => self.get_repository_endpoint(call),
            O::GetDomainPermissionsPolicy => self.get_policy(operation, call),
            O::GetRepositoryPermissionsPolicy => self.get_policy(operation, call),
            O::PutDomainPermissionsPolicy => self.put_policy(operation, call).await,
            O::PutRepositoryPermissionsPolicy => self.put_policy(operation, call).await,
            O::DeleteDomainPermissionsPolicy => self.delete_policy(operation, call).await,
            O::DeleteRepositoryPermissionsPolicy => self.delete_policy(operation, call).await,
            O::ListPackages => self.list_packages(call).await,
            O::DescribePackage => self.describe_package(call).await,
            O::DeletePackage => self.delete_package(call).await,
            O::ListPackageVersions => self.list_package_versions(call).await,
            O::DescribePackageVersion => self.describe_package_version(call).await,
            O::ListPackageVersionAssets => self.list_package_version_assets(call).await,
            O::ListPackageVersionDependencies => self.list_package_version_dependencies(call).await,
            O::GetPackageVersionReadme => self.get_package_version_readme(call).await,
            O::GetPackageVersionAsset => self.get_package_version_asset(call).await,
            O::UpdatePackageVersionsStatus => self.update_package_versions_status(call).await,
            O::DisposePackageVersions => self.dispose_package_versions(call).await,
            O::DeletePackageVersions => self.delete_package_versions(call).await,
            O::CopyPackageVersions => self.copy_package_versions(call).await,
            O::ListTagsForResource => self.list_tags(call).await,
            O::TagResource => self.tag_resource(call).await,
            O::UntagResource => self.untag_resource(call).await,
            O::CreatePackageGroup => self.create_package_group(call).await,
            O::DescribePackageGroup => self.describe_package_group(call),
            O::UpdatePackageGroup => self.update_package_group(call).await,
            O::DeletePackageGroup => self.delete_package_group(call).await,
            O::UpdatePackageGroupOriginConfiguration => self.update_group_origin(call).await,
            O::ListPackageGroups => self.list_package_groups(operation, call),
            O::ListSubPackageGroups => self.list_package_groups(operation, call),
            O::ListAssociatedPackages => self.list_associated_packages(call).await,
            O::ListAllowedRepositoriesForGroup => self.list_allowed_repositories(call),
            O::GetAssociatedPackageGroup => self.get_associated_package_group(call),
            other => Err(Failure::not_answered(other)),
        }
    }

    fn domain(&self) -> &Domain {
        &self.snapshot.config.domain
    }

    /// There is one domain; what is said to another is not said to this Larder.
    fn check_domain(&self, call: &Call) -> Result<(), Failure> {
        let domain = self.domain();
        let name = call.required("domain")?;
        let owner = call
            .optional("domain-owner")
            .or_else(|| call.word("domainOwner"));
        if name != domain.name || owner.is_some_and(|owner| owner != domain.owner) {
            return Err(Failure::absent(
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
    fn may_in_repository(&self, operation: Operation, call: &Call) -> Result<(), Failure> {
        let name = call.required("repository")?;
        let resource = Resource::repository(self.domain(), name);
        self.pass.to(operation.action(), &resource)?;
        Ok(())
    }

    /// The repository that the call names, and the package in it, once the caller may do this.
    fn may_to_package(
        &self,
        operation: Operation,
        call: &Call,
    ) -> Result<(&Arc<Repository>, PackageId), Failure> {
        let name = call.required("repository")?;
        let package = call.package()?;
        let resource = Resource::package(self.domain(), name, &package);
        self.pass.to(operation.action(), &resource)?;
        Ok((self.repository(name)?, package))
    }

    fn repository(&self, name: &str) -> Result<&Arc<Repository>, Failure> {
        repository_in(self.snapshot, name)
    }
}

fn repository_in<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Repository>, Failure> {
    snapshot
        .repository(name)
        .map_err(|problem| Failure::of(problem).about("repository", name))
}
