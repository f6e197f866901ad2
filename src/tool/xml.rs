//! Settings in XML: read by path, and changed by insertion, losing nothing that is there.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// An element with its text and attributes, by its path from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub path: String,
    pub text: String,
    pub attributes: Vec<(String, String)>,
}

impl Element {
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// All elements, each after those in it; what is no XML has none.
#[must_use]
pub fn elements(text: &str) -> Vec<Element> {
    let mut found = Vec::new();
    let mut open: Vec<Element> = Vec::new();
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => open.push(element(&start, open.last())),
            Ok(Event::Empty(start)) => found.push(element(&start, open.last())),
            Ok(Event::Text(piece)) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(piece.trim());
                }
            }
            Ok(Event::End(_)) => found.extend(open.pop()),
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn element(start: &BytesStart<'_>, parent: Option<&Element>) -> Element {
    let name: &str = start.name().into_inner();
    Element {
        path: parent.map_or_else(
            || name.to_owned(),
            |parent| format!("{}/{name}", parent.path),
        ),
        text: String::new(),
        attributes: start
            .attributes()
            .flatten()
            .map(|attribute| {
                (
                    attribute.key.into_inner().to_owned(),
                    attribute.value.to_string(),
                )
            })
            .collect(),
    }
}

/// The text with `child` as the first thing in the element at `path` (two levels: root and
/// element), which is made where it is missing.
#[must_use]
pub fn insert_first(text: &str, root: &str, parent: &str, child: &str) -> String {
    if text.trim().is_empty() {
        return format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<{root}>\n  <{parent}>\n    {child}\n  </{parent}>\n</{root}>\n"
        );
    }
    let wanted = format!("{root}/{parent}");
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let insert = |at: usize, piece: &str| {
        let (before, after) = (
            text.get(..at).unwrap_or(text),
            text.get(at..).unwrap_or_default(),
        );
        format!("{before}{piece}{after}")
    };
    loop {
        let before = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                path.push(start.name().into_inner().to_owned());
                if path.join("/") == wanted {
                    let at = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
                    return insert(at, &format!("\n    {child}"));
                }
            }
            Ok(Event::Empty(start)) if path.len() == 1 && start.name().into_inner() == parent => {
                let at = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
                let opened = format!("<{parent}>\n    {child}\n  </{parent}>");
                let (head, tail) = (
                    text.get(..before).unwrap_or_default(),
                    text.get(at..).unwrap_or_default(),
                );
                return format!("{head}{opened}{tail}");
            }
            Ok(Event::End(_)) => {
                if path.len() == 1 {
                    return insert(
                        before,
                        &format!("  <{parent}>\n    {child}\n  </{parent}>\n"),
                    );
                }
                path.pop();
            }
            Ok(Event::Eof) | Err(_) => return text.to_owned(),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_put_first_and_nothing_is_lost() {
        let child = "<mirror/>";
        for (text, expected) in [
            (
                "<settings><mirrors><mirror><id>a</id></mirror></mirrors></settings>",
                "<settings><mirrors>\n    <mirror/><mirror><id>a</id></mirror></mirrors></settings>",
            ),
            (
                "<settings>\n  <!-- mine --><x/>\n</settings>",
                "<settings>\n  <!-- mine --><x/>\n  <mirrors>\n    <mirror/>\n  </mirrors>\n</settings>",
            ),
            (
                "<settings><mirrors/></settings>",
                "<settings><mirrors>\n    <mirror/>\n  </mirrors></settings>",
            ),
        ] {
            assert_eq!(insert_first(text, "settings", "mirrors", child), expected);
        }
        assert!(
            insert_first("", "settings", "mirrors", child).contains("<mirrors>\n    <mirror/>")
        );
    }

    #[test]
    fn elements_know_their_path_text_and_attributes() {
        let all = elements("<a><b k=\"v\"/><c>text</c></a>");
        assert_eq!(all[0].path, "a/b");
        assert_eq!(all[0].attribute("k"), Some("v"));
        assert_eq!(
            (all[1].path.as_str(), all[1].text.as_str()),
            ("a/c", "text")
        );
    }
}
