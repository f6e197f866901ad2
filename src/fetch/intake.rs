//! Takes a document's body in: into the store, once it is what its registry promised and a document
//! of the kind and the package that were asked for.

use std::sync::Arc;

use http::header::{ETAG, LAST_MODIFIED};
use serde_json::json;
use tracing::{info, warn};

use super::document::{
    Document, DocumentContent, DocumentFetcher, Job, Kept, StillCurrent, media_type, seconds,
};
use super::outcome::Outcome;
use super::store_problem;
use crate::clock;
use crate::connection::{Error, Opened};
use crate::format::{ArrivingDocument, FormatError, Recognised, counted, is_of_disk};
use crate::package::{BlobId, Expected};
use crate::problem::{Decider, Kind, Problem};
use crate::store::catalog::DocumentRow;
use crate::store::{self, Keeping, NotKept};
use crate::telemetry::ConnectionLabels;

/// While the disk is full, documents up to this size are passed on from memory.
const UNKEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a body was not stored.
pub(super) enum Taking {
    Failed(Error),
    Refused(Problem),
    /// The disk did not take it; from memory it can be passed on.
    Unkept(NotKept),
}

/// The type and address of a body, by its registry's answer.
struct Told<'a> {
    media_type: &'a str,
    url: &'a url::Url,
}

