//! Changes to what repositories have of their own: published, tagged, given a status, taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};

use super::receive::{Body, Received, broken, whole};
use super::source::Publish;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::config;
use crate::format::npm;
use crate::format::upload::{Extracted, Inspected, Upload};
use crate::format::{Change, DocumentId, OWN, Upstream};
use crate::package::{
    Algorithm, AssetId, BlobId, Format, Listing, Origin, PackageId, ReleaseAsset, Status,
};
use crate::problem::{Decider, Problem};
use crate::rule::{Entry, Way};
use crate::store::packages::{self, NewRelease, Outcome};
use crate::store::{Keeping, Store, Verified};
use crate::task::Tasks;

/// Whether who publishes may do so under a package's name, which some clients say in the body alone.
pub type Permit<'a> = dyn Fn(&PackageId) -> Result<(), Problem> + Send + Sync + 'a;

/// A change as a client sent it.
pub struct Submission<'a> {
    pub format: Format,
    pub change: Change,
    pub body: Body,
    pub content_type: &'a str,
    pub permit: &'a Permit<'a>,
}

/// Takes publishes.
pub struct Publisher {
    pub(super) reader: Arc<Reader>,
    pub(super) upload: config::Upload,
    pub(super) places: Semaphore,
    /// Told when something waits in the spool, or is to be tried.
    pub(super) spooling: Notify,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// There is something new.
    Created,
    /// It is done, or was so already.
    Done,
}

impl Publisher {
    #[must_use]
    pub fn new(reader: &Arc<Reader>, upload: &config::Upload) -> Arc<Self> {
        Arc::new(Self {
            reader: Arc::clone(reader),
            upload: upload.clone(),
            places: Semaphore::new(upload.at_once),
            spooling: Notify::new(),
        })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        self.reader.fetcher.store()
    }

    pub(super) fn tasks(&self) -> &Tasks {
        self.reader.fetcher.tasks()
    }

