//! Events: written in the transaction of the change that they tell of, kept until they are through.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tokio::sync::Notify;

use super::{Error, Packages, random_name};
use crate::clock;
use crate::config::{Config, Target};
use crate::event::{Changes, Envelope, Operation, VersionChange};

/// Who is told what, and as whom.
#[derive(Default)]
pub struct Outbox {
    source: String,
    domain: String,
    owner: String,
    region: String,
    targets: Vec<Target>,
    /// Repositories that draw on a connection themselves: what it brings is theirs.
    drawing: HashMap<String, Vec<String>>,
    /// Told when there is something to deliver.
    pub written: Arc<Notify>,
}

impl Outbox {
    /// As the configuration says; the bell stays the same one.
    #[must_use]
    pub fn of(config: &Config, written: &Arc<Notify>) -> Self {
        let mut drawing: HashMap<String, Vec<String>> = HashMap::new();
        for repository in &config.repositories {
            for connection in &repository.external {
                let of = drawing.entry(connection.clone()).or_default();
                of.push(repository.name.clone());
            }
        }
        Self {
            drawing,
            source: config.events.source.clone(),
            domain: config.domain.name.clone(),
            owner: config.domain.owner.clone(),
            region: config.domain.region.clone(),
            targets: config.events.targets.clone(),
            written: Arc::clone(written),
        }
    }

    /// Whether nobody is told anything.
    pub(super) fn is_closed(&self) -> bool {
        self.targets.is_empty()
    }

    fn arn(&self, what: &str) -> String {
        format!("arn:aws:codeartifact:{}:{}:{what}", self.region, self.owner)
    }

    /// The name of a repository's policy and tags.
    pub(super) fn repository_arn(&self, name: &str) -> String {
        self.arn(&format!("repository/{}/{name}", self.domain))
    }

    /// The name of a package group's tags.
    pub(super) fn group_arn(&self, pattern: &str) -> String {
        self.arn(&format!("package-group/{}{pattern}", self.domain))
    }

