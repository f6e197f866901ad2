//! A package's document in its next revision: `npm deprecate` and `npm unpublish`.

use std::collections::BTreeMap;

use super::change::PackageChange;
use super::publish::{Changed, Door, OFFERED, Publisher, not_ours};
use crate::format::DocumentPublish;
use crate::package::{Listing, PackageId, Status};
use crate::problem::{Decider, Kind, Problem};
use crate::store::packages::Step;

impl Publisher {
    /// `npm deprecate`: other words about versions that are here.
    pub(super) async fn amend(
        &self,
        publish: &dyn DocumentPublish,
        door: &mut Door<'_>,
        package: &PackageId,
        words: &[u8],
    ) -> Result<Changed, Problem> {
        let repository = door.repository;
        let listing = self
            .reader
            .own
            .with_manifests(&repository.name, package)
            .await?;
        let listing = listing.ok_or_else(|| not_ours(&repository.name, package))?;
        let Some(amendment) = publish.amendment(words)? else {
            return Err(names_no_versions());
        };
        // A client that read an older revision would undo the changes of others since. Revisions of
        // other length are of other registries, in a merged document, and are not compared.
        let read = amendment.revision.as_deref();
        if let Some(revision) = read.filter(|it| it.len() == "1-".len() + listing.revision.len()) {
            is_revision(&listing, revision)?;
        }
        let manifests: BTreeMap<String, String> = amendment
            .deprecated
            .iter()
            .filter_map(|(version, word)| {
                let release = listing.release(version)?;
                let manifest = publish.deprecated(&release.manifest, word)?;
                Some((version.clone(), manifest))
            })
            .collect();
        let amended: Vec<&str> = manifests.keys().map(String::as_str).collect();
        door.record.version = amended.join(", ");
        // Made from the manifests of this revision.
        let change = PackageChange::of(&repository.name, package)
            .expecting_revision(&listing.revision)
            .step(Step::Amend { manifests });
        self.committer.commit(change).await?;
        Ok(Changed::Done)
    }

    /// `npm unpublish`: versions that the next revision no longer has are disposed of, and its tags
    /// are the tags.
    pub(super) async fn revise(
        &self,
        publish: &dyn DocumentPublish,
        door: &mut Door<'_>,
        package: &PackageId,
        revision: &str,
        words: &[u8],
    ) -> Result<Changed, Problem> {
        let repository = door.repository;
        let listing = self.reader.own.listing(&repository.name, package).await?;
        is_revision(&listing, revision)?;
        let Some(amendment) = publish.amendment(words)? else {
            return Err(names_no_versions());
        };
        // A version is only removed if the document that the client read listed it.
        let gone: Vec<String> = listing
            .versions
            .iter()
            .filter(|release| release.status == Status::Published)
            .filter(|release| !amendment.deprecated.contains_key(&*release.version))
            .map(|release| release.version.to_string())
            .collect();
        door.record.version = gone.join(", ");
        let change =
            PackageChange::of(&repository.name, package).expecting_revision(&listing.revision);
        let mut change = change.step(Step::SetStatus {
            versions: gone,
            from: vec![Status::Published],
            to: Status::Disposed,
        });
        for (tag, version) in amendment.tags.unwrap_or_default() {
            if listing.tags.get(&tag) != Some(&version) && listing.release(&version).is_some() {
                change = change.step(Step::Tag { tag, version });
            }
        }
        self.committer.commit(change).await?;
        Ok(Changed::Done)
    }

    /// `npm unpublish --force`: all versions that are offered are disposed of.
    pub(super) async fn remove(
        &self,
        door: &mut Door<'_>,
        package: &PackageId,
        revision: &str,
    ) -> Result<Changed, Problem> {
        let repository = door.repository;
        let listing = self.reader.own.listing(&repository.name, package).await?;
        is_revision(&listing, revision)?;
        let offered = listing.versions.iter();
        let versions: Vec<String> = offered
            .filter(|release| OFFERED.contains(&release.status))
            .map(|release| release.version.to_string())
            .collect();
        if versions.is_empty() {
            let message = format!(
                "no version of {package} is offered by `{}`",
                repository.name
            );
            let decider = Decider::Repository(repository.name.clone());
            return Err(Problem::new(Kind::Conflict, decider, message)
                .advice("`larder delete` deletes versions of every status"));
        }
        door.record.version = versions.join(", ");
        let change = PackageChange::of(&repository.name, package)
            .expecting_revision(&listing.revision)
            .step(Step::SetStatus {
                versions,
                from: OFFERED.to_vec(),
                to: Status::Disposed,
            });
        self.committer.commit(change).await?;
        Ok(Changed::Done)
    }
}

fn names_no_versions() -> Problem {
    Problem::invalid("the document names no versions; owners are not kept here")
}

/// The change has to be one of the document that there is.
fn is_revision(listing: &Listing, revision: &str) -> Result<(), Problem> {
    if revision.strip_prefix("1-") == Some(listing.revision.as_str()) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::Conflict,
        Decider::Larder,
        format!("{} has changed meanwhile", listing.package),
    )
    .advice("read it again, and try again"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM, tool};
    use super::*;
    use crate::format::Change;
    use crate::package::Format;

    const VERSION: &str = "1.0";

    #[tokio::test]
    async fn removing_a_package_leaves_what_an_operator_archived() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), VERSION, "one").await;
        fixture.publish(&tool(), "2.0", "two").await;
        let archive = PackageChange::of("team", &tool()).step(Step::SetStatus {
            versions: vec![VERSION.to_owned()],
            from: Vec::new(),
            to: Status::Archived,
        });
        fixture.committer.commit(archive).await.unwrap();
        let remove = async || {
            let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
            let change = Change::RemovePackage {
                package: tool(),
                revision: format!("1-{}", listing.revision),
            };
            fixture
                .change(Format::Generic, change, b"", &|_| Ok(String::new()))
                .await
                .1
        };
        remove().await.unwrap();
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        let statuses: Vec<Status> = listing.versions.iter().map(|it| it.status).collect();
        assert_eq!(statuses, [Status::Archived, Status::Disposed]);
        assert_eq!(remove().await.unwrap_err().kind, Kind::Conflict);
    }

    #[tokio::test]
    async fn an_unpublish_of_another_revision_changes_nothing() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), VERSION, "one").await;
        let change = Change::Revision {
            package: tool(),
            revision: "1-another".to_owned(),
        };
        let words = br#"{"versions":{}}"#;
        let permit = |_: &PackageId| Ok(String::new());
        let (_, changed) = fixture.change(Format::Npm, change, words, &permit).await;
        assert_eq!(changed.unwrap_err().kind, Kind::Conflict);
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        assert_eq!(listing.release(VERSION).unwrap().status, Status::Published);
    }

    #[tokio::test]
    async fn an_unpublish_disposes_and_moves_tags_at_once() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), VERSION, "one").await;
        fixture.publish(&tool(), "2.0", "two").await;
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        let change = Change::Revision {
            package: tool(),
            revision: format!("1-{}", listing.revision),
        };
        let words = br#"{"versions":{"1.0":{}},"dist-tags":{"latest":"1.0"}}"#;
        let permit = |_: &PackageId| Ok(String::new());
        let (_, changed) = fixture.change(Format::Npm, change, words, &permit).await;
        changed.unwrap();
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        assert_eq!(listing.release("2.0").unwrap().status, Status::Disposed);
        assert_eq!(listing.tags.get("latest").map(String::as_str), Some("1.0"));
        assert_eq!(fixture.store.used_bytes(), 3);
    }
}
