//! A packument read in one pass, for what most of its readers need: where each version's tarball
//! is and what it must be. What is read is named in types, so that all else is skipped where it
//! stands, without recursion and without being kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::FormatError;
use crate::json::{NamesSeen, Node};

/// The facts about a tarball in one version's manifest.
pub struct TarballFacts<'a> {
    pub version: Cow<'a, str>,
    pub dist: Option<Dist<'a>>,
}

#[derive(Default, Deserialize)]
pub struct Dist<'a> {
    #[serde(borrow, default)]
    pub tarball: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub attestations: Option<Attestations<'a>>,
}

#[derive(Deserialize)]
pub struct Attestations<'a> {
    #[serde(borrow, default)]
    pub url: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Manifest<'a> {
    #[serde(borrow, default)]
    dist: Option<Dist<'a>>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// How a packument is put together.
#[derive(Debug, PartialEq, Eq)]
pub enum Build {
    Usual,
    /// In a way that takes a closer look (a name twice, another type than the usual one). What was
    /// read of it does not count.
    Unusual,
}

/// Reads all versions, in order, one after the other.
///
/// # Errors
/// Where `visit` fails.
pub fn each_version<'a>(
    document: &Node<'a>,
    mut visit: impl FnMut(TarballFacts<'a>) -> Result<(), FormatError>,
) -> Result<Build, FormatError> {
    // A list would be read as the members of the type in their order.
    if !document.is_object() {
        return Ok(Build::Unusual);
    }
    let mut failed = None;
    let mut reading = serde_json::Deserializer::from_str(document.text());
    let each = EachVersion(|version| visit(version).map_err(|error| failed = Some(error)));
    let read = Member("versions", each).deserialize(&mut reading);
    let is_read = read.and_then(|()| reading.end()).is_ok();
    match failed {
        Some(error) => Err(error),
        None if is_read => Ok(Build::Usual),
        None => Ok(Build::Unusual),
    }
}

struct EachVersion<F>(F);

impl<'de, F> DeserializeSeed<'de> for EachVersion<F>
where
    F: FnMut(TarballFacts<'de>) -> Result<(), ()>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F> Visitor<'de> for EachVersion<F>
where
    F: FnMut(TarballFacts<'de>) -> Result<(), ()>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of versions")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names = NamesSeen::default();
        while let Some(Name(version)) = map.next_key()? {
            names.add(&version);
            let Manifest { dist } = map.next_value()?;
            (self.0)(TarballFacts { version, dist })
                .map_err(|()| A::Error::custom("a version cannot be used"))?;
        }
        if names.are_perhaps_twice() {
            return Err(A::Error::custom("a version twice"));
        }
        Ok(())
    }
}

/// One version's manifest, the others passed over; `None` also where it, or `versions`, is there
/// twice.
pub fn manifest<'a>(document: &Node<'a>, version: &str) -> Option<Node<'a>> {
    let mut search = serde_json::Deserializer::from_str(document.text());
    let found = Member("versions", Member(version, Here)).deserialize(&mut search);
    search.end().ok()?;
    Some(document.child(found.ok()??))
}

/// The member of that name, read by what follows.
struct Member<'n, S>(&'n str, S);

/// The value itself.
#[derive(Clone, Copy)]
struct Here;

impl<'de> DeserializeSeed<'de> for Here {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Some)
    }
}

impl<'de, S> DeserializeSeed<'de> for Member<'_, S>
where
    S: DeserializeSeed<'de>,
    S::Value: Default,
{
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S> Visitor<'de> for Member<'_, S>
where
    S: DeserializeSeed<'de>,
    S::Value: Default,
{
    type Value = S::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(wanted, next) = self;
        let (mut next, mut found) = (Some(next), S::Value::default());
        while let Some(Name(name)) = map.next_key()? {
            if name != wanted {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let next = next
                .take()
                .ok_or_else(|| A::Error::custom("a member twice"))?;
            found = map.next_value_seed(next)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions<'a>(document: &Node<'a>) -> Option<Vec<TarballFacts<'a>>> {
        let mut versions = Vec::new();
        let build = each_version(document, |version| {
            versions.push(version);
            Ok(())
        });
        (build.unwrap() == Build::Usual).then_some(versions)
    }

    const PACKUMENT: &str = r#"{"name":"a","readme":"\"tarball\":\"x\"","versions":{
        "1.0.0":{"dist":{"tarball":"https://npm.example/a/-/a-1.0.0.tgz","shasum":"0f"},"more":{"dist":{"tarball":"no"}}},
        "2.0.0":{"deprecated":true}}}"#;

    #[test]
    fn versions_and_their_tarballs_are_found_in_one_pass() {
        let document = Node::document(PACKUMENT.as_bytes()).unwrap();
        let found = versions(&document).unwrap();
        assert_eq!(found.len(), 2);
        let dist = found[0].dist.as_ref().unwrap();
        assert_eq!(
            dist.tarball.unwrap().get(),
            r#""https://npm.example/a/-/a-1.0.0.tgz""#
        );
        assert!(found[1].dist.is_none());
    }

    #[test]
    fn one_version_is_found_among_others() {
        let document = Node::document(PACKUMENT.as_bytes()).unwrap();
        let one = manifest(&document, "1.0.0").unwrap();
        let dist = one.get("dist").unwrap().unwrap();
        let shasum = dist.get("shasum").unwrap();
        assert_eq!(shasum.unwrap().text(), "\"0f\"");
        assert_eq!(PACKUMENT.get(one.range()), Some(one.text()));
        assert!(manifest(&document, "3.0.0").is_none());
        for text in [
            r#"{"versions":{"1.0.0":{}},"version\u0073":{"1.0.0":{}}}"#,
            r#"{"versions":{"1.0.0":{},"1.0.0":{}}}"#,
            r#"{"versions":{"1.0.0":{}}} more"#,
        ] {
            let document = Node::document(text.as_bytes()).unwrap();
            assert!(manifest(&document, "1.0.0").is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_usual_shape_takes_a_closer_look() {
        for text in [
            r#"{"versions":{},"versions":{}}"#,
            r#"{"versions":{"1.0.0":{},"1\u002e0.0":{}}}"#,
            r#"{"versions":[]}"#,
            "[]",
            r#"[{"1.0.0":{}}]"#,
            r#"{"versions":{"1.0.0":{"dist":7}}}"#,
            "{",
        ] {
            let document = Node::document(text.as_bytes()).unwrap();
            assert!(versions(&document).is_none(), "{text}");
        }
        let bomb = format!("{{\"a\":{}", "[".repeat(1_000_000));
        assert!(versions(&Node::document(bomb.as_bytes()).unwrap()).is_none());
    }
}
