//! Tags of the domain, its repositories and its package groups.

use serde_json::Value;

use super::{Answered, Api, ApiFailure, Call, Operation, object, words};
use crate::access::PolicyResource;
use crate::access::policy::ResourceReach;

/// Tags of one resource.
const TAGS_MAX: usize = 50;

/// Refuses more tags than a resource may have.
pub(super) fn tags_fit(count: usize) -> Result<(), ApiFailure> {
    if count > TAGS_MAX {
        return Err(ApiFailure::field(format!(
            "a resource has at most {TAGS_MAX} tags"
        )));
    }
    Ok(())
}

/// Operations about tags.
pub(super) struct TagCalls<'a> {
    pub api: &'a Api<'a>,
}

impl TagCalls<'_> {
    /// The resource that the call names, once the caller may do this.
    fn tagged(&self, operation: Operation, call: &Call) -> Result<PolicyResource, ApiFailure> {
        let arn = call.required("resourceArn")?;
        let domain = PolicyResource::domain(self.api.domain());
        let repositories = self.api.snapshot.repositories();
        let mut all = repositories
            .map(|it| PolicyResource::repository(self.api.domain(), &it.name))
            .chain([domain])
            .chain(self.api.snapshot.groups.iter().map(|group| {
                PolicyResource::package_group(self.api.domain(), group.pattern.as_str())
            }));
        let found = all.find(|resource| resource.arn == arn).ok_or_else(|| {
            ApiFailure::absent(
                "repository",
                arn,
                format!("there is no resource {arn} here"),
            )
        });
        // A caller without the permission does not learn whether the resource exists.
        let asked = PolicyResource {
            arn: arn.to_owned(),
            repository: found.as_ref().ok().and_then(|it| it.repository.clone()),
            reach: ResourceReach::One,
        };
        self.api.pass.to(operation.action(), &asked)?;
        found
    }

    pub(super) async fn list(&self, call: &Call) -> Answered {
        let resource = self.tagged(Operation::ListTagsForResource, call)?;
        let tags = self.api.manager.resource_tags(&resource.arn).await?;
        let tags: Vec<Value> = tags
            .into_iter()
            .map(|(key, value)| object([("key", key.into()), ("value", value.into())]))
            .collect();
        Ok(words([("tags", tags.into())]))
    }

    pub(super) async fn add(&self, call: &Call) -> Answered {
        let resource = self.tagged(Operation::TagResource, call)?;
        let tags = call.tags()?;
        let before = self.api.manager.resource_tags(&resource.arn).await?;
        let new = tags
            .iter()
            .filter(|(key, _)| !before.iter().any(|(known, _)| known == key));
        tags_fit(before.len() + new.count())?;
        self.api
            .manager
            .set_resource_tags(&resource.arn, &tags, &[])
            .await?;
        Ok(words([]))
    }

    pub(super) async fn remove(&self, call: &Call) -> Answered {
        let resource = self.tagged(Operation::UntagResource, call)?;
        let keys = call.words("tagKeys")?;
        self.api
            .manager
            .set_resource_tags(&resource.arn, &[], &keys)
            .await?;
        Ok(words([]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_no_more_tags_than_may_be() {
        let read = |count: usize| {
            let tags: Vec<Value> = (0..count)
                .map(|number| serde_json::json!({ "key": number.to_string(), "value": "" }))
                .collect();
            let body = serde_json::json!({ "tags": tags }).to_string();
            Call::read(None, body.as_bytes()).and_then(|call| call.tags())
        };
        assert_eq!(read(TAGS_MAX).unwrap().len(), TAGS_MAX);
        let failure = format!("{:?}", read(TAGS_MAX + 1).unwrap_err());
        assert!(failure.contains("at most 50 tags"), "{failure}");
    }
}
