//! Documents that a registry sent, before they take the place of what is stored: whether each is a
//! document of the kind and the package that were asked for.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::json::NamesSeen;
use crate::{FormatError, text};

/// Documents up to this size are read at once; larger ones piece by piece.
const AT_ONCE_BYTES_MAX: u64 = 1024 * 1024;
/// Further than this no text is kept that identifies a document: no package has such a name.
const TEXT_BYTES_MAX: usize = 1024;
/// The members of a document's outermost object. Versions stand further within.
const MEMBERS_MAX: usize = 4096;
/// The beginning of a file, in which a web page shows itself.
const HEAD_BYTES: u64 = 1024;

/// A document that a registry sent.
pub struct ArrivingDocument<'a> {
    /// The key of the [`crate::Resource`] that was asked for: it names the kind and the package.
    pub key: &'a str,
    /// The media type without its parameters, lower case; empty where the registry sent none.
    pub media_type: &'a str,
    /// Where the bytes came from, after redirects.
    pub url: &'a Url,
    pub reader: &'a mut dyn Read,
}

/// The kind that a document was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// The list of a package's versions or files, with how many there are.
    List(u64),
    Other,
}

impl ArrivingDocument<'_> {
    /// Reads a document of JSON to its end; what `T` does not name is passed over.
    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, FormatError> {
        let mut head = Vec::new();
        let mut beginning = (&mut *self.reader).take(AT_ONCE_BYTES_MAX + 1);
        beginning.read_to_end(&mut head)?;
        if head.len() as u64 <= AT_ONCE_BYTES_MAX {
            let (_, text) = text::utf8(&head)?;
            return Ok(serde_json::from_str(text)?);
        }
        let head = head.strip_prefix(text::MARK).unwrap_or(&head);
        let text = text::Utf8Reader::new(Cursor::new(head).chain(&mut *self.reader));
        Ok(serde_json::from_reader(BufReader::new(text))?)
    }

    /// The whole document.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        self.reader.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The outermost object of a document of JSON.
    pub(crate) fn outline(&mut self) -> Result<Outline, FormatError> {
        self.json()
    }

    /// Checks that the outermost object has the list that such a document is for.
    pub(crate) fn has_list(&mut self, member: &str) -> Result<Recognised, FormatError> {
        match self.outline()?.get(member) {
            Some(Shape::Array(_)) => Ok(Recognised::Other),
            _ => Err(FormatError::shape(format!("it has no list `{member}`"))),
        }
    }

    /// Checks a file of which nothing is known but that it is no web page, unless it is called one.
    pub(crate) fn file(&mut self) -> Result<Recognised, FormatError> {
        let mut head = Vec::new();
        (&mut *self.reader)
            .take(HEAD_BYTES)
            .read_to_end(&mut head)?;
        let is_called_page = [".html", ".htm"].iter().any(|it| self.key.ends_with(it));
        if is_page(&head) && !is_called_page {
            return Err(FormatError::shape("it is a web page"));
        }
        Ok(Recognised::Other)
    }
}

/// Whether the bytes begin as a page of HTML does: what gateways and login servers send.
#[must_use]
pub fn is_page(bytes: &[u8]) -> bool {
    let bytes = bytes
        .strip_prefix(text::MARK)
        .unwrap_or(bytes)
        .trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"].iter().any(|beginning| {
        let head = bytes.get(..beginning.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(beginning))
    })
}

/// The outermost object of a document: its members, each of its own name.
pub(crate) struct Outline(HashMap<String, Shape>);

impl Outline {
    pub fn get(&self, member: &str) -> Option<&Shape> {
        self.0.get(member)
    }

    /// The member of that name in any case, as .NET's readers find it.
    pub fn get_in_any_case(&self, member: &str) -> Option<&Shape> {
        let mut members = self.0.iter();
        let found = members.find(|(name, _)| name.eq_ignore_ascii_case(member));
        found.map(|(_, shape)| shape)
    }

