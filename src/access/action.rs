//! The actions that policies can name: the one list, which the parser of policies, their evaluation,
//! `policy test` and the API's operations share.

use std::fmt;
use std::str::FromStr;

use super::policy::PolicyPattern;
use crate::config::nearest;

macro_rules! actions {
    ($($name:ident)*) => {
        /// An action, as CodeArtifact's service authorization reference names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Action {
            $($name,)*
            /// Belongs to AWS's token service. Policies of CodeArtifact's guide allow it beside
            /// `GetAuthorizationToken`; here it has a say where it is denied.
            GetServiceBearerToken,
        }

        impl Action {
            pub const ALL: &[Self] = &[$(Self::$name,)* Self::GetServiceBearerToken];

            /// The name that policies have for it: `codeartifact:ReadFromRepository`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("codeartifact:", stringify!($name)),)*
                    Self::GetServiceBearerToken => "sts:GetServiceBearerToken",
                }
            }
        }
    };
}

actions! {
    AssociateExternalConnection
    AssociateWithDownstreamRepository
    CopyPackageVersions
    CreateDomain
    CreatePackageGroup
    CreateRepository
    DeleteDomain
    DeleteDomainPermissionsPolicy
    DeletePackage
    DeletePackageGroup
    DeletePackageVersions
    DeleteRepository
    DeleteRepositoryPermissionsPolicy
    DescribeDomain
    DescribePackage
    DescribePackageGroup
    DescribePackageVersion
    DescribeRepository
    DisassociateExternalConnection
    DisposePackageVersions
    GetAssociatedPackageGroup
    GetAuthorizationToken
    GetDomainPermissionsPolicy
    GetPackageVersionAsset
    GetPackageVersionReadme
    GetRepositoryEndpoint
    GetRepositoryPermissionsPolicy
    ListAllowedRepositoriesForGroup
    ListAssociatedPackages
    ListDomains
    ListPackageGroups
    ListPackages
    ListPackageVersionAssets
    ListPackageVersionDependencies
    ListPackageVersions
    ListRepositories
    ListRepositoriesInDomain
    ListSubPackageGroups
    ListTagsForResource
    PublishPackageVersion
    PutDomainPermissionsPolicy
    PutPackageMetadata
    PutPackageOriginConfiguration
    PutRepositoryPermissionsPolicy
    ReadFromRepository
    TagResource
    UntagResource
    UpdatePackageGroup
    UpdatePackageGroupOriginConfiguration
    UpdatePackageVersionsStatus
    UpdateRepository
}

pub const READ: Action = Action::ReadFromRepository;
pub const PUBLISH: Action = Action::PublishPackageVersion;
pub const PUT_METADATA: Action = Action::PutPackageMetadata;
pub const UPDATE_STATUS: Action = Action::UpdatePackageVersionsStatus;
pub const DISPOSE: Action = Action::DisposePackageVersions;
pub const GET_TOKEN: Action = Action::GetAuthorizationToken;

/// A word that names no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no action `{word}`{hint}")]
pub struct NoAction {
    word: String,
    hint: String,
}

impl NoAction {
    #[must_use]
    pub fn new(word: &str) -> Self {
        let all = Action::ALL.iter().map(|action| action.as_str());
        let hint =
            nearest(word, all).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Self {
            word: word.chars().take(100).collect(),
            hint,
        }
    }
}

impl Action {
    /// Whether it reads, writes or deletes a policy.
    #[must_use]
    pub fn is_about_policies(self) -> bool {
        self.as_str().ends_with("PermissionsPolicy")
    }

    /// Whether a policy's word, in which `*` and `?` stand for others, means it. Letters' case does
    /// not matter (IAM user guide, "IAM JSON policy elements: Action").
    #[must_use]
    pub fn is_meant_by(self, word: &str) -> bool {
        PolicyPattern::new(&word.to_ascii_lowercase()).matches(&self.as_str().to_ascii_lowercase())
    }
}

impl FromStr for Action {
    type Err = NoAction;

    /// Reads one action's whole name; the service may be left out where it is CodeArtifact.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let full = if word.contains(':') {
            word.to_owned()
        } else {
            format!("codeartifact:{word}")
        };
        let mut all = Self::ALL.iter().copied();
        all.find(|action| action.as_str().eq_ignore_ascii_case(&full))
            .ok_or_else(|| NoAction::new(&full))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_read_as_it_is_written_and_a_misspelt_one_names_its_neighbour() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        assert_eq!("readfromrepository".parse(), Ok(READ));
        for word in [
            "ReadFromRepo",
            "codeartifact:*",
            "",
            "s3:GetObject",
            "codeartifact:",
        ] {
            assert!(word.parse::<Action>().is_err(), "{word}");
        }
        let said = "ReadFromRepo".parse::<Action>().unwrap_err().to_string();
        assert!(
            said.contains("did you mean `codeartifact:ReadFromRepository`"),
            "{said}"
        );
    }

    #[test]
    fn words_with_wildcards_mean_actions_whole() {
        for (word, is_meant) in [
            ("*", true),
            ("codeartifact:*", true),
            ("CodeArtifact:read*", true),
            ("codeartifact:ReadFromRepositor?", true),
            ("codeartifact:ReadFromRepository?", false),
            ("codeartifact:Read", false),
            ("s3:*", false),
        ] {
            assert_eq!(READ.is_meant_by(word), is_meant, "{word}");
        }
    }
}
