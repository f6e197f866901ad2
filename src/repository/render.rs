//! Rendering: documents of connections and of our own, merged, coded, and kept by what decided
//! their bytes.

use std::hash::{Hash as _, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tracing::warn;
use url::Url;

use super::decision::{Verdicts, View};
use super::encoding::{ENCODED_BYTES_MIN, Encoding};
use super::evidence::unreadable;
use super::own::OwnPackages;
use crate::clock;
use crate::connection::Connection;
use crate::fetch::{Document, DocumentMemory, Fetcher};
use crate::format::{Address, DocumentId, FormatError, OWN, Own, RenderInput, Subject, Upstream};
use crate::package::{PackageId, Summary};
use crate::problem::Problem;
use crate::store::rendered::{KeptAlias, RenderKey, Rendered, RenderedCache};
use crate::task::Flights;

/// Makes documents of documents, and keeps them.
pub(super) struct Renderer {
    fetcher: Arc<Fetcher>,
    rendered: RenderedCache,
    renders: Flights<RenderKey, Result<Arc<Rendered>, Problem>>,
    own: Arc<OwnPackages>,
}

impl Renderer {
    pub fn new(
        fetcher: &Arc<Fetcher>,
        rendered: RenderedCache,
        own: &Arc<OwnPackages>,
    ) -> Arc<Self> {
        Arc::new(Self {
            fetcher: Arc::clone(fetcher),
            rendered,
            renders: Flights::new(fetcher.tasks().clone()),
            own: Arc::clone(own),
        })
    }

    /// Writes what is kept in memory alone.
    pub async fn close(&self) {
        self.rendered.close().await;
    }

    /// A rendering that is here. What its addresses stand for is written down again where it outlived
    /// this process: the catalog may have been begun anew.
    async fn kept(&self, key: &RenderKey, now: Timestamp) -> Option<Arc<Rendered>> {
        let recalled = async |rendered: &Rendered| self.write_down(&rendered.aliases).await;
        self.rendered.get(key, now, recalled).await
    }

    /// Writes down what addresses of Larder's own making stand for.
    async fn write_down(&self, aliases: &[KeptAlias]) {
        if aliases.is_empty() {
            return;
        }
        let catalog = self.fetcher.store().catalog();
        if let Err(error) = catalog.aliases().keep(aliases).await {
            warn!(%error, "Writing down the addresses of a document failed; they are remembered in memory, and lead nowhere after a restart");
        }
    }

    /// Lets the cache drop at once what it does not keep.
    pub fn settle(&self) {
        self.rendered.settle();
    }

    fn memory(&self) -> &DocumentMemory {
        self.fetcher.memory()
    }

    /// A connection's document as the repository gives it. `at_leisure`: uncoded where it is not
    /// coded yet.
    pub async fn rendered(
        self: &Arc<Self>,
        rendering: Rendering,
        encoding: Option<Encoding>,
        at_leisure: bool,
    ) -> Result<Arc<Rendered>, Problem> {
        let now = rendering.now;
        let plain_key = rendering.key(None);
        let key = rendering.key(encoding);
        if let Some(rendered) = self.kept(&key, now).await {
            return Ok(rendered);
        }
        let renderer = Arc::clone(self);
        let plain = match self.kept(&plain_key, now).await {
            Some(plain) => plain,
            None => {
                let plain = self
                    .renders
                    .join(&plain_key, || async move {
                        renderer.render(rendering, plain_key).await
                    })
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
    pub async fn coded(
        self: &Arc<Self>,
        plain: Arc<Rendered>,
        encoding: Option<Encoding>,
        key: RenderKey,
    ) -> Result<Arc<Rendered>, Problem> {
        let Some(encoding) = encoding.filter(|_| plain.body.len() >= ENCODED_BYTES_MIN) else {
            return Ok(plain);
        };
        let renderer = Arc::clone(self);
        landed(
            self.renders
                .join(&key, || async move {
                    renderer.encode(&plain, encoding, key).await
                })
                .await,
        )
    }

    /// A document of our own packages as it is now, kept under `name` and all else that decides its
    /// bytes; `None` where they have nothing to say in it.
    pub async fn rendered_own(
        self: &Arc<Self>,
        view: View,
        id: &DocumentId,
        address: &Address,
        name: &[u8],
        of: OwnSource<'_>,
        now: Timestamp,
    ) -> Result<Option<Arc<Rendered>>, Problem> {
        let protocol = id.view.format().protocol();
        let mut hash = KeyHash::default();
        for part in [b"own".as_slice(), name, address.base.as_bytes()] {
            hash.part(part);
        }
        id.hash(&mut hash);
        hash.part(&view.shadowed.name());
        if view.concern.versions {
            hash.part(view.snapshot.config.rules.fingerprint());
        }
        let key = hash.key();
        if let Some(rendered) = self.kept(&key, now).await {
            return Ok(Some(rendered));
        }
        let (listing, found) = match of {
            OwnSource::Package { repository } => {
                let listing = match &view.own {
                    None => None,
                    Some(listing) => match protocol.only_version(id, listing) {
                        Some(version) => {
                            self.own
                                .with_one_version(repository, listing, version)
                                .await?
                        }
                        None => {
                            self.own
                                .with_manifests(repository, &listing.package)
                                .await?
                        }
                    },
                };
                (listing, None)
            }
            OwnSource::Found(found, total) => (None, Some((found, total))),
        };
        let (id, mut address) = (id.clone(), address.clone());
        // There is no upstream whose addresses could be kept.
        address.kept = false;
        let size = listing.as_ref().map_or(0, |listing| listing.weight());
        let rendered = self
            .memory()
            .run(size.into(), move || {
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
                let directory = protocol.directory().map(|it| it.own_directory());
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
                    is_only_source: view.is_only_source,
                })?;
                let changes = *verdicts.changes.borrow();
                let notice = verdicts.notice();
                let body = rendering.body.unwrap_or(bytes);
                let body = match &notice {
                    Some(notice) => protocol.annotated(&id, body, notice),
                    None => body,
                };
                let rendered = Rendered::new(body.into(), &rendering.content_type, None, changes);
                Ok(Some(rendered.with_notice(notice)))
            })
            .await?;
        match rendered {
            Ok(Some(rendered)) => {
                let rendered = Arc::new(rendered);
                self.rendered.keep(key, Arc::clone(&rendered));
                Ok(Some(rendered))
            }
            Ok(None) | Err(FormatError::Absent(_)) => Ok(None),
            Err(error) => Err(Problem::internal("a document cannot be composed", error)),
        }
    }

    /// One document of several sources', the nearest first.
    pub async fn merged(
        self: &Arc<Self>,
        id: &DocumentId,
        parts: Vec<Arc<Rendered>>,
        encoding: Option<Encoding>,
        now: Timestamp,
    ) -> Result<Arc<Rendered>, Problem> {
        let key = |encoding: Option<Encoding>| {
            let mut hash = KeyHash::default();
            hash.part(b"merged");
            id.hash(&mut hash);
            hash.part(encoding.map_or("", Encoding::as_str).as_bytes());
            for part in &parts {
                hash.part(part.etag.as_bytes());
                hash.part(part.notice.as_deref().unwrap_or_default().as_bytes());
            }
            hash.key()
        };
        let (plain_key, coded_key) = (key(None), key(encoding));
        // One source's bytes reach the client as they are.
        if let [only] = parts.as_slice() {
            if let Some(rendered) = self.kept(&coded_key, now).await {
                return Ok(rendered);
            }
            return self.coded(Arc::clone(only), encoding, coded_key).await;
        }
        if let Some(rendered) = self.kept(&coded_key, now).await {
            return Ok(rendered);
        }
        let valid_until = parts.iter().filter_map(|part| part.valid_until).min();
        let plain = match self.kept(&plain_key, now).await {
            Some(plain) => plain,
            None => {
                let of = id.clone();
                let size = parts.iter().map(|part| part.body.len() as u64).sum();
                let merged = self
                    .memory()
                    .run(size, move || {
                        let bodies: Vec<&[u8]> = parts.iter().map(|part| &part.body[..]).collect();
                        let body = of.view.format().protocol().merge(&of, &bodies)?;
                        let content_type = parts.first().map_or("", |part| &part.content_type);
                        let notice = parts.iter().find_map(|part| part.notice.clone());
                        let aliases = parts.iter().flat_map(|part| part.aliases.clone());
                        let mut rendered = Rendered::new(body.into(), content_type, None, None)
                            .with_aliases(aliases.collect());
                        rendered.valid_until = valid_until;
                        let rendered = rendered.with_notice(notice);
                        Ok::<_, FormatError>(Arc::new(rendered))
                    })
                    .await?
                    .map_err(|error| Problem::internal("documents cannot be merged", error))?;
                self.rendered.keep(plain_key, Arc::clone(&merged));
                merged
            }
        };
        self.coded(plain, encoding, coded_key).await
    }

    async fn render(
        self: Arc<Self>,
        job: Rendering,
        key: RenderKey,
    ) -> Result<Arc<Rendered>, Problem> {
        let room = self.memory().room(job.document.row.size).await?;
        let bytes = job.document.bytes(&self.fetcher).await?;
        let directory = match &job.view.directory {
            Some(directory) => Some(directory.bytes(&self.fetcher).await?),
            None => None,
        };
        let (rendering, changes) = room
            .run(move || {
                let verdicts = Verdicts::new(&job.view, job.id.package.as_ref(), job.now);
                let shows = |subject: Subject<'_>| verdicts.shows(subject);
                let protocol = job.connection.format.protocol();
                let rendering = protocol.render(&RenderInput {
                    document: &job.id,
                    upstream: upstream(
                        &job.connection,
                        &job.document,
                        &bytes,
                        directory.as_deref(),
                    ),
                    address: &job.address,
                    shows: job.view.hides().then_some(&shows),
                    is_only_source: job.view.is_only_source,
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
                    let notice = verdicts.notice();
                    let body = match (rendering.body, &notice) {
                        (Some(body), Some(notice)) => {
                            protocol.annotated(&job.id, body, notice).into()
                        }
                        (Some(body), None) => body.into(),
                        (None, _) => bytes.clone(),
                    };
                    let connection = &job.connection.registry;
                    let aliases = rendering.aliases.into_iter().map(|alias| KeptAlias {
                        connection: connection.clone(),
                        path: alias.path,
                        target: alias.target,
                    });
                    let rendered = Rendered::new(body, &rendering.content_type, None, changes)
                        .with_notice(notice)
                        .with_aliases(aliases.collect());
                    Arc::new(rendered)
                });
                (body, changes)
            })
            .await?;
        let rendered = rendering?;
        self.write_down(&rendered.aliases).await;
        // A rendering that ends within the second is not worth caching.
        if changes.is_none_or(|changes| changes > clock::now()) {
            self.rendered.keep(key, Arc::clone(&rendered));
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
            .memory()
            .run(plain.body.len() as u64, move || {
                encoding.encode(&of.body).map(|body| {
                    let mut rendered =
                        Rendered::new(body.into(), &of.content_type, Some(encoding.as_str()), None);
                    rendered.valid_until = of.valid_until;
                    let rendered = rendered.with_notice(of.notice.clone());
                    Arc::new(rendered.with_aliases(of.aliases.clone()))
                })
            })
            .await?;
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                warn!(%error, "Compressing a document failed; it is sent uncompressed");
                return Ok(Arc::clone(plain));
            }
        };
        self.rendered.keep(key, Arc::clone(&encoded));
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

/// The packages that a document of our own is composed from.
pub(super) enum OwnSource<'a> {
    Package {
        repository: &'a str,
    },
    /// The hits of a search, and how many there are in all.
    Found(Vec<Summary>, u64),
}

/// One rendering to be made.
pub(super) struct Rendering {
    pub connection: Arc<Connection>,
    pub id: DocumentId,
    pub address: Address,
    pub document: Arc<Document>,
    pub view: View,
    pub now: Timestamp,
}

/// Another wherever renderings are stored in another form, between two versions.
const FORM: &[u8] = b"with notices";

/// The hash of all that decides a rendering's bytes.
struct KeyHash(Sha256);

impl Default for KeyHash {
    fn default() -> Self {
        let mut hash = Self(Sha256::new());
        // Renderings outlive the process: another version of Larder may render otherwise.
        hash.part(env!("CARGO_PKG_VERSION").as_bytes());
        hash.part(FORM);
        hash
    }
}

impl Hasher for KeyHash {
    fn write(&mut self, bytes: &[u8]) {
        self.part(bytes);
    }

    /// The key is taken by [`KeyHash::key`], whole.
    fn finish(&self) -> u64 {
        0
    }
}

impl KeyHash {
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn key(self) -> RenderKey {
        self.0.finalize().into()
    }
}

impl Rendering {
    /// The hash of all that decides the bytes.
    fn key(&self, encoding: Option<Encoding>) -> RenderKey {
        let protocol = self.connection.format.protocol();
        let mut hash = KeyHash::default();
        self.id.hash(&mut hash);
        let mut part = |bytes: &[u8]| hash.part(bytes);
        part(self.connection.registry.as_bytes());
        part(protocol.address_key(&self.id, &self.address).as_bytes());
        part(&[u8::from(self.address.kept)]);
        part(self.document.row.blob.as_bytes());
        part(self.document.url.as_str().as_bytes());
        part(self.document.row.media_type.as_bytes());
        part(encoding.map_or("", Encoding::as_str).as_bytes());
        if let Some(directory) = &self.view.directory {
            part(directory.row.blob.as_bytes());
        }
        part(&self.view.shadowed.name());
        part(&[u8::from(self.view.is_only_source)]);
        if let Some(stock) = &self.view.stock {
            for file in stock.files() {
                part(file.as_bytes());
            }
        }
        if self.view.concern.versions {
            part(self.view.snapshot.config.rules.fingerprint());
            for blob in self.view.facts.iter().flat_map(|facts| &facts.documents) {
                part(blob.as_bytes());
            }
            let mut dates: Vec<_> = self.view.dates.iter().collect();
            dates.sort_unstable();
            for (version, date) in dates {
                part(version.as_bytes());
                part(&date.as_millisecond().to_le_bytes());
            }
        }
        hash.key()
    }
}
