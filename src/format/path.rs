//! Untrusted paths: split, decoded once, and refused where they climb.

use percent_encoding::percent_decode_str;

pub use crate::package::encode_segment as encode;
use crate::package::is_risky_segment;
use crate::problem::Problem;

/// Encodes the segments of a path, keeping its slashes.
#[must_use]
pub fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// The part after the path's last slash, still encoded; the whole text where there is no slash.
#[must_use]
pub fn last_segment(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// The path up to its last slash and with it; empty where there is none.
#[must_use]
pub fn folder(path: &str) -> &str {
    path.strip_suffix(last_segment(path)).unwrap_or_default()
}

/// The name of a file without the folders that it had where a client runs, on any system.
#[must_use]
pub fn client_file_name(path: &str) -> &str {
    let is_separator = |c| matches!(c, '/' | '\\');
    path.rsplit_once(is_separator)
        .map_or(path, |(_, name)| name)
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
            let is_name =
                !segment.is_empty() && segment.len() <= 1024 && !is_risky_segment(segment);
            if is_name {
                Ok(segment.to_owned())
            } else {
                Err(
                    Problem::invalid("the path has a segment that is not allowed")
                        .advice("no `.`, `..`, empty segments, backslashes or control characters"),
                )
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
            "%252e%252e/a",
            "a/%252e%252e%252fb",
            "..;/a",
            "..%3bx/a",
        ] {
            assert!(segments(rest).is_err(), "{rest}");
        }
    }

    #[test]
    fn a_path_is_its_folder_and_its_last_segment() {
        for (path, of, last) in [
            ("/a/b.json", "/a/", "b.json"),
            ("/a/", "/a/", ""),
            ("b.json", "", "b.json"),
            ("a/a", "a/", "a"),
            ("", "", ""),
        ] {
            assert_eq!((folder(path), last_segment(path)), (of, last), "{path}");
        }
        assert_eq!(client_file_name(r"C:\dist/a\b.whl"), "b.whl");
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
