//! Says who asks, and what they may do: tokens, signatures and policies.

mod action;
mod book;
pub mod manage;
mod oidc;
mod permissions;
pub mod policy;
mod principal;
mod resource;
pub mod sigv4;
mod throttle;
mod token;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

pub use action::{
    Action, DISPOSE, GET_TOKEN, NoAction, PUBLISH, PUT_METADATA, READ, UPDATE_STATUS,
};
pub use permissions::{Admitted, Permissions, ToChange, ToRead, Within};
pub use principal::Principal;
pub use resource::{PolicyResource, action_of};
pub use throttle::network_of;
pub use token::Maker;

use crate::clock;
use crate::config::{Config, Domain};
use crate::problem::{Decider, Kind, Problem};
use crate::store::packages::{AccessKey, Packages};
use crate::task::Tasks;
use book::Book;
use policy::{Circumstances, PolicyDecision, PolicyQuestion, ResourceReach, Why};
use throttle::{Attempt, GuessThrottle};

/// The credential that came with a request.
pub enum PresentedCredential<'a> {
    Nothing,
    /// Tokens, in whichever way clients send them. The first one that is valid says who asks.
    Tokens(Vec<Cow<'a, str>>),
    /// A credential of a kind that Larder does not know.
    Unknown,
}

/// The two sets of endpoints. Some credentials are valid for one of them alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// The endpoints of the formats.
    Repositories,
    /// The API, `/v1/…`.
    Api,
}

/// The sender of a request, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub principal: Principal,
    pub proof: Proof,
}

/// How a caller proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Nothing,
    /// An access key, by its id.
    Key(Box<str>),
    /// A machine's token.
    MachineToken {
        id: Box<str>,
        /// Milliseconds since 1970; none: when it is revoked.
        expires_at: Option<i64>,
    },
    /// A token that `GetAuthorizationToken` gave, or that an identity token was exchanged for. It is
    /// valid for the endpoints of repositories alone: at the API it could get a new token before it
    /// ends, and so would never end.
    AuthorizationToken,
}

impl Caller {
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            principal: Principal::Anonymous,
            proof: Proof::Nothing,
        }
    }
}

/// The service's name in signatures.
const SERVICE: &str = "codeartifact";

/// The facts about a client, beside its principal, that conditions of policies can ask about.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo<'a> {
    pub address: IpAddr,
    pub over_tls: bool,
    pub user_agent: &'a str,
}

/// Tokens, keys and policies of the domain: identifies callers and decides what they may do.
pub struct Access {
    packages: Packages,
    domain: Domain,
    /// The domain's ARN, the issuer of signed tokens.
    issuer: String,
    book: ArcSwap<Book>,
    throttle: GuessThrottle,
    issuers: oidc::Issuers,
}

impl Access {
    /// Reads tokens, keys and policies, and makes the first signing key where there is none.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn open(
        packages: &Packages,
        config: &Config,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Problem> {
        let access = Arc::new(Self {
            packages: packages.clone(),
            issuer: PolicyResource::domain(&config.domain).arn,
            domain: config.domain.clone(),
            book: ArcSwap::default(),
            throttle: GuessThrottle::new(config.access.failures_max),
            issuers: oidc::Issuers::new(tasks),
        });
        access.reread().await?;
        if access.book.load().signing.is_empty() {
            let secret = token::signing_secret().map_err(no_randomness)?;
            let added = packages.access().add_signing_key(&secret, true, i64::MIN);
            added.await?;
            access.reread().await?;
        }
        access.watch(tasks);
        Ok(access)
    }

