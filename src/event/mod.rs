//! Events: what happened, in the envelope of EventBridge, to whom a pattern lets it through.

mod deliver;
mod envelope;
mod pattern;
mod send;

pub use deliver::Deliverer;
pub use envelope::{Changes, Envelope, Operation, VersionChange};
pub use pattern::{EventPattern, MalformedPattern};
