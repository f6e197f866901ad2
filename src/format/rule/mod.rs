//! Allow, deny, wait: one decision about a package version, asked at every door. Pure.

mod decide;
mod group;
mod origin;
mod pattern;

pub use decide::{Action, Concern, Rule, RuleDecision, RuleQuestion, Rules, Ruling, coarse};
pub use group::{
    Association, Entrance, Group, GroupPattern, Groups, Mode, NoPattern, Settings, WayIn,
};
pub use origin::{OriginControl, OriginRule, OriginRules, Restrictions, Way};
pub use pattern::{Pattern, PatternError};
