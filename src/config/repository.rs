//! `[[repository]]`: a named view of packages.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::connection::ConnectionSettings;
use super::document::{Section, nearest};
use super::publish::PublishSetting;
use crate::package::Format;

/// The name of the built-in repository, and the beginning of those of learned connections.
const PUBLIC: &str = "public";

/// A name of a repository or connection that leads nowhere, or in a circle.
pub(super) struct Unresolved<'a> {
    pub message: String,
    /// The connection that is not there.
    connection: Option<&'a str>,
}

impl Unresolved<'_> {
    /// Whether the name is that of an upstream of one of the machine's own clients: `public:npm`.
    pub fn is_about_learned(&self) -> bool {
        let of = |name: &str| name.strip_prefix(PUBLIC)?.strip_prefix(':')?.parse().ok();
        let format: Option<Format> = self.connection.and_then(of);
        format.is_some()
    }
}

/// A source of a repository, by its name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSetting {
    /// The packages of a repository's own.
    Own(String),
    Connection(String),
}

/// A repository with its sources laid out flat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySettings {
    pub name: String,
    pub publish: PublishSetting,
    /// The names of other repositories (`upstreams`) and connections (`external`), as configured.
    pub upstreams: Vec<String>,
    pub external: Vec<String>,
    /// A publish whose connection is away waits here for it.
    pub spool: bool,
    /// Whether files that come through its connections are never evicted.
    pub retain: bool,
    /// Its own packages, its connections, then those of its upstreams, in order, each once.
    pub sources: Vec<SourceSetting>,
}

impl RepositorySettings {
    /// The names of the connections among its sources.
    pub fn connections(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            SourceSetting::Connection(name) => Some(name.as_str()),
            SourceSetting::Own(_) => None,
        })
    }
}

/// A repository as it was written.
pub(super) struct Written {
    name: String,
    place: String,
    upstreams: Vec<String>,
    upstreams_place: String,
    external: Vec<String>,
    external_place: String,
    publish: PublishSetting,
    publish_place: Option<String>,
    spool: bool,
    retain: bool,
}

pub(super) fn read(section: Section<'_>) -> Option<Written> {
    let place = section.place.clone();
    let name = section.require::<String>("name");
    let names = |key| {
        let names = section.take_placed::<Vec<String>>(key);
        names.unwrap_or_else(|| (Vec::new(), section.place.clone()))
    };
    let (upstreams, upstreams_place) = names("upstreams");
    let (external, external_place) = names("external_connections");
    let (publish, publish_place) = PublishSetting::read(&section);
    let spool = section.take_placed("spool");
    if let Some((true, place)) = &spool
        && !matches!(publish, PublishSetting::Forward(_))
    {
        section.fault(
            place,
            "`repository.spool` is of use with publish = \"forward:CONNECTION\" alone",
        );
    }
    if let Some((name, place)) = &name
        && !is_name(name)
    {
        section.fault(place, format!("`{name}` is no repository name: lower-case letters, digits, `-`, `_` and `.`, a letter or digit first"));
    }
    let retain = section.take("retain").unwrap_or(false);
    section.finish();
    Some(Written {
        retain,
        name: name?.0,
        place,
        upstreams,
        upstreams_place,
        external,
        external_place,
        publish,
        publish_place,
        spool: spool.is_some_and(|(spool, _)| spool),
    })
}

/// A name stands as a segment in paths.
pub fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
        && name.len() <= 100
}

impl RepositorySettings {
    /// A repository that is made while Larder runs: it takes publishes, and its sources are still to
    /// be resolved.
    #[must_use]
    pub fn made(name: &str, upstreams: &[String], external: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            publish: PublishSetting::Local,
            upstreams: upstreams.to_vec(),
            external: external.to_vec(),
            spool: false,
            retain: false,
            sources: Vec::new(),
        }
    }

    fn written(self) -> Written {
        let place = || "a repository".to_owned();
        Written {
            name: self.name,
            place: place(),
            upstreams: self.upstreams,
            upstreams_place: place(),
            external: self.external,
            external_place: place(),
            publish: self.publish,
            publish_place: None,
            spool: self.spool,
            retain: self.retain,
        }
    }
}

/// Resolves the names of repositories that were resolved before, with others beside them.
///
/// # Errors
/// Names the source that leads nowhere, or in a circle.
pub fn resolved(
    repositories: Vec<RepositorySettings>,
    connections: &[ConnectionSettings],
) -> Result<Vec<RepositorySettings>, Vec<String>> {
    let written: Vec<Written> = repositories
        .into_iter()
        .map(RepositorySettings::written)
        .collect();
    let faults = RefCell::new(Vec::new());
    let all = resolve(&written, connections, &|_, fault| {
        faults.borrow_mut().push(fault.message);
    });
    let faults = faults.into_inner();
    if faults.is_empty() {
        Ok(all)
    } else {
        Err(faults)
    }
}

