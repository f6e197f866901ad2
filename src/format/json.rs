//! JSON read where it lies: members and elements as slices of the document, so that a change can
//! be made by range. Nesting is bounded, since `serde_json` skips what is not asked for without
//! recursion.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher as _;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{FormatError, text};

/// A whole document, or a value in it, with its place.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    text: &'a str,
    start: usize,
}

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    pub name: Cow<'a, str>,
    /// From the name's opening quote to the value's end.
    pub range: Range<usize>,
    pub value: Node<'a>,
}

/// The members of an object, each of its own name.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

impl<'a> Node<'a> {
    /// A document's text, behind its byte order mark if it has one.
    ///
    /// # Errors
    /// Where the bytes are not UTF-8; JSON errors show themselves on reading.
    pub fn document(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let (start, text) = text::utf8(bytes)?;
        Ok(Self { text, start })
    }

    /// A document that is one object, read to its end: every registry's documents are.
    ///
    /// # Errors
    /// Where it is anything else, or has a member twice.
    pub fn object_document(bytes: &'a [u8]) -> Result<Object<'a>, FormatError> {
        Self::document(bytes)?.object()
    }

    /// The value as it is written.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Its place in the document.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// The value that was read out of this one's text, with its place.
    #[must_use]
    pub fn child(&self, raw: &'a RawValue) -> Node<'a> {
        let text = raw.get();
        Node {
            text,
            start: self.start + offset(self.text, text),
        }
    }

    /// Whether it is an object, as its first character says.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.begins_with('{')
    }

    /// Whether it is an array, as its first character says.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.begins_with('[')
    }

    fn begins_with(&self, first: char) -> bool {
        self.text.trim_start().starts_with(first)
    }

