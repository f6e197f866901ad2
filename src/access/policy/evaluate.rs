//! What policies decide: an explicit deny wins, otherwise one allow is needed (IAM user guide,
//! "Policy evaluation logic").

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use wildmatch::WildMatch;

use super::condition::arn_matches;
use super::document::{Effect, Policy, Principals, Statement, Words};
use crate::access::principal::Principal;

/// What else is known of a request.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    pub principal: &'a Principal,
    pub address: Option<IpAddr>,
    pub time: Timestamp,
    pub over_tls: bool,
    pub user_agent: &'a str,
    /// `aws:RequestTag/…`, `aws:ResourceTag/…` and the like, in lower case, with their values.
    pub more: &'a [(String, Vec<String>)],
}

impl Circumstances<'_> {
    /// The values of a condition key, which is in lower case; none where the request has none.
    pub(super) fn values(&self, key: &str) -> Vec<String> {
        let one = |value: String| vec![value];
        match key {
            "aws:sourceip" => self.address.map(|it| it.to_string()).into_iter().collect(),
            "aws:currenttime" => one(self.time.to_string()),
            "aws:epochtime" => one(self.time.as_second().to_string()),
            "aws:securetransport" => one(self.over_tls.to_string()),
            "aws:useragent" if !self.user_agent.is_empty() => one(self.user_agent.to_owned()),
            "aws:principalarn" => self
                .principal
                .arn()
                .map(str::to_owned)
                .into_iter()
                .collect(),
            "aws:principalaccount" => {
                let account = self.principal.account();
                account.map(str::to_owned).into_iter().collect()
            }
            "aws:principaltype" => one(self.principal.kind().to_owned()),
            "aws:username" => self
                .principal
                .user()
                .map(str::to_owned)
                .into_iter()
                .collect(),
            _ => self
                .more
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, values)| values.clone())
                .unwrap_or_default(),
        }
    }
}

/// Whether the principal may do this to the resource.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// `codeartifact:ReadFromRepository`.
    pub action: &'a str,
    /// An ARN.
    pub resource: &'a str,
    pub circumstances: Circumstances<'a>,
}

/// A policy and what it is attached to.
#[derive(Clone, Copy)]
pub struct Attached<'a> {
    /// "the domain `corp`", "repository `team`".
    pub to: &'a str,
    pub policy: &'a Policy,
}

/// Why something was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// By one statement.
    Statement {
        /// What its policy is attached to.
        policy: String,
        /// Its `Sid`, or its place in the policy, from 1.
        statement: String,
    },
    /// The owner of the domain may do what is not denied.
    Owner,
    /// Nobody has to say who they are.
    Open,
    /// No statement allows it.
    Nothing,
    /// A policy is not understood: it may have denied.
    Unreadable { policy: String },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement { policy, statement } => {
                write!(f, "statement {statement} of the policy of {policy}")
            }
            Self::Owner => f.write_str("ownership of the domain"),
            Self::Open => f.write_str("open access"),
            Self::Nothing => f.write_str("no statement of any policy"),
            Self::Unreadable { policy } => {
                write!(f, "the policy of {policy}, which cannot be read")
            }
        }
    }
}

/// What was decided, by what, and whether it holds for the next request like it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub is_allowed: bool,
    pub why: Why,
    /// No condition had a say, so that the time, the address and the like do not matter.
    pub is_lasting: bool,
}

impl Decision {
    /// Everybody may.
    #[must_use]
    pub fn open() -> Self {
        Self {
            is_allowed: true,
            why: Why::Open,
            is_lasting: true,
        }
    }
}

/// Decides by the policies that are attached to the resource and to what it lies in.
#[must_use]
pub fn decide(question: &Question<'_>, attached: &[Attached<'_>]) -> Decision {
    let (mut allowed, mut is_lasting) = (None, true);
    for Attached { to, policy } in attached {
        for (index, statement) in policy.statements.iter().enumerate() {
            if !statement.is_about(question) {
                continue;
            }
            is_lasting &= statement.conditions.is_empty();
            let conditions = &mut statement.conditions.iter();
            if !conditions.all(|condition| condition.holds(&question.circumstances)) {
                continue;
            }
            let why = || Why::Statement {
                policy: (*to).to_owned(),
                statement: statement
                    .sid
                    .as_ref()
                    .map_or_else(|| (index + 1).to_string(), |sid| format!("`{sid}`")),
            };
            match statement.effect {
                Effect::Deny => {
                    return Decision {
                        is_allowed: false,
                        why: why(),
                        is_lasting,
                    };
                }
                Effect::Allow => allowed = allowed.or_else(|| Some(why())),
            }
        }
    }
    Decision {
        is_allowed: allowed.is_some(),
        why: allowed.unwrap_or(Why::Nothing),
        is_lasting,
    }
}

impl Statement {
    fn is_about(&self, question: &Question<'_>) -> bool {
        let principal = question.circumstances.principal;
        let is_named = match &self.principals {
            Principals::Everyone => true,
            Principals::Named(names) => names.iter().any(|name| principal.is(name)),
        };
        is_named
            && self
                .actions
                .have(|word| WildMatch::new_case_insensitive(word).matches(question.action))
            && self.resources.have(|word| {
                filled(word, &question.circumstances)
                    .is_some_and(|word| word == "*" || arn_matches(question.resource, &word))
            })
    }
}

impl Words {
    fn have(&self, matches: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::These(words) => words.iter().any(|word| matches(word)),
            Self::Not(words) => !words.iter().any(|word| matches(word)),
        }
    }
}

/// The text with its policy variables (`${aws:username}`) put in; `None` where one has no value.
pub(super) fn filled<'a>(text: &'a str, circumstances: &Circumstances<'_>) -> Option<Cow<'a, str>> {
    if !text.contains("${") {
        return Some(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("${") {
        let (name, after) = from.split_once('}')?;
        out.push_str(before);
        match name {
            "*" | "?" | "$" => out.push_str(name),
            name => {
                let (name, default) = match name.split_once(',') {
                    Some((name, default)) => (name.trim(), Some(default.trim().trim_matches('\''))),
                    None => (name, None),
                };
                let values = circumstances.values(&name.to_ascii_lowercase());
                match (values.as_slice(), default) {
                    ([one], _) => out.push_str(one),
                    (_, Some(default)) => out.push_str(default),
                    _ => return None,
                }
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}
