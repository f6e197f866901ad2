//! Publishing: where it goes, which names are whose, what is kept.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use toml::de::DeValue;

use super::document::{FromValue, Section, SomeBytes, Span, nearest};
use crate::rule::{OriginRule, Pattern, Way};
use crate::secret::Secret;

/// Where a repository's publishes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishSetting {
    Deny,
    /// Stored here.
    Local,
    /// Passed on to these connections, one of each format.
    Forward(Vec<String>),
}

/// One string, or a list of them.
struct Words(Vec<String>);

impl FromValue for Words {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        String::from_value(value)
            .map(|word| Self(vec![word]))
            .or_else(|_| Vec::from_value(value).map(Self))
            .map_err(|_| "has to be a string, or a list of strings".to_owned())
    }
}

impl PublishSetting {
    pub(super) fn read(section: &Section<'_>) -> (Self, Option<String>) {
        let Some((Words(words), place)) = section.take_placed("publish") else {
            return (Self::Deny, None);
        };
        let forward: Option<Vec<String>> = words
            .iter()
            .map(|word| word.strip_prefix("forward:").map(str::to_owned))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let publish = match (words.as_slice(), forward) {
            (["deny"], _) => Self::Deny,
            (["local"], _) => Self::Local,
            ([_, ..], Some(connections)) => Self::Forward(connections),
            (words, _) => {
                section.fault(
                    &place,
                    format!(
                        "`repository.publish` has to be \"deny\", \"local\" or \"forward:CONNECTION\" (or a list of such, one to a format), not `{}`",
                        words.join("`, `")
                    ),
                );
                Self::Deny
            }
        };
        (publish, Some(place))
    }
}

/// The package catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageCatalogSettings {
    /// `postgres://…`; none: SQLite in the data directory.
    pub database: Option<Secret>,
    /// Connections to it at once.
    pub connections: u32,
}

impl Default for PackageCatalogSettings {
    fn default() -> Self {
        Self {
            database: None,
            connections: 8,
        }
    }
}

impl PackageCatalogSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let database = section.take_placed::<Secret>("database");
        if let Some((url, place)) = &database
            && !["postgres://", "postgresql://"]
                .iter()
                .any(|scheme| url.expose().starts_with(scheme))
        {
            section.fault(place, "`packages.database` has to begin with postgres://");
        }
        let connections = section.take_placed::<NonZeroU32>("connections");
        if let Some((number, place)) = &connections
            && number.get() < 2
        {
            section.fault(
                place,
                "`packages.connections` has to be at least 2: what is published needs one, and what is read another",
            );
        }
        section.finish();
        Self {
            database: database.map(|(url, _)| url),
            connections: connections
                .map_or(Self::default().connections, |(number, _)| number.get()),
        }
    }
}

/// The bounds of what is sent to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadSettings {
    pub body_bytes_max: u64,
    /// The largest part of a publish that is held in memory, in bytes: manifests, forms, and
    /// entries of archives.
    pub document_bytes_max: u64,
    /// Publishes taken in at once; others wait.
    pub at_once: usize,
    /// Publishes of one client taken in at once: of one principal, or of one address where nobody says
    /// who they are.
    pub at_once_each: usize,
    /// The longest silence of a client in the middle of a publish.
    pub stall_timeout: Duration,
    /// The longest that the whole body of a publish may take.
    pub body_timeout: Duration,
    /// The longest that a forwarded publish's upstream may take to answer.
    pub answer_timeout: Duration,
}