    /// Makes the change to the repository's own packages. When it has returned, it is durable.
    ///
    /// # Errors
    /// Where the repository does not take it, what was sent is not what it says it is, or it is
    /// there already with other bytes.
    pub async fn change(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &Repository,
        submission: Submission<'_>,
    ) -> Result<Changed, Problem> {
        let Submission {
            format,
            change,
            body,
            content_type,
            permit,
        } = submission;
        if !matches!(repository.publish, Publish::Local) {
            drain(body).await;
            return Err(takes_none(repository));
        }
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|error| Problem::internal("publishing stopped", error))?;
        match change {
            Change::Document(package) => {
                if let Err(problem) = self.may_publish(snapshot, repository, &package).await {
                    drain(body).await;
                    return Err(problem);
                }
                let received = self.receive_parted(format.protocol(), body).await?;
                if received.file.is_none() {
                    return self.amend(repository, &package, &received.words).await;
                }
                self.publish(snapshot, repository, format, received, None, permit)
                    .await
            }
            Change::Form => {
                let received = self.receive_form(body, content_type).await?;
                self.publish(snapshot, repository, format, received, None, permit)
                    .await
            }
            Change::File(asset) => {
                let may = self.may_publish(snapshot, repository, &asset.package);
                if let Err(problem) = may.await {
                    drain(body).await;
                    return Err(problem);
                }
                let received = Received {
                    file: Some(self.receive_file(body).await?),
                    name: file_name(&asset).to_owned(),
                    ..Received::default()
                };
                self.publish(snapshot, repository, format, received, Some(asset), permit)
                    .await
            }
            Change::Checksum(asset, algorithm) => {
                let said = self.receive_words(body).await?;
                self.checksum(repository, &asset, algorithm, &said).await
            }
            Change::Finish(id) => {
                let words = self.receive_words(body).await?;
                self.finish(repository, &id, &words).await
            }
            Change::FinishChecksum(..) => {
                self.receive_words(body).await?;
                Ok(Changed::Done)
            }
            Change::Revision { package, revision } => {
                let words = self.receive_words(body).await?;
                self.revise(repository, &package, &revision, &words).await
            }
            Change::RemovePackage { package, revision } => {
                let listing = self.listing(repository, &package).await?;
                is_revision(&listing, &revision)?;
                let all = listing.versions.iter();
                let versions = all.map(|release| release.version.to_string()).collect();
                self.set_status(&repository.name, &package, versions, Status::Disposed)
                    .await
                    .map(|_| Changed::Done)
            }
            // The revision before it took the version out; its tarball went with it.
            Change::RemoveAsset(_) => Ok(Changed::Done),
            Change::Tag { package, tag } => {
                let words = self.receive_words(body).await?;
                let version: String = serde_json::from_slice(&words).map_err(|_| {
                    Problem::invalid("the body of a tag is its version, as a JSON string")
                })?;
                self.tag(repository, package, tag, Some(version)).await
            }
            Change::Untag { package, tag } => self.tag(repository, package, tag, None).await,
            Change::Status {
                package,
                version,
                status,
            } => self
                .set_status(&repository.name, &package, vec![version], status)
                .await
                .map(|_| Changed::Done),
        }
    }

    /// Whether origin control lets versions of the package be published here.
    pub(super) async fn may_publish(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<(), Problem> {
        if let Some(entrance) = snapshot.groups.entrance(package)
            && !entrance.admits(Entry::Publish, &repository.name)
        {
            return Err(Problem::denied(
                Decider::Repository(repository.name.clone()),
                format!(
                    "{package} is not published here: its package group `{}` says so",
                    entrance.group.pattern
                ),
            )
            .advice("`aws codeartifact update-package-group-origin-configuration` changes that"));
        }
        let control = self.reader.control(snapshot, repository, package).await?;
        if control.publish == Way::Allow {
            return Ok(());
        }
        Err(Problem::denied(
            Decider::Repository(repository.name.clone()),
            format!("{package} is a name from outside: nothing is published under it"),
        )
        .advice(format!(
            "choose another name, or say [[origin]] packages = [\"{package}\"], publish = \"allow\""
        )))
    }

    /// Looks into what came in, keeps it, and records it.
    pub(super) async fn publish(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &Repository,
        format: Format,
        received: Received,
        asset: Option<AssetId>,
        permit: &Permit<'_>,
    ) -> Result<Changed, Problem> {
        let is_at_path = asset.is_some();
        let (inspected, file) = self.inspect(format, received, asset).await?;
        let package = inspected.package.clone();
        permit(&package)?;
        if !is_at_path {
            self.may_publish(snapshot, repository, &package).await?;
        }
        if inspected.is_addition {
            let listing = self.reader.own.of(&repository.name, &package).await?;
            let has_version = listing
                .listing
                .as_ref()
                .is_some_and(|listing| listing.release(&inspected.version).is_some());
            if !has_version {
                return Err(Problem::invalid(format!(
                    "{package} {} is not in `{}`: symbols follow their package",
                    inspected.version, repository.name
                )));
            }
        }
        let (publisher, name) = (Arc::clone(self), repository.name.clone());
        // A client that leaves now leaves nothing half done.
        self.tasks()
            .spawn(async move { publisher.record(&name, inspected, file, is_at_path).await })
            .await
            .map_err(|error| Problem::internal("recording a publish failed", error))?
    }

    async fn inspect(
        &self,
        format: Format,
        received: Received,
        asset: Option<AssetId>,
    ) -> Result<(Inspected, Verified), Problem> {
        let Received {
            file,
            name,
            fields,
            words,
        } = received;
        let file = file.ok_or_else(|| Problem::invalid("there is no file in what was sent"))?;
        let words_max = self.upload.document_bytes_max;
        let inspected = self.tasks().spawn_blocking(move || {
            let mut bytes = file.reader();
            let inspected = format.protocol().inspect(&mut Upload {
                bytes: &mut bytes,
                digests: file.digests(),
                name: &name,
                asset: asset.as_ref(),
                fields: &fields,
                words: &words,
                words_max,
            });
            inspected.map(|inspected| (inspected, file))
        });
        inspected
            .await
            .map_err(|error| Problem::internal("looking into a publish failed", error))?
    }

    /// Keeps the bytes and records the version: the one moment at which it becomes visible.
    async fn record(
        &self,
        repository: &str,
        inspected: Inspected,
        file: Verified,
        is_staged: bool,
    ) -> Result<Changed, Problem> {
        let now = clock::now();
        let package = inspected.package.clone();
        let recording = self.store().retention().recording().await;
        let size = file.size();
        let digests = file.digests().clone();
        let blob = file.keep(Keeping::Published).await.map_err(broken)?;
        let mut blobs = vec![blob.id()];
        let mut assets = vec![ReleaseAsset {
            facts: inspected.facts.as_str().into(),
            staged: is_staged,
            ..ReleaseAsset::new(&inspected.file, &digests, size, inspected.media_type, now)
        }];
        let extracted = self
            .keep_extracted(&inspected.extracted, Keeping::Published, now)
            .await?;
        blobs.extend(extracted.iter().map(|asset| asset.blob));
        assets.extend(extracted);
        let status = if is_staged {
            Status::Unfinished
        } else {
            Status::Published
        };
        let new = release_of(inspected, Origin::Internal, status, now, assets);
        let newer = newer(package.format());
        let recorded = self
            .store()
            .packages()
            .record(repository, &new, &newer)
            .await;
        drop(recording);
        self.reader.own.changed(repository, &package).await;
        match recorded {
            Ok(Outcome::Recorded) => Ok(Changed::Created),
            Ok(Outcome::Same) => Ok(Changed::Done),
            Err(error) => {
                self.let_go(&blobs).await;
                Err(refused(repository, &package, error))
            }
        }
    }

    /// Keeps the files that stand in another, as files of their own.
    pub(super) async fn keep_extracted(
        &self,
        extracted: &[Extracted],
        keeping: Keeping,
        published: Timestamp,
    ) -> Result<Vec<ReleaseAsset>, Problem> {
        let mut assets = Vec::with_capacity(extracted.len());
        for one in extracted {
            let mut incoming = self.incoming().await?;
            self.write(&mut incoming, Bytes::copy_from_slice(&one.bytes))
                .await?;
            let verified = whole(incoming).await?;
            let (size, digests) = (verified.size(), verified.digests().clone());
            verified.keep(keeping).await.map_err(broken)?;
            let media_type = one.media_type;
            assets.push(ReleaseAsset::new(
                &one.file, &digests, size, media_type, published,
            ));
        }
        Ok(assets)
    }

    /// Bytes that nothing needs any more may be evicted.
    pub(super) async fn let_go(&self, blobs: &[BlobId]) {
        if let Err(error) = self.store().retention().let_go(blobs).await {
            tracing::warn!(%error, "Bytes that are no longer published stay until the next start");
        }
    }

    /// `npm deprecate`: other words about versions that are here.
    async fn amend(
        &self,
        repository: &Repository,
        package: &PackageId,
        words: &[u8],
    ) -> Result<Changed, Problem> {
        let listing = self.whole_listing(&repository.name, package).await?;
        let Some(amendment) = npm::upload::amendment(words)? else {
            return Err(Problem::invalid(
                "the document names no versions; owners are not kept here",
            ));
        };
        let manifests: BTreeMap<String, String> = amendment
            .deprecated
            .iter()
            .filter_map(|(version, word)| {
                let release = listing.release(version)?;
                let manifest = npm::upload::deprecated(&release.manifest, word)?;
                Some((version.clone(), manifest))
            })
            .collect();
        let done = self
            .store()
            .packages()
            .amend(&repository.name, package, &manifests)
            .await;
        self.reader.own.changed(&repository.name, package).await;
        done.map_err(|error| refused(&repository.name, package, error))?;
        Ok(Changed::Done)
    }

    /// `npm unpublish`: versions that the next revision no longer has are disposed of, and its tags
    /// are the tags.
    async fn revise(
        self: &Arc<Self>,
        repository: &Repository,
        package: &PackageId,
        revision: &str,
        words: &[u8],
    ) -> Result<Changed, Problem> {
        let listing = self.listing(repository, package).await?;
        is_revision(&listing, revision)?;
        let Some(amendment) = npm::upload::amendment(words)? else {
            return Err(Problem::invalid(
                "the document names no versions; owners are not kept here",
            ));
        };
        let gone: Vec<String> = listing
            .versions
            .iter()
            .filter(|release| release.status == Status::Published)
            .filter(|release| !amendment.deprecated.contains_key(&*release.version))
            .map(|release| release.version.to_string())
            .collect();
        self.set_status(&repository.name, package, gone, Status::Disposed)
            .await?;
        for (tag, version) in amendment.tags.unwrap_or_default() {
            if listing.tags.get(&tag) != Some(&version) && listing.release(&version).is_some() {
                self.tag(repository, package.clone(), tag, Some(version))
                    .await?;
            }
        }
        Ok(Changed::Done)
    }

    /// What the client says that a file's digest is: it has to be that.
    async fn checksum(
        &self,
        repository: &Repository,
        asset: &AssetId,
        algorithm: Algorithm,
        said: &[u8],
    ) -> Result<Changed, Problem> {
        let listing = self.listing(repository, &asset.package).await?;
        let (_, found) = listing.asset(&asset.file).ok_or_else(|| {
            Problem::invalid(format!("{asset} has to be there before its checksum"))
        })?;
        let said = String::from_utf8_lossy(said).trim().to_lowercase();
        let said = said.split_whitespace().next().unwrap_or_default();
        if said == found.digest(algorithm) {
            return Ok(Changed::Created);
        }
        if found.staged {
            let packages = self.store().packages();
            let dropped = packages
                .drop_staged(&repository.name, &asset.package, &asset.file)
                .await;
            self.reader
                .own
                .changed(&repository.name, &asset.package)
                .await;
            dropped.map_err(|error| refused(&repository.name, &asset.package, error))?;
            self.let_go(&[found.blob]).await;
        }
        Err(Problem::invalid(format!(
            "{asset} has the {} {}, and was said to have {said}",
            algorithm.as_str(),
            found.digest(algorithm)
        ))
        .advice("deploy it again"))
    }

    /// The document that ends a version's deployment: what came in is published.
    async fn finish(
        &self,
        repository: &Repository,
        id: &DocumentId,
        words: &[u8],
    ) -> Result<Changed, Problem> {
        let Some(package) = &id.package else {
            return Ok(Changed::Done);
        };
        let url = url::Url::parse(OWN)
            .map_err(|error| Problem::internal("no address of our own", error))?;
        let upstream = Upstream {
            bytes: words,
            media_type: "application/xml",
            url: &url,
            base: &url,
            directory: None,
        };
        let versions = package
            .format()
            .protocol()
            .versions(id, &upstream)
            .map_err(|error| Problem::invalid(format!("the document cannot be read: {error}")))?;
        let newer = newer(package.format());
        let done = self
            .store()
            .packages()
            .finish(&repository.name, package, &versions, &newer)
            .await;
        self.reader.own.changed(&repository.name, package).await;
        done.map_err(|error| refused(&repository.name, package, error))?;
        Ok(Changed::Created)
    }

    async fn tag(
        &self,
        repository: &Repository,
        package: PackageId,
        tag: String,
        version: Option<String>,
    ) -> Result<Changed, Problem> {
        let done = self
            .store()
            .packages()
            .tag(&repository.name, &package, &tag, version.as_deref())
            .await;
        self.reader.own.changed(&repository.name, &package).await;
        done.map_err(|error| refused(&repository.name, &package, error))?;
        Ok(Changed::Done)
    }

    /// Gives versions another status, and says which had another.
    ///
    /// # Errors
    /// Where one of them is not there, or was disposed of.
    pub async fn set_status(
        &self,
        repository: &str,
        package: &PackageId,
        versions: Vec<String>,
        status: Status,
    ) -> Result<Vec<String>, Problem> {
        let newer = newer(package.format());
        let done = self
            .store()
            .packages()
            .set_status(repository, package, &versions, status, &newer)
            .await;
        self.reader.own.changed(repository, package).await;
        let (changed, freed) = done.map_err(|error| refused(repository, package, error))?;
        self.let_go(&freed).await;
        Ok(changed)
    }

    pub(super) async fn listing(
        &self,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Arc<Listing>, Problem> {
        let held = self.reader.own.of(&repository.name, package).await?;
        held.listing
            .clone()
            .ok_or_else(|| not_ours(&repository.name, package))
    }

    /// The same with the versions' manifests.
    async fn whole_listing(
        &self,
        repository: &str,
        package: &PackageId,
    ) -> Result<Listing, Problem> {
        let listing = self.reader.own.whole(repository, package).await?;
        listing.ok_or_else(|| not_ours(repository, package))
    }
}

fn not_ours(repository: &str, package: &PackageId) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.to_owned()),
        format!("{package} is not among the packages of `{repository}`"),
    )
}

