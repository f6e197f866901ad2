//! From the text to the meaning.

use std::cell::RefCell;
use std::path::PathBuf;

use toml::de::DeTable;
use url::Url;

use super::access::Access;
use super::bundle::Bundle;
use super::connection::{self, Connection};
use super::document::{Environment, Fault, Faults, Reading, Section};
use super::encryption::Encryption;
use super::event::Events;
use super::oidc;
use super::publish::{self, Packages, Publish, Upload};
use super::report::Report;
use super::repository;
use super::settings::{Ahead, Cache, Config, Domain, Fetch, Log, Server, Tls};
use crate::rule::{Action, OriginRules, Rule, Rules};

/// What is laid over and under the file.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Upstreams of the machine's own clients, for formats that the file has no connection of.
    pub connections: Vec<Connection>,
    /// Flags of the command line.
    pub listen: Option<String>,
    pub data_dir: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As it is called in messages.
    pub file: String,
    pub text: String,
    pub environment: Vec<(String, String)>,
}

/// Reads the configuration.
///
/// # Errors
/// All its mistakes at once.
pub fn load(source: &Source, learned: &Learned) -> Result<Config, Faults> {
    let environment = Environment::new(&source.environment);
    let reading = Reading {
        file: &source.file,
        text: &source.text,
        environment: &environment,
        faults: RefCell::default(),
    };
    let table = DeTable::parse(&source.text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            let before = source.text.get(..span.start).unwrap_or_default();
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        Faults(vec![Fault {
            place: format!("{}:{line}", source.file),
            message: error.message().to_owned(),
        }])
    })?;
    let config = read(&reading, table.get_ref(), learned);
    let faults = reading.faults.into_inner();
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(Faults(faults)),
    }
}

fn read(reading: &Reading<'_>, table: &DeTable<'_>, learned: &Learned) -> Option<Config> {
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
        .take_placed::<String>("public_url")
        .and_then(|(text, place)| {
            let url = Url::parse(&text)
                .ok()
                .filter(|url| url.host_str().is_some());
            if url.is_none() {
                reading.fault(&place, format!("`public_url`: `{text}` is no URL"));
            }
            url
        });
    let data_dir = top.take::<String>("data_dir").map(PathBuf::from);
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
    let mut connections: Vec<Connection> = top
        .sections("connection")
        .into_iter()
        .filter_map(connection::read)
        .collect();
    for one in &learned.connections {
        if !connections
            .iter()
            .any(|own| own.format == one.format || own.name == one.name)
        {
            connections.push(one.clone());
        }
    }
    let mut seen = Vec::new();
    for one in &connections {
        if seen.contains(&one.name.as_str()) {
            reading.fault(
                reading.file,
                format!("there are two connections `{}`", one.name),
            );
        }
        seen.push(&one.name);
    }
    let written: Vec<_> = top
        .sections("repository")
        .into_iter()
        .filter_map(repository::read)
        .collect();
    let repositories = if written.is_empty() {
        vec![repository::public(&connections)]
    } else {
        repository::resolve(&written, &connections, &|place, message| {
            reading.fault(place, message)
        })
    };
    let rules = top
        .sections("rule")
        .into_iter()
        .enumerate()
        .filter_map(rule)
        .collect();
    let names: Vec<String> = connections.iter().map(|one| one.name.clone()).collect();
    let connection_names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = Config {
        listen: listen.unwrap_or_else(|()| ([127, 0, 0, 1], 5273).into()),
        public_url,
        data_dir: data_dir?,
        offline: top.take("offline").unwrap_or(false),
        anyone_may_read: top.take("anyone_may_read").unwrap_or(false),
        tls: top.optional_section("tls").and_then(Tls::read),
        domain: Domain::read(top.section("domain")),
        access: Access::read(top.section("access")),
        encryption: Encryption::read(top.section("encryption")),
        oidc: top
            .sections("oidc")
            .into_iter()
            .filter_map(oidc::read)
            .collect(),
        events: Events::read(top.section("events"), top.sections("target")),
        log: Log::read(top.section("log")),
        server: Server::read(top.section("server")),
        cache: Cache::read(top.section("cache")),
        fetch: Fetch::read(top.section("fetch")),
        ahead: Ahead::read(top.section("ahead")),
        packages: Packages::read(top.section("packages")),
        report: Report::read(top.section("report")),
        bundle: Bundle::read(top.section("bundle")),
        upload: Upload::read(top.section("upload")),
        connections,
        repositories,
        rules: Rules::new(rules),
        origins: OriginRules::new(
            top.sections("origin")
                .into_iter()
                .filter_map(|section| publish::origin(section, &connection_names))
                .collect(),
        ),
        retain: top
            .sections("retain")
            .into_iter()
            .filter_map(publish::retention)
            .collect(),
        anyone_may_publish: top.take("anyone_may_publish").unwrap_or(false),
    };
    top.finish();
    let takes_publishes = |repository: &super::Repository| repository.publish != Publish::Deny;
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
    Some(config)
}

