//! Tells Maven's documents from what is none.

use http::Method;

use super::metadata::Metadata;
use super::{MavenView, path};
use crate::package::{Algorithm, Digest, PackageId};
use crate::{ArrivingDocument, ClientRequest, FormatError, Recognised, Target, View, text, xml};

pub fn recognise(arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
    if let Some(of) = arriving.key.strip_prefix("checksum:") {
        let algorithm = of.split(':').next().and_then(Algorithm::parse);
        return checksum(algorithm, &arriving.bytes()?);
    }
    let asked = path::parse(&ClientRequest {
        method: &Method::GET,
        rest: arriving.key,
        query: None,
        accept: "",
    });
    let Ok(Target::Document(id)) = asked else {
        return arriving.file();
    };
    match &id.view {
        View::Maven(MavenView::Metadata { .. }) => {
            metadata(id.package.as_ref(), &arriving.bytes()?).map(Recognised::List)
        }
        View::Maven(MavenView::VersionMetadata { .. }) => {
            metadata(id.package.as_ref(), &arriving.bytes()?).map(|_| Recognised::Other)
        }
        View::Maven(MavenView::Other { path }) if path.ends_with(".xml") => {
            let bytes = arriving.bytes()?;
            let text = text::xml(&bytes)?;
            let mut root = None;
            xml::each_element(&text, |element| {
                // An element's parts come before it.
                root = Some(element.path);
                Ok(())
            })?;
            match root {
                Some(root) if &*root != "html" => Ok(Recognised::Other),
                _ => Err(FormatError::Xml("it is no list of a repository".to_owned())),
            }
        }
        _ => arriving.file(),
    }
}

/// Checks whose metadata it is; says how many versions it lists.
fn metadata(package: Option<&PackageId>, bytes: &[u8]) -> Result<u64, FormatError> {
    let metadata = Metadata::read(bytes)?;
    let text_of = |path: &str| {
        let found = metadata.elements.iter().find(|it| &*it.path == path);
        found.map(|element| element.text.trim())
    };
    let (group, artifact) = (text_of("metadata/groupId"), text_of("metadata/artifactId"));
    if let Some(package) = package {
        let own_group = package.namespace().unwrap_or_default();
        // Read as an artifact's path, a group's folder is an artifact of the group above it.
        let whole = format!("{own_group}.{}", package.name());
        let is_own = match (group, artifact) {
            (Some(group), Some(artifact)) => group == own_group && artifact == package.name(),
            (None, Some(artifact)) => artifact == package.name(),
            (Some(group), None) => group == own_group || group == whole,
            (None, None) => true,
        };
        if !is_own {
            let (group, artifact) = (group.unwrap_or("?"), artifact.unwrap_or("?"));
            return Err(FormatError::Xml(format!(
                "it is the metadata of `{}:{}`",
                group.escape_debug(),
                artifact.escape_debug()
            )));
        }
    }
    if metadata.elements.len() < 2 {
        return Err(FormatError::Xml("it is empty".to_owned()));
    }
    Ok(metadata.versions_count)
}

fn checksum(algorithm: Option<Algorithm>, bytes: &[u8]) -> Result<Recognised, FormatError> {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split(|c: char| c.is_whitespace() || c == '=');
    let algorithm = algorithm.ok_or_else(|| FormatError::shape("it is no checksum"))?;
    if words.any(|word| Digest::from_hex(algorithm, word).is_ok()) {
        return Ok(Recognised::Other);
    }
    Err(FormatError::shape(format!(
        "it has no {} in it",
        algorithm.as_str()
    )))
}

#[cfg(test)]
mod tests {
    use crate::arriving::tests::recognise;
    use crate::package::Format;

    fn list(key: &str, text: &str) -> Option<u64> {
        recognise(Format::Maven, key, "", text.as_bytes())
    }

    #[test]
    fn metadata_is_its_packages_own_or_its_groups() {
        let of = |ids: &str| {
            let versions = "<versions><version>1.0</version><version>1.1</version></versions>";
            format!("<metadata>{ids}<versioning>{versions}</versioning></metadata>")
        };
        let key = "org/x/lib/maven-metadata.xml";
        for ids in [
            "<groupId>org.x</groupId><artifactId>lib</artifactId>",
            "<groupId>org.x</groupId>",
            "<groupId> org.x.lib </groupId>",
            "",
        ] {
            assert_eq!(list(key, &of(ids)), Some(2), "{ids}");
        }
        assert_eq!(list(key, "<metadata><versioning/></metadata>"), Some(0));
        assert_eq!(list(key, "<metadata><plugins/></metadata>"), Some(0));
        for text in [
            "",
            "{}",
            "<metadata/>",
            "<html><body><h1>Log in</h1></body></html>",
            &of("<groupId>org.x</groupId><artifactId>other</artifactId>"),
            &of("<groupId>org.y</groupId><artifactId>lib</artifactId>"),
            &of("<groupId>org.y</groupId>"),
            "<metadata><versioning>",
        ] {
            assert_eq!(list(key, text), None, "{text}");
        }
        let snapshot = "org/x/lib/1.0-SNAPSHOT/maven-metadata.xml";
        assert_eq!(list(snapshot, &of("")), Some(u64::MAX));
        assert_eq!(list(snapshot, "{}"), None);
    }

    #[test]
    fn a_checksum_has_a_digest_and_a_file_is_no_login_page() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let key = "checksum:sha1:maven:org.x:lib/1.0/lib-1.0.jar";
        assert_eq!(list(key, &format!("{sha1}  lib-1.0.jar")), Some(u64::MAX));
        for text in ["", "{}", "<html>", sha1.get(1..).unwrap()] {
            assert_eq!(list(key, text), None, "{text}");
        }
        let page = "<!DOCTYPE html>\n<html>";
        assert_eq!(
            list("asset:maven:org.x:lib/1.0-SNAPSHOT/lib.jar", page),
            None
        );
        assert_eq!(
            list("asset:maven:org.x:lib/1.0-SNAPSHOT/lib.jar", "PK"),
            Some(u64::MAX)
        );
        assert_eq!(
            list("asset:maven:org.x:lib/1.0-SNAPSHOT/a.html", page),
            Some(u64::MAX)
        );
        assert_eq!(list("archetype-catalog.xml", "<html></html>"), None);
        assert_eq!(
            list("archetype-catalog.xml", "<archetype-catalog/>"),
            Some(u64::MAX)
        );
        assert_eq!(list(".meta/prefixes.txt", "<html>"), None);
    }
}
