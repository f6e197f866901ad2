//! Counts and logs each answer when it has been sent or has broken off.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Uri};
use prometheus_client::metrics::counter::Counter;
use tracing::{Level, debug, enabled, warn};

use super::reply::{Answer, AnswerOutcome};
use crate::Larder;
use crate::package::Format;
use crate::problem::Problem;
use crate::telemetry::log::{self, AccessLine};
use crate::telemetry::{AnswerCount, AnswerLabels, Counters, Metrics, PulledVersion, Run, Who};

/// Longer paths are cut in the log.
const PATH_BYTES_MAX: usize = 200;

/// The repository, package and file that a request is about, as far as its route names them.
#[derive(Clone, Default)]
pub struct RequestSubject {
    pub format: Option<Format>,
    pub repository: String,
    pub package: String,
    pub asset: String,
    /// The version, where the request is for a version's main file; else empty.
    pub version: String,
}

/// The part of an answer's record that is the same each time the answer is given; the response
/// cache shares it.
pub struct AnswerRecord {
    subject: RequestSubject,
    outcome: AnswerOutcome,
    status: u16,
    /// How long fetching it took, where the cache gave it; milliseconds.
    fetch_ms: u64,
    answers: Counter,
    traffic: Option<Arc<Counters>>,
    pulled: Option<Arc<PulledVersion>>,
}

impl AnswerRecord {
    pub fn new(metrics: &Metrics, subject: RequestSubject, answer: &Answer) -> Self {
        let (outcome, status) = (answer.outcome, answer.response.status().as_u16());
        let format = subject.format.filter(|_| !subject.repository.is_empty());
        let is_pull = matches!(status, 200 | 206) && !subject.version.is_empty();
        Self {
            answers: counter(metrics, subject.format, outcome, status),
            traffic: format.map(|format| metrics.ledger.traffic(&subject.repository, format)),
            pulled: is_pull.then(|| {
                Arc::new(PulledVersion {
                    repository: subject.repository.clone(),
                    package: subject.package.clone(),
                    version: subject.version.clone(),
                })
            }),
            subject,
            outcome,
            status,
            fetch_ms: answer.cached.as_ref().map_or(0, |cached| cached.fetch_ms),
        }
    }
}

impl RequestSubject {
    /// The package or file, to name it in a line.
    fn what(&self) -> String {
        format!("{} {}", self.package, self.asset).trim().to_owned()
    }

    /// Remembers that a request failed.
    pub fn note_failure(&self, metrics: &Metrics, run: Option<&Run>, problem: &Problem) {
        if self.format.is_none() || self.repository.is_empty() {
            return;
        }
        let failures = run.map(|run| &run.failures);
        for failures in failures.into_iter().chain([&metrics.failures]) {
            failures.note(&self.what(), problem);
        }
    }
}

fn counter(
    metrics: &Metrics,
    format: Option<Format>,
    outcome: AnswerOutcome,
    status: u16,
) -> Counter {
    let labels = AnswerLabels {
        format: format.map_or("-", Format::as_str),
        outcome: outcome.as_str(),
        status,
    };
    metrics.answers.get_or_create(&labels).clone()
}

/// An answer that is being sent, with all that is counted about it.
pub struct AnswerAccount {
    pub larder: Arc<Larder>,
    pub entry: Arc<AnswerRecord>,
    pub who: Who,
    pub method: Method,
    pub uri: Uri,
    pub started: Instant,
    /// The `larder run` that asked.
    pub run: Option<Arc<Run>>,
}

impl AnswerAccount {
    /// Counts the answer and writes the access line.
    pub fn close(self, bytes: u64, result: Result<(), Problem>) {
        let elapsed = self.started.elapsed();
        let metrics = &self.larder.metrics;
        metrics.served_bytes.inc_by(bytes);
        metrics.seconds.observe(elapsed);
        let AnswerRecord {
            subject,
            status,
            answers,
            ..
        } = &*self.entry;
        let mut outcome = self.entry.outcome;
        match &result {
            Ok(()) => {
                answers.inc();
            }
            Err(problem) => {
                outcome = AnswerOutcome::Problem(problem.kind);
                counter(metrics, subject.format, outcome, *status).inc();
                warn!(path = self.path(), %problem, "An answer was cut off");
                subject.note_failure(metrics, self.run.as_deref(), problem);
                let (repository, package) = (&subject.repository, &subject.package);
                self.larder
                    .tell_refused(repository, package, &subject.asset, problem);
            }
        }
        let is_failure = *status >= 400 || result.is_err();
        let ms = u64::try_from(elapsed.as_millis()).unwrap_or(0);
        let count = AnswerCount {
            bytes,
            source: outcome.source(self.entry.fetch_ms.saturating_sub(ms)),
            is_failure,
        };
        let run = self.run.as_ref().map(|run| &run.counters);
        for counters in self.entry.traffic.as_deref().into_iter().chain(run) {
            counters.add(count);
        }
        if let Some(pulled) = &self.entry.pulled
            && self.method == Method::GET
            && !is_failure
        {
            metrics.ledger.pull(pulled, &self.who, bytes);
        }
        if !enabled!(Level::INFO) {
            return;
        }
        let path = self.path();
        match subject.format {
            Some(format) => log::access(&AccessLine {
                method: self.method.as_str(),
                path,
                format: format.as_str(),
                repository: &subject.repository,
                package: &subject.package,
                asset: &subject.asset,
                status: *status,
                cache: outcome.as_str(),
                bytes,
                elapsed,
            }),
            None => {
                let (method, ms) = (&self.method, elapsed.as_secs_f64() * 1000.0);
                debug!(%method, status, bytes, ms, "{method} {path}");
            }
        }
    }

    fn path(&self) -> &str {
        let path = self.uri.path();
        let end = path.floor_char_boundary(PATH_BYTES_MAX);
        path.get(..end).unwrap_or(path)
    }
}
