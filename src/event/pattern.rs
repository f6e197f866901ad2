//! Event patterns (EventBridge user guide, "Comparison operators for use in event patterns").

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};
use wildmatch::WildMatchPattern;

use crate::format::plain;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern is malformed: {0}")]
pub struct MalformedPattern(String);

/// `*` stands for any characters, and nothing else for another: what no text has, never matches one.
type Wildcard = WildMatchPattern<'*', '\u{0}'>;

/// Which events are let through.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPattern(Node);

/// The conditions on an object of the event.
#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    /// All of them.
    members: Vec<(String, Member)>,
    /// One of them, where there are any.
    or: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Member {
    Object(Node),
    /// One of them.
    Values(Vec<Test>),
}

/// The conditions on a value.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exact(Value),
    Prefix(String, Case),
    Suffix(String, Case),
    EqualsIgnoreCase(String),
    AnythingBut(Vec<Test>),
    /// Operator and number, each of which holds.
    Numeric(Vec<(Order, f64)>),
    Exists(bool),
    Cidr(IpNet),
    Wildcard(Wildcard),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Heeded,
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

fn malformed<T>(why: impl Into<String>) -> Result<T, MalformedPattern> {
    Err(MalformedPattern(why.into()))
}

impl EventPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says which part is no pattern.
    pub fn parse(text: &str) -> Result<Self, MalformedPattern> {
        match serde_json::from_str(text) {
            Ok(Value::Object(pattern)) => Ok(Self(node(&pattern)?)),
            Ok(_) => malformed("it is no JSON object"),
            Err(error) => malformed(plain::json(&error)),
        }
    }

    /// Whether the event is let through.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        self.0.matches(event)
    }
}

fn node(written: &Map<String, Value>) -> Result<Node, MalformedPattern> {
    let mut node = Node::default();
    for (key, value) in written {
        if key == "$or" {
            let Value::Array(all) = value else {
                return malformed("`$or` is a list of patterns");
            };
            for one in all {
                match one {
                    Value::Object(one) => node.or.push(self::node(one)?),
                    _ => return malformed("`$or` is a list of patterns"),
                }
            }
            if node.or.is_empty() {
                return malformed("`$or` has at least one pattern");
            }
            continue;
        }
        let member = match value {
            Value::Object(below) if !below.is_empty() => Member::Object(self::node(below)?),
            Value::Array(values) if !values.is_empty() => {
                Member::Values(values.iter().map(test).collect::<Result<_, _>>()?)
            }
            _ => {
                return malformed(format!(
                    "`{key}` has to be a list of values, or an object with such lists"
                ));
            }
        };
        node.members.push((key.clone(), member));
    }
    if node.members.is_empty() && node.or.is_empty() {
        return malformed("it asks for nothing");
    }
    Ok(node)
}

fn text(operator: &str, value: &Value) -> Result<String, MalformedPattern> {
    match value {
        Value::String(text) => Ok(text.clone()),
        _ => malformed(format!("`{operator}` takes a string")),
    }
}

/// A string, or one whose case is ignored.
fn cased(operator: &str, value: &Value) -> Result<(String, Case), MalformedPattern> {
    match value {
        Value::Object(one) if one.len() == 1 => match one.get("equals-ignore-case") {
            Some(value) => Ok((text(operator, value)?.to_lowercase(), Case::Ignored)),
            None => malformed(format!("`{operator}` takes a string")),
        },
        value => Ok((text(operator, value)?, Case::Heeded)),
    }
}

fn test(value: &Value) -> Result<Test, MalformedPattern> {
    let operator = match value {
        Value::Object(operator) => operator,
        Value::Array(_) => return malformed("a list within a list is no value"),
        exact => return Ok(Test::Exact(exact.clone())),
    };
    let mut members = operator.iter();
    let (Some((name, value)), None) = (members.next(), members.next()) else {
        return malformed("a comparison has one operator");
    };
    Ok(match name.as_str() {
        "prefix" => {
            let (text, case) = cased(name, value)?;
            Test::Prefix(text, case)
        }
        "suffix" => {
            let (text, case) = cased(name, value)?;
            Test::Suffix(text, case)
        }
        "equals-ignore-case" => Test::EqualsIgnoreCase(text(name, value)?.to_lowercase()),
        "anything-but" => Test::AnythingBut(anything_but(value)?),
        "numeric" => Test::Numeric(numeric(value)?),
        "exists" => match value {
            Value::Bool(exists) => Test::Exists(*exists),
            _ => return malformed("`exists` is true or false"),
        },
        "cidr" => match text(name, value)?.parse() {
            Ok(network) => Test::Cidr(network),
            Err(_) => return malformed(format!("{value} is no network")),
        },
        "wildcard" => Test::Wildcard(wildcard(&text(name, value)?)?),
        _ => return malformed(format!("there is no operator `{name}`")),
    })
}

