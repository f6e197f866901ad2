//! Which versions registries outside have, for what is farther away than they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::evidence::PackageFacts;
use crate::fetch::Stock;
use crate::package::{PackageId, VersionId};

/// Which versions of a package a source outside has.
#[derive(Clone)]
pub(super) enum VersionsOutside {
    Facts(Arc<PackageFacts>),
    /// The versions that the source's documents list (`versions`), and the files that it gave,
    /// whether or not a document lists them (`given`).
    Listed {
        package: PackageId,
        versions: Arc<BTreeSet<VersionId>>,
        given: Arc<Stock>,
    },
}

impl VersionsOutside {
    pub fn has(&self, version: &str) -> bool {
        match self {
            Self::Facts(facts) => facts.facts.version(version).is_some(),
            Self::Listed {
                package,
                versions,
                given,
            } => {
                let id = package.format().protocol().known_version(version);
                versions.contains(&id) || given.has_given(&id)
            }
        }
    }

    /// The versions that documents name.
    pub fn versions(&self) -> Vec<VersionId> {
        match self {
            Self::Facts(facts) => facts.facts.versions().collect(),
            Self::Listed { versions, .. } => versions.iter().cloned().collect(),
        }
    }

    /// Writes what tells these versions apart from others into the name of a rendering.
    pub fn name(&self, name: &mut Vec<u8>) {
        match self {
            Self::Facts(facts) => {
                let documents = facts.documents.iter();
                documents.for_each(|blob| name.extend_from_slice(blob.as_bytes()));
            }
            Self::Listed {
                versions, given, ..
            } => {
                let versions = versions.iter().map(VersionId::as_str);
                for word in versions.chain(given.files()) {
                    name.extend_from_slice(word.as_bytes());
                    name.push(0);
                }
            }
        }
    }
}
