//! Tokens, keys and policies in memory: what every request is held against.

use std::collections::{HashMap, HashSet};

use tracing::error;

use super::policy::Policy;
use super::principal::Principal;
use super::token::{Maker, TokenRefused, was_made_ahead};
use super::{Caller, Proof};
use crate::config::Oidc;
use crate::store::packages::{AccessKey, AccessRows, MachineToken, TokenSigningKey};

/// A policy as it was sent, and as it was understood.
pub struct StoredPolicy {
    pub document: String,
    pub revision: String,
    /// `None` where a newer Larder wrote what this one does not understand.
    pub parsed: Option<Policy>,
}

#[derive(Default)]
pub struct Book {
    pub number: i64,
    /// The newest first.
    pub signing: Vec<TokenSigningKey>,
    pub revoked: HashSet<String>,
    tokens: HashMap<Vec<u8>, MachineToken>,
    /// When machines' tokens end, by their ids; milliseconds since 1970.
    ends: HashMap<String, Option<i64>>,
    pub keys: HashMap<String, AccessKey>,
    /// By the ARN of what they are attached to.
    pub policies: HashMap<String, StoredPolicy>,
}

impl Book {
    pub fn new(rows: AccessRows) -> Self {
        let policies = rows.policies.into_iter().map(|row| {
            let parsed = Policy::parse(&row.document)
                .inspect_err(|why| error!(%why, resource = row.resource, "Reading a policy failed; until it is replaced, only the domain's owner may use what it is attached to"))
                .ok();
            let kept = StoredPolicy {
                document: row.document,
                revision: row.revision,
                parsed,
            };
            (row.resource, kept)
        });
        Self {
            number: rows.number,
            signing: rows.signing,
            revoked: rows.revoked.into_iter().collect(),
            ends: rows
                .tokens
                .iter()
                .map(|token| (token.id.clone(), token.expires_at))
                .collect(),
            tokens: rows
                .tokens
                .into_iter()
                .map(|token| (token.hash.clone(), token))
                .collect(),
            keys: rows
                .keys
                .into_iter()
                .map(|key| (key.id.clone(), key))
                .collect(),
            policies: policies.collect(),
        }
    }

    /// Finds the machine token with this hash.
    pub fn machine(&self, hash: &[u8; 32], now_ms: i64) -> Result<Caller, TokenRefused> {
        // A look-up by hash tells by its time at most something of the hash.
        let token = self
            .tokens
            .get(hash.as_slice())
            .ok_or(TokenRefused::Foreign)?;
        if token.expires_at.is_some_and(|expires| expires <= now_ms) {
            return Err(TokenRefused::Expired);
        }
        if token.expires_at.is_some() && was_made_ahead(token.created_at / 1000, now_ms / 1000) {
            return Err(TokenRefused::Ahead);
        }
        Ok(Caller {
            principal: Principal::parse(&token.principal).ok_or(TokenRefused::Foreign)?,
            proof: Proof::MachineToken {
                id: token.id.as_str().into(),
                expires_at: token.expires_at,
            },
        })
    }

    /// Whether what a token was made by still holds.
    pub fn holds(&self, maker: &Maker, settings: &[Oidc], now_ms: i64) -> bool {
        match maker {
            Maker::Key(id) => self.keys.contains_key(id),
            Maker::Token(id) => self
                .ends
                .get(id)
                .is_some_and(|ends| ends.is_none_or(|ends| now_ms < ends)),
            Maker::Oidc { issuer, role } => settings
                .iter()
                .any(|setting| setting.issuer == *issuer && setting.role == *role),
        }
    }
}
