//! Documents: fetched, merged with what rules say, rendered once, kept compressed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tracing::warn;

use super::encoding::{ENCODED_BYTES_MIN, Encoding, Encodings};
use super::evidence::{PackageFacts, unreadable};
use super::{Reader, Repository, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Currency, Document, Freshen, Outcome};
use crate::format::{Address, DocumentId, Evidence, RenderInput, Subject, Upstream};
use crate::package::{BlobId, Format, PackageId};
use crate::problem::Problem;
use crate::rule::{Concern, Question, Ruling};
use crate::store::rendered::{RenderKey, Rendered};

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
        matches!(
            self.outcome,
            "hit" | "stale" | "revalidated" | "revalidating"
        )
    }
}

/// For how long a reply may be given again without asking anything.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Seconds since 1970.
    until: i64,
    /// Of the document that it was made from.
    currency: Option<Currency>,
}

impl Lasting {
    /// A reply that rules may change at their next expiry, and nothing else.
    pub(super) fn by_rules(snapshot: &Snapshot, now: Timestamp) -> Self {
        let expiry = snapshot.config.rules.next_expiry(now);
        Self {
            until: expiry.map_or(i64::MAX, Timestamp::as_second),
            currency: None,
        }
    }

    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        now < self.until && !self.currency.as_ref().is_some_and(Currency::has_ended)
    }
}

/// A document to answer with.
pub struct DocumentReply {
    pub body: DocumentBody,
    /// Upstream's bytes, which it was made from.
    pub of: BlobId,
    pub cached: Cached,
    pub last_modified: Option<String>,
    /// `None` where the next request has to be answered anew.
    pub lasting: Option<Lasting>,
}

pub enum DocumentBody {
    Rendered(Arc<Rendered>),
    /// Too large to be held: rendered while it is sent.
    Streamed {
        document: Arc<Document>,
        content_type: &'static str,
    },
}

impl Reader {
    /// Reads a document from the nearest source that has it.
    ///
    /// # Errors
    /// Where no source has it, or a nearer one is away: a farther one's packages never take the
    /// place of a nearer one's.
    pub async fn document(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        repository: &Repository,
        id: &DocumentId,
        address: &Address,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        repository
            .nearest(format_of(id), |connection| {
                async move {
                    let mut reply = self
                        .document_of(snapshot, &connection, id, address, encodings)
                        .await?;
                    // A nearer connection that had nothing may have something next time.
                    reply.lasting = reply.lasting.filter(|_| repository.asks_first(&connection));
                    Ok(reply)
                }
                .boxed()
            })
            .await
    }

