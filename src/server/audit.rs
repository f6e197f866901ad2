//! The record of who changed what, and of who was refused.

use std::sync::Arc;

use http::{Method, Uri};

use super::account::RequestSubject;
use super::peer::Peer;
use crate::Larder;
use crate::access::policy::PolicyDecision;
use crate::access::{Action, Principal, READ};
use crate::clock;
use crate::problem::{Kind, Problem};
use crate::repository::ChangeRecord;
use crate::telemetry::{Record, Run};

/// The facts about a request, for its access line and audit record.
#[derive(Default)]
pub struct Line {
    pub subject: RequestSubject,
    pub run: Option<Arc<Run>>,
    /// Whether the decision would be the same for this caller at any time and from any address.
    pub is_lasting: bool,
    pub principal: String,
    pub action: Option<Action>,
    /// The reason of the decision that admitted the request.
    pub by: String,
}

impl Line {
    /// Notes who asks to do what.
    pub fn asked(&mut self, principal: &Principal, action: Action) {
        self.principal = principal.to_string();
        self.action = Some(action);
    }

    /// Notes the decision that admitted the request.
    pub fn admitted(&mut self, decision: &PolicyDecision) {
        self.is_lasting = decision.is_lasting;
        self.by = decision.why.to_string();
    }

    /// Notes what became known of a change while it was made.
    pub fn changed(&mut self, record: ChangeRecord) {
        if let Some(package) = record.package {
            self.subject.package = package.to_string();
        }
        self.subject.version = record.version;
        if !record.by.is_empty() {
            self.by = record.by;
        }
    }

    /// Writes the record of a change or a refusal. A request without credentials that is told to send
    /// some is neither: clients begin with one.
    pub async fn audit(
        &self,
        larder: &Larder,
        peer: Peer,
        (method, uri): (&Method, &Uri),
        status: u16,
        problem: Option<&Problem>,
    ) {
        let is_change = !matches!(self.action, None | Some(READ));
        let refused = problem.filter(|problem| {
            matches!(
                problem.kind,
                Kind::Denied | Kind::Unauthenticated | Kind::TooMany { .. } | Kind::Unverified
            )
        });
        if !is_change && refused.is_none() {
            return;
        }
        let record = Record {
            time: clock::now().to_string(),
            principal: self.principal.clone(),
            address: peer.address.to_string(),
            action: self.action.map_or("", Action::as_str).to_owned(),
            method: method.to_string(),
            path: uri.path().to_owned(),
            repository: self.subject.repository.clone(),
            package: self.subject.package.clone(),
            version: self.subject.version.clone(),
            allowed: problem.is_none(),
            status,
            by: problem.map_or_else(|| self.by.clone(), |problem| problem.decider.to_string()),
            message: problem.map(|it| it.message.clone()).unwrap_or_default(),
        };
        larder.audit.note(record).await;
    }
}