impl Publisher {
    /// Takes in a version whose bytes are here already; says whether it is new.
    ///
    /// # Errors
    /// Where the repository has it with other bytes, or its bytes are gone.
    pub async fn take_in(&self, repository: &str, release: &NewRelease) -> Result<bool, Problem> {
        let package = &release.package;
        let recording = self.store().retention().recording().await;
        for asset in &release.assets {
            let kept = self.store().keep_for_good(asset.blob).await;
            let is_here =
                kept.map_err(|error| Problem::internal("a stored file cannot be read", error))?;
            if !is_here {
                return Err(Problem::internal(
                    format!("the bytes of {package} {} are gone", asset.file),
                    "no such blob",
                ));
            }
        }
        let newer = newer(package.format());
        let done = self
            .store()
            .packages()
            .record(repository, release, &newer)
            .await;
        drop(recording);
        self.reader.own.changed(repository, package).await;
        let outcome = done.map_err(|error| refused(repository, package, error))?;
        Ok(outcome == Outcome::Recorded)
    }
}

/// Reads what is refused, for a while: a client that is still sending does not hear.
pub async fn drain(mut body: Body) {
    let all = async { while let Some(Ok(_)) = body.next().await {} };
    let _ = tokio::time::timeout(DRAINED_FOR, all).await;
}

