//! Writes the log, the metrics and the audit.

mod audit;
mod histogram;
mod ledger;
mod lines;
pub mod log;
mod metrics;
mod runs;
pub mod terminal;
mod upstreams;

pub use audit::{Audit, Record};
pub use ledger::{Egress, Ledger, LedgerPage, PulledVersion, Traffic, Who};
pub use metrics::{AheadLabels, AnswerLabels, FetchLabels, Metrics};
pub use runs::{ClosingReport, GRANT_HEADER, PublishGrant, RUN_TAG, Run, RunReport, Runs};
pub use upstreams::UpstreamChange;
