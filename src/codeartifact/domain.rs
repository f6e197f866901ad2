//! The domain, and its tokens.

use serde_json::Value;

use super::page::Page;
use super::{Answer, Answered, Api, Call, Failure, Operation, object, time, words};
use crate::access::manage::TOKEN_SECONDS_MAX;
use crate::access::{Action, Resource};

/// The shortest time for which a token is given, in seconds.
const TOKEN_SECONDS_MIN: i64 = 900;

impl Api<'_> {
    pub(super) fn get_authorization_token(&self, call: &Call) -> Answered {
        let operation = Operation::GetAuthorizationToken;
        self.pass
            .to(operation.action(), &Resource::domain(self.domain()))?;
        let seconds = match call.optional("duration").map(str::parse::<i64>) {
            // With access keys that do not expire, 0 leaves as much as there is.
            None | Some(Ok(0)) => TOKEN_SECONDS_MAX,
            Some(Ok(seconds)) if (TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX).contains(&seconds) => {
                seconds
            }
            Some(_) => {
                return Err(Failure::field(format!(
                    "`duration` has to be 0, or from {TOKEN_SECONDS_MIN} to {TOKEN_SECONDS_MAX} seconds"
                )));
            }
        };
        // A grant of AWS's needs both; a denial of either is one.
        self.pass.unless_denied(
            Action::GetServiceBearerToken,
            &Resource::domain(self.domain()),
        )?;
        let issued = self.pass.access.token_for(self.pass.caller, seconds)?;
        Ok(words([
            ("authorizationToken", issued.token.into()),
            ("expiration", time(issued.expires.as_millisecond())),
        ]))
    }

    fn domain_summary(&self, created_at: i64) -> [(&'static str, Value); 5] {
        let domain = self.domain();
        [
            ("name", domain.name.as_str().into()),
            ("owner", domain.owner.as_str().into()),
            ("arn", Resource::domain(domain).arn.into()),
            ("status", "Active".into()),
            ("createdTime", time(created_at)),
        ]
    }

    pub(super) async fn describe_domain(&self) -> Answered {
        let operation = Operation::DescribeDomain;
        self.pass
            .to(operation.action(), &Resource::domain(self.domain()))?;
        let facts = self.manager.domain_facts().await?;
        let mut described = object(self.domain_summary(facts.created_at));
        if let Some(described) = described.as_object_mut() {
            let count = self.snapshot.repositories().count();
            described.insert("repositoryCount".to_owned(), count.into());
            described.insert("assetSizeBytes".to_owned(), facts.asset_bytes.into());
        }
        Ok(words([("domain", described)]))
    }

    /// The domain, for who may be told of it.
    pub(super) async fn list_domains(&self, call: &Call) -> Answered {
        let page = Page::of_body(call)?;
        let operation = Operation::ListDomains;
        let may = self
            .pass
            .to(operation.action(), &Resource::domain(self.domain()));
        let facts = self.manager.domain_facts().await?;
        let all: Vec<Value> = may
            .is_ok()
            .then(|| object(self.domain_summary(facts.created_at)))
            .into_iter()
            .collect();
        let (domains, next) = page.cut(all, |_| "")?;
        Ok(Answer::Words(object([
            ("domains", domains.into()),
            ("nextToken", next),
        ])))
    }
}