    async fn document_of(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        connection: &Arc<Connection>,
        id: &DocumentId,
        address: &Address,
        encodings: &Encodings,
    ) -> Result<DocumentReply, Problem> {
        let protocol = connection.format.protocol();
        let now = clock::now();
        let rules = &snapshot.config.rules;
        let concern = match &id.package {
            Some(package) => rules.concern(package, now),
            None => Concern {
                versions: rules.iter().next().is_some(),
                dates: false,
            },
        };
        let resource = protocol.resource(id, concern.dates);
        let what = id
            .package
            .as_ref()
            .map_or_else(|| resource.key.clone(), PackageId::full_name);
        let document = self
            .freshen(connection, &resource, Freshen::AsCached, &what)
            .await?;
        self.asked_for_document(snapshot, connection, id, &resource.key);
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
                of,
                body: DocumentBody::Streamed {
                    content_type: protocol.stream_type(id),
                    document,
                },
                cached,
                last_modified,
                lasting: None,
            });
        }
        let view = self
            .view(snapshot, connection, id, &document, concern)
            .await?;
        let (encoding, at_leisure) = if protocol.always_gzip(id) {
            (Some(Encoding::Gzip), false)
        } else {
            (encodings.best(), encodings.is_near)
        };
        // What is made of several documents lasts as long as the first to change, which is more than
        // can be told here.
        let is_of_one = view.directory.is_none() && !concern.dates;
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
            of,
            lasting: (is_of_one && is_final && document.outcome == Outcome::Hit).then(|| Lasting {
                until: lasting
                    .until
                    .min(fresh_until)
                    .min(rendered.valid_until.unwrap_or(i64::MAX)),
                currency: Some(document.currency.clone()),
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
    ) -> Result<View, Problem> {
        let directory = self.directory(connection).await?;
        let mut view = View {
            snapshot: Arc::clone(snapshot),
            concern,
            directory,
            facts: None,
            dates: HashMap::new(),
        };
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

    #[allow(clippy::too_many_arguments, reason = "each decides the bytes")]
    async fn rendered(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        connection: &Arc<Connection>,
        id: &DocumentId,
        address: &Address,
        document: &Arc<Document>,
        view: View,
        encoding: Option<Encoding>,
        at_leisure: bool,
        now: Timestamp,
    ) -> Result<Arc<Rendered>, Problem> {
        let job = Job {
            connection: Arc::clone(connection),
            id: id.clone(),
            address: address.clone(),
            document: Arc::clone(document),
            view,
            now,
        };
        let plain_key = job.key(snapshot, None);
        let key = job.key(snapshot, encoding);
        if let Some(rendered) = self.rendered.get(&key, now).await {
            return Ok(rendered);
        }
        let reader = Arc::clone(self);
        let plain = match self.rendered.get(&plain_key, now).await {
            Some(plain) => plain,
            None => {
                let plain = self
                    .renders
                    .join(
                        &plain_key,
                        || async move { reader.render(job, plain_key).await },
                    )
                    .await;
                if at_leisure {
                    return landed(plain);
                }
                landed(plain)?
            }
        };
        let Some(encoding) = encoding.filter(|_| plain.body.len() >= ENCODED_BYTES_MIN) else {
            return Ok(plain);
        };
        let reader = Arc::clone(self);
        landed(
            self.renders
                .join(&key, || async move {
                    reader.encode(&plain, encoding, key).await
                })
                .await,
        )
    }

    async fn render(self: Arc<Self>, job: Job, key: RenderKey) -> Result<Arc<Rendered>, Problem> {
        let bytes = job.document.bytes(&self.fetcher).await?;
        let directory = match &job.view.directory {
            Some(directory) => Some(directory.bytes(&self.fetcher).await?),
            None => None,
        };
        let connection = Arc::clone(&job.connection);
        let (rendering, changes) = self
            .rendering(move || {
                let verdicts = Verdicts::new(&job.view, job.id.package.as_ref(), job.now);
                let shows = |subject: Subject<'_>| verdicts.shows(subject);
                let rendering = job.connection.format.protocol().render(&RenderInput {
                    document: &job.id,
                    upstream: upstream(
                        &job.connection,
                        &job.document,
                        &bytes,
                        directory.as_deref(),
                    ),
                    address: &job.address,
                    shows: job.view.concern.versions.then_some(&shows),
                });
                let changes = job
                    .view
                    .concern
                    .versions
                    .then(|| *verdicts.changes.borrow())
                    .flatten();
                let what = job
                    .id
                    .package
                    .as_ref()
                    .map_or_else(|| "the document".to_owned(), PackageId::full_name);
                let rendering =
                    rendering.map_err(|error| unreadable(&job.connection, &what, error));
                let body = rendering.map(|rendering| {
                    let body = rendering.body.map_or_else(|| bytes.clone(), Into::into);
                    let rendered = Rendered::new(body, &rendering.content_type, None, changes);
                    (Arc::new(rendered), rendering.aliases)
                });
                (body, changes)
            })
            .await?;
        let (rendered, aliases) = rendering?;
        if !aliases.is_empty() {
            let kept = self
                .fetcher
                .store()
                .catalog()
                .keep_aliases(&connection.name, &aliases)
                .await;
            kept.map_err(|error| {
                Problem::internal("the document's addresses could not be written down", error)
            })?;
        }
        // What changes within the second is not worth keeping.
        if changes.is_none_or(|changes| changes > clock::now()) {
            self.rendered.keep(key, Arc::clone(&rendered)).await;
        }
        Ok(rendered)
    }

    async fn encode(
        self: Arc<Self>,
        plain: &Arc<Rendered>,
        encoding: Encoding,
        key: RenderKey,
    ) -> Result<Arc<Rendered>, Problem> {
        let of = Arc::clone(plain);
        let encoded = self
            .rendering(move || {
                encoding.encode(&of.body).map(|body| {
                    let mut rendered =
                        Rendered::new(body.into(), &of.content_type, Some(encoding.as_str()), None);
                    rendered.valid_until = of.valid_until;
                    Arc::new(rendered)
                })
            })
            .await?;
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                warn!(%error, "A document is sent without its coding");
                return Ok(Arc::clone(plain));
            }
        };
        self.rendered.keep(key, Arc::clone(&encoded)).await;
        Ok(encoded)
    }
}

fn landed<T>(outcome: Option<Result<T, Problem>>) -> Result<T, Problem> {
    outcome.unwrap_or_else(|| {
        Err(Problem::internal(
            "rendering a document failed",
            "the task panicked",
        ))
    })
}

