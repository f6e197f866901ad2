//! A histogram of durations without a lock: every answer is counted in it, on every thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds double from 128 µs to 134 s; the last bucket has none.
const BUCKETS: usize = 22;
const FIRST_MICROS: u64 = 128;

/// Counts of durations by size; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    buckets: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.0.buckets.get(bucket(micros)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

fn bucket(micros: u64) -> usize {
    let doublings = micros.div_ceil(FIRST_MICROS).max(1).next_power_of_two();
    usize::try_from(doublings.trailing_zeros())
        .unwrap_or(BUCKETS)
        .min(BUCKETS - 1)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "seconds are told to a few digits"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for (index, bucket) in self.0.buckets.iter().enumerate() {
            let bound = if index + 1 == BUCKETS {
                f64::INFINITY
            } else {
                seconds(FIRST_MICROS << index)
            };
            let in_it = bucket.load(Ordering::Relaxed);
            count += in_it;
            buckets.push((bound, in_it));
        }
        let sum = seconds(self.0.sum_micros.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_it_fits() {
        for (micros, expected) in [
            (0, 0),
            (128, 0),
            (129, 1),
            (256, 1),
            (257, 2),
            (u64::MAX / 2, BUCKETS - 1),
        ] {
            assert_eq!(bucket(micros), expected, "{micros}");
        }
    }
}
