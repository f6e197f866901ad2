//! Who is asked for a package, in order: own packages, and what lies outside where that may be.

use std::sync::Arc;

use super::evidence::PackageFacts;
use super::own::OwnPackage;
use super::source::Source;
use super::{Reader, Repository, Snapshot};
use crate::connection::Connection;
use crate::fetch::Currency;
use crate::format::Evidence;
use crate::package::{Format, Origin, PackageId};
use crate::problem::{Decider, Problem};
use crate::rule::{Control, Entrance};

/// Versions that nearer sources have: farther ones' are not taken in their place.
#[derive(Clone, Default)]
pub(super) struct Taken {
    own: Vec<Arc<OwnPackage>>,
    outside: Vec<Arc<PackageFacts>>,
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.outside.is_empty()
    }

    pub fn has(&self, version: &str) -> bool {
        self.own.iter().any(|held| held.has_version(version))
            || self
                .outside
                .iter()
                .any(|facts| facts.facts.version(version).is_some())
    }

    pub fn and(mut self, other: &Self) -> Self {
        self.own.extend(other.own.iter().cloned());
        self.outside.extend(other.outside.iter().cloned());
        self
    }

    pub fn also(&mut self, facts: Arc<PackageFacts>) {
        self.outside.push(facts);
    }

    /// What names these versions among all that decides a rendering.
    pub fn name(&self) -> Vec<u8> {
        let own = self.own.iter().filter_map(|held| {
            let listing = held.listing.as_ref()?;
            Some(listing.revision.as_bytes())
        });
        let outside = self
            .outside
            .iter()
            .flat_map(|facts| facts.documents.iter().map(|blob| &blob.as_bytes()[..]));
        own.chain(outside).flatten().copied().collect()
    }
}

/// One source that may have the package.
pub(super) enum Link {
    Own {
        repository: Arc<str>,
        held: Arc<OwnPackage>,
    },
    Outside(Arc<Connection>),
}

/// The sources of one package, the nearest first.
pub(super) struct Chain {
    pub links: Vec<Link>,
    /// They end when a source that has nothing of the package may have something.
    pub currencies: Vec<Currency>,
    /// Until when the catalog's word holds; seconds since 1970.
    pub until: i64,
    /// Why nobody outside is asked, where that is so.
    pub barred: Option<Problem>,
}

impl Chain {
    /// The connections alone, of what is about no package.
    pub fn of_connections(repository: &Repository, format: Format) -> Self {
        Self {
            links: repository
                .connections_of(format)
                .map(|connection| Link::Outside(Arc::clone(connection)))
                .collect(),
            currencies: Vec::new(),
            until: i64::MAX,
            barred: None,
        }
    }

    /// What own packages nearer than the link at `index` have.
    pub fn taken_before(&self, index: usize) -> Taken {
        let nearer = self.links.iter().take(index);
        Taken {
            own: nearer
                .filter_map(|link| match link {
                    Link::Own { held, .. } => Some(Arc::clone(held)),
                    Link::Outside(_) => None,
                })
                .collect(),
            outside: Vec::new(),
        }
    }

    /// Whether nothing behind the link may be asked though it has nothing: it is offline, so nobody
    /// knows what lies there, and a farther source with a line might have another's of that name.
    pub fn ends_at(&self, index: usize) -> bool {
        let is_offline = |link: &Link, offline| matches!(link, Link::Outside(connection) if connection.offline == offline);
        let mut farther = self.links.iter().skip(index);
        farther.next().is_some_and(|link| is_offline(link, true))
            && farther.any(|link| is_offline(link, false))
    }

    pub fn connections(&self) -> usize {
        let is_outside = |link: &&Link| matches!(link, Link::Outside(_));
        self.links.iter().filter(is_outside).count()
    }
}

