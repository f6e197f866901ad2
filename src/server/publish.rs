//! Changes by clients of the formats: made here, or passed on to a registry.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, ORIGIN};
use url::Url;

use super::answer::Asked;
use super::audit::Line;
use super::reply::{self, Answer};
use crate::config::CredentialScope;
use crate::connection::Connection;
use crate::format::Change;
use crate::package::Format;
use crate::problem::{Decider, Problem};
use crate::repository::{BodyStream, ChangeRecord, ChangeableRepository, Publish, Sent};
use crate::telemetry::Run;

/// A change that was admitted.
pub struct Publishing<'a> {
    pub asked: Asked<'a>,
    pub format: Format,
    pub repository: ChangeableRepository<'a>,
    /// Below the repository, with the query.
    pub path: String,
    pub run: Option<Arc<Run>>,
}

impl Publishing<'_> {
    /// A publish, or another change: made here, or passed on.
    pub async fn change(
        &self,
        change: Change,
        body: BodyStream,
        line: &mut Line,
    ) -> Result<Answer, Problem> {
        let (head, format) = (self.asked.head(), self.format);
        // A page in somebody's browser may send requests to this machine; it always says so.
        if head.headers.contains_key(ORIGIN) {
            return Err(Problem::denied(
                Decider::Larder,
                "pages in a browser change nothing here",
            ));
        }
        let sender = self.repository.sender(self.asked.left);
        let forwards = match self.publishes() {
            Publish::Forward { to, spool } => {
                let to = to.iter().find(|connection| connection.format == format);
                to.map(|to| (to, *spool))
            }
            Publish::Deny if self.run.is_some() => Some((self.registry_of_run()?, false)),
            Publish::Deny | Publish::Local => None,
        };
        let Some((to, spool)) = forwards else {
            let (content_type, mut record) = (head.text(CONTENT_TYPE), ChangeRecord::default());
            let changed = self
                .repository
                .change(format, change, body, content_type, sender, &mut record)
                .await;
            line.changed(record);
            return Ok(reply::changed(changed?, format));
        };
        // A run points clients here that the configuration knows nothing of: where a publish takes the
        // client's own credential along, it has to be one for that registry.
        let is_denied = matches!(self.publishes(), Publish::Deny);
        let within = if is_denied || self.run.is_some() && to.publishes_as_client() {
            Some(self.scope_of_run()?)
        } else {
            None
        };
        let sent = Sent {
            method: head.method.clone(),
            path: self.path.clone(),
            headers: self
                .asked
                .presented
                .outbound(head.headers, &self.asked.larder.access),
            body,
            sender,
        };
        let forwarded = self
            .repository
            .forward(to, &change, sent, within.as_ref(), spool)
            .await?;
        Ok(reply::forwarded(forwarded, format))
    }

    fn publishes(&self) -> &Publish {
        &self.repository.repository().publish
    }

    /// Where a publish under `larder run` goes: to the registry that this very client would have used.
    fn registry_of_run(&self) -> Result<&Arc<Connection>, Problem> {
        let scope = self.scope_of_run()?;
        let repository = self.repository.repository();
        let nearest = repository.connections_of(self.format).next();
        nearest
            .filter(|to| CredentialScope::of_registry(&to.url).as_ref() == Some(&scope))
            .ok_or_else(|| {
                self.refused_in_run(
                    "the registry that this client would publish to is not the one of this repository"
                        .to_owned(),
                )
            })
    }

    /// The addresses that a publish of this run may be sent to: those of the registry that the client
    /// itself is set to, where it sends the credential that it has for that registry.
    fn scope_of_run(&self) -> Result<CredentialScope, Problem> {
        let format = self.format;
        let grant = self.run.as_ref().and_then(|run| run.publish.get());
        let Some(grant) = grant.filter(|_| format == Format::Npm) else {
            return Err(self.refused_in_run(format!(
                "`larder run` knows no {format} registry that this client publishes to, nor a credential for it"
            )));
        };
        let agent = self.asked.user_agent();
        if !grant.is_for_client(agent) {
            let client = agent.split([' ', '/']).next().unwrap_or_default();
            let client = if client.is_empty() {
                "this client"
            } else {
                client
            };
            return Err(self.refused_in_run(format!(
                "{client} may publish to another registry than {}, which npm is set to",
                grant.registry
            )));
        }
        let sent = self.asked.presented.authorization();
        if !grant.is_credential(sent.as_bytes()) {
            return Err(self.refused_in_run(format!(
                "the credential that came with it is not the one that npm has for {}",
                grant.registry
            )));
        }
        let registry = Url::parse(&grant.registry).ok();
        let scope = registry.as_ref().and_then(CredentialScope::of_registry);
        scope.ok_or_else(|| {
            self.refused_in_run(format!("{} is no registry's address", grant.registry))
        })
    }

    fn refused_in_run(&self, why: String) -> Problem {
        Problem::denied(Decider::Repository(self.repository.repository().name.clone()), why).advice(
            "publish without `larder run`, or say publish = \"forward:CONNECTION\" for the repository",
        )
    }
}
