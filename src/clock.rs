//! The one place that asks what time it is.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

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

/// How far a clock may be set back without what it said before being taken for the future: that much
/// is a clock's own correction.
const SET_BACK_SECONDS_MAX: i64 = 60;

/// Whether a time that was written down has come, by the clock of now. One that has not is of a clock
/// that was wrong: nothing is to be concluded from how long ago it was.
#[must_use]
pub fn has_come(at: i64, now: i64) -> bool {
    at <= now.saturating_add(SET_BACK_SECONDS_MAX)
}

/// Milliseconds since 1970: for an order among uses of the same second.
#[must_use]
pub fn unix_ms_now() -> i64 {
    now().as_millisecond()
}

/// Reads a time as RFC 3339 writes it, or as seconds since 1970, which earlier versions wrote.
///
/// # Errors
/// Where it is neither.
pub fn read_time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(i64),
        Time(Timestamp),
    }
    match Written::deserialize(from)? {
        Written::Seconds(seconds) => Timestamp::from_second(seconds).map_err(D::Error::custom),
        Written::Time(time) => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_written_now_and_as_it_was() {
        #[derive(Deserialize)]
        struct Line {
            #[serde(deserialize_with = "read_time")]
            at: Timestamp,
        }
        for text in [r#"{"at":1796083200}"#, r#"{"at":"2026-12-01T00:00:00Z"}"#] {
            let line: Line = serde_json::from_str(text).unwrap();
            assert_eq!(line.at.to_string(), "2026-12-01T00:00:00Z");
        }
        assert!(serde_json::from_str::<Line>(r#"{"at":"tomorrow"}"#).is_err());
    }
}
