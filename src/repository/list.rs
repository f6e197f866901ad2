//! Lists a repository's packages: its own, and those pulled through it.

use std::collections::BTreeMap;

use super::Repository;
use super::manage::{ManageOutcome, Manager, Which};
use super::source::Source;
use crate::format::package;
use crate::package::{Format, Summary};
use crate::problem::Problem;

/// A part of a repository's packages, in the order of their names.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub format: Option<Format>,
    /// Behind this one.
    pub after: &'a str,
    pub limit: usize,
}

impl Manager {
    /// Lists the packages of a page.
    pub(super) async fn list(
        &self,
        repository: &Repository,
        which: Which,
        page: Page<'_>,
    ) -> Result<ManageOutcome, Problem> {
        let (packages, cached) = match which {
            Which::All => {
                // A package of one's own stands before one of that name that was pulled.
                let own = self.own_page(repository, page).await?;
                let cached = self.cached_page(repository, page).await?;
                let all = own.into_iter().chain(cached);
                (first_of_each(all, page.limit), Vec::new())
            }
            Which::Own => (self.own_page(repository, page).await?, Vec::new()),
            Which::OwnAndCached => self.own_and_cached(repository, page).await?,
        };
        Ok(ManageOutcome::Packages { packages, cached })
    }

    async fn own_and_cached(
        &self,
        repository: &Repository,
        page: Page<'_>,
    ) -> Result<(Vec<Summary>, Vec<Summary>), Problem> {
        let is_behind_own = !page.after.is_empty() && !self.is_own(repository, page.after).await?;
        let (own, mut after) = if is_behind_own {
            (Vec::new(), page.after.to_owned())
        } else {
            (self.own_page(repository, page).await?, String::new())
        };
        let mut cached = Vec::new();
        loop {
            let limit = page.limit.saturating_sub(own.len() + cached.len());
            let next = Page {
                after: &after,
                limit,
                ..page
            };
            let found = self.cached_page(repository, next).await?;
            let is_last = found.len() < limit;
            let Some(last) = found.last() else { break };
            let last = last.package.clone();
            for one in found {
                if !self.is_own(repository, &one.package).await? {
                    cached.push(one);
                }
            }
            if is_last {
                break;
            }
            after = last;
        }
        Ok((own, cached))
    }

    /// Whether the repository, or one that it draws on, has the package of its own.
    async fn is_own(&self, repository: &Repository, name: &str) -> Result<bool, Problem> {
        let package = package(name)?;
        for own in repository.own_names() {
            let held = self.reader.own.package(own, &package).await?;
            if held.listing.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn own_page(
        &self,
        repository: &Repository,
        page: Page<'_>,
    ) -> Result<Vec<Summary>, Problem> {
        let releases = self.packages().releases();
        let mut found = Vec::new();
        for name in repository.own_names() {
            let listed = releases.list(name, page.format, page.after, page.limit);
            found.extend(listed.await?);
        }
        Ok(first_of_each(found, page.limit))
    }

    async fn cached_page(
        &self,
        repository: &Repository,
        page: Page<'_>,
    ) -> Result<Vec<Summary>, Problem> {
        let assets = self.store().catalog().assets();
        let mut found = Vec::new();
        for source in &repository.sources {
            let Source::Connection(connection) = source else {
                continue;
            };
            if page
                .format
                .is_some_and(|format| format != connection.format)
            {
                continue;
            }
            let pulled = assets.packages_pulled(&connection.registry, page.after, page.limit);
            let failed = |error| Problem::internal("the catalog cannot be read", error);
            found.extend(pulled.await.map_err(failed)?);
        }
        Ok(first_of_each(found, page.limit))
    }
}

/// The first package of each name, in the order of their names.
fn first_of_each(packages: impl IntoIterator<Item = Summary>, limit: usize) -> Vec<Summary> {
    let mut found = BTreeMap::new();
    for one in packages {
        found.entry(one.package.clone()).or_insert(one);
    }
    found.into_values().take(limit).collect()
}
