//! Decides by policies: an explicit deny wins, otherwise one allow is needed (IAM user guide,
//! "Policy evaluation logic").

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use super::document::{Effect, Policy, Principals, Statement, Words};
use super::pattern::PolicyPattern;
use crate::access::action::Action;
use crate::access::principal::Principal;

/// The facts about a request that conditions can ask for.
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
    /// The values of a key that is about the principal alone; `None` where the key is about
    /// something else.
    fn of_principal(&self, key: &str) -> Option<Vec<String>> {
        let owned = |value: Option<&str>| value.map(str::to_owned).into_iter().collect();
        match key {
            "aws:principalarn" => Some(owned(self.principal.arn())),
            "aws:principalaccount" => Some(owned(self.principal.account())),
            "aws:principaltype" => Some(vec![self.principal.kind().to_owned()]),
            "aws:username" => Some(owned(self.principal.user())),
            _ => None,
        }
    }

    /// The values of a key that is about the request: the next one may have others.
    fn of_request(&self, key: &str) -> Vec<String> {
        let one = |value: String| vec![value];
        match key {
            "aws:sourceip" => self.address.map(|it| it.to_string()).into_iter().collect(),
            "aws:currenttime" => one(self.time.to_string()),
            "aws:epochtime" => one(self.time.as_second().to_string()),
            "aws:securetransport" => one(self.over_tls.to_string()),
            "aws:useragent" if !self.user_agent.is_empty() => one(self.user_agent.to_owned()),
            _ => self
                .more
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, values)| values.clone())
                .unwrap_or_default(),
        }
    }
}

/// The circumstances, while a decision is made: remembers whether it came to depend on more than who
/// asks for what.
pub(super) struct Asking<'a> {
    circumstances: &'a Circumstances<'a>,
    saw_request: Cell<bool>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(circumstances: &'a Circumstances<'a>) -> Self {
        Self {
            circumstances,
            saw_request: Cell::new(false),
        }
    }

    /// The values of a condition key, which is in lower case; none where the request has none.
    /// Nothing of a request is seen but through this.
    pub(super) fn values(&self, key: &str) -> Vec<String> {
        self.circumstances.of_principal(key).unwrap_or_else(|| {
            self.saw_request.set(true);
            self.circumstances.of_request(key)
        })
    }
}

/// The resources that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceReach {
    /// The one of this ARN.
    One,
    /// Any whose ARN begins so: whether something may be done to one of them at least. Asked before it is
    /// known which one.
    AnyBelow,
}

/// Whether the principal may do this to the resource.
#[derive(Clone, Debug)]
pub struct PolicyQuestion<'a> {
    pub action: Action,
    /// An ARN.
    pub resource: &'a str,
    pub reach: ResourceReach,
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
        /// The resource that the policy is attached to, in words.
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

/// A decision, the statement that made it, and whether it holds for the same request next time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDecision {
    pub is_allowed: bool,
    pub why: Why,
    /// Nothing of the request was looked at but who asks for what: its time, address, client and the
    /// like have no say.
    pub is_lasting: bool,
}

impl PolicyDecision {
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
pub fn decide(question: &PolicyQuestion<'_>, attached: &[Attached<'_>]) -> PolicyDecision {
    let asking = Asking::new(&question.circumstances);
    let mut allowed = None;
    for Attached { to, policy } in attached {
        for (index, statement) in policy.statements.iter().enumerate() {
            if !statement.is_about(question, &asking) {
                continue;
            }
            let conditions = &mut statement.conditions.iter();
            if !conditions.all(|condition| condition.holds(&asking)) {
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
                    return PolicyDecision {
                        is_allowed: false,
                        why: why(),
                        is_lasting: !asking.saw_request.get(),
                    };
                }
                Effect::Allow => allowed = allowed.or_else(|| Some(why())),
            }
        }
    }
    PolicyDecision {
        is_allowed: allowed.is_some(),
        why: allowed.unwrap_or(Why::Nothing),
        is_lasting: !asking.saw_request.get(),
    }
}

impl Statement {
    fn is_about(&self, question: &PolicyQuestion<'_>, asking: &Asking<'_>) -> bool {
        let principal = question.circumstances.principal;
        let is_named = match &self.principals {
            Principals::Everyone => true,
            Principals::Named(names) => names.iter().any(|name| principal.is(name)),
        };
        is_named
            && self.actions.have(|word| question.action.is_meant_by(word))
            && self.resources.have(|word| {
                filled(word, |key| asking.values(key))
                    .is_some_and(|word| word.is_everything() || self.means(&word, question))
            })
    }

    /// Whether one of the statement's words for resources means the question's. Where that is about any
    /// of many, a statement that allows has to mean one of them, and one that denies all of them.
    fn means(&self, word: &PolicyPattern, question: &PolicyQuestion<'_>) -> bool {
        let resource = question.resource;
        match (question.reach, self.effect, &self.resources) {
            (ResourceReach::One, _, _) => word.matches_arn(resource),
            (ResourceReach::AnyBelow, Effect::Allow, Words::These(_))
            | (ResourceReach::AnyBelow, Effect::Deny, Words::Not(_)) => word.can_begin(resource),
            (ResourceReach::AnyBelow, Effect::Deny, Words::These(_))
            | (ResourceReach::AnyBelow, Effect::Allow, Words::Not(_)) => {
                ["?", "a.long-name_of.a-package"]
                    .iter()
                    .all(|name| word.matches_arn(&format!("{resource}{name}")))
            }
        }
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

/// The text as a pattern, with its policy variables (`${aws:username}`) put in to the letter; `None`
/// where one has no value. `values` are those of a key in lower case.
pub(super) fn filled(text: &str, values: impl Fn(&str) -> Vec<String>) -> Option<PolicyPattern> {
    PolicyPattern::filled(text, |pattern, name| {
        let (name, default) = match name.split_once(',') {
            Some((name, default)) => (name.trim(), Some(default.trim().trim_matches('\''))),
            None => (name, None),
        };
        let values = values(&name.to_ascii_lowercase());
        match (values.as_slice(), default) {
            ([one], _) => pattern.push_text(one),
            (_, Some(default)) => pattern.push_text(default),
            _ => return None,
        }
        Some(())
    })
}
