//! Untrusted paths: split, decoded once, and refused where they climb.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::problem::Problem;

/// What has to be encoded in one segment of a URL path (RFC 3986 §3.3).
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Encodes one segment.
#[must_use]
pub fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// Encodes the segments of a path, keeping its slashes.
#[must_use]
pub fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Decodes a path into its segments, splitting at encoded slashes too (`@scope%2fname`).
///
/// # Errors
/// Where a segment is empty, `.` or `..`, holds a control character or a backslash, or does not
/// decode to UTF-8. A slash at the end is no segment.
pub fn segments(rest: &str) -> Result<Vec<String>, Problem> {
    let decoded = percent_decode_str(rest)
        .decode_utf8()
        .map_err(|_| Problem::invalid("the path does not decode to UTF-8"))?;
    let trimmed = decoded.strip_suffix('/').unwrap_or(&decoded);
    if trimmed.is_empty() {
        return Ok(Vec::new());
    }
    trimmed
        .split('/')
        .map(|segment| {
            let climbs = segment == "." || segment == "..";
            let odd = segment.is_empty()
                || segment.len() > 1024
                || segment.chars().any(|c| c.is_control() || c == '\\');
            if climbs || odd {
                Err(
                    Problem::invalid("the path has a segment that is not allowed")
                        .advice("no `.`, `..`, empty segments, backslashes or control characters"),
                )
            } else {
                Ok(segment.to_owned())
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_or_hide_something_are_refused() {
        for rest in [
            "..",
            "a/../b",
            "a/%2e%2e/b",
            "a%2f..%2fb",
            "a//b",
            "a/%00",
            "a\\b",
            "a/%5c..",
            "%ff",
            ".",
        ] {
            assert!(segments(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn an_encoded_slash_separates_and_an_end_slash_does_not() {
        assert_eq!(
            segments("@a%2Fb/-/b.tgz").unwrap(),
            ["@a", "b", "-", "b.tgz"]
        );
        assert_eq!(segments("simple/").unwrap(), ["simple"]);
        assert!(segments("").unwrap().is_empty());
    }
}
