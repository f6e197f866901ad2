//! Counters for `/-/metrics`, in Prometheus' (OpenMetrics') text form.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::Histogram;
use super::ledger::Ledger;
use super::upstreams::Upstreams;
use super::work::Failures;

/// The labels of an answer's counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AnswerLabels {
    pub format: &'static str,
    /// `hit`, `miss`, `stale`, …, or the kind of a problem.
    pub outcome: &'static str,
    pub status: u16,
}

/// The labels of the counter of requests to upstreams.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FetchLabels {
    pub connection: String,
    /// `found`, `absent`, `throttled`, …
    pub outcome: String,
}

/// The labels of a connection's counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConnectionLabels {
    pub connection: String,
}

/// The labels of a task's gauges.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TaskLabels {
    pub task: String,
}

/// The labels of the prefetch counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AheadLabels {
    /// `fetched`, then `used` or `wasted`.
    pub outcome: &'static str,
}

/// All of Larder's counters.
pub struct Metrics {
    registry: Registry,
    pub answers: Family<AnswerLabels, Counter>,
    pub served_bytes: Counter,
    pub fetched_bytes: Counter,
    pub fetches: Family<FetchLabels, Counter>,
    pub ahead: Family<AheadLabels, Counter>,
    pub unverified: Counter,
    pub no_documents: Family<ConnectionLabels, Counter>,
    pub seconds: Histogram,
    pub open_sockets: Gauge,
    /// 1 while nothing new is kept.
    pub not_keeping: Gauge,
    /// 1 while the database of packages takes nothing.
    pub database_away: Gauge,
    /// When the last backup was made, in seconds since 1970; 0 where there is none.
    pub last_backup: Gauge,
    /// When each task ended last, in seconds since 1970; 0 where it never did.
    pub task_ends: Family<TaskLabels, Gauge>,
    /// When each task ended well last; 0 where it never did.
    pub task_successes: Family<TaskLabels, Gauge>,
    /// How long each task took last.
    pub task_seconds: Family<TaskLabels, Gauge<f64, AtomicU64>>,
    pub panics: Counter,
    /// Records that the audit's file did not take.
    pub audit_missed: Counter,
    pub upstreams: Upstreams,
    /// Counts that are written down day by day.
    pub ledger: Ledger,
    /// Failures since Larder began.
    pub failures: Failures,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let metrics = Self {
            answers: Family::default(),
            served_bytes: Counter::default(),
            fetched_bytes: Counter::default(),
            fetches: Family::default(),
            ahead: Family::default(),
            unverified: Counter::default(),
            no_documents: Family::default(),
            seconds: Histogram::default(),
            open_sockets: Gauge::default(),
            not_keeping: Gauge::default(),
            database_away: Gauge::default(),
            last_backup: Gauge::default(),
            task_ends: Family::default(),
            task_successes: Family::default(),
            task_seconds: Family::default(),
            panics: Counter::default(),
            audit_missed: Counter::default(),
            upstreams: Upstreams::default(),
            ledger: Ledger::default(),
            failures: Failures::default(),
            registry: Registry::default(),
        };
        registry.register("answers", "Answers to clients", metrics.answers.clone());
        registry.register_with_unit(
            "served",
            "Body bytes sent to clients",
            Unit::Bytes,
            metrics.served_bytes.clone(),
        );
        registry.register_with_unit(
            "fetched",
            "Body bytes received from upstreams",
            Unit::Bytes,
            metrics.fetched_bytes.clone(),
        );
        registry.register("fetches", "Requests to upstreams", metrics.fetches.clone());
        registry.register(
            "ahead",
            "Documents fetched ahead of the client, and what became of them",
            metrics.ahead.clone(),
        );
        registry.register(
            "unverified",
            "Downloads that were not what upstream promised",
            metrics.unverified.clone(),
        );
        registry.register(
            "no_documents",
            "Answers of upstreams that were no document of what was asked for",
            metrics.no_documents.clone(),
        );
        registry.register_with_unit(
            "answer",
            "Time from a request's head to its answer's end",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "open_sockets",
            "Sockets of clients",
            metrics.open_sockets.clone(),
        );
        registry.register(
            "not_keeping",
            "1 while nothing new is kept, because the disk is full or takes nothing",
            metrics.not_keeping.clone(),
        );
        registry.register(
            "database_away",
            "1 while the database of packages does not answer, takes no changes, or another Larder uses it",
            metrics.database_away.clone(),
        );
        registry.register_with_unit(
            "last_backup_timestamp",
            "When the last backup was made; 0 where there is none",
            Unit::Seconds,
            metrics.last_backup.clone(),
        );
        registry.register_with_unit(
            "task_last_end_timestamp",
            "When the task ended last; 0 where it never did",
            Unit::Seconds,
            metrics.task_ends.clone(),
        );
        registry.register_with_unit(
            "task_last_success_timestamp",
            "When the task ended well last; 0 where it never did",
            Unit::Seconds,
            metrics.task_successes.clone(),
        );
        registry.register_with_unit(
            "task_last_run",
            "How long the task took last",
            Unit::Seconds,
            metrics.task_seconds.clone(),
        );
        registry.register(
            "panics",
            "Requests that ended in a panic",
            metrics.panics.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines that standard error did not take, or not soon enough",
            super::log::dropped(),
        );
        registry.register(
            "audit_records_missed",
            "Records that the file of the audit did not take in time; they are in the log",
            metrics.audit_missed.clone(),
        );
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// The text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