impl Reader {
    /// Who is asked for the package.
    pub(super) async fn chain(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Chain, Problem> {
        let format = package.format();
        let mut chain = Chain {
            links: Vec::new(),
            currencies: Vec::new(),
            until: i64::MAX,
            barred: None,
        };
        let (mut seen, mut said) = (None, None);
        for source in &repository.sources {
            match source {
                Source::Own(name) => {
                    let held = self.own.of(name, package).await?;
                    // The nearest repository's word holds.
                    said = said.or(held.restrictions);
                    chain.currencies.push(held.currency.clone());
                    chain.until = chain.until.min(held.until);
                    let Some(listing) = &held.listing else {
                        continue;
                    };
                    if listing.origin == Origin::Internal {
                        seen = Some(Origin::Internal);
                    }
                    chain.links.push(Link::Own {
                        repository: Arc::clone(name),
                        held,
                    });
                }
                Source::Connection(connection) if connection.format == format => {
                    chain.links.push(Link::Outside(Arc::clone(connection)));
                }
                Source::Connection(_) => {}
            }
        }
        let control = snapshot.config.origins.control(package, said, seen);
        let before = chain.connections();
        chain.links.retain(|link| match link {
            Link::Own { .. } => true,
            Link::Outside(connection) => control.takes_from(&connection.name),
        });
        if before > 0 && chain.connections() == 0 {
            chain.barred = Some(barred(repository, package));
        }
        if let Some(entrance) = snapshot.groups.entrance(package) {
            let open = snapshot.open_sources(&repository.name, &entrance);
            let before = chain.links.len();
            chain.links.retain(|link| match link {
                Link::Own { repository, .. } => open.repositories.contains(&**repository),
                Link::Outside(connection) => open.connections.contains(connection.name.as_str()),
            });
            if chain.links.len() < before {
                let problem = shut_out(repository, package, &entrance);
                chain.barred.get_or_insert(problem);
            }
        }
        Ok(chain)
    }

    /// Whether the connection may be asked for the package at all.
    pub(super) async fn may_ask(
        &self,
        snapshot: &Snapshot,
        repository: &Repository,
        connection: &Connection,
        package: &PackageId,
    ) -> Result<bool, Problem> {
        let chain = self.chain(snapshot, repository, package).await?;
        Ok(chain
            .links
            .iter()
            .any(|link| matches!(link, Link::Outside(outside) if outside.name == connection.name)))
    }

    /// What may be done to the package in the repository.
    ///
    /// # Errors
    /// Where a catalog cannot be read.
    pub async fn control<'a>(
        &self,
        snapshot: &'a Snapshot,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Control<'a>, Problem> {
        let (mut seen, mut said) = (None, None);
        for source in &repository.sources {
            if let Source::Own(name) = source {
                if said.is_none() {
                    said = self.own.of(name, package).await?.restrictions;
                }
                if seen.is_none() {
                    seen = self.own.origin(name, package).await?;
                }
            }
        }
        if seen.is_none() && self.was_seen_outside(repository, package).await? {
            seen = Some(Origin::External);
        }
        Ok(snapshot.config.origins.control(package, said, seen))
    }

    /// Whether a connection of the repository was ever seen to have the package.
    async fn was_seen_outside(
        &self,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<bool, Problem> {
        let protocol = package.format().protocol();
        let catalog = self.fetcher.store().catalog();
        for connection in repository.connections_of(package.format()) {
            let pulled = catalog.has_assets_of(&connection.name, package).await;
            if pulled.map_err(|error| Problem::internal("the catalog cannot be read", error))? {
                return Ok(true);
            }
            for dates in [false, true] {
                let Evidence::Documents(documents) = protocol.evidence(package, dates) else {
                    continue;
                };
                for resource in documents {
                    let stored = self.fetcher.stored(connection, &resource.key).await?;
                    if stored.is_some() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

fn shut_out(repository: &Repository, package: &PackageId, entrance: &Entrance<'_>) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.name.clone()),
        format!(
            "{package} does not come here from outside: its package group `{}` says so",
            entrance.group.pattern
        ),
    )
    .advice("`aws codeartifact update-package-group-origin-configuration` changes that")
}

fn barred(repository: &Repository, package: &PackageId) -> Problem {
    Problem::not_found(
        Decider::Repository(repository.name.clone()),
        format!("{package} is a name of our own: versions from outside are not taken"),
    )
    .advice("if they are meant, say so with [[origin]] packages = [\"…\"], upstream = \"allow\"")
}