    /// Takes up changes whose answer the database did not give any more.
    fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let reader = Arc::clone(self);
        let look = move || {
            let access = Arc::clone(&reader);
            async move {
                let number = access.packages.access().number().await?;
                if number != access.number() {
                    access.reread().await?;
                }
                Ok::<_, Problem>(())
            }
        };
        let what = "tokens and policies";
        self.packages.look_after_outages(what, tasks, look);
    }

    /// Reads tokens, keys and policies again if they changed in the package catalog.
    ///
    /// # Errors
    /// Where the catalog fails.
    pub async fn reread(&self) -> Result<(), Problem> {
        let rows = self.packages.access().read().await?;
        self.book.store(Arc::new(Book::new(rows)));
        Ok(())
    }

    /// The revision of tokens and policies in force. An answer made under another revision is not
    /// given again.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.book.load().number
    }

    /// Finds out who sends a credential. A valid one is accepted even while its address is throttled
    /// for wrong ones. Without a credential the caller is anonymous, where the configuration allows
    /// that at these endpoints.
    ///
    /// # Errors
    /// Where the credential is unknown or not valid at these endpoints, or the address sent too many
    /// wrong ones.
    pub fn identify(
        &self,
        config: &Config,
        presented: &PresentedCredential<'_>,
        address: IpAddr,
        door: Endpoints,
    ) -> Result<Caller, Problem> {
        if door == Endpoints::Repositories && !config.access.required {
            return Ok(Caller::anonymous());
        }
        let tokens = match presented {
            PresentedCredential::Nothing
                if config.access.anonymous && door == Endpoints::Repositories =>
            {
                return Ok(Caller::anonymous());
            }
            // Clients first try without a credential; that is not a failed attempt.
            PresentedCredential::Nothing => {
                return Err(match door {
                    Endpoints::Repositories => unauthenticated("no credentials were sent").advice(
                        "send a token: `larder token create` makes one, \
                         `aws codeartifact login` gets one",
                    ),
                    Endpoints::Api => unauthenticated("the request is not signed")
                        .advice("`larder key create` makes an access key for `aws` and boto3"),
                });
            }
            PresentedCredential::Unknown => {
                return Err(unauthenticated(
                    "the credentials are of no kind that is known here",
                ));
            }
            PresentedCredential::Tokens(tokens) => tokens,
        };
        let mut refused = None;
        for token in tokens {
            match self.holder(config, token) {
                Ok(caller) => return allowed_at(door, caller),
                Err(why) => {
                    refused.get_or_insert(why);
                }
            }
        }
        // A text that does not look like a token of ours does not count as an attempt to guess one.
        let mut guesses = tokens.iter().filter(|token| self.has_our_form(token));
        if guesses.any(|it| self.throttle.failed(address, it.as_bytes()) == Attempt::TooMany) {
            return Err(too_many());
        }
        let why = refused.unwrap_or(token::TokenRefused::Foreign);
        Err(unauthenticated(format!("the token does not hold: {why}")))
    }

    /// Whether the text looks like a token of ours, valid or not. Such a text is never sent to
    /// another registry.
    #[must_use]
    pub fn has_our_form(&self, text: &str) -> bool {
        token::has_our_form(text, &self.book.load().signing, &self.issuer)
    }

    fn holder(&self, config: &Config, said: &str) -> Result<Caller, token::TokenRefused> {
        let book = self.book.load();
        if said.len() > token::TOKEN_BYTES_MAX {
            return Err(token::TokenRefused::Foreign);
        }
        let now_ms = clock::unix_ms_now();
        if said.starts_with(token::MACHINE_PREFIX) {
            return book.machine(&token::hash(said), now_ms);
        }
        let claims = token::check(said, &book.signing, &self.issuer, clock::unix_now())?;
        if book.revoked.contains(&claims.jti) {
            return Err(token::TokenRefused::Revoked);
        }
        let maker = claims.by.as_ref();
        if !maker.is_some_and(|maker| book.holds(maker, &config.oidc, now_ms)) {
            return Err(token::TokenRefused::Unfounded);
        }
        Ok(Caller {
            principal: token::principal(&claims).ok_or(token::TokenRefused::Foreign)?,
            proof: Proof::AuthorizationToken,
        })
    }

    /// Finds out who signed the request (Signature Version 4).
    ///
    /// # Errors
    /// Where the key is unknown, the signature is wrong, or the address sent too many wrong ones.
    pub fn identify_signed(
        &self,
        authorization: &str,
        request: &sigv4::Request<'_>,
        address: IpAddr,
    ) -> Result<Caller, Problem> {
        self.with_claimed_key(authorization, address, |claim, key| {
            claim
                .check(request, &key.secret, SERVICE, clock::now())
                .map_err(|why| why.to_string())?;
            Ok(Caller {
                principal: Principal::parse(&key.principal)
                    .ok_or_else(|| "the key is nobody's".to_owned())?,
                proof: Proof::Key(key.id.as_str().into()),
            })
        })
    }

    /// Whether the body of a signed request is worth reading, which is among what is signed: there is
    /// such a key, and the head's date is of now.
    ///
    /// # Errors
    /// Where the signature cannot hold, whatever the body.
    pub fn expect_signed(
        &self,
        authorization: &str,
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<(), Problem> {
        self.with_claimed_key(authorization, address, |claim, _| {
            let checked = claim.check_head(headers, SERVICE, clock::now());
            checked.map_err(|why| why.to_string())
        })
    }

    fn with_claimed_key<T>(
        &self,
        authorization: &str,
        address: IpAddr,
        check: impl FnOnce(&sigv4::Claim<'_>, &AccessKey) -> Result<T, String>,
    ) -> Result<T, Problem> {
        let claim = sigv4::Claim::parse(authorization);
        let claimed = claim.as_ref().ok().map(|claim| claim.access_key);
        let checked = claim.map_err(|why| why.to_string()).and_then(|claim| {
            let book = self.book.load();
            let key = book.keys.get(claim.access_key).ok_or_else(|| {
                let id: String = claim.access_key.chars().take(32).collect();
                format!("there is no access key `{id}`")
            })?;
            check(&claim, key)
        });
        checked.map_err(|why| {
            // Signatures differ with every request, so attempts are told apart by the key's id.
            let guess = claimed.filter(|id| id.starts_with(manage::KEY_PREFIX));
            let attempt = guess.map(|id| self.throttle.failed(address, id.as_bytes()));
            if attempt == Some(Attempt::TooMany) {
                return too_many();
            }
            unauthenticated(why).advice("`larder key create` makes an access key")
        })
    }

    /// Exchanges an identity token (OIDC) of a configured issuer for a token of Larder's.
    ///
    /// # Errors
    /// Where the token is not valid here, or the address sent too many wrong ones.
    pub async fn exchange(
        &self,
        config: &Config,
        token: &str,
        address: IpAddr,
    ) -> Result<(Principal, Issued), Problem> {
        if token.len() > token::TOKEN_BYTES_MAX {
            return Err(Problem::invalid("the token is too long"));
        }
        if config.offline {
            return Err(Problem::denied(
                Decider::Larder,
                "no issuer is asked for its keys: the configuration says `offline = true`",
            ));
        }
        let checked = self
            .issuers
            .check(token, &config.oidc, &self.domain.owner)
            .await;
        match checked {
            Ok(session) => {
                let issued = self.sign(&session.principal, session.maker, session.seconds)?;
                Ok((session.principal, issued))
            }
            Err(why @ oidc::ExchangeRefused::Away(_)) => Err(Problem::new(
                Kind::Upstream,
                Decider::Larder,
                format!("the identity token is not exchanged: {why}"),
            )),
            Err(why) => {
                let is_guess = !matches!(why, oidc::ExchangeRefused::Malformed);
                if is_guess && self.throttle.failed(address, token.as_bytes()) == Attempt::TooMany {
                    return Err(too_many());
                }
                Err(unauthenticated(format!(
                    "the identity token is not exchanged: {why}"
                )))
            }
        }
    }

    /// Checks that the principal may do `action` to the resource.
    ///
    /// # Errors
    /// The refusal, with the statement that decides.
    fn authorise(
        &self,
        principal: &Principal,
        action: Action,
        resource: &PolicyResource,
        client: Option<ClientInfo<'_>>,
        more: &[(String, Vec<String>)],
    ) -> Result<PolicyDecision, Problem> {
        let circumstances = Circumstances {
            principal,
            address: client.map(|client| client.address),
            time: clock::now(),
            over_tls: client.is_some_and(|client| client.over_tls),
            user_agent: client.map_or("", |client| client.user_agent),
            more,
        };
        let decision = self.decide(action, resource, circumstances);
        if decision.is_allowed {
            return Ok(decision);
        }
        Err(refusal(principal, action, resource, &decision))
    }

    /// Evaluates the policies. The domain's owner needs no statement that allows, and no statement can
    /// deny the owner access to the policies: otherwise a wrong policy could never be undone.
    #[must_use]
    pub fn decide(
        &self,
        action: Action,
        resource: &PolicyResource,
        circumstances: Circumstances<'_>,
    ) -> PolicyDecision {
        let is_owner = circumstances.principal.is_root_of(&self.domain.owner);
        let owner = PolicyDecision {
            is_allowed: true,
            why: Why::Owner,
            is_lasting: true,
        };
        if is_owner && action.is_about_policies() {
            return owner;
        }
        let book = self.book.load();
        let domain = PolicyResource::domain(&self.domain).arn;
        let repository = resource
            .repository
            .as_ref()
            .map(|name| (name, PolicyResource::repository(&self.domain, name).arn));
        let names = (
            format!("the domain `{}`", self.domain.name),
            repository
                .as_ref()
                .map(|(name, _)| format!("repository `{name}`"))
                .unwrap_or_default(),
        );
        let mut attached = Vec::with_capacity(2);
        if let Some(policy) = book.policies.get(&domain) {
            attached.push((names.0.as_str(), policy));
        }
        if let Some((_, arn)) = &repository
            && let Some(policy) = book.policies.get(arn)
        {
            attached.push((names.1.as_str(), policy));
        }
        // A policy that cannot be read might deny, so it refuses.
        if let Some((to, _)) = attached.iter().find(|(_, policy)| policy.parsed.is_none()) {
            return PolicyDecision {
                is_allowed: false,
                why: Why::Unreadable {
                    policy: (*to).to_owned(),
                },
                is_lasting: true,
            };
        }
        let attached: Vec<policy::Attached<'_>> = attached
            .iter()
            .filter_map(|(to, policy)| {
                let policy = policy.parsed.as_ref()?;
                Some(policy::Attached { to, policy })
            })
            .collect();
        let question = PolicyQuestion {
            action,
            resource: &resource.arn,
            reach: resource.reach,
            circumstances,
        };
        let decision = policy::decide(&question, &attached);
        match decision.why {
            Why::Nothing if is_owner => PolicyDecision {
                is_lasting: decision.is_lasting,
                ..owner
            },
            _ => decision,
        }
    }

    /// Makes an authorization token for a caller. It expires no later than the credential that the
    /// caller used.
    ///
    /// # Errors
    /// Where the caller's credential may not be exchanged for a token, or the system has no randomness.
    pub fn token_for(&self, caller: &Caller, seconds: i64) -> Result<Issued, Problem> {
        let (maker, expires_at) = match &caller.proof {
            Proof::Key(id) => (Maker::Key(id.to_string()), None),
            Proof::MachineToken { id, expires_at } => (Maker::Token(id.to_string()), *expires_at),
            Proof::Nothing | Proof::AuthorizationToken => return Err(not_for_the_api()),
        };
        let left = expires_at.map(|at| at.saturating_sub(clock::unix_ms_now()) / 1000);
        let seconds = left.map_or(seconds, |left| left.min(seconds));
        self.sign(&caller.principal, maker, seconds)
    }

    fn sign(&self, principal: &Principal, maker: Maker, seconds: i64) -> Result<Issued, Problem> {
        let book = self.book.load();
        let key = book
            .signing
            .first()
            .ok_or_else(|| Problem::internal("no token can be made", "there is no signing key"))?;
        let now = clock::unix_now();
        let claims = token::Claims {
            iss: self.issuer.clone(),
            sub: principal.to_string(),
            iat: now,
            exp: now + seconds,
            jti: token::random(12).map_err(no_randomness)?,
            by: Some(maker),
        };
        let token = token::sign(key, &claims)
            .map_err(|error| Problem::internal("no token can be made", error))?;
        Ok(Issued {
            token,
            expires: Timestamp::from_second(claims.exp).unwrap_or_default(),
        })
    }
}

/// Refuses authorization tokens at the API; this is the only place that does.
fn allowed_at(door: Endpoints, caller: Caller) -> Result<Caller, Problem> {
    match (door, &caller.proof) {
        (Endpoints::Api, Proof::AuthorizationToken | Proof::Nothing) => Err(not_for_the_api()),
        _ => Ok(caller),
    }
}

fn not_for_the_api() -> Problem {
    Problem::denied(
        Decider::Larder,
        "an authorization token is for the endpoints of repositories, not for the API",
    )
    .advice("sign the request with an access key (`larder key create`), or send a machine's token")
}

/// A signed token, with its expiry.
pub struct Issued {
    pub token: String,
    pub expires: Timestamp,
}

fn refusal(
    principal: &Principal,
    action: Action,
    resource: &PolicyResource,
    decision: &PolicyDecision,
) -> Problem {
    let decider = match &decision.why {
        Why::Statement { .. } => Decider::Policy(decision.why.to_string()),
        _ => Decider::Policy("no statement of any policy allows it".to_owned()),
    };
    let any = match resource.reach {
        ResourceReach::One => "",
        ResourceReach::AnyBelow => "*",
    };
    let message = format!("{principal} may not {action} on {}{any}", resource.arn);
    let kind = match principal {
        // An anonymous caller may be allowed once it sends a credential, so it is asked for one.
        Principal::Anonymous => Kind::Unauthenticated,
        Principal::Named(_) => Kind::Denied,
    };
    Problem::new(kind, decider, message)
}

/// SHA-256 of a body, as signatures have it.
#[must_use]
pub fn body_sha256(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

fn unauthenticated(why: impl Into<String>) -> Problem {
    Problem::new(Kind::Unauthenticated, Decider::Larder, why)
}

fn too_many() -> Problem {
    Problem::new(
        Kind::TooMany {
            retry_after: GuessThrottle::retry_after(),
        },
        Decider::Larder,
        "too many failed attempts to say who asks",
    )
    .advice("wait a minute, and look at the credentials that are sent")
}

fn no_randomness(error: getrandom::Error) -> Problem {
    Problem::internal("the system has no randomness to give", error.to_string())
}
