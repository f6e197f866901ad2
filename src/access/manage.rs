//! An operator's commands about tokens, keys and policies.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::{Circumstances, KnownNames, Policy, Why};
use super::{Access, Action, NoAction, PolicyResource, Principal, no_randomness, token};
use crate::clock;
use crate::config::nearest;
use crate::problem::{Decider, Problem};
use crate::secret::Secret;
use crate::store::packages::{AccessKey, MachineToken, PolicyRow, random_name};

/// The longest that a signed token holds, in seconds.
pub const TOKEN_SECONDS_MAX: i64 = 43_200;

/// How an access key's id begins.
pub(super) const KEY_PREFIX: &str = "AKLR";

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "command")]
pub enum AccessCommand {
    TokenCreate {
        /// A user of the domain's owner, or an ARN.
        principal: String,
        note: String,
        /// Seconds from now; none: until it is revoked.
        expires_in: Option<i64>,
    },
    TokenList,
    /// A machine's token by its id, or a signed one by itself.
    TokenRevoke {
        token: String,
    },
    /// Another key signs from now on.
    TokenRotate {
        /// Whether tokens that the old keys signed stop being valid at once.
        at_once: bool,
    },
    KeyCreate {
        principal: String,
    },
    KeyList,
    KeyDelete {
        id: String,
    },
    PolicyPut {
        /// None: the domain.
        repository: Option<String>,
        document: String,
    },
    PolicyShow {
        repository: Option<String>,
    },
    PolicyDelete {
        repository: Option<String>,
    },
    /// Says how a request would be decided.
    PolicyTest {
        principal: String,
        action: String,
        repository: Option<String>,
        /// `npm:@scope/name`.
        package: Option<String>,
        address: Option<std::net::IpAddr>,
    },
}

/// The result of a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum AccessOutcome {
    #[serde(rename_all = "camelCase")]
    Token {
        id: String,
        /// Shown this once.
        token: String,
        principal: String,
        expires: Option<Timestamp>,
    },
    Tokens {
        tokens: Vec<Listed>,
    },
    #[serde(rename_all = "camelCase")]
    Key {
        access_key_id: String,
        /// Shown this once.
        secret_access_key: String,
        principal: String,
    },
    Keys {
        keys: Vec<Listed>,
    },
    Policy {
        resource: String,
        document: String,
        revision: String,
    },
    Decided {
        allowed: bool,
        by: String,
        principal: String,
        action: String,
        resource: String,
    },
    Done,
}

/// A token or key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    pub id: String,
    pub principal: String,
    pub note: String,
    pub created: Timestamp,
    pub expires: Option<Timestamp>,
}

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or_default()
}

impl Access {
    /// Carries the command out; `repositories` are the names of those that there are.
    ///
    /// # Errors
    /// Where what it names is not there or cannot be.
    pub async fn execute(
        &self,
        command: AccessCommand,
        repositories: &[String],
    ) -> Result<AccessOutcome, Problem> {
        match command {
            AccessCommand::TokenCreate {
                principal,
                note,
                expires_in,
            } => self.create_token(&principal, note, expires_in).await,
            AccessCommand::TokenList => {
                let rows = self.packages.access().read().await?;
                let tokens = rows.tokens.into_iter().map(|token| Listed {
                    id: token.id,
                    principal: token.principal,
                    note: token.note,
                    created: time(token.created_at),
                    expires: token.expires_at.map(time),
                });
                Ok(AccessOutcome::Tokens {
                    tokens: tokens.collect(),
                })
            }
            AccessCommand::TokenRevoke { token } => self.revoke_token(&token).await,
            AccessCommand::TokenRotate { at_once } => {
                let secret = token::signing_secret().map_err(no_randomness)?;
                let keep_after = if at_once {
                    i64::MAX
                } else {
                    clock::unix_ms_now() - TOKEN_SECONDS_MAX * 1000
                };
                let added = self
                    .packages
                    .access()
                    .add_signing_key(&secret, false, keep_after);
                added.await?;
                self.reread().await?;
                Ok(AccessOutcome::Done)
            }
            AccessCommand::KeyCreate { principal } => self.create_key(&principal).await,
            AccessCommand::KeyList => {
                let rows = self.packages.access().read().await?;
                let keys = rows.keys.into_iter().map(|key| Listed {
                    id: key.id,
                    principal: key.principal,
                    note: String::new(),
                    created: time(key.created_at),
                    expires: None,
                });
                Ok(AccessOutcome::Keys {
                    keys: keys.collect(),
                })
            }
            AccessCommand::KeyDelete { id } => self.drop_credential(&id).await,
            AccessCommand::PolicyPut {
                repository,
                document,
            } => {
                is_there(repository.as_deref(), repositories)?;
                let resource = self.attached_to(repository);
                let put = self.put_policy(&resource, &document, None, repositories);
                Ok(shown(put.await?))
            }
            AccessCommand::PolicyShow { repository } => {
                let resource = self.attached_to(repository);
                let row = self.policy(&resource).ok_or_else(|| no_policy(&resource))?;
                Ok(shown(row))
            }
            AccessCommand::PolicyDelete { repository } => {
                let resource = self.attached_to(repository);
                self.delete_policy(&resource, None).await?;
                Ok(AccessOutcome::Done)
            }
            AccessCommand::PolicyTest {
                principal,
                action,
                repository,
                package,
                address,
            } => {
                is_there(repository.as_deref(), repositories)?;
                let action = action
                    .parse()
                    .map_err(|none: NoAction| Problem::invalid(none.to_string()))?;
                self.test(&principal, action, repository, package, address)
            }
        }
    }

