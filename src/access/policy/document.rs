//! A policy as it is written.

use serde_json::{Map, Value};

use super::condition::Condition;
use crate::format::plain;

/// The largest policy that is taken; CodeArtifact's own bound, in bytes.
const POLICY_BYTES_MAX: usize = 7168;

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy is malformed: {0}")]
pub struct MalformedPolicy(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// The principals that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Principals {
    /// `"*"`.
    Everyone,
    /// Accounts by their twelve digits or their root's ARN, users and roles by ARN, `anonymous`.
    Named(Vec<String>),
}

/// Words with `*` and `?`, meant or all but meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    These(Vec<String>),
    Not(Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub sid: Option<String>,
    pub effect: Effect,
    pub principals: Principals,
    pub actions: Words,
    pub resources: Words,
    pub conditions: Vec<Condition>,
}

/// A policy that was understood whole; nothing of it is passed over.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

impl Policy {
    /// How many statements it has.
    #[must_use]
    pub fn statement_count(&self) -> usize {
        self.statements.len()
    }

    /// Reads a policy: with a list of statements, with one, or a bare statement.
    ///
    /// # Errors
    /// Says which part is no policy, or is not understood.
    pub fn parse(text: &str) -> Result<Self, MalformedPolicy> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(malformed(format!(
                "it has {} bytes, and may have {POLICY_BYTES_MAX}",
                text.len()
            )));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| malformed(plain::json(&error)))?;
        let Value::Object(document) = value else {
            return Err(malformed("it is no JSON object"));
        };
        if document.contains_key("Effect") {
            return Ok(Self {
                statements: vec![statement(&document)?],
            });
        }
        for key in document.keys() {
            if !matches!(key.as_str(), "Version" | "Id" | "Statement") {
                return Err(malformed(format!("a policy has no `{key}`")));
            }
        }
        if let Some(version) = document.get("Version")
            && !matches!(version.as_str(), Some("2012-10-17" | "2008-10-17"))
        {
            return Err(malformed(
                "`Version` has to be \"2012-10-17\" or \"2008-10-17\"",
            ));
        }
        let statements = match document.get("Statement") {
            Some(Value::Object(one)) => vec![statement(one)?],
            Some(Value::Array(all)) if !all.is_empty() => all
                .iter()
                .map(|one| match one {
                    Value::Object(one) => statement(one),
                    _ => Err(malformed("a statement is an object")),
                })
                .collect::<Result<_, _>>()?,
            _ => {
                return Err(malformed(
                    "`Statement` has to be a statement, or a list of them",
                ));
            }
        };
        Ok(Self { statements })
    }
}

pub(super) fn malformed(why: impl Into<String>) -> MalformedPolicy {
    MalformedPolicy(why.into())
}

fn statement(written: &Map<String, Value>) -> Result<Statement, MalformedPolicy> {
    const KEYS: &[&str] = &[
        "Sid",
        "Effect",
        "Principal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
        "Version",
        "Id",
    ];
    if let Some(key) = written.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let why = if key == "NotPrincipal" {
            "`NotPrincipal` is not taken: allow whom you mean, or deny with a condition on aws:PrincipalArn".to_owned()
        } else {
            format!("a statement has no `{key}`")
        };
        return Err(malformed(why));
    }
    let sid = match written.get("Sid") {
        None => None,
        Some(Value::String(sid)) => Some(sid.clone()),
        Some(_) => return Err(malformed("`Sid` is a string")),
    };
    let effect = match written.get("Effect").and_then(Value::as_str) {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        _ => return Err(malformed("`Effect` has to be \"Allow\" or \"Deny\"")),
    };
    let conditions = match written.get("Condition") {
        None => Vec::new(),
        Some(Value::Object(conditions)) => Condition::all(conditions)?,
        Some(_) => return Err(malformed("`Condition` is an object")),
    };
    Ok(Statement {
        sid,
        effect,
        principals: principals(
            written
                .get("Principal")
                .ok_or_else(|| malformed("a statement of a resource policy names a `Principal`"))?,
        )?,
        actions: words(written, "Action", "NotAction")?
            .ok_or_else(|| malformed("a statement has an `Action` or a `NotAction`"))?,
        // A statement without a resource is about the one that the policy is attached to.
        resources: words(written, "Resource", "NotResource")?
            .unwrap_or_else(|| Words::These(vec!["*".to_owned()])),
        conditions,
    })
}

fn principals(written: &Value) -> Result<Principals, MalformedPolicy> {
    let kinds = match written {
        Value::String(all) if all == "*" => return Ok(Principals::Everyone),
        Value::Object(kinds) if !kinds.is_empty() => kinds,
        _ => {
            return Err(malformed(
                "`Principal` has to be \"*\" or { \"AWS\": … } with an account, an ARN or a list",
            ));
        }
    };
    let mut named = Vec::new();
    for (kind, names) in kinds {
        if kind != "AWS" {
            return Err(malformed(format!(
                "a principal of the kind `{kind}` never asks here; only `AWS` is taken"
            )));
        }
        for name in strings(names, "Principal")? {
            if name == "*" {
                return Ok(Principals::Everyone);
            }
            if !is_principal(&name) {
                return Err(malformed(format!(
                    "`{name}` is no principal: an account's twelve digits, the ARN of a user or role, `anonymous`, or \"*\" alone"
                )));
            }
            named.push(name);
        }
    }
    Ok(Principals::Named(named))
}

fn is_principal(name: &str) -> bool {
    let is_account = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_arn = name.starts_with("arn:aws") && name.split(':').count() >= 6;
    (is_account || is_arn || name == "anonymous") && !name.contains(['*', '?'])
}

fn words(
    written: &Map<String, Value>,
    these: &str,
    not: &str,
) -> Result<Option<Words>, MalformedPolicy> {
    match (written.get(these), written.get(not)) {
        (Some(_), Some(_)) => Err(malformed(format!(
            "`{these}` and `{not}` exclude each other"
        ))),
        (Some(value), None) => Ok(Some(Words::These(strings(value, these)?))),
        (None, Some(value)) => Ok(Some(Words::Not(strings(value, not)?))),
        (None, None) => Ok(None),
    }
}

/// A string, or a list of them.
pub(super) fn strings(value: &Value, key: &str) -> Result<Vec<String>, MalformedPolicy> {
    let wrong = || malformed(format!("`{key}` has to be a string or a list of strings"));
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(all) if !all.is_empty() => all
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_a_bound() {
        let policy = |length: usize| {
            let text = r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#;
            Policy::parse(&format!("{text:<length$}"))
        };
        assert!(policy(POLICY_BYTES_MAX).is_ok());
        let refused = format!("{:?}", policy(POLICY_BYTES_MAX + 1).err());
        assert!(refused.contains("may have 7168"), "{refused}");
    }
}
