//! What is known of a package, and what the rules make of it: one decision for both doors.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream;
use http::Method;
use http::header::LAST_MODIFIED;
use jiff::Timestamp;
use tracing::{debug, warn};

use super::chain::Link;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::{Ask, Connection, Error};
use crate::fetch::{Document, Freshen};
use crate::format::{Evidence, FactsPart, FormatError, Resource, Upstream};
use crate::package::{AssetFacts, AssetId, BlobId, Expectation, Facts, Origin, PackageId};
use crate::problem::{Decider, Kind, Problem};
use crate::rule::{Concern, Question, Ruling};

/// How many versions' dates are asked for at once, where no document has them.
const DATES_AT_ONCE: usize = 16;

/// Facts are as good as the document that they were read from; what lies in further documents
/// changes with the one that names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FactsKey {
    connection: String,
    package: PackageId,
    document: BlobId,
}

/// Facts of a package, and what they were read from.
#[derive(Debug)]
pub struct PackageFacts {
    pub facts: Facts,
    /// The evidence's bytes, by name: what a rendering that depends on them is named by.
    pub documents: Vec<BlobId>,
}

/// Why a version is served or not.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    pub package: String,
    pub version: String,
    pub allowed: bool,
    pub rule: Option<String>,
    pub reason: String,
    pub published: Option<String>,
    pub connection: Option<String>,
}

impl Reader {
    /// Facts of the package at one connection. With `dates`, publish dates among them.
    pub(super) async fn facts(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        package: &PackageId,
        dates: bool,
        freshen: Freshen,
    ) -> Result<Arc<PackageFacts>, Problem> {
        let protocol = connection.format.protocol();
        let Evidence::Documents(alternatives) = protocol.evidence(package, dates) else {
            return Ok(Arc::new(PackageFacts {
                facts: Facts::new(connection.format, Vec::new()),
                documents: Vec::new(),
            }));
        };
        let resource = self.handiest(connection, &alternatives).await?;
        let Some(resource) = resource else {
            return Err(Problem::internal("no evidence", "a format names none"));
        };
        let directory = self.directory(connection).await?;
        let first = self
            .evidence(connection, package, &resource, freshen)
            .await?;
        let key = FactsKey {
            connection: connection.name.clone(),
            package: package.clone(),
            document: first.row.blob,
        };
        if let Some(cached) = self.facts.get(&key).await
            && (freshen == Freshen::AsCached || cached.documents.len() == 1)
        {
            return Ok(cached);
        }
        let part = self
            .read_facts(connection, package, &first, directory.as_deref())
            .await?;
        let more = part
            .more
            .iter()
            .map(|resource| self.evidence(connection, package, resource, freshen));
        let mut documents = vec![first.row.blob];
        let mut assets = part.assets;
        for document in try_join_all(more).await? {
            let part = self
                .read_facts(connection, package, &document, directory.as_deref())
                .await?;
            assets.extend(part.assets);
            documents.push(document.row.blob);
        }
        let facts = Arc::new(PackageFacts {
            facts: Facts::new(connection.format, assets),
            documents,
        });
        self.facts.insert(key, Arc::clone(&facts)).await;
        Ok(facts)
    }

    /// Of documents that say the same, the first that is here already, else the first.
    pub(super) async fn handiest(
        &self,
        connection: &Connection,
        alternatives: &[Resource],
    ) -> Result<Option<Resource>, Problem> {
        for resource in alternatives {
            if self
                .fetcher
                .stored(connection, &resource.key)
                .await?
                .is_some()
            {
                return Ok(Some(resource.clone()));
            }
        }
        Ok(alternatives.first().cloned())
    }

    async fn evidence(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        resource: &Resource,
        freshen: Freshen,
    ) -> Result<Arc<Document>, Problem> {
        let what = package.full_name();
        self.freshen(connection, resource, freshen, &what).await
    }

    async fn read_facts(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        document: &Arc<Document>,
        directory: Option<&Document>,
    ) -> Result<FactsPart, Problem> {
        let bytes = document.bytes(&self.fetcher).await?;
        let directory = match directory {
            Some(directory) => Some(directory.bytes(&self.fetcher).await?),
            None => None,
        };
        let (of, owner, document) = (
            package.clone(),
            Arc::clone(connection),
            Arc::clone(document),
        );
        let part = self
            .rendering(move || {
                owner.format.protocol().facts(
                    &of,
                    &Upstream {
                        bytes: &bytes,
                        media_type: &document.row.media_type,
                        url: &document.url,
                        base: &owner.url,
                        directory: directory.as_deref(),
                    },
                )
            })
            .await?;
        part.map_err(|error| unreadable(connection, &package.full_name(), error))
    }

    /// Facts of one asset that the rules let through.
    pub(super) async fn permitted_facts(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        connection: &Arc<Connection>,
        asset: &AssetId,
        concern: Concern,
    ) -> Result<AssetFacts, Problem> {
        let facts = self.asset_facts(connection, asset, concern.dates).await?;
        permit(
            snapshot,
            concern,
            &asset.package,
            &facts.version,
            facts.published,
        )?;
        Ok(facts)
    }

