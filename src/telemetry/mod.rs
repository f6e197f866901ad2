//! Writes the log, the metrics and the audit.

mod audit;
mod histogram;
mod ledger;
mod lines;
pub mod log;
mod metrics;
mod runs;
mod upstreams;

pub use audit::{Audit, Record};
pub use ledger::{Egress, Ledger, Page, Pulled, Traffic, Who};
pub use metrics::{AheadLabels, AnswerLabels, FetchLabels, Metrics};
pub use runs::{GRANT_HEADER, PublishGrant, RUN_TAG, Report, Run, RunReport, Runs};
pub use upstreams::Turn;
