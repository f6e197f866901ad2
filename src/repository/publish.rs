//! Publishes, and the changes that clients make to a repository's own packages.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::change::{Committer, PackageChange};
use super::places::BodySender;
use super::receive::{BodyReceiver, BodyStream, Received};
use super::source::Publish;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::format::path;
use crate::format::upload::{Inspected, Upload};
use crate::format::{Change, DocumentId, DocumentPublish, Evidence, OWN, Upstream};
use crate::package::{Algorithm, AssetId, Format, Origin, PackageId, ReleaseAsset, Status};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{Way, WayIn};
use crate::store::Verified;
use crate::store::packages::{NewRelease, Step};
use crate::task::Tasks;

/// Whether who publishes may do so under a package's name, which some clients say in the body alone;
/// gives what let it in, in words.
pub type Permit<'a> = dyn Fn(&PackageId) -> Result<String, Problem> + Send + Sync + 'a;

/// The facts about a change for the audit, whether it succeeded or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeRecord {
    pub package: Option<PackageId>,
    /// Several apart by `, `; empty where the change is about none.
    pub version: String,
    /// The statement that allowed it, in words; empty where the path already named the package.
    pub by: String,
}

/// A change as a client sent it.
pub struct Submission<'a> {
    pub format: Format,
    pub change: Change,
    pub body: BodyStream,
    pub content_type: &'a str,
    pub sender: BodySender,
    pub permit: &'a Permit<'a>,
    pub record: &'a mut ChangeRecord,
}

/// Where a client publishes to, and whether it may.
pub(super) struct Door<'a> {
    pub snapshot: &'a Snapshot,
    pub repository: &'a Repository,
    pub sender: &'a BodySender,
    pub permit: &'a Permit<'a>,
    pub record: &'a mut ChangeRecord,
}

/// How the package of a published file is named.
pub(super) enum NamedBy {
    /// The file itself: it is a version.
    File,
    /// Its path: it is one of the files of a version, which waits for the others.
    Path(AssetId),
    /// Its path: it is the last of the files of a version.
    LastPath(AssetId),
}

impl NamedBy {
    fn asset(&self) -> Option<&AssetId> {
        match self {
            Self::File => None,
            Self::Path(asset) | Self::LastPath(asset) => Some(asset),
        }
    }
}

/// The statuses between which clients move versions. All others are an operator's, and stay.
pub(super) const OFFERED: [Status; 2] = [Status::Published, Status::Unlisted];

/// Takes publishes and the other changes that clients make.
pub struct Publisher {
    pub(super) reader: Arc<Reader>,
    pub(super) receiver: Arc<BodyReceiver>,
    pub(super) committer: Arc<Committer>,
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// There is something new.
    Created,
    /// It is done, or was so already.
    Done,
}

