//! The configuration's meaning: every bound a number with its unit.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use toml::de::DeValue;
use tracing_subscriber::EnvFilter;
use url::Url;

use super::access::AccessSettings;
use super::bundle::Bundle;
use super::connection::ConnectionSettings;
use super::document::{Bytes, FromValue, Section, SomeBytes, Span, nearest};
use super::encryption::Encryption;
use super::event::Events;
use super::oidc::Oidc;
use super::publish::{PackageCatalogSettings, PublishSetting, Retention, UploadSettings};
use super::report::ReportSettings;
use super::repository::{RepositorySettings, SourceSetting};
use super::scrub::ScrubSettings;
use super::task::TaskSettings;
use crate::package::Format;
use crate::rule::{Action, OriginRules, Rules};

/// All that Larder is told.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub public_url: Option<Url>,
    pub data_dir: PathBuf,
    pub offline: bool,
    /// Listening beyond loopback, with anyone reading, is meant.
    pub anyone_may_read: bool,
    pub tls: Option<Tls>,
    pub domain: Domain,
    pub access: AccessSettings,
    /// None: blobs lie plain.
    pub encryption: Option<Encryption>,
    pub oidc: Vec<Oidc>,
    pub events: Events,
    pub log: Log,
    pub server: ServerSettings,
    pub cache: Cache,
    pub fetch: Fetch,
    pub ahead: PrefetchSettings,
    pub packages: PackageCatalogSettings,
    pub report: ReportSettings,
    pub scrub: ScrubSettings,
    pub bundle: Bundle,
    pub upload: UploadSettings,
    pub connections: Vec<ConnectionSettings>,
    pub repositories: Vec<RepositorySettings>,
    pub rules: Rules,
    /// The ends of those rules that have one.
    pub expiries: Vec<RuleExpiry>,
    pub origins: OriginRules,
    pub retain: Vec<Retention>,
    pub tasks: Vec<TaskSettings>,
    /// Listening beyond loopback, with anyone publishing, is meant.
    pub anyone_may_publish: bool,
}

/// The end of a rule, as it is written.
#[derive(Clone, Debug)]
pub struct RuleExpiry {
    pub rule: String,
    pub action: Action,
    /// From then on the rule is as if it were not there.
    pub at: Timestamp,
    /// File and line.
    pub place: String,
}

/// Certificate and key of the listener, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    /// The account that owns it: twelve digits.
    pub owner: String,
    /// The region, as ARNs name it.
    pub region: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// `info`, or a filter as tracing reads it.
    pub level: String,
    /// Bytes of lines that wait to be written; further ones are dropped.
    pub buffer: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Threads that serve sockets; 0: one per core.
    pub threads: usize,
    /// Names beside localhost that Larder on loopback answers by, where nobody has to say who they
    /// are.
    pub hosts: Vec<String>,
    pub connections_max: usize,
    /// Open connections of one address, of requests that a trusted proxy passes on for it.
    pub connections_per_address_max: usize,
    pub header_bytes_max: usize,
    pub header_timeout: Duration,
    /// The longest time in which a client takes nothing of an answer.
    pub write_timeout: Duration,
    /// Largest body of a question that is passed on (npm's audit).
    pub question_bytes_max: u64,
    /// Bodies of questions and of calls of the API that are in memory, together.
    pub question_memory: u64,
    /// How long requests under way may take at the end.
    pub drain: Duration,
    /// Proxies before Larder: what they say of clients in `X-Forwarded-…` and `Forwarded` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The bound on evictable blobs on disk.
    pub max_size: u64,
    /// Disk space that is left free: below it, nothing new is kept.
    pub min_free: u64,
    /// Rendered documents in memory.
    pub rendered_memory: u64,
    /// Rendered documents on disk, so that a restart is warm.
    pub rendered_disk: u64,
    /// Blobs up to [`Cache::small_blob`] in memory.
    pub blob_memory: u64,
    pub small_blob: u64,
    /// Larger blobs whose pages stay mapped between requests.
    pub blob_mapped: u64,
    /// Answers of late that are given again by one look-up.
    pub answers_max: usize,
    /// The bound on facts about packages in memory.
    pub facts_memory: u64,
    /// For how long a real 404 is remembered.
    pub absent_for: Duration,
    /// Real 404s that are remembered for when their registry is away.
    pub absences_max: usize,
    /// Freshness of documents whose upstream says nothing.
    pub fresh_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Requests under way to one connection.
    pub per_connection_max: usize,
    pub connect_timeout: Duration,
    /// Longest silence in a response.
    pub read_timeout: Duration,
    /// How often a request is tried again, or a body resumed.
    pub retries: usize,
    /// The longest a client waits while upstream throttles or fails.
    pub patience: Duration,
    /// How long a client waits for an upstream's word where something stale is in hand.
    pub stale_after: Duration,
    /// Connections, or different resources, that fail in a row before a host rests.
    pub failures_max: usize,
    /// How long it rests, doubling up to 16 times this.
    pub rest: Duration,
    pub document_bytes_max: u64,
    /// Pieces of a download that wait for the disk.
    pub pieces_ahead_max: usize,
    /// Bytes of the documents that are read and rendered at the same time.
    pub render_memory: u64,
    /// Publish dates of versions that one request asks a registry for, where no document has them.
    pub dates_max: usize,
    /// How long a registry may take to answer what is no document or file of a package: a search, an
    /// audit, a version's attestations.
    pub question_timeout: Duration,
}

