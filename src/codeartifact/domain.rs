//! The domain, and its tokens.

use serde_json::Value;

use super::page::Page;
use super::{Answered, Api, ApiAnswer, ApiFailure, Call, Operation, object, time, words};
use crate::access::manage::TOKEN_SECONDS_MAX;
use crate::access::{Action, PolicyResource};

/// The shortest time for which a token is given, in seconds.
const TOKEN_SECONDS_MIN: i64 = 900;

/// Operations about the domain and its tokens.
pub(super) struct DomainCalls<'a> {
    pub api: &'a Api<'a>,
}

impl DomainCalls<'_> {
    pub(super) fn token(&self, call: &Call) -> Answered {
        let operation = Operation::GetAuthorizationToken;
        self.api.pass.to(
            operation.action(),
            &PolicyResource::domain(self.api.domain()),
        )?;
        let seconds = seconds(call)?;
        // A grant of AWS's needs both; a denial of either is one.
        self.api.pass.unless_denied(
            Action::GetServiceBearerToken,
            &PolicyResource::domain(self.api.domain()),
        )?;
        let issued = self
            .api
            .pass
            .access
            .token_for(self.api.pass.caller, seconds)?;
        Ok(words([
            ("authorizationToken", issued.token.into()),
            ("expiration", time(issued.expires.as_millisecond())),
        ]))
    }

    fn summary(&self, created_at: i64) -> [(&'static str, Value); 5] {
        let domain = self.api.domain();
        [
            ("name", domain.name.as_str().into()),
            ("owner", domain.owner.as_str().into()),
            ("arn", PolicyResource::domain(domain).arn.into()),
            ("status", "Active".into()),
            ("createdTime", time(created_at)),
        ]
    }

    pub(super) async fn describe(&self) -> Answered {
        let operation = Operation::DescribeDomain;
        self.api.pass.to(
            operation.action(),
            &PolicyResource::domain(self.api.domain()),
        )?;
        let facts = self.api.manager.domain_facts().await?;
        let mut described = object(self.summary(facts.created_at));
        if let Some(described) = described.as_object_mut() {
            let count = self.api.snapshot.repositories().count();
            described.insert("repositoryCount".to_owned(), count.into());
            described.insert("assetSizeBytes".to_owned(), facts.asset_bytes.into());
        }
        Ok(words([("domain", described)]))
    }

    /// The domain, for who may be told of it.
    pub(super) async fn list(&self, call: &Call) -> Answered {
        let page = Page::of_body(call)?;
        let operation = Operation::ListDomains;
        let may = self.api.pass.to(
            operation.action(),
            &PolicyResource::domain(self.api.domain()),
        );
        let facts = self.api.manager.domain_facts().await?;
        let all: Vec<Value> = may
            .is_ok()
            .then(|| object(self.summary(facts.created_at)))
            .into_iter()
            .collect();
        let (domains, next) = page.cut(all, |_| "")?;
        Ok(ApiAnswer::Words(object([
            ("domains", domains.into()),
            ("nextToken", next),
        ])))
    }
}

/// How long the token that is asked for holds.
fn seconds(call: &Call) -> Result<i64, ApiFailure> {
    match call.optional("duration").map(str::parse::<i64>) {
        // With access keys that do not expire, 0 leaves as much as there is.
        None | Some(Ok(0)) => Ok(TOKEN_SECONDS_MAX),
        Some(Ok(seconds)) if (TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX).contains(&seconds) => {
            Ok(seconds)
        }
        Some(_) => Err(ApiFailure::field(format!(
            "`duration` has to be 0, or from {TOKEN_SECONDS_MIN} to {TOKEN_SECONDS_MAX} seconds"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_no_longer_than_may_be() {
        let asked = |duration: i64| {
            let query = format!("duration={duration}");
            Call::read(Some(&query), b"").and_then(|call| seconds(&call))
        };
        for (duration, holds) in [
            (0, Some(TOKEN_SECONDS_MAX)),
            (TOKEN_SECONDS_MIN - 1, None),
            (TOKEN_SECONDS_MIN, Some(TOKEN_SECONDS_MIN)),
            (TOKEN_SECONDS_MAX, Some(TOKEN_SECONDS_MAX)),
            (TOKEN_SECONDS_MAX + 1, None),
        ] {
            assert_eq!(asked(duration).ok(), holds, "{duration}");
        }
    }
}