    fn attached_to(&self, repository: Option<String>) -> PolicyResource {
        repository.map_or_else(
            || PolicyResource::domain(&self.domain),
            |name| PolicyResource::repository(&self.domain, &name),
        )
    }

    /// A user of the domain's owner, or whom an ARN names.
    fn principal(&self, text: &str) -> Result<Principal, Problem> {
        if text.contains(':') || text == "anonymous" {
            return Principal::parse(text)
                .ok_or_else(|| Problem::invalid(format!("`{text}` is no ARN of a user or role")));
        }
        Principal::user_of(&self.domain.owner, text)
            .map_err(|error| Problem::invalid(error.to_string()))
    }

    async fn create_token(
        &self,
        principal: &str,
        note: String,
        expires_in: Option<i64>,
    ) -> Result<AccessOutcome, Problem> {
        let principal = self.principal(principal)?;
        let text = format!(
            "{}{}",
            token::MACHINE_PREFIX,
            token::random(32).map_err(no_randomness)?
        );
        let now = clock::unix_ms_now();
        let row = MachineToken {
            id: random_name().get(..12).unwrap_or_default().to_owned(),
            hash: token::hash(&text).to_vec(),
            principal: principal.to_string(),
            note,
            created_at: now,
            expires_at: expires_in.map(|seconds| now.saturating_add(seconds.saturating_mul(1000))),
        };
        self.packages.access().add_token(&row).await?;
        self.reread().await?;
        Ok(AccessOutcome::Token {
            id: row.id,
            token: text,
            principal: row.principal,
            expires: row.expires_at.map(time),
        })
    }

    async fn revoke_token(&self, said: &str) -> Result<AccessOutcome, Problem> {
        if said.contains('.') {
            let claims = token::check(
                said,
                &self.book.load().signing,
                &self.issuer,
                clock::unix_now(),
            )
            .map_err(|why| Problem::invalid(format!("the token holds nothing: {why}")))?;
            let revoked = self
                .packages
                .access()
                .revoke(&claims.jti, claims.exp * 1000);
            revoked.await?;
            self.reread().await?;
            return Ok(AccessOutcome::Done);
        }
        if said.starts_with(token::MACHINE_PREFIX) {
            let hash = token::hash(said);
            let rows = self.packages.access().read().await?;
            let found = rows.tokens.into_iter().find(|token| token.hash == hash);
            let id = found.map(|token| token.id).unwrap_or_default();
            return self.drop_credential(&id).await;
        }
        self.drop_credential(said).await
    }

    async fn drop_credential(&self, id: &str) -> Result<AccessOutcome, Problem> {
        let dropped = self.packages.access().drop_credential(id).await?;
        self.reread().await?;
        if dropped {
            return Ok(AccessOutcome::Done);
        }
        Err(Problem::not_found(
            Decider::Larder,
            format!("there is no token or key `{id}`"),
        ))
    }

