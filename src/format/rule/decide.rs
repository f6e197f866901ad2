//! The decision.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::Pattern;
use crate::counted;
use crate::package::{Origin, PackageId};
use crate::problem::{Decider, Problem};

/// The effect of a rule on the versions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
}

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How log, errors and explanations call it.
    pub name: String,
    pub action: Action,
    pub packages: Vec<Pattern>,
    pub reason: Option<String>,
    /// From then on the rule is as if it were not there.
    pub expires: Option<Timestamp>,
    /// Versions younger than this are held back.
    pub min_age: Option<Duration>,
    /// Versions published later than this are held back.
    pub not_after: Option<Timestamp>,
}

impl Rule {
    fn in_force(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn needs_dates(&self) -> bool {
        self.min_age.is_some() || self.not_after.is_some()
    }

    fn because(&self) -> String {
        self.reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"))
    }
}

/// The version that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct RuleQuestion<'a> {
    pub package: &'a PackageId,
    pub version: &'a str,
    pub published: Option<Timestamp>,
    /// A version that was published here waits for no date.
    pub origin: Origin,
}

/// How much of a document the rules have to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    pub versions: bool,
    pub dates: bool,
}

/// Allowed, or held back and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    Allowed,
    Denied {
        why: String,
        /// When the version opens by itself.
        opens: Option<Timestamp>,
    },
}

impl Ruling {
    /// Why it is held back, and until when; none where it is not.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let Self::Denied { why, opens } = self else {
            return None;
        };
        Some(match opens {
            Some(opens) => {
                let opens = opens.strftime("%-d %B %Y, %H:%M UTC");
                format!("{why}. It opens on {opens}")
            }
            None => why.clone(),
        })
    }
}

/// A ruling and the rule that made it; none where no rule matched.
#[derive(Clone, Debug)]
pub struct RuleDecision<'a> {
    pub rule: Option<&'a Rule>,
    pub ruling: Ruling,
}

impl RuleDecision<'_> {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.ruling == Ruling::Allowed
    }

    /// # Errors
    /// The refusal as the client reads it, where the ruling is one.
    pub fn permit(&self, question: &RuleQuestion<'_>) -> Result<(), Problem> {
        let Some(reason) = self.ruling.reason() else {
            return Ok(());
        };
        let rule = self.rule.map_or("", |rule| rule.name.as_str());
        let message = format!(
            "{} {} is held back by rule \"{rule}\": {reason}",
            question.package.full_name(),
            question.version
        );
        Err(
            Problem::denied(Decider::Rule(rule.to_owned()), message).advice(
                "choose another version, or have an allow rule for this one put before that rule",
            ),
        )
    }
}

/// All rules, in order: the first that matches decides, and what none matches is allowed.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    fingerprint: [u8; 32],
}

