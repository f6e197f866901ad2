//! Reads documents: asks the sources for their parts, hides the versions that rules hide, merges
//! the parts into one document and keeps it compressed.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::decision::View;
use super::encoding::{ENCODED_BYTES_MIN, Encoding, Encodings};
use super::lookup::{Candidate, Lookup};
use super::own::OwnPackage;
use super::render::{OwnSource, Rendering};
use super::source::Publish;
use super::source_chain::{PackageSource, ShadowedVersions, SourceChain};
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Document, Freshen, Outcome, StillCurrent};
use crate::format::{Address, DocumentId, StreamedIndex};
use crate::package::{BlobId, PackageId};
use crate::problem::{Decider, Problem};
use crate::rule::Concern;
use crate::store::rendered::Rendered;

/// How the cache answered; the header `Cache-Status` is made of it.
#[derive(Clone, Debug)]
pub struct Cached {
    pub outcome: Outcome,
    pub connection: String,
    /// Seconds since upstream sent or confirmed the document.
    pub age: u64,
    /// How long fetching it took, in milliseconds.
    pub fetch_ms: u64,
}

/// For how long a reply may be given again without asking anything.
#[derive(Clone, Debug)]
pub struct ReuseCondition {
    /// When the reply was made, by a clock that may be set back; seconds since 1970.
    since: i64,
    /// Seconds since 1970.
    until: i64,
    /// One for each thing that the reply was made from, and for each source that had nothing to
    /// add: the reply is out of date as soon as one of them is.
    still_current: Vec<StillCurrent>,
}

impl ReuseCondition {
    /// The condition of a reply that nothing changes.
    #[cfg(test)]
    #[must_use]
    pub fn forever() -> Self {
        Self {
            since: 0,
            until: i64::MAX,
            still_current: Vec::new(),
        }
    }

    /// The condition of a reply that only the expiry of a rule can change.
    pub(super) fn by_rules(snapshot: &Snapshot, now: Timestamp) -> Self {
        let expiry = snapshot.config.rules.next_expiry(now);
        Self {
            since: now.as_second(),
            until: expiry.map_or(i64::MAX, Timestamp::as_second),
            still_current: Vec::new(),
        }
    }

    /// Adds the condition that the package catalog still says the same about the package.
    pub(super) fn with(mut self, chain: &SourceChain) -> Self {
        self.still_current
            .extend(chain.still_current.iter().cloned());
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.since = self.since.max(other.since);
        self.until = self.until.min(other.until);
        self.still_current.extend(other.still_current);
        self
    }

    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        now < self.until
            && clock::has_come(self.since, now)
            && !self.still_current.iter().any(StillCurrent::has_ended)
    }
}

/// A document to answer with.
pub struct DocumentReply {
    pub body: DocumentBody,
    /// Upstream's bytes, where the reply was made from them.
    pub of: Option<BlobId>,
    pub cached: Cached,
    pub last_modified: Option<String>,
    /// `None`: this reply may not be given again.
    pub reuse: Option<ReuseCondition>,
}

pub enum DocumentBody {
    Rendered(Arc<Rendered>),
    /// A document that is too large for memory: it is rendered while it is sent.
    Streamed {
        /// `None`: no connection has the document; it consists of our own packages alone.
        document: Option<Arc<Document>>,
        /// Names of our own packages.
        own: Vec<String>,
        index: &'static dyn StreamedIndex,
    },
}

impl Reader {
    /// Reads a document of all sources that have a part in it, the nearest winning per version.
    ///
    /// # Errors
    /// Where no source has the document, or a source does not answer: the packages of a farther
    /// source never take the place of a nearer one's.
    pub async fn document(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        id: &DocumentId,
        address: &Address,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let request = DocumentRequest::new(self, snapshot, repository, id, address);
        let reply = request.answer(encodings).await;
        if let (Err(problem), Some(package)) = (&reply, &id.package) {
            self.wish(repository, package, None, problem);
        }
        reply
    }
}

/// A document that is asked for.
struct DocumentRequest<'a> {
    reader: &'a Arc<Reader>,
    snapshot: &'a Arc<Snapshot>,
    repository: &'a Repository,
    id: &'a DocumentId,
    address: &'a Address,
    /// The question about its package, where it is a package's.
    lookup: Option<Lookup<'a>>,
    now: Timestamp,
    concern: Concern,
    /// Whether it is what a search finds, or a list of what there is.
    is_found: bool,
}

