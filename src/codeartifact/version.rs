//! Package versions: what they are, what they have, and what becomes of them.

use serde_json::{Map, Value};

use super::package::named;
use super::page::Page;
use super::{Answered, Api, ApiAnswer, ApiFailure, Call, Operation, object, words};
use crate::format::{generic, package as package_of, path};
use crate::package::{AssetId, Format, Origin, PackageId, Status};
use crate::repository::manage::{ManageCommand, Version, VersionFile};
use crate::repository::{Addition, BodySender, BodyStream, Repository};

pub(super) const STATUSES: &[&str] = &[
    "Published",
    "Unfinished",
    "Unlisted",
    "Archived",
    "Disposed",
];

/// The algorithms as the model names them.
fn algorithm(name: &str) -> &'static str {
    match name {
        "md5" => "MD5",
        "sha1" => "SHA-1",
        "sha512" => "SHA-512",
        _ => "SHA-256",
    }
}

/// Whether a version is the one that the caller wrote, in whatever spelling.
pub(super) fn is_named(
    package: &PackageId,
    wanted: &str,
) -> Result<impl Fn(&str) -> bool + use<>, ApiFailure> {
    let protocol = package.format().protocol();
    let wanted = protocol.version(wanted)?;
    Ok(move |version: &str| protocol.known_version(version) == wanted)
}

/// A file's name as CodeArtifact has it: npm's one tarball is `package.tgz`.
fn asset_name(format: Format, file: &str) -> &str {
    if format == Format::Npm {
        "package.tgz"
    } else {
        path::last_segment(file)
    }
}

fn asset_summary(format: Format, asset: &VersionFile) -> Value {
    let hashes: Map<String, Value> = asset
        .digests
        .iter()
        .map(|(name, digest)| (algorithm(name).to_owned(), digest.as_str().into()))
        .collect();
    object([
        ("name", asset_name(format, &asset.file).into()),
        ("size", asset.size.into()),
        ("hashes", hashes.into()),
    ])
}

/// The results of a call about several versions: which succeeded, and which failed and why.
#[derive(Default)]
pub(super) struct BatchResult {
    succeeded: Map<String, Value>,
    failed: Map<String, Value>,
}

impl BatchResult {
    pub fn succeeded(&mut self, version: &Version, status: &str) {
        let fate = object([
            ("revision", version.revision.as_str().into()),
            ("status", status.into()),
        ]);
        self.succeeded.insert(version.version.clone(), fate);
    }

    pub fn failed(&mut self, version: &str, code: &str, why: impl Into<String>) {
        let fate = object([
            ("errorCode", code.into()),
            ("errorMessage", why.into().into()),
        ]);
        self.failed.insert(version.to_owned(), fate);
    }

    pub fn have_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    pub fn answer(self) -> ApiAnswer {
        words([
            ("successfulVersions", self.succeeded.into()),
            ("failedVersions", self.failed.into()),
        ])
    }
}

/// Where the version came from.
fn origin_of(repository: &Repository, package: &PackageId, version: &Version) -> Value {
    let (kind, entry) = match version.origin {
        Origin::Internal => (
            "INTERNAL",
            Some(("repositoryName", version.repository.clone())),
        ),
        Origin::External => {
            let mut connections = repository.connections_of(package.format());
            let first = connections.next().map(|it| it.name.clone());
            let name = version.connection.clone().or(first);
            ("EXTERNAL", name.map(|it| ("externalConnectionName", it)))
        }
    };
    let entry = entry.map_or(Value::Null, |(key, name)| object([(key, name.into())]));
    object([("domainEntryPoint", entry), ("originType", kind.into())])
}

/// Operations about versions of packages.
pub(super) struct VersionCalls<'a> {
    pub api: &'a Api<'a>,
}

