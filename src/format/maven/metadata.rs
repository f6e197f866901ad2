//! `maven-metadata.xml` with hidden versions left out.
//! Source: Maven's repository metadata model (`maven-repository-metadata`).

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use quick_xml::escape::escape;

use super::{MavenView, version};
use crate::edit::Edits;
use crate::package::PackageId;
use crate::xml::{self, Element};
use crate::{FormatError, RenderInput, Rendering, Subject, View, text};

/// The elements that stand in lists. All others occur once in their parent: Maven refuses a second
/// one, and other readers take either.
const LISTED: &[&str] = &[
    LISTED_VERSION,
    "metadata/versioning/snapshotVersions/snapshotVersion",
    LISTED_PLUGIN,
];
/// Elements outside lists that a metadata file has at the most.
const ELEMENTS_MAX: usize = 1000;
const LISTED_VERSION: &str = "metadata/versioning/versions/version";
pub const LISTED_PLUGIN: &str = "metadata/plugins/plugin";
/// The elements with versions, which rules are asked about; they contain text alone.
const VERSIONS: &[&str] = &[
    LISTED_VERSION,
    "metadata/versioning/latest",
    "metadata/versioning/release",
];

/// A `maven-metadata.xml`, read to its end.
pub struct Metadata<'a> {
    /// In UTF-8, whatever the document was in.
    pub text: Cow<'a, str>,
    /// Its elements outside lists, which may be long.
    pub elements: Vec<Element<'static>>,
    pub versions_count: u64,
}

impl<'a> Metadata<'a> {
    /// # Errors
    /// Where it is none, or readers would read it in different ways.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let text = text::xml(bytes)?;
        let mut elements: Vec<Element<'static>> = Vec::new();
        let mut versions_count = 0;
        let mut seen = HashSet::new();
        xml::each_element(&text, |element| {
            let path = &*element.path;
            if element.has_children && VERSIONS.contains(&path) {
                return Err(FormatError::Xml(format!(
                    "`{path}` has more than a version in it"
                )));
            }
            versions_count += u64::from(path == LISTED_VERSION);
            let is_in_list = |list: &&str| {
                let rest = path.strip_prefix(*list);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if LISTED.iter().any(is_in_list) {
                return Ok(());
            }
            if !seen.insert(Rc::clone(&element.path)) {
                return Err(FormatError::Xml(format!("it has `{path}` twice")));
            }
            if elements.len() >= ELEMENTS_MAX {
                return Err(FormatError::Xml("it has too many elements".to_owned()));
            }
            elements.push(element.into_owned());
            Ok(())
        })?;
        // An element's parts come before it.
        if elements.last().is_none_or(|root| &*root.path != "metadata") {
            return Err(FormatError::Xml("it is no maven-metadata.xml".to_owned()));
        }
        Ok(Self {
            text,
            elements,
            versions_count,
        })
    }

    /// Reads a list's elements one after the other.
    pub fn each_listed<'s>(
        &'s self,
        path: &str,
        mut visit: impl FnMut(Element<'s>),
    ) -> Result<(), FormatError> {
        xml::each_element(&self.text, |element| {
            if &*element.path == path {
                visit(element);
            }
            Ok(())
        })
    }

    /// Reads the versions that are listed one after the other.
    pub fn each_version<'s>(&'s self, visit: impl FnMut(Element<'s>)) -> Result<(), FormatError> {
        self.each_listed(LISTED_VERSION, visit)
    }
}

/// The versions that the package's document lists.
///
/// # Errors
/// Where it is none, or says that it is another package's.
pub fn versions(package: Option<&PackageId>, bytes: &[u8]) -> Result<Vec<String>, FormatError> {
    let metadata = Metadata::read(bytes)?;
    for element in &metadata.elements {
        let own = package.and_then(|package| match &*element.path {
            "metadata/groupId" => package.namespace(),
            "metadata/artifactId" => Some(package.name()),
            _ => None,
        });
        if own.is_some_and(|own| own != element.text.trim()) {
            return Err(FormatError::shape(format!(
                "its `{}` is `{}`",
                element.path,
                element.text.trim()
            )));
        }
    }
    let mut versions = Vec::new();
    metadata.each_version(|version| versions.push(version.text.into_owned()))?;
    Ok(versions)
}

