//! The one way in which packages of our own change: bytes are kept, rows written, memory told, and
//! on refusal the bytes are let go of.

use std::future::Future;
use std::sync::Arc;

use super::own::OwnPackages;
use super::{Reader, Registry};
use crate::package::{BlobId, PackageId};
use crate::problem::{Decider, Problem};
use crate::store::packages::{Applied, NewRelease, Packages, Spooled, Step};
use crate::store::{Error, Recording, Store, Verified};

/// A file whose bytes are in the store already.
struct Stored {
    blob: BlobId,
    file: Box<str>,
}

/// A change to one package of a repository's own: all of it or nothing.
pub struct PackageChange {
    repository: String,
    package: PackageId,
    revision: Option<String>,
    files: Vec<Verified>,
    stored: Vec<Stored>,
    steps: Vec<Step>,
}

impl PackageChange {
    #[must_use]
    pub fn of(repository: &str, package: &PackageId) -> Self {
        Self {
            repository: repository.to_owned(),
            package: package.clone(),
            revision: None,
            files: Vec::new(),
            stored: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Refused where the package is in another revision by then.
    #[must_use]
    pub fn expecting_revision(mut self, revision: &str) -> Self {
        self.revision = Some(revision.to_owned());
        self
    }

    /// Files that came in, and that the steps' rows name.
    #[must_use]
    pub fn keep(mut self, files: Vec<Verified>) -> Self {
        self.files.extend(files);
        self
    }

    /// The bytes of the release's files are in the store already.
    #[must_use]
    pub fn record_stored(mut self, release: NewRelease) -> Self {
        let stored = release.assets.iter().map(|asset| Stored {
            blob: asset.blob,
            file: asset.file.clone(),
        });
        self.stored.extend(stored);
        self.step(Step::Record(Box::new(release)))
    }

    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// Makes changes. Each runs to its end, whoever waits for it: a client that leaves leaves nothing half
/// done.
pub struct Committer {
    store: Arc<Store>,
    own: Arc<OwnPackages>,
}

impl Committer {
    #[must_use]
    pub fn new(reader: &Reader) -> Arc<Self> {
        Self::over(reader.fetcher.store(), &reader.own)
    }

    fn over(store: &Arc<Store>, own: &Arc<OwnPackages>) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            own: Arc::clone(own),
        })
    }

    fn packages(&self) -> &Packages {
        self.store.packages()
    }

    /// Makes the change. When it has returned, it is durable, and nobody is shown what was before.
    ///
    /// # Errors
    /// Where the bytes cannot be kept, or a step is refused: then nothing has changed.
    pub async fn commit(self: &Arc<Self>, change: PackageChange) -> Result<Applied, Problem> {
        let committer = Arc::clone(self);
        self.to_its_end(async move { committer.carry_out(change).await })
            .await
    }

    async fn carry_out(&self, change: PackageChange) -> Result<Applied, Problem> {
        let PackageChange {
            repository,
            package,
            revision,
            files,
            stored,
            steps,
        } = change;
        let write = async {
            let applied = self
                .packages()
                .apply(&repository, &package, revision.as_deref(), &steps);
            Ok(applied.await?)
        };
        let applied = self.keep_and_write(files, &stored, write).await;
        match &applied {
            // A commit whose answer was lost may have been made.
            Err(problem) if problem.kind.is_outage() => self.own.doubt(&repository, &package),
            _ => self.own.changed(&repository, &package),
        }
        if applied.is_ok() && self.packages().is_shared() {
            // Read at once, it is known from now on while the database is away.
            let _ = self.own.package(&repository, &package).await;
        }
        let applied = applied?;
        self.release(&applied.freed).await;
        Ok(applied)
    }

    /// Takes in a version whose bytes are here already; says whether it is new.
    ///
    /// # Errors
    /// Where the repository has it with other bytes, or its bytes are gone.
    pub async fn take_in(
        self: &Arc<Self>,
        repository: &str,
        release: NewRelease,
    ) -> Result<bool, Problem> {
        let change = PackageChange::of(repository, &release.package);
        let applied = self.commit(change.record_stored(release)).await?;
        Ok(!applied.recorded.is_empty())
    }

    /// Accepts a publish that waits for its upstream: from then on it is not lost.
    ///
    /// # Errors
    /// Where its bytes cannot be kept, or the catalog fails.
    pub async fn spool(self: &Arc<Self>, waiting: Spooled, body: Verified) -> Result<(), Problem> {
        let committer = Arc::clone(self);
        let blob = body.digests().blob;
        self.to_its_end(async move {
            let write = async { Ok(committer.packages().spool().add(&waiting, blob).await?) };
            committer.keep_and_write(vec![body], &[], write).await
        })
        .await
    }

