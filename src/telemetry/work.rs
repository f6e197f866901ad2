//! Counts what was done for clients, by one `larder run` or since this Larder began, and remembers
//! what failed first.

use std::ops::{AddAssign, Sub};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::problem::{Decider, Kind, Problem};

/// Longer accounts of a failure are cut.
const FAILURE_CHARS_MAX: usize = 300;

/// Where an answer's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerSource {
    /// They were here before anybody asked.
    Here { saved_ms: u64 },
    /// The client waited for a registry, also where a prefetch had asked it first.
    Fetched,
    /// Larder's own words.
    Own,
}

/// The counted properties of one answer.
#[derive(Clone, Copy, Debug)]
pub struct AnswerCount {
    pub bytes: u64,
    pub source: AnswerSource,
    pub is_failure: bool,
}

/// Counters of answers. They only grow.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    hits: AtomicU64,
    failures: AtomicU64,
    served_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    saved_bytes: AtomicU64,
    saved_ms: AtomicU64,
}

impl Counters {
    pub fn add(&self, answer: AnswerCount) {
        let add = |counter: &AtomicU64, count| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        add(&self.requests, 1);
        add(&self.served_bytes, answer.bytes);
        if answer.is_failure {
            add(&self.failures, 1);
        }
        match answer.source {
            AnswerSource::Here { saved_ms } => {
                add(&self.hits, 1);
                add(&self.saved_bytes, answer.bytes);
                add(&self.saved_ms, saved_ms);
            }
            AnswerSource::Fetched => add(&self.fetched_bytes, answer.bytes),
            AnswerSource::Own => {}
        }
    }

    #[must_use]
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            hits: read(&self.hits),
            failures: read(&self.failures),
            served_bytes: read(&self.served_bytes),
            fetched_bytes: read(&self.fetched_bytes),
            saved_bytes: read(&self.saved_bytes),
            saved_ms: read(&self.saved_ms),
        }
    }
}

/// The counters, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    pub hits: u64,
    /// Requests that were refused or failed.
    pub failures: u64,
    /// Bytes sent to clients.
    pub served_bytes: u64,
    /// Bytes that came from registries.
    pub fetched_bytes: u64,
    /// Bytes of hits, which no registry had to send again.
    pub saved_bytes: u64,
    /// Milliseconds that clients would have waited for them.
    pub saved_ms: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            hits: self.hits - earlier.hits,
            failures: self.failures - earlier.failures,
            served_bytes: self.served_bytes - earlier.served_bytes,
            fetched_bytes: self.fetched_bytes - earlier.fetched_bytes,
            saved_bytes: self.saved_bytes - earlier.saved_bytes,
            saved_ms: self.saved_ms - earlier.saved_ms,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.hits += more.hits;
        self.failures += more.failures;
        self.served_bytes += more.served_bytes;
        self.fetched_bytes += more.fetched_bytes;
        self.saved_bytes += more.saved_bytes;
        self.saved_ms += more.saved_ms;
    }
}

/// The first failure, and how much rules refused.
#[derive(Debug, Default)]
pub struct Failures {
    refused_by_rules: AtomicU64,
    first: OnceLock<String>,
    /// Clients ask for much that there is not; it is named where nothing else failed.
    first_absent: OnceLock<String>,
    /// The notice of the first document that showed less than there is.
    first_held: OnceLock<String>,
}

impl Failures {
    /// Notes a request that failed; `what` is the package or file that it asked for.
    pub fn note(&self, what: &str, problem: &Problem) {
        if matches!(
            (problem.kind, &problem.decider),
            (Kind::Denied, Decider::Rule(_))
        ) {
            self.refused_by_rules.fetch_add(1, Ordering::Relaxed);
        }
        let first = match problem.kind {
            Kind::NotFound => &self.first_absent,
            _ => &self.first,
        };
        first.get_or_init(|| in_short(what, problem));
    }

    /// Notes that rules hid versions in a document; `notice` is the document's sentence about it.
    pub fn note_held(&self, notice: &str) {
        self.first_held.get_or_init(|| notice.to_owned());
    }

    /// Adds what was counted beside it.
    #[must_use]
    pub fn report(&self, counts: Counts) -> WorkReport {
        let first = self.first.get().or_else(|| self.first_absent.get());
        WorkReport {
            counts,
            refused_by_rules: self.refused_by_rules.load(Ordering::Relaxed),
            first_failure: first.cloned(),
            first_held: self.first_held.get().cloned(),
        }
    }
}

/// One line that says what failed, who decided it, and why.
fn in_short(what: &str, problem: &Problem) -> String {
    let said = match &problem.decider {
        // A rule's refusal names the package, the version and the rule.
        Decider::Rule(_) => problem.message.clone(),
        decider => format!("{what}: {} ({decider})", problem.message),
    };
    let printable = said
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it });
    printable.take(FAILURE_CHARS_MAX).collect()
}

/// The work of a Larder since it began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SinceStart {
    pub since: Timestamp,
    #[serde(flatten)]
    pub work: WorkReport,
}

/// The work done for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkReport {
    #[serde(flatten)]
    pub counts: Counts,
    /// Files and packages that rules refused.
    pub refused_by_rules: u64,
    /// The first request that failed, and why.
    pub first_failure: Option<String>,
    /// The notice of the first document that showed less than there is.
    pub first_held: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_saves_its_bytes_and_its_waiting() {
        let counters = Counters::default();
        let before = counters.read();
        for (bytes, source, is_failure) in [
            (100, AnswerSource::Here { saved_ms: 30 }, false),
            (10, AnswerSource::Fetched, false),
            (1, AnswerSource::Own, true),
        ] {
            counters.add(AnswerCount {
                bytes,
                source,
                is_failure,
            });
        }
        let expected = Counts {
            requests: 3,
            hits: 1,
            failures: 1,
            served_bytes: 111,
            fetched_bytes: 10,
            saved_bytes: 100,
            saved_ms: 30,
        };
        assert_eq!(counters.read() - before, expected);
        let mut twice = expected;
        twice += expected;
        assert_eq!(twice - expected, expected);
    }

    #[test]
    fn the_first_failure_is_named_before_what_there_is_not() {
        let failures = Failures::default();
        let absent = Problem::not_found(Decider::Connection("up".to_owned()), "no such package");
        failures.note("npm:missing", &absent);
        let report = failures.report(Counts::default());
        assert_eq!(
            report.first_failure.unwrap(),
            "npm:missing: no such package (connection `up`)"
        );
        let denied = Problem::denied(Decider::Rule("r".to_owned()), "a 1 is held\nback by rule");
        for what in ["npm:a", "npm:b"] {
            failures.note(what, &denied);
        }
        let report = failures.report(Counts::default());
        assert_eq!(report.first_failure.unwrap(), "a 1 is held back by rule");
        assert_eq!(report.refused_by_rules, 2);
    }

    #[test]
    fn an_account_of_a_failure_is_bounded() {
        let long = Problem::invalid("x".repeat(1000));
        assert_eq!(in_short("a", &long).len(), FAILURE_CHARS_MAX);
    }
}
