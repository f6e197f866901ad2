//! Tells targets what happened, in EventBridge's envelope. A target's pattern decides which
//! events it gets.

mod deliver;
mod envelope;
mod pattern;
mod refusal;
mod send;

pub use deliver::Deliverer;
pub use envelope::{Changes, Envelope, Operation, VersionChange};
pub use pattern::{EventPattern, MalformedPattern};
pub use refusal::ToldRefusals;
