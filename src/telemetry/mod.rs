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
mod work;

pub use audit::{Audit, Record};
pub use ledger::{Egress, Ledger, LedgerPage, PulledVersion, Who};
pub use metrics::{AheadLabels, AnswerLabels, ConnectionLabels, FetchLabels, Metrics, TaskLabels};
pub use runs::{
    ClosingReport, GRANT_HEADER, LEASE_LASTS, PublishGrant, RUN_TAG, Run, RunLease, Runs,
};
pub use upstreams::UpstreamChange;
pub use work::{AnswerCount, AnswerSource, Counters, Failures, SinceStart, WorkReport};