    /// Facts of one asset, with its publish date where rules ask for one.
    async fn asset_facts(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        asset: &AssetId,
        dates: bool,
    ) -> Result<AssetFacts, Problem> {
        let protocol = connection.format.protocol();
        if let Some(facts) = protocol.path_facts(asset) {
            if !dates {
                return Ok(facts);
            }
            let version = facts.version.to_string();
            let published = self
                .dates(connection, &asset.package, std::slice::from_ref(&version))
                .await?;
            return Ok(AssetFacts {
                published: published.get(&version).copied(),
                ..facts
            });
        }
        if !dates && let Some(facts) = self.fact(connection, asset).await? {
            return Ok(facts);
        }
        let cached = self
            .facts(connection, &asset.package, dates, Freshen::AsCached)
            .await?;
        if let Some(facts) = cached.facts.file(&asset.file) {
            return Ok(facts.clone());
        }
        // What is not named may have been published since the document was taken in.
        let now = self
            .facts(connection, &asset.package, dates, Freshen::Now)
            .await?;
        if let Some(facts) = now.facts.file(&asset.file) {
            return Ok(facts.clone());
        }
        if let Some(denied) = self.denied_upstream(connection, asset).await {
            return Err(denied);
        }
        Err(Problem::not_found(
            Decider::Connection(connection.name.clone()),
            format!("{} has no file {}", asset.package.full_name(), asset.file),
        )
        .advice("the registry's document of the package does not name it"))
    }

    /// Why upstream does not name an asset, where it is a Larder whose rules hold it back.
    async fn denied_upstream(
        &self,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) -> Option<Problem> {
        let location = connection.format.protocol().usual_place(asset)?;
        let url = self.locate(connection, &location).await.ok()?;
        let ask = Ask {
            identity: true,
            ..Ask::get(url, "*/*", std::time::Duration::from_secs(5))
        };
        match connection.ask(&ask).await {
            Err(error @ Error::Denied { .. }) => {
                Some(error.problem(&connection.name, &asset.to_string()))
            }
            _ => None,
        }
    }

    /// Facts of one asset out of its package's document, those of all others left where they are.
    async fn fact(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        asset: &AssetId,
    ) -> Result<Option<AssetFacts>, Problem> {
        let protocol = connection.format.protocol();
        let Evidence::Documents(alternatives) = protocol.evidence(&asset.package, false) else {
            return Ok(None);
        };
        // A name that shows no version does not lead to one.
        if protocol.guess(asset).is_none() {
            return Ok(None);
        }
        let Some(resource) = self.handiest(connection, &alternatives).await? else {
            return Ok(None);
        };
        let document = self
            .evidence(connection, &asset.package, &resource, Freshen::AsCached)
            .await?;
        let bytes = document.bytes(&self.fetcher).await?;
        let (owner, asset) = (Arc::clone(connection), asset.clone());
        self.rendering(move || {
            let upstream = super::render::upstream(&owner, &document, &bytes, None);
            owner.format.protocol().fact(&asset, &upstream)
        })
        .await
    }

    /// Publish dates of versions whose documents have none: the `Last-Modified` of a file that
    /// the format names. A version without one is left out.
    pub(super) async fn dates(
        &self,
        connection: &Arc<Connection>,
        package: &PackageId,
        versions: &[String],
    ) -> Result<HashMap<String, Timestamp>, Problem> {
        let catalog = self.fetcher.store().catalog();
        let mut known = catalog
            .publish_dates(&connection.name, package)
            .await
            .map_err(|error| Problem::internal("the catalog cannot be read", error))?;
        let protocol = connection.format.protocol();
        let missing = versions
            .iter()
            .filter(|version| !known.contains_key(*version))
            .filter_map(|version| {
                let location = protocol.dated_by(package, version)?;
                Some((version.clone(), location))
            });
        let missing: Vec<_> = missing.collect();
        let learned: Vec<Option<(String, Timestamp)>> = stream::iter(missing)
            .map(|(version, location)| async move {
                let url = self.locate(connection, &location).await.ok()?;
                let ask = Ask {
                    method: Method::HEAD,
                    ..Ask::get(url, "*/*", std::time::Duration::from_secs(20))
                };
                match connection.ask(&ask).await {
                    Ok(opened) => {
                        let date =
                            httpdate::parse_http_date(&opened.header(LAST_MODIFIED)?).ok()?;
                        Some((version, Timestamp::try_from(date).ok()?))
                    }
                    Err(error) => {
                        debug!(%package, version, %error, "No publish date");
                        None
                    }
                }
            })
            .buffer_unordered(DATES_AT_ONCE)
            .collect()
            .await;
        // A snapshot's date moves; it is asked for again each time.
        let learned: Vec<_> = learned.into_iter().flatten().collect();
        let lasting: Vec<_> = learned
            .iter()
            .filter(|(version, _)| !version.ends_with("-SNAPSHOT"))
            .cloned()
            .collect();
        if let Err(error) = catalog
            .keep_publish_dates(&connection.name, package, &lasting)
            .await
        {
            warn!(%error, "Publish dates were not written");
        }
        known.extend(learned);
        Ok(known)
    }

