//! Tells PyPI's documents from what is none.

use std::io::{BufRead, BufReader};

use html5gum::{IoReader, Token, Tokenizer};
use serde::Deserialize;

use super::{Pypi, index, name};
use crate::arriving::Shape;
use crate::package::PackageId;
use crate::{ArrivingDocument, Documents as _, FormatError, Protocol as _, Recognised, path};

/// The headings of a page, in which it may say what it is about.
const HEADINGS: [&str; 2] = ["title", "h1"];
/// A heading is no longer than this.
const HEADING_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
struct Legacy {
    info: Info,
}

#[derive(Deserialize)]
struct Info {
    name: String,
}

pub fn recognise(arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
    let key = arriving.key;
    if let Some(path) = key.strip_prefix("legacy:") {
        let told = arriving.json::<Legacy>()?.info.name;
        let package = Pypi.package(path.split('/').next().unwrap_or_default());
        return match package {
            Ok(package) if name::normalised(&told) == package.name() => Ok(Recognised::Other),
            _ => Err(of_another(&told)),
        };
    }
    let package = Pypi.package_of(key);
    if package.is_none() && key != "index" {
        return arriving.file();
    }
    let mut reader = BufReader::new(&mut *arriving.reader);
    // The bytes decide about the form, as they do where the page is rendered.
    let is_object = index::begins(&mut reader)? == Some(b'{');
    if !is_object && !arriving.media_type.contains("json") {
        return match &package {
            None => html_index(&mut reader),
            Some(package) => html_page(package, &mut reader),
        };
    }
    let mut arriving = ArrivingDocument {
        key,
        media_type: arriving.media_type,
        url: arriving.url,
        reader: &mut reader,
    };
    match &package {
        None => arriving.has_list("projects"),
        Some(package) => json_page(package, &mut arriving),
    }
}

fn of_another(told: &str) -> FormatError {
    FormatError::shape(format!("it is the page of `{}`", told.escape_debug()))
}

fn json_page(
    package: &PackageId,
    arriving: &mut ArrivingDocument<'_>,
) -> Result<Recognised, FormatError> {
    let page = arriving.outline()?;
    if let Some(told) = page.text("name")
        && name::normalised(told) != package.name()
    {
        return Err(of_another(told));
    }
    match page.get("files") {
        Some(Shape::Array(count)) => Ok(Recognised::List(*count)),
        _ => Err(FormatError::shape("it has no list of files")),
    }
}

/// The signs by which a page of HTML shows its kind.
#[derive(Default)]
struct Signs {
    /// Links to files of the project.
    files: u64,
    /// Links to projects.
    projects: u64,
    headings: String,
    /// It says that it is a page of the simple index (PEP 629).
    is_versioned: bool,
    /// It asks for something.
    has_form: bool,
}

impl Signs {
    fn read(package: Option<&PackageId>, reader: &mut dyn BufRead) -> Result<Self, FormatError> {
        let mut signs = Self::default();
        let mut link: Option<(String, String)> = None;
        let mut is_heading = false;
        for token in Tokenizer::new(IoReader::new(reader)) {
            match token? {
                Token::StartTag(tag) => {
                    let attribute = |name: &[u8]| {
                        let value = tag.attributes.get(name);
                        value.map(|value| String::from_utf8_lossy(value).into_owned())
                    };
                    match &tag.name[..] {
                        b"a" => {
                            signs.link(package, link.take());
                            link = attribute(b"href").map(|href| (href, String::new()));
                        }
                        b"meta" => {
                            let name = attribute(b"name");
                            signs.is_versioned |=
                                name.as_deref() == Some("pypi:repository-version");
                        }
                        b"form" | b"input" => signs.has_form = true,
                        name if HEADINGS.iter().any(|it| it.as_bytes() == name) => {
                            is_heading = true;
                            signs.headings.push(' ');
                        }
                        _ => {}
                    }
                }
                Token::String(text) => {
                    let text = String::from_utf8_lossy(&text);
                    if is_heading && signs.headings.len() + text.len() <= HEADING_BYTES_MAX {
                        signs.headings.push_str(&text);
                    }
                    if let Some((_, words)) = &mut link
                        && words.len() + text.len() <= HEADING_BYTES_MAX
                    {
                        words.push_str(&text);
                    }
                }
                Token::EndTag(tag) => match &tag.name[..] {
                    b"a" => signs.link(package, link.take()),
                    name if HEADINGS.iter().any(|it| it.as_bytes() == name) => is_heading = false,
                    _ => {}
                },
                _ => {}
            }
        }
        signs.link(package, link);
        Ok(signs)
    }

    fn link(&mut self, package: Option<&PackageId>, link: Option<(String, String)>) {
        let Some((href, text)) = link else { return };
        let address = href.split(['#', '?']).next().unwrap_or_default();
        let folder = address.strip_suffix('/').map(path::last_segment);
        let names_folder = |folder| name::normalised(folder) == name::normalised(text.trim());
        match (package, folder) {
            (None, Some(folder)) if !folder.is_empty() && names_folder(folder) => {
                self.projects += 1
            }
            (Some(package), _) => {
                let file = percent_encoding::percent_decode_str(path::last_segment(address));
                let file = file.decode_utf8_lossy();
                let is_of = |file: &str| is_file_of(package, file);
                self.files += u64::from(is_of(&file) || is_of(text.trim()));
            }
            _ => {}
        }
    }

