//! Versions and publish dates of formats whose evidence is in paths: documents list the versions, and
//! a file of each has its date.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream;
use http::Method;
use http::header::LAST_MODIFIED;
use jiff::Timestamp;
use tracing::{debug, warn};

use super::evidence::{EvidenceReader, unreadable};
use super::render::upstream;
use crate::connection::{Connection, UpstreamRequest};
use crate::fetch::{Document, Freshen, ResourceKey};
use crate::format::{DocumentId, Evidence, FormatError, PathEvidence};
use crate::package::PackageId;
use crate::problem::Problem;

/// How many versions' dates are asked for at once, where no document has them.
const DATES_AT_ONCE: usize = 16;

impl EvidenceReader {
    /// Publish dates of versions whose documents have none: the `Last-Modified` of a file that
    /// the format names. A version without one is left out.
    pub async fn dates(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        versions: &[String],
    ) -> Result<HashMap<String, Timestamp>, Problem> {
        let catalog = self.fetcher.store().catalog();
        let mut known = catalog
            .publish_dates()
            .of_package(&connection.registry, package)
            .await?;
        let Evidence::Path(evidence) = connection.format.protocol().evidence() else {
            return Ok(known);
        };
        let undated = |version: &str| ResourceKey {
            connection: connection.registry.as_str().into(),
            key: format!("date:{package}@{version}").into(),
        };
        let absences = self.fetcher.absences();
        let mut missing: Vec<&String> = versions
            .iter()
            .filter(|version| !known.contains_key(*version))
            .filter(|version| absences.fresh(&undated(version)).is_none())
            .collect();
        if missing.len() > self.dates_max {
            // The newest are the ones that somebody is likely to want. Without a date the others are
            // held back; the next request goes on with them.
            let protocol = package.format().protocol();
            missing.sort_by(|a, b| protocol.compare(b, a));
            missing.truncate(self.dates_max);
        }
        let missing: Vec<_> = missing
            .into_iter()
            .map(|version| (version.clone(), evidence.dated_by(package, version)))
            .collect();
        let is_away = AtomicBool::new(false);
        let is_away = &is_away;
        let learned: Vec<Option<(String, Timestamp)>> = stream::iter(missing)
            .map(|(version, location)| async move {
                if is_away.load(Ordering::Relaxed) {
                    return None;
                }
                let url = self.locate(connection, &location).await.ok()?;
                let ask = UpstreamRequest {
                    method: Method::HEAD,
                    ..UpstreamRequest::get(url, "*/*", std::time::Duration::from_secs(20))
                };
                match connection.ask(&ask).await {
                    Ok(opened) => {
                        let date =
                            httpdate::parse_http_date(&opened.header(LAST_MODIFIED)?).ok()?;
                        Some((version, Timestamp::try_from(date).ok()?))
                    }
                    Err(error) => {
                        if error.is_outage() {
                            // The others need not wait for it in vain as well.
                            is_away.store(true, Ordering::Relaxed);
                        } else {
                            let problem = error.problem(&connection.name, &version);
                            absences.note(&undated(&version), &problem);
                        }
                        debug!(%package, version, %error, "Reading a version's publish date failed");
                        None
                    }
                }
            })
            .buffer_unordered(DATES_AT_ONCE)
            .collect()
            .await;
        // The date of a file that may still change is not kept; it is asked for each time.
        let learned: Vec<_> = learned.into_iter().flatten().collect();
        let lasting: Vec<_> = learned
            .iter()
            .filter(|(version, _)| !evidence.is_mutable(version))
            .cloned()
            .collect();
        if let Err(error) = catalog
            .publish_dates()
            .keep(&connection.registry, package, &lasting)
            .await
        {
            warn!(%error, "Writing publish dates failed; they are asked for again when needed");
        }
        known.extend(learned);
        Ok(known)
    }

    /// The versions that the connection's documents of the package list, where its format has such.
    pub async fn listed_versions(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
    ) -> Result<Vec<String>, Problem> {
        let (protocol, what) = (package.format().protocol(), package.full_name());
        let mut versions = Vec::new();
        let Evidence::Path(evidence) = protocol.evidence() else {
            return Ok(versions);
        };
        for id in evidence.listings(package) {
            let resource = protocol.resource(&id, false);
            let document = self
                .freshen(connection, &resource, Freshen::AsCached, &what)
                .await?;
            let named = self.versions_in(connection, evidence, id, &document);
            let named = named.await?;
            versions.extend(named.map_err(|error| unreadable(connection, &what, error))?);
        }
        Ok(versions)
    }

    /// The versions that one document lists.
    pub(super) async fn versions_in(
        &self,
        connection: &Arc<Connection>,
        evidence: &'static dyn PathEvidence,
        id: DocumentId,
        document: &Arc<Document>,
    ) -> Result<Result<Vec<String>, FormatError>, Problem> {
        let room = self.fetcher.memory().room(document.row.size).await?;
        let bytes = document.bytes(&self.fetcher).await?;
        let (owner, document) = (Arc::clone(connection), Arc::clone(document));
        room.run(move || evidence.versions(&id, &upstream(&owner, &document, &bytes, None)))
            .await
    }
}
