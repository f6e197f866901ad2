//! Repositories: those of the configuration, and those made here.

use serde_json::Value;

use super::page::Page;
use super::{Answered, Api, ApiFailure, Call, Operation, object, repository_in, time, words};
use crate::access::{Action, PolicyResource};
use crate::package::Format;
use crate::problem::{Decider, Kind, Problem};
use crate::repository::Repository;
use crate::store::packages::Managed;

/// Operations about repositories.
pub(super) struct RepositoryCalls<'a> {
    pub api: &'a Api<'a>,
}

impl RepositoryCalls<'_> {
    fn summary(&self, repository: &Repository, created_at: i64) -> [(&'static str, Value); 6] {
        let domain = self.api.domain();
        [
            ("name", repository.name.as_str().into()),
            ("administratorAccount", domain.owner.as_str().into()),
            ("domainName", domain.name.as_str().into()),
            ("domainOwner", domain.owner.as_str().into()),
            (
                "arn",
                PolicyResource::repository(domain, &repository.name)
                    .arn
                    .into(),
            ),
            ("createdTime", time(created_at)),
        ]
    }

    pub(super) async fn describe(&self, call: &Call) -> Answered {
        self.api
            .may_in_repository(Operation::DescribeRepository, call)?;
        self.described(call.required("repository")?).await
    }

    /// The repository as it is now, whatever it was when the call began.
    async fn described(&self, name: &str) -> Answered {
        let snapshot = self.api.registry.snapshot();
        let repository = repository_in(&snapshot, name)?;
        let created = self.api.manager.created_at().await?;
        let created_at = created.get(name).copied().unwrap_or(0);
        let mut described = object(self.summary(repository, created_at));
        let managed = self.api.registry.managed(name).await;
        let written = snapshot.config.repositories.iter();
        let written = written.into_iter().find(|it| it.name == name);
        if let (Some(described), Some(written)) = (described.as_object_mut(), written) {
            if let Some(managed) = managed.filter(|it| !it.description.is_empty()) {
                described.insert("description".to_owned(), managed.description.into());
            }
            let upstreams = written.upstreams.iter();
            let upstreams: Vec<Value> = upstreams
                .map(|name| object([("repositoryName", name.as_str().into())]))
                .collect();
            described.insert("upstreams".to_owned(), upstreams.into());
            let connections = repository.connections().filter(|connection| {
                let mut external = written.external.iter();
                external.any(|name| *name == connection.name)
            });
            let connections: Vec<Value> = connections
                .map(|connection| {
                    object([
                        ("externalConnectionName", connection.name.as_str().into()),
                        ("packageFormat", connection.format.as_str().into()),
                        ("status", "Available".into()),
                    ])
                })
                .collect();
            described.insert("externalConnections".to_owned(), connections.into());
        }
        Ok(words([("repository", described)]))
    }

    pub(super) async fn create(&self, call: &Call) -> Answered {
        self.api
            .may_in_repository(Operation::CreateRepository, call)?;
        let name = call.required("repository")?;
        let tags = if call.has("tags") {
            call.tags()?
        } else {
            Vec::new()
        };
        let upstreams = call.upstreams()?.unwrap_or_default();
        self.may_be_upstreams(&upstreams)?;
        let new = Managed {
            name: name.to_owned(),
            description: call.description()?.unwrap_or_default(),
            upstreams,
            connections: Vec::new(),
        };
        let created = self.api.registry.create(new, &tags).await;
        created.map_err(|problem| ApiFailure::of(problem).about("repository", name))?;
        self.described(name).await
    }

    /// Whether the caller may have others read these through a repository of its own making: who
    /// may read it may then read them.
    fn may_be_upstreams(&self, names: &[String]) -> Result<(), ApiFailure> {
        for name in names {
            let resource = PolicyResource::repository(self.api.domain(), name);
            self.api
                .pass
                .to(Action::AssociateWithDownstreamRepository, &resource)?;
        }
        Ok(())
    }

    pub(super) async fn update(&self, call: &Call) -> Answered {
        self.api
            .may_in_repository(Operation::UpdateRepository, call)?;
        let name = call.required("repository")?;
        let (description, upstreams) = (call.description()?, call.upstreams()?);
        self.may_be_upstreams(upstreams.as_deref().unwrap_or_default())?;
        let changed = self.api.registry.change(name, |repository| {
            if let Some(description) = description {
                repository.description = description;
            }
            if let Some(upstreams) = upstreams {
                repository.upstreams = upstreams;
            }
            Ok(())
        });
        let changed = changed.await;
        changed.map_err(|problem| ApiFailure::of(problem).about("repository", name))?;
        self.described(name).await
    }

    pub(super) async fn delete(&self, call: &Call) -> Answered {
        self.api
            .may_in_repository(Operation::DeleteRepository, call)?;
        let name = call.required("repository")?;
        let described = self.described(name).await?;
        let deleted = self
            .api
            .manager
            .delete_repository(self.api.registry, name)
            .await;
        deleted.map_err(|problem| ApiFailure::of(problem).about("repository", name))?;
        // Its policy went with it.
        self.api.pass.access.reread().await?;
        Ok(described)
    }

    /// Adds a connection to a repository, or takes it from it.
    pub(super) async fn associate(&self, operation: Operation, call: &Call) -> Answered {
        self.api.may_in_repository(operation, call)?;
        let name = call.required("repository")?;
        let connection = call.required("external-connection")?;
        let known = &self.api.snapshot.config.connections;
        let Some(configured) = known.iter().find(|it| it.name == connection) else {
            let names: Vec<&str> = known.iter().map(|it| it.name.as_str()).collect();
            return Err(ApiFailure::field(format!(
                "there is no connection `{connection}`; those of the configuration are {}",
                names.join(", ")
            )));
        };
        let adds = operation == Operation::AssociateExternalConnection;
        if adds && !configured.may_be_attached_by_api() {
            return Err(for_the_configuration(connection).into());
        }
        let changed = self.api.registry.change(name, |repository| {
            let at = repository
                .connections
                .iter()
                .position(|it| it == connection);
            match (at, adds) {
                (None, true) => repository.connections.push(connection.to_owned()),
                (Some(at), false) => {
                    repository.connections.remove(at);
                }
                (Some(_), true) => {
                    return Err(Problem::new(
                        Kind::Conflict,
                        Decider::Repository(name.to_owned()),
                        format!("`{name}` has the connection `{connection}` already"),
                    ));
                }
                (None, false) => {
                    return Err(Problem::not_found(
                        Decider::Repository(name.to_owned()),
                        format!("`{name}` has no connection `{connection}`"),
                    ));
                }
            }
            Ok(())
        });
        let changed = changed.await;
        changed.map_err(|problem| ApiFailure::of(problem).about("repository", name))?;
        self.described(name).await
    }

    /// The repositories, for who may be told of them.
    pub(super) async fn list(&self, operation: Operation, call: &Call) -> Answered {
        let page = Page::of(call)?;
        let prefix = call.optional("repository-prefix").unwrap_or_default();
        let domain = PolicyResource::domain(self.api.domain());
        if operation == Operation::ListRepositoriesInDomain {
            self.api.pass.to(operation.action(), &domain)?;
        }
        let administrator = call.optional("administrator-account");
        let created = self.api.manager.created_at().await?;
        let mut all: Vec<_> = self
            .api
            .snapshot
            .repositories()
            .filter(|it| it.name.starts_with(prefix))
            .filter(|_| administrator.is_none_or(|account| account == self.api.domain().owner))
            .filter(|it| {
                let resource = PolicyResource::repository(self.api.domain(), &it.name);
                operation == Operation::ListRepositoriesInDomain
                    || self.api.pass.to(operation.action(), &resource).is_ok()
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let (repositories, next) = page.cut(all, |it| &it.name)?;
        let repositories: Vec<Value> = repositories
            .into_iter()
            .map(|it| object(self.summary(it, created.get(&it.name).copied().unwrap_or(0))))
            .collect();
        Ok(words([
            ("repositories", repositories.into()),
            ("nextToken", next),
        ]))
    }

    pub(super) fn endpoint(&self, call: &Call) -> Answered {
        self.api
            .may_in_repository(Operation::GetRepositoryEndpoint, call)?;
        let repository = self.api.repository(call.required("repository")?)?;
        call.required("format")?;
        call.one_of("endpointType", &["dualstack", "ipv4"])?;
        let format = call.format()?.unwrap_or(Format::Npm);
        let endpoint = format!("{}/{format}/{}/", self.api.root, repository.name);
        Ok(words([("repositoryEndpoint", endpoint.into())]))
    }
}

fn for_the_configuration(connection: &str) -> Problem {
    Problem::denied(
        Decider::Connection(connection.to_owned()),
        format!("only repositories of the configuration may draw on the connection `{connection}`"),
    )
    .advice(
        "readers of a repository read with the credentials of its connections; \
         `attach = \"api\"` in the connection lets whoever may attach connections attach it",
    )
}
