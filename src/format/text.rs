//! Bytes of documents as the text that clients read in them: the one place that knows byte order
//! marks and encodings.

use std::borrow::Cow;
use std::io::{self, Read};

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use super::FormatError;

/// UTF-8's byte order mark. .NET's and Python's readers skip it.
pub const MARK: &[u8] = b"\xef\xbb\xbf";
/// An XML declaration is at the beginning, and short.
const DECLARATION_BYTES_MAX: usize = 256;

/// UTF-8 text, and the length of the byte order mark before it: 0 or 3.
///
/// # Errors
/// Where it is not UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<(usize, &str), FormatError> {
    let (mark, rest) = match bytes.strip_prefix(MARK) {
        Some(rest) => (MARK.len(), rest),
        None => (0, bytes),
    };
    Ok((mark, std::str::from_utf8(rest)?))
}

/// Passes a long text on, and fails where it is not UTF-8.
pub struct Utf8Reader<R> {
    reader: R,
    /// The beginning of a character whose end has not come yet.
    begun: Vec<u8>,
}

impl<R: Read> Utf8Reader<R> {
    pub fn new(reader: R) -> Self {
        let begun = Vec::new();
        Self { reader, begun }
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        let mut text = std::mem::take(&mut self.begun);
        text.extend_from_slice(into.get(..count).unwrap_or_default());
        if let Err(error) = std::str::from_utf8(&text) {
            if error.error_len().is_some() || count == 0 {
                let what = "it is not text in UTF-8";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.begun = text.split_off(error.valid_up_to());
        }
        Ok(count)
    }
}

/// The text of an XML document in the encoding that its mark or its declaration names, else UTF-8
/// (XML 1.0, appendix F). Text that was in another encoding says of itself that it is UTF-8 now.
///
/// # Errors
/// Where the encoding is unknown, contradicts the mark, or is not that of the bytes.
pub fn xml(bytes: &[u8]) -> Result<Cow<'_, str>, FormatError> {
    let (marked, rest) = match Encoding::for_bom(bytes) {
        Some((encoding, length)) => (Some(encoding), bytes.get(length..).unwrap_or_default()),
        None => (None, bytes),
    };
    let by_bytes = marked.or(match rest {
        [b'<', 0, ..] => Some(UTF_16LE),
        [0, b'<', ..] => Some(UTF_16BE),
        _ => None,
    });
    let text = match by_bytes {
        Some(encoding) => decode(encoding, rest)?,
        None => {
            let head = rest.get(..DECLARATION_BYTES_MAX).unwrap_or(rest);
            let encoding = match declared(&String::from_utf8_lossy(head)) {
                None => UTF_8,
                Some(label) => Encoding::for_label(label.as_bytes())
                    // A declaration that can be read as ASCII is in no other kind of encoding.
                    .filter(|encoding| encoding.is_ascii_compatible())
                    .ok_or_else(|| {
                        FormatError::Xml(format!("it says that its encoding is `{label}`"))
                    })?,
            };
            return decode(encoding, rest).map(|text| says_utf8(encoding, text));
        }
    };
    let encoding = by_bytes.unwrap_or(UTF_8);
    if let Some(label) = declared(&text) {
        let is_wide = |encoding| encoding == UTF_16LE || encoding == UTF_16BE;
        let agrees = label.eq_ignore_ascii_case("utf-16") && is_wide(encoding)
            || Encoding::for_label(label.as_bytes()) == Some(encoding);
        if !agrees {
            return Err(FormatError::Xml(format!(
                "it says that its encoding is `{label}`, and its bytes say {}",
                encoding.name()
            )));
        }
    }
    Ok(says_utf8(encoding, text))
}

