//! Rendering: documents of connections and of our own, merged, coded, and kept by what decided
//! their bytes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tracing::warn;
use url::Url;

use super::chain::Taken;
use super::encoding::{ENCODED_BYTES_MIN, Encoding};
use super::evidence::{PackageFacts, unreadable};
use super::{Reader, Snapshot};
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Document, Stock};
use crate::format::{Address, DocumentId, FormatError, OWN, Own, RenderInput, Subject, Upstream};
use crate::package::{Listing, Origin, PackageId, Summary};
use crate::problem::Problem;
use crate::rule::{Concern, Question, Ruling};
use crate::store::rendered::{RenderKey, Rendered};

impl Reader {
    #[allow(clippy::too_many_arguments, reason = "each decides the bytes")]
    pub(super) async fn rendered(
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
        self.coded(plain, encoding, key).await
    }

    /// The rendering in that coding, where that is worth it.
    pub(super) async fn coded(
        self: &Arc<Self>,
        plain: Arc<Rendered>,
        encoding: Option<Encoding>,
        key: RenderKey,
    ) -> Result<Arc<Rendered>, Problem> {
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

    /// A document of our own packages as it is now, kept under `name` and all else that decides its
    /// bytes; `None` where they have nothing to say in it.
    pub(super) async fn rendered_own(
        self: &Arc<Self>,
        view: View,
        id: &DocumentId,
        address: &Address,
        name: &[u8],
        of: OwnSource<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<Rendered>>, Problem> {
        let protocol = id.view.format().protocol();
        let rules = format!(
            "{:?}",
            view.concern.versions.then_some(&view.snapshot.config.rules)
        );
        let mut hash = KeyHash::default();
        for part in [
            b"own".as_slice(),
            name,
            format!("{id:?}").as_bytes(),
            address.base.as_bytes(),
            rules.as_bytes(),
        ] {
            hash.part(part);
        }
        let key = hash.finish();
        if let Some(rendered) = self.rendered.get(&key, now).await {
            return Ok(Some(rendered));
        }
        let (listing, found) = match of {
            OwnSource::Package { repository } => {
                let listing = match &view.own {
                    None => None,
                    Some(listing) => match protocol.only_version(id, listing) {
                        Some(version) => self.own.only(repository, listing, version).await?,
                        None => self.own.whole(repository, &listing.package).await?,
                    },
                };
                (listing, None)
            }
            OwnSource::Found(found, total) => (None, Some((found, total))),
        };
        let (id, mut address) = (id.clone(), address.clone());
        // There is no upstream whose addresses could be kept.
        address.kept = false;
        let rendered = self
            .rendering(move || {
                let own = match (&listing, &found) {
                    (Some(listing), _) => Own::Package(listing),
                    (None, Some((found, total))) => Own::Found(found, *total),
                    (None, None) => return Ok(None),
                };
                let Some((bytes, media_type)) = protocol.compose(&id, own)? else {
                    return Ok(None);
                };
                let url = Url::parse(OWN).map_err(|_| FormatError::Xml(OWN.to_owned()))?;
                let verdicts = Verdicts::new(&view, id.package.as_ref(), now);
                let shows = |subject: Subject<'_>| verdicts.shows(subject);
                let directory = protocol.own_directory();
                let rendering = protocol.render(&RenderInput {
                    document: &id,
                    upstream: Upstream {
                        bytes: &bytes,
                        media_type,
                        url: &url,
                        base: &url,
                        directory: directory.as_deref(),
                    },
                    address: &address,
                    shows: Some(&shows),
                })?;
                let changes = *verdicts.changes.borrow();
                let body = rendering.body.unwrap_or(bytes);
                Ok(Some(Rendered::new(
                    body.into(),
                    &rendering.content_type,
                    None,
                    changes,
                )))
            })
            .await?;
        match rendered {
            Ok(Some(rendered)) => {
                let rendered = Arc::new(rendered);
                self.rendered.keep(key, Arc::clone(&rendered)).await;
                Ok(Some(rendered))
            }
            Ok(None) | Err(FormatError::Absent(_)) => Ok(None),
            Err(error) => Err(Problem::internal("a document cannot be composed", error)),
        }
    }

    /// One document of several sources', the nearest first.
    pub(super) async fn merged(
        self: &Arc<Self>,
        id: &DocumentId,
        parts: Vec<Arc<Rendered>>,
        encoding: Option<Encoding>,
        now: Timestamp,
    ) -> Result<Arc<Rendered>, Problem> {
        let key = |encoding: Option<Encoding>| {
            let mut hash = KeyHash::default();
            hash.part(b"merged");
            hash.part(format!("{id:?}").as_bytes());
            hash.part(encoding.map_or("", Encoding::as_str).as_bytes());
            for part in &parts {
                hash.part(part.etag.as_bytes());
            }
            hash.finish()
        };
        let (plain_key, coded_key) = (key(None), key(encoding));
        // One source's bytes reach the client as they are.
        if let [only] = parts.as_slice() {
            if let Some(rendered) = self.rendered.get(&coded_key, now).await {
                return Ok(rendered);
            }
            return self.coded(Arc::clone(only), encoding, coded_key).await;
        }
        if let Some(rendered) = self.rendered.get(&coded_key, now).await {
            return Ok(rendered);
        }
        let valid_until = parts.iter().filter_map(|part| part.valid_until).min();
        let plain = match self.rendered.get(&plain_key, now).await {
            Some(plain) => plain,
            None => {
                let of = id.clone();
                let merged = self
                    .rendering(move || {
                        let bodies: Vec<&[u8]> = parts.iter().map(|part| &part.body[..]).collect();
                        let body = of.view.format().protocol().merge(&of, &bodies)?;
                        let content_type = parts.first().map_or("", |part| &part.content_type);
                        let mut rendered = Rendered::new(body.into(), content_type, None, None);
                        rendered.valid_until = valid_until;
                        Ok::<_, FormatError>(Arc::new(rendered))
                    })
                    .await?
                    .map_err(|error| Problem::internal("documents cannot be merged", error))?;
                self.rendered.keep(plain_key, Arc::clone(&merged)).await;
                merged
            }
        };
        self.coded(plain, encoding, coded_key).await
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
                    shows: job.view.hides().then_some(&shows),
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

/// What a document of our own packages is composed of.
pub(super) enum OwnSource<'a> {
    Package {
        repository: &'a str,
    },
    /// What a search found, and how many there are in all.
    Found(Vec<Summary>, u64),
}

/// What decides which versions are shown.
pub(super) struct View {
    snapshot: Arc<Snapshot>,
    pub concern: Concern,
    pub directory: Option<Arc<Document>>,
    pub facts: Option<Arc<PackageFacts>>,
    /// Of versions, where facts do not enumerate them.
    pub dates: HashMap<String, Timestamp>,
    /// What nearer sources have.
    taken: Taken,
    /// Of an offline connection, what is here.
    pub stock: Option<Arc<Stock>>,
    /// Of our own packages, the package.
    own: Option<Arc<Listing>>,
}

impl View {
    /// Of what our own packages are made.
    pub(super) fn of_own(
        snapshot: &Arc<Snapshot>,
        concern: Concern,
        own: Option<Arc<Listing>>,
    ) -> Self {
        Self {
            own,
            ..Self::of_upstream(snapshot, concern, None, Taken::default())
        }
    }

    pub(super) fn of_upstream(
        snapshot: &Arc<Snapshot>,
        concern: Concern,
        directory: Option<Arc<Document>>,
        taken: Taken,
    ) -> Self {
        Self {
            snapshot: Arc::clone(snapshot),
            concern,
            directory,
            facts: None,
            dates: HashMap::new(),
            taken,
            stock: None,
            own: None,
        }
    }

    /// Whether the document may show less than there is.
    fn hides(&self) -> bool {
        self.concern.versions || !self.taken.is_empty() || self.stock.is_some()
    }
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

/// The hash of all that decides a rendering's bytes.
struct KeyHash(Sha256);

impl Default for KeyHash {
    fn default() -> Self {
        let mut hash = Self(Sha256::new());
        // Renderings outlive the process: another version of Larder may render otherwise.
        hash.part(env!("CARGO_PKG_VERSION").as_bytes());
        hash
    }
}

impl KeyHash {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> RenderKey {
        self.0.finalize().into()
    }
}

impl Job {
    /// The hash of all that decides the bytes.
    fn key(&self, snapshot: &Snapshot, encoding: Option<Encoding>) -> RenderKey {
        let protocol = self.connection.format.protocol();
        let mut hash = KeyHash::default();
        let mut part = |bytes: &[u8]| hash.part(bytes);
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
        part(&self.view.taken.name());
        if let Some(stock) = &self.view.stock {
            for file in stock.files() {
                part(file.as_bytes());
            }
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
        hash.finish()
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
        if let Subject::Version(version) | Subject::File { version, .. } = subject
            && self.view.taken.has(version)
        {
            return false;
        }
        if !self.is_in_stock(subject) {
            return false;
        }
        if !self.view.concern.versions {
            return true;
        }
        let facts = self.view.facts.as_deref();
        let own = self.view.own.as_deref();
        let published_of = |version: &str| {
            if let Some(listing) = own {
                return listing.release(version).map(|release| release.published);
            }
            facts
                .and_then(|facts| facts.facts.version(version)?.published)
                .or_else(|| self.view.dates.get(version).copied())
        };
        let (package, version, published) = match (subject, self.package) {
            (Subject::Version(version), Some(package)) => (package, version, published_of(version)),
            (Subject::File { file, version }, Some(package)) => {
                let published = match own {
                    Some(listing) => listing.asset(file).map(|(_, asset)| asset.published),
                    None => facts.and_then(|facts| facts.facts.file(file)?.published),
                };
                (package, version, published)
            }
            (Subject::Other { package, version }, _) => return self.shows_other(package, version),
            (_, None) => return false,
        };
        let origin = match (&self.view.own, subject) {
            (Some(listing), Subject::File { file, .. }) => {
                listing.asset(file).map(|(release, _)| release)
            }
            (Some(listing), _) => listing.release(version),
            (None, _) => None,
        }
        .map_or(Origin::External, |release| release.origin);
        let question = Question {
            package,
            version,
            published,
            origin,
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

    /// Whether an offline connection has it; of other packages that is not in hand.
    fn is_in_stock(&self, subject: Subject<'_>) -> bool {
        let (Some(stock), Some(package)) = (&self.view.stock, self.package) else {
            return true;
        };
        match subject {
            Subject::Version(version) => stock.has_version(package, version),
            Subject::File { file, .. } => stock.has_file(file),
            Subject::Other { .. } => true,
        }
    }

    /// A search result of another package: its dates are not in hand, and fetching a document for
    /// every result of a search would cost more than the search is worth. What a rule denies
    /// whatever the date is left out; the package's own document knows the rest.
    fn shows_other(&self, package: &PackageId, version: &str) -> bool {
        let question = Question {
            package,
            version,
            published: None,
            origin: Origin::External,
        };
        let rules = &self.view.snapshot.config.rules;
        let decision = rules.decide(&question, self.now);
        decision.is_allowed()
            || decision
                .rule
                .is_some_and(|rule| rule.action == crate::rule::Action::Allow)
    }
}