impl<'a> DocumentRequest<'a> {
    fn new(
        reader: &'a Arc<Reader>,
        snapshot: &'a Arc<Snapshot>,
        repository: &'a Repository,
        id: &'a DocumentId,
        address: &'a Address,
    ) -> Self {
        let package = id.package.as_ref();
        let lookup = package.map(|package| Lookup::new(snapshot, repository, package));
        // A document that is about no single package may name any package, so every rule may hide
        // something in it.
        let of_any = || Concern {
            versions: snapshot.config.rules.iter().next().is_some(),
            dates: false,
        };
        Self {
            reader,
            snapshot,
            repository,
            id,
            address,
            now: lookup.map_or_else(clock::now, |lookup| lookup.now),
            concern: lookup.map_or_else(of_any, |lookup| lookup.concern),
            is_found: id.view.format().protocol().search(id).is_some(),
            lookup,
        }
    }

    async fn answer(&self, encodings: &Encodings) -> Result<DocumentReply, Problem> {
        let chain = match &self.lookup {
            Some(lookup) => self.reader.chain(lookup).await?,
            None => SourceChain::of_connections(self.repository, self.id.view.format()),
        };
        let protocol = self.id.view.format().protocol();
        if let Some(index) = protocol.streamed_index(self.id) {
            return self.streamed(index, &chain).await;
        }
        let found = match &self.lookup {
            Some(_) => None,
            None => self.found().await?,
        };
        // Nearly all requests end here: there is one source, and nothing to merge.
        if let ([PackageSource::Outside(connection)], None) = (chain.sources.as_slice(), &found) {
            let shadowed = ShadowedVersions::default();
            let reply = self.of_connection(connection, shadowed, Some(encodings));
            let mut reply = reply.await.map_err(Problem::or_absent)?;
            reply.reuse = reply.reuse.map(|reuse| reuse.with(&chain));
            return Ok(reply);
        }
        let parts = self.parts(&chain, found).await?;
        self.of_parts(&chain, parts, encodings).await
    }

