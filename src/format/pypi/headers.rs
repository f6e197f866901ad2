//! Core metadata, which is written as mail headers are (the core metadata specification; RFC 822's
//! folding). Nothing in it is decoded: it is UTF-8, as Python's own readers take it.

use crate::problem::Problem;

/// The most headers of a file of metadata. The largest that are known have some 3,000, nearly all of them
/// requirements and classifiers.
const HEADERS_MAX: usize = 20_000;

/// Headers, in order, and what is behind them.
pub struct Headers<'a> {
    headers: Vec<(&'a str, String)>,
    /// The description, where it stands behind the headers.
    pub body: &'a str,
}

impl<'a> Headers<'a> {
    /// Reads the metadata of `file`.
    ///
    /// # Errors
    /// Where it has a line that is no header, or too many of them.
    pub fn read(text: &'a str, file: &str) -> Result<Self, Problem> {
        let text = text.trim_start_matches('\u{feff}');
        let mut headers: Vec<(&str, String)> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
            let line = line.strip_suffix('\r').unwrap_or(line);
            rest = behind;
            if line.is_empty() {
                break;
            }
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut().ok_or_else(|| no_header(line, file))?;
                value.push('\n');
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| no_header(line, file))?;
            // A reader that stops here and one that goes on see two packages.
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(no_header(line, file));
            }
            if headers.len() >= HEADERS_MAX {
                return Err(Problem::invalid(format!(
                    "the metadata of {file} has more than {HEADERS_MAX} headers"
                )));
            }
            headers.push((name, value.trim().to_owned()));
        }
        Ok(Self {
            headers,
            body: rest,
        })
    }

    /// All values of a header, in any case of its name.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a header.
    #[must_use]
    pub fn first<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        self.all(name).next()
    }

    /// The value of a header that there is once: readers differ in which of several they take.
    ///
    /// # Errors
    /// Where there are several.
    pub fn once<'s>(&'s self, name: &'s str, file: &str) -> Result<&'s str, Problem> {
        let mut values = self.all(name);
        let value = values.next().unwrap_or_default();
        if values.next().is_some() {
            return Err(Problem::invalid(format!(
                "the metadata of {file} has `{name}` more than once"
            )));
        }
        Ok(value)
    }
}

fn no_header(line: &str, file: &str) -> Problem {
    let line: String = line.chars().take(80).collect();
    Problem::invalid(format!(
        "the metadata of {file} has a line that is no header: `{}`",
        line.escape_debug()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Headers<'_> {
        Headers::read(text, "a.whl").unwrap()
    }

    #[test]
    fn headers_are_read_as_they_are_written() {
        let text = "Metadata-Version: 2.1\r\nname: a\nSummary: =?utf-8?b?YWFh?=\nLicense: one\n  two\n\tthree\nClassifier: x\nClassifier: y\n\nRead me: now\n";
        let headers = read(text);
        assert_eq!(headers.first("Metadata-Version"), Some("2.1"));
        assert_eq!(headers.once("Name", "a.whl").unwrap(), "a");
        assert_eq!(headers.first("Summary"), Some("=?utf-8?b?YWFh?="));
        assert_eq!(headers.first("License"), Some("one\ntwo\nthree"));
        assert_eq!(headers.all("Classifier").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(headers.first("Read me"), None);
        assert_eq!(headers.body, "Read me: now\n");
        assert_eq!(read("Name: a").first("Name"), Some("a"));
        assert_eq!(read("").first("Name"), None);
    }

    #[test]
    fn metadata_that_reads_in_two_ways_is_refused() {
        for text in [
            "Name: a\nno header\nName: b\n",
            " folded\n",
            ": none\n",
            "A b: c\n",
        ] {
            assert!(Headers::read(text, "a.whl").is_err(), "{text}");
        }
        let twice = read("Name: a\nNAME: b\n");
        assert!(twice.once("Name", "a.whl").is_err());
    }

    #[test]
    fn metadata_has_no_more_headers_than_may_be() {
        let of = |count: usize| {
            let text = "a:\n".repeat(count);
            Headers::read(&text, "a.whl").map(|read| read.all("a").count())
        };
        assert_eq!(of(HEADERS_MAX).unwrap(), HEADERS_MAX);
        assert!(of(HEADERS_MAX + 1).is_err());
    }
}