impl DocumentFetcher {
    /// Takes a new body into the store, or into memory where the store has no room, or is known by
    /// `unkept` not to have taken it. `known` is the document whose place it takes.
    pub(super) async fn take(
        &self,
        job: &Job,
        mut opened: Opened,
        known: Option<&Document>,
        unkept: Option<NotKept>,
    ) -> Result<Arc<Document>, Taking> {
        let started = job.started;
        let validity = self.validity(&job.connection, &opened, None);
        let max = self.config.document_bytes_max;
        if let Some(length) = opened.length().filter(|length| *length > max) {
            return Err(too_large(job, length, max));
        }
        let media_type = media_type(&opened.headers);
        let (etag, last_modified) = (opened.header(ETAG), opened.header(LAST_MODIFIED));
        let url = opened.url.clone();
        let told = Told {
            media_type: &media_type,
            url: &url,
        };
        let algorithms: Vec<_> = job
            .promises
            .iter()
            .filter_map(|promise| promise.algorithm)
            .collect();
        let incoming = match unkept {
            Some(why) => Err(store::Error::NotKept(why)),
            None => {
                let store = &self.store;
                store
                    .incoming(opened.length(), &algorithms, Keeping::Cached)
                    .await
            }
        };
        let (content, recognised) = match incoming {
            Ok(mut incoming) => {
                while let Some(piece) = opened.piece().await.map_err(Taking::Failed)? {
                    let length = incoming.sent() + piece.len() as u64;
                    if length > max {
                        return Err(too_large(job, length, max));
                    }
                    incoming
                        .write(piece)
                        .await
                        .map_err(|error| taking(error, &job.what))?;
                }
                drop(opened);
                let expected = self.promised_of(job).await.map_err(Taking::Failed)?;
                let verified = incoming.verify(&expected).await.map_err(|error| {
                    if error.is_unverified() {
                        self.promises
                            .note_broken(&job.connection, &job.what, &error);
                    }
                    taking(error, &job.what)
                })?;
                // The bytes that are here already were recognised when they came.
                let is_here = known.is_some_and(|it| it.row.blob == verified.digests().blob);
                let recognised = match known.filter(|_| is_here) {
                    Some(known) => known.row.versions,
                    None => {
                        let (size, reader) = (verified.size(), verified.reader());
                        self.recognise(job, &told, size, reader).await?
                    }
                };
                let kept = verified.keep(Keeping::Cached).await;
                let blob = kept.map_err(|error| taking(error, &job.what))?;
                (DocumentContent::Stored(blob), recognised)
            }
            Err(store::Error::NotKept(why)) => {
                info!(document = %job.key.key, why = why.as_str(), "A document was not stored; it is passed on from memory");
                let body = opened.body(max.min(UNKEPT_BYTES_MAX)).await;
                let body = body.map_err(Taking::Failed)?;
                let (size, reader) = (body.len() as u64, std::io::Cursor::new(body.clone()));
                let recognised = self.recognise(job, &told, size, reader).await?;
                (DocumentContent::Passing(body), recognised)
            }
            Err(error) => return Err(taking(error, &job.what)),
        };
        if let (Some(before), Some(now)) = (known.and_then(|it| it.row.versions), recognised)
            && before.saturating_sub(now).saturating_mul(2) > before
        {
            self.tell_shrunk(job, before, now);
        }
        let now = clock::unix_now();
        let (blob, size) = match &content {
            DocumentContent::Stored(blob) => (blob.id(), blob.size()),
            DocumentContent::Passing(bytes) => (BlobId::of(bytes), bytes.len() as u64),
        };
        let document = Arc::new(Document {
            row: DocumentRow {
                blob,
                size,
                url: url.to_string(),
                media_type,
                etag,
                last_modified,
                policy: validity.policy,
                fetched_at: now,
                checked_at: now,
                fresh_until: now.saturating_add(seconds(validity.fresh_for)),
                stale_for: seconds(validity.stale_for),
                fetch_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX),
                versions: recognised,
            },
            content,
            outcome: Outcome::Hit,
            url,
            still_current: StillCurrent::default(),
        });
        if matches!(document.content, DocumentContent::Stored(_)) {
            self.remember(&job.connection, &job.key, &document).await;
        }
        if job.kept == Kept::Absence {
            self.absences.forget(&job.key);
        }
        Ok(Arc::new(Document {
            outcome: Outcome::Miss,
            ..document.as_ref().clone()
        }))
    }

    async fn promised_of(&self, job: &Job) -> Result<Expected, Error> {
        if job.promises.is_empty() {
            return Ok(Expected::none());
        }
        let located = job.promises.iter().filter_map(|promise| {
            let url = job.connection.locate(&promise.location)?;
            Some((promise.clone(), url))
        });
        self.promises.read(&job.connection, located.collect()).await
    }

    /// Asks the format whether the bytes are what was asked for. Returns how many versions they list,
    /// where they are such a list.
    async fn recognise(
        &self,
        job: &Job,
        told: &Told<'_>,
        size: u64,
        mut reader: impl std::io::Read + Send + 'static,
    ) -> Result<Option<i64>, Taking> {
        let protocol = job.connection.format.protocol();
        let key = job.key.key.clone();
        let (media_type, url) = (told.media_type.to_owned(), told.url.clone());
        let recognising = self.memory.run(size, move || {
            protocol.recognise(&mut ArrivingDocument {
                key: &key,
                media_type: &media_type,
                url: &url,
                reader: &mut reader,
            })
        });
        match recognising.await.map_err(Taking::Refused)? {
            Ok(Recognised::List(count)) => Ok(Some(i64::try_from(count).unwrap_or(i64::MAX))),
            Ok(Recognised::Other) => Ok(None),
            Err(error) if is_of_disk(&error) => Err(Taking::Refused(Problem::internal(
                "a document could not be read",
                error,
            ))),
            Err(error) => {
                let error = no_document(told.media_type, size, &error);
                self.tell_no_document(job, &error);
                Err(Taking::Failed(error))
            }
        }
    }

    fn tell_no_document(&self, job: &Job, error: &Error) {
        let name = &job.connection.name;
        let labels = ConnectionLabels {
            connection: name.clone(),
        };
        self.metrics.no_documents.get_or_create(&labels).inc();
        warn!(connection = %name, document = %job.key.key, %error, "Connection `{name}` answered with what is no document of {}; it is not taken", job.what);
        let said = format!("{}: {error}", job.what);
        self.tell(job, "Refused", &said, json!({}));
    }

    fn tell_shrunk(&self, job: &Job, before: i64, now: i64) {
        let name = &job.connection.name;
        warn!(connection = %name, document = %job.key.key, before, now, "Most versions of {} went from the document of connection `{name}`; the new one is in force", job.what);
        let said = format!(
            "{} lists {} where it listed {before}",
            job.what,
            counted(now.unsigned_abs(), "version")
        );
        let counts = json!({ "versionsBefore": before, "versionsNow": now });
        self.tell(job, "Shrunk", &said, counts);
    }

    /// Writes an event about the connection's document, in the background, and once in a while about
    /// the same.
    fn tell(&self, job: &Job, state: &'static str, said: &str, more: serde_json::Value) {
        let events = self.store.packages().events().clone();
        let key = (state, job.key.clone());
        if !events.has_listeners() || !self.told.entry(key).or_insert(()).is_fresh() {
            return;
        }
        let name = &job.connection.name;
        let what = format!("connection/{}/{name}", self.domain);
        let mut detail = json!({
            "connectionName": name,
            "document": job.what,
            "documentState": state,
            "message": said,
        });
        if let (Some(detail), serde_json::Value::Object(more)) = (detail.as_object_mut(), more) {
            detail.extend(more);
        }
        self.tasks.spawn(async move {
            let told = events.tell_of("Larder Upstream Document", &what, detail);
            if let Err(error) = told.await {
                warn!(%error, "Recording an event about a registry's document failed; no target is told");
            }
        });
    }
}

/// Describes an answer that is no document.
fn no_document(media_type: &str, size: u64, error: &FormatError) -> Error {
    let media_type = match media_type {
        "" => "no media type".to_owned(),
        media_type => media_type.escape_debug().to_string(),
    };
    Error::NoDocument(format!("{media_type}, {}: {error}", counted(size, "byte")))
}

fn taking(error: store::Error, what: &str) -> Taking {
    match error {
        store::Error::Unverified { .. } => Taking::Refused(
            Problem::new(
                Kind::Unverified,
                Decider::Larder,
                format!("{what} is not what its registry promised"),
            )
            .advice("try again; if it stays so, the registry is to blame")
            .caused_by(error),
        ),
        store::Error::NotKept(why) => Taking::Unkept(why),
        store::Error::Length { .. } => Taking::Failed(Error::Body(error.to_string())),
        error => Taking::Refused(store_problem(error, what)),
    }
}

fn too_large(job: &Job, length: u64, max: u64) -> Taking {
    Taking::Refused(
        Problem::new(
            Kind::Upstream,
            Decider::Larder,
            format!(
                "{} has {length} bytes, more than document_bytes_max, {max}",
                job.what
            ),
        )
        .advice("raise `fetch.document_bytes_max`"),
    )
}
