//! Copies of versions from one repository to another.

use super::version::{BatchResult, VersionCalls, is_named};
use super::{Answered, ApiFailure, Call, Operation};
use crate::access::{PolicyResource, READ};
use crate::package::Origin;
use crate::repository::manage::{ManageCommand, Version};

impl VersionCalls<'_> {
    /// Copies all of them or none: where one cannot be copied, the others are skipped.
    pub(super) async fn copy(&self, call: &Call) -> Answered {
        let operation = Operation::CopyPackageVersions;
        let (from, to) = (
            call.required("source-repository")?,
            call.required("destination-repository")?,
        );
        let package = call.package()?;
        let domain = self.api.domain();
        self.api.pass.to(
            operation.action(),
            &PolicyResource::package(domain, to, &package),
        )?;
        self.api
            .pass
            .to(READ, &PolicyResource::repository(domain, from))?;
        let (source, target) = (self.api.repository(from)?, self.api.repository(to)?);
        if source.name == target.name {
            return Err(ApiFailure::field(
                "the source and the destination are one repository",
            ));
        }
        if call.flag("allowOverwrite") {
            return Err(ApiFailure::field(
                "`allowOverwrite` is not taken: what is published stays as it is; delete it first",
            ));
        }
        let named = call.versions()?;
        let there = self.api.versions(source, &package).await?;
        let before = self
            .api
            .versions(target, &package)
            .await
            .unwrap_or_default();
        let with_upstreams = call.flag("includeFromUpstream");
        let is_here = |one: &Version| {
            with_upstreams || one.origin == Origin::External || one.repository == source.name
        };
        let mut results = BatchResult::default();
        let mut chosen = Vec::with_capacity(named.len());
        for (wanted, revision) in named {
            let is_wanted = is_named(&package, &wanted)?;
            let found = there
                .iter()
                .find(|one| is_wanted(&one.version) && is_here(one));
            let has_it = before
                .iter()
                .find(|one| is_wanted(&one.version) && one.is_own && one.repository == target.name);
            match (found, has_it) {
                (None, _) => {
                    let why = format!("`{from}` has no {package} {wanted}");
                    results.failed(&wanted, "NOT_FOUND", why);
                }
                (Some(found), _) if revision.as_ref().is_some_and(|it| *it != found.revision) => {
                    let why = format!("it is in revision {}", found.revision);
                    results.failed(&wanted, "MISMATCHED_REVISION", why);
                }
                (Some(found), _) if !found.status.is_served() => {
                    let why = format!("it is {}", found.status);
                    results.failed(&wanted, "NOT_ALLOWED", why);
                }
                (Some(found), Some(same)) if !same.has_files_of(found) => {
                    let why = format!("`{to}` has {package} {wanted} already, with other files");
                    results.failed(&wanted, "ALREADY_EXISTS", why);
                }
                (Some(found), _) => chosen.push(found.version.clone()),
            }
        }
        if results.have_failures() {
            for version in chosen {
                results.failed(&version, "SKIPPED", "another version could not be copied");
            }
            return Ok(results.answer());
        }
        let command = ManageCommand::Copy {
            from: source.name.clone(),
            to: target.name.clone(),
            package: package.to_string(),
            versions: chosen.clone(),
        };
        self.api.manager.execute(self.api.snapshot, command).await?;
        let now = self.api.versions(target, &package).await?;
        for version in now.iter().filter(|one| chosen.contains(&one.version)) {
            results.succeeded(version, version.status.as_str());
        }
        Ok(results.answer())
    }
}