/// Going ahead of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefetchSettings {
    pub enabled: bool,
    /// Requests under way.
    pub at_once: usize,
    /// Documents between what a client asked for and what is fetched ahead.
    pub depth_max: usize,
    /// Fetched and not asked for yet.
    pub bytes_max: u64,
    /// The most entries that wait to be looked at.
    pub waiting_max: usize,
}

impl Config {
    /// The formats that a repository can have anything of: those of its connections, or all where it,
    /// or a repository that it draws on, takes publishes of its own.
    #[must_use]
    pub fn formats_of(&self, repository: &str) -> Vec<Format> {
        let named = |name: &str| self.repositories.iter().find(|one| one.name == name);
        let Some(repository) = named(repository) else {
            return Vec::new();
        };
        let takes_its_own = repository.sources.iter().any(|source| match source {
            SourceSetting::Own(name) => {
                named(name).is_some_and(|own| own.publish == PublishSetting::Local)
            }
            SourceSetting::Connection(_) => false,
        });
        let has = |format| {
            self.connections.iter().any(|one| {
                one.format == format && repository.connections().any(|name| name == one.name)
            })
        };
        Format::SERVED
            .into_iter()
            .filter(|format| takes_its_own || has(*format))
            .collect()
    }

    /// The formats without a connection.
    #[must_use]
    pub fn formats_off(&self) -> Vec<Format> {
        let has = |format| self.connections.iter().any(|one| one.format == format);
        Format::SERVED
            .into_iter()
            .filter(|format| !has(*format))
            .collect()
    }
}

impl Log {
    pub(super) fn read(section: Section<'_>) -> Self {
        let format = match section.take_placed::<String>("format") {
            None => LogFormat::Auto,
            Some((word, place)) => match word.as_str() {
                "auto" => LogFormat::Auto,
                "human" => LogFormat::Human,
                "json" => LogFormat::Json,
                _ => {
                    section.fault(
                        &place,
                        "`log.format` has to be \"auto\", \"human\" or \"json\"",
                    );
                    LogFormat::Auto
                }
            },
        };
        let level = section
            .take::<Filter>("level")
            .map_or_else(|| "info".to_owned(), |filter| filter.0);
        let buffer = bytes(&section, "buffer", 4 * MIB);
        section.finish();
        Self {
            format,
            level,
            buffer,
        }
    }
}

impl Tls {
    pub(super) fn read(section: Section<'_>) -> Option<Self> {
        let certificate = section.require::<String>("certificate");
        let key = section.require::<String>("key");
        section.finish();
        Some(Self {
            certificate: certificate?.0.into(),
            key: key?.0.into(),
        })
    }
}