    /// The object that this is.
    ///
    /// # Errors
    /// Where it is none, or has a member twice: of two some readers take the first and some the
    /// last, so that what was decided about the one would be read by the other.
    pub fn object(&self) -> Result<Object<'a>, FormatError> {
        let mut members = Vec::with_capacity(16);
        self.read_members(|member| {
            members.push(member);
            Ok(())
        })?;
        if let Some(twice) = first_twice(&members) {
            return Err(twice_error(twice));
        }
        Ok(Object { members })
    }

    /// Reads an object member by member, so that a long one is not held as a list of its members.
    ///
    /// # Errors
    /// See [`Node::object`]; that a member is there twice shows after the last one. The errors of
    /// `visit` too.
    pub fn each_member(
        &self,
        mut visit: impl FnMut(Member<'a>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut names = NamesSeen::default();
        self.read_members(|member| {
            names.add(&member.name);
            visit(member)
        })?;
        if names.are_perhaps_twice() {
            // Two names of one hash: the list of the members knows.
            self.object()?;
        }
        Ok(())
    }

    fn read_members(
        &self,
        mut visit: impl FnMut(Member<'a>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut at = 1;
        let mut reading = serde_json::Deserializer::from_str(self.text);
        let mut failed = None;
        let read = MembersVisitor(|name: Cow<'a, str>, raw: &'a RawValue| {
            let value = self.child(raw);
            // Between two members stand white space and one comma alone: the next quote opens the
            // name.
            let rest = self.text.as_bytes().get(at..).unwrap_or_default();
            let opening = memchr::memchr(b'"', rest).map_or(at, |quote| at + quote);
            at = value.range().end - self.start;
            let range = self.start + opening..value.range().end;
            visit(Member { name, range, value }).map_err(|error| failed = Some(error))
        })
        .deserialize(&mut reading);
        end(read, failed, reading)
    }

    /// The members of an object, in order.
    ///
    /// # Errors
    /// See [`Node::object`].
    pub fn members(&self) -> Result<Vec<Member<'a>>, FormatError> {
        Ok(self.object()?.members)
    }

    /// The elements of an array, in order.
    ///
    /// # Errors
    /// Where this is no array.
    pub fn elements(&self) -> Result<Vec<Node<'a>>, FormatError> {
        let mut elements = Vec::new();
        self.each_element(|element| {
            elements.push(element);
            Ok(())
        })?;
        Ok(elements)
    }

    /// Reads an array element by element, so that a long one is not held as a list.
    ///
    /// # Errors
    /// Where this is no array. The errors of `visit` too.
    pub fn each_element(
        &self,
        mut visit: impl FnMut(Node<'a>) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        let mut reading = serde_json::Deserializer::from_str(self.text);
        let mut failed = None;
        let read = ElementsVisitor(|raw: &'a RawValue| {
            visit(self.child(raw)).map_err(|error| failed = Some(error))
        })
        .deserialize(&mut reading);
        end(read, failed, reading)
    }

    /// The member of that name; `None` where there is none, or where this is a value of another
    /// kind.
    ///
    /// # Errors
    /// Where this is an object that cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Node<'a>>, FormatError> {
        let mut found = None;
        if self.is_object() {
            self.each_member(|member| {
                if member.name == name {
                    found = Some(member.value);
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The member of that name in any case, as .NET's readers find it.
    ///
    /// # Errors
    /// Where this is an object that cannot be read, or has two members of that name.
    pub fn get_in_any_case(&self, name: &str) -> Result<Option<Node<'a>>, FormatError> {
        let mut found = None;
        if self.is_object() {
            self.each_member(|member| {
                let is_it = member.name.eq_ignore_ascii_case(name);
                if is_it && found.replace(member.value).is_some() {
                    return Err(FormatError::shape(format!(
                        "an object has the member \"{name}\" twice, in two cases"
                    )));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The string that this is; `None` where it is something else.
    #[must_use]
    pub fn string(&self) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Text<'a>>(self.text)
            .ok()
            .map(|Text(text)| text)
    }

    /// The value, read whole: for small ones.
    ///
    /// # Errors
    /// Where it does not have the shape of `T`.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, FormatError> {
        Ok(serde_json::from_str(self.text)?)
    }
}

impl<'a> Object<'a> {
    /// In order.
    #[must_use]
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.name == name)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        self.member(name).map(|member| member.value)
    }

    /// # Errors
    /// Where two members have the name.
    pub fn get_in_any_case(&self, name: &str) -> Result<Option<Node<'a>>, FormatError> {
        let mut named = self
            .members
            .iter()
            .filter(|member| member.name.eq_ignore_ascii_case(name));
        let found = named.next().map(|member| member.value);
        match named.next() {
            None => Ok(found),
            Some(_) => Err(FormatError::shape(format!(
                "an object has the member \"{name}\" twice, in two cases"
            ))),
        }
    }
}

fn twice_error(name: &str) -> FormatError {
    FormatError::shape(format!("an object has the member {} twice", quoted(name)))
}

/// The name of the first member that another before it has too.
fn first_twice<'m>(members: &'m [Member<'_>]) -> Option<&'m str> {
    const FEW: usize = 12;
    let names = || members.iter().map(|member| member.name.as_ref());
    if members.len() <= FEW {
        let mut at = names().enumerate();
        return at
            .find(|(index, name)| names().take(*index).any(|before| before == *name))
            .map(|(_, name)| name);
    }
    let mut seen =
        HashSet::with_capacity_and_hasher(members.len(), foldhash::fast::RandomState::default());
    names().find(|name| !seen.insert(*name))
}

/// Text as a JSON string, quotes included.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn offset(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Ends a reading: the visitor's own error stands for the reader's.
fn end(
    read: serde_json::Result<()>,
    failed: Option<FormatError>,
    mut reading: serde_json::Deserializer<serde_json::de::StrRead<'_>>,
) -> Result<(), FormatError> {
    if let Some(error) = failed {
        return Err(error);
    }
    read?;
    Ok(reading.end()?)
}

/// The reading was stopped by an error that stands elsewhere.
const STOPPED: &str = "stopped";

struct MembersVisitor<F>(F);

impl<'de, F> DeserializeSeed<'de> for MembersVisitor<F>
where
    F: FnMut(Cow<'de, str>, &'de RawValue) -> Result<(), ()>,
{
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F> Visitor<'de> for MembersVisitor<F>
where
    F: FnMut(Cow<'de, str>, &'de RawValue) -> Result<(), ()>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            (self.0)(name, raw).map_err(|()| A::Error::custom(STOPPED))?;
        }
        Ok(())
    }
}

struct ElementsVisitor<F>(F);

impl<'de, F: FnMut(&'de RawValue) -> Result<(), ()>> DeserializeSeed<'de> for ElementsVisitor<F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue) -> Result<(), ()>> Visitor<'de> for ElementsVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<&'de RawValue>()? {
            (self.0)(raw).map_err(|()| A::Error::custom(STOPPED))?;
        }
        Ok(())
    }
}

