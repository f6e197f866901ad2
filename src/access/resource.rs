//! Resources and actions of requests, as ARNs and actions of CodeArtifact (its service
//! authorization reference).

use super::action::{Action, DISPOSE, PUBLISH, PUT_METADATA, READ, UPDATE_STATUS};
use super::policy::ResourceReach;
use crate::config::Domain;
use crate::format::{Change, Target};
use crate::package::{Format, PackageId};

/// Something that a policy can be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyResource {
    pub arn: String,
    /// The repository that it is, or lies in.
    pub repository: Option<String>,
    pub reach: ResourceReach,
}

fn prefix(domain: &Domain, kind: &str) -> String {
    format!(
        "arn:aws:codeartifact:{}:{}:{kind}/{}",
        domain.region, domain.owner, domain.name
    )
}

impl PolicyResource {
    #[must_use]
    pub fn domain(domain: &Domain) -> Self {
        Self {
            arn: prefix(domain, "domain"),
            repository: None,
            reach: ResourceReach::One,
        }
    }

    #[must_use]
    pub fn repository(domain: &Domain, name: &str) -> Self {
        Self {
            arn: format!("{}/{name}", prefix(domain, "repository")),
            repository: Some(name.to_owned()),
            reach: ResourceReach::One,
        }
    }

    /// `…:package/DOMAIN/REPOSITORY/FORMAT/NAMESPACE/NAME`; without a namespace that part is empty.
    #[must_use]
    pub fn package(domain: &Domain, repository: &str, package: &PackageId) -> Self {
        Self::named_package(
            domain,
            repository,
            package.format().as_str(),
            package.namespace().unwrap_or_default(),
            package.name(),
        )
    }

    #[must_use]
    pub fn named_package(
        domain: &Domain,
        repository: &str,
        format: &str,
        namespace: &str,
        name: &str,
    ) -> Self {
        Self {
            arn: format!(
                "{}/{repository}/{format}/{namespace}/{name}",
                prefix(domain, "package")
            ),
            repository: Some(repository.to_owned()),
            reach: ResourceReach::One,
        }
    }

    /// Any package of a format that has no namespaces.
    #[must_use]
    pub fn any_package(domain: &Domain, repository: &str, format: Format) -> Self {
        Self {
            reach: ResourceReach::AnyBelow,
            ..Self::named_package(domain, repository, format.as_str(), "", "")
        }
    }

    /// `…:package-group/DOMAIN/FORMAT/NAMESPACE/NAME$`, with the pattern as it is.
    #[must_use]
    pub fn package_group(domain: &Domain, pattern: &str) -> Self {
        Self {
            arn: format!("{}{pattern}", prefix(domain, "package-group")),
            repository: None,
            reach: ResourceReach::One,
        }
    }
}

/// The action of a client's request. All ways of reading a repository are one action; each way of
/// changing it has its own.
#[must_use]
pub fn action_of(target: &Target) -> Action {
    match target {
        Target::Change(change) => match change {
            // npm sends deprecations and publishes to one address: which of them it is shows in
            // the body, and both are publishing.
            Change::Document(_)
            | Change::Form
            | Change::File(_)
            | Change::Checksum(..)
            | Change::Finish(_)
            | Change::FinishChecksum(..) => PUBLISH,
            Change::Tag { .. } | Change::Untag { .. } => PUT_METADATA,
            Change::Status { .. } => UPDATE_STATUS,
            Change::Revision { .. } | Change::RemovePackage { .. } | Change::RemoveAsset(_) => {
                DISPOSE
            }
        },
        _ => READ,
    }
}
