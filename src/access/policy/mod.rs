//! Resource policies in the JSON of AWS IAM, and what they decide.
//!
//! The language is that of the IAM user guide, "IAM JSON policy elements reference" and "Policy
//! evaluation logic". No kept crate evaluates it for resource policies with their principals.

#[cfg(test)]
mod cases;
mod condition;
mod document;
mod evaluate;
mod known;
mod pattern;

pub use document::{Effect, MalformedPolicy, Policy};
pub use evaluate::{
    Attached, Circumstances, PolicyDecision, PolicyQuestion, ResourceReach, Why, decide,
};
pub use known::KnownNames;
pub use pattern::PolicyPattern;