impl VersionCalls<'_> {
    pub(super) async fn list(&self, call: &Call) -> Answered {
        let (repository, package) = self
            .api
            .may_to_package(Operation::ListPackageVersions, call)?;
        let page = Page::of(call)?;
        let status = call.one_of("status", STATUSES)?;
        let sort = call.one_of("sortBy", &["PUBLISHED_TIME"])?;
        let origin = call.one_of("originType", &["INTERNAL", "EXTERNAL", "UNKNOWN"])?;
        let mut versions = self.api.versions(repository, &package).await?;
        let protocol = package.format().protocol();
        versions.sort_by(|a, b| protocol.compare_choice(&b.version, &a.version));
        let tagged = versions
            .iter()
            .find(|version| version.tags.iter().any(|tag| tag == "latest"));
        let newest = versions
            .iter()
            .find(|version| version.status == Status::Published);
        let display = tagged.or(newest).map(|version| version.version.clone());
        if sort.is_some() {
            // The newest first; what has no date is older than what has one.
            versions.sort_by_key(|version| std::cmp::Reverse(version.published_at));
        }
        versions.retain(|version| {
            let kind = match version.origin {
                Origin::Internal => "INTERNAL",
                Origin::External => "EXTERNAL",
            };
            status.is_none_or(|status| status == version.status.as_str())
                && origin.is_none_or(|origin| origin == kind)
        });
        let (versions, next) = page.cut(versions, |version| &version.version)?;
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| {
                object([
                    ("version", version.version.as_str().into()),
                    ("revision", version.revision.as_str().into()),
                    ("status", version.status.as_str().into()),
                    ("origin", origin_of(repository, &package, version)),
                ])
            })
            .collect();
        let [format, namespace, name] = named(&package);
        Ok(words([
            ("defaultDisplayVersion", display.into()),
            format,
            namespace,
            name,
            ("versions", versions.into()),
            ("nextToken", next),
        ]))
    }

    /// The version that the call names, once the caller may do this.
    async fn version(
        &self,
        operation: Operation,
        call: &Call,
    ) -> Result<(&Repository, PackageId, Version), ApiFailure> {
        let (repository, package) = self.api.may_to_package(operation, call)?;
        let wanted = call.required("version")?;
        let versions = self.api.versions(repository, &package).await?;
        let is_wanted = is_named(&package, wanted)?;
        let version = versions.into_iter().find(|one| is_wanted(&one.version));
        let version = version.ok_or_else(|| {
            ApiFailure::absent(
                "package-version",
                wanted,
                format!("there is no {package} {wanted} in `{}`", repository.name),
            )
        })?;
        Ok((repository, package, version))
    }

    /// How answers about a version begin.
    fn of_version(package: &PackageId, version: &Version) -> [(&'static str, Value); 5] {
        let [format, namespace, name] = named(package);
        [
            format,
            namespace,
            name,
            ("version", version.version.as_str().into()),
            ("versionRevision", version.revision.as_str().into()),
        ]
    }

    pub(super) async fn describe(&self, call: &Call) -> Answered {
        let (repository, package, version) = self
            .version(Operation::DescribePackageVersion, call)
            .await?;
        let said = self
            .api
            .manager
            .words_of(repository, &package, &version.version)
            .await?;
        let manifest: Value = serde_json::from_str(&said.manifest).unwrap_or_default();
        let text = |names: &[&str]| {
            let mut found = names.iter().filter_map(|name| match manifest.get(*name)? {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Object(members) => members.get("url")?.as_str().map(str::to_owned),
                _ => None,
            });
            Value::from(found.next())
        };
        let licenses = match text(&["license", "license_expression"]) {
            Value::Null => Value::Null,
            name => Value::Array(vec![object([("name", name)])]),
        };
        let published = version.published_at.map_or(Value::Null, super::time);
        let [format, namespace, (_, name)] = named(&package);
        Ok(words([(
            "packageVersion",
            object([
                format,
                namespace,
                ("packageName", name),
                ("displayName", package.full_name().into()),
                ("version", version.version.as_str().into()),
                ("summary", text(&["summary", "description"])),
                ("homePage", text(&["homepage", "home_page", "projectUrl"])),
                ("sourceCodeRepository", text(&["repository"])),
                ("publishedTime", published),
                ("licenses", licenses),
                ("revision", version.revision.as_str().into()),
                ("status", version.status.as_str().into()),
                ("origin", origin_of(repository, &package, &version)),
            ]),
        )]))
    }

    pub(super) async fn list_assets(&self, call: &Call) -> Answered {
        let operation = Operation::ListPackageVersionAssets;
        let (_, package, version) = self.version(operation, call).await?;
        let (assets, next) =
            Page::of(call)?.cut(version.assets.iter().collect(), |asset| &asset.file)?;
        let assets: Vec<Value> = assets
            .into_iter()
            .map(|asset| asset_summary(package.format(), asset))
            .collect();
        let [format, namespace, name, number, revision] = Self::of_version(&package, &version);
        Ok(words([
            format,
            namespace,
            name,
            number,
            revision,
            ("assets", assets.into()),
            ("nextToken", next),
        ]))
    }

    pub(super) async fn list_dependencies(&self, call: &Call) -> Answered {
        let operation = Operation::ListPackageVersionDependencies;
        let (repository, package, version) = self.version(operation, call).await?;
        let said = self
            .api
            .manager
            .words_of(repository, &package, &version.version)
            .await?;
        let dependencies: Vec<Value> = said
            .dependencies
            .iter()
            .map(|dependency| {
                let other = package_of(&format!("{}:{}", package.format(), dependency.name)).ok();
                let (namespace, name) = match &other {
                    Some(other) => (other.namespace(), other.name()),
                    None => (None, dependency.name.as_str()),
                };
                object([
                    ("namespace", namespace.into()),
                    ("package", name.into()),
                    ("dependencyType", dependency.kind.as_str().into()),
                    ("versionRequirement", dependency.requirement.as_str().into()),
                ])
            })
            .collect();
        let [format, namespace, name, number, revision] = Self::of_version(&package, &version);
        Ok(words([
            format,
            namespace,
            name,
            number,
            revision,
            ("dependencies", dependencies.into()),
        ]))
    }

    pub(super) async fn readme(&self, call: &Call) -> Answered {
        let operation = Operation::GetPackageVersionReadme;
        let (repository, package, version) = self.version(operation, call).await?;
        let said = self
            .api
            .manager
            .words_of(repository, &package, &version.version)
            .await?;
        let readme = said.readme.ok_or_else(|| {
            ApiFailure::absent(
                "package-version",
                &version.version,
                format!("{package} {} has no readme", version.version),
            )
        })?;
        let [format, namespace, name, number, revision] = Self::of_version(&package, &version);
        Ok(words([
            format,
            namespace,
            name,
            number,
            revision,
            ("readme", readme.into()),
        ]))
    }

    pub(super) async fn asset(&self, call: &Call) -> Answered {
        let operation = Operation::GetPackageVersionAsset;
        let wanted = call.required("asset")?;
        let (repository, package, version) = self.version(operation, call).await?;
        if let Some(revision) = call.optional("revision")
            && revision != version.revision
        {
            return Err(ApiFailure::field(format!(
                "{package} {} is in revision {}",
                version.version, version.revision
            )));
        }
        let is_it = |asset: &&VersionFile| {
            asset_name(package.format(), &asset.file) == wanted || asset.file == wanted
        };
        let asset = version.assets.iter().find(is_it).ok_or_else(|| {
            ApiFailure::absent(
                "asset",
                wanted,
                format!("{package} {} has no {wanted}", version.version),
            )
        })?;
        let id = AssetId {
            package: package.clone(),
            file: asset.file.as_str().into(),
        };
        let reply = self
            .api
            .reader
            .asset(self.api.snapshot, repository, &id)
            .await?;
        Ok(ApiAnswer::Asset {
            reply: Box::new(reply),
            headers: vec![
                (
                    "x-assetname",
                    asset_name(package.format(), &asset.file).to_owned(),
                ),
                ("x-packageversion", version.version),
                ("x-packageversionrevision", version.revision),
            ],
        })
    }

    /// Takes a file of a generic package's version, whose SHA-256 is said in hexadecimal.
    pub(super) async fn publish(
        &self,
        call: &Call,
        body: BodyStream,
        sender: BodySender,
        sha256: &str,
    ) -> Answered {
        let operation = Operation::PublishPackageVersion;
        let (repository, package) = self.api.may_to_package(operation, call)?;
        if package.format() != Format::Generic {
            return Err(ApiFailure::field(
                "only packages of the format generic are published here: the others by their own clients",
            ));
        }
        let (version, name) = (call.required("version")?, call.required("asset")?);
        let asset = generic::asset(package.clone(), version, name)?;
        let file = asset.file.clone();
        let addition = Addition {
            asset,
            version: version.to_owned(),
            body,
            sender,
            sha256: sha256.to_owned(),
            is_unfinished: call.optional("unfinished") == Some("true"),
        };
        let published = self
            .api
            .publisher
            .publish_file(self.api.snapshot, repository, addition)
            .await;
        published.map_err(|problem| ApiFailure::of(problem).about("package-version", version))?;
        let mut versions = self.api.versions(repository, &package).await?.into_iter();
        let found = versions.find(|it| it.version == version).ok_or_else(|| {
            ApiFailure::absent("package-version", version, "the version has gone meanwhile")
        })?;
        let mut assets = found.assets.iter();
        let asset = assets.find(|it| *it.file == *file);
        let [format, namespace, package_name, number, revision] =
            Self::of_version(&package, &found);
        Ok(words([
            format,
            namespace,
            package_name,
            number,
            revision,
            ("status", found.status.as_str().into()),
            (
                "asset",
                asset.map(|it| asset_summary(Format::Generic, it)).into(),
            ),
        ]))
    }

    /// Returns the versions of the call that have the status and the revision that it expects. The
    /// others are recorded as failed in `results`.
    async fn expected(
        &self,
        call: &Call,
        repository: &Repository,
        package: &PackageId,
        results: &mut BatchResult,
    ) -> Result<Vec<Version>, ApiFailure> {
        let expected = call.expected_status()?;
        let named = call.versions()?;
        let mut versions = self.api.versions(repository, package).await?;
        let mut chosen = Vec::with_capacity(named.len());
        for (wanted, revision) in named {
            let is_wanted = is_named(package, &wanted)?;
            // Two spellings of one version are one.
            if chosen.iter().any(|one: &Version| is_wanted(&one.version)) {
                continue;
            }
            let found = versions.iter().position(|one| {
                is_wanted(&one.version) && one.repository == repository.name && one.is_own
            });
            let Some(version) = found.map(|at| versions.swap_remove(at)) else {
                let why = format!("`{}` itself has no {package} {wanted}", repository.name);
                results.failed(&wanted, "NOT_FOUND", why);
                continue;
            };
            if let Some(revision) = revision.filter(|revision| *revision != version.revision) {
                let why = format!("it is in revision {}, not {revision}", version.revision);
                results.failed(&wanted, "MISMATCHED_REVISION", why);
            } else if let Some(status) = expected.filter(|it| *it != version.status) {
                let why = format!("it is {}, not {status}", version.status);
                results.failed(&wanted, "MISMATCHED_STATUS", why);
            } else {
                chosen.push(version);
            }
        }
        Ok(chosen)
    }

    pub(super) async fn update_status(&self, call: &Call) -> Answered {
        let target = call.one_of("targetStatus", STATUSES)?;
        let target = target.ok_or_else(|| ApiFailure::field("`targetStatus` is missing"))?;
        if target == Status::Disposed.as_str() {
            return Err(ApiFailure::field(
                "versions are disposed of by DisposePackageVersions",
            ));
        }
        self.give_status(Operation::UpdatePackageVersionsStatus, call, target)
            .await
    }

    pub(super) async fn dispose(&self, call: &Call) -> Answered {
        let target = Status::Disposed.as_str();
        self.give_status(Operation::DisposePackageVersions, call, target)
            .await
    }

    async fn give_status(&self, operation: Operation, call: &Call, target: &str) -> Answered {
        let (repository, package) = self.api.may_to_package(operation, call)?;
        let status: Status = target
            .parse()
            .map_err(|error| ApiFailure::field(format!("{error}")))?;
        let mut results = BatchResult::default();
        let chosen = self
            .expected(call, repository, &package, &mut results)
            .await?;
        for version in &chosen {
            let command = ManageCommand::Status {
                repository: repository.name.clone(),
                package: package.to_string(),
                versions: vec![version.version.clone()],
                // The one that was looked at: where it is another by then, the call hears of it.
                from: vec![version.status],
                status,
            };
            match self.api.manager.execute(self.api.snapshot, command).await {
                Ok(_) => {}
                Err(problem) => {
                    results.failed(&version.version, "NOT_ALLOWED", problem.sentence());
                }
            }
        }
        let now = self.api.versions(repository, &package).await?;
        for version in &chosen {
            let changed = now.iter().find(|one| one.version == version.version);
            if let Some(changed) = changed.filter(|one| one.status == status) {
                results.succeeded(changed, target);
            }
        }
        Ok(results.answer())
    }

    pub(super) async fn delete(&self, call: &Call) -> Answered {
        let operation = Operation::DeletePackageVersions;
        let (repository, package) = self.api.may_to_package(operation, call)?;
        let mut results = BatchResult::default();
        let chosen = self
            .expected(call, repository, &package, &mut results)
            .await?;
        if !chosen.is_empty() {
            let command = ManageCommand::Delete {
                repository: repository.name.clone(),
                package: package.to_string(),
                versions: chosen.iter().map(|one| one.version.clone()).collect(),
                from: call.expected_status()?.into_iter().collect(),
            };
            self.api.manager.execute(self.api.snapshot, command).await?;
        }
        for version in &chosen {
            results.succeeded(version, "Deleted");
        }
        Ok(results.answer())
    }
}
