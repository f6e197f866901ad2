//! `maven-metadata.xml` with hidden versions left out.
//! Source: Maven's repository metadata model (`maven-repository-metadata`).

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::{View, version};
use crate::format::edit::Edits;
use crate::format::{FormatError, RenderInput, Rendering, Subject, View as AnyView};

/// An element of interest, with the place of its text and of the whole of it.
pub struct Element {
    pub path: String,
    pub text: String,
    text_range: Range<usize>,
    pub range: Range<usize>,
}

pub fn versions(bytes: &[u8]) -> Result<Vec<String>, FormatError> {
    Ok(elements(bytes)?
        .into_iter()
        .filter(|element| element.path == "metadata/versioning/versions/version")
        .map(|element| element.text)
        .collect())
}

pub fn render(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let AnyView::Maven(view) = &input.document.view else {
        return Err(FormatError::shape("not a document of Maven"));
    };
    let body = match (view, input.shows) {
        (View::Metadata { .. }, Some(shows)) => filter(input.upstream.bytes, |version| {
            shows(Subject::Version(version))
        })?,
        (View::SnapshotMetadata { version, .. }, Some(shows))
            if !shows(Subject::Version(version)) =>
        {
            return Err(FormatError::Absent(format!(
                "{version} is held back by a rule"
            )));
        }
        _ => None,
    };
    let content_type = match input.upstream.media_type {
        "" => Cow::Borrowed("application/xml"),
        given => Cow::Owned(given.to_owned()),
    };
    Ok(Rendering {
        body,
        content_type,
        aliases: Vec::new(),
    })
}

fn filter(bytes: &[u8], shown: impl Fn(&str) -> bool) -> Result<Option<Vec<u8>>, FormatError> {
    let elements = elements(bytes)?;
    let listed: Vec<&Element> = elements
        .iter()
        .filter(|element| element.path == "metadata/versioning/versions/version")
        .collect();
    let mut edits = Edits::new();
    for element in listed.iter().filter(|element| !shown(&element.text)) {
        edits.remove(with_indent(bytes, &element.range));
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let newest = |release_only: bool| {
        listed
            .iter()
            .map(|element| element.text.as_str())
            .filter(|version| shown(version) && !(release_only && version.ends_with("-SNAPSHOT")))
            .max_by(|a, b| version::compare(a, b).unwrap_or(std::cmp::Ordering::Equal))
    };
    for (path, release_only) in [
        ("metadata/versioning/latest", false),
        ("metadata/versioning/release", true),
    ] {
        for element in elements
            .iter()
            .filter(|it| it.path == path && !shown(&it.text))
        {
            match newest(release_only) {
                Some(newest) => edits.replace(element.text_range.clone(), newest),
                None => edits.remove(with_indent(bytes, &element.range)),
            }
        }
    }
    Ok(edits.apply(bytes))
}

/// The element with the white space before it, so that no empty line is left.
fn with_indent(bytes: &[u8], range: &Range<usize>) -> Range<usize> {
    let before = bytes.get(..range.start).unwrap_or_default();
    let indent = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    range.start - indent..range.end
}

pub fn elements(bytes: &[u8]) -> Result<Vec<Element>, FormatError> {
    const DEPTH_MAX: usize = 64;
    let wrong = |error: &dyn std::fmt::Display| FormatError::Xml(error.to_string());
    let mut reader = Reader::from_reader(bytes);
    let mut open: Vec<(String, usize, usize)> = Vec::new();
    let mut text = String::new();
    let mut found = Vec::new();
    loop {
        let before = place(reader.buffer_position());
        match reader.read_event().map_err(|error| wrong(&error))? {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return Err(FormatError::Xml("nested too deeply".to_owned()));
                }
                let name = start.name().as_ref().to_owned();
                let path = match open.last() {
                    Some((parent, ..)) => format!("{parent}/{name}"),
                    None => name,
                };
                open.push((path, before, place(reader.buffer_position())));
                text.clear();
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::End(_) => {
                let Some((path, start, text_start)) = open.pop() else {
                    return Err(FormatError::Xml("an end without its start".to_owned()));
                };
                found.push(Element {
                    path,
                    text: std::mem::take(&mut text).trim().to_owned(),
                    text_range: text_start..before,
                    range: start..place(reader.buffer_position()),
                });
            }
            // No document type, so no entities of its own.
            Event::DocType(_) => {
                return Err(FormatError::Xml(
                    "a document type is not allowed".to_owned(),
                ));
            }
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "<?xml version=\"1.0\"?>\n<metadata>\n  <groupId>x</groupId>\n  <versioning>\n    <latest>2.0</latest>\n    <release>2.0</release>\n    <versions>\n      <version>1.9</version>\n      <version>1.10</version>\n      <version>2.0</version>\n    </versions>\n    <lastUpdated>20260101</lastUpdated>\n  </versioning>\n</metadata>\n";

    #[test]
    fn a_hidden_version_goes_and_the_newest_left_takes_its_place() {
        let filtered = filter(METADATA.as_bytes(), |version| version != "2.0")
            .unwrap()
            .unwrap();
        let expected = METADATA
            .replace("      <version>2.0</version>\n", "")
            .replace(">2.0<", ">1.10<");
        assert_eq!(String::from_utf8(filtered).unwrap(), expected);
        assert_eq!(filter(METADATA.as_bytes(), |_| true).unwrap(), None);
        assert_eq!(
            versions(METADATA.as_bytes()).unwrap(),
            ["1.9", "1.10", "2.0"]
        );
    }

    #[test]
    fn entities_and_bombs_are_refused() {
        let doctype = "<!DOCTYPE x [<!ENTITY a \"b\">]><metadata>&a;</metadata>";
        assert!(versions(doctype.as_bytes()).is_err());
        assert!(versions("<a>".repeat(100_000).as_bytes()).is_err());
        assert!(versions(b"<metadata><versioning>").unwrap().is_empty());
    }
}