    /// The parts that the sources have of the document. A document of a kind that is never merged
    /// has one part, the nearest source's.
    async fn parts(&self, chain: &SourceChain, found: Option<Found>) -> Result<Vec<Part>, Problem> {
        let merges = self.id.view.format().protocol().merges(self.id);
        let found = match found {
            Some(found) => self.own_found(found).await?,
            None => None,
        };
        if !merges && let Some(found) = found {
            return Ok(vec![found]);
        }
        let walk = self.reader.walk(chain, self.id.package.as_ref());
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { repository, held } => {
                    self.own_part(&repository, &held, shadowed).await
                }
                PackageSource::Outside(connection) => {
                    let reply = self.of_connection(&connection, shadowed, None).await?;
                    Part::of(reply).map(Some)
                }
            }
        };
        if !merges {
            let first = walk.first(ask, || self.nothing()).await?;
            return Ok(vec![first.value]);
        }
        self.start(chain).await;
        let collected = if self.is_found {
            walk.answering(ask).await?
        } else {
            walk.all(ask).await?
        };
        let parts: Vec<Part> = found.into_iter().chain(collected.values).collect();
        if parts.is_empty() {
            let problem = collected.away.or(collected.absent);
            return Err(problem.unwrap_or_else(|| self.nothing()));
        }
        Ok(parts)
    }

    fn nothing(&self) -> Problem {
        let package = self.id.package.as_ref();
        let what = package.map_or_else(|| "the document".to_owned(), ToString::to_string);
        self.repository.has_none(self.id.view.format(), &what)
    }

    /// Asks all connections at once. The walk, which goes through them in order, then finds each
    /// answer in the cache.
    async fn start(&self, chain: &SourceChain) {
        let connections = chain.connections_at_once();
        if connections.len() < 2 {
            return;
        }
        let protocol = self.id.view.format().protocol();
        let resource = protocol.resource(self.id, self.concern.dates);
        let evidence = &self.reader.evidence;
        join_all(connections.into_iter().map(|connection| {
            evidence.freshen(connection, &resource, Freshen::AsCached, &resource.key)
        }))
        .await;
    }

    async fn of_parts(
        &self,
        chain: &SourceChain,
        parts: Vec<Part>,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let protocol = self.id.view.format().protocol();
        let encoding = if protocol.always_gzip(self.id) {
            Some(Encoding::Gzip)
        } else {
            encodings.best().filter(|_| !encodings.is_near)
        };
        // The reply may be given again only if every connection has a part in it: a connection that
        // lacks the package today may have it tomorrow, and nothing would end the reply then.
        let asked_outside = parts.iter().filter(|part| part.of.is_some()).count();
        let mut reuse = (asked_outside == chain.connections().count() && self.lookup.is_some())
            .then(|| ReuseCondition::by_rules(self.snapshot, self.now).with(chain));
        for part in &parts {
            reuse = reuse.zip(part.reuse.clone()).map(|(a, b)| a.and(b));
        }
        let mut cached = parts.first().map(|part| part.cached.clone());
        for part in &parts {
            if let Some(cached) = &mut cached
                && part.of.is_some()
                && !part.cached.outcome.is_hit()
            {
                *cached = part.cached.clone();
            }
        }
        let of = parts.iter().find_map(|part| part.of);
        let rendered = parts.into_iter().map(|part| part.rendered).collect();
        let renderer = &self.reader.renderer;
        let rendered = renderer
            .merged(self.id, rendered, encoding, self.now)
            .await?;
        if let (Some(reuse), Some(until)) = (&mut reuse, rendered.valid_until) {
            reuse.until = reuse.until.min(until);
        }
        Ok(DocumentReply {
            body: DocumentBody::Rendered(rendered),
            of,
            cached: cached.ok_or_else(|| Problem::internal("no document", "no part"))?,
            last_modified: None,
            reuse,
        })
    }

    /// Composes the part of our own packages; `None` where we have no such package.
    async fn own_part(
        &self,
        repository: &str,
        held: &OwnPackage,
        shadowed: ShadowedVersions,
    ) -> Result<Option<Part>, Problem> {
        let Some(listing) = &held.listing else {
            return Ok(None);
        };
        let protocol = self.id.view.format().protocol();
        let version = protocol.version_of_document(self.id);
        let release = version.and_then(|it| listing.find(&protocol.known_version(it)));
        if let (Some(lookup), Some(release)) = (&self.lookup, release) {
            lookup.permit(&Candidate::own(repository, release))?;
        }
        let name = format!("{repository} {} {}", listing.package, listing.revision);
        let mut view = View::new(self.snapshot, self.concern);
        view.own = Some(Arc::clone(listing));
        view.shadowed = shadowed;
        let of = OwnSource::Package { repository };
        let rendered = self.rendered_own(view, name.as_bytes(), of).await?;
        Ok(rendered.map(|rendered| self.part_of_own(repository, rendered)))
    }

    async fn rendered_own(
        &self,
        view: View,
        name: &[u8],
        of: OwnSource<'_>,
    ) -> Result<Option<Arc<Rendered>>, Problem> {
        let (id, address) = (self.id, self.address);
        let renderer = &self.reader.renderer;
        renderer
            .rendered_own(view, id, address, name, of, self.now)
            .await
    }

    fn part_of_own(&self, repository: &str, rendered: Arc<Rendered>) -> Part {
        let mut reuse = ReuseCondition::by_rules(self.snapshot, self.now);
        reuse.until = reuse.until.min(rendered.valid_until.unwrap_or(i64::MAX));
        Part {
            rendered,
            cached: own_cached(repository),
            of: None,
            reuse: Some(reuse),
        }
    }

    /// Searches our own packages; `None` where the document is not a search or a list.
    async fn found(&self) -> Result<Option<Found>, Problem> {
        let format = self.id.view.format();
        let (own, repository) = (&self.reader.own, self.repository);
        let takes_none = matches!(repository.publish, Publish::Deny) && own.is_empty();
        let Some(search) = format.protocol().search(self.id).filter(|_| !takes_none) else {
            return Ok(None);
        };
        if search.limit == 0 {
            return Ok(Some((Vec::new(), 0)));
        }
        let found = own
            .packages()
            .releases()
            .search(
                &repository.own_names(),
                format,
                &search.words,
                search.skip,
                search.limit,
            )
            .await?;
        Ok(Some(found))
    }

    async fn own_found(&self, found: Found) -> Result<Option<Part>, Problem> {
        let view = View::new(self.snapshot, self.concern);
        let name = serde_json::to_string(&found)
            .map_err(|error| Problem::internal("what a search found has no name", error))?;
        let of = OwnSource::Found(found.0, found.1);
        let rendered = self.rendered_own(view, name.as_bytes(), of).await?;
        let repository = &self.repository.name;
        Ok(rendered.map(|rendered| self.part_of_own(repository, rendered)))
    }

    /// A document that is rendered while it is sent: the nearest connection's, with the names of
    /// our own packages.
    async fn streamed(
        &self,
        index: &'static dyn StreamedIndex,
        chain: &SourceChain,
    ) -> Result<DocumentReply, Problem> {
        let format = self.id.view.format();
        let own: Vec<String> = self.found().await?.map_or_else(Vec::new, |(found, _)| {
            let prefix = format!("{format}:");
            let names = found.iter().map(|one| one.package.as_str());
            names
                .map(|name| name.strip_prefix(&prefix).unwrap_or(name).to_owned())
                .collect()
        });
        let walk = self.reader.walk(chain, None);
        let ask = |source: PackageSource, shadowed: ShadowedVersions| async move {
            match source {
                PackageSource::Own { .. } => Ok(None),
                PackageSource::Outside(connection) => self
                    .of_connection(&connection, shadowed, None)
                    .await
                    .map(Some),
            }
        };
        let mut answering = walk.first_answering(ask).await?;
        if !answering.values.is_empty() {
            let mut reply = answering.values.swap_remove(0);
            if let DocumentBody::Streamed { own: names, .. } = &mut reply.body {
                *names = own;
            }
            return Ok(reply);
        }
        let takes_none = matches!(self.repository.publish, Publish::Deny);
        match answering.away.or(answering.absent) {
            Some(problem) if own.is_empty() && (takes_none || problem.kind.is_outage()) => {
                Err(problem)
            }
            None if own.is_empty() && takes_none => Err(self.repository.no_source(format)),
            _ => Ok(DocumentReply {
                body: DocumentBody::Streamed {
                    document: None,
                    own,
                    index,
                },
                of: None,
                cached: own_cached(&self.repository.name),
                last_modified: None,
                reuse: None,
            }),
        }
    }

    /// One connection's document; without `encodings` as it is.
    async fn of_connection(
        &self,
        connection: &Arc<Connection>,
        shadowed: ShadowedVersions,
        encodings: Option<&Encodings>,
    ) -> Result<DocumentReply, Problem> {
        let (reader, id) = (self.reader, self.id);
        let protocol = connection.format.protocol();
        self.permit_version(connection, &shadowed).await?;
        let mut resource = protocol.resource(id, self.concern.dates);
        if connection.offline {
            // Which of them came in when there was a line is not for the client to know.
            let others = protocol.resources(id);
            let first = reader.evidence.first_cached(connection, &others);
            resource = first.await?.unwrap_or(resource);
        }
        let what = id
            .package
            .as_ref()
            .map_or_else(|| resource.key.clone(), PackageId::full_name);
        let document = reader
            .evidence
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await?;
        if let Some(lookup) = &self.lookup {
            reader.seen_outside(connection, lookup.package);
        }
        reader.asked_for_document(
            self.snapshot,
            self.repository,
            connection,
            id,
            &resource.key,
        );
        let cached = Cached {
            outcome: document.outcome,
            connection: connection.name.clone(),
            age: u64::try_from(self.now.as_second().saturating_sub(document.row.checked_at))
                .unwrap_or(0),
            fetch_ms: u64::try_from(document.row.fetch_ms).unwrap_or(0),
        };
        let last_modified = document.row.last_modified.clone();
        let of = document.row.blob;
        if let Some(index) = protocol.streamed_index(id) {
            return Ok(DocumentReply {
                of: Some(of),
                body: DocumentBody::Streamed {
                    document: Some(document),
                    own: Vec::new(),
                    index,
                },
                cached,
                last_modified,
                reuse: None,
            });
        }
        let mut view = reader
            .evidence
            .view(self.snapshot, connection, id, &document, self.concern)
            .await?;
        view.shadowed = shadowed;
        if protocol.is_promise(id) {
            view.is_only_source = self.is_only_source().await?;
        }
        let (encoding, at_leisure) = match encodings {
            None => (None, false),
            Some(_) if protocol.always_gzip(id) => (Some(Encoding::Gzip), false),
            Some(encodings) => (encodings.best(), encodings.is_near),
        };
        // A rendering that depends on several documents is not given again: it would have to end
        // with the first of them that changes, and the others are not tracked here.
        let is_of_one = view.directory.is_none()
            && view.stock.is_none()
            && !self.concern.dates
            && !protocol.is_promise(id);
        let rendered = reader
            .renderer
            .rendered(
                Rendering {
                    connection: Arc::clone(connection),
                    id: id.clone(),
                    address: self.address.clone(),
                    document: Arc::clone(&document),
                    view,
                    now: self.now,
                },
                encoding,
                at_leisure,
            )
            .await?;
        // A rendering that is still to be compressed is not given again uncompressed.
        let is_final = rendered.encoding.is_some()
            || encoding.is_none()
            || rendered.body.len() < ENCODED_BYTES_MIN;
        let reuse = ReuseCondition::by_rules(self.snapshot, self.now);
        let fresh_until = if connection.offline {
            i64::MAX
        } else {
            document.row.fresh_until
        };
        Ok(DocumentReply {
            of: Some(of),
            reuse: (is_of_one && is_final && document.outcome == Outcome::Hit).then(|| {
                ReuseCondition {
                    since: reuse.since,
                    until: reuse
                        .until
                        .min(fresh_until)
                        .min(rendered.valid_until.unwrap_or(i64::MAX)),
                    still_current: vec![document.still_current.clone()],
                }
            }),
            // A date would outlive the rule that changed the bytes.
            last_modified: last_modified.filter(|_| !self.concern.versions),
            body: DocumentBody::Rendered(rendered),
            cached,
        })
    }

    /// A document of one version (its attestations, its leaf, its manifest) is given where that
    /// version's files are.
    async fn permit_version(
        &self,
        connection: &Arc<Connection>,
        shadowed: &ShadowedVersions,
    ) -> Result<(), Problem> {
        let protocol = connection.format.protocol();
        let (Some(lookup), Some(version)) = (&self.lookup, protocol.version_of_document(self.id))
        else {
            return Ok(());
        };
        let decider = Decider::Connection(connection.name.clone());
        let what = format!("the document of {} {version}", lookup.package);
        shadowed.permit(decider, &what, version)?;
        if !lookup.concern.versions {
            return Ok(());
        }
        let published = if lookup.concern.dates {
            let facts = self.reader.evidence.version(lookup, connection, version);
            facts.await?.and_then(|facts| facts.published)
        } else {
            None
        };
        lookup.permit(&Candidate::outside(&connection.name, version, published))
    }

    /// Whether the repository has nothing of the format but what one connection has.
    async fn is_only_source(&self) -> Result<bool, Problem> {
        let (format, repository) = (self.id.view.format(), self.repository);
        let takes_own = self.snapshot.takes_own(repository);
        if takes_own || repository.connections_of(format).count() != 1 {
            return Ok(false);
        }
        self.reader.own.has_none_of(repository, format).await
    }
}

/// The hits of a search, and how many there are in all.
type Found = (Vec<crate::package::Summary>, u64);

/// One source's share of a document, uncompressed.
struct Part {
    rendered: Arc<Rendered>,
    cached: Cached,
    /// Upstream's bytes; `None` for our own packages.
    of: Option<BlobId>,
    reuse: Option<ReuseCondition>,
}

impl Part {
    fn of(reply: DocumentReply) -> Result<Self, Problem> {
        let DocumentBody::Rendered(rendered) = reply.body else {
            return Err(Problem::internal(
                "a streamed document is not merged",
                "it streams",
            ));
        };
        Ok(Self {
            rendered,
            cached: reply.cached,
            of: reply.of,
            reuse: reply.reuse,
        })
    }
}

/// The cache's answer for a reply that is made of our own packages alone.
pub(super) fn own_cached(repository: &str) -> Cached {
    Cached {
        outcome: Outcome::Hit,
        connection: repository.to_owned(),
        age: 0,
        fetch_ms: 0,
    }
}
