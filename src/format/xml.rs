//! XML documents read whole: each element with its path, its text and their places. What readers
//! of XML might take in different ways is refused.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, Event};

use super::{FormatError, plain};

const DEPTH_MAX: usize = 64;

/// An element with the place of its text and of the whole of it.
pub struct Element<'a> {
    /// The names from the root to it, `metadata/versioning/latest`, without prefixes of namespaces.
    /// Elements of one place share the text.
    pub path: Rc<str>,
    /// Its own text, with references and CDATA sections as what they stand for, trimmed.
    pub text: Cow<'a, str>,
    pub text_range: Range<usize>,
    pub range: Range<usize>,
    pub has_children: bool,
}

impl Element<'_> {
    #[must_use]
    pub fn into_owned(self) -> Element<'static> {
        Element {
            path: self.path,
            text: Cow::Owned(self.text.into_owned()),
            text_range: self.text_range,
            range: self.range,
            has_children: self.has_children,
        }
    }
}

/// An element that has begun.
struct Open<'a> {
    path: Rc<str>,
    /// The path of the last element in it.
    last_child: Option<Rc<str>>,
    start: usize,
    text_start: usize,
    text: Cow<'a, str>,
    has_children: bool,
}

impl Open<'_> {
    /// The path of an element of that name in it.
    fn path_of(&mut self, name: &str) -> Rc<str> {
        let own = &self.path;
        let is_it = |path: &&Rc<str>| {
            let rest = path
                .strip_prefix(&**own)
                .and_then(|it| it.strip_prefix('/'));
            rest == Some(name)
        };
        if let Some(path) = self.last_child.as_ref().filter(is_it) {
            return Rc::clone(path);
        }
        let path: Rc<str> = format!("{own}/{name}").into();
        self.last_child = Some(Rc::clone(&path));
        path
    }
}

fn wrong(why: impl std::fmt::Display) -> FormatError {
    FormatError::Xml(why.to_string())
}

/// All elements of the document, each behind those within it.
///
/// # Errors
/// Where it is not well-formed, ends too early, has a document type (so entities of its own), or is
/// nested too deeply.
pub fn elements(text: &str) -> Result<Vec<Element<'_>>, FormatError> {
    let mut found = Vec::new();
    each_element(text, |element| {
        found.push(element);
        Ok(())
    })?;
    Ok(found)
}

/// Reads the elements of the document one after the other, each behind those within it.
///
/// # Errors
/// See [`elements`]. Those of `visit` too.
pub fn each_element<'a>(
    text: &'a str,
    mut visit: impl FnMut(Element<'a>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    // XML 1.0 §2.2. Readers differ in whether they look.
    let is_foreign = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(is_foreign) {
        return Err(wrong("it has control characters"));
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open<'a>> = Vec::new();
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
                let name = tag.local_name();
                let path = match open.last_mut() {
                    Some(parent) => {
                        parent.has_children = true;
                        parent.path_of(name.as_ref())
                    }
                    None if has_root => return Err(wrong("it has more than one root")),
                    None => name.as_ref().into(),
                };
                has_root = true;
                let element = Open {
                    path,
                    last_child: None,
                    start: before,
                    text_start: after,
                    text: Cow::Borrowed(""),
                    has_children: false,
                };
                if matches!(event, Event::Empty(_)) {
                    visit(element.end(after, after))?;
                } else {
                    open.push(element);
                }
            }
            Event::End(_) => {
                let element = open
                    .pop()
                    .ok_or_else(|| wrong("an end without its start"))?;
                visit(element.end(before, after))?;
            }
            Event::Text(piece) => match open.last_mut() {
                Some(element) if element.text.is_empty() => {
                    // The text as it is written, unless the reader made something else of it.
                    let written = text
                        .get(before..after)
                        .filter(|written| *written == &*piece);
                    element.text = written.map_or_else(|| piece.to_string().into(), Cow::Borrowed);
                }
                Some(element) => element.text.to_mut().push_str(&piece),
                None if piece.trim().is_empty() => {}
                None => return Err(wrong("it has text outside its root")),
            },
            Event::CData(piece) => match open.last_mut() {
                Some(element) => element.text.to_mut().push_str(&piece),
                None => return Err(wrong("it has text outside its root")),
            },
            Event::GeneralRef(reference) => match open.last_mut() {
                Some(element) => resolve(&reference, element.text.to_mut())?,
                None => return Err(wrong("it has text outside its root")),
            },
            Event::DocType(_) => return Err(wrong("a document type is not allowed")),
            Event::Eof if !open.is_empty() => return Err(wrong("it ends too early")),
            Event::Eof if !has_root => return Err(wrong("it has no elements")),
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

impl<'a> Open<'a> {
    fn end(self, text_end: usize, end: usize) -> Element<'a> {
        let text = match self.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
        };
        Element {
            path: self.path,
            text,
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
            assert_eq!(&*found[0].path, "a/b", "{written}");
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
        let nested = |depth: usize| {
            let text = "<a>".repeat(depth) + &"</a>".repeat(depth);
            elements(&text).map(|found| found.len())
        };
        assert_eq!(nested(DEPTH_MAX).unwrap(), DEPTH_MAX);
        assert!(nested(DEPTH_MAX + 1).is_err());
    }
}