impl Domain {
    pub(super) fn read(section: Section<'_>) -> Self {
        let domain = Self {
            name: section
                .take::<DomainName>("name")
                .map_or_else(|| "larder".to_owned(), |name| name.0),
            owner: section
                .take::<Account>("owner")
                .map_or_else(|| "000000000000".to_owned(), |account| account.0),
            region: section
                .take::<Region>("region")
                .map_or_else(|| "us-east-1".to_owned(), |region| region.0),
        };
        section.finish();
        domain
    }
}

const MIB: u64 = 1024 * 1024;

fn bytes(section: &Section<'_>, key: &'static str, default: u64) -> u64 {
    section.take::<Bytes>(key).map_or(default, |bytes| bytes.0)
}

fn at_least_one(section: &Section<'_>, key: &'static str, default: usize) -> usize {
    let number = section.take::<NonZeroUsize>(key);
    number.map_or(default, NonZeroUsize::get)
}

fn span(section: &Section<'_>, key: &'static str, default: Duration) -> Duration {
    section.take::<Span>(key).map_or(default, |time| time.0)
}

/// The name of a domain, as CodeArtifact takes it.
struct DomainName(String);

impl FromValue for DomainName {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let name = String::from_value(value)?;
        let is_right = (2..=50).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(is_word);
        let why = "has to be 2 to 50 lower-case letters, digits and `-`, a letter first";
        is_right.then_some(Self(name)).ok_or_else(|| why.to_owned())
    }
}

/// An account of AWS's: twelve digits.
pub(super) struct Account(pub String);

impl FromValue for Account {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let account = String::from_value(value)?;
        let is_right = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let why = "has to be an account, twelve digits in quotes";
        is_right
            .then_some(Self(account))
            .ok_or_else(|| why.to_owned())
    }
}

/// A region, as it stands in ARNs.
pub(super) struct Region(pub String);

impl FromValue for Region {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let region = String::from_value(value)?;
        let is_right = !region.is_empty() && region.bytes().all(is_word);
        let why = "has to be a region, such as \"us-east-1\"";
        is_right
            .then_some(Self(region))
            .ok_or_else(|| why.to_owned())
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// The words that are levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or a filter as tracing reads it.
struct Filter(String);

impl FromValue for Filter {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let text = String::from_value(value)?;
        if EnvFilter::try_new(&text).is_err() || text.trim().is_empty() {
            return Err(format!(
                "has to be one of {}, or a filter such as \"larder=debug\"",
                LEVELS.join(", ")
            ));
        }
        // A word that is no level is taken for the name of a module, and nothing else is logged.
        for word in text.split(',').map(|word| word.trim().to_lowercase()) {
            if let Some(level) = nearest(&word, LEVELS.into_iter())
                && level != word
                && !word.contains('=')
            {
                return Err(format!(
                    "has `{word}`, which is no level; did you mean `{level}`?"
                ));
            }
        }
        Ok(Self(text))
    }
}

/// Names of hosts, as a URL has them, without ports.
struct Hosts(Vec<String>);

impl FromValue for Hosts {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let names = Vec::<String>::from_value(value)?;
        let host = |name: &String| {
            let url = Url::parse(&format!("http://{name}/")).ok()?;
            let host = url.host_str()?.to_owned();
            let is_host = url.port().is_none() && host.eq_ignore_ascii_case(name);
            is_host.then_some(host)
        };
        let hosts: Option<Vec<String>> = names.iter().map(host).collect();
        let why =
            "has to be a list of names of hosts without ports, such as [\"host.docker.internal\"]";
        hosts.map(Self).ok_or_else(|| why.to_owned())
    }
}

/// The least that `server.header_bytes_max` may be: HTTP's own machinery needs as much.
const HEADER_BYTES_MIN: u64 = 8192;

struct HeaderBytes(usize);

impl FromValue for HeaderBytes {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        let Bytes(bytes) = Bytes::from_value(value)?;
        usize::try_from(bytes)
            .ok()
            .filter(|_| bytes >= HEADER_BYTES_MIN)
            .map(Self)
            .ok_or_else(|| "has to be at least 8KiB".to_owned())
    }
}

