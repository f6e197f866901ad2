//! Origin control: on which side a package's name is, and whether the other side may add to it.

use super::Pattern;
use crate::package::{Origin, PackageId};

/// Whether versions may come that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Allow,
    Block,
}

/// A setting for the packages that its patterns name; the first that names one decides.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginRule {
    pub packages: Vec<Pattern>,
    /// Of new versions by a publish; `None`: by the default.
    pub publish: Option<Way>,
    /// Of versions from outside; `None`: by the default.
    pub upstream: Option<Way>,
}

/// All settings, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OriginRules(Vec<OriginRule>);

/// What may be done to a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub publish: Way,
    pub upstream: Way,
}

impl OriginRules {
    #[must_use]
    pub fn new(rules: Vec<OriginRule>) -> Self {
        Self(rules)
    }

    /// What holds for the package. Where no setting says otherwise, a name belongs to the side on
    /// which it was first seen, and one that was seen nowhere is open to both (the defaults of
    /// CodeArtifact's package origin controls).
    #[must_use]
    pub fn control(&self, package: &PackageId, seen: Option<Origin>) -> Control {
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
        Control {
            publish: rule
                .and_then(|rule| rule.publish)
                .unwrap_or_else(|| by_default(Origin::External)),
            upstream: rule
                .and_then(|rule| rule.upstream)
                .unwrap_or_else(|| by_default(Origin::Internal)),
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
            },
            OriginRule {
                packages: vec![Pattern::parse("npm:shared").unwrap()],
                publish: Some(Way::Allow),
                upstream: Some(Way::Allow),
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
            assert_eq!(
                rules.control(&package, seen),
                Control { publish, upstream },
                "{name} {seen:?}"
            );
        }
    }
}