impl Publisher {
    #[must_use]
    pub fn new(
        reader: &Arc<Reader>,
        receiver: &Arc<BodyReceiver>,
        committer: &Arc<Committer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            reader: Arc::clone(reader),
            receiver: Arc::clone(receiver),
            committer: Arc::clone(committer),
        })
    }

    fn tasks(&self) -> &Tasks {
        self.reader.fetcher.tasks()
    }

    /// Makes the change to the repository's own packages. When it has returned, it is durable.
    ///
    /// # Errors
    /// Where the repository does not take it, what was sent is not what it says it is, or it is
    /// there already with other bytes.
    pub async fn change(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        submission: Submission<'_>,
    ) -> Result<Changed, Problem> {
        let Submission {
            format,
            change,
            body,
            content_type,
            sender,
            permit,
            record,
        } = submission;
        record.package = change.package().cloned();
        record.version = change.version().unwrap_or_default();
        if !matches!(repository.publish, Publish::Local) {
            return Err(takes_none(repository));
        }
        let _place = self.receiver.place(&sender).await?;
        let mut door = Door {
            snapshot,
            repository,
            sender: &sender,
            permit,
            record,
        };
        match change {
            Change::Document(package) => {
                self.may_publish(snapshot, repository, &package).await?;
                let publish = document_publish(format)?;
                let received = self.receiver.receive_parted(publish, body);
                let received = received.await?;
                if received.file.is_none() {
                    let words = &received.words;
                    return self.amend(publish, &mut door, &package, words).await;
                }
                self.publish(&mut door, format, received, NamedBy::File)
                    .await
            }
            Change::Form => {
                let received = self.receiver.receive_form(body, content_type).await?;
                self.publish(&mut door, format, received, NamedBy::File)
                    .await
            }
            Change::File(asset) => {
                self.may_publish(snapshot, repository, &asset.package)
                    .await?;
                let received = Received {
                    file: Some(self.receiver.receive_file(body).await?),
                    name: path::last_segment(&asset.file).to_owned(),
                    ..Received::default()
                };
                self.publish(&mut door, format, received, NamedBy::Path(asset))
                    .await
            }
            Change::Checksum(asset, algorithm) => {
                let said = self.receiver.receive_words(body).await?;
                self.checksum(repository, &asset, algorithm, &said).await
            }
            Change::Finish(id) => {
                let words = self.receiver.receive_words(body).await?;
                self.finish(repository, &id, &words).await
            }
            Change::FinishChecksum(..) => {
                self.receiver.receive_words(body).await?;
                Ok(Changed::Done)
            }
            Change::Revision { package, revision } => {
                let publish = document_publish(format)?;
                let words = self.receiver.receive_words(body).await?;
                self.revise(publish, &mut door, &package, &revision, &words)
                    .await
            }
            Change::RemovePackage { package, revision } => {
                self.remove(&mut door, &package, &revision).await
            }
            // The revision before it took the version out; its tarball went with it.
            Change::RemoveAsset(_) => Ok(Changed::Done),
            Change::Tag { package, tag } => {
                let words = self.receiver.receive_words(body).await?;
                let version: String = serde_json::from_slice(&words).map_err(|_| {
                    Problem::invalid("the body of a tag is its version, as a JSON string")
                })?;
                door.record.version.clone_from(&version);
                self.step(repository, &package, Step::Tag { tag, version })
                    .await
            }
            Change::Untag { package, tag } => {
                self.step(repository, &package, Step::Untag { tag }).await
            }
            Change::Status {
                package,
                version,
                status,
            } => {
                let step = Step::SetStatus {
                    versions: vec![version.to_string()],
                    from: OFFERED.to_vec(),
                    to: status,
                };
                self.step(repository, &package, step).await
            }
        }
    }

    async fn step(
        &self,
        repository: &Repository,
        package: &PackageId,
        step: Step,
    ) -> Result<Changed, Problem> {
        let change = PackageChange::of(&repository.name, package).step(step);
        self.committer.commit(change).await?;
        Ok(Changed::Done)
    }

    /// Whether origin control lets versions of the package be published here.
    pub(super) async fn may_publish(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<(), Problem> {
        if let Some(entrance) = snapshot.groups.entrance(package)
            && !entrance.admits(WayIn::Publish, &repository.name)
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

    /// Looks into what came in, keeps it, and records it: the one moment at which it becomes visible.
    pub(super) async fn publish(
        &self,
        door: &mut Door<'_>,
        format: Format,
        received: Received,
        named_by: NamedBy,
    ) -> Result<Changed, Problem> {
        let asset = named_by.asset().cloned();
        let (inspected, file) = self.inspect(door.sender, format, received, asset).await?;
        let (package, version) = (inspected.package.clone(), inspected.version.clone());
        door.record.package = Some(package.clone());
        door.record.version.clone_from(&version);
        door.record.by = (door.permit)(&package)?;
        if matches!(named_by, NamedBy::File) {
            self.may_publish(door.snapshot, door.repository, &package)
                .await?;
        }
        let repository = &door.repository.name;
        let mut change = PackageChange::of(repository, &package);
        let is_addition = inspected.is_addition;
        if is_addition {
            change = change.step(Step::Require {
                version: version.clone(),
            });
        }
        let (release, files) = self.release_of_file(inspected, file, &named_by).await?;
        change = change.keep(files).step(Step::Record(Box::new(release)));
        if matches!(named_by, NamedBy::LastPath(_)) {
            let versions = vec![version.clone()];
            change = change.step(Step::Finish { versions });
        }
        let applied = self.committer.commit(change).await;
        let applied = applied.map_err(|problem| match problem.kind {
            Kind::NotFound if is_addition => Problem::invalid(format!(
                "{package} {version} is not in `{repository}`: symbols follow their package"
            )),
            _ => problem,
        })?;
        Ok(if applied.recorded.is_empty() {
            Changed::Done
        } else {
            Changed::Created
        })
    }

    /// The release to record for a file, and the files to keep: the file itself, and those in it.
    async fn release_of_file(
        &self,
        inspected: Inspected,
        file: Verified,
        named_by: &NamedBy,
    ) -> Result<(NewRelease, Vec<Verified>), Problem> {
        let now = clock::now();
        let is_staged = !matches!(named_by, NamedBy::File);
        let media_type = inspected.media_type;
        let mut assets = vec![ReleaseAsset {
            facts: inspected.facts.as_str().into(),
            staged: is_staged,
            ..ReleaseAsset::new(
                &inspected.file,
                file.digests(),
                file.size(),
                media_type,
                now,
            )
        }];
        let mut files = vec![file];
        for part in &inspected.extracted {
            let file = self.receiver.take_bytes(&part.bytes).await?;
            let (digests, size) = (file.digests(), file.size());
            let asset = ReleaseAsset::new(&part.file, digests, size, part.media_type, now);
            assets.push(asset);
            files.push(file);
        }
        let status = if is_staged {
            Status::Unfinished
        } else {
            Status::Published
        };
        let release = release_of(inspected, Origin::Internal, status, now, assets);
        Ok((release, files))
    }

    async fn inspect(
        &self,
        sender: &BodySender,
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
        let left = sender.left.clone();
        let inspected = self.tasks().spawn_blocking(move || {
            let mut bytes = WhileHere {
                reader: file.reader(),
                left,
            };
            let inspected = format.protocol().inspect(&mut Upload {
                bytes: &mut bytes,
                digests: file.digests(),
                name: &name,
                asset: asset.as_ref(),
                fields: &fields,
                words: &words,
            });
            inspected
                .and_then(Inspected::bounded)
                .map(|inspected| (inspected, file))
        });
        let inspected = inspected
            .await
            .map_err(|error| Problem::internal("looking into a publish failed", error))?;
        sender.here()?;
        inspected
    }

    /// Compares a published checksum with the digest of its file; they must be equal.
    async fn checksum(
        &self,
        repository: &Repository,
        asset: &AssetId,
        algorithm: Algorithm,
        said: &[u8],
    ) -> Result<Changed, Problem> {
        let listing = self.reader.own.listing(&repository.name, &asset.package);
        let listing = listing.await?;
        let (_, found) = listing.asset(&asset.file).ok_or_else(|| {
            Problem::invalid(format!("{asset} has to be there before its checksum"))
        })?;
        let said = String::from_utf8_lossy(said).trim().to_lowercase();
        let said = said.split_whitespace().next().unwrap_or_default();
        if said == found.digest(algorithm) {
            return Ok(Changed::Created);
        }
        if found.staged {
            let file = asset.file.to_string();
            self.step(repository, &asset.package, Step::DropStaged { file })
                .await?;
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
        let versions = match package.format().protocol().evidence() {
            Evidence::Path(evidence) => evidence.versions(id, &upstream).map_err(|error| {
                Problem::invalid(format!("the document cannot be read: {error}"))
            })?,
            Evidence::Documents(_) | Evidence::Nowhere => Vec::new(),
        };
        self.step(repository, package, Step::Finish { versions })
            .await?;
        Ok(Changed::Created)
    }
}

/// A file that is read for a client, and cannot be read any more when that has hung up: a thread that
/// blocks ends no sooner.
struct WhileHere<R> {
    reader: R,
    left: CancellationToken,
}

impl<R: Read> Read for WhileHere<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_cancelled() {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        self.reader.read(into)
    }
}

impl<R: Seek> Seek for WhileHere<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.reader.seek(to)
    }
}

