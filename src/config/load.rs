//! From the text to the meaning.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use url::Url;

use super::access::AccessSettings;
use super::bundle::Bundle;
use super::connection::{self, ConnectionSettings};
use super::document::{ConfigReading, Environment, Fault, Faults, FromValue, Section};
use super::encryption::Encryption;
use super::event::Events;
use super::oidc;
use super::publish::{self, PackageCatalogSettings, PublishSetting, Retention, UploadSettings};
use super::report::ReportSettings;
use super::repository;
use super::scrub::ScrubSettings;
use super::settings::{
    Cache, Config, Domain, Fetch, Log, PrefetchSettings, RuleExpiry, ServerSettings, Tls,
};
use super::task;
use crate::format::plain;
use crate::rule::{Action, OriginRules, Rule, Rules};

/// Settings that are laid over and under the file's.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Upstreams of the machine's own clients, for formats that the file has no connection of; none
    /// while the clients have not been asked, and what the file says of such upstreams is believed.
    pub connections: Option<Vec<ConnectionSettings>>,
    /// Flags of the command line.
    pub listen: Option<String>,
    pub data_dir: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file's name in messages.
    pub file: String,
    pub text: String,
    pub environment: Vec<(String, String)>,
}

/// Reads the configuration.
///
/// # Errors
/// All its mistakes at once.
pub fn load(source: &ConfigSource, learned: &Learned) -> Result<Config, Faults> {
    let environment = Environment::new(&source.environment);
    let reading = ConfigReading::new(&source.file, &source.text, &environment);
    let table = DeTable::parse(&source.text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            let before = source.text.get(..span.start).unwrap_or_default();
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        Faults {
            file: source.file.clone(),
            faults: vec![Fault {
                place: format!("{}:{line}", source.file),
                message: plain::toml_syntax(&error),
            }],
        }
    })?;
    let config = read(&reading, table.get_ref(), learned);
    let faults = reading.into_faults();
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(Faults {
            file: source.file.clone(),
            faults,
        })
    }
}

/// Reads all keys. A mistake becomes a fault of `reading` and gets some value here, so that reading
/// goes on.
fn read(reading: &ConfigReading<'_>, table: &DeTable<'_>, learned: &Learned) -> Config {
    let top = Section::top(reading, table);
    let listen = top
        .take_placed::<String>("listen")
        .unwrap_or_else(|| ("127.0.0.1:5273".to_owned(), reading.file.to_owned()));
    let listen = match &learned.listen {
        Some(flag) => (flag.clone(), "--listen".to_owned()),
        None => listen,
    };
    let listen = listen.0.parse().map_err(|_| {
        reading.fault(
            &listen.1,
            format!(
                "`listen` has to be an address and a port, such as \"127.0.0.1:5273\", not `{}`",
                listen.0
            ),
        );
    });
    let public_url = top
        .take_placed::<PublicUrl>("public_url")
        .map(|(url, _)| url.0);
    let data_dir = top.take_placed::<String>("data_dir");
    if let Some((text, place)) = &data_dir
        && text.is_empty()
    {
        reading.fault(place, "`data_dir` is empty");
    }
    let data_dir = data_dir.map(|(text, _)| PathBuf::from(text));
    let data_dir = learned
        .data_dir
        .clone()
        .or(data_dir)
        .or_else(default_data_dir);
    if data_dir.is_none() {
        reading.fault(
            reading.file,
            "`data_dir` is missing, and this user has no home directory to put it in",
        );
    }
    let written_connections: Vec<connection::Written> = top
        .sections("connection")
        .into_iter()
        .filter_map(connection::read)
        .collect();
    for (index, one) in written_connections.iter().enumerate() {
        let name = &one.connection.name;
        let earlier = written_connections.iter().take(index);
        if earlier.map(|it| &it.connection.name).any(|it| it == name) {
            reading.fault(&one.place, format!("there are two connections `{name}`"));
        }
    }
    let written = written_connections.iter();
    let mut connections: Vec<ConnectionSettings> =
        written.map(|it| it.connection.clone()).collect();
    for one in learned.connections.iter().flatten() {
        if !connections
            .iter()
            .any(|own| own.format == one.format || own.name == one.name)
        {
            connections.push(one.clone());
        }
    }
    let written: Vec<_> = top
        .sections("repository")
        .into_iter()
        .filter_map(repository::read)
        .collect();
    let written = repository::with_public(written, &connections);
    let are_known = learned.connections.is_some();
    let repositories = repository::resolve(&written, &connections, &|place, fault| {
        if are_known || !fault.is_about_learned() {
            reading.fault(place, fault.message);
        }
    });
    let takes_publishes_of = |name: &String| {
        let mut all = repositories.iter().map(|it| &it.publish);
        all.any(|publish| matches!(publish, PublishSetting::Forward(to) if to.contains(name)))
    };
    for one in &written_connections {
        if let Some(place) = &one.publish_auth
            && !takes_publishes_of(&one.connection.name)
        {
            let name = &one.connection.name;
            reading.fault(
                place,
                format!("`connection.publish_auth` is about publishes that are passed on, and no repository has publish = \"forward:{name}\""),
            );
        }
    }
    let names: Vec<String> = repositories.iter().map(|it| it.name.clone()).collect();
    let repository_names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut rules, mut expiries) = (Vec::new(), Vec::new());
    for (index, section) in top.sections("rule").into_iter().enumerate() {
        if let Some((rule, expiry)) = rule(index, section) {
            rules.push(rule);
            expiries.extend(expiry);
        }
    }
    let names: Vec<String> = connections.iter().map(|one| one.name.clone()).collect();
    let connection_names: Vec<&str> = names.iter().map(String::as_str).collect();
    let retain: Vec<Retention> = top
        .sections("retain")
        .into_iter()
        .filter_map(|section| publish::retention(section, &repository_names))
        .collect();
    let has_retention = top.has("retain") || !retain.is_empty();
    let tasks = task::read(top.sections("task"), data_dir.as_deref(), has_retention);
    let config = Config {
        listen: listen.unwrap_or_else(|()| ([127, 0, 0, 1], 5273).into()),
        public_url,
        data_dir: data_dir.unwrap_or_default(),
        offline: top.take("offline").unwrap_or(false),
        anyone_may_read: top.take("anyone_may_read").unwrap_or(false),
        tls: top.optional_section("tls").and_then(Tls::read),
        domain: Domain::read(top.section("domain")),
        access: AccessSettings::read(top.section("access")),
        encryption: top
            .optional_section("encryption")
            .and_then(Encryption::read),
        oidc: top
            .sections("oidc")
            .into_iter()
            .filter_map(oidc::read)
            .collect(),
        events: Events::read(top.section("events"), top.sections("target")),
        log: Log::read(top.section("log")),
        server: ServerSettings::read(top.section("server")),
        cache: Cache::read(top.section("cache")),
        fetch: Fetch::read(top.section("fetch")),
        ahead: PrefetchSettings::read(top.section("ahead")),
        packages: PackageCatalogSettings::read(top.section("packages")),
        report: ReportSettings::read(top.section("report")),
        scrub: ScrubSettings::read(top.section("scrub")),
        bundle: Bundle::read(top.section("bundle")),
        upload: UploadSettings::read(top.section("upload")),
        connections,
        repositories,
        rules: Rules::new(rules),
        expiries,
        origins: OriginRules::new(
            top.sections("origin")
                .into_iter()
                .filter_map(|section| publish::origin(section, &connection_names))
                .collect(),
        ),
        retain,
        tasks,
        anyone_may_publish: top.take("anyone_may_publish").unwrap_or(false),
    };
    top.finish();
    reading.finish_variables();
    let takes_publishes =
        |repository: &super::RepositorySettings| repository.publish != PublishSetting::Deny;
    if !config.listen.ip().is_loopback()
        && !config.anyone_may_publish
        && !config.access.required
        && config.repositories.iter().any(takes_publishes)
    {
        reading.fault(
            reading.file,
            format!(
                "`listen` is {}, beyond loopback, and a repository takes publishes, whoever sends them; \
                 say `access.required = true`, or, if anyone who reaches it may publish, `anyone_may_publish = true`",
                config.listen
            ),
        );
    }
    if !config.listen.ip().is_loopback() && !config.anyone_may_read && !config.access.required {
        reading.fault(
            reading.file,
            format!(
                "`listen` is {}, beyond loopback, and nobody would be asked who they are; \
                 say `access.required = true`, or, if anyone who reaches it may read, `anyone_may_read = true`",
                config.listen
            ),
        );
    }
    config
}

