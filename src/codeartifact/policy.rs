//! Resource policies and their revisions.

use super::{Answered, Api, ApiAnswer, ApiFailure, Call, Operation, object, words};
use crate::access::PolicyResource;
use crate::store::packages::PolicyRow;

fn shown(row: PolicyRow) -> ApiAnswer {
    words([(
        "policy",
        object([
            ("resourceArn", row.resource.into()),
            ("revision", row.revision.into()),
            ("document", row.document.into()),
        ]),
    )])
}

/// Operations about resource policies.
pub(super) struct PolicyCalls<'a> {
    pub api: &'a Api<'a>,
}

impl PolicyCalls<'_> {
    /// Returns the resource that the policy is attached to, after checking the caller's permission.
    fn attached(&self, operation: Operation, call: &Call) -> Result<PolicyResource, ApiFailure> {
        use Operation as O;
        let is_of_repository = matches!(
            operation,
            O::GetRepositoryPermissionsPolicy
                | O::PutRepositoryPermissionsPolicy
                | O::DeleteRepositoryPermissionsPolicy
        );
        let resource = if is_of_repository {
            PolicyResource::repository(self.api.domain(), call.required("repository")?)
        } else {
            PolicyResource::domain(self.api.domain())
        };
        self.api.pass.to(operation.action(), &resource)?;
        if let Some(name) = &resource.repository {
            self.api.repository(name)?;
        }
        Ok(resource)
    }

    pub(super) fn get(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let kind = if resource.repository.is_some() {
            "repository"
        } else {
            "domain"
        };
        let row = self.api.pass.access.policy(&resource).ok_or_else(|| {
            ApiFailure::absent(
                kind,
                &resource.arn,
                format!("{} has no policy of its own", resource.arn),
            )
        })?;
        Ok(shown(row))
    }

    pub(super) async fn put(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let document = call.required("policyDocument")?;
        let names = self.api.registry.snapshot().repository_names();
        let row = self
            .api
            .pass
            .access
            .put_policy(&resource, document, call.word("policyRevision"), &names)
            .await?;
        Ok(shown(row))
    }

    pub(super) async fn delete(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let row = self
            .api
            .pass
            .access
            .delete_policy(&resource, call.optional("policy-revision"))
            .await?;
        Ok(shown(row))
    }
}