    /// Takes a publish out of the spool: it is through, or given up.
    ///
    /// # Errors
    /// Where there is none of that id.
    pub async fn unspool(self: &Arc<Self>, id: &str) -> Result<(), Problem> {
        let (committer, id) = (Arc::clone(self), id.to_owned());
        self.to_its_end(async move {
            let blob = committer.packages().spool().remove(&id).await?;
            committer.release(&[blob]).await;
            Ok(())
        })
        .await
    }

    /// Takes a repository that was made by the API away, with all that it has of its own.
    ///
    /// # Errors
    /// Where there is none, or another draws on it.
    pub async fn delete_repository(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        name: &str,
    ) -> Result<(), Problem> {
        let (committer, registry, name) = (Arc::clone(self), Arc::clone(registry), name.to_owned());
        self.to_its_end(async move {
            let freed = registry.delete(&name).await;
            committer.own.forget(&name);
            committer.release(&freed?).await;
            Ok(())
        })
        .await
    }

    async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        let done = self.store.tasks().spawn(work).await;
        done.map_err(|error| Problem::internal("changing a package failed", error))?
    }

    /// Keeps the bytes for good and then writes their rows; where either is refused, the bytes are let
    /// go of.
    async fn keep_and_write<T>(
        &self,
        files: Vec<Verified>,
        stored: &[Stored],
        write: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut recording = self.store.recording().await.map_err(not_kept)?;
        let written = match keep(&mut recording, files, stored).await {
            Ok(()) => write.await,
            Err(problem) => Err(problem),
        };
        match written {
            Ok(_) => recording.settle(),
            Err(_) => {
                if let Err(error) = recording.release().await {
                    tracing::warn!(%error, "Removing the files of a refused change failed; they stay until the next sweep");
                }
            }
        }
        written
    }

    /// Lets files be evicted that nothing published needs any more.
    async fn release(&self, blobs: &[BlobId]) {
        if let Err(error) = self.store.retention().release_blobs(blobs).await {
            tracing::warn!(%error, "Removing files that are no longer published failed; they stay until the next start");
        }
    }
}

async fn keep(
    recording: &mut Recording<'_>,
    files: Vec<Verified>,
    stored: &[Stored],
) -> Result<(), Problem> {
    for file in files {
        recording.keep(file).await.map_err(not_kept)?;
    }
    for Stored { blob, file } in stored {
        if !recording.keep_stored(*blob).await.map_err(not_kept)? {
            return Err(Problem::not_found(
                Decider::Larder,
                format!("the bytes of {file} are not here any more"),
            )
            .advice("fetch it once through the repository, then try again"));
        }
    }
    Ok(())
}

