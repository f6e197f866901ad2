//! `Condition`: operators, set operators and `IfExists` (IAM user guide, "IAM JSON policy elements:
//! Condition operators").

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::document::{MalformedPolicy, malformed, strings};
use super::evaluate::{Asking, filled};
use super::pattern::PolicyPattern;

/// One operator on one key.
#[derive(Clone, Debug)]
pub struct Condition {
    operator: Operator,
    /// Negated operators hold where no value matches, and where the key is absent.
    is_negated: bool,
    if_exists: bool,
    over: Over,
    key: String,
    values: Vec<String>,
}

/// How the request's several values are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Plain,
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    EqualsIgnoreCase,
    Like,
    Numeric(Order),
    Date(Order),
    Bool,
    Address,
    /// ARNs are compared part by part.
    Arn,
    Null,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
        }
    }
}

fn operator(word: &str) -> Option<(Operator, bool)> {
    use Operator::{Address, Arn, Bool, Date, Equals, EqualsIgnoreCase, Like, Null, Numeric};
    let order = |word: &str| match word {
        "Equals" => Some((Order::Equal, false)),
        "NotEquals" => Some((Order::Equal, true)),
        "LessThan" => Some((Order::Less, false)),
        "LessThanEquals" => Some((Order::LessOrEqual, false)),
        "GreaterThan" => Some((Order::Greater, false)),
        "GreaterThanEquals" => Some((Order::GreaterOrEqual, false)),
        _ => None,
    };
    if let Some(word) = word.strip_prefix("Numeric") {
        return order(word).map(|(order, not)| (Numeric(order), not));
    }
    if let Some(word) = word.strip_prefix("Date") {
        return order(word).map(|(order, not)| (Date(order), not));
    }
    Some(match word {
        "StringEquals" => (Equals, false),
        "StringNotEquals" => (Equals, true),
        "StringEqualsIgnoreCase" => (EqualsIgnoreCase, false),
        "StringNotEqualsIgnoreCase" => (EqualsIgnoreCase, true),
        "StringLike" => (Like, false),
        "StringNotLike" => (Like, true),
        "Bool" => (Bool, false),
        "IpAddress" => (Address, false),
        "NotIpAddress" => (Address, true),
        "ArnEquals" | "ArnLike" => (Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Arn, true),
        "Null" => (Null, false),
        _ => return None,
    })
}

impl Condition {
    /// All conditions of a statement.
    pub(super) fn all(written: &Map<String, Value>) -> Result<Vec<Self>, MalformedPolicy> {
        let mut all = Vec::new();
        for (name, keys) in written {
            let (over, word) = match name.split_once(':') {
                Some(("ForAllValues", word)) => (Over::All, word),
                Some(("ForAnyValue", word)) => (Over::Any, word),
                Some(_) => return Err(unknown(name)),
                None => (Over::Plain, name.as_str()),
            };
            let (word, if_exists) = match word.strip_suffix("IfExists") {
                Some(word) => (word, true),
                None => (word, false),
            };
            let (operator, is_negated) = operator(word).ok_or_else(|| unknown(name))?;
            let Value::Object(keys) = keys else {
                return Err(malformed(format!("`{name}` has keys with values")));
            };
            for (key, values) in keys {
                let values = match values {
                    Value::Bool(one) => vec![one.to_string()],
                    Value::Number(one) => vec![one.to_string()],
                    values => strings(values, key)?,
                };
                for value in &values {
                    operator.check(value)?;
                }
                all.push(Self {
                    operator,
                    is_negated,
                    if_exists,
                    over,
                    key: key.to_ascii_lowercase(),
                    values,
                });
            }
        }
        Ok(all)
    }

    /// Whether it holds.
    pub(super) fn holds(&self, asking: &Asking<'_>) -> bool {
        let asked = asking.values(&self.key);
        if self.operator == Operator::Null {
            let wants_absence = self.values.iter().any(|value| value == "true");
            return asked.is_empty() == wants_absence;
        }
        if asked.is_empty() {
            // "All of none" is true, "any of none" is not.
            return match self.over {
                Over::All => true,
                Over::Any => self.if_exists,
                Over::Plain => self.if_exists || self.is_negated,
            };
        }
        let wanted: Vec<PolicyPattern> = self
            .values
            .iter()
            .filter_map(|value| filled(value, |key| asking.values(key)))
            .collect();
        let matches = |value: &String| {
            let any = wanted
                .iter()
                .any(|wanted| self.operator.matches(value, wanted));
            any != self.is_negated
        };
        match self.over {
            Over::All => asked.iter().all(matches),
            Over::Any => asked.iter().any(matches),
            // A negated operator without a set operator: no value may match.
            Over::Plain if self.is_negated => asked.iter().all(matches),
            Over::Plain => asked.iter().any(matches),
        }
    }
}

fn unknown(name: &str) -> MalformedPolicy {
    malformed(format!("there is no condition operator `{name}`"))
}

impl Operator {
    /// Whether a policy's value is one that the operator can take.
    fn check(self, value: &str) -> Result<(), MalformedPolicy> {
        let is_right = match self {
            Self::Numeric(_) => value.parse::<f64>().is_ok(),
            Self::Date(_) => instant(value).is_some(),
            Self::Bool | Self::Null => matches!(value, "true" | "false"),
            Self::Address => network(value).is_some(),
            _ => true,
        };
        if is_right {
            Ok(())
        } else {
            Err(malformed(format!(
                "`{value}` is no value that its condition operator can take"
            )))
        }
    }

    fn matches(self, asked: &str, pattern: &PolicyPattern) -> bool {
        let wanted = &*pattern.text();
        match self {
            Self::Equals => asked == wanted,
            Self::EqualsIgnoreCase => asked.to_lowercase() == wanted.to_lowercase(),
            Self::Like => pattern.matches(asked),
            Self::Numeric(order) => both(asked, wanted, |text| text.parse::<f64>().ok())
                .is_some_and(|(a, b)| order.holds(&a, &b)),
            Self::Date(order) => {
                both(asked, wanted, instant).is_some_and(|(a, b)| order.holds(&a, &b))
            }
            Self::Bool => asked.eq_ignore_ascii_case(wanted),
            Self::Address => network(wanted)
                .zip(asked.parse::<IpAddr>().ok())
                .is_some_and(|(network, address)| network.contains(&address)),
            Self::Arn => pattern.matches_arn(asked),
            Self::Null => false,
        }
    }
}

fn both<T>(a: &str, b: &str, read: impl Fn(&str) -> Option<T>) -> Option<(T, T)> {
    read(a).zip(read(b))
}

/// ISO 8601, a bare date, or seconds since 1970.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>()
        && seconds > 9999
    {
        return Timestamp::from_second(seconds).ok();
    }
    let date = |text: &str| format!("{text}T00:00:00Z").parse().ok();
    text.parse().ok().or_else(|| date(text))
}

/// A network in CIDR notation, or one address.
fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
