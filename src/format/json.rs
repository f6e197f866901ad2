//! JSON read where it lies: members and elements as slices of the document, so that a change can
//! be made by range. Nesting is bounded, since `serde_json` skips what is not asked for without
//! recursion.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::FormatError;

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

impl<'a> Node<'a> {
    /// # Errors
    /// Where the bytes are not UTF-8; JSON errors show themselves on reading.
    pub fn document(bytes: &'a [u8]) -> Result<Self, FormatError> {
        Ok(Self {
            text: std::str::from_utf8(bytes)?,
            start: 0,
        })
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

    /// The members of an object, in order.
    ///
    /// # Errors
    /// Where this is no object.
    pub fn members(&self) -> Result<Vec<Member<'a>>, FormatError> {
        let Members(members) = serde_json::from_str::<Members<'a>>(self.text)?;
        let mut at = 1;
        Ok(members
            .into_iter()
            .map(|(name, raw)| {
                let value = self.child(raw);
                // Between two members stand white space and one comma alone: the next quote
                // opens the name.
                let opening = self
                    .text
                    .get(at..)
                    .and_then(|rest| rest.find('"'))
                    .map_or(at, |quote| at + quote);
                at = value.range().end - self.start;
                Member {
                    name,
                    range: self.start + opening..value.range().end,
                    value,
                }
            })
            .collect())
    }

    /// The elements of an array, in order.
    ///
    /// # Errors
    /// Where this is no array.
    pub fn elements(&self) -> Result<Vec<Node<'a>>, FormatError> {
        let Elements(elements) = serde_json::from_str::<Elements<'a>>(self.text)?;
        Ok(elements.into_iter().map(|raw| self.child(raw)).collect())
    }

    /// The member of that name; `None` where there is none or this is no object.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Node<'a>> {
        self.members()
            .ok()?
            .into_iter()
            .find(|member| member.name == name)
            .map(|member| member.value)
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

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, raw));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementsVisitor;
        impl<'de> Visitor<'de> for ElementsVisitor {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(raw) = seq.next_element::<&'de RawValue>()? {
                    elements.push(raw);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(ElementsVisitor)
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
    fn nesting_without_end_is_no_stack_overflow() {
        let bomb = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert!(Node::document(bomb.as_bytes()).unwrap().members().is_err());
        let closed = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        let _ = Node::document(closed.as_bytes()).unwrap().members();
    }
}
