//! Events: written in the transaction of the change that they tell of, kept until they are through.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::database::Database;
use super::door::Statements;
use super::{Error, random_name};
use crate::clock;
use crate::config::{Config, EventTarget};
use crate::event::{Changes, Envelope, Operation, VersionChange};
use crate::store::sql::{ROWS_AT_ONCE, places};

/// The targets of events, and the source, domain and account that events name.
#[derive(Default)]
pub struct Outbox {
    source: String,
    domain: String,
    owner: String,
    region: String,
    targets: Vec<EventTarget>,
    /// Repositories that draw on a connection themselves: what it brings is theirs.
    drawing: HashMap<String, Vec<String>>,
    /// Told when there is something to deliver.
    pub written: Arc<Notify>,
}

impl Outbox {
    /// Reads the configuration's targets. `written` is the bell that rings with each new event; it
    /// stays the same across reloads.
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
    pub(super) async fn version_is(
        &self,
        transaction: &mut Statements,
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
        transaction: &mut Statements,
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
        transaction: &mut Statements,
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
        transaction: &mut Statements,
        pattern: &str,
        operation: &str,
    ) -> Result<(), Error> {
        let what = format!("package-group/{}{pattern}", self.domain);
        let detail = json!({ "packageGroup": pattern, "operationType": operation });
        self.happened(transaction, "Larder Package Group Change", &what, detail)
            .await
    }

    async fn write(&self, transaction: &mut Statements, event: Event) -> Result<(), Error> {
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
        let passes = |target: &&EventTarget| {
            let pattern = target.pattern.as_ref();
            pattern.is_none_or(|pattern| pattern.matches(&envelope))
        };
        let told: Vec<&EventTarget> = self.targets.iter().filter(passes).collect();
        for some in told.chunks(ROWS_AT_ONCE) {
            let sql = format!(
                "INSERT INTO delivery (event, target, subject, number, document, created_at, state, attempts, next_at, said) \
                 VALUES {}",
                places(some.len(), 10)
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
            for target in some {
                query = query
                    .bind(event.id.as_str())
                    .bind(target.name.as_str())
                    .bind(event.subject.as_str())
                    .bind(event.number)
                    .bind(document.as_str())
                    .bind(now)
                    .bind("waiting")
                    .bind(0i64)
                    .bind(now)
                    .bind("");
            }
            query.execute(&mut *transaction).await?;
        }
        Ok(())
    }
}

/// A package version as an event tells of it.
pub(super) struct Version<'a> {
    pub repository: &'a str,
    pub package: &'a str,
    pub version: &'a str,
    pub state: &'a str,
    pub revision: &'a str,
}

struct Event {
    id: String,
    detail_type: &'static str,
    resource: String,
    subject: String,
    number: i64,
    detail: Value,
}

async fn next_number(transaction: &mut Statements, subject: &str) -> Result<i64, Error> {
    let number = sqlx::query_scalar(
        "INSERT INTO event_sequence (subject, number) VALUES ($1, 1) \
         ON CONFLICT (subject) DO UPDATE SET number = event_sequence.number + 1 RETURNING number",
    )
    .bind(subject)
    .fetch_one(transaction)
    .await?;
    Ok(number)
}

/// Events as they happen, for those who are told of them.
#[derive(Clone)]
pub struct EventWriter {
    pub(super) database: Arc<Database>,
}

impl EventWriter {
    /// Puts in force who is told what.
    pub fn tell(&self, config: &Config) {
        let written = Arc::clone(&self.database.outbox.load().written);
        self.database
            .outbox
            .store(Arc::new(Outbox::of(config, &written)));
    }

    /// Whether anybody is told anything.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        !self.database.outbox.load().is_closed()
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
        let outbox = self.database.outbox.load_full();
        let Some(repositories) = outbox.drawing.get(connection) else {
            return Ok(());
        };
        let (_place, mut transaction) = self.database.begin().await?;
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
        let outbox = self.database.outbox.load_full();
        if outbox.is_closed() {
            return Ok(());
        }
        let (_place, mut transaction) = self.database.begin().await?;
        outbox
            .happened(&mut transaction, detail_type, what, detail)
            .await?;
        transaction.commit().await?;
        outbox.written.notify_waiters();
        Ok(())
    }
}