pub fn render(input: &RenderInput<'_>) -> Result<Rendering, FormatError> {
    let View::Maven(view) = &input.document.view else {
        return Err(FormatError::shape("not a document of Maven"));
    };
    let body = match view {
        // A list of the repository's, which has no addresses in it and opens no version.
        MavenView::Other { .. } => None,
        MavenView::Metadata { .. } => {
            let metadata = Metadata::read(input.upstream.bytes)?;
            match input.shows {
                Some(shows) => filter(&metadata, |version| shows(Subject::Version(version)))?,
                None => None,
            }
        }
        MavenView::VersionMetadata { version, .. } => {
            Metadata::read(input.upstream.bytes)?;
            if input
                .shows
                .is_some_and(|shows| !shows(Subject::Version(version)))
            {
                return Err(FormatError::Absent(format!(
                    "{version} is held back by a rule"
                )));
            }
            None
        }
    };
    let content_type = match input.upstream.media_type {
        "" => Cow::Borrowed("application/xml"),
        given => Cow::Owned(given.to_owned()),
    };
    Ok(Rendering {
        body,
        content_type,
        aliases: Vec::new(),
    })
}

/// The document in UTF-8 without the versions that are not shown; `None` where all are.
fn filter(
    metadata: &Metadata<'_>,
    shown: impl Fn(&str) -> bool,
) -> Result<Option<Vec<u8>>, FormatError> {
    let bytes = metadata.text.as_bytes();
    let mut edits = Edits::new(bytes);
    metadata.each_version(|version| {
        if !shown(&version.text) {
            edits.remove(with_indent(bytes, &version.range));
        }
    })?;
    let newest = |release_only: bool| -> Result<Option<Cow<'_, str>>, FormatError> {
        let mut newest: Option<Cow<'_, str>> = None;
        metadata.each_version(|version| {
            let text = version.text;
            let is_newer = |newest: &Cow<'_, str>| version::compare(&text, newest).is_ge();
            if shown(&text)
                && !(release_only && text.ends_with("-SNAPSHOT"))
                && newest.as_ref().is_none_or(is_newer)
            {
                newest = Some(text);
            }
        })?;
        Ok(newest)
    };
    for (path, release_only) in [
        ("metadata/versioning/latest", false),
        ("metadata/versioning/release", true),
    ] {
        let names_hidden =
            |it: &&Element<'_>| &*it.path == path && !it.text.is_empty() && !shown(&it.text);
        for element in metadata.elements.iter().filter(names_hidden) {
            match newest(release_only)? {
                Some(newest) => {
                    edits.replace(element.text_range.clone(), escape(&*newest).as_bytes());
                }
                None => edits.remove(with_indent(bytes, &element.range)),
            }
        }
    }
    Ok(edits.apply())
}

