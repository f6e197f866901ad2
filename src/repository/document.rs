//! Documents: of all sources that have a part in them, merged, filtered by rules, kept compressed.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::chain::{Chain, Link, Taken};
use super::encoding::{ENCODED_BYTES_MIN, Encoding, Encodings};
use super::evidence::unreadable;
use super::render::{OwnSource, View, upstream};
use super::source::Publish;
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Currency, Document, Freshen, Outcome};
use crate::format::{Address, DocumentId, Evidence};
use crate::package::{BlobId, PackageId};
use crate::problem::{Kind, Problem};
use crate::rule::Concern;
use crate::store::rendered::Rendered;

/// How a reply was come by: what `Cache-Status` says.
#[derive(Clone, Debug)]
pub struct Cached {
    pub outcome: &'static str,
    pub connection: String,
    /// Seconds since upstream vouched for it.
    pub age: u64,
    /// What fetching it took, in milliseconds.
    pub fetch_ms: u64,
}

impl Cached {
    #[must_use]
    pub fn is_hit(&self) -> bool {
        is_hit(self.outcome)
    }

    /// Whether it was here before anybody asked: what another's fetch brings was not.
    #[must_use]
    pub fn was_here(&self) -> bool {
        self.is_hit() && self.outcome != Outcome::Collapsed.as_str()
    }
}

/// Whether what the cache did spared a fetch.
#[must_use]
pub fn is_hit(outcome: &str) -> bool {
    matches!(
        outcome,
        "hit" | "stale" | "revalidated" | "revalidating" | "collapsed"
    )
}

/// For how long a reply may be given again without asking anything.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Seconds since 1970.
    until: i64,
    /// Of all that it was made from, and of what had nothing to add.
    currencies: Vec<Currency>,
}

impl Lasting {
    /// A reply that rules may change at their next expiry, and nothing else.
    pub(super) fn by_rules(snapshot: &Snapshot, now: Timestamp) -> Self {
        let expiry = snapshot.config.rules.next_expiry(now);
        Self {
            until: expiry.map_or(i64::MAX, Timestamp::as_second),
            currencies: Vec::new(),
        }
    }

    /// The same, as long as the catalog says nothing else of the package.
    pub(super) fn with(mut self, chain: &Chain) -> Self {
        self.until = self.until.min(chain.until);
        self.currencies.extend(chain.currencies.iter().cloned());
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.until = self.until.min(other.until);
        self.currencies.extend(other.currencies);
        self
    }

    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        now < self.until && !self.currencies.iter().any(Currency::has_ended)
    }
}

/// A document to answer with.
pub struct DocumentReply {
    pub body: DocumentBody,
    /// Upstream's bytes, where it was made from such.
    pub of: Option<BlobId>,
    pub cached: Cached,
    pub last_modified: Option<String>,
    /// `None` where the next request has to be answered anew.
    pub lasting: Option<Lasting>,
}

pub enum DocumentBody {
    Rendered(Arc<Rendered>),
    /// Too large to be held: rendered while it is sent.
    Streamed {
        /// `None`: our own packages are all there is.
        document: Option<Arc<Document>>,
        /// Names of our own packages.
        own: Vec<String>,
        content_type: &'static str,
    },
}

impl Reader {
    /// Reads a document of all sources that have a part in it, the nearest winning per version.
    ///
    /// # Errors
    /// Where no source has it, or one is away: a farther one's packages never take the place of a
    /// nearer one's.
    pub async fn document(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        id: &DocumentId,
        address: &Address,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let asked = Asked {
            snapshot,
            repository,
            id,
            address,
        };
        let reply = self.document_asked(&asked, encodings).await;
        if let (Err(problem), Some(package)) = (&reply, &id.package) {
            self.wish(repository, package, None, problem);
        }
        reply
    }

    async fn document_asked(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let Asked {
            snapshot,
            repository,
            id,
            ..
        } = *asked;
        let chain = match &id.package {
            Some(package) => self.chain(snapshot, repository, package).await?,
            None => Chain::of_connections(repository, id.view.format()),
        };
        if id.view.format().protocol().streams(id) {
            return self.streamed(asked, &chain).await;
        }
        let found = match &id.package {
            Some(_) => None,
            None => self.found(asked).await?,
        };
        // The way of nearly all requests: one source, and nothing to merge.
        if let ([Link::Outside(connection)], None) = (chain.links.as_slice(), &found) {
            let mut reply = self
                .document_of(asked, connection, Taken::default(), Some(encodings))
                .await?;
            reply.lasting = reply.lasting.map(|lasting| lasting.with(&chain));
            return Ok(reply);
        }
        let parts = self.parts(asked, &chain, found).await?;
        self.of_parts(asked, &chain, parts, encodings).await
    }