/// The format that a document is of.
fn format_of(id: &DocumentId) -> Format {
    match id.view {
        crate::format::View::Npm(_) => Format::Npm,
        crate::format::View::Pypi(_) => Format::Pypi,
        crate::format::View::Maven(_) => Format::Maven,
        crate::format::View::Nuget(_) => Format::Nuget,
    }
}

pub(super) fn upstream<'a>(
    connection: &'a Connection,
    document: &'a Document,
    bytes: &'a [u8],
    directory: Option<&'a [u8]>,
) -> Upstream<'a> {
    Upstream {
        bytes,
        media_type: &document.row.media_type,
        url: &document.url,
        base: &connection.url,
        directory,
    }
}

/// What decides which versions are shown.
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    concern: Concern,
    directory: Option<Arc<Document>>,
    facts: Option<Arc<PackageFacts>>,
    /// Of versions, where facts do not enumerate them.
    dates: HashMap<String, Timestamp>,
}

/// One rendering to be made.
struct Job {
    connection: Arc<Connection>,
    id: DocumentId,
    address: Address,
    document: Arc<Document>,
    view: View,
    now: Timestamp,
}

impl Job {
    /// The hash of all that decides the bytes.
    fn key(&self, snapshot: &Snapshot, encoding: Option<Encoding>) -> RenderKey {
        let protocol = self.connection.format.protocol();
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        // Renderings outlive the process: another version of Larder may render otherwise.
        part(env!("CARGO_PKG_VERSION").as_bytes());
        part(self.connection.name.as_bytes());
        part(format!("{:?}", self.id).as_bytes());
        part(protocol.address_key(&self.id, &self.address).as_bytes());
        part(&[u8::from(self.address.kept)]);
        part(self.document.row.blob.as_bytes());
        part(self.document.url.as_str().as_bytes());
        part(self.document.row.media_type.as_bytes());
        part(encoding.map_or("", Encoding::as_str).as_bytes());
        if let Some(directory) = &self.view.directory {
            part(directory.row.blob.as_bytes());
        }
        if self.view.concern.versions {
            part(format!("{:?}", snapshot.config.rules).as_bytes());
            for blob in self.view.facts.iter().flat_map(|facts| &facts.documents) {
                part(blob.as_bytes());
            }
            let mut dates: Vec<_> = self.view.dates.iter().collect();
            dates.sort_unstable();
            part(format!("{dates:?}").as_bytes());
        }
        hash.finalize().into()
    }
}

/// The rules' answers while a document is rendered, and until when they hold.
pub(super) struct Verdicts<'a> {
    view: &'a View,
    package: Option<&'a PackageId>,
    now: Timestamp,
    changes: RefCell<Option<Timestamp>>,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(view: &'a View, package: Option<&'a PackageId>, now: Timestamp) -> Self {
        let changes = RefCell::new(view.snapshot.config.rules.next_expiry(now));
        Self {
            view,
            package,
            now,
            changes,
        }
    }

    pub(super) fn shows(&self, subject: Subject<'_>) -> bool {
        let facts = self.view.facts.as_deref();
        let published_of = |version: &str| {
            facts
                .and_then(|facts| facts.facts.version(version)?.published)
                .or_else(|| self.view.dates.get(version).copied())
        };
        let (package, version, published) = match (subject, self.package) {
            (Subject::Version(version), Some(package)) => (package, version, published_of(version)),
            (Subject::File { file, version }, Some(package)) => {
                let published = facts.and_then(|facts| facts.facts.file(file)?.published);
                (package, version, published)
            }
            (Subject::Other { package, version }, _) => return self.shows_other(package, version),
            (_, None) => return false,
        };
        let question = Question {
            package,
            version,
            published,
        };
        let decision = self.view.snapshot.config.rules.decide(&question, self.now);
        if let Ruling::Denied {
            opens: Some(opens), ..
        } = decision.ruling
        {
            let mut changes = self.changes.borrow_mut();
            *changes = Some(changes.map_or(opens, |before| before.min(opens)));
        }
        decision.is_allowed()
    }

    /// A search result of another package: its dates are not in hand, and fetching a document for
    /// every result of a search would cost more than the search is worth. What a rule denies
    /// whatever the date is left out; the package's own document knows the rest.
    fn shows_other(&self, package: &PackageId, version: &str) -> bool {
        let question = Question {
            package,
            version,
            published: None,
        };
        let rules = &self.view.snapshot.config.rules;
        let decision = rules.decide(&question, self.now);
        decision.is_allowed()
            || decision
                .rule
                .is_some_and(|rule| rule.action == crate::rule::Action::Allow)
    }
}
