//! One `maven-metadata.xml` of several sources'.

use std::collections::HashSet;

use quick_xml::escape::escape;

use super::metadata::{LISTED_PLUGIN, Metadata};
use super::{MavenView, compose};
use crate::{DocumentId, FormatError, View};

pub fn merges(document: &DocumentId) -> bool {
    matches!(document.view, View::Maven(MavenView::Metadata { .. }))
}

pub fn merge(parts: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
    let read: Vec<Metadata<'_>> = parts
        .iter()
        .map(|part| Metadata::read(part))
        .collect::<Result<_, _>>()?;
    let texts = |path: &str| {
        let elements = read.iter().flat_map(|one| &one.elements);
        elements
            .filter(move |element| &*element.path == path)
            .map(|element| &*element.text)
            .collect::<Vec<_>>()
    };
    let mut seen = HashSet::new();
    let mut versions = Vec::new();
    for one in &read {
        one.each_version(|version| {
            if seen.insert(version.text.clone()) {
                versions.push(version.text);
            }
        })?;
    }
    let updated = texts("metadata/versioning/lastUpdated");
    let updated = updated.into_iter().max().unwrap_or_default();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata>\n");
    for name in ["groupId", "artifactId"] {
        if let Some(text) = texts(&format!("metadata/{name}")).first() {
            out.push_str(&format!("  <{name}>{}</{name}>\n", escape(*text)));
        }
    }
    if !versions.is_empty() {
        let versions: Vec<&str> = versions.iter().map(|version| &**version).collect();
        out.push_str(&compose::versioning(&versions, updated));
    }
    let mut prefixes = HashSet::new();
    let mut plugins = String::new();
    for one in &read {
        one.each_listed(LISTED_PLUGIN, |plugin| {
            let text = one.text.get(plugin.range).unwrap_or_default();
            if prefixes.insert(text) {
                plugins.push_str(&format!("    {text}\n"));
            }
        })?;
    }
    if !plugins.is_empty() {
        out.push_str(&format!("  <plugins>\n{plugins}  </plugins>\n"));
    }
    out.push_str("</metadata>\n");
    Ok(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_are_one_list_with_its_newest() {
        let near = "<metadata><groupId>x</groupId><artifactId>y</artifactId><versioning><latest>2.0-SNAPSHOT</latest><versions><version>1.9</version><version>2.0-SNAPSHOT</version></versions><lastUpdated>20260101000000</lastUpdated></versioning></metadata>";
        let far = "<metadata><versioning><release>1.10</release><versions><version>1.10</version><version>1.9</version></versions><lastUpdated>20260201000000</lastUpdated></versioning><plugins><plugin><prefix>p</prefix></plugin></plugins></metadata>";
        let merged = merge(&[near.as_bytes(), far.as_bytes()]).unwrap();
        let text = String::from_utf8(merged).unwrap();
        for part in [
            "<groupId>x</groupId>",
            "<latest>2.0-SNAPSHOT</latest>",
            "<release>1.10</release>",
            "<lastUpdated>20260201000000</lastUpdated>",
            "<plugin><prefix>p</prefix></plugin>",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches("<version>1.9</version>").count(), 1);
    }
}