/// The element with the white space before it, so that no empty line is left.
fn with_indent(bytes: &[u8], range: &Range<usize>) -> Range<usize> {
    let before = bytes.get(..range.start).unwrap_or_default();
    let indent = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    range.start - indent..range.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "<?xml version=\"1.0\"?>\n<metadata>\n  <groupId>x</groupId>\n  <versioning>\n    <latest>2.0</latest>\n    <release>2.0</release>\n    <versions>\n      <version>1.9</version>\n      <version>1.10</version>\n      <version>2.0</version>\n    </versions>\n    <lastUpdated>20260101</lastUpdated>\n  </versioning>\n</metadata>\n";

    #[test]
    fn a_hidden_version_goes_and_the_newest_left_takes_its_place() {
        let metadata = Metadata::read(METADATA.as_bytes()).unwrap();
        let filtered = filter(&metadata, |version| version != "2.0")
            .unwrap()
            .unwrap();
        let expected = METADATA
            .replace("      <version>2.0</version>\n", "")
            .replace(">2.0<", ">1.10<");
        assert_eq!(String::from_utf8(filtered).unwrap(), expected);
        assert_eq!(filter(&metadata, |_| true).unwrap(), None);
        assert_eq!(
            versions(None, METADATA.as_bytes()).unwrap(),
            ["1.9", "1.10", "2.0"]
        );
    }

    #[test]
    fn a_version_is_hidden_however_it_is_written() {
        let metadata = |versions: &str| {
            format!("<metadata><versioning><versions>{versions}</versions></versioning></metadata>")
        };
        let good = "<version>1.9</version>";
        for bad in [
            "<version><![CDATA[2.0]]></version>",
            "<version>2&#46;0</version>",
            "<version>2<!-- -->.0</version>",
            "<x:version xmlns:x='u'>2.0</x:version>",
        ] {
            let text = metadata(&format!("{good}{bad}"));
            let read = Metadata::read(text.as_bytes()).unwrap();
            let filtered = filter(&read, |version| version != "2.0").unwrap().unwrap();
            assert_eq!(
                String::from_utf8(filtered).unwrap(),
                metadata(good),
                "{bad}"
            );
        }
        let declared = format!("<?xml version='1.0' encoding='UTF-16'?>{METADATA}")
            .replace("<?xml version=\"1.0\"?>\n", "");
        let wide: Vec<u8> = std::iter::once(0xfeff)
            .chain(declared.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let read = Metadata::read(&wide).unwrap();
        let filtered = filter(&read, |version| version != "2.0").unwrap().unwrap();
        let filtered = String::from_utf8(filtered).unwrap();
        assert!(filtered.starts_with("<?xml version='1.0' encoding='UTF-8'?>"));
        assert!(!filtered.contains("2.0") && filtered.contains("1.10"));
    }

    #[test]
    fn a_list_may_be_long_and_all_else_may_not() {
        let many = |name: &str| {
            let count = 0..2 * ELEMENTS_MAX;
            let all = count.map(|number| format!("<{name}>{number}</{name}>"));
            all.collect::<String>()
        };
        let versions = many("version");
        let listed = format!(
            "<metadata><versioning><versions>{versions}</versions></versioning></metadata>"
        );
        let read = Metadata::read(listed.as_bytes()).unwrap();
        assert_eq!(read.versions_count, 2 * ELEMENTS_MAX as u64);
        let count = 0..2 * ELEMENTS_MAX;
        let others: Vec<String> = count.map(|number| format!("<a{number}/>")).collect();
        let others = others.concat();
        let others = format!("<metadata>{others}</metadata>");
        assert!(Metadata::read(others.as_bytes()).is_err());
    }

    #[test]
    fn what_readers_would_read_in_different_ways_is_refused() {
        for text in [
            "<!DOCTYPE x [<!ENTITY a \"b\">]><metadata>&a;</metadata>",
            "<metadata><versioning>",
            "<html><body>not found</body></html>",
            "<metadata><versioning><versions/><versions><version>1</version></versions></versioning></metadata>",
            "<metadata><versioning/><versioning/></metadata>",
            "<metadata><versioning><latest>1</latest><latest>2</latest></versioning></metadata>",
            "<metadata><versioning><versions><version>1<b>0</b></version></versions></versioning></metadata>",
            "{\"error\": \"not found\"}",
        ] {
            assert!(Metadata::read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Metadata::read("<a>".repeat(100_000).as_bytes()).is_err());
        let group = "<metadata><plugins><plugin><name>a</name><prefix>p</prefix></plugin><plugin><name>b</name></plugin></plugins></metadata>";
        assert!(Metadata::read(group.as_bytes()).is_ok());
    }
}
