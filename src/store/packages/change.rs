//! Changes to a package of a repository's own, each whole or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::door::Statements;
use super::outbox::{Outbox, Version};
use super::rows::{
    Added, became_latest, count, drop_assets, insert_assets, insert_dependencies, insert_version,
    put_tags, renew, revision_of, touch,
};
use super::{Error, Packages, Refusal, random_name};
use crate::event::{Changes, Operation};
use crate::package::{BlobId, Dependency, Origin, PackageId, ReleaseAsset, Status};
use crate::rule::Restrictions;
use crate::store::sql::{Column, ROWS_AT_ONCE};

/// A version, or more files of one, to be recorded.
#[derive(Clone, Debug)]
pub struct NewRelease {
    pub package: PackageId,
    pub version: String,
    pub origin: Origin,
    /// Unfinished ones wait to be finished; all others are published.
    pub status: Status,
    pub published: Timestamp,
    pub manifest: String,
    pub readme: Option<String>,
    pub description: String,
    /// The words that searches look into, beside name and description.
    pub keywords: String,
    pub dependencies: Vec<Dependency>,
    pub assets: Vec<ReleaseAsset>,
    /// Tags that point to it from now on.
    pub tags: Vec<String>,
    /// The version is all that was sent: one that is there already is not added to.
    pub is_whole: bool,
}

/// One step of a change to a package.
#[derive(Clone, Debug)]
pub enum Step {
    /// The version has to be there, whatever its status.
    Require { version: String },
    /// Adds a version, or files to one.
    Record(Box<NewRelease>),
    /// Publishes what waits of the unfinished ones among these versions, with all their files.
    Finish { versions: Vec<String> },
    /// Gives versions another status. A version that is disposed of loses its files, and gets no
    /// other status any more.
    SetStatus {
        versions: Vec<String>,
        /// The statuses that they may come from; none: any.
        from: Vec<Status>,
        to: Status,
    },
    /// Deletes versions, with their tags. The package's name stays on the side that it is on.
    Delete {
        versions: Vec<String>,
        /// The statuses that they may have; none: any.
        from: Vec<Status>,
    },
    /// Deletes one file that waits for the rest of its version.
    DropStaged { file: String },
    /// Points a tag to a version.
    Tag { tag: String, version: String },
    /// Takes a tag away.
    Untag { tag: String },
    /// Puts other manifests in the place of versions'.
    Amend { manifests: BTreeMap<String, String> },
    /// Says what holds of the package's origins.
    Restrict(Restrictions),
}

/// The result of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Versions that are new, or have new files.
    pub recorded: Vec<String>,
    /// Versions that were there, byte for byte the same.
    pub same: Vec<String>,
    /// Versions that had another status.
    pub changed: Vec<String>,
    /// Blobs of files that are gone; something else may need them.
    pub freed: Vec<BlobId>,
}

impl Packages {
    /// Makes a change to a package, with the events that tell of it: the moment at which it becomes
    /// visible, and durable. `revision` is the package's that the change was made for, where it was
    /// made for one.
    ///
    /// # Errors
    /// Where one of the steps cannot be taken, or the database fails: then nothing has changed.
    pub async fn apply(
        &self,
        repository: &str,
        package: &PackageId,
        revision: Option<&str>,
        steps: &[Step],
    ) -> Result<Applied, Error> {
        let outbox = self.database.outbox.load_full();
        let name = package.to_string();
        let (_place, mut transaction) = self.database.begin_for(repository, &name).await?;
        let mut edit = Edit {
            transaction: &mut transaction,
            outbox: &outbox,
            repository,
            name,
            package,
            applied: Applied::default(),
            is_changed: false,
            is_touched: false,
            is_recounted: false,
        };
        if let Some(revision) = revision {
            edit.expect(revision).await?;
        }
        for step in steps {
            edit.take(step).await?;
        }
        let (applied, is_changed) = edit.close().await?;
        if is_changed {
            transaction.commit().await?;
            outbox.written.notify_waiters();
        } else {
            transaction.rollback().await?;
        }
        Ok(applied)
    }
}

