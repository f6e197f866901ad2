//! Tells npm's documents from what is none.

use super::Npm;
use crate::arriving::{Outline, Shape};
use crate::package::PackageId;
use crate::{ArrivingDocument, Documents as _, FormatError, Recognised};

pub fn recognise(arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
    let key = arriving.key;
    if let Some(package) = Npm.package_of(key) {
        return packument(&package, &arriving.outline()?);
    }
    match key.split(':').next() {
        Some("search") => arriving.has_list("objects"),
        Some("keys") => arriving.has_list("keys"),
        Some("attestations") => arriving.has_list("attestations"),
        _ => arriving.file(),
    }
}

fn packument(package: &PackageId, document: &Outline) -> Result<Recognised, FormatError> {
    let name = package.full_name();
    if let Some(told) = document.text("name").or_else(|| document.text("_id"))
        && !told.eq_ignore_ascii_case(&name)
    {
        return Err(FormatError::shape(format!(
            "it is the document of `{}`",
            told.escape_debug()
        )));
    }
    match (document.get("versions"), document.get("time")) {
        (Some(Shape::Object(versions)), _) => Ok(Recognised::List(versions.count())),
        // A package that was unpublished whole has a tombstone.
        (None, Some(Shape::Object(times))) if times.has("unpublished") => Ok(Recognised::List(0)),
        _ => Err(FormatError::shape("it has no object `versions`")),
    }
}

#[cfg(test)]
mod tests {
    use crate::arriving::tests::recognise;
    use crate::package::Format;

    fn list(key: &str, text: &str) -> Option<u64> {
        recognise(Format::Npm, key, "application/json", text.as_bytes())
    }

    #[test]
    fn a_packument_is_an_object_of_versions_under_the_packages_name() {
        for (text, count) in [
            (r#"{"name":"a","versions":{"1.0.0":{},"2.0.0":{}}}"#, 2),
            (r#"{"_id":"a","versions":{"1.0.0":{}}}"#, 1),
            (r#"{"name":"a","versions":{}}"#, 0),
            (r#"{"versions":{"1.0.0":{"name":"b"}}}"#, 1),
            (
                r#"{"name":"a","time":{"unpublished":{"versions":["1.0.0"]}}}"#,
                0,
            ),
            ("\u{feff} {\"name\":\"a\",\"versions\":{}}", 0),
        ] {
            assert_eq!(list("full:a", text), Some(count), "{text}");
        }
        for text in [
            "",
            "{}",
            "[]",
            "null",
            "\"a\"",
            r#"{"error":"rate limited"}"#,
            r#"{"name":"a"}"#,
            r#"{"name":"b","versions":{"1.0.0":{}}}"#,
            r#"{"name":"a","versions":[]}"#,
            r#"{"name":"a","versions":{"1.0.0":{},"1.0.0":{}}}"#,
            r#"{"name":"a","name":"b","versions":{}}"#,
            r#"{"name":"a","versions":{"1.0.0":{}}"#,
            r#"{"name":"a","versions":{}} <html>"#,
            "<html><body><h1>Log in</h1></body></html>",
        ] {
            assert_eq!(list("full:a", text), None, "{text}");
            assert_eq!(list("short:a", text), None, "{text}");
        }
        assert_eq!(
            list("full:@s/a", r#"{"name":"@s/a","versions":{}}"#),
            Some(0)
        );
        assert_eq!(list("full:@s/a", r#"{"name":"@t/a","versions":{}}"#), None);
    }

    #[test]
    fn a_long_document_is_read_to_its_end_piece_by_piece() {
        let readme = "é".repeat(1024 * 1024);
        let whole = format!(r#"{{"name":"a","readme":"{readme}","versions":{{"1.0.0":{{}}}}}}"#);
        assert_eq!(list("full:a", &whole), Some(1));
        assert_eq!(list("full:a", whole.get(..whole.len() - 1).unwrap()), None);
        let mut broken = whole.into_bytes();
        broken[1_200_000] = 0xff;
        assert_eq!(recognise(Format::Npm, "full:a", "", &broken), None);
    }

    #[test]
    fn other_documents_have_the_list_that_they_are_for() {
        for (key, good) in [
            ("search:text=a", r#"{"objects":[],"total":0}"#),
            ("keys", r#"{"keys":[]}"#),
            ("attestations:a@1.0.0", r#"{"attestations":[]}"#),
        ] {
            assert_eq!(list(key, good), Some(u64::MAX), "{key}");
            for bad in ["", "{}", r#"{"error":"x"}"#, "<html>"] {
                assert_eq!(list(key, bad), None, "{key} {bad}");
            }
        }
    }
}
