//! Changes to a package of a repository's own, each whole or not at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::door::Statements;
use super::outbox::Outbox;
use super::rows::{
    became_latest, count, drop_assets, insert_asset, insert_version, put_tag, renew, touch,
};
use super::{Error, Packages, Refusal, random_name};
use crate::clock;
use crate::event::{Changes, Operation};
use crate::package::{BlobId, Dependency, Origin, PackageId, ReleaseAsset, Status};
use crate::rule::Restrictions;
use crate::store::sql::Column;

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
        let (_place, mut transaction) = self.database.begin().await?;
        let mut edit = Edit {
            transaction: &mut transaction,
            outbox: &outbox,
            repository,
            name: package.to_string(),
            package,
            applied: Applied::default(),
            has_row: false,
            is_changed: false,
            is_recounted: false,
        };
        edit.open(revision).await?;
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
    /// The repository has, or had, something of the package.
    has_row: bool,
    is_changed: bool,
    /// The number of versions may be another, or the newest one.
    is_recounted: bool,
}

impl Edit<'_> {
    /// Gives the package another revision. First of all, since on PostgreSQL the row holds others off
    /// the package.
    async fn open(&mut self, revision: Option<&str>) -> Result<(), Error> {
        self.has_row = touch(self.transaction, self.repository, &self.name, revision).await?;
        if revision.is_some() && !self.has_row {
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
                put_tag(self.transaction, self.repository, &self.name, tag, version).await?;
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

    async fn tell(
        &mut self,
        version: &str,
        operation: Operation,
        changes: Changes,
    ) -> Result<(), Error> {
        self.is_changed = true;
        let told = self.outbox.version_changed(
            self.transaction,
            self.repository,
            &self.name,
            version,
            operation,
            changes,
        );
        told.await
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
        self.tell(version, Operation::Updated, changes).await
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
        sqlx::query(
            "UPDATE package_version SET status = $4, revision = $5 \
             WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(version)
        .bind(Column(to))
        .bind(random_name())
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
        self.tell(version, Operation::Updated, changes).await
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
        self.tell(version, Operation::Deleted, changes).await
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
        self.tell(version, Operation::Updated, changes).await
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

    /// Makes the package's row, where there is none yet.
    async fn make_row(&mut self, origin: Origin) -> Result<(), Error> {
        // Where somebody else made it meanwhile, the row holds them off from here on.
        sqlx::query(
            "INSERT INTO package (repository, package, origin, revision, changed_at, description, keywords, latest, versions) \
             VALUES ($1, $2, $3, $4, $5, '', '', '', 0) \
             ON CONFLICT (repository, package) DO UPDATE SET revision = excluded.revision, changed_at = excluded.changed_at",
        )
        .bind(self.repository)
        .bind(&self.name)
        .bind(Column(origin))
        .bind(random_name())
        .bind(clock::unix_ms_now())
        .execute(&mut *self.transaction)
        .await?;
        self.has_row = true;
        Ok(())
    }

    /// The files of the release that are not there yet.
    async fn fresh_assets<'n>(
        &mut self,
        new: &'n NewRelease,
    ) -> Result<Vec<&'n ReleaseAsset>, Error> {
        let mut fresh = Vec::with_capacity(new.assets.len());
        for asset in &new.assets {
            let there: Option<Column<BlobId>> = sqlx::query_scalar(
                "SELECT blob FROM package_asset WHERE repository = $1 AND package = $2 AND file = $3",
            )
            .bind(self.repository)
            .bind(&self.name)
            .bind(&*asset.file)
            .fetch_optional(&mut *self.transaction)
            .await?;
            match there {
                Some(blob) if blob.0 == asset.blob => {}
                Some(_) => {
                    return Err(self.refused(Refusal::Exists {
                        file: asset.file.to_string(),
                    }));
                }
                None => fresh.push(asset),
            }
        }
        Ok(fresh)
    }

    async fn record(&mut self, new: &NewRelease) -> Result<(), Error> {
        debug_assert_eq!(new.package, *self.package, "a change is to one package");
        if !self.has_row {
            self.make_row(new.origin).await?;
        }
        let version = || new.version.clone();
        let before = self.find_status(&new.version).await?;
        if before == Some(Status::Disposed) {
            return Err(self.refused(Refusal::Disposed { version: version() }));
        }
        let fresh = self.fresh_assets(new).await?;
        let is_new = before.is_none();
        if !is_new && fresh.is_empty() {
            self.applied.same.push(version());
            return Ok(());
        }
        if !is_new && new.is_whole {
            return Err(self.refused(Refusal::Taken { version: version() }));
        }
        if is_new {
            insert_version(self.transaction, self.repository, &self.name, new).await?;
        }
        let assets_added = fresh.len();
        for asset in fresh {
            let (repository, name) = (self.repository, &self.name);
            insert_asset(self.transaction, repository, name, &new.version, asset).await?;
        }
        if is_new {
            became_latest(self.transaction, self.repository, &self.name, new).await?;
        } else {
            renew(self.transaction, self.repository, &self.name, &new.version).await?;
        }
        for tag in &new.tags {
            put_tag(
                self.transaction,
                self.repository,
                &self.name,
                tag,
                &new.version,
            )
            .await?;
        }
        self.applied.recorded.push(version());
        let changes = Changes {
            assets_added,
            metadata_updated: is_new,
            status_changed: is_new,
            ..Changes::default()
        };
        let operation = if is_new {
            Operation::Created
        } else {
            Operation::Updated
        };
        self.tell(&new.version, operation, changes).await
    }
}