    /// Says why a version is served or not, by the same facts and the same decision.
    ///
    /// # Errors
    /// Where no connection can say what the version is.
    pub async fn explain(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        repository: &Repository,
        package: &PackageId,
        version: &str,
    ) -> Result<Explanation, Problem> {
        let rules = &snapshot.config.rules;
        let now = clock::now();
        let concern = rules.concern(package, now);
        let wanted = package.format().protocol().known_version(version);
        let mut published = None;
        let mut found = None;
        let mut origin = Origin::External;
        let chain = self.chain(snapshot, repository, package).await?;
        for link in &chain.links {
            match link {
                Link::Own { repository, held } => {
                    let listing = held.listing.as_ref();
                    if let Some(release) = listing.and_then(|listing| listing.find(&wanted)) {
                        published = Some(release.published);
                        origin = release.origin;
                        found = Some(repository.to_string());
                        if !release.status.is_served() {
                            let reason = format!("its status is {}", release.status);
                            return Ok(refused(package, version, reason, found));
                        }
                        break;
                    }
                }
                Link::Outside(connection) if concern.dates => {
                    match self.published(connection, package, version).await {
                        Ok(date) => {
                            published = date;
                            found = Some(connection.name.clone());
                            break;
                        }
                        Err(problem) if problem.kind == Kind::NotFound => {}
                        Err(problem) => return Err(problem),
                    }
                }
                Link::Outside(_) => {}
            }
        }
        if let (Some(barred), None) = (&chain.barred, &found) {
            return Ok(refused(package, version, barred.message.clone(), found));
        }
        let question = Question {
            package,
            version,
            published,
            origin,
        };
        let decision = rules.decide(&question, now);
        let reason = match (&decision.ruling, decision.permit(&question), concern) {
            (Ruling::Allowed, _, _) if decision.rule.is_none() => "no rule matches".to_owned(),
            (Ruling::Allowed, _, _) => "allowed".to_owned(),
            (_, Err(problem), _) => problem.message,
            (Ruling::Denied { why, .. }, Ok(()), _) => why.clone(),
        };
        Ok(Explanation {
            package: package.to_string(),
            version: version.to_owned(),
            allowed: decision.is_allowed(),
            rule: decision.rule.map(|rule| rule.name.clone()),
            reason,
            published: published.map(|published| published.to_string()),
            connection: found,
        })
    }

    async fn published(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        package: &PackageId,
        version: &str,
    ) -> Result<Option<Timestamp>, Problem> {
        if matches!(
            connection.format.protocol().evidence(package, true),
            Evidence::Path
        ) {
            let dates = self
                .dates(connection, package, &[version.to_owned()])
                .await?;
            return Ok(dates.get(version).copied());
        }
        let facts = self
            .facts(connection, package, true, Freshen::AsCached)
            .await?;
        Ok(facts
            .facts
            .version(version)
            .and_then(|asset| asset.published))
    }
}

/// Held back by something other than a rule.
fn refused(
    package: &PackageId,
    version: &str,
    reason: String,
    found: Option<String>,
) -> Explanation {
    Explanation {
        package: package.to_string(),
        version: version.to_owned(),
        allowed: false,
        rule: None,
        reason,
        published: None,
        connection: found,
    }
}

/// Asks the rules about one asset from outside.
pub fn permit(
    snapshot: &Snapshot,
    concern: Concern,
    package: &PackageId,
    version: &str,
    published: Option<Timestamp>,
) -> Result<(), Problem> {
    if !concern.versions {
        return Ok(());
    }
    let question = Question {
        package,
        version,
        published,
        origin: Origin::External,
    };
    snapshot
        .config
        .rules
        .decide(&question, clock::now())
        .permit(&question)
}

/// The resources that hold an asset's digests.
pub fn promises_of(facts: &AssetFacts) -> Vec<crate::package::Promise> {
    match &facts.expectation {
        Expectation::Promised(promises) | Expectation::Required(promises) => promises.clone(),
        Expectation::Known(_) | Expectation::FirstSeen => Vec::new(),
    }
}

/// A document that cannot be read, as the client learns of it.
pub fn unreadable(connection: &Connection, what: &str, error: FormatError) -> Problem {
    let decider = Decider::Connection(connection.name.clone());
    match error {
        FormatError::Absent(message) => Problem::not_found(decider, message),
        error => Problem::new(
            Kind::Upstream,
            decider,
            format!("the registry's document of {what} cannot be read: {error}"),
        )
        .advice("check the connection's `url` with `larder check`")
        .caused_by(error),
    }
}