    /// What each source has of the document; of one that is not merged, the nearest's.
    async fn parts(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        chain: &Chain,
        found: Option<Found>,
    ) -> Result<Vec<Part>, Problem> {
        let protocol = asked.id.view.format().protocol();
        let merges = protocol.merges(asked.id);
        if merges {
            self.ask_all(asked, chain).await;
        }
        let mut parts = Vec::new();
        let mut absent = chain.barred.clone();
        if let Some(found) = found
            && let Some(part) = self.own_found(asked, found).await?
        {
            parts.push(part);
        }
        let mut outside = Taken::default();
        for (index, link) in chain.links.iter().enumerate() {
            if !merges && !parts.is_empty() {
                break;
            }
            match link {
                Link::Own { repository, held } => {
                    parts.extend(self.own_part(asked, repository, held).await?);
                }
                Link::Outside(connection) => {
                    let taken = chain.taken_before(index).and(&outside);
                    match self.document_of(asked, connection, taken, None).await {
                        Ok(reply) => {
                            parts.push(Part::of(reply)?);
                            if let Some(package) = &asked.id.package
                                && chain.connections() > 1
                            {
                                self.take(&mut outside, connection, package).await?;
                            }
                        }
                        Err(problem) if problem.kind == Kind::NotFound => {
                            absent = absent.or(Some(problem));
                            if chain.ends_at(index) {
                                break;
                            }
                        }
                        Err(problem) => return Err(problem),
                    }
                }
            }
        }
        if parts.is_empty() {
            let what = asked
                .id
                .package
                .as_ref()
                .map_or_else(|| "the document".to_owned(), ToString::to_string);
            let format = asked.id.view.format();
            return Err(absent.unwrap_or_else(|| asked.repository.has_none(format, &what)));
        }
        Ok(parts)
    }

    /// Asks all connections at once, so that each has its answer when its turn comes.
    async fn ask_all(self: &Arc<Self>, asked: &Asked<'_>, chain: &Chain) {
        if chain.connections() < 2 {
            return;
        }
        let concern = asked.concern(clock::now());
        let resource = asked
            .id
            .view
            .format()
            .protocol()
            .resource(asked.id, concern.dates);
        let mut all = Vec::new();
        for link in &chain.links {
            if let Link::Outside(connection) = link {
                all.push(connection);
                // Whether those behind it may be asked depends on what is here of it.
                if connection.offline {
                    break;
                }
            }
        }
        join_all(all.into_iter().map(|connection| {
            self.freshen(connection, &resource, Freshen::AsCached, &resource.key)
        }))
        .await;
    }

