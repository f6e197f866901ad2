//! XML documents read whole: each element with its path, its text and their places. What readers
//! of XML might take in different ways is refused.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use super::{FormatError, plain};

const DEPTH_MAX: usize = 64;

/// An element with the place of its text and of the whole of it.
pub struct Element {
    /// The names from the root to it, `metadata/versioning/latest`, without prefixes of namespaces.
    pub path: String,
    /// Its own text, with references and CDATA sections as what they stand for, trimmed.
    pub text: String,
    pub text_range: Range<usize>,
    pub range: Range<usize>,
    pub has_children: bool,
}

/// An element that has begun.
struct Open {
    path: String,
    start: usize,
    text_start: usize,
    text: String,
    has_children: bool,
}

fn wrong(why: impl std::fmt::Display) -> FormatError {
    FormatError::Xml(why.to_string())
}

/// All elements of the document, each behind those within it.
///
/// # Errors
/// Where it is not well-formed, ends too early, has a document type (so entities of its own), or is
/// nested too deeply.
pub fn elements(text: &str) -> Result<Vec<Element>, FormatError> {
    // XML 1.0 §2.2. Readers differ in whether they look.
    let is_foreign = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(is_foreign) {
        return Err(wrong("it has control characters"));
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut found: Vec<Element> = Vec::new();
    let mut has_root = false;
    loop {
        let before = place(reader.buffer_position());
        let event = reader.read_event().map_err(|_| wrong(plain::XML))?;
        let after = place(reader.buffer_position());
        match event {
            Event::Start(ref tag) | Event::Empty(ref tag) => {
                if open.len() >= DEPTH_MAX {
                    return Err(wrong("nested too deeply"));
                }
                let name = tag.local_name().as_ref().to_owned();
                let path = match open.last_mut() {
                    Some(parent) => {
                        parent.has_children = true;
                        format!("{}/{name}", parent.path)
                    }
                    None if has_root => return Err(wrong("it has more than one root")),
                    None => name,
                };
                has_root = true;
                let element = Open {
                    path,
                    start: before,
                    text_start: after,
                    text: String::new(),
                    has_children: false,
                };
                if matches!(event, Event::Empty(_)) {
                    found.push(element.end(after, after));
                } else {
                    open.push(element);
                }
            }
            Event::End(_) => {
                let element = open
                    .pop()
                    .ok_or_else(|| wrong("an end without its start"))?;
                found.push(element.end(before, after));
            }
            Event::Text(piece) => match open.last_mut() {
                Some(element) => element.text.push_str(&piece),
                None if piece.trim().is_empty() => {}
                None => return Err(wrong("it has text outside its root")),
            },
            Event::CData(piece) => match open.last_mut() {
                Some(element) => element.text.push_str(&piece),
                None => return Err(wrong("it has text outside its root")),
            },
            Event::GeneralRef(reference) => match open.last_mut() {
                Some(element) => resolve(&reference, &mut element.text)?,
                None => return Err(wrong("it has text outside its root")),
            },
            Event::DocType(_) => return Err(wrong("a document type is not allowed")),
            Event::Eof if !open.is_empty() => return Err(wrong("it ends too early")),
            Event::Eof if !has_root => return Err(wrong("it has no elements")),
            Event::Eof => return Ok(found),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

impl Open {
    fn end(self, text_end: usize, end: usize) -> Element {
        Element {
            path: self.path,
            text: self.text.trim().to_owned(),
            text_range: self.text_start..text_end,
            range: self.start..end,
            has_children: self.has_children,
        }
    }
}

/// Writes what the reference stands for: a character, or one of XML's own five entities.
///
/// # Errors
/// Where it stands for nothing that is known.
pub fn resolve(reference: &BytesRef<'_>, text: &mut String) -> Result<(), FormatError> {
    if let Some(character) = reference
        .resolve_char_ref()
        .map_err(|_| wrong("it has a reference to no character"))?
    {
        text.push(character);
        return Ok(());
    }
    let name: &str = reference;
    let known = resolve_xml_entity(name);
    text.push_str(known.ok_or_else(|| wrong(format!("`&{name};` stands for nothing")))?);
    Ok(())
}

fn place(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_however_it_is_written() {
        for written in [
            "1.0",
            " 1.0\n",
            "1<!-- a comment -->.0",
            "<![CDATA[1.0]]>",
            "1&#46;0",
            "&#x31;.0",
            "1.<?instruction?>0",
        ] {
            let text = format!("<?xml version='1.0'?>\n<a><x:b xmlns:x='u'>{written}</x:b></a>\n");
            let found = elements(&text).unwrap();
            assert_eq!(found[0].path, "a/b", "{written}");
            assert_eq!(found[0].text, "1.0", "{written}");
            assert_eq!(text.get(found[0].text_range.clone()), Some(written));
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for text in [
            "",
            "no XML",
            "<a>",
            "<a><b></a>",
            "<a/><a/>",
            "<a/>more",
            "<a>&own;</a>",
            "<a>\0</a>",
            "<a>\u{1}</a>",
            "</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        ] {
            assert!(elements(text).is_err(), "{text}");
        }
        assert!(elements(&"<a>".repeat(100_000)).is_err());
    }

    #[test]
    fn elements_are_nested_no_deeper_than_may_be() {
        let nested =
            |depth: usize| elements(&format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth)));
        assert_eq!(nested(DEPTH_MAX).unwrap().len(), DEPTH_MAX);
        assert!(nested(DEPTH_MAX + 1).is_err());
    }
}