    /// Writes an event about a package version.
    pub(super) async fn version_changed(
        &self,
        transaction: &mut AnyConnection,
        repository: &str,
        package: &str,
        version: &str,
        operation: Operation,
        changes: Changes,
    ) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        let now = sqlx::query(
            "SELECT status, revision FROM package_version WHERE repository = $1 AND package = $2 AND version = $3",
        )
        .bind(repository)
        .bind(package)
        .bind(version)
        .fetch_optional(&mut *transaction)
        .await?
        .map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?)))
        .transpose()?;
        let (state, revision): (String, String) =
            now.unwrap_or_else(|| ("Deleted".to_owned(), String::new()));
        let version = Version {
            repository,
            package,
            version,
            state: &state,
            revision: &revision,
        };
        self.version_is(transaction, version, operation, changes)
            .await
    }

    async fn version_is(
        &self,
        transaction: &mut AnyConnection,
        version: Version<'_>,
        operation: Operation,
        changes: Changes,
    ) -> Result<(), Error> {
        let Version {
            repository,
            package,
            version,
            state,
            revision,
        } = version;
        let known = crate::format::package(package);
        let (format, namespace, name) = known.as_ref().map_or(("", None, package), |known| {
            (known.format().as_str(), known.namespace(), known.name())
        });
        let subject = format!("{repository}/{package}");
        let number = next_number(transaction, &subject).await?;
        let id = random_name();
        let detail = VersionChange {
            domain: &self.domain,
            owner: &self.owner,
            repository,
            format,
            namespace,
            name,
            version,
            state,
            revision,
            operation,
            changes,
            sequence: number,
        }
        .detail(&id);
        let arn = self.arn(&format!(
            "package/{}/{repository}/{format}/{}/{name}",
            self.domain,
            namespace.unwrap_or_default()
        ));
        let event = Event {
            id,
            detail_type: VersionChange::DETAIL_TYPE,
            resource: arn,
            subject,
            number,
            detail,
        };
        self.write(transaction, event).await
    }

    /// Writes an event about something else: `kind` says what its subject is, `detail` what
    /// happened.
    pub(super) async fn happened(
        &self,
        transaction: &mut AnyConnection,
        detail_type: &'static str,
        what: &str,
        mut detail: Value,
    ) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        let number = next_number(transaction, what).await?;
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("domainName".to_owned(), self.domain.as_str().into());
            detail.insert("domainOwner".to_owned(), self.owner.as_str().into());
            detail.insert("sequenceNumber".to_owned(), number.into());
        }
        let event = Event {
            id: random_name(),
            detail_type,
            resource: if what.starts_with("arn:") {
                what.to_owned()
            } else {
                self.arn(what)
            },
            subject: what.to_owned(),
            number,
            detail,
        };
        self.write(transaction, event).await
    }

    /// Writes an event about a repository.
    pub(super) async fn repository_changed(
        &self,
        transaction: &mut AnyConnection,
        name: &str,
        operation: &str,
    ) -> Result<(), Error> {
        let what = format!("repository/{}/{name}", self.domain);
        let detail = json!({ "repositoryName": name, "operationType": operation });
        self.happened(transaction, "Larder Repository Change", &what, detail)
            .await
    }

    /// Writes an event about a package group.
    pub(super) async fn group_changed(
        &self,
        transaction: &mut AnyConnection,
        pattern: &str,
        operation: &str,
    ) -> Result<(), Error> {
        let what = format!("package-group/{}{pattern}", self.domain);
        let detail = json!({ "packageGroup": pattern, "operationType": operation });
        self.happened(transaction, "Larder Package Group Change", &what, detail)
            .await
    }

    async fn write(&self, transaction: &mut AnyConnection, event: Event) -> Result<(), Error> {
        let envelope = Envelope {
            version: "0",
            id: event.id.clone(),
            detail_type: event.detail_type,
            source: self.source.clone(),
            account: self.owner.clone(),
            time: Envelope::time_of(clock::now()),
            region: self.region.clone(),
            resources: vec![event.resource],
            detail: event.detail,
        }
        .to_value();
        let document = envelope.to_string();
        let now = clock::unix_ms_now();
        for target in &self.targets {
            let passes = target
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&envelope));
            if !passes {
                continue;
            }
            sqlx::query(
                "INSERT INTO delivery (event, target, subject, number, document, created_at, state, attempts, next_at, said) \
                 VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, $6, '')",
            )
            .bind(event.id.as_str())
            .bind(target.name.as_str())
            .bind(event.subject.as_str())
            .bind(event.number)
            .bind(document.as_str())
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(())
    }
}

/// A package version as an event tells of it.
struct Version<'a> {
    repository: &'a str,
    package: &'a str,
    version: &'a str,
    state: &'a str,
    revision: &'a str,
}

struct Event {
    id: String,
    detail_type: &'static str,
    resource: String,
    subject: String,
    number: i64,
    detail: Value,
}

async fn next_number(transaction: &mut AnyConnection, subject: &str) -> Result<i64, Error> {
    let row = sqlx::query(
        "INSERT INTO event_sequence (subject, number) VALUES ($1, 1) \
         ON CONFLICT (subject) DO UPDATE SET number = event_sequence.number + 1 RETURNING number",
    )
    .bind(subject)
    .fetch_one(transaction)
    .await?;
    Ok(row.try_get(0)?)
}

/// An event on its way to one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub event: String,
    pub target: String,
    pub subject: String,
    /// The envelope, JSON.
    pub document: String,
    /// Milliseconds since 1970, as the others.
    pub created_at: i64,
    /// `waiting`, `delivered` or `dead`.
    pub state: String,
    pub attempts: u32,
    pub next_at: i64,
    /// What the target said last.
    pub said: String,
}

const COLUMNS: &str =
    "event, target, subject, document, created_at, state, attempts, next_at, said";

fn delivery(row: &AnyRow) -> Result<Delivery, Error> {
    Ok(Delivery {
        event: row.try_get(0)?,
        target: row.try_get(1)?,
        subject: row.try_get(2)?,
        document: row.try_get(3)?,
        created_at: row.try_get(4)?,
        state: row.try_get(5)?,
        attempts: u32::try_from(row.try_get::<i64, _>(6)?).unwrap_or(u32::MAX),
        next_at: row.try_get(7)?,
        said: row.try_get(8)?,
    })
}