/// How the format's clients publish by the package's document.
fn document_publish(format: Format) -> Result<&'static dyn DocumentPublish, Problem> {
    let publish = format.protocol().document_publish();
    publish.ok_or_else(|| Problem::invalid(format!("{format} publishes no documents")))
}

pub(super) fn not_ours(repository: &str, package: &PackageId) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.to_owned()),
        format!("{package} is not among the packages of `{repository}`"),
    )
}

/// The release to record for a file that was looked into.
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

/// Where a repository takes no publishes, with the way to have it take some.
pub(super) fn takes_none(repository: &Repository) -> Problem {
    Problem::denied(
        Decider::Repository(repository.name.clone()),
        format!("repository `{}` takes no publishes", repository.name),
    )
    .advice("say publish = \"local\" or publish = \"forward:CONNECTION\" for it in the configuration, or publish through `larder run`")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::fixture::{Fixture, TEAM, tool};
    use super::*;

    const VERSION: &str = "1.0";

    fn nupkg(id: &str) -> Vec<u8> {
        let nuspec = format!(
            "<package><metadata><id>{id}</id><version>1.0.0</version><authors>a</authors><description>d</description></metadata></package>"
        );
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file(format!("{id}.nuspec"), options).unwrap();
        archive.write_all(nuspec.as_bytes()).unwrap();
        archive.finish().unwrap().into_inner()
    }

    #[allow(clippy::unnecessary_wraps, reason = "a `Permit` may refuse")]
    fn let_in(_: &PackageId) -> Result<String, Problem> {
        Ok("statement `CiPublishes`".to_owned())
    }

    async fn give(fixture: &Fixture, status: Status) {
        let step = Step::SetStatus {
            versions: vec![VERSION.to_owned()],
            from: Vec::new(),
            to: status,
        };
        let change = PackageChange::of("team", &tool()).step(step);
        fixture.committer.commit(change).await.unwrap();
    }

    #[tokio::test]
    async fn clients_move_versions_between_published_and_unlisted_alone() {
        use Status::{Archived, Disposed, Published, Unfinished, Unlisted};
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), VERSION, "one").await;
        let table = [
            (Published, Unlisted, Unlisted),
            (Unlisted, Unlisted, Unlisted),
            (Unlisted, Published, Published),
            (Archived, Unlisted, Archived),
            (Archived, Published, Archived),
            (Unfinished, Unlisted, Unfinished),
            (Unfinished, Published, Unfinished),
            // The last one: it is for good.
            (Disposed, Published, Disposed),
        ];
        for (before, to, after) in table {
            give(&fixture, before).await;
            let change = Change::Status {
                package: tool(),
                version: Format::Generic.protocol().known_version(VERSION),
                status: to,
            };
            let (_, changed) = fixture.change(Format::Generic, change, b"", &let_in).await;
            let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
            let status = listing.release(VERSION).unwrap().status;
            assert_eq!(status, after, "{before} to {to}");
            let kind = changed.err().map(|problem| problem.kind);
            let is_told = kind == Some(Kind::Conflict);
            assert_eq!(is_told, before == after && before != to, "{before} to {to}");
        }
    }

    #[tokio::test]
    async fn what_a_file_is_of_is_known_for_the_audit_whether_it_is_taken_or_refused() {
        let fixture = Fixture::open(TEAM).await;
        let package = crate::format::package("nuget:acme.lib").unwrap();
        let refuse = |package: &PackageId| -> Result<String, Problem> {
            Err(Problem::denied(Decider::Larder, package.to_string()))
        };
        let bytes = nupkg("Acme.Lib");
        let (record, changed) = fixture
            .change(Format::Nuget, Change::Form, &bytes, &refuse)
            .await;
        assert_eq!(changed.unwrap_err().kind, Kind::Denied);
        assert_eq!(record.package.as_ref(), Some(&package));
        assert_eq!((record.version.as_str(), record.by.as_str()), ("1.0.0", ""));
        assert!(fixture.reader.own.listing("team", &package).await.is_err());

        let (record, changed) = fixture
            .change(Format::Nuget, Change::Form, &bytes, &let_in)
            .await;
        assert_eq!(changed.unwrap(), Changed::Created);
        assert_eq!(record.package.as_ref(), Some(&package));
        assert_eq!(record.by, "statement `CiPublishes`");
    }

    #[test]
    fn a_file_is_read_no_further_when_the_client_has_hung_up() {
        let left = CancellationToken::new();
        let mut bytes = WhileHere {
            reader: std::io::Cursor::new(b"one two"),
            left: left.clone(),
        };
        let mut three = [0; 3];
        bytes.read_exact(&mut three).unwrap();
        left.cancel();
        assert!(bytes.read_exact(&mut three).is_err());
    }

    #[tokio::test]
    async fn a_publish_of_a_client_that_hung_up_is_not_recorded() {
        let fixture = Fixture::open(TEAM).await;
        let sender = super::super::fixture::ci();
        sender.left.cancel();
        let received = Received {
            file: Some(
                fixture
                    .receiver
                    .take_bytes(&nupkg("Acme.Lib"))
                    .await
                    .unwrap(),
            ),
            ..Received::default()
        };
        let (snapshot, team) = (fixture.snapshot(), fixture.repository("team"));
        let mut door = Door {
            snapshot: &snapshot,
            repository: &team,
            sender: &sender,
            permit: &let_in,
            record: &mut ChangeRecord::default(),
        };
        let published =
            fixture
                .publisher
                .publish(&mut door, Format::Nuget, received, NamedBy::File);
        assert_eq!(published.await.unwrap_err().kind, Kind::Invalid);
        let package = crate::format::package("nuget:acme.lib").unwrap();
        assert!(fixture.reader.own.listing("team", &package).await.is_err());
    }

    #[tokio::test]
    async fn a_file_by_file_version_is_published_with_its_last_file() {
        let fixture = Fixture::open(TEAM).await;
        fixture.publish(&tool(), VERSION, "one").await;
        let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
        let release = listing.release(VERSION).unwrap();
        assert_eq!(release.status, Status::Published);
        assert!(release.assets.iter().all(|asset| !asset.staged));
    }
}
