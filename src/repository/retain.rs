//! Retention: versions that no rule of the configuration keeps are deleted.

use super::change::PackageChange;
use super::manage::{Deleted, ManageOutcome, Manager};
use super::{Repository, Snapshot};
use crate::clock;
use crate::config::Retention;
use crate::format::package;
use crate::package::{Listing, PackageId, Release, Status};
use crate::problem::Problem;
use crate::store::packages::Step;

/// Packages that are looked through at once.
const PAGE: usize = 1000;

impl Manager {
    /// Deletes the versions that no rule of retention keeps, or says which they would be.
    pub(super) async fn retain(
        &self,
        snapshot: &Snapshot,
        dry_run: bool,
    ) -> Result<ManageOutcome, Problem> {
        let mut deleted = Vec::new();
        for repository in snapshot.repositories() {
            let of_repository = |rule: &&Retention| {
                rule.repository
                    .as_ref()
                    .is_none_or(|name| *name == repository.name)
            };
            let rules: Vec<&Retention> = snapshot
                .config
                .retain
                .iter()
                .filter(of_repository)
                .collect();
            if rules.is_empty() {
                continue;
            }
            let mut after = String::new();
            loop {
                let packages = self.packages();
                let page = packages
                    .releases()
                    .list(&repository.name, None, &after, PAGE)
                    .await?;
                let Some(last) = page.last() else { break };
                after = last.package.clone();
                for one in &page {
                    let package = package(&one.package)?;
                    let rule = rules
                        .iter()
                        .find(|rule| rule.packages.iter().any(|it| it.names(&package)));
                    if let Some(rule) = rule {
                        deleted.extend(self.expire(repository, &package, rule, dry_run).await?);
                    }
                }
            }
        }
        Ok(ManageOutcome::Retained { deleted, dry_run })
    }

    async fn expire(
        &self,
        repository: &Repository,
        package: &PackageId,
        rule: &Retention,
        dry_run: bool,
    ) -> Result<Vec<Deleted>, Problem> {
        let listing = self.reader.own.listing(&repository.name, package).await?;
        let expired: Vec<&Release> = expired(&listing, rule);
        let versions: Vec<String> = expired.iter().map(|it| it.version.to_string()).collect();
        if !dry_run && !versions.is_empty() {
            // The change is made only if the package is still as the rules saw it.
            let change = PackageChange::of(&repository.name, package)
                .expecting_revision(&listing.revision)
                .step(Step::Delete {
                    versions,
                    from: Vec::new(),
                });
            self.committer.commit(change).await?;
        }
        Ok(expired
            .into_iter()
            .map(|release| Deleted {
                repository: repository.name.clone(),
                package: package.to_string(),
                version: release.version.to_string(),
                size: release.assets.iter().map(|asset| asset.size).sum(),
            })
            .collect())
    }
}

/// The versions that the rule does not keep: each of its conditions keeps by itself. What a tag
/// points to stays.
fn expired<'a>(listing: &'a Listing, rule: &Retention) -> Vec<&'a Release> {
    let protocol = listing.package.format().protocol();
    let mut versions: Vec<&Release> = listing
        .versions
        .iter()
        .filter(|release| !matches!(release.status, Status::Disposed | Status::Unfinished))
        .collect();
    // The newest first; a prerelease stands before its release, and counts as any version does.
    versions.sort_by(|a, b| protocol.compare(&b.version, &a.version));
    let now = clock::now();
    versions
        .into_iter()
        .enumerate()
        .filter(|(index, release)| {
            let among_last = rule.keep_last.is_some_and(|count| *index < count);
            let is_young = rule.keep_newer_than.is_some_and(|age| {
                now.duration_since(release.published)
                    .try_into()
                    .is_ok_and(|passed: std::time::Duration| passed < age)
            });
            let is_tagged = listing
                .tags
                .values()
                .any(|tagged| *tagged == *release.version);
            !among_last && !is_young && !is_tagged
        })
        .map(|(_, release)| release)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TEAM, tool};
    use super::super::manage::ManageCommand;
    use super::*;

    #[tokio::test]
    async fn retention_deletes_what_no_rule_keeps_and_says_so_beforehand() {
        let rule = "[[retain]]\npackages = [\"generic:*\"]\nkeep_last = 1\n";
        let fixture = Fixture::open(&format!("{TEAM}{rule}")).await;
        fixture.publish(&tool(), "1.0", "one").await;
        fixture.publish(&tool(), "2.0", "two").await;
        for (dry_run, left) in [(true, 2), (false, 1)] {
            let retain = ManageCommand::Retain { dry_run };
            let done = fixture.manager.execute(&fixture.snapshot(), retain).await;
            let ManageOutcome::Retained { deleted, .. } = done.unwrap() else {
                panic!("retention says what it deletes")
            };
            assert_eq!(deleted.len(), 1);
            let listing = fixture.reader.own.listing("team", &tool()).await.unwrap();
            assert_eq!(listing.versions.len(), left);
        }
    }
}