impl Rules {
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for rule in &rules {
            part(&rule.name);
            part(match rule.action {
                Action::Allow => "allow",
                Action::Deny => "deny",
            });
            part(rule.reason.as_deref().unwrap_or_default());
            for instant in [rule.expires, rule.not_after] {
                part(&instant.map(|it| it.to_string()).unwrap_or_default());
            }
            let age = rule.min_age.map(|age| age.as_nanos().to_string());
            part(&age.unwrap_or_default());
            for pattern in &rule.packages {
                part(&pattern.to_string());
            }
            part("");
        }
        let fingerprint = hash.finalize().into();
        Self { rules, fingerprint }
    }

    /// Another wherever the rules decide otherwise or say something else.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The facts that rules need to decide about any version of the package.
    #[must_use]
    pub fn concern(&self, package: &PackageId, now: Timestamp) -> Concern {
        let mut concern = Concern::default();
        for rule in self.rules.iter().filter(|rule| rule.in_force(now)) {
            let naming: Vec<_> = rule
                .packages
                .iter()
                .filter(|pattern| pattern.names(package))
                .collect();
            if naming.is_empty() {
                continue;
            }
            let plain_allow = rule.action == Action::Allow && !rule.needs_dates();
            let all_versions = naming.iter().any(|pattern| !pattern.has_range());
            if plain_allow && all_versions {
                // Nothing behind it is reached for this package.
                break;
            }
            concern.versions |= !plain_allow;
            concern.dates |= rule.needs_dates();
            if all_versions {
                break;
            }
        }
        concern
    }

    /// Whether all versions of the package are denied by name, so that even a list of names
    /// leaves it out.
    #[must_use]
    pub fn denies_name(&self, package: &PackageId, now: Timestamp) -> bool {
        self.name_denied_by(package, now).is_some()
    }

    /// Lets the name through unless all its versions are denied: nobody outside is asked for what
    /// is refused whatever they say.
    ///
    /// # Errors
    /// The refusal as the client reads it.
    pub fn permit_name(&self, package: &PackageId, now: Timestamp) -> Result<(), Problem> {
        let Some((rule, why)) = self.name_refusal(package, now) else {
            return Ok(());
        };
        let name = package.full_name();
        let message = format!("{name} is held back by rule \"{}\": {why}", rule.name);
        Err(
            Problem::denied(Decider::Rule(rule.name.clone()), message).advice(
                "choose another package, or have an allow rule for this one put before that rule",
            ),
        )
    }

    /// The rule that denies all versions of the package by name, and its reason.
    #[must_use]
    pub fn name_refusal(&self, package: &PackageId, now: Timestamp) -> Option<(&Rule, &str)> {
        let rule = self.name_denied_by(package, now)?;
        Some((rule, rule.reason.as_deref().unwrap_or("denied")))
    }

    fn name_denied_by(&self, package: &PackageId, now: Timestamp) -> Option<&Rule> {
        for rule in self.rules.iter().filter(|rule| rule.in_force(now)) {
            for pattern in rule
                .packages
                .iter()
                .filter(|pattern| pattern.names(package))
            {
                if rule.action == Action::Allow {
                    return None;
                }
                if !pattern.has_range() {
                    return Some(rule);
                }
            }
        }
        None
    }

    #[must_use]
    pub fn decide(&self, question: &RuleQuestion<'_>, now: Timestamp) -> RuleDecision<'_> {
        for rule in self.rules.iter().filter(|rule| rule.in_force(now)) {
            for pattern in rule
                .packages
                .iter()
                .filter(|pattern| pattern.names(question.package))
            {
                let ruling = match pattern.takes(question.package, question.version) {
                    Some(false) => continue,
                    Some(true) => rule_on(rule, question, now),
                    // An exception that cannot be read is no exception; a denial that cannot be
                    // read is one.
                    None if rule.action == Action::Allow => continue,
                    None => Ruling::Denied {
                        why: format!("the version cannot be compared with `{pattern}`"),
                        opens: None,
                    },
                };
                return RuleDecision {
                    rule: Some(rule),
                    ruling,
                };
            }
        }
        RuleDecision {
            rule: None,
            ruling: Ruling::Allowed,
        }
    }

    /// The next instant after `now` at which a rule falls away.
    #[must_use]
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        self.rules
            .iter()
            .filter_map(|rule| rule.expires)
            .filter(|expires| *expires > now)
            .min()
    }
}

fn rule_on(rule: &Rule, question: &RuleQuestion<'_>, now: Timestamp) -> Ruling {
    let denied = |why: String, opens| Ruling::Denied { why, opens };
    if rule.action == Action::Deny {
        let why = rule.reason.clone().unwrap_or_else(|| "denied".to_owned());
        return denied(why, None);
    }
    if !rule.needs_dates() || question.origin == Origin::Internal {
        return Ruling::Allowed;
    }
    let Some(published) = question.published else {
        return denied(
            format!(
                "its publish date is not known, and the rule asks for one{}",
                rule.because()
            ),
            None,
        );
    };
    if let Some(not_after) = rule.not_after
        && published > not_after
    {
        return denied(
            format!(
                "published on {published}, and the rule allows nothing that was published after {not_after}{}",
                rule.because()
            ),
            None,
        );
    }
    if let Some(min_age) = rule.min_age {
        let opens = SignedDuration::try_from(min_age)
            .ok()
            .and_then(|min_age| published.checked_add(min_age).ok());
        if opens.is_none_or(|opens| now < opens) {
            let age = Duration::try_from(now.duration_since(published)).unwrap_or_default();
            return denied(
                format!(
                    "published {} ago, and the rule holds versions back for {}{}",
                    coarse(age),
                    exact(min_age),
                    rule.because()
                ),
                opens,
            );
        }
    }
    Ruling::Allowed
}