/// Resolves names, and refuses what leads nowhere or in a circle.
pub(super) fn resolve(
    written: &[Written],
    connections: &[ConnectionSettings],
    report: &dyn Fn(&str, Unresolved<'_>),
) -> Vec<RepositorySettings> {
    let fault = |place: &str, message| {
        report(
            place,
            Unresolved {
                message,
                connection: None,
            },
        );
    };
    let no_connection = |place: &str, name: &str| {
        let names = connections.iter().map(|it| it.name.as_str());
        let unresolved = Unresolved {
            message: unknown("connection", name, nearest(name, names)),
            connection: Some(name),
        };
        report(place, unresolved);
    };
    let by_name: BTreeMap<&str, &Written> =
        written.iter().map(|it| (it.name.as_str(), it)).collect();
    for (index, one) in written.iter().enumerate() {
        if written
            .iter()
            .take(index)
            .any(|other| other.name == one.name)
        {
            fault(
                &one.place,
                format!("there are two repositories `{}`", one.name),
            );
        }
        for external in &one.external {
            if !connections
                .iter()
                .any(|connection| connection.name == *external)
            {
                no_connection(&one.external_place, external);
            }
        }
        if let (PublishSetting::Forward(to), Some(place)) = (&one.publish, &one.publish_place) {
            let mut formats = Vec::new();
            for name in to {
                match connections.iter().find(|it| it.name == *name) {
                    None => no_connection(place, name),
                    Some(it) if formats.contains(&it.format) => fault(
                        place,
                        format!(
                            "two connections of format {} cannot both take publishes",
                            it.format
                        ),
                    ),
                    Some(it) => formats.push(it.format),
                }
            }
        }
        for upstream in &one.upstreams {
            if !by_name.contains_key(upstream.as_str()) {
                let names = by_name.keys().copied();
                fault(
                    &one.upstreams_place,
                    unknown("repository", upstream, nearest(upstream, names)),
                );
            }
        }
    }
    written
        .iter()
        .map(|one| {
            let mut sources = Vec::new();
            let mut path = Vec::new();
            if let Some(circle) = collect(one, &by_name, &mut path, &mut sources) {
                fault(
                    &one.place,
                    format!("the upstreams of `{}` lead in a circle: {circle}", one.name),
                );
            }
            RepositorySettings {
                name: one.name.clone(),
                publish: one.publish.clone(),
                upstreams: one.upstreams.clone(),
                external: one.external.clone(),
                spool: one.spool,
                retain: one.retain,
                sources,
            }
        })
        .collect()
}

fn unknown(what: &str, name: &str, nearest: Option<&str>) -> String {
    let hint = nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    });
    format!("there is no {what} `{name}`{hint}")
}

/// Collects sources depth first; the circle's path where there is one.
fn collect<'a>(
    one: &'a Written,
    by_name: &BTreeMap<&'a str, &'a Written>,
    path: &mut Vec<&'a str>,
    sources: &mut Vec<SourceSetting>,
) -> Option<String> {
    path.push(&one.name);
    let own = [SourceSetting::Own(one.name.clone())];
    let external = one.external.iter().cloned().map(SourceSetting::Connection);
    for source in own.into_iter().chain(external) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    for upstream in &one.upstreams {
        if path.contains(&upstream.as_str()) {
            return Some(format!("{} → {upstream}", path.join(" → ")));
        }
        if let Some(next) = by_name.get(upstream.as_str())
            && let Some(circle) = collect(next, by_name, path, sources)
        {
            return Some(circle);
        }
    }
    path.pop();
    None
}

/// The built-in repository: it is there where no repository is configured, and beside others where
/// one of them names it as an upstream and none has its name. It draws on every connection that no
/// other repository names, those of the machine's own clients among them, which is why it is no door
/// that nobody asked for. A configured `public` that says nothing about sources draws on the same.
pub(super) fn with_public(
    mut written: Vec<Written>,
    connections: &[ConnectionSettings],
) -> Vec<Written> {
    let is_named = |name: &String| written.iter().any(|one| one.external.contains(name));
    let mut rest: Vec<&ConnectionSettings> = connections.iter().collect();
    rest.retain(|connection| !is_named(&connection.name));
    rest.sort_by_key(|connection| {
        let mut served = Format::SERVED.iter();
        served.position(|format| *format == connection.format)
    });
    let external: Vec<String> = rest.iter().map(|it| it.name.clone()).collect();
    let is_wanted = written.is_empty()
        || written
            .iter()
            .any(|it| it.upstreams.iter().any(|up| up == PUBLIC));
    match written.iter_mut().find(|one| one.name == PUBLIC) {
        Some(public) => {
            let is_bare = public.external.is_empty() && public.upstreams.is_empty();
            if is_bare && public.publish == PublishSetting::Deny {
                public.external = external;
            }
        }
        None if is_wanted => {
            let made = RepositorySettings {
                publish: PublishSetting::Deny,
                ..RepositorySettings::made(PUBLIC, &[], &external)
            };
            written.push(made.written());
        }
        None => {}
    }
    written
}
