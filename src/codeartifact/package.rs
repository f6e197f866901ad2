//! Packages.

use serde_json::Value;

use super::page::Page;
use super::{Answered, Api, ApiFailure, Call, Operation, object, words};
use crate::format::package as package_of;
use crate::package::PackageId;
use crate::problem::Kind;
use crate::repository::Repository;
use crate::repository::manage::{ManageCommand, ManageOutcome, Which};
use crate::rule::{Restrictions, Way};

/// Packages that are looked through at once for a filter.
const LOOKED_THROUGH: usize = 1000;

/// How operations name a package: its format, its namespace where it has one, its name.
pub(super) fn named(package: &PackageId) -> [(&'static str, Value); 3] {
    [
        ("format", package.format().as_str().into()),
        ("namespace", package.namespace().into()),
        ("package", package.name().into()),
    ]
}

/// Operations about packages.
pub(super) struct PackageCalls<'a> {
    pub api: &'a Api<'a>,
}

impl PackageCalls<'_> {
    async fn origin_configuration(
        &self,
        repository: &Repository,
        package: &PackageId,
    ) -> Result<Value, ApiFailure> {
        let control = self
            .api
            .reader
            .control(self.api.snapshot, repository, package);
        let control = control.await?;
        Ok(object([(
            "restrictions",
            object([
                ("publish", control.publish.as_str().into()),
                ("upstream", control.upstream.as_str().into()),
            ]),
        )]))
    }

    pub(super) async fn list(&self, call: &Call) -> Answered {
        self.api.may_in_repository(Operation::ListPackages, call)?;
        let repository = self.api.repository(call.required("repository")?)?;
        let page = Page::of(call)?;
        let format = call.format()?;
        let namespace = call.optional("namespace");
        let prefix = call.optional("package-prefix").unwrap_or_default();
        let ways = &["ALLOW", "BLOCK"];
        let publish = call.one_of("publish", ways)?;
        let upstream = call.one_of("upstream", ways)?;
        let mut after = page.after.clone().unwrap_or_default();
        let mut packages = Vec::new();
        let mut next = Value::Null;
        'pages: loop {
            let command = ManageCommand::List {
                repository: repository.name.clone(),
                format: format.map(|format| format.to_string()),
                after: after.clone(),
                limit: LOOKED_THROUGH,
                which: Which::All,
            };
            let ManageOutcome::Packages {
                packages: found, ..
            } = self.api.manager.execute(self.api.snapshot, command).await?
            else {
                break;
            };
            let is_last = found.len() < LOOKED_THROUGH;
            for one in found {
                after.clone_from(&one.package);
                let package = package_of(&one.package)?;
                if namespace
                    .is_some_and(|it| package.namespace() != Some(it.trim_start_matches('@')))
                    || !package.name().starts_with(prefix)
                {
                    continue;
                }
                let origin = self.origin_configuration(repository, &package).await?;
                let is = |pointer: &str, wanted: Option<&str>| {
                    let said = origin.pointer(pointer).and_then(Value::as_str);
                    wanted.is_none_or(|wanted| said == Some(wanted))
                };
                if !is("/restrictions/publish", publish) || !is("/restrictions/upstream", upstream)
                {
                    continue;
                }
                if packages.len() == page.size {
                    // There is one more behind this page.
                    next = Page::token(&last_of(&packages));
                    break 'pages;
                }
                let [format, namespace, name] = named(&package);
                packages.push((
                    one.package,
                    object([format, namespace, name, ("originConfiguration", origin)]),
                ));
            }
            if is_last {
                break;
            }
        }
        let packages: Vec<Value> = packages.into_iter().map(|(_, one)| one).collect();
        Ok(words([("packages", packages.into()), ("nextToken", next)]))
    }

    pub(super) async fn describe(&self, call: &Call) -> Answered {
        let (repository, package) = self.api.may_to_package(Operation::DescribePackage, call)?;
        self.api.versions(repository, &package).await?;
        let origin = self.origin_configuration(repository, &package).await?;
        let [format, namespace, (_, name)] = named(&package);
        Ok(words([(
            "package",
            object([
                format,
                namespace,
                ("name", name),
                ("originConfiguration", origin),
            ]),
        )]))
    }

    pub(super) async fn put_origin(&self, call: &Call) -> Answered {
        let operation = Operation::PutPackageOriginConfiguration;
        let (repository, package) = self.api.may_to_package(operation, call)?;
        let way = |name| match call.within("restrictions", name) {
            Some(word @ ("ALLOW" | "BLOCK")) => Ok(Way::parse(word)),
            _ => Err(ApiFailure::field(format!(
                "`restrictions.{name}` has to be ALLOW or BLOCK"
            ))),
        };
        let said = Restrictions {
            publish: way("publish")?,
            upstream: way("upstream")?,
        };
        self.api.versions(repository, &package).await?;
        if self.api.snapshot.config.origins.settles(&package) {
            return Err(ApiFailure::field(format!(
                "a setting of the configuration ([[origin]]) names {package}, and decides"
            )));
        }
        self.api
            .manager
            .restrict(&repository.name, &package, said)
            .await?;
        let origin = self.origin_configuration(repository, &package).await?;
        Ok(words([("originConfiguration", origin)]))
    }

    pub(super) async fn delete(&self, call: &Call) -> Answered {
        let (repository, package) = self.api.may_to_package(Operation::DeletePackage, call)?;
        let origin = self.origin_configuration(repository, &package).await?;
        let command = ManageCommand::Delete {
            repository: repository.name.clone(),
            package: package.to_string(),
            versions: Vec::new(),
            from: Vec::new(),
        };
        let deleted = self.api.manager.execute(self.api.snapshot, command).await;
        deleted.map_err(|problem| of_package(problem.into(), &package))?;
        let [format, namespace, name] = named(&package);
        Ok(words([(
            "deletedPackage",
            object([format, namespace, name, ("originConfiguration", origin)]),
        )]))
    }
}

fn last_of(packages: &[(String, Value)]) -> String {
    packages
        .last()
        .map(|(name, _)| name.clone())
        .unwrap_or_default()
}

pub(super) fn of_package(failure: ApiFailure, package: &PackageId) -> ApiFailure {
    if failure.problem.kind == Kind::NotFound {
        failure.about("package", &package.full_name())
    } else {
        failure
    }
}
