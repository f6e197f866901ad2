//! The line with which `larder run` and `larder serve` end.

use std::time::Duration;

use bytesize::ByteSize;

use crate::format::counted;
use crate::telemetry::WorkReport;

/// One line of what was done, with the first thing that failed where something did.
pub fn line(work: &WorkReport) -> String {
    let counts = &work.counts;
    let failures = match (counts.failures, &work.first_failure) {
        (0, _) => String::new(),
        (count, None) => format!(", {count} refused or failed"),
        (1, Some(first)) => format!(", 1 refused or failed: {first}"),
        (count, Some(first)) => format!(", {count} refused or failed, first {first}"),
    };
    format!(
        "larder: {}, {}, {} served, {} fetched, {} of waiting saved{failures}",
        counted(counts.requests, "request"),
        counted(counts.hits, "hit"),
        size(counts.served_bytes),
        size(counts.fetched_bytes),
        waiting(counts.saved_ms),
    )
}

/// `1.4 MiB`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `13.0 s`.
pub fn waiting(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(requests: u64, failures: u64, first: Option<&str>) -> WorkReport {
        let mut work = WorkReport {
            first_failure: first.map(str::to_owned),
            ..WorkReport::default()
        };
        work.counts.requests = requests;
        work.counts.hits = 1;
        work.counts.failures = failures;
        work
    }

    #[test]
    fn the_line_counts_and_names_the_first_failure() {
        let waited = "1 hit, 0 B served, 0 B fetched, 0.0 s of waiting saved";
        for (report, said) in [
            (work(1, 0, None), format!("larder: 1 request, {waited}")),
            (
                work(2, 1, Some("npm:a: no (rule)")),
                format!("larder: 2 requests, {waited}, 1 refused or failed: npm:a: no (rule)"),
            ),
            (
                work(9, 2, Some("npm:a: no (rule)")),
                format!(
                    "larder: 9 requests, {waited}, 2 refused or failed, first npm:a: no (rule)"
                ),
            ),
        ] {
            assert_eq!(line(&report), said);
        }
    }
}