fn default_data_dir() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "larder").map(|dirs| dirs.data_local_dir().to_owned())
}

fn rule((index, section): (usize, Section<'_>)) -> Option<Rule> {
    let name = section
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
    let expires = section.take("expires");
    section.finish();
    Some(Rule {
        name,
        action: action?,
        packages: packages?,
        reason,
        expires,
        min_age: min_age.map(|it| it.0),
        not_after: not_after.map(|it| it.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            file: "larder.toml".to_owned(),
            text: text.to_owned(),
            environment: Vec::new(),
        }
    }

    fn faults(text: &str) -> String {
        load(&source(text), &Learned::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_example_is_right_and_shows_the_defaults() {
        let example = include_str!("../../config.example.toml");
        let written = load(&source(example), &Learned::default()).unwrap();
        let default = load(
            &source("data_dir = \"/var/lib/larder\""),
            &Learned::default(),
        )
        .unwrap();
        assert_eq!(written.cache, default.cache);
        assert_eq!(written.fetch, default.fetch);
        assert_eq!(written.server, default.server);
        assert_eq!(written.upload, default.upload);
        assert_eq!(written.log, default.log);
        assert_eq!(written.report, default.report);
        assert_eq!(written.listen, default.listen);
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_the_nearest_key() {
        let faults = faults(
            "listne = \"127.0.0.1:1\"\ndata_dir = \"/x\"\n[cache]\nmax_size = \"lots\"\nabsent = 1\n\
             [[connection]]\nname = \"n\"\nformat = \"nmp\"\nurl = \"ftp://x\"\n\
             [[repository]]\nname = \"team\"\nupstreams = [\"teem\"]\nexternal_connections = [\"m\"]\n\
             [[rule]]\naction = \"refuse\"\npackages = [\"gem:x\"]\n",
        );
        for part in [
            "larder.toml:1: there is no key `listne`; did you mean `listen`?",
            "larder.toml:4: `cache.max_size` has to be a size",
            "larder.toml:5: there is no key `cache.absent`; did you mean `cache.absent_for`?",
            "larder.toml:8: `nmp` is no format",
            "did you mean `npm`?",
            "there is no repository `teem`; did you mean `team`?",
            "there is no connection `m`",
            "larder.toml:15: `rule.action` has to be",
            "`gem` is no format",
        ] {
            assert!(faults.contains(part), "{part}\nis not in\n{faults}");
        }
    }

    #[test]
    fn mistakes_about_publishing_are_named() {
        let connection = |name: &str| {
            format!(
                "[[connection]]\nname = \"{name}\"\nformat = \"npm\"\nurl = \"https://n.example\"\n"
            )
        };
        let text = format!(
            "data_dir = \"/x\"\n{}{}\
             [[repository]]\nname = \"a\"\npublish = \"locl\"\n\
             [[repository]]\nname = \"b\"\npublish = \"local\"\nspool = true\n\
             [[repository]]\nname = \"c\"\npublish = [\"forward:one\", \"forward:two\"]\n\
             [[repository]]\nname = \"d\"\npublish = \"forward:ome\"\n\
             [[origin]]\npackages = [\"npm:x\"]\nupstream = \"deny\"\nfrom = [\"too\"]\n\
             [[retain]]\npackages = [\"npm:x\"]\n",
            connection("one"),
            connection("two")
        );
        let faults = faults(&text);
        for part in [
            "`repository.publish` has to be \"deny\", \"local\" or",
            "`repository.spool` is of use with publish = \"forward:CONNECTION\" alone",
            "two connections of format npm cannot both take publishes",
            "there is no connection `ome`; did you mean `one`?",
            "`origin.upstream` has to be \"allow\" or \"block\", not `deny`",
            "there is no connection `too`; did you mean `two`?",
            "`[[retain]]` needs `keep_last`, `keep_newer_than`, or both",
        ] {
            assert!(faults.contains(part), "{part}\nis not in\n{faults}");
        }
    }

    #[test]
    fn publishing_beyond_loopback_has_to_be_meant() {
        let text = "data_dir = \"/x\"\nlisten = \"0.0.0.0:5273\"\nanyone_may_read = true\n\
                    [[repository]]\nname = \"a\"\npublish = \"local\"\n";
        assert!(faults(text).contains("anyone_may_publish = true"));
        let meant = text.replace(
            "[[repository]]",
            "anyone_may_publish = true\n[[repository]]",
        );
        assert!(load(&source(&meant), &Learned::default()).is_ok());
    }

    #[test]
    fn text_that_is_no_toml_is_named_with_its_line() {
        assert!(faults("a = 1\nb = = 2\n").starts_with("larder.toml:2:"));
    }

    #[test]
    fn a_circle_of_upstreams_is_refused_with_its_path() {
        let text = "data_dir = \"/x\"\n[[repository]]\nname = \"a\"\nupstreams = [\"b\"]\n[[repository]]\nname = \"b\"\nupstreams = [\"a\"]\n";
        assert!(faults(text).contains("a → b → a"));
    }

    #[test]
    fn listening_beyond_loopback_has_to_be_meant() {
        let text = "data_dir = \"/x\"\nlisten = \"0.0.0.0:5273\"\n";
        assert!(faults(text).contains("anyone_may_read = true"));
        assert!(
            load(
                &source(&format!("{text}anyone_may_read = true\n")),
                &Learned::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let source = Source {
            environment: vec![
                ("LARDER_CACHE_MAX_SIZE".to_owned(), "1GiB".to_owned()),
                ("LARDER_OFFLINE".to_owned(), "true".to_owned()),
                (
                    "LARDER_CONNECTION".to_owned(),
                    "[{ name = \"n\", format = \"npm\", url = \"https://n.example\" }]".to_owned(),
                ),
            ],
            ..source("data_dir = \"/x\"\n[cache]\nmax_size = \"2GiB\"\n")
        };
        let config = load(&source, &Learned::default()).unwrap();
        assert_eq!(config.cache.max_size, 1024 * 1024 * 1024);
        assert!(config.offline);
        assert_eq!(config.connections[0].url.as_str(), "https://n.example/");
        assert_eq!(
            config.repositories[0].connections().collect::<Vec<_>>(),
            ["n"]
        );
    }

    #[test]
    fn sources_are_flat_and_the_nearest_comes_first() {
        let text = "data_dir = \"/x\"\n\
            [[connection]]\nname = \"a\"\nformat = \"npm\"\nurl = \"https://a.example\"\n\
            [[connection]]\nname = \"b\"\nformat = \"npm\"\nurl = \"https://u:p@b.example\"\n\
            [[repository]]\nname = \"public\"\nexternal_connections = [\"a\"]\n\
            [[repository]]\nname = \"team\"\nupstreams = [\"public\"]\nexternal_connections = [\"b\"]\n";
        let config = load(&source(text), &Learned::default()).unwrap();
        assert_eq!(
            config.repositories[1].connections().collect::<Vec<_>>(),
            ["b", "a"]
        );
        assert_eq!(config.connections[1].url.as_str(), "https://b.example/");
        assert!(config.connections[1].auth.is_some());
    }

    #[test]
    fn secrets_stand_in_no_file() {
        let text = "data_dir = \"/x\"\n[[connection]]\nname = \"a\"\nformat = \"npm\"\nurl = \"https://a.example\"\nauth = { bearer = \"inline\" }\n";
        assert!(faults(text).contains("{ env ="));
    }
}
