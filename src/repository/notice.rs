//! The sentence for clients about versions that rules hide in a document.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::BuildHasher as _;

use jiff::Timestamp;

use crate::format::counted;
use crate::package::PackageId;
use crate::rule::{RuleDecision, Ruling};

/// A notice is sent as a header, within what every server and client takes.
const NOTICE_BYTES_MAX: usize = 300;
/// Longer names are left out of a notice.
const NAME_BYTES_MAX: usize = 64;

/// The versions that rules hide in a document.
#[derive(Default)]
pub(super) struct HeldVersions {
    /// By their hashes: there may be a million, and they are only counted.
    versions: HashSet<u64>,
    hasher: foldhash::quality::RandomState,
    newest: Option<Held>,
}

struct Held {
    version: String,
    rule: String,
    opens: Option<Timestamp>,
}

impl HeldVersions {
    /// Adds a version that is not shown.
    pub fn add(&mut self, package: &PackageId, version: &str, decision: &RuleDecision<'_>) {
        let Ruling::Denied { opens, .. } = decision.ruling else {
            return;
        };
        if !self.versions.insert(self.hasher.hash_one(version)) {
            return;
        }
        let protocol = package.format().protocol();
        let is_newest = self.newest.as_ref().is_none_or(|newest| {
            protocol.compare_choice(version, &newest.version) == Ordering::Greater
        });
        if is_newest {
            self.newest = Some(Held {
                version: version.to_owned(),
                rule: decision
                    .rule
                    .map_or_else(String::new, |rule| rule.name.clone()),
                opens,
            });
        }
    }

    /// The sentence for the client: how much is held, by which rule and until when, and what to do; in
    /// ASCII, at most [`NOTICE_BYTES_MAX`]. `None` where nothing is held.
    pub fn notice(&self, package: &PackageId) -> Option<String> {
        let newest = self.newest.as_ref()?;
        let name = plain(&package.full_name())
            .unwrap_or("this package")
            .to_owned();
        let version = plain(&newest.version);
        let rule =
            plain(&newest.rule).map_or_else(|| "a rule".to_owned(), |it| format!("rule \"{it}\""));
        let until = newest.opens.map_or_else(String::new, |opens| {
            opens.strftime(" (until %-d %b %Y, %H:%M UTC)").to_string()
        });
        let count = counted(self.versions.len(), "version");
        let held = match (self.versions.len(), version) {
            (1, Some(version)) => format!("{name} {version} is held back by {rule}{until}"),
            (1, None) => format!("{count} of {name} is held back by {rule}{until}"),
            (_, Some(version)) => {
                format!("{count} of {name} are held back, the newest, {version}, by {rule}{until}")
            }
            (_, None) => format!("{count} of {name} are held back, the newest by {rule}{until}"),
        };
        let id = package.to_string();
        let advice = plain(&id).map(|id| format!("{held}; run \"larder who-decides {id}\""));
        let notice = advice.filter(|it| it.len() <= NOTICE_BYTES_MAX);
        Some(notice.unwrap_or(held))
    }
}

/// A name that a header, a page and a shell take as it is.
fn plain(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" @/:._+-".contains(&byte);
    (!name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Format;
    use crate::rule::{Action, Rule};

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            action: Action::Deny,
            packages: Vec::new(),
            reason: None,
            expires: None,
            min_age: None,
            not_after: None,
        }
    }

    fn notice(name: &str, by: &str, versions: &[&str], opens: Option<&str>) -> Option<String> {
        let package = Format::Npm.protocol().package(name).unwrap();
        let rule = rule(by);
        let mut held = HeldVersions::default();
        for version in versions {
            let decision = RuleDecision {
                rule: Some(&rule),
                ruling: Ruling::Denied {
                    why: String::new(),
                    opens: opens.map(|opens| opens.parse().unwrap()),
                },
            };
            held.add(&package, version, &decision);
        }
        held.notice(&package)
    }

    #[test]
    fn a_notice_names_the_newest_version_its_rule_and_its_date() {
        let opens = Some("2026-12-03T14:00:00Z");
        for (versions, opens, said) in [
            (
                ["1.10.0"].as_slice(),
                opens,
                "left-pad 1.10.0 is held back by rule \"quarantine\" (until 3 Dec 2026, 14:00 UTC); run \"larder who-decides npm:left-pad\"",
            ),
            (
                &["1.9.0", "1.10.0", "1.2.0", "1.9.0", "2.0.0-beta"],
                None,
                "4 versions of left-pad are held back, the newest, 1.10.0, by rule \"quarantine\"; run \"larder who-decides npm:left-pad\"",
            ),
        ] {
            assert_eq!(
                notice("left-pad", "quarantine", versions, opens).unwrap(),
                said
            );
        }
        assert_eq!(notice("left-pad", "quarantine", &[], None), None);
    }

    #[test]
    fn names_of_others_can_neither_break_a_header_nor_lengthen_it() {
        for (rule, version) in [
            ("quar\u{e4}ntane", "1.0.0\r\nset-cookie: x"),
            ("a\"b", "1.0.0\u{2028}"),
            (&*"x".repeat(500), &*"1".repeat(500)),
            (&*"x".repeat(64), &*"1".repeat(64)),
        ] {
            let name = "n".repeat(64);
            for name in ["left-pad", &name] {
                let said = notice(
                    name,
                    rule,
                    &[version, "0.1.0"],
                    Some("2026-09-13T14:00:00Z"),
                )
                .unwrap();
                assert!(said.len() <= NOTICE_BYTES_MAX, "{said}");
                assert!(
                    said.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn advice_that_does_not_fit_into_a_notice_is_left_out() {
        // With its format before it, it is as long as a name may be.
        let name = "n".repeat(NAME_BYTES_MAX - "npm:".len());
        let opens = Some("2026-09-13T14:00:00Z");
        let version = format!("1.0.0-{}", "v".repeat(40));
        let of = |rule: usize| notice(&name, &"r".repeat(rule), &[&version], opens).unwrap();
        let fits = 1 + NOTICE_BYTES_MAX - of(1).len();
        let (with, without) = (of(fits), of(fits + 1));
        assert_eq!(with.len(), NOTICE_BYTES_MAX);
        assert!(with.contains("larder who-decides"), "{with}");
        assert!(!without.contains("larder who-decides"), "{without}");
        assert!(without.contains("is held back by rule"), "{without}");
    }
}