    async fn create_key(&self, principal: &str) -> Result<AccessOutcome, Problem> {
        let principal = self.principal(principal)?;
        // Shaped like AWS's keys: twenty capitals and digits, and forty characters of base64.
        let random = random_name().to_uppercase();
        let key = AccessKey {
            id: format!("{KEY_PREFIX}{}", random.get(..16).unwrap_or_default()),
            secret: Secret::new(&token::random(30).map_err(no_randomness)?),
            principal: principal.to_string(),
            created_at: clock::unix_ms_now(),
        };
        self.packages.access().add_key(&key).await?;
        self.reread().await?;
        Ok(AccessOutcome::Key {
            access_key_id: key.id,
            secret_access_key: key.secret.expose().to_owned(),
            principal: key.principal,
        })
    }

    /// The policy that is attached to the resource.
    #[must_use]
    pub fn policy(&self, resource: &PolicyResource) -> Option<PolicyRow> {
        let book = self.book.load();
        book.policies.get(&resource.arn).map(|kept| PolicyRow {
            resource: resource.arn.clone(),
            document: kept.document.clone(),
            revision: kept.revision.clone(),
        })
    }

    /// Attaches a policy.
    ///
    /// # Errors
    /// Where it is none, names what is not among the actions, or not in the domain, or the one before
    /// it is in another revision than the one named.
    pub async fn put_policy(
        &self,
        resource: &PolicyResource,
        document: &str,
        revision: Option<&str>,
        repositories: &[String],
    ) -> Result<PolicyRow, Problem> {
        let known = KnownNames {
            domain: &self.domain,
            repositories,
        };
        Policy::parse(document)
            .and_then(|policy| policy.check(&known))
            .map_err(|why| Problem::invalid(why.to_string()))?;
        let row = self
            .packages
            .access()
            .set_policy(&resource.arn, Some(document), revision)
            .await?;
        self.reread().await?;
        Ok(row)
    }

    /// Takes a policy away, and gives it.
    ///
    /// # Errors
    /// Where there is none, or it is in another revision than the one named.
    pub async fn delete_policy(
        &self,
        resource: &PolicyResource,
        revision: Option<&str>,
    ) -> Result<PolicyRow, Problem> {
        let row = self
            .packages
            .access()
            .set_policy(&resource.arn, None, revision)
            .await?;
        self.reread().await?;
        Ok(row)
    }

    fn test(
        &self,
        principal: &str,
        action: Action,
        repository: Option<String>,
        package: Option<String>,
        address: Option<std::net::IpAddr>,
    ) -> Result<AccessOutcome, Problem> {
        let principal = self.principal(principal)?;
        let resource = match (repository, package) {
            (Some(repository), Some(package)) => PolicyResource::package(
                &self.domain,
                &repository,
                &crate::format::package(&package)?,
            ),
            (Some(repository), None) => PolicyResource::repository(&self.domain, &repository),
            (None, None) => PolicyResource::domain(&self.domain),
            (None, Some(_)) => {
                return Err(Problem::invalid(
                    "a package is one of a repository: name it too",
                ));
            }
        };
        let decision = self.decide(
            action,
            &resource,
            Circumstances {
                principal: &principal,
                address,
                time: clock::now(),
                over_tls: false,
                user_agent: "",
                more: &[],
            },
        );
        let by = match &decision.why {
            Why::Nothing => "no statement of any policy allows it".to_owned(),
            why => why.to_string(),
        };
        Ok(AccessOutcome::Decided {
            allowed: decision.is_allowed,
            by,
            principal: principal.to_string(),
            action: action.to_string(),
            resource: resource.arn,
        })
    }
}

fn shown(row: PolicyRow) -> AccessOutcome {
    AccessOutcome::Policy {
        resource: row.resource,
        document: row.document,
        revision: row.revision,
    }
}

/// Whether the repository that a command names is there.
fn is_there(repository: Option<&str>, repositories: &[String]) -> Result<(), Problem> {
    let Some(name) = repository else {
        return Ok(());
    };
    if repositories.iter().any(|it| it == name) {
        return Ok(());
    }
    let hint = nearest(name, repositories.iter().map(String::as_str));
    let problem = Problem::not_found(Decider::Larder, format!("there is no repository `{name}`"));
    Err(match hint {
        Some(near) => problem.advice(format!("did you mean `{near}`?")),
        None => problem,
    })
}

fn no_policy(resource: &PolicyResource) -> Problem {
    Problem::not_found(
        Decider::Larder,
        format!("{} has no policy of its own", resource.arn),
    )
}