impl UploadSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let bytes = |key, default| section.take::<SomeBytes>(key).map_or(default, |it| it.0);
        let time = |key, default| {
            let time = section.take::<Span>(key).map(|time| time.0);
            time.unwrap_or(Duration::from_secs(default))
        };
        let number = |key, default| {
            let number = section.take::<NonZeroUsize>(key);
            number.map_or(default, NonZeroUsize::get)
        };
        let at_once = number("at_once", 32);
        let upload = Self {
            body_bytes_max: bytes("body_bytes_max", 4 * 1024 * 1024 * 1024),
            document_bytes_max: bytes("document_bytes_max", 32 * 1024 * 1024),
            at_once,
            // A few slow clients, not one, are what it takes to have all places.
            at_once_each: number("at_once_each", (at_once / 4).max(1)),
            stall_timeout: time("stall_timeout", 60),
            body_timeout: time("body_timeout", 3600),
            answer_timeout: time("answer_timeout", 120),
        };
        section.finish();
        upload
    }
}

/// Which versions of our own packages are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    pub packages: Vec<Pattern>,
    /// `None`: every repository.
    pub repository: Option<String>,
    pub keep_last: Option<usize>,
    pub keep_newer_than: Option<Duration>,
}

pub(super) fn patterns(section: &Section<'_>) -> Option<Vec<Pattern>> {
    let (texts, place) = section.require::<Vec<String>>("packages")?;
    if texts.is_empty() {
        let key = section.full("packages");
        section.fault(&place, format!("`{key}` is empty, and takes no package"));
    }
    Some(
        texts
            .iter()
            .filter_map(|text| {
                Pattern::parse(text)
                    .map_err(|error| section.fault(&place, error.to_string()))
                    .ok()
            })
            .collect(),
    )
}

pub(super) fn origin(section: Section<'_>, connections: &[&str]) -> Option<OriginRule> {
    let packages = patterns(&section);
    let way = |key| {
        let (word, place) = section.take_placed::<String>(key)?;
        match word.as_str() {
            "allow" => Some(Way::Allow),
            "block" => Some(Way::Block),
            _ => {
                section.fault(
                    &place,
                    format!("`origin.{key}` has to be \"allow\" or \"block\", not `{word}`"),
                );
                None
            }
        }
    };
    let (publish, upstream) = (way("publish"), way("upstream"));
    let from = section.take_placed::<Vec<String>>("from");
    if !["publish", "upstream", "from"]
        .iter()
        .any(|key| section.has(key))
    {
        let why = "`[[origin]]` says nothing without `publish`, `upstream` or `from`";
        section.fault(&section.place, why);
    }
    if let Some((names, place)) = &from {
        if names.is_empty() || upstream == Some(Way::Block) {
            section.fault(
                place,
                "`origin.from` says where versions from outside come from: it names at least one connection, and none where `upstream` is \"block\"",
            );
        }
        for name in names
            .iter()
            .filter(|name| !connections.contains(&name.as_str()))
        {
            let hint = nearest(name, connections.iter().copied())
                .map_or_else(String::new, |nearest| {
                    format!("; did you mean `{nearest}`?")
                });
            section.fault(place, format!("there is no connection `{name}`{hint}"));
        }
    }
    section.finish();
    Some(OriginRule {
        packages: packages?,
        publish,
        upstream,
        from: from.map(|(names, _)| names),
    })
}

pub(super) fn retention(section: Section<'_>, repositories: &[&str]) -> Option<Retention> {
    let packages = patterns(&section);
    let repository = section.take_placed::<String>("repository");
    if let Some((name, place)) = &repository
        && !repositories.contains(&name.as_str())
    {
        let hint = nearest(name, repositories.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        section.fault(place, format!("there is no repository `{name}`{hint}"));
    }
    // None at all would have every version deleted.
    let keep_last = section.take::<NonZeroUsize>("keep_last");
    let keep_newer_than = section.take::<Span>("keep_newer_than");
    if !section.has("keep_last") && !section.has("keep_newer_than") {
        section.fault(
            &section.place,
            "`[[retain]]` needs `keep_last`, `keep_newer_than`, or both",
        );
    }
    section.finish();
    Some(Retention {
        packages: packages?,
        repository: repository.map(|(name, _)| name),
        keep_last: keep_last.map(NonZeroUsize::get),
        keep_newer_than: keep_newer_than.map(|time| time.0),
    })
}
