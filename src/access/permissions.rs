//! The permissions of a caller in one request, and the proof that they were checked.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use super::policy::{Circumstances, PolicyDecision, Why};
use super::{
    Access, Action, Caller, ClientInfo, Endpoints, PUBLISH, PolicyResource, Principal, READ,
    refusal,
};
use crate::clock;
use crate::config::{Config, Domain};
use crate::package::{Format, PackageId};
use crate::problem::Problem;
use crate::telemetry::Who;

/// The permissions of the caller of one request.
pub struct Permissions<'a> {
    pub access: &'a Access,
    pub domain: &'a Domain,
    pub caller: &'a Caller,
    client: ClientInfo<'a>,
    /// The configuration lets everybody do everything.
    is_open: bool,
    /// The reason of the last decision that allowed something.
    last_reason: Mutex<Option<Why>>,
}

/// The part of a repository that a change is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Within<'a> {
    Package(&'a PackageId),
    /// All packages of a format: the body names the one, and is passed on unread.
    EveryPackage(Format),
    /// The package of this format that the body names: any at first, and [`Admitted::permit`] decides
    /// about the one once the body is read.
    PackageInBody(Format),
}

/// Marks an admission to read a repository.
pub struct ToRead;

/// Marks an admission to change packages of a repository.
pub struct ToChange;

/// Proof that a request may use a repository. [`Permissions`] alone makes one, after its decision, and
/// `repository::Repositories` hands out what it reads and publishes by for one alone.
pub struct Admitted<'a, Purpose> {
    permissions: &'a Permissions<'a>,
    repository: &'a str,
    decision: PolicyDecision,
    purpose: PhantomData<Purpose>,
}

impl<Purpose> Admitted<'_, Purpose> {
    /// The name of the repository that was asked about.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.repository
    }

    #[must_use]
    pub fn decision(&self) -> &PolicyDecision {
        &self.decision
    }
}

impl Admitted<'_, ToChange> {
    /// The caller that was admitted, as it is counted.
    #[must_use]
    pub fn who(&self) -> Who {
        self.permissions.who()
    }

    /// Decides about the package that a publish names in its body, and says what lets it in.
    ///
    /// # Errors
    /// The refusal.
    pub fn permit(&self, package: &PackageId) -> Result<String, Problem> {
        let permissions = self.permissions;
        let decision = permissions.to_package(PUBLISH, self.repository, package)?;
        Ok(decision.why.to_string())
    }
}

impl<'a> Permissions<'a> {
    /// Only the endpoints of the formats can be open to everybody; who calls the API is always known.
    #[must_use]
    pub fn new(
        access: &'a Access,
        config: &'a Config,
        caller: &'a Caller,
        client: ClientInfo<'a>,
        door: Endpoints,
    ) -> Self {
        Self {
            access,
            domain: &config.domain,
            caller,
            client,
            is_open: door == Endpoints::Repositories && !config.access.required,
            last_reason: Mutex::default(),
        }
    }

    /// The caller as it is counted: by its name, or by its address where it has none.
    #[must_use]
    pub fn who(&self) -> Who {
        match &self.caller.principal {
            Principal::Named(arn) => Who::Named(arn.clone()),
            Principal::Anonymous => Who::At(self.client.address),
        }
    }

    /// Admits a request that reads from a repository.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit_to_read(&'a self, repository: &'a str) -> Result<Admitted<'a, ToRead>, Problem> {
        let decision = self.to(READ, &PolicyResource::repository(self.domain, repository))?;
        Ok(self.admitted(repository, decision))
    }

    /// Admits a request that changes packages of a repository.
    ///
    /// # Errors
    /// The refusal.
    pub fn admit_to_change(
        &'a self,
        action: Action,
        repository: &'a str,
        within: Within<'_>,
    ) -> Result<Admitted<'a, ToChange>, Problem> {
        let decision = match within {
            Within::Package(package) => self.to_package(action, repository, package)?,
            Within::EveryPackage(format) => {
                let format = format.as_str();
                let every = PolicyResource::named_package(self.domain, repository, format, "", "*");
                self.to(action, &every)?
            }
            Within::PackageInBody(format) => {
                let any = PolicyResource::any_package(self.domain, repository, format);
                self.to(action, &any)?
            }
        };
        Ok(self.admitted(repository, decision))
    }

    fn admitted<Purpose>(
        &'a self,
        repository: &'a str,
        decision: PolicyDecision,
    ) -> Admitted<'a, Purpose> {
        Admitted {
            permissions: self,
            repository,
            decision,
            purpose: PhantomData,
        }
    }

    fn to_package(
        &self,
        action: Action,
        repository: &str,
        package: &PackageId,
    ) -> Result<PolicyDecision, Problem> {
        self.to(
            action,
            &PolicyResource::package(self.domain, repository, package),
        )
    }

    /// Decides whether the caller may do this to the resource.
    ///
    /// # Errors
    /// The refusal.
    pub fn to(&self, action: Action, resource: &PolicyResource) -> Result<PolicyDecision, Problem> {
        if self.is_open {
            return Ok(PolicyDecision::open());
        }
        let decision = self.access.authorise(
            &self.caller.principal,
            action,
            resource,
            Some(self.client),
            &[],
        )?;
        let mut reason = self
            .last_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *reason = Some(decision.why.clone());
        Ok(decision)
    }

    /// Decides whether a statement denies this to the caller; no statement has to allow it.
    ///
    /// # Errors
    /// The refusal.
    pub fn unless_denied(&self, action: Action, resource: &PolicyResource) -> Result<(), Problem> {
        if self.is_open {
            return Ok(());
        }
        let principal = &self.caller.principal;
        let circumstances = Circumstances {
            principal,
            address: Some(self.client.address),
            time: clock::now(),
            over_tls: self.client.over_tls,
            user_agent: self.client.user_agent,
            more: &[(
                "sts:awsservicename".to_owned(),
                vec!["codeartifact.amazonaws.com".to_owned()],
            )],
        };
        let decision = self.access.decide(action, resource, circumstances);
        match decision.why {
            Why::Statement { .. } | Why::Unreadable { .. } if !decision.is_allowed => {
                Err(refusal(principal, action, resource, &decision))
            }
            _ => Ok(()),
        }
    }

    /// The reason of the last decision that allowed something, in words; empty where there was none.
    #[must_use]
    pub fn last_reason(&self) -> String {
        let reason = self
            .last_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reason.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}
