//! Origin control: on which side a package's name is, and whether the other side may add to it.

use super::Pattern;
use crate::package::{Origin, PackageId};

/// Whether versions may come that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Allow,
    Block,
}

impl Way {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        }
    }

    /// Reads the word; any word but `ALLOW` blocks.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        if word == "ALLOW" {
            Self::Allow
        } else {
            Self::Block
        }
    }
}

/// Restrictions that the API has set for one package. They hold where no setting names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restrictions {
    pub publish: Way,
    pub upstream: Way,
}

/// A setting for the packages that its patterns name; the first that names one decides.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginRule {
    pub packages: Vec<Pattern>,
    /// For new versions that are published; `None`: the default.
    pub publish: Option<Way>,
    /// For versions from outside; `None`: the default.
    pub upstream: Option<Way>,
    /// The connections that versions from outside may come from; `None`: all.
    pub from: Option<Vec<String>>,
}

/// All settings, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OriginRules(Vec<OriginRule>);

/// The ways by which versions of a package may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginControl<'a> {
    pub publish: Way,
    pub upstream: Way,
    from: Option<&'a [String]>,
}

impl OriginControl<'_> {
    /// Whether versions may come from the connection of that name.
    #[must_use]
    pub fn takes_from(&self, connection: &str) -> bool {
        self.upstream == Way::Allow
            && self
                .from
                .is_none_or(|names| names.iter().any(|name| name == connection))
    }
}

impl OriginRules {
    #[must_use]
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// Whether a setting decides about the package in each way.
    #[must_use]
    pub fn settles(&self, package: &PackageId) -> bool {
        let mut named = self
            .0
            .iter()
            .filter(|rule| rule.packages.iter().any(|pattern| pattern.names(package)));
        named
            .next()
            .is_some_and(|rule| rule.publish.is_some() || rule.upstream.is_some())
    }

    /// The control that is in force for the package. Where no setting says otherwise, a name
    /// belongs to the side on which it was first seen, and one that was seen nowhere is open to
    /// both (the defaults of CodeArtifact's package origin controls).
    #[must_use]
    pub fn control(
        &self,
        package: &PackageId,
        said: Option<Restrictions>,
        seen: Option<Origin>,
    ) -> OriginControl<'_> {
        let rule = self
            .0
            .iter()
            .find(|rule| rule.packages.iter().any(|pattern| pattern.names(package)));
        let by_default = |closed_to| {
            if seen == Some(closed_to) {
                Way::Block
            } else {
                Way::Allow
            }
        };
        OriginControl {
            publish: rule
                .and_then(|rule| rule.publish)
                .or(said.map(|said| said.publish))
                .unwrap_or_else(|| by_default(Origin::External)),
            upstream: rule
                .and_then(|rule| rule.upstream)
                .or(said.map(|said| said.upstream))
                .unwrap_or_else(|| by_default(Origin::Internal)),
            from: rule.and_then(|rule| rule.from.as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Format;

    #[test]
    fn a_name_belongs_to_the_side_that_had_it_first_unless_a_setting_says_otherwise() {
        let rules = OriginRules::new(vec![
            OriginRule {
                packages: vec![Pattern::parse("npm:@acme/*").unwrap()],
                publish: None,
                upstream: Some(Way::Block),
                from: None,
            },
            OriginRule {
                packages: vec![Pattern::parse("npm:shared").unwrap()],
                publish: Some(Way::Allow),
                upstream: Some(Way::Allow),
                from: Some(vec!["private".to_owned()]),
            },
        ]);
        use Way::{Allow, Block};
        for (name, seen, publish, upstream) in [
            ("left-pad", None, Allow, Allow),
            ("left-pad", Some(Origin::External), Block, Allow),
            ("left-pad", Some(Origin::Internal), Allow, Block),
            ("@acme/lib", None, Allow, Block),
            ("@acme/lib", Some(Origin::Internal), Allow, Block),
            ("shared", Some(Origin::Internal), Allow, Allow),
            ("shared", Some(Origin::External), Allow, Allow),
        ] {
            let package = Format::Npm.protocol().package(name).unwrap();
            let control = rules.control(&package, None, seen);
            assert_eq!(
                (control.publish, control.upstream),
                (publish, upstream),
                "{name} {seen:?}"
            );
            let said = Restrictions {
                publish: Block,
                upstream: Allow,
            };
            let restricted = rules.control(&package, Some(said), seen);
            assert_eq!(
                (restricted.publish, restricted.upstream),
                match name {
                    "left-pad" => (Block, Allow),
                    "shared" => (Allow, Allow),
                    _ => (Block, Block),
                },
                "{name}: what a setting says goes before what the API was told"
            );
            assert_eq!(control.takes_from("private"), upstream == Allow);
            assert_eq!(
                control.takes_from("public"),
                upstream == Allow && name != "shared"
            );
        }
    }
}