impl Packages {
    /// Puts in force who is told what.
    pub fn tell(&self, config: &Config) {
        let written = Arc::clone(&self.outbox.load().written);
        self.outbox.store(Arc::new(Outbox::of(config, &written)));
    }

    /// Whether anybody is told anything.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        !self.outbox.load().is_closed()
    }

    /// Writes an event for each repository into which a version came from outside, of which the
    /// first asset was just pulled through the connection.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tell_pulled(
        &self,
        connection: &str,
        package: &str,
        version: &str,
    ) -> Result<(), Error> {
        let outbox = self.outbox.load_full();
        let Some(repositories) = outbox.drawing.get(connection) else {
            return Ok(());
        };
        let (_place, mut transaction) = self.begin().await?;
        for repository in repositories {
            let version = Version {
                repository,
                package,
                version,
                state: "Published",
                revision: "",
            };
            let changes = Changes {
                assets_added: 1,
                ..Changes::default()
            };
            outbox
                .version_is(&mut transaction, version, Operation::Created, changes)
                .await?;
        }
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }

    /// Rings when something may be there to deliver.
    #[must_use]
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.outbox.load().written)
    }

    /// Of each subject the first event that waits for the target, where it is due: events about one
    /// subject go in their order.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn due(&self, target: &str, now: i64, limit: usize) -> Result<Vec<Delivery>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM delivery d WHERE target = $1 AND state = 'waiting' AND next_at <= $2 \
             AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.target = d.target AND e.state = 'waiting' \
             AND e.subject = d.subject AND e.number < d.number) ORDER BY created_at LIMIT $3"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(target)
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(delivery).collect()
    }

    /// When the next event of the target is due; `None` where none waits.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn next_due(&self, target: &str) -> Result<Option<i64>, Error> {
        let row = sqlx::query(
            "SELECT MIN(next_at) FROM delivery WHERE target = $1 AND state = 'waiting'",
        )
        .bind(target)
        .fetch_one(&self.pool)
        .await?;
        Ok(row.try_get(0)?)
    }

    /// Notes how far a delivery is, unless another process was first; says whether it was noted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn delivery_is(
        &self,
        one: &Delivery,
        state: &str,
        attempts: u32,
        next_at: i64,
        said: &str,
    ) -> Result<bool, Error> {
        let (_place, mut transaction) = self.begin().await?;
        let done = sqlx::query(
            "UPDATE delivery SET state = $3, attempts = $4, next_at = $5, said = $6 \
             WHERE event = $1 AND target = $2 AND state = 'waiting' AND next_at = $7",
        )
        .bind(one.event.as_str())
        .bind(one.target.as_str())
        .bind(state)
        .bind(i64::from(attempts))
        .bind(next_at)
        .bind(said)
        .bind(one.next_at)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Deliveries, the newest first: of one state, or of all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn deliveries(
        &self,
        state: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM delivery WHERE state = $1 OR $1 = '' ORDER BY created_at DESC, number DESC LIMIT $2"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(state.unwrap_or_default())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(delivery).collect()
    }

    /// Sends an event again, or all that were put aside; says how many.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn replay(&self, event: Option<&str>) -> Result<u64, Error> {
        let (_place, mut transaction) = self.begin().await?;
        let done = sqlx::query(
            "UPDATE delivery SET state = 'waiting', attempts = 0, next_at = $2 \
             WHERE (event = $1 AND state <> 'waiting') OR ($1 = '' AND state = 'dead')",
        )
        .bind(event.unwrap_or_default())
        .bind(clock::unix_ms_now())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.outbox.load().written.notify_waiters();
        Ok(done.rows_affected())
    }

    /// Forgets what was delivered before this time, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn forget_delivered(&self, before: i64) -> Result<(), Error> {
        let (_place, mut transaction) = self.begin().await?;
        sqlx::query("DELETE FROM delivery WHERE state = 'delivered' AND next_at < $1")
            .bind(before)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Writes an event about what is no change to the catalog.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn tell_of(
        &self,
        detail_type: &'static str,
        what: &str,
        detail: Value,
    ) -> Result<(), Error> {
        let outbox = self.outbox.load_full();
        if outbox.is_closed() {
            return Ok(());
        }
        let (_place, mut transaction) = self.begin().await?;
        outbox
            .happened(&mut transaction, detail_type, what, detail)
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }
}
