//! Allow, deny, wait: one decision about a package version, asked at every door. Pure.

mod decide;
mod group;
mod origin;
mod pattern;

pub use decide::{Action, Concern, Decision, Question, Rule, Rules, Ruling};
pub use group::{
    Association, Entrance, Entry, Group, GroupPattern, Groups, Mode, NoPattern, Settings,
};
pub use origin::{Control, OriginRule, OriginRules, Restrictions, Way};
pub use pattern::{Pattern, PatternError};
