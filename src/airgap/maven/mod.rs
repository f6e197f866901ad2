//! Finds all that a Maven build needs: parents, BOMs, dependencies, plugins, and all that those
//! need. Nothing is read here: what is not in hand is named, and asked for again once it is.

mod closure;
mod model;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use closure::{Closure, Root};

use crate::format::maven::pom::Pom;
use crate::package::{Format, PackageId};
use crate::problem::Problem;

/// Group, artifact, version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gav {
    pub group: String,
    pub artifact: String,
    pub version: String,
}

impl Gav {
    /// The package that the coordinates name.
    ///
    /// # Errors
    /// Where group or artifact is no id.
    pub fn package(&self) -> Result<PackageId, Problem> {
        package(&self.group, &self.artifact)
    }
}

/// The package `group:artifact`: what a pom says is read as what a person writes.
///
/// # Errors
/// Where one of them is no id.
pub fn package(group: &str, artifact: &str) -> Result<PackageId, Problem> {
    Format::Maven
        .protocol()
        .package(&format!("{group}:{artifact}"))
}

impl fmt::Display for Gav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.group, self.artifact, self.version)
    }
}

/// A plugin that Maven runs for a packaging without being told to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Empty: of every packaging.
    pub packaging: String,
    /// `group:artifact:version`.
    pub plugin: String,
}

/// The POMs and version lists that were fetched so far.
#[derive(Default)]
pub struct KnownPoms {
    /// `None`: there is none.
    pub poms: HashMap<Gav, Option<Arc<Pom>>>,
    /// All versions of a group's artifact.
    pub versions: HashMap<(String, String), Vec<String>>,
}

impl KnownPoms {
    /// Puts in a project that is built here.
    pub fn add_project(&mut self, pom: &Arc<Pom>) {
        let gav = model::gav_of(pom);
        self.poms.insert(gav, Some(Arc::clone(pom)));
    }
}

/// The POMs and version lists that have to be fetched to go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    pub poms: BTreeSet<Gav>,
    pub versions: BTreeSet<(String, String)>,
}

impl Lacking {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.poms.is_empty() && self.versions.is_empty()
    }
}