fn wildcard(text: &str) -> Result<Wildcard, MalformedPattern> {
    if text.contains("**") {
        return malformed("two `*` side by side");
    }
    if text.contains('\\') {
        return malformed("a `*` that stands for itself is not taken in a `wildcard`");
    }
    Ok(Wildcard::new(text))
}

/// A value, a list of them, or one comparison.
fn anything_but(value: &Value) -> Result<Vec<Test>, MalformedPattern> {
    match value {
        Value::Array(all) if !all.is_empty() => all
            .iter()
            .map(|one| match one {
                Value::String(_) | Value::Number(_) => Ok(Test::Exact(one.clone())),
                _ => malformed("`anything-but` takes strings and numbers"),
            })
            .collect(),
        Value::String(_) | Value::Number(_) => Ok(vec![Test::Exact(value.clone())]),
        Value::Object(operator) => {
            let mut all = Vec::new();
            for (name, value) in operator {
                let values = match value {
                    Value::Array(values) => values.clone(),
                    one => vec![one.clone()],
                };
                if !matches!(
                    name.as_str(),
                    "prefix" | "suffix" | "equals-ignore-case" | "wildcard"
                ) {
                    return malformed(format!("`anything-but` takes no `{name}`"));
                }
                for value in values {
                    let one = Map::from_iter([(name.clone(), value)]);
                    all.push(test(&Value::Object(one))?);
                }
            }
            Ok(all)
        }
        _ => malformed("`anything-but` takes a value, a list of them, or one comparison"),
    }
}

fn numeric(value: &Value) -> Result<Vec<(Order, f64)>, MalformedPattern> {
    let wrong = "`numeric` takes an operator and a number, or two of each";
    let Value::Array(parts) = value else {
        return malformed(wrong);
    };
    let mut all = Vec::new();
    for pair in parts.chunks(2) {
        let [Value::String(order), Value::Number(number)] = pair else {
            return malformed(wrong);
        };
        let order = match order.as_str() {
            "<" => Order::Less,
            "<=" => Order::LessOrEqual,
            "=" => Order::Equal,
            ">=" => Order::GreaterOrEqual,
            ">" => Order::Greater,
            _ => return malformed(format!("`{order}` is no comparison of numbers")),
        };
        all.push((order, number.as_f64().unwrap_or(f64::NAN)));
    }
    if all.is_empty() || all.len() > 2 {
        return malformed(wrong);
    }
    Ok(all)
}

impl Node {
    fn matches(&self, event: &Value) -> bool {
        let has = |(key, member): &(String, Member)| {
            let value = event.get(key);
            match member {
                Member::Object(node) => node.matches(value.unwrap_or(&Value::Null)),
                Member::Values(tests) => tests.iter().any(|test| test.of_member(value)),
            }
        };
        self.members.iter().all(has)
            && (self.or.is_empty() || self.or.iter().any(|node| node.matches(event)))
    }
}

impl Test {
    /// An array of the event matches where one of its values does.
    fn of_member(&self, value: Option<&Value>) -> bool {
        if let Self::Exists(exists) = self {
            // Objects are no values, so that of them nothing exists.
            let is_there = value.is_some_and(|value| !value.is_object());
            return is_there == *exists;
        }
        match value {
            None | Some(Value::Object(_)) => false,
            Some(Value::Array(values)) => values.iter().any(|value| self.of(value)),
            Some(value) => self.of(value),
        }
    }

