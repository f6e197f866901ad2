//! Repositories: those of the configuration.

use serde_json::Value;

use super::page::Page;
use super::{Answered, Api, Call, Operation, object, time, words};
use crate::access::Resource;
use crate::package::Format;
use crate::repository::Repository;

impl Api<'_> {
    fn summary(&self, repository: &Repository, created_at: i64) -> [(&'static str, Value); 6] {
        let domain = self.domain();
        [
            ("name", repository.name.as_str().into()),
            ("administratorAccount", domain.owner.as_str().into()),
            ("domainName", domain.name.as_str().into()),
            ("domainOwner", domain.owner.as_str().into()),
            (
                "arn",
                Resource::repository(domain, &repository.name).arn.into(),
            ),
            ("createdTime", time(created_at)),
        ]
    }

    pub(super) async fn describe_repository(&self, call: &Call) -> Answered {
        self.may_in_repository(Operation::DescribeRepository, call)?;
        let repository = self.repository(call.required("repository")?)?;
        let created = self.publisher.created_at().await?;
        let created_at = created.get(&repository.name).copied().unwrap_or(0);
        let mut described = object(self.summary(repository, created_at));
        let config = self.snapshot.config.repositories.iter();
        let written = config.into_iter().find(|it| it.name == repository.name);
        if let (Some(described), Some(written)) = (described.as_object_mut(), written) {
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

    /// The repositories, for who may be told of them.
    pub(super) async fn list_repositories(&self, operation: Operation, call: &Call) -> Answered {
        let page = Page::of(call)?;
        let prefix = call.optional("repository-prefix").unwrap_or_default();
        let domain = Resource::domain(self.domain());
        if operation == Operation::ListRepositoriesInDomain {
            self.pass.to(operation.action(), &domain)?;
        }
        let administrator = call.optional("administrator-account");
        let created = self.publisher.created_at().await?;
        let mut all: Vec<_> = self
            .snapshot
            .repositories()
            .filter(|it| it.name.starts_with(prefix))
            .filter(|_| administrator.is_none_or(|account| account == self.domain().owner))
            .filter(|it| {
                let resource = Resource::repository(self.domain(), &it.name);
                operation == Operation::ListRepositoriesInDomain
                    || self.pass.to(operation.action(), &resource).is_ok()
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

    pub(super) fn get_repository_endpoint(&self, call: &Call) -> Answered {
        self.may_in_repository(Operation::GetRepositoryEndpoint, call)?;
        let repository = self.repository(call.required("repository")?)?;
        call.required("format")?;
        call.one_of("endpointType", &["dualstack", "ipv4"])?;
        let format = call.format()?.unwrap_or(Format::Npm);
        let endpoint = format!("{}/{format}/{}/", self.root, repository.name);
        Ok(words([("repositoryEndpoint", endpoint.into())]))
    }
}
