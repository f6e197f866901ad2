//! Settings in XML: read by path, and changed by insertion, losing nothing that is there.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// An element with its text and attributes, by its path from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextElement {
    pub path: String,
    pub text: String,
    pub attributes: Vec<(String, String)>,
}

impl TextElement {
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
pub fn elements(text: &str) -> Vec<TextElement> {
    let mut found = Vec::new();
    let mut open: Vec<TextElement> = Vec::new();
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => open.push(element(&start, open.last())),
            Ok(Event::Empty(start)) => found.push(element(&start, open.last())),
            Ok(Event::Text(piece)) => append(&mut open, &piece),
            Ok(Event::CData(piece)) => append(&mut open, &piece),
            Ok(Event::GeneralRef(name)) => {
                append(&mut open, &unescaped(&format!("&{};", &*name)));
            }
            Ok(Event::End(_)) => {
                found.extend(open.pop().map(|element| TextElement {
                    text: element.text.trim().to_owned(),
                    ..element
                }));
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn append(open: &mut [TextElement], piece: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(piece);
    }
}

/// The text with its entities and character references resolved; as it stands where one is unknown.
fn unescaped(text: &str) -> String {
    quick_xml::escape::unescape(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

fn element(start: &BytesStart<'_>, parent: Option<&TextElement>) -> TextElement {
    let name: &str = start.name().into_inner();
    TextElement {
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
                    unescaped(&attribute.value),
                )
            })
            .collect(),
    }
}

/// The text without the elements at `path` that are meant, and without the space before them.
#[must_use]
pub fn remove(text: &str, path: &str, is_meant: impl Fn(&TextElement) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut open, mut kept): (Vec<TextElement>, usize) = (Vec::new(), 0);
    // Where the element that is being left out begins, and how deep it lies.
    let mut leaving: Option<(usize, usize)> = None;
    let mut reader = Reader::from_str(text);
    let at = |reader: &Reader<&[u8]>| usize::try_from(reader.buffer_position()).unwrap_or(0);
    loop {
        let before = at(&reader);
        let mut ended = None;
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                let found = element(&start, open.last());
                if leaving.is_none() && found.path == path && is_meant(&found) {
                    leaving = Some((before, open.len()));
                }
                open.push(found);
            }
            Ok(Event::Empty(start)) => {
                let found = element(&start, open.last());
                if leaving.is_none() && found.path == path && is_meant(&found) {
                    ended = Some(before);
                }
            }
            Ok(Event::End(_)) => {
                open.pop();
                if let Some((start, _)) = leaving.filter(|(_, depth)| *depth == open.len()) {
                    ended = Some(start);
                    leaving = None;
                }
            }
            Ok(Event::Eof) => break,
            // A text that cannot be read as XML is returned unchanged.
            Err(_) => return text.to_owned(),
            Ok(_) => {}
        }
        if let Some(start) = ended {
            out.push_str(text.get(kept..start).unwrap_or_default().trim_end());
            kept = at(&reader);
        }
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    out
}

/// The text with `child` behind the last `sibling` in the element `parent` of the root. Where there is
/// no such sibling, it is the first thing in `parent`, which is made where it is missing.
#[must_use]
pub fn insert_behind(text: &str, root: &str, parent: &str, sibling: &str, child: &str) -> String {
    let wanted = format!("{root}/{parent}/{sibling}");
    let mut open: Vec<TextElement> = Vec::new();
    let mut reader = Reader::from_str(text);
    let mut behind = None;
    loop {
        let ended = match reader.read_event() {
            Ok(Event::Start(start)) => {
                open.push(element(&start, open.last()));
                None
            }
            Ok(Event::Empty(start)) => Some(element(&start, open.last())),
            Ok(Event::End(_)) => open.pop(),
            Ok(Event::Eof) => break,
            // `insert_first` leaves a text that cannot be read as XML unchanged.
            Err(_) => {
                behind = None;
                break;
            }
            Ok(_) => None,
        };
        if ended.is_some_and(|element| element.path == wanted) {
            behind = usize::try_from(reader.buffer_position()).ok();
        }
    }
    match behind.and_then(|at| text.split_at_checked(at)) {
        Some((before, after)) => format!("{before}\n    {child}{after}"),
        None => insert_first(text, root, parent, child),
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
            Ok(Event::Empty(start)) if path.is_empty() && start.name().into_inner() == root => {
                let at = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
                let (head, tail) = text.split_at_checked(at).unwrap_or((text, ""));
                let head = head.trim_end_matches('>').trim_end_matches('/').trim_end();
                return format!(
                    "{head}>\n  <{parent}>\n    {child}\n  </{parent}>\n</{root}>{tail}"
                );
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
                "<?xml version=\"1.0\"?>\n<settings xmlns=\"u\" />\n",
                "<?xml version=\"1.0\"?>\n<settings xmlns=\"u\">\n  <mirrors>\n    <mirror/>\n  </mirrors>\n</settings>\n",
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
    fn a_child_is_put_behind_its_last_sibling() {
        let child = "<add/>";
        for (text, expected) in [
            (
                "<c><s><clear/><x/></s></c>",
                "<c><s><clear/>\n    <add/><x/></s></c>",
            ),
            (
                "<c><s><x/>\n    <clear></clear>\n    <clear /><y/></s></c>",
                "<c><s><x/>\n    <clear></clear>\n    <clear />\n    <add/><y/></s></c>",
            ),
            (
                "<c><o><clear/></o><s><!-- <clear/> --><x/></s></c>",
                "<c><o><clear/></o><s>\n    <add/><!-- <clear/> --><x/></s></c>",
            ),
            ("<c><s><clear/></s><", "<c><s>\n    <add/><clear/></s><"),
        ] {
            assert_eq!(insert_behind(text, "c", "s", "clear", child), expected);
        }
        assert!(insert_behind("", "c", "s", "clear", child).contains("<s>\n    <add/>"));
    }

    #[test]
    fn only_what_is_meant_is_removed() {
        let is_ours = |element: &TextElement| element.attribute("k") == Some("ours");
        for (text, expected) in [
            (
                "<a><b>\n  <c k=\"ours\"/><c/></b></a>",
                "<a><b><c/></b></a>",
            ),
            ("<a><b><c k='ours'></c><c/></b></a>", "<a><b><c/></b></a>"),
            ("<a><b><c k='ours'><d/>x</c>y</b></a>", "<a><b>y</b></a>"),
            ("<a><x><c k='ours'/></x></a>", "<a><x><c k='ours'/></x></a>"),
            (
                "<a><!-- <c k='ours'/> --></a>",
                "<a><!-- <c k='ours'/> --></a>",
            ),
        ] {
            assert_eq!(remove(text, "a/b/c", is_ours), expected);
        }
    }

    #[test]
    fn elements_know_their_path_text_and_attributes() {
        let all = elements("<a><b k=\"v&amp;&#x77;\"/><c> t&amp;<![CDATA[<e>]]>&#120; t </c></a>");
        assert_eq!(all[0].path, "a/b");
        assert_eq!(all[0].attribute("k"), Some("v&w"));
        assert_eq!(
            (all[1].path.as_str(), all[1].text.as_str()),
            ("a/c", "t&<e>x t")
        );
    }
}