    /// Notes which versions the connection has, for those behind it.
    pub(super) async fn take(
        self: &Arc<Self>,
        taken: &mut Taken,
        connection: &Arc<Connection>,
        package: &PackageId,
    ) -> Result<(), Problem> {
        let protocol = connection.format.protocol();
        if matches!(protocol.evidence(package, false), Evidence::Path) {
            return Ok(());
        }
        match self
            .facts(connection, package, false, Freshen::AsCached)
            .await
        {
            Ok(facts) => taken.also(facts),
            Err(problem) if problem.kind == Kind::NotFound => {}
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    async fn of_parts(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        chain: &Chain,
        parts: Vec<Part>,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let now = clock::now();
        let protocol = asked.id.view.format().protocol();
        let encoding = if protocol.always_gzip(asked.id) {
            Some(Encoding::Gzip)
        } else {
            encodings.best().filter(|_| !encodings.is_near)
        };
        // Every connection has to be among the parts: what one lacks today it may have tomorrow.
        let asked_outside = parts.iter().filter(|part| part.of.is_some()).count();
        let mut lasting = (asked_outside == chain.connections() && asked.id.package.is_some())
            .then(|| Lasting::by_rules(asked.snapshot, now).with(chain));
        for part in &parts {
            lasting = lasting.zip(part.lasting.clone()).map(|(a, b)| a.and(b));
        }
        let mut cached = parts.first().map(|part| part.cached.clone());
        for part in &parts {
            if let Some(cached) = &mut cached
                && part.of.is_some()
                && !part.cached.is_hit()
            {
                *cached = part.cached.clone();
            }
        }
        let of = parts.iter().find_map(|part| part.of);
        let rendered = parts.into_iter().map(|part| part.rendered).collect();
        let rendered = self.merged(asked.id, rendered, encoding, now).await?;
        if let (Some(lasting), Some(until)) = (&mut lasting, rendered.valid_until) {
            lasting.until = lasting.until.min(until);
        }
        Ok(DocumentReply {
            body: DocumentBody::Rendered(rendered),
            of,
            cached: cached.ok_or_else(|| Problem::internal("no document", "no part"))?,
            last_modified: None,
            lasting,
        })
    }

    /// What our own packages have of the document.
    async fn own_part(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        repository: &str,
        held: &super::own::OwnPackage,
    ) -> Result<Option<Part>, Problem> {
        let Some(listing) = &held.listing else {
            return Ok(None);
        };
        let now = clock::now();
        let concern = asked.concern(now);
        let name = format!("{repository} {} {}", listing.package, listing.revision);
        let view = View::of_own(asked.snapshot, concern, Some(Arc::clone(listing)));
        let rendered = self
            .rendered_own(
                view,
                asked.id,
                asked.address,
                name.as_bytes(),
                OwnSource::Package { repository },
                now,
            )
            .await?;
        Ok(rendered.map(|rendered| Part::own(asked, repository, rendered, now)))
    }

    /// What a search finds in our own packages; `None` where they have no part in the document.
    async fn found(&self, asked: &Asked<'_>) -> Result<Option<Found>, Problem> {
        let format = asked.id.view.format();
        let takes_none = matches!(asked.repository.publish, Publish::Deny) && self.own.is_empty();
        let Some(search) = format.protocol().search(asked.id).filter(|_| !takes_none) else {
            return Ok(None);
        };
        if search.limit == 0 {
            return Ok(Some((Vec::new(), 0)));
        }
        let found = self
            .own
            .packages()
            .search(
                &asked.repository.own_names(),
                format,
                &search.words,
                search.skip,
                search.limit,
            )
            .await
            .map_err(|error| Problem::internal("the package catalog cannot be read", error))?;
        Ok(Some(found))
    }

    async fn own_found(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        found: Found,
    ) -> Result<Option<Part>, Problem> {
        let now = clock::now();
        let view = View::of_own(asked.snapshot, asked.concern(now), None);
        let name = format!("{found:?}");
        let rendered = self
            .rendered_own(
                view,
                asked.id,
                asked.address,
                name.as_bytes(),
                OwnSource::Found(found.0, found.1),
                now,
            )
            .await?;
        let repository = &asked.repository.name;
        Ok(rendered.map(|rendered| Part::own(asked, repository, rendered, now)))
    }

    /// A document that is rendered while it is sent: the nearest connection's, with the names of
    /// our own packages.
    async fn streamed(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        chain: &Chain,
    ) -> Result<DocumentReply, Problem> {
        let format = asked.id.view.format();
        let own: Vec<String> = self
            .found(asked)
            .await?
            .map_or_else(Vec::new, |(found, _)| {
                let prefix = format!("{format}:");
                let names = found.iter().map(|one| one.package.as_str());
                names
                    .map(|name| name.strip_prefix(&prefix).unwrap_or(name).to_owned())
                    .collect()
            });
        let mut absent = None;
        for link in &chain.links {
            let Link::Outside(connection) = link else {
                continue;
            };
            match self
                .document_of(asked, connection, Taken::default(), None)
                .await
            {
                Ok(mut reply) => {
                    if let DocumentBody::Streamed { own: names, .. } = &mut reply.body {
                        *names = own;
                    }
                    return Ok(reply);
                }
                Err(problem) if problem.kind == Kind::NotFound => {
                    absent = absent.or(Some(problem));
                }
                Err(problem) => return Err(problem),
            }
        }
        if own.is_empty() && matches!(asked.repository.publish, Publish::Deny) {
            return Err(absent.unwrap_or_else(|| asked.repository.no_source(format)));
        }
        Ok(DocumentReply {
            body: DocumentBody::Streamed {
                document: None,
                own,
                content_type: format.protocol().stream_type(asked.id),
            },
            of: None,
            cached: own_cached(&asked.repository.name),
            last_modified: None,
            lasting: None,
        })
    }

    /// One connection's document; without `encodings` as it is.
    async fn document_of(
        self: &Arc<Self>,
        asked: &Asked<'_>,
        connection: &Arc<Connection>,
        taken: Taken,
        encodings: Option<&Encodings>,
    ) -> Result<DocumentReply, Problem> {
        let Asked {
            snapshot,
            repository,
            id,
            address,
        } = asked;
        let protocol = connection.format.protocol();
        let now = clock::now();
        let concern = asked.concern(now);
        let mut resource = protocol.resource(id, concern.dates);
        if connection.offline {
            // Which of them came in when there was a line is not for the client to know.
            let others = protocol.resources(id);
            resource = self
                .handiest(connection, &others)
                .await?
                .unwrap_or(resource);
        }
        let what = id
            .package
            .as_ref()
            .map_or_else(|| resource.key.clone(), PackageId::full_name);
        let document = self
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await?;
        self.asked_for_document(snapshot, repository, connection, id, &resource.key);
        let cached = Cached {
            outcome: document.outcome.as_str(),
            connection: connection.name.clone(),
            age: u64::try_from(now.as_second().saturating_sub(document.row.checked_at))
                .unwrap_or(0),
            fetch_ms: u64::try_from(document.row.fetch_ms).unwrap_or(0),
        };
        let last_modified = document.row.last_modified.clone();
        let of = document.row.blob;
        if protocol.streams(id) {
            return Ok(DocumentReply {
                of: Some(of),
                body: DocumentBody::Streamed {
                    content_type: protocol.stream_type(id),
                    document: Some(document),
                    own: Vec::new(),
                },
                cached,
                last_modified,
                lasting: None,
            });
        }
        let view = self
            .view(snapshot, connection, id, &document, concern, taken)
            .await?;
        let (encoding, at_leisure) = match encodings {
            None => (None, false),
            Some(_) if protocol.always_gzip(id) => (Some(Encoding::Gzip), false),
            Some(encodings) => (encodings.best(), encodings.is_near),
        };
        // What is made of several documents lasts as long as the first to change, which is more than
        // can be told here.
        let is_of_one = view.directory.is_none() && view.stock.is_none() && !concern.dates;
        let rendered = self
            .rendered(
                snapshot, connection, id, address, &document, view, encoding, at_leisure, now,
            )
            .await?;
        // What is to be coded next time is not to be given again.
        let is_final = rendered.encoding.is_some()
            || encoding.is_none()
            || rendered.body.len() < ENCODED_BYTES_MIN;
        let lasting = Lasting::by_rules(snapshot, now);
        let fresh_until = if connection.offline {
            i64::MAX
        } else {
            document.row.fresh_until
        };
        Ok(DocumentReply {
            of: Some(of),
            lasting: (is_of_one && is_final && document.outcome == Outcome::Hit).then(|| Lasting {
                until: lasting
                    .until
                    .min(fresh_until)
                    .min(rendered.valid_until.unwrap_or(i64::MAX)),
                currencies: vec![document.currency.clone()],
            }),
            // A date would outlive the rule that changed the bytes.
            last_modified: last_modified.filter(|_| !concern.versions),
            body: DocumentBody::Rendered(rendered),
            cached,
        })
    }

    /// All that decides which versions the document shows.
    pub(super) async fn view(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        connection: &Arc<Connection>,
        id: &DocumentId,
        document: &Arc<Document>,
        concern: Concern,
        taken: Taken,
    ) -> Result<View, Problem> {
        let directory = self.directory(connection).await?;
        let mut view = View::of_upstream(snapshot, concern, directory, taken);
        if let Some(package) = id.package.as_ref().filter(|_| connection.offline) {
            view.stock = Some(self.fetcher.stock(connection, package).await?);
        }
        // Names and versions stand in the document itself; dates may not.
        let Some(package) = id.package.as_ref().filter(|_| concern.dates) else {
            return Ok(view);
        };
        let protocol = connection.format.protocol();
        if matches!(protocol.evidence(package, true), Evidence::Path) {
            let bytes = document.bytes(&self.fetcher).await?;
            let versions = protocol
                .versions(id, &upstream(connection, document, &bytes, None))
                .map_err(|error| unreadable(connection, &package.full_name(), error))?;
            view.dates = self.dates(connection, package, &versions).await?;
        } else {
            let facts = self
                .facts(connection, package, true, Freshen::AsCached)
                .await?;
            view.facts = Some(facts);
        }
        Ok(view)
    }
}

/// A document that is asked for.
struct Asked<'a> {
    snapshot: &'a Arc<Snapshot>,
    repository: &'a Repository,
    id: &'a DocumentId,
    address: &'a Address,
}

impl Asked<'_> {
    fn concern(&self, now: Timestamp) -> Concern {
        let rules = &self.snapshot.config.rules;
        match &self.id.package {
            Some(package) => rules.concern(package, now),
            None => Concern {
                versions: rules.iter().next().is_some(),
                dates: false,
            },
        }
    }
}

/// What a search found, and how many there are in all.
type Found = (Vec<crate::package::Summary>, u64);

/// What one source has of a document, uncoded.
struct Part {
    rendered: Arc<Rendered>,
    cached: Cached,
    /// Upstream's bytes; `None` of our own.
    of: Option<BlobId>,
    lasting: Option<Lasting>,
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
            lasting: reply.lasting,
        })
    }

    fn own(asked: &Asked<'_>, repository: &str, rendered: Arc<Rendered>, now: Timestamp) -> Self {
        let mut lasting = Lasting::by_rules(asked.snapshot, now);
        lasting.until = lasting.until.min(rendered.valid_until.unwrap_or(i64::MAX));
        Self {
            rendered,
            cached: own_cached(repository),
            of: None,
            lasting: Some(lasting),
        }
    }
}

/// How a reply out of our own packages was come by.
pub(super) fn own_cached(repository: &str) -> Cached {
    Cached {
        outcome: "hit",
        connection: repository.to_owned(),
        age: 0,
        fetch_ms: 0,
    }
}
