//! Reads a call's parameters from its query and body, and checks them against the model's bounds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::ApiFailure;
use super::version::STATUSES;
use crate::format::query_of;
use crate::package::{Format, PackageId, Status, UnknownStatus};

/// The formats that the model has and Larder does not serve.
const OTHER_FORMATS: &[&str] = &["ruby", "swift", "cargo"];
/// Versions in one call.
const VERSIONS_MAX: usize = 100;
/// Direct upstreams of a repository, as CodeArtifact's quota has it.
const UPSTREAMS_MAX: usize = 10;

/// A call.
#[derive(Debug)]
pub struct Call {
    query: HashMap<String, String>,
    body: Map<String, Value>,
}

impl Call {
    /// Reads the query and the body; an empty body is an empty object.
    ///
    /// # Errors
    /// Where the body is no JSON object.
    pub fn read(query: Option<&str>, body: &[u8]) -> Result<Self, ApiFailure> {
        let body = match serde_json::from_slice(body) {
            _ if body.is_empty() => Map::new(),
            Ok(Value::Object(body)) => body,
            Ok(Value::Null) => Map::new(),
            _ => return Err(ApiFailure::unparsed("the body is no JSON object")),
        };
        Ok(Self {
            query: query_of(query),
            body,
        })
    }

    /// The repository that the call reads or changes, for the audit: of a copy, the one that gets it.
    #[must_use]
    pub fn repository(&self) -> String {
        let named = ["destination-repository", "repository"];
        let mut named = named.into_iter().filter_map(|name| self.optional(name));
        named.next().unwrap_or_default().to_owned()
    }

    /// The package and the versions that the call names, for the audit: as they are called everywhere
    /// else where they are well-formed, and as they came where they are not; several versions apart by
    /// `, `.
    #[must_use]
    pub fn about(&self) -> (String, String) {
        let package = self.package().map(|package| package.to_string());
        let versions = match self.optional("version") {
            Some(version) => vec![version.to_owned()],
            None => self.versions().map_or_else(
                |_| Vec::new(),
                |named| named.into_iter().map(|(version, _)| version).collect(),
            ),
        };
        (
            package.unwrap_or_else(|_| self.optional("package").unwrap_or_default().to_owned()),
            versions.join(", "),
        )
    }

