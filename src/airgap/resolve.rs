//! Resolving a Maven project against a repository: what its closure lacks is fetched until it lacks
//! nothing.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::debug;

use super::maven::{self, Binding, Closure, Gav, KnownPoms, Lacking, Root};
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
    let mut rounds = Rounds::new(&roots, bindings);
    loop {
        let lacking = match rounds.walk()? {
            Walked::Whole(wants) => return Ok(wants),
            Walked::Lacks(lacking) => lacking,
        };
        let asked = stream::iter(lacking.poms).map(|gav| async move {
            let pom = pom(reader, snapshot, repository, &gav).await;
            (gav, pom)
        });
        let found: Vec<_> = asked.buffer_unordered(POMS_AT_ONCE).collect().await;
        rounds.known.poms.extend(found);
        for (group, artifact) in lacking.versions {
            let versions = match maven::package(&group, &artifact) {
                Ok(package) => {
                    reader
                        .listed_versions(snapshot, repository, &package)
                        .await?
                }
                Err(_) => Vec::new(),
            };
            rounds.known.versions.insert((group, artifact), versions);
        }
    }
}

/// Walks a closure again and again; what is lacking is put into `known` in between.
struct Rounds<'a> {
    roots: &'a [Root],
    bindings: &'a [Binding],
    known: KnownPoms,
    left: usize,
}

/// The outcome of a walk.
enum Walked {
    Whole(Vec<Want>),
    Lacks(Lacking),
}

impl<'a> Rounds<'a> {
    fn new(roots: &'a [Root], bindings: &'a [Binding]) -> Self {
        let mut known = KnownPoms::default();
        // Parents and modules of one build are at hand.
        for root in roots {
            if let Root::Project(pom) = root {
                known.add_project(pom);
            }
        }
        Self {
            roots,
            bindings,
            known,
            left: ROUNDS_MAX,
        }
    }

    /// Walks as far as what is known leads.
    fn walk(&mut self) -> Result<Walked, Problem> {
        let without_end = || Problem::invalid("the poms lead on and on");
        self.left = self.left.checked_sub(1).ok_or_else(without_end)?;
        let closure = Closure::of(self.roots, self.bindings, &self.known);
        if !closure.is_whole() {
            return Err(without_end());
        }
        Ok(if closure.lacking.is_empty() {
            Walked::Whole(closure.wants())
        } else {
            Walked::Lacks(closure.lacking)
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a chain of so many poms, each of which depends on the next.
    fn chain(length: usize) -> Result<Vec<Want>, Problem> {
        let of = |number: usize| {
            format!("<groupId>g</groupId><artifactId>a{number}</artifactId><version>1</version>")
        };
        let roots = [Root::Artifact(gav("g:a1:1").unwrap())];
        let mut rounds = Rounds::new(&roots, &[]);
        loop {
            let lacking = match rounds.walk()? {
                Walked::Whole(wants) => return Ok(wants),
                Walked::Lacks(lacking) => lacking,
            };
            for gav in lacking.poms {
                let number: usize = gav.artifact.trim_start_matches('a').parse().unwrap();
                let needs = if number < length {
                    let next = of(number + 1);
                    format!("<dependencies><dependency>{next}</dependency></dependencies>")
                } else {
                    String::new()
                };
                let pom = format!("<project>{}{needs}</project>", of(number));
                let pom = Pom::read(pom.as_bytes()).unwrap();
                rounds.known.poms.insert(gav, Some(Arc::new(pom)));
            }
        }
    }

    #[test]
    fn poms_that_lead_on_and_on_are_no_closure() {
        // The last round finds that nothing is lacking.
        assert_eq!(chain(ROUNDS_MAX - 1).unwrap().len(), ROUNDS_MAX - 1);
        let problem = chain(ROUNDS_MAX).unwrap_err();
        assert!(problem.message.contains("on and on"), "{problem}");
    }
}