fn decode<'a>(encoding: &'static Encoding, bytes: &'a [u8]) -> Result<Cow<'a, str>, FormatError> {
    let text = if encoding == UTF_8 {
        Cow::Borrowed(std::str::from_utf8(bytes)?)
    } else {
        encoding
            .decode_without_bom_handling_and_without_replacement(bytes)
            .ok_or_else(|| FormatError::Xml(format!("it is not in {}", encoding.name())))?
    };
    // A reader that drops the second one, too, counts its places from another beginning.
    if text.starts_with('\u{feff}') {
        return Err(FormatError::Xml("it begins with two marks".to_owned()));
    }
    Ok(text)
}

/// The encoding that an XML declaration names.
fn declared(text: &str) -> Option<&str> {
    let declaration = text.strip_prefix("<?xml")?.split_once("?>")?.0;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    value.get(1..)?.split_once(quote).map(|(label, _)| label)
}

fn says_utf8<'a>(encoding: &'static Encoding, text: Cow<'a, str>) -> Cow<'a, str> {
    match declared(&text) {
        Some(label) if encoding != UTF_8 => {
            let changed = text.replacen(label, "UTF-8", 1);
            Cow::Owned(changed)
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn two_marks_are_no_document() {
        for bytes in [
            "\u{feff}\u{feff}<a/>".as_bytes().to_vec(),
            wide("\u{feff}\u{feff}<a/>", u16::to_le_bytes),
            wide("\u{feff}\u{feff}<a/>", u16::to_be_bytes),
        ] {
            assert!(xml(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_mark_is_no_part_of_the_text() {
        assert_eq!(utf8(b"\xef\xbb\xbf{}").unwrap(), (3, "{}"));
        assert_eq!(utf8(b"{}").unwrap(), (0, "{}"));
        assert!(utf8(b"\xff\xfe{\0}\0").is_err());
    }

    #[test]
    fn xml_is_read_in_its_own_encoding() {
        let of = |label: &str| format!("<?xml version='1.0' encoding='{label}'?><a>é</a>");
        let utf16 = of("UTF-16");
        let little = wide(&utf16, u16::to_le_bytes);
        let big = wide(&utf16, u16::to_be_bytes);
        let latin: Vec<u8> = of("ISO-8859-1").chars().map(|c| c as u8).collect();
        let plain = of("UTF-8");
        for (what, bytes) in [
            ("UTF-8", plain.clone().into_bytes()),
            ("with a mark", [MARK, plain.as_bytes()].concat()),
            ("ISO-8859-1", latin),
            ("UTF-16, little", little.clone()),
            ("UTF-16, big", big.clone()),
            ("UTF-16, marked", [b"\xff\xfe", &little[..]].concat()),
            ("UTF-16, big, marked", [b"\xfe\xff", &big[..]].concat()),
        ] {
            assert_eq!(xml(&bytes).unwrap(), plain, "{what}");
        }
    }

    #[test]
    fn what_is_in_no_encoding_that_is_known_is_not_read() {
        for bytes in [
            b"<?xml version='1.0' encoding='IBM037'?><a/>".as_slice(),
            b"<?xml version='1.0' encoding='UTF-7'?><a/>",
            b"<?xml version='1.0' encoding='UTF-16'?><a/>",
            b"\xef\xbb\xbf<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
            b"<a>\xe9</a>",
            b"\xff\xfe<\0a",
        ] {
            assert!(xml(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_declaration_is_looked_for_up_to_its_bound() {
        let read = |bytes: usize| {
            let (before, behind) = ("<?xml version='1.0'", "encoding='ISO-8859-1'?>");
            let blanks = " ".repeat(bytes - before.len() - behind.len());
            let mut text = format!("{before}{blanks}{behind}<a>").into_bytes();
            text.extend_from_slice(b"\xe9</a>");
            xml(&text).map(|text| text.contains("<a>é</a>"))
        };
        assert!(read(DECLARATION_BYTES_MAX).unwrap());
        // Without one the text is UTF-8, and that is no UTF-8.
        assert!(read(DECLARATION_BYTES_MAX + 1).is_err());
    }
}
