//! Resource policies and their revisions.

use super::{Answer, Answered, Api, Call, Failure, Operation, object, words};
use crate::access::Resource;
use crate::store::packages::PolicyRow;

fn shown(row: PolicyRow) -> Answer {
    words([(
        "policy",
        object([
            ("resourceArn", row.resource.into()),
            ("revision", row.revision.into()),
            ("document", row.document.into()),
        ]),
    )])
}

impl Api<'_> {
    /// What the policy is attached to, once the caller may do this.
    fn attached(&self, operation: Operation, call: &Call) -> Result<Resource, Failure> {
        use Operation as O;
        let is_of_repository = matches!(
            operation,
            O::GetRepositoryPermissionsPolicy
                | O::PutRepositoryPermissionsPolicy
                | O::DeleteRepositoryPermissionsPolicy
        );
        let resource = if is_of_repository {
            Resource::repository(self.domain(), call.required("repository")?)
        } else {
            Resource::domain(self.domain())
        };
        self.pass.to(operation.action(), &resource)?;
        if let Some(name) = &resource.repository {
            self.repository(name)?;
        }
        Ok(resource)
    }

    pub(super) fn get_policy(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let kind = if resource.repository.is_some() {
            "repository"
        } else {
            "domain"
        };
        let row = self.pass.access.policy(&resource).ok_or_else(|| {
            Failure::absent(
                kind,
                &resource.arn,
                format!("{} has no policy of its own", resource.arn),
            )
        })?;
        Ok(shown(row))
    }

    pub(super) async fn put_policy(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let document = call.required("policyDocument")?;
        let names = self.registry.snapshot().repository_names();
        let row = self
            .pass
            .access
            .put_policy(&resource, document, call.word("policyRevision"), &names)
            .await?;
        Ok(shown(row))
    }

    pub(super) async fn delete_policy(&self, operation: Operation, call: &Call) -> Answered {
        let resource = self.attached(operation, call)?;
        let row = self
            .pass
            .access
            .delete_policy(&resource, call.optional("policy-revision"))
            .await?;
        Ok(shown(row))
    }
}
