//! `/simple/` itself: hundreds of thousands of names, read and written one at a time.

use std::fmt;
use std::io::{BufRead, Write};

use html5gum::{IoReader, Token, Tokenizer};
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Form, PypiView, name};
use crate::package::PackageId;
use crate::{FormatError, StreamInput, View, text};

pub fn stream(input: &mut StreamInput<'_>, out: &mut dyn Write) -> Result<(), FormatError> {
    let View::Pypi(PypiView::Index(form)) = input.document.view else {
        return Err(FormatError::shape("not the index of PyPI"));
    };
    let mut writer = Writer {
        form,
        out,
        shows: input.shows,
        written: 0,
    };
    writer.begin()?;
    for name in input.own {
        writer.name(name)?;
    }
    // The bytes decide about the form, as they do for a project's page.
    let is_object = begins(&mut *input.reader)? == Some(b'{');
    if is_object || input.media_type.contains("json") {
        read_json(&mut *input.reader, &mut writer)?;
    } else {
        read_html(&mut *input.reader, &mut writer)?;
    }
    writer.end()
}

/// The first byte behind a byte order mark and white space.
pub fn begins(reader: &mut dyn BufRead) -> Result<Option<u8>, FormatError> {
    let mut mark = text::MARK.iter();
    loop {
        let Some(first) = reader.fill_buf()?.first().copied() else {
            return Ok(None);
        };
        if mark.next() != Some(&first) {
            mark = [].iter();
            if !first.is_ascii_whitespace() {
                return Ok(Some(first));
            }
        }
        reader.consume(1);
    }
}

struct Writer<'a> {
    form: Form,
    out: &'a mut dyn Write,
    shows: &'a (dyn Fn(&PackageId) -> bool + 'a),
    written: u64,
}

impl Writer<'_> {
    fn begin(&mut self) -> Result<(), FormatError> {
        match self.form {
            Form::Json => write!(
                self.out,
                "{{\"meta\":{{\"api-version\":\"1.0\"}},\"projects\":["
            )?,
            Form::Html | Form::PlainHtml => write!(
                self.out,
                "<!DOCTYPE html>\n<html>\n  <head>\n    <meta name=\"pypi:repository-version\" content=\"1.0\">\n    <title>Simple index</title>\n  </head>\n  <body>\n"
            )?,
        }
        Ok(())
    }

    /// A name that is none is passed over: it could not be asked for either.
    fn name(&mut self, text: &str) -> Result<(), FormatError> {
        let text = text.trim();
        let Ok(package) = name::parse(text) else {
            return Ok(());
        };
        if !(self.shows)(&package) {
            return Ok(());
        }
        match self.form {
            Form::Json => {
                let comma = if self.written == 0 { "" } else { "," };
                write!(self.out, "{comma}{{\"name\":\"{text}\"}}")?;
            }
            Form::Html | Form::PlainHtml => {
                writeln!(self.out, "    <a href=\"{}/\">{text}</a>", package.name())?;
            }
        }
        self.written += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), FormatError> {
        match self.form {
            Form::Json => write!(self.out, "]}}")?,
            Form::Html | Form::PlainHtml => writeln!(self.out, "  </body>\n</html>")?,
        }
        Ok(self.out.flush()?)
    }
}

fn read_html(reader: &mut dyn BufRead, writer: &mut Writer<'_>) -> Result<(), FormatError> {
    let mut text: Option<Vec<u8>> = None;
    for token in Tokenizer::new(IoReader::new(reader)) {
        match token? {
            Token::StartTag(tag) if &tag.name[..] == b"a" => {
                // A link without an end is one too.
                if let Some(text) = text.replace(Vec::new()) {
                    writer.name(&String::from_utf8_lossy(&text))?;
                }
            }
            Token::String(piece) => {
                if let Some(text) = &mut text {
                    text.extend_from_slice(&piece);
                }
            }
            Token::EndTag(tag) if &tag.name[..] == b"a" => {
                if let Some(text) = text.take() {
                    writer.name(&String::from_utf8_lossy(&text))?;
                }
            }
            _ => {}
        }
    }
    match text {
        Some(text) => writer.name(&String::from_utf8_lossy(&text)),
        None => Ok(()),
    }
}

fn read_json(reader: &mut dyn BufRead, writer: &mut Writer<'_>) -> Result<(), FormatError> {
    let mut failure = None;
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let seed = Root {
        writer,
        failure: &mut failure,
    };
    let read = seed.deserialize(&mut deserializer);
    match failure {
        Some(failure) => Err(failure),
        None => {
            read?;
            Ok(deserializer.end()?)
        }
    }
}

/// The document, of which `projects` is read element by element.
struct Root<'a, 'w> {
    writer: &'a mut Writer<'w>,
    failure: &'a mut Option<FormatError>,
}

impl<'de> DeserializeSeed<'de> for Root<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an index of projects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "projects" {
                map.next_value_seed(Projects {
                    writer: &mut *self.writer,
                    failure: &mut *self.failure,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Projects<'a, 'w> {
    writer: &'a mut Writer<'w>,
    failure: &'a mut Option<FormatError>,
}

#[derive(Deserialize)]
struct Project {
    name: Value,
}

impl<'de> DeserializeSeed<'de> for Projects<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Projects<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of projects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(project) = seq.next_element::<Project>()? {
            let name = project.name.as_str().unwrap_or_default();
            if let Err(failure) = self.writer.name(name) {
                *self.failure = Some(failure);
                return Err(serde::de::Error::custom("the writer is gone"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DocumentId;

    fn run(media_type: &str, body: &str, form: Form) -> String {
        let document = DocumentId {
            package: None,
            view: View::Pypi(PypiView::Index(form)),
        };
        let mut out = Vec::new();
        let mut reader = body.as_bytes();
        let mut input = StreamInput {
            document: &document,
            media_type,
            reader: &mut reader,
            shows: &|package| package.name() != "evil",
            own: &[],
        };
        stream(&mut input, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn either_form_is_made_of_either_and_denied_names_are_in_none() {
        let json = r#"{"meta":{"_last-serial":1},"projects":[{"name":"Foo.Bar","_last-serial":2},{"name":"evil"},{"name":"x"}]}"#;
        let html = "<a href=\"/simple/foo-bar/\">Foo.Bar</a>\n<a href=\"/simple/evil/\">evil</a> <a href=x>x</a><a>\"><script></a>";
        for (media_type, body) in [
            ("application/vnd.pypi.simple.v1+json", json),
            ("text/html", html),
            ("text/html", json),
            ("", &format!("\u{feff} {json}")),
            ("text/html", &html.replace("</a>", "<br>")),
        ] {
            let as_json: Value = serde_json::from_str(&run(media_type, body, Form::Json)).unwrap();
            assert_eq!(
                as_json["projects"],
                serde_json::json!([{"name":"Foo.Bar"},{"name":"x"}])
            );
            let as_html = run(media_type, body, Form::PlainHtml);
            assert!(as_html.contains("<a href=\"foo-bar/\">Foo.Bar</a>"));
            assert!(!as_html.contains("evil") && !as_html.contains("script"));
        }
    }

    #[test]
    fn a_document_cut_short_is_an_error() {
        let document = DocumentId {
            package: None,
            view: View::Pypi(PypiView::Index(Form::Json)),
        };
        let mut reader = &b"{\"projects\":[{\"name\":\"a\"}"[..];
        let mut input = StreamInput {
            document: &document,
            media_type: "application/json",
            reader: &mut reader,
            shows: &|_| true,
            own: &[],
        };
        assert!(stream(&mut input, &mut Vec::new()).is_err());
    }
}