/// The address that clients know, `https://packages.corp.example`, with or without a path.
struct PublicUrl(Url);

impl FromValue for PublicUrl {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let url = String::from_value(value).and_then(|text| {
            Url::parse(&text).map_err(|_| "has to begin with http:// or https://".to_owned())
        })?;
        // It stands before the paths in documents, which everybody reads.
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            Err("has to begin with http:// or https:// and a host".to_owned())
        } else if !url.username().is_empty() || url.password().is_some() {
            Err("stands in every document, and may have no user and no password".to_owned())
        } else if url.query().is_some() || url.fragment().is_some() {
            Err("has paths put behind it, and may have no `?` and no `#`".to_owned())
        } else {
            Ok(Self(url))
        }
    }
}

fn default_data_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "larder").map(|dirs| dirs.data_local_dir().to_owned())
}

/// A rule, and where its end is written.
fn rule(index: usize, section: Section<'_>) -> Option<(Rule, Option<RuleExpiry>)> {
    let name: String = section
        .take("name")
        .unwrap_or_else(|| format!("rule {}", index + 1));
    let action = section
        .require::<String>("action")
        .and_then(|(word, place)| match word.as_str() {
            "allow" => Some(Action::Allow),
            "deny" => Some(Action::Deny),
            _ => {
                section.fault(
                    &place,
                    format!("`rule.action` has to be \"allow\" or \"deny\", not `{word}`"),
                );
                None
            }
        });
    let packages = publish::patterns(&section);
    let min_age = section.take_placed("min_age");
    let not_after = section.take_placed("not_after");
    if action == Some(Action::Deny) {
        for place in [
            min_age.as_ref().map(|it| &it.1),
            not_after.as_ref().map(|it| &it.1),
        ]
        .into_iter()
        .flatten()
        {
            section.fault(place, "a rule that denies has no `min_age` or `not_after`; they stand in a rule that allows");
        }
    }
    let reason = section.take("reason");
    let expires = section.take_placed("expires");
    section.finish();
    let action = action?;
    let expiry = expires.map(|(at, place)| RuleExpiry {
        rule: name.clone(),
        action,
        at,
        place,
    });
    let rule = Rule {
        name,
        action,
        packages: packages?,
        reason,
        expires: expiry.as_ref().map(|expiry| expiry.at),
        min_age: min_age.map(|it| it.0),
        not_after: not_after.map(|it| it.0),
    };
    Some((rule, expiry))
}