    /// Whether a heading has the word, in any spelling that names of projects have.
    fn name(&self, word: &str) -> bool {
        let words = self.headings.split(|c: char| c.is_whitespace() || c == '/');
        words.into_iter().any(|it| name::normalised(it) == word)
    }
}

/// Whether the file is one of the project, by its name.
fn is_file_of(package: &PackageId, file: &str) -> bool {
    let begins = || {
        let rest = name::normalised(file);
        let rest = rest.strip_prefix(package.name()).map(str::to_owned);
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    name::version_of(package.name(), file).is_some() || begins()
}

/// A page has files of its project; or it has none, and says in a way that registries have that it is
/// the project's page.
fn html_page(package: &PackageId, reader: &mut dyn BufRead) -> Result<Recognised, FormatError> {
    let signs = Signs::read(Some(package), reader)?;
    let is_empty_page = !signs.has_form && (signs.is_versioned || signs.name(package.name()));
    if signs.files > 0 || is_empty_page {
        return Ok(Recognised::List(signs.files));
    }
    Err(FormatError::shape(format!(
        "it is text without a link to a file of {}",
        package.name()
    )))
}

fn html_index(reader: &mut dyn BufRead) -> Result<Recognised, FormatError> {
    let signs = Signs::read(None, reader)?;
    let is_index = signs.projects > 0 || signs.is_versioned || signs.name("simple");
    if is_index && !signs.has_form {
        return Ok(Recognised::Other);
    }
    Err(FormatError::shape("it is text without a link to a project"))
}

#[cfg(test)]
mod tests {
    use super::HEADING_BYTES_MAX;
    use crate::arriving::tests::recognise;
    use crate::package::Format;

    fn list(key: &str, text: &str) -> Option<u64> {
        recognise(Format::Pypi, key, "", text.as_bytes())
    }

    #[test]
    fn a_page_is_recognised_by_its_files_or_by_what_it_says_of_itself() {
        for (text, count) in [
            (r#"{"meta":{},"name":"A.b","files":[{},{}]}"#, 2),
            (r#"{"files":[]}"#, 0),
            (
                "<a href=\"../../p/a_b-1.0.tar.gz#sha256=0\">a_b-1.0.tar.gz</a>",
                1,
            ),
            (
                "<a href='/d?id=5'>a-b-1.0.zip</a><a href=a_b-2.0-py3-none-any.whl>x",
                2,
            ),
            ("<title>Links for A-b</title>", 0),
            ("<h1>Index of /simple/a-b/</h1><a href=\"../\">../</a>", 0),
            (
                "<!DOCTYPE html><meta name=\"pypi:repository-version\" content=\"1.0\">",
                0,
            ),
        ] {
            assert_eq!(list("simple:a-b", text), Some(count), "{text}");
        }
        for text in [
            "",
            "{}",
            r#"{"error":"rate limited"}"#,
            r#"{"name":"b","files":[]}"#,
            r#"{"files":[]"#,
            "<html><body><h1>Log in</h1></body></html>",
            "<title>Log in</title><a href=/login>a-b</a><form><input name=user></form>",
            "<title>Sign in to a-b</title><form></form>",
            "<h1>Links for c</h1><a href=\"c-1.0.tar.gz\">c-1.0.tar.gz</a>",
            "rate limited",
        ] {
            assert_eq!(list("simple:a-b", text), None, "{text}");
        }
        let html = b"<a href=a-b-1.0.zip>a-b-1.0.zip</a>";
        assert_eq!(
            recognise(Format::Pypi, "simple:a-b", "application/json", html),
            None
        );
    }

    #[test]
    fn the_index_and_the_older_document_are_recognised_too() {
        for (key, good) in [
            ("index", r#"{"projects":[]}"#),
            ("index", "<a href=\"/simple/a-b/\">A.b</a>"),
            ("index", "<title>Simple index</title>"),
            ("legacy:a-b/json", r#"{"info":{"name":"A_b"},"urls":[]}"#),
            ("legacy:a-b/1.0/json", r#"{"info":{"name":"a-b"}}"#),
            ("asset:pypi:a/x.provenance", r#"{"attestation_bundles":[]}"#),
        ] {
            assert_eq!(list(key, good), Some(u64::MAX), "{key} {good}");
        }
        for (key, bad) in [
            ("index", ""),
            ("index", "{}"),
            ("index", "<a href=/login>login</a>"),
            ("index", "<a href=/login/>login</a><form>"),
            ("legacy:a-b/json", "{}"),
            ("legacy:a-b/json", r#"{"info":{"name":"c"}}"#),
            (
                "asset:pypi:a/x.provenance",
                "<!doctype html><h1>Log in</h1>",
            ),
        ] {
            assert_eq!(list(key, bad), None, "{key} {bad}");
        }
    }

    #[test]
    fn a_heading_is_read_up_to_its_bound() {
        let page = |bytes: usize| {
            // The blank before each heading counts, too.
            let words = " a-b";
            let fill = "x".repeat(bytes - 1 - words.len());
            list("simple:a-b", &format!("<title>{fill}{words}</title>"))
        };
        assert_eq!(page(HEADING_BYTES_MAX), Some(0));
        assert_eq!(page(HEADING_BYTES_MAX + 1), None);
    }
}