    /// The member's text, of a long one the beginning; `None` where it is something else.
    pub fn text(&self, member: &str) -> Option<&str> {
        match self.get(member) {
            Some(Shape::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// A member, as far as its kind shows it.
pub(crate) enum Shape {
    /// The names of its members.
    Object(NamesSeen),
    /// How many elements it has.
    Array(u64),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OutlineVisitor;
        impl<'de> Visitor<'de> for OutlineVisitor {
            type Value = Outline;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let mut members = HashMap::new();
                while let Some((name, shape)) = map.next_entry::<String, Shape>()? {
                    if members.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    if members.insert(name, shape).is_some() {
                        return Err(A::Error::custom("a member twice"));
                    }
                }
                Ok(Outline(members))
            }
        }
        deserializer.deserialize_map(OutlineVisitor)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut names = NamesSeen::default();
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<IgnoredAny>()?;
                    names.add(&name);
                }
                if names.are_perhaps_twice() {
                    return Err(A::Error::custom("a member twice"));
                }
                Ok(Shape::Object(names))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut count = 0;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Shape::Array(count))
            }

            fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
                let end = text.floor_char_boundary(TEXT_BYTES_MAX);
                Ok(Shape::Text(text.get(..end).unwrap_or(text).to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Other)
            }
        }
        deserializer.deserialize_any(ShapeVisitor)
    }
}

/// Whether a reading failed because of the disk and not of the document.
#[must_use]
pub fn is_of_disk(error: &FormatError) -> bool {
    match error {
        FormatError::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        FormatError::Json(error) => error
            .io_error_kind()
            .is_some_and(|kind| kind != io::ErrorKind::InvalidData),
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::package::Format;

    /// How many versions a document lists; `u64::MAX` where it is no list, `None` where it is no
    /// document of that key.
    pub fn recognise(format: Format, key: &str, media_type: &str, bytes: &[u8]) -> Option<u64> {
        let recognised = format.protocol().recognise(&mut ArrivingDocument {
            key,
            media_type,
            url: &Url::parse("https://up.example/simple/a/").unwrap(),
            reader: &mut &bytes[..],
        });
        recognised.ok().map(|recognised| match recognised {
            Recognised::List(count) => count,
            Recognised::Other => u64::MAX,
        })
    }

    #[test]
    fn a_page_shows_itself_at_its_beginning() {
        for page in [
            "<html>",
            "\u{feff}\n <!DOCTYPE HTML PUBLIC>",
            "<HTML lang=x>",
        ] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for other in ["", "<metadata>", "<!DOCTYPE x>", "{}", "<htm"] {
            assert!(!is_page(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_documents_outermost_object_has_no_more_members_than_may_be() {
        let packument = |members: usize| {
            let mut text = r#"{"name":"a","versions":{}"#.to_owned();
            for number in 2..members {
                text.push_str(&format!(r#","{number}":0"#));
            }
            text.push('}');
            recognise(Format::Npm, "full:a", "", text.as_bytes())
        };
        assert_eq!(packument(MEMBERS_MAX), Some(0));
        assert_eq!(packument(MEMBERS_MAX + 1), None);
    }

    #[test]
    fn a_name_longer_than_any_is_no_packages() {
        let outline = |name: &str| {
            let text = format!(r#"{{"name":"{name}","readme":"{}"}}"#, "x".repeat(100_000));
            serde_json::from_str::<Outline>(&text).unwrap()
        };
        let name = "a".repeat(TEXT_BYTES_MAX);
        assert_eq!(outline(&name).text("name"), Some(&*name));
        assert_eq!(outline(&format!("{name}b")).text("name"), Some(&*name));
        assert_eq!(outline(&name).text("readme").unwrap().len(), TEXT_BYTES_MAX);
        for (told, versions) in [("a".to_owned(), Some(0)), (format!("{name}b"), None)] {
            let text = format!(r#"{{"name":"{told}","versions":{{}}}}"#);
            let found = recognise(Format::Npm, "full:a", "", text.as_bytes());
            assert_eq!(found, versions);
        }
    }
}