const DRAINED_FOR: std::time::Duration = std::time::Duration::from_secs(10);

/// The change has to be one of the document that there is.
fn is_revision(listing: &Listing, revision: &str) -> Result<(), Problem> {
    if revision.strip_prefix("1-") == Some(listing.revision.as_str()) {
        return Ok(());
    }
    Err(Problem::new(
        crate::problem::Kind::Conflict,
        Decider::Larder,
        format!("{} has changed meanwhile", listing.package),
    )
    .advice("read it again, and try again"))
}

/// What is recorded of a file that was looked into.
pub(super) fn release_of(
    inspected: Inspected,
    origin: Origin,
    status: Status,
    published: Timestamp,
    assets: Vec<ReleaseAsset>,
) -> NewRelease {
    NewRelease {
        package: inspected.package,
        version: inspected.version,
        origin,
        status,
        published,
        manifest: inspected.manifest,
        readme: inspected.readme,
        description: inspected.description,
        keywords: inspected.keywords,
        dependencies: inspected.dependencies,
        assets,
        tags: inspected.tags,
        is_whole: inspected.is_whole,
    }
}

/// Which of two versions of the format is the newer.
pub(super) fn newer(format: Format) -> impl Fn(&str, &str) -> bool + Send + Sync {
    move |version, than| format.protocol().is_newer(version, than)
}