/// The disk does not take what came.
pub(super) fn not_kept(error: Error) -> Problem {
    match error {
        error @ Error::NotKept(_) => error.into(),
        error => Problem::internal("what is published cannot be written", error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixture::{Fixture, TEAM, tool};
    use super::super::publish::release_of;
    use super::*;
    use crate::clock;
    use crate::format::upload::Inspected;
    use crate::package::{Algorithm, Digests, Origin, ReleaseAsset, Status};
    use crate::problem::Kind;
    use crate::store::packages::Managed;

    fn digests(text: &str) -> Digests {
        let mut digester = crate::package::Digester::new(&Algorithm::ALL);
        digester.update(text.as_bytes());
        digester.finish()
    }

    /// A version with one file of this text.
    fn release(version: &str, text: &str) -> NewRelease {
        let file = format!("{version}/tool.bin");
        let now = clock::now();
        let media_type = "application/octet-stream";
        let asset = ReleaseAsset::new(&file, &digests(text), text.len() as u64, media_type, now);
        let inspected = Inspected::new(tool(), version, file, media_type);
        release_of(
            inspected,
            Origin::Internal,
            Status::Published,
            now,
            vec![asset],
        )
    }

    async fn record(fixture: &Fixture, version: &str, text: &str) -> Result<Applied, Problem> {
        let file = fixture.receiver.take_bytes(text.as_bytes()).await.unwrap();
        let step = Step::Record(Box::new(release(version, text)));
        let change = PackageChange::of("team", &tool())
            .keep(vec![file])
            .step(step);
        fixture.committer.commit(change).await
    }

    async fn status(fixture: &Fixture, version: &str) -> Status {
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        listing.release(version).unwrap().status
    }

    #[tokio::test]
    async fn what_was_committed_is_shown_and_its_bytes_are_never_evicted() {
        let fixture = Fixture::open(TEAM).await;
        assert!(fixture.reader.own.listing("team", &tool()).await.is_err());
        let applied = record(&fixture, "1.0", "one").await.unwrap();
        assert_eq!(applied.recorded, ["1.0"]);
        assert_eq!(status(&fixture, "1.0").await, Status::Published);
        assert_eq!(fixture.store.used_bytes(), 0);
        let again = record(&fixture, "1.0", "one").await.unwrap();
        assert_eq!((again.recorded.len(), again.same.len()), (0, 1));
    }

    #[tokio::test]
    async fn a_refused_change_lets_go_of_the_bytes_that_it_kept() {
        let fixture = Fixture::open(TEAM).await;
        record(&fixture, "1.0", "one").await.unwrap();
        let problem = record(&fixture, "1.0", "other").await.unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
        assert_eq!(fixture.store.used_bytes(), "other".len() as u64);
        assert_eq!(fixture.store.sweep_unsettled().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn all_steps_are_taken_or_none() {
        let fixture = Fixture::open(TEAM).await;
        record(&fixture, "1.0", "one").await.unwrap();
        let change = PackageChange::of("team", &tool())
            .step(Step::SetStatus {
                versions: vec!["1.0".to_owned()],
                from: Vec::new(),
                to: Status::Disposed,
            })
            .step(Step::Tag {
                tag: "latest".to_owned(),
                version: "2.0".to_owned(),
            });
        let problem = fixture.committer.commit(change).await.unwrap_err();
        assert_eq!(problem.kind, Kind::NotFound);
        assert_eq!(status(&fixture, "1.0").await, Status::Published);
        assert_eq!(fixture.store.used_bytes(), 0);
    }

    #[tokio::test]
    async fn a_change_made_for_another_revision_is_refused() {
        let fixture = Fixture::open(TEAM).await;
        record(&fixture, "1.0", "one").await.unwrap();
        let before = fixture.reader.own.listing("team", &tool()).await.unwrap();
        record(&fixture, "2.0", "two").await.unwrap();
        let manifests = BTreeMap::from([("1.0".to_owned(), "{}".to_owned())]);
        let change = PackageChange::of("team", &tool())
            .expecting_revision(&before.revision)
            .step(Step::Amend { manifests });
        let problem = fixture.committer.commit(change).await.unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
    }

    #[tokio::test]
    async fn a_change_that_changes_nothing_leaves_the_revision() {
        let fixture = Fixture::open(TEAM).await;
        record(&fixture, "1.0", "one").await.unwrap();
        let before = fixture.reader.own.listing("team", &tool()).await.unwrap();
        let tag = "none".to_owned();
        let change = PackageChange::of("team", &tool()).step(Step::Untag { tag });
        fixture.committer.commit(change).await.unwrap();
        let after = fixture.reader.own.listing("team", &tool()).await.unwrap();
        assert_eq!(before.revision, after.revision);
    }

    #[tokio::test]
    async fn a_version_whose_bytes_are_gone_is_not_taken_in() {
        let fixture = Fixture::open(TEAM).await;
        let taken = fixture.committer.take_in("team", release("1.0", "nowhere"));
        assert_eq!(taken.await.unwrap_err().kind, Kind::NotFound);
        assert!(fixture.reader.own.listing("team", &tool()).await.is_err());
    }

    #[tokio::test]
    async fn a_deleted_repository_takes_its_packages_along() {
        let fixture = Fixture::open(TEAM).await;
        let made = Managed {
            name: "made".to_owned(),
            ..Default::default()
        };
        fixture.registry.create(made, &[]).await.unwrap();
        let file = fixture.receiver.take_bytes(b"one").await.unwrap();
        let step = Step::Record(Box::new(release("1.0", "one")));
        let change = PackageChange::of("made", &tool())
            .keep(vec![file])
            .step(step);
        fixture.committer.commit(change).await.unwrap();
        let deleted = fixture
            .committer
            .delete_repository(&fixture.registry, "made");
        deleted.await.unwrap();
        assert!(fixture.reader.own.listing("made", &tool()).await.is_err());
        assert_eq!(fixture.store.used_bytes(), 3);
    }
}
