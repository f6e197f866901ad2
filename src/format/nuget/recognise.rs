//! Tells NuGet's documents from what is none.

use serde::de::IgnoredAny;

use super::registration::{self, Leaf, Registration, string};
use super::{Nuget, name};
use crate::arriving::Shape;
use crate::json::Node;
use crate::package::PackageId;
use crate::{ArrivingDocument, Documents as _, FormatError, Recognised};

pub fn recognise(arriving: &mut ArrivingDocument<'_>) -> Result<Recognised, FormatError> {
    let key = arriving.key;
    let kind = key.split(':').next().unwrap_or_default();
    match kind {
        "service-index" => arriving.has_list("resources"),
        "flat" => match arriving.outline()?.get_in_any_case("versions") {
            Some(Shape::Array(count)) => Ok(Recognised::List(*count)),
            _ => Err(FormatError::shape("it has no list `versions`")),
        },
        "query" | "autocomplete" => match arriving.outline()?.get_in_any_case("data") {
            Some(Shape::Array(_)) => Ok(Recognised::Other),
            _ => Err(FormatError::shape("it has no list `data`")),
        },
        "vulnerabilities" => {
            arriving.json::<Vec<IgnoredAny>>()?;
            Ok(Recognised::Other)
        }
        "signatures" => {
            let document = arriving.outline()?;
            let members = ["signingCertificates", "allRepositorySigned"];
            if members
                .iter()
                .any(|it| document.get_in_any_case(it).is_some())
            {
                return Ok(Recognised::Other);
            }
            Err(FormatError::shape("it says nothing of signatures"))
        }
        "elsewhere" => elsewhere(&arriving.bytes()?),
        _ => match Nuget.package_of(key) {
            Some(package) => registration(&package, key, &arriving.bytes()?),
            None => arriving.file(),
        },
    }
}

fn registration(package: &PackageId, key: &str, bytes: &[u8]) -> Result<Recognised, FormatError> {
    let root = Node::document(bytes)?;
    // Read to its end, also where what is looked for stands at the beginning.
    root.object()?;
    let mut count = 0;
    let kind = registration::each_page(root, |page| {
        let Some(leaves) = page.leaves()? else {
            let told = page.node.get_in_any_case("count")?;
            count += told.and_then(|it| it.read().ok()).unwrap_or(0);
            return Ok(());
        };
        leaves.each_element(|leaf| {
            count += 1;
            check(package, &registration::leaf(&leaf)?)
        })
    })?;
    if kind == Registration::Other {
        if key.ends_with("/index.json") {
            return Err(FormatError::shape("it has no `items`"));
        }
        let leaf = registration::leaf(&root)?;
        let is_leaf = leaf.version.is_some() || string(&root, "packageContent")?.is_some();
        if !is_leaf {
            return Err(FormatError::shape("it is about no version"));
        }
        check(package, &leaf)?;
        return Ok(Recognised::Other);
    }
    Ok(Recognised::List(count))
}

/// Checks that the version is one of the package.
fn check(package: &PackageId, leaf: &Leaf<'_>) -> Result<(), FormatError> {
    match string(&leaf.entry, "id")? {
        Some(id) if name::parse(&id).ok().as_ref() != Some(package) => Err(FormatError::shape(
            format!("it has a version of `{}`", id.escape_debug()),
        )),
        _ => Ok(()),
    }
}

/// A resource at an address that a document of the registry names: a page, an entry of the catalog, or
/// a list of vulnerabilities, which may be empty. An error told in JSON is an object of words alone.
fn elsewhere(bytes: &[u8]) -> Result<Recognised, FormatError> {
    let root = Node::document(bytes)?;
    if root.is_array() {
        root.each_element(|_| Ok(()))?;
        return Ok(Recognised::Other);
    }
    let object = root.object()?;
    let has_value = |value: &Node<'_>| value.is_object() || value.is_array();
    let identifies = |name: &str| name.starts_with('@') || name.eq_ignore_ascii_case("id");
    let members = object.members();
    if members.is_empty() {
        return Ok(Recognised::Other);
    }
    if members
        .iter()
        .any(|it| identifies(&it.name) || has_value(&it.value))
    {
        return Ok(Recognised::Other);
    }
    Err(FormatError::shape("it is no document of NuGet"))
}

#[cfg(test)]
mod tests {
    use crate::arriving::tests::recognise;
    use crate::package::Format;

    fn list(key: &str, text: &str) -> Option<u64> {
        recognise(Format::Nuget, key, "application/json", text.as_bytes())
    }

    #[test]
    fn each_document_has_what_it_is_for() {
        let leaf = r#"{"@id":"x","catalogEntry":{"id":"Acme.Lib","version":"1.0.0"}}"#;
        let inline = format!(r#"{{"items":[{{"items":[{leaf},{leaf}]}}]}}"#);
        let (index, any) = (
            "registration:acme.lib/index.json",
            "registration-any:acme.lib/index.json",
        );
        for (key, text, count) in [
            ("flat:acme.lib", r#"{"versions":["1.0.0","2.0.0"]}"#, 2),
            ("flat:acme.lib", r#"{"Versions":[]}"#, 0),
            (index, &*inline, 2),
            (
                any,
                r#"{"items":[{"@id":"p","count":64},{"@id":"q","count":3}]}"#,
                67,
            ),
            (any, r#"{"count":0,"items":[]}"#, 0),
            ("registration:acme.lib/1.0.0.json", leaf, u64::MAX),
            ("service-index", r#"{"resources":[]}"#, u64::MAX),
            ("query:q=a", r#"{"totalHits":0,"data":[]}"#, u64::MAX),
            ("autocomplete:q=a", r#"{"data":[]}"#, u64::MAX),
            ("vulnerabilities", r#"[{"@name":"base"}]"#, u64::MAX),
            ("signatures", r#"{"allRepositorySigned":true}"#, u64::MAX),
            (
                "elsewhere:https://up.example/x",
                r#"{"id":"a","version":"1.0.0"}"#,
                u64::MAX,
            ),
            (
                "elsewhere:https://up.example/v",
                r#"{"acme.lib":[{"severity":1}]}"#,
                u64::MAX,
            ),
        ] {
            assert_eq!(list(key, text), Some(count), "{key} {text}");
        }
        let other = inline.replace("Acme.Lib", "Other");
        for key in [
            "flat:acme.lib",
            index,
            any,
            "registration:acme.lib/1.0.0.json",
            "service-index",
            "query:q=a",
            "autocomplete:q=a",
            "vulnerabilities",
            "signatures",
            "elsewhere:https://up.example/x",
        ] {
            for text in [
                "",
                "{}",
                r#"{"error":"x"}"#,
                "<html>",
                inline.get(1..).unwrap(),
                &other,
            ] {
                let is_what_it_may_be =
                    key.starts_with("elsewhere") && (text == other || text == "{}");
                assert!(
                    is_what_it_may_be || list(key, text).is_none(),
                    "{key} {text}"
                );
            }
        }
    }
}