fn file_name(asset: &AssetId) -> &str {
    asset
        .file
        .rsplit_once('/')
        .map_or(&*asset.file, |(_, name)| name)
}

/// Where a repository takes no publishes, with the way to have it take some.
pub(super) fn takes_none(repository: &Repository) -> Problem {
    Problem::denied(
        Decider::Repository(repository.name.clone()),
        format!("repository `{}` takes no publishes", repository.name),
    )
    .advice("say publish = \"local\" or publish = \"forward:CONNECTION\" for it in the configuration, or publish through `larder run`")
}

pub(super) fn refused(repository: &str, package: &PackageId, error: packages::Error) -> Problem {
    let decider = Decider::Repository(repository.to_owned());
    let conflict = |message: String| {
        Problem::new(crate::problem::Kind::Conflict, decider.clone(), message)
            .advice("publish another version")
    };
    match error {
        packages::Error::Exists { file } => conflict(format!(
            "{package}: {file} already exists, with other bytes; what is published stays as it is"
        )),
        packages::Error::Taken { version } => conflict(format!(
            "{package} {version} already exists; what is published stays as it is"
        )),
        packages::Error::Disposed { version } => conflict(format!(
            "{package} {version} was disposed of, and its number is not given again"
        )),
        error @ packages::Error::Revision(_) => {
            Problem::new(crate::problem::Kind::Conflict, decider, error.to_string())
        }
        packages::Error::Absent(what) => Problem::not_found(decider, format!("there is no {what}")),
        error @ packages::Error::Sql(_) => {
            Problem::internal("the package catalog cannot be written", error)
        }
    }
}
