//! Resolving a Maven project against a repository: what its closure lacks is fetched until it lacks
//! nothing.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::debug;

use super::maven::{self, Binding, Closure, Gav, KnownPoms, Root};
use super::want::Want;
use crate::format::maven::pom::Pom;
use crate::package::AssetId;
use crate::problem::Problem;
use crate::repository::{Reader, Repository, Snapshot};

/// Poms that are fetched at once.
const POMS_AT_ONCE: usize = 16;
/// A closure whose poms lead further than this is none.
const ROUNDS_MAX: usize = 200;

/// Resolves everything that the projects and artifacts need, and what that needs in turn.
///
/// # Errors
/// Where a pom cannot be read, or it does not end.
pub async fn resolve(
    reader: &Arc<Reader>,
    snapshot: &Arc<Snapshot>,
    repository: &Repository,
    poms: &[String],
    artifacts: &[String],
    bindings: &[Binding],
) -> Result<Vec<Want>, Problem> {
    let mut roots = Vec::new();
    for pom in poms {
        let pom = Pom::read(pom.as_bytes())
            .map_err(|error| Problem::invalid(format!("the pom cannot be read: {error}")))?;
        roots.push(Root::Project(Arc::new(pom)));
    }
    for text in artifacts {
        roots.push(Root::Artifact(gav(text)?));
    }
    let mut known = KnownPoms::default();
    // Parents and modules of one build are at hand.
    for root in &roots {
        if let Root::Project(pom) = root {
            known.add_project(pom);
        }
    }
    for _ in 0..ROUNDS_MAX {
        let closure = Closure::of(&roots, bindings, &known);
        if closure.lacking.is_empty() {
            return Ok(closure.wants());
        }
        let asked = stream::iter(closure.lacking.poms).map(|gav| async move {
            let pom = pom(reader, snapshot, repository, &gav).await;
            (gav, pom)
        });
        let found: Vec<_> = asked.buffer_unordered(POMS_AT_ONCE).collect().await;
        known.poms.extend(found);
        for (group, artifact) in closure.lacking.versions {
            let versions = match maven::package(&group, &artifact) {
                Ok(package) => {
                    reader
                        .listed_versions(snapshot, repository, &package)
                        .await?
                }
                Err(_) => Vec::new(),
            };
            known.versions.insert((group, artifact), versions);
        }
    }
    Err(Problem::invalid("the poms lead on and on"))
}

/// `group:artifact:version`
fn gav(text: &str) -> Result<Gav, Problem> {
    let mut parts = text.split(':');
    let (Some(group), Some(artifact), version) =
        (parts.next(), parts.next(), parts.next().unwrap_or_default())
    else {
        return Err(Problem::invalid(format!(
            "`{text}` is not group:artifact:version"
        )));
    };
    Ok(Gav {
        group: group.to_owned(),
        artifact: artifact.to_owned(),
        version: version.to_owned(),
    })
}

/// The pom, fetched; what cannot be had or read is told when it is fetched as a file.
async fn pom(
    reader: &Arc<Reader>,
    snapshot: &Arc<Snapshot>,
    repository: &Repository,
    gav: &Gav,
) -> Option<Arc<Pom>> {
    let Gav {
        artifact, version, ..
    } = gav;
    let asset = AssetId {
        package: gav.package().ok()?,
        file: format!("{version}/{artifact}-{version}.pom").into(),
    };
    let read = async {
        let gathered = reader.gather_asset(snapshot, repository, &asset).await?;
        let bytes = gathered.blob.read_all(reader.fetcher().tasks()).await;
        let bytes = bytes.map_err(|error| Problem::internal("a pom cannot be read", error))?;
        Pom::read(&bytes).map_err(|error| Problem::invalid(error.to_string()))
    };
    match read.await {
        Ok(pom) => Some(Arc::new(pom)),
        Err(problem) => {
            debug!(%asset, %problem, "A POM that another POM names was not found");
            None
        }
    }
}