    /// A value of the query.
    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A string of the body.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.body.get(name)?.as_str()
    }

    /// A value that has to be there, in the query or the body.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiFailure> {
        self.optional(name)
            .or_else(|| self.word(name))
            .ok_or_else(|| ApiFailure::field(format!("`{name}` is missing")))
    }

    /// A whole number of the body, within its bounds.
    pub(super) fn number(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiFailure> {
        let Some(said) = self.body.get(name).filter(|said| !said.is_null()) else {
            return Ok(None);
        };
        let number = said.as_u64().and_then(|it| usize::try_from(it).ok());
        match number.filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiFailure::field(format!(
                "`{name}` has to be from {} to {}",
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.body.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// One of the words, where it is said.
    pub(super) fn one_of<'a>(
        &self,
        name: &str,
        words: &[&'a str],
    ) -> Result<Option<&'a str>, ApiFailure> {
        let Some(said) = self.optional(name).or_else(|| self.word(name)) else {
            return Ok(None);
        };
        match words.iter().find(|word| **word == said) {
            Some(word) => Ok(Some(word)),
            None => Err(ApiFailure::field(format!(
                "`{name}` has to be one of {}",
                words.join(", ")
            ))),
        }
    }

    /// The status that the named versions are expected to have, where one is said.
    pub(super) fn expected_status(&self) -> Result<Option<Status>, ApiFailure> {
        let word = self.one_of("expectedStatus", STATUSES)?;
        let status = word.map(str::parse).transpose();
        status.map_err(|error: UnknownStatus| ApiFailure::field(error.to_string()))
    }

    /// The versions that are named, each once; with the revision that is expected of them, where
    /// they are named with one.
    pub(super) fn versions(&self) -> Result<Vec<(String, Option<String>)>, ApiFailure> {
        let named = self.body.get("versions").and_then(Value::as_array);
        let revisions = self.body.get("versionRevisions").and_then(Value::as_object);
        if named.map_or(0, Vec::len) + revisions.map_or(0, Map::len) > VERSIONS_MAX {
            return Err(ApiFailure::field(format!(
                "at most {VERSIONS_MAX} versions in one call"
            )));
        }
        let mut versions: Vec<(String, Option<String>)> = Vec::new();
        if let Some(named) = named {
            for version in named {
                let version = version
                    .as_str()
                    .ok_or_else(|| ApiFailure::field("`versions` is a list of strings"))?;
                if !versions.iter().any(|(it, _)| it == version) {
                    versions.push((version.to_owned(), None));
                }
            }
        }
        if let Some(revisions) = revisions {
            for (version, revision) in revisions {
                let revision = revision.as_str().map(str::to_owned);
                match versions.iter_mut().find(|(it, _)| it == version) {
                    Some(known) => known.1 = revision,
                    None => versions.push((version.clone(), revision)),
                }
            }
        }
        if versions.is_empty() {
            return Err(ApiFailure::field("`versions` is missing"));
        }
        Ok(versions)
    }

    /// Whether the body has the member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.body.get(name).is_some_and(|value| !value.is_null())
    }

    pub(super) fn description(&self) -> Result<Option<String>, ApiFailure> {
        match self.word("description") {
            Some(text) if text.chars().count() > 1000 => Err(ApiFailure::field(
                "a description has at most 1000 characters",
            )),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// The names of the upstreams, where any are said.
    pub(super) fn upstreams(&self) -> Result<Option<Vec<String>>, ApiFailure> {
        if !self.has("upstreams") {
            return Ok(None);
        }
        let wrong = || ApiFailure::field("`upstreams` is a list of repositories");
        let Some(Value::Array(upstreams)) = self.body.get("upstreams") else {
            return Err(wrong());
        };
        if upstreams.len() > UPSTREAMS_MAX {
            return Err(ApiFailure::field(format!(
                "a repository has at most {UPSTREAMS_MAX} upstreams"
            )));
        }
        upstreams
            .iter()
            .map(|one| Some(one.get("repositoryName")?.as_str()?.to_owned()))
            .collect::<Option<Vec<_>>>()
            .map(Some)
            .ok_or_else(wrong)
    }

    /// A member of an object of the body.
    pub(super) fn within(&self, object: &str, name: &str) -> Option<&str> {
        self.body.get(object)?.get(name)?.as_str()
    }

    /// The objects of a list of the body; none where there is no list.
    pub(super) fn objects(&self, name: &str) -> Result<&[Value], ApiFailure> {
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(all)) => Ok(all),
            Some(_) => Err(ApiFailure::field(format!("`{name}` is a list"))),
        }
    }

    /// The members of an object of the body, all of them strings; none where there is no object.
    pub(super) fn pairs(&self, name: &str) -> Result<Vec<(&str, &str)>, ApiFailure> {
        let wrong = || ApiFailure::field(format!("`{name}` has strings as its values"));
        match self.body.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(all)) => all
                .iter()
                .map(|(name, value)| Ok((name.as_str(), value.as_str().ok_or_else(wrong)?)))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// The tags of the body.
    pub(super) fn tags(&self) -> Result<Vec<(String, String)>, ApiFailure> {
        let Some(Value::Array(tags)) = self.body.get("tags") else {
            return Err(ApiFailure::field("`tags` is missing"));
        };
        tags.iter()
            .map(|tag| {
                let text = |name: &str| tag.get(name)?.as_str().map(str::to_owned);
                text("key")
                    .zip(text("value"))
                    .filter(|(key, value)| {
                        (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256
                    })
                    .ok_or_else(|| ApiFailure::field("a tag has a `key` and a `value`"))
            })
            .collect()
    }

    /// The strings of a list of the body.
    pub(super) fn words(&self, name: &str) -> Result<Vec<String>, ApiFailure> {
        let Some(Value::Array(words)) = self.body.get(name) else {
            return Err(ApiFailure::field(format!("`{name}` is missing")));
        };
        words
            .iter()
            .map(|word| {
                word.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| ApiFailure::field(format!("`{name}` is a list of strings")))
            })
            .collect()
    }

    /// The format, where one is named.
    pub(super) fn format(&self) -> Result<Option<Format>, ApiFailure> {
        let Some(word) = self.optional("format") else {
            return Ok(None);
        };
        match word.parse() {
            Ok(format) => Ok(Some(format)),
            Err(_) if OTHER_FORMATS.contains(&word) => Err(ApiFailure::field(format!(
                "packages of the format {word} are not served here"
            ))),
            Err(_) => Err(ApiFailure::field(format!("`{word}` is no format"))),
        }
    }

    /// The package that is named.
    pub(super) fn package(&self) -> Result<PackageId, ApiFailure> {
        self.required("format")?;
        let format = self
            .format()?
            .ok_or_else(|| ApiFailure::field("`format` is missing"))?;
        let (name, namespace) = (self.required("package")?, self.optional("namespace"));
        let text = match (format, namespace) {
            (Format::Npm, Some(scope)) => format!("@{}/{name}", scope.trim_start_matches('@')),
            (Format::Maven, Some(group)) => format!("{group}:{name}"),
            (Format::Maven, None) => {
                return Err(ApiFailure::field("a package of Maven has a `namespace`"));
            }
            (Format::Pypi | Format::Nuget, Some(_)) => {
                return Err(ApiFailure::field(format!(
                    "a package of {format} has no `namespace`"
                )));
            }
            (Format::Generic, Some(space)) => format!("{space}/{name}"),
            (_, None) => name.to_owned(),
        };
        format
            .protocol()
            .package(&text)
            .map_err(|problem| ApiFailure::field(problem.message))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Call, UPSTREAMS_MAX, VERSIONS_MAX};

    #[test]
    fn versions_are_counted_before_they_are_read() {
        let call = |body: &serde_json::Value| {
            Call::read(None, body.to_string().as_bytes()).map(|call| call.versions())
        };
        let texts: Vec<String> = (0..=VERSIONS_MAX).map(|at| format!("1.0.{at}")).collect();
        let taken = call(&json!({ "versions": texts[1..] })).unwrap().unwrap();
        assert_eq!(taken.len(), VERSIONS_MAX);
        // The 101 that are too many are not looked at: numbers would be another fault.
        let numbers: Vec<usize> = (0..=VERSIONS_MAX).collect();
        for body in [
            json!({ "versions": texts }),
            json!({ "versions": numbers }),
            json!({ "versions": texts[1..], "versionRevisions": { "2.0.0": "r" } }),
            json!({ "versions": vec!["1.0.0"; VERSIONS_MAX + 1] }),
        ] {
            let failure = format!("{:?}", call(&body).unwrap().unwrap_err());
            assert!(failure.contains("at most 100 versions"), "{failure}");
        }
    }
    #[test]
    fn a_repository_has_a_bounded_number_of_upstreams() {
        let call = |count: usize| {
            let named = vec![json!({ "repositoryName": "team" }); count];
            let body = json!({ "upstreams": named }).to_string();
            Call::read(None, body.as_bytes()).map(|call| call.upstreams())
        };
        let taken = call(UPSTREAMS_MAX).unwrap().unwrap().unwrap();
        assert_eq!(taken.len(), UPSTREAMS_MAX);
        let failure = format!("{:?}", call(UPSTREAMS_MAX + 1).unwrap().unwrap_err());
        assert!(failure.contains("at most 10 upstreams"), "{failure}");
    }
}