/// A duration in its largest unit, rounded down: `4 hours`.
#[must_use]
pub fn coarse(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => counted(seconds, "second"),
        60..3600 => counted(seconds / 60, "minute"),
        3600..172_800 => counted(seconds / 3600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}

/// A duration in the largest unit that it is a multiple of: `900 days`, `36 hours`.
fn exact(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        _ if seconds.is_multiple_of(86_400) => counted(seconds / 86_400, "day"),
        _ if seconds.is_multiple_of(3600) => counted(seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) => counted(seconds / 60, "minute"),
        _ => counted(seconds, "second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Format;

    fn rule(name: &str, action: Action, packages: &[&str]) -> Rule {
        Rule {
            name: name.to_owned(),
            action,
            packages: packages
                .iter()
                .map(|text| Pattern::parse(text).unwrap())
                .collect(),
            reason: None,
            expires: None,
            min_age: None,
            not_after: None,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rules() -> Rules {
        Rules::new(vec![
            Rule {
                expires: Some(at("2026-06-01T00:00:00Z")),
                ..rule("break-glass", Action::Allow, &["npm:left-pad@1.3.0"])
            },
            Rule {
                reason: Some("known bad".to_owned()),
                ..rule("bad", Action::Deny, &["npm:@evil/*", "npm:left-pad@<1.0.0"])
            },
            Rule {
                min_age: Some(Duration::from_secs(3 * 86_400)),
                not_after: Some(at("2026-12-01T00:00:00Z")),
                ..rule("quarantine", Action::Allow, &["npm:*"])
            },
        ])
    }

    fn npm(name: &str) -> PackageId {
        Format::Npm.protocol().package(name).unwrap()
    }

    #[test]
    fn the_first_match_decides() {
        let now = at("2026-05-10T00:00:00Z");
        for (name, version, published, decider, allowed) in [
            ("left-pad", "1.3.0", None, "break-glass", true),
            (
                "left-pad",
                "0.9.0",
                Some("2014-01-01T00:00:00Z"),
                "bad",
                false,
            ),
            (
                "@evil/x",
                "1.0.0",
                Some("2014-01-01T00:00:00Z"),
                "bad",
                false,
            ),
            (
                "left-pad",
                "1.4.0",
                Some("2026-05-09T00:00:00Z"),
                "quarantine",
                false,
            ),
            (
                "left-pad",
                "1.4.0",
                Some("2026-05-06T00:00:00Z"),
                "quarantine",
                true,
            ),
            ("left-pad", "1.4.0", None, "quarantine", false),
        ] {
            let package = npm(name);
            let question = RuleQuestion {
                package: &package,
                version,
                published: published.map(at),
                origin: Origin::External,
            };
            let rules = rules();
            let decision = rules.decide(&question, now);
            assert_eq!(decision.rule.unwrap().name, decider, "{name} {version}");
            assert_eq!(decision.is_allowed(), allowed, "{name} {version}");
        }
    }

    #[test]
    fn an_exception_ends_with_its_expiry() {
        let package = npm("left-pad");
        let question = RuleQuestion {
            package: &package,
            version: "1.3.0",
            published: None,
            origin: Origin::External,
        };
        let rules = rules();
        assert!(
            !rules
                .decide(&question, at("2026-06-01T00:00:00Z"))
                .is_allowed()
        );
        assert_eq!(
            rules.next_expiry(at("2026-05-01T00:00:00Z")),
            Some(at("2026-06-01T00:00:00Z"))
        );
    }

    #[test]
    fn a_refusal_says_who_why_and_until_when() {
        let package = npm("left-pad");
        let question = RuleQuestion {
            package: &package,
            version: "1.4.0",
            published: Some(at("2026-05-09T20:00:00Z")),
            origin: Origin::External,
        };
        let rules = rules();
        let problem = rules
            .decide(&question, at("2026-05-10T00:00:00Z"))
            .permit(&question)
            .unwrap_err();
        assert!(
            problem.sentence().starts_with(
                "left-pad 1.4.0 is held back by rule \"quarantine\": published 4 hours ago, and the rule holds versions back for 3 days. It opens on 12 May 2026"
            ),
            "{problem}"
        );
    }

    #[test]
    fn a_rules_time_is_said_as_it_was_written() {
        for (seconds, said) in [
            (86_400, "1 day"),
            (900 * 86_400, "900 days"),
            (36 * 3600, "36 hours"),
            (90 * 60, "90 minutes"),
            (61, "61 seconds"),
        ] {
            assert_eq!(exact(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn packages_that_no_rule_names_concern_none() {
        let now = at("2026-05-10T00:00:00Z");
        let other = Format::Pypi.protocol().package("requests").unwrap();
        assert_eq!(rules().concern(&other, now), Concern::default());
        let by_name = rules().concern(&npm("@evil/x"), now);
        assert_eq!(
            by_name,
            Concern {
                versions: true,
                dates: false
            }
        );
        let dated = rules().concern(&npm("left-pad"), now);
        assert_eq!(
            dated,
            Concern {
                versions: true,
                dates: true
            }
        );
        assert!(rules().denies_name(&npm("@evil/x"), now));
        assert!(!rules().denies_name(&npm("left-pad"), now));
    }
}
