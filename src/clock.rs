//! The one place that asks what time it is.

use std::time::SystemTime;

use jiff::Timestamp;

/// Now, as a point in time for records and rules.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the door to the clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, as HTTP's freshness arithmetic wants it.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the door to the clock")]
pub fn system_now() -> SystemTime {
    SystemTime::now()
}

/// Whole seconds since 1970, the shape in which the catalog keeps times.
#[must_use]
pub fn unix_now() -> i64 {
    now().as_second()
}

/// Milliseconds since 1970: for an order among uses of the same second.
#[must_use]
pub fn unix_ms_now() -> i64 {
    now().as_millisecond()
}