/// A list of networks (`10.0.0.0/8`) and addresses.
fn networks(section: &Section<'_>, key: &'static str) -> Vec<IpNet> {
    let Some((words, place)) = section.take_placed::<Vec<String>>(key) else {
        return Vec::new();
    };
    let read = |word: &String| {
        let one = word.parse::<IpAddr>().map(IpNet::from);
        let network = word.parse().or(one).ok();
        if network.is_none() {
            section.fault(
                &place,
                format!("`{key}`: `{word}` is no network, as in \"10.0.0.0/8\", and no address"),
            );
        }
        network
    };
    words.iter().filter_map(read).collect()
}

impl ServerSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let server = Self {
            threads: section.take("threads").unwrap_or(0),
            hosts: section
                .take::<Hosts>("hosts")
                .map_or_else(Vec::new, |hosts| hosts.0),
            connections_max: at_least_one(&section, "connections_max", 4096),
            connections_per_address_max: at_least_one(&section, "connections_per_address_max", 512),
            header_bytes_max: section
                .take::<HeaderBytes>("header_bytes_max")
                .map_or(64 * 1024, |bytes| bytes.0),
            header_timeout: span(&section, "header_timeout", Duration::from_secs(30)),
            write_timeout: span(&section, "write_timeout", Duration::from_secs(60)),
            question_bytes_max: bytes(&section, "question_bytes_max", 16 * MIB),
            question_memory: bytes(&section, "question_memory", 64 * MIB),
            drain: section.take("drain").unwrap_or(Duration::from_secs(30)),
            trusted_proxies: networks(&section, "trusted_proxies"),
        };
        section.finish();
        server
    }
}

impl Cache {
    pub(super) fn read(section: Section<'_>) -> Self {
        let cache = Self {
            max_size: bytes(&section, "max_size", 20 * 1024 * MIB),
            min_free: bytes(&section, "min_free", 512 * MIB),
            rendered_memory: bytes(&section, "rendered_memory", 64 * MIB),
            rendered_disk: bytes(&section, "rendered_disk", 256 * MIB),
            blob_memory: bytes(&section, "blob_memory", 32 * MIB),
            small_blob: bytes(&section, "small_blob", 64 * 1024),
            blob_mapped: bytes(&section, "blob_mapped", 32 * MIB),
            answers_max: section.take("answers_max").unwrap_or(8192),
            facts_memory: bytes(&section, "facts_memory", 32 * MIB),
            absent_for: section
                .take("absent_for")
                .unwrap_or(Duration::from_secs(30)),
            absences_max: section.take("absences_max").unwrap_or(100_000),
            fresh_for: section
                .take("fresh_for")
                .unwrap_or(Duration::from_secs(300)),
        };
        section.finish();
        cache
    }
}

impl PrefetchSettings {
    pub(super) fn read(section: Section<'_>) -> Self {
        let ahead = Self {
            enabled: section.take("enabled").unwrap_or(true),
            at_once: at_least_one(&section, "at_once", 24),
            depth_max: section.take("depth_max").unwrap_or(16),
            bytes_max: bytes(&section, "bytes_max", 256 * MIB),
            waiting_max: at_least_one(&section, "waiting_max", 4096),
        };
        section.finish();
        ahead
    }
}

impl Fetch {
    pub(super) fn read(section: Section<'_>) -> Self {
        let fetch = Self {
            per_connection_max: at_least_one(&section, "per_connection_max", 64),
            connect_timeout: span(&section, "connect_timeout", Duration::from_secs(10)),
            read_timeout: span(&section, "read_timeout", Duration::from_secs(30)),
            retries: section.take("retries").unwrap_or(4),
            patience: section.take("patience").unwrap_or(Duration::from_secs(60)),
            stale_after: section
                .take("stale_after")
                .unwrap_or(Duration::from_secs(5)),
            failures_max: at_least_one(&section, "failures_max", 5),
            rest: section.take("rest").unwrap_or(Duration::from_secs(5)),
            document_bytes_max: section
                .take::<SomeBytes>("document_bytes_max")
                .map_or(256 * MIB, |bytes| bytes.0),
            pieces_ahead_max: at_least_one(&section, "pieces_ahead_max", 16),
            render_memory: bytes(&section, "render_memory", 32 * MIB),
            dates_max: at_least_one(&section, "dates_max", 1000),
            question_timeout: span(&section, "question_timeout", Duration::from_secs(8)),
        };
        section.finish();
        fetch
    }
}