/// A change to a package while its transaction is open.
struct Edit<'a> {
    transaction: &'a mut Statements,
    outbox: &'a Outbox,
    repository: &'a str,
    package: &'a PackageId,
    /// The package's, as the tables have it.
    name: String,
    applied: Applied,
    is_changed: bool,
    /// The package's row tells of the change.
    is_touched: bool,
    /// The number of versions may be another, or the newest one.
    is_recounted: bool,
}

impl Edit<'_> {
    async fn expect(&mut self, revision: &str) -> Result<(), Error> {
        let found = revision_of(self.transaction, self.repository, &self.name).await?;
        if found.is_none_or(|found| found != revision) {
            return Err(self.refused(Refusal::Revision));
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Require { version } => self.status(version).await.map(drop),
            Step::Record(new) => self.record(new).await,
            Step::Finish { versions } => {
                for version in versions {
                    self.finish(version).await?;
                }
                Ok(())
            }
            Step::SetStatus { versions, from, to } => {
                for version in versions {
                    self.set_status(version, from, *to).await?;
                }
                Ok(())
            }
            Step::Delete { versions, from } => {
                for version in versions {
                    self.delete(version, from).await?;
                }
                Ok(())
            }
            Step::DropStaged { file } => self.drop_staged(file).await,
            Step::Tag { tag, version } => {
                self.status(version).await?;
                let tags = std::slice::from_ref(tag);
                put_tags(self.transaction, self.repository, &self.name, tags, version).await?;
                self.is_changed = true;
                Ok(())
            }
            Step::Untag { tag } => self.untag(tag).await,
            Step::Amend { manifests } => {
                for (version, manifest) in manifests {
                    self.amend(version, manifest).await?;
                }
                Ok(())
            }
            Step::Restrict(said) => self.restrict(*said).await,
        }
    }

    /// Says what was done, and whether anything was.
    async fn close(self) -> Result<(Applied, bool), Error> {
        if self.is_recounted {
            count(self.transaction, self.repository, self.package).await?;
        } else if self.is_changed && !self.is_touched {
            touch(self.transaction, self.repository, &self.name).await?;
        }
        Ok((self.applied, self.is_changed))
    }

    fn refused(&self, refusal: Refusal) -> Error {
        Error::Refused {
            repository: self.repository.to_owned(),
            package: self.name.clone(),
            refusal,
        }
    }

    async fn find_status(&mut self, version: &str) -> Result<Option<Status>, Error> {
        let status: Option<Column<Status>> = sqlx::query_scalar(
            "SELECT status FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .fetch_optional(&mut *self.transaction)
        .await?;
        Ok(status.map(|status| status.0))
    }

    /// The status of a version that has to be there.
    async fn status(&mut self, version: &str) -> Result<Status, Error> {
        let found = self.find_status(version).await?;
        found.ok_or_else(|| {
            self.refused(Refusal::Absent {
                version: version.to_owned(),
            })
        })
    }

    /// The status of a version that has to be there, in one of these statuses.
    async fn status_among(&mut self, version: &str, from: &[Status]) -> Result<Status, Error> {
        let status = self.status(version).await?;
        if from.is_empty() || from.contains(&status) {
            return Ok(status);
        }
        let version = version.to_owned();
        Err(self.refused(match status {
            Status::Disposed => Refusal::Disposed { version },
            status => Refusal::Status { version, status },
        }))
    }

    /// Tells of a version, which is in this status and revision now.
    async fn tell(
        &mut self,
        version: &str,
        state: &str,
        revision: &str,
        operation: Operation,
        changes: Changes,
    ) -> Result<(), Error> {
        self.is_changed = true;
        if self.outbox.is_closed() {
            return Ok(());
        }
        let version = Version {
            repository: self.repository,
            package: &self.name,
            version,
            state,
            revision,
        };
        let told = self
            .outbox
            .version_is(self.transaction, version, operation, changes);
        told.await
    }

    /// Tells of a version, as its row says that it is.
    async fn tell_now(
        &mut self,
        version: &str,
        operation: Operation,
        changes: Changes,
    ) -> Result<(), Error> {
        self.is_changed = true;
        if self.outbox.is_closed() {
            return Ok(());
        }
        let now: Option<(String, String)> = sqlx::query_as(
            "SELECT status, revision FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .fetch_optional(&mut *self.transaction)
        .await?;
        let (state, revision) = now.unwrap_or_else(|| ("Deleted".to_owned(), String::new()));
        self.tell(version, &state, &revision, operation, changes)
            .await
    }

    async fn finish(&mut self, version: &str) -> Result<(), Error> {
        let mut changed = sqlx::query(
            "UPDATE package_asset SET staged = 0 WHERE repository = $1 AND package = $2 AND version = $3 AND staged = 1",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .execute(&mut *self.transaction)
        .await?
        .rows_affected();
        changed += sqlx::query(
            "UPDATE package_version SET status = 'Published', revision = $4 \
             WHERE repository = $1 AND package = $2 AND version = $3 AND status = 'Unfinished'",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .bind(random_name())
        .execute(&mut *self.transaction)
        .await?
        .rows_affected();
        if changed == 0 {
            return Ok(());
        }
        self.is_recounted = true;
        let changes = Changes {
            status_changed: true,
            ..Changes::default()
        };
        self.tell_now(version, Operation::Updated, changes).await
    }

    async fn set_status(
        &mut self,
        version: &str,
        from: &[Status],
        to: Status,
    ) -> Result<(), Error> {
        let before = self.status_among(version, from).await?;
        if before == to {
            return Ok(());
        }
        if before == Status::Disposed {
            return Err(self.refused(Refusal::Disposed {
                version: version.to_owned(),
            }));
        }
        let revision = random_name();
        sqlx::query(
            "UPDATE package_version SET status = $4, revision = $5 \
             WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .bind(Column(to))
        .bind(revision.as_str())
        .execute(&mut *self.transaction)
        .await?;
        let mut changes = Changes {
            status_changed: true,
            ..Changes::default()
        };
        if before == Status::Unfinished {
            sqlx::query(
                "UPDATE package_asset SET staged = 0 WHERE repository = $1 AND package = $2 AND version = $3",
            )
            .bind(self.repository)
            .bind(&self.name)
            .bind(version)
            .execute(&mut *self.transaction)
            .await?;
        }
        if to == Status::Disposed {
            changes.assets_removed = self.drop_assets(version).await?;
        }
        self.is_recounted = true;
        self.applied.changed.push(version.to_owned());
        self.tell(version, to.as_str(), &revision, Operation::Updated, changes)
            .await
    }

    async fn drop_assets(&mut self, version: &str) -> Result<usize, Error> {
        let gone = drop_assets(self.transaction, self.repository, &self.name, version).await?;
        let count = gone.len();
        self.applied.freed.extend(gone);
        Ok(count)
    }

    async fn delete(&mut self, version: &str, from: &[Status]) -> Result<(), Error> {
        self.status_among(version, from).await?;
        let assets_removed = self.drop_assets(version).await?;
        for table in ["package_version", "package_tag", "package_dependency"] {
            let sql = format!(
                "DELETE FROM {table} WHERE repository = $1 AND package = $2 AND version = $3"
            );
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(self.repository)
                .bind(&self.name)
                .bind(version)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.is_recounted = true;
        self.applied.changed.push(version.to_owned());
        let changes = Changes {
            assets_removed,
            status_changed: true,
            ..Changes::default()
        };
        self.tell(version, "Deleted", "", Operation::Deleted, changes)
            .await
    }

    async fn drop_staged(&mut self, file: &str) -> Result<(), Error> {
        let blob: Option<Column<BlobId>> = sqlx::query_scalar(
            "DELETE FROM package_asset WHERE repository = $1 AND package = $2 AND file = $3 AND staged = 1 RETURNING blob",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(file)
        .fetch_optional(&mut *self.transaction)
        .await?;
        self.is_changed |= blob.is_some();
        self.applied.freed.extend(blob.map(|blob| blob.0));
        Ok(())
    }

    async fn untag(&mut self, tag: &str) -> Result<(), Error> {
        let done = sqlx::query(
            "DELETE FROM package_tag WHERE repository = $1 AND package = $2 AND tag = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(tag)
        .execute(&mut *self.transaction)
        .await?;
        self.is_changed |= done.rows_affected() > 0;
        Ok(())
    }

    async fn amend(&mut self, version: &str, manifest: &str) -> Result<(), Error> {
        sqlx::query(
            "UPDATE package_version SET manifest = $4, revision = $5 \
             WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .bind(manifest)
        .bind(random_name())
        .execute(&mut *self.transaction)
        .await?;
        let changes = Changes {
            metadata_updated: true,
            ..Changes::default()
        };
        self.tell_now(version, Operation::Updated, changes).await
    }

    async fn restrict(&mut self, said: Restrictions) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO package_restriction (repository, package, publish, upstream) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (repository, package) DO UPDATE SET publish = excluded.publish, upstream = excluded.upstream",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(Column(said.publish))
        .bind(Column(said.upstream))
        .execute(&mut *self.transaction)
        .await?;
        self.is_changed = true;
        Ok(())
    }

    /// The files that are there of those of a release.
    async fn assets_there(&mut self, new: &NewRelease) -> Result<BTreeMap<String, BlobId>, Error> {
        let mut there = BTreeMap::new();
        for some in new.assets.chunks(ROWS_AT_ONCE) {
            let places: Vec<String> = (3..some.len() + 3).map(|at| format!("${at}")).collect();
            let sql = format!(
                "SELECT file, blob FROM package_asset WHERE repository = $1 AND package = $2 AND file IN ({})",
                places.join(", ")
            );
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .bind(self.repository)
                .bind(&self.name);
            for asset in some {
                query = query.bind(&*asset.file);
            }
            let rows: Vec<(String, Column<BlobId>)> =
                query.fetch_all(&mut *self.transaction).await?;
            there.extend(rows.into_iter().map(|(file, blob)| (file, blob.0)));
        }
        Ok(there)
    }

    /// Writes the files of the release that are not there yet; says how many there are. Most often that
    /// is all of them, and one statement sees to it.
    async fn add_assets(&mut self, new: &NewRelease) -> Result<usize, Error> {
        let (repository, version) = (self.repository, &*new.version);
        let assets = &new.assets;
        let written = insert_assets(self.transaction, repository, &self.name, version, assets);
        let written = written.await?;
        if written < assets.len() {
            // Files that were just written are among them, with the right bytes.
            let there = self.assets_there(new).await?;
            for asset in assets {
                if there
                    .get(&*asset.file)
                    .is_some_and(|blob| *blob != asset.blob)
                {
                    return Err(self.refused(Refusal::Exists {
                        file: asset.file.to_string(),
                    }));
                }
            }
        }
        Ok(written)
    }

    async fn record(&mut self, new: &NewRelease) -> Result<(), Error> {
        debug_assert_eq!(new.package, *self.package, "a change is to one package");
        let version = || new.version.clone();
        let revision = random_name();
        let (repository, name) = (self.repository, self.name.clone());
        let added = insert_version(self.transaction, repository, &name, new, &revision).await?;
        let before = match added {
            Added::New { .. } => None,
            Added::There => self.find_status(&new.version).await?,
        };
        if before == Some(Status::Disposed) {
            return Err(self.refused(Refusal::Disposed { version: version() }));
        }
        let assets_added = self.add_assets(new).await?;
        let changes = Changes {
            assets_added,
            ..Changes::default()
        };
        let Added::New { latest } = added else {
            if assets_added == 0 {
                self.applied.same.push(version());
                return Ok(());
            }
            if new.is_whole {
                return Err(self.refused(Refusal::Taken { version: version() }));
            }
            renew(self.transaction, repository, &name, &new.version, &revision).await?;
            put_tags(self.transaction, repository, &name, &new.tags, &new.version).await?;
            self.applied.recorded.push(version());
            let state = before.unwrap_or(new.status).as_str();
            let updated = Operation::Updated;
            return self
                .tell(&new.version, state, &revision, updated, changes)
                .await;
        };
        insert_dependencies(self.transaction, repository, &name, new).await?;
        put_tags(self.transaction, repository, &name, &new.tags, &new.version).await?;
        became_latest(self.transaction, repository, &name, new, latest.as_deref()).await?;
        self.is_touched = true;
        self.applied.recorded.push(version());
        let changes = Changes {
            metadata_updated: true,
            status_changed: true,
            ..changes
        };
        let (state, created) = (new.status.as_str(), Operation::Created);
        self.tell(&new.version, state, &revision, created, changes)
            .await
    }
}