/// The names of an object's members, as their hashes: eight bytes a name.
#[derive(Default)]
pub(crate) struct NamesSeen {
    hasher: foldhash::quality::RandomState,
    hashes: Vec<u64>,
}

impl NamesSeen {
    pub fn add(&mut self, name: &str) {
        self.hashes.push(self.hasher.hash_one(name));
    }

    pub fn count(&self) -> u64 {
        self.hashes.len() as u64
    }

    pub fn has(&self, name: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(name))
    }

    /// Whether two of the names are the same, or (which hardly happens) have the same hash.
    pub fn are_perhaps_twice(&mut self) -> bool {
        self.hashes.sort_unstable();
        !self.hashes.is_sorted_by(|a, b| a < b)
    }
}

#[cfg(test)]
#[allow(clippy::string_slice, reason = "ranges are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn members_know_their_place() {
        let text = r#" { "a" : {"x\"y": 1 } , "b":[1, "two" ] } "#;
        let root = Node::document(text.as_bytes()).unwrap();
        // The document's own white space is not part of the object.
        let root = Node {
            text: root.text.trim(),
            start: 1,
        };
        let members = root.members().unwrap();
        assert_eq!(&text[members[0].range.clone()], r#""a" : {"x\"y": 1 }"#);
        assert_eq!(&text[members[1].range.clone()], r#""b":[1, "two" ]"#);
        let inner = members[0].value.members().unwrap();
        assert_eq!(inner[0].name, "x\"y");
        assert_eq!(&text[inner[0].range.clone()], r#""x\"y": 1"#);
        let elements = members[1].value.elements().unwrap();
        assert_eq!(&text[elements[1].range()], r#""two""#);
        assert_eq!(elements[1].string().unwrap(), "two");
    }

    #[test]
    fn a_document_with_leading_white_space_knows_its_places_too() {
        let text = "\n  {\"a\": 1}";
        let members = Node::document(text.as_bytes()).unwrap().members().unwrap();
        assert_eq!(&text[members[0].range.clone()], "\"a\": 1");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_places_stay_right() {
        let bytes = b"\xef\xbb\xbf{\"a\": 1}";
        let object = Node::object_document(bytes).unwrap();
        let range = object.member("a").unwrap().value.range();
        assert_eq!(&bytes[range], b"1");
        assert!(Node::object_document(b"\xff\xfe{\0}\0").is_err());
    }

    #[test]
    fn a_member_twice_is_refused_however_it_is_spelled() {
        let many: Vec<String> = (0..40).map(|n| format!("\"m{n}\":{n},")).collect();
        let many = many.concat();
        for text in [
            r#"{"versions":1,"versions":2}"#.to_owned(),
            r#"{"versions":1,"other":0,"\u0076ersions":2}"#.to_owned(),
            format!("{{{many}\"m7\":0}}"),
        ] {
            let root = Node::document(text.as_bytes()).unwrap();
            assert!(root.object().is_err(), "{text}");
            assert!(root.get("versions").is_err() && root.members().is_err());
        }
        let root = Node::document(br#"{"items":1,"Items":2,"Version":3}"#).unwrap();
        assert!(root.get_in_any_case("items").is_err());
        assert_eq!(root.get("items").unwrap().unwrap().text(), "1");
        let version = root.get_in_any_case("version").unwrap();
        assert_eq!(version.unwrap().text(), "3");
        assert!(root.get_in_any_case("none").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_has_no_members_and_says_so() {
        for text in [
            "",
            "{",
            "{}x",
            "[]",
            "null",
            "{\"a\":1}\0",
            "{\"a\":}",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":NaN}",
            "<html></html>",
            "{\"a\":1",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(Node::object_document(text.as_bytes()).is_err(), "{text}");
        }
        let list = Node::document(b"[1]").unwrap();
        assert!(list.get("a").unwrap().is_none());
    }

    #[test]
    fn nesting_without_end_is_no_stack_overflow() {
        let bomb = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert!(Node::document(bomb.as_bytes()).unwrap().members().is_err());
        let closed = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        let _ = Node::document(closed.as_bytes()).unwrap().members();
    }
}