    fn of(&self, value: &Value) -> bool {
        let said = value.as_str();
        let begins = |text: &str, case, reversed: bool| {
            said.is_some_and(|said| {
                let said = match case {
                    Case::Heeded => said.to_owned(),
                    Case::Ignored => said.to_lowercase(),
                };
                if reversed {
                    said.ends_with(text)
                } else {
                    said.starts_with(text)
                }
            })
        };
        match self {
            // 300, 300.0 and 3.0e2 are one number.
            Self::Exact(Value::Number(exact)) => {
                value.as_f64().is_some() && value.as_f64() == exact.as_f64()
            }
            Self::Exact(exact) => value == exact,
            Self::Prefix(text, case) => begins(text, *case, false),
            Self::Suffix(text, case) => begins(text, *case, true),
            Self::EqualsIgnoreCase(text) => said.is_some_and(|said| said.to_lowercase() == *text),
            Self::AnythingBut(tests) => {
                (value.is_string() || value.is_number()) && !tests.iter().any(|test| test.of(value))
            }
            Self::Numeric(all) => value.as_f64().is_some_and(|said| {
                all.iter().all(|(order, number)| match order {
                    Order::Less => said < *number,
                    Order::LessOrEqual => said <= *number,
                    Order::Equal => (said - number).abs() < f64::EPSILON,
                    Order::GreaterOrEqual => said >= *number,
                    Order::Greater => said > *number,
                })
            }),
            Self::Exists(_) => false,
            Self::Cidr(network) => said
                .and_then(|said| said.parse::<IpAddr>().ok())
                .is_some_and(|address| network.contains(&address)),
            Self::Wildcard(wildcard) => said.is_some_and(|said| wildcard.matches(said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "source": "aws.codeartifact",
            "detail-type": "CodeArtifact Package Version State Change",
            "resources": ["arn:one", "arn:two"],
            "detail": {
                "repositoryName": "team", "packageName": "Acme-UI", "packageNamespace": null,
                "sequenceNumber": 7, "address": "10.1.2.3", "file": "a?b.tgz",
                "changes": { "statusChanged": true, "assetsAdded": 2 }
            }
        })
    }

    #[test]
    fn the_operators_of_event_patterns() {
        #[rustfmt::skip]
        let cases = [
            (json!({ "source": ["aws.codeartifact"] }), true),
            (json!({ "source": ["aws.s3", "aws.codeartifact"] }), true),
            (json!({ "source": ["aws.s3"] }), false),
            (json!({ "resources": ["arn:two"] }), true),
            (json!({ "detail": { "repositoryName": ["team"], "sequenceNumber": [7] } }), true),
            (json!({ "detail": { "sequenceNumber": [7.0] } }), true),
            (json!({ "detail": { "sequenceNumber": ["7"] } }), false),
            (json!({ "detail": { "repositoryName": ["team"], "sequenceNumber": [8] } }), false),
            (json!({ "detail": { "packageNamespace": [null] } }), true),
            (json!({ "detail": { "changes": { "statusChanged": [true] } } }), true),
            (json!({ "detail": { "repositoryName": [{ "prefix": "te" }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "prefix": "TE" }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "prefix": { "equals-ignore-case": "TE" } }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "suffix": "am" }] } }), true),
            (json!({ "detail": { "packageName": [{ "suffix": { "equals-ignore-case": "-ui" } }] } }), true),
            (json!({ "detail": { "packageName": [{ "equals-ignore-case": "acme-ui" }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "anything-but": "team" }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "anything-but": ["a", "b"] }] } }), true),
            (json!({ "detail": { "sequenceNumber": [{ "anything-but": [7, 8] }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "anything-but": { "prefix": "te" } }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "anything-but": { "suffix": ["x", "y"] } }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "anything-but": { "wildcard": "*ea*" } }] } }), false),
            (json!({ "detail": { "nothing": [{ "anything-but": "x" }] } }), false),
            (json!({ "detail": { "sequenceNumber": [{ "numeric": [">", 0, "<=", 7] }] } }), true),
            (json!({ "detail": { "sequenceNumber": [{ "numeric": ["=", 7] }] } }), true),
            (json!({ "detail": { "sequenceNumber": [{ "numeric": ["<", 7] }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "numeric": ["=", 7] }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "exists": true }] } }), true),
            (json!({ "detail": { "nothing": [{ "exists": false }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "exists": false }] } }), false),
            (json!({ "nothing": { "below": [{ "exists": false }] } }), true),
            (json!({ "detail": { "address": [{ "cidr": "10.0.0.0/8" }] } }), true),
            (json!({ "detail": { "address": [{ "cidr": "192.168.0.0/16" }] } }), false),
            (json!({ "detail": { "repositoryName": [{ "wildcard": "t*m" }] } }), true),
            (json!({ "detail": { "repositoryName": [{ "wildcard": "t?am" }] } }), false),
            (json!({ "detail": { "file": [{ "wildcard": "a?b.*" }] } }), true),
            (json!({ "detail": { "$or": [{ "repositoryName": ["x"] }, { "sequenceNumber": [7] }] } }), true),
            (json!({ "detail": { "$or": [{ "repositoryName": ["x"] }, { "sequenceNumber": [8] }] } }), false),
            (json!({ "source": ["aws.s3"], "$or": [{ "detail": { "sequenceNumber": [7] } }] }), false),
        ];
        for (pattern, matches) in cases {
            let parsed = EventPattern::parse(&pattern.to_string()).unwrap();
            assert_eq!(parsed.matches(&event()), matches, "{pattern}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{ "source": "aws" }"#,
            r#"{ "source": [] }"#,
            r#"{ "detail": {} }"#,
            r#"{ "source": [["a"]] }"#,
            r#"{ "source": [{ "begins": "a" }] }"#,
            r#"{ "source": [{ "prefix": 1 }] }"#,
            r#"{ "source": [{ "prefix": "a", "suffix": "b" }] }"#,
            r#"{ "source": [{ "exists": "yes" }] }"#,
            r#"{ "source": [{ "cidr": "ten" }] }"#,
            r#"{ "source": [{ "numeric": ["!", 1] }] }"#,
            r#"{ "source": [{ "numeric": [">", "1"] }] }"#,
            r#"{ "source": [{ "anything-but": { "exists": true } }] }"#,
            r#"{ "source": [{ "wildcard": "a**b" }] }"#,
            r#"{ "$or": [] }"#,
        ] {
            assert!(EventPattern::parse(text).is_err(), "{text}");
        }
    }
}
