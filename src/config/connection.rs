//! `[[connection]]`: one registry outside.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use url::Url;

use super::aws::endpoint;
use super::document::{Section, Span, nearest};
use super::proxy::ProxySetting;
use super::settings::{Account, Region};
use crate::package::Format;
use crate::secret::Secret;

/// How Larder says who it is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A header and its whole value.
    Header { name: String, value: Secret },
    /// A token that CodeArtifact gives for AWS's own credentials.
    CodeArtifact(CodeArtifact),
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeArtifact {
    pub domain: String,
    /// The account that the domain belongs to; none: the credentials' own.
    pub owner: Option<String>,
    pub region: String,
    /// The API's address.
    pub endpoint: Url,
}

/// The value of an `Authorization` header (RFC 6750).
#[must_use]
pub fn bearer(token: &Secret) -> Secret {
    Secret::new(&format!("Bearer {}", token.expose()))
}

/// The value of an `Authorization` header (RFC 7617).
#[must_use]
pub fn basic(username: &str, password: &Secret) -> Secret {
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    Secret::new(&format!("Basic {pair}"))
}

impl Auth {
    #[must_use]
    pub fn bearer(token: &Secret) -> Self {
        Self::Header {
            name: "authorization".to_owned(),
            value: bearer(token),
        }
    }

    #[must_use]
    pub fn basic(username: &str, password: &Secret) -> Self {
        Self::Header {
            name: "authorization".to_owned(),
            value: basic(username, password),
        }
    }
}

/// The repositories that may draw on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Repositories of the configuration alone.
    Configuration,
    /// Repositories made by the API too: whoever may associate external connections with one.
    Api,
}

/// A registry outside, as configured or learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSettings {
    pub name: String,
    pub format: Format,
    /// Ends in a slash, except for NuGet's service index.
    pub url: Url,
    pub auth: Option<Auth>,
    /// No packet leaves for it.
    pub offline: bool,
    /// Certificates to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// For how long documents are fresh, whatever upstream says.
    pub max_age: Option<Duration>,
    /// Where publishes go, where that is not beside what is read.
    pub publish_url: Option<Url>,
    /// Publishes carry the client's own credentials, not the connection's.
    pub publish_as_client: bool,
    /// Hosts, lower case, at which the registry's files may lie although they are inside.
    pub hosts: Vec<String>,
    /// The configuration's own word; see [`ConnectionSettings::may_be_attached_by_api`].
    pub attach: Option<Attach>,
    /// The URL's query, which may hold a secret (a signature): it is sent, and shown nowhere.
    pub query: Option<Secret>,
    /// This machine's own client is set to it, with these credentials.
    pub is_learned: bool,
    /// The environment says it where this is none.
    pub proxy: Option<ProxySetting>,
    /// A certificate and its private key, in PEM, by which the registry knows Larder.
    pub client_cert: Option<Secret>,
    /// For how long it may be silent while it answers; else as all connections.
    pub timeout: Option<Duration>,
    /// Requests a second to the registry itself.
    pub rate_max: Option<NonZeroU32>,
}

impl ConnectionSettings {
    /// # Errors
    /// Why the URL cannot be one of a registry.
    pub fn new(name: &str, format: Format, url: &str) -> Result<Self, String> {
        // A text that is not a URL may still hold a secret, so the message does not repeat it.
        let mut parsed = Url::parse(url)
            .map_err(|_| "it is no URL, such as https://registry.example/npm/".to_owned())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err("it has to begin with http:// or https:// and a host".to_owned());
        }
        // A credential in the URL would leak into logs, so it becomes a header.
        let auth = (!parsed.username().is_empty()).then(|| {
            let decode = |text: &str| {
                percent_encoding::percent_decode_str(text)
                    .decode_utf8_lossy()
                    .into_owned()
            };
            Auth::basic(
                &decode(parsed.username()),
                &Secret::new(&decode(parsed.password().unwrap_or_default())),
            )
        });
        if auth.is_some() {
            let cleared = parsed
                .set_username("")
                .and_then(|()| parsed.set_password(None));
            if cleared.is_err() {
                return Err("the URL's user and password cannot be read".to_owned());
            }
        }
        parsed.set_fragment(None);
        let query = parsed.query().filter(|query| !query.is_empty());
        let query = query.map(Secret::new);
        parsed.set_query(None);
        if format != Format::Nuget && !parsed.path().ends_with('/') {
            let with_slash = format!("{}/", parsed.path());
            parsed.set_path(&with_slash);
        }
        Ok(Self {
            name: name.to_owned(),
            format,
            url: parsed,
            auth,
            offline: false,
            ca_file: None,
            max_age: None,
            publish_url: None,
            publish_as_client: false,
            hosts: Vec::new(),
            attach: None,
            query,
            is_learned: false,
            proxy: None,
            client_cert: None,
            timeout: None,
            rate_max: None,
        })
    }

    /// Whether requests carry a credential of the connection's own; a query may hold a signature, and a
    /// certificate says who asks.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.auth.is_some() || self.query.is_some() || self.client_cert.is_some()
    }

    /// How the registry is asked, where that is not how all are, in words.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let proxy = self.proxy.as_ref().map(|proxy| match proxy.shown() {
            Some(address) => format!("by way of {address}"),
            None => "by way of no proxy".to_owned(),
        });
        let ca_file = self.ca_file.as_ref();
        let certificate = self.client_cert.as_ref();
        let timeout = self.timeout.map(humantime::format_duration);
        [
            proxy,
            ca_file.map(|file| format!("trusts {}", file.display())),
            certificate.map(|_| "with a certificate of its own".to_owned()),
            timeout.map(|time| format!("may be silent for {time}")),
            self.rate_max
                .map(|rate| format!("asked {rate} times a second at most")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether `AssociateExternalConnection` may attach it to a repository. Readers of that repository
    /// read with the connection's credentials, so that one that has some is for repositories of the
    /// configuration, unless `attach` says otherwise.
    #[must_use]
    pub fn may_be_attached_by_api(&self) -> bool {
        match self.attach {
            Some(attach) => attach == Attach::Api,
            None => !self.has_credential(),
        }
    }
}

/// A connection as it was written, with the places that later faults name.
pub(super) struct Written {
    pub connection: ConnectionSettings,
    pub place: String,
    /// The place of `publish_auth` in the file.
    pub publish_auth: Option<String>,
}

pub(super) fn read(section: Section<'_>) -> Option<Written> {
    let name = section.require::<String>("name");
    let format = section.require::<String>("format");
    let url = section.require::<String>("url");
    let auth = section.optional_section("auth").and_then(read_auth);
    let offline = section.take("offline").unwrap_or(false);
    let ca_file = section.take::<String>("ca_file").map(PathBuf::from);
    let max_age = section.take("max_age");
    let proxy = section.take("proxy");
    let client_cert = section.take("client_cert");
    let timeout = section.take::<Span>("timeout").map(|time| time.0);
    let rate_max = section.take("rate_max");
    let publish_url = section
        .take_placed::<String>("publish_url")
        .and_then(|(text, place)| {
            let url = Url::parse(&text).ok().filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.host_str().is_some()
                    && url.username().is_empty()
            });
            if url.is_none() {
                section.fault(
                    &place,
                    "`connection.publish_url` has to begin with http:// or https:// and a host, without a user",
                );
            }
            url
        });
    let hosts = section.take_placed::<Vec<String>>("hosts");
    let hosts = hosts.map_or_else(Vec::new, |(hosts, place)| {
        let read = |host: &String| match url::Host::parse(host.trim_matches(['[', ']'])) {
            Ok(url::Host::Domain(name)) if !name.is_empty() => Some(name),
            Ok(url::Host::Ipv4(ip)) => Some(ip.to_string()),
            _ => host
                .trim_matches(['[', ']'])
                .parse::<std::net::Ipv6Addr>()
                .ok()
                .map(|ip| format!("[{ip}]")),
        };
        let mut named = Vec::with_capacity(hosts.len());
        for host in &hosts {
            match read(host) {
                Some(host) => named.push(host),
                None => section.fault(
                    &place,
                    format!("`connection.hosts`: `{host}` is no host; a host is a name or an address, without scheme, port or path"),
                ),
            }
        }
        named
    });
    let publish_auth = section.take_placed::<String>("publish_auth");
    let publish_as_client = match &publish_auth {
        None => false,
        Some((word, place)) => {
            if !matches!(word.as_str(), "connection" | "client") {
                section.fault(
                    place,
                    "`connection.publish_auth` has to be \"connection\" or \"client\"",
                );
            }
            word == "client"
        }
    };
    let attach = section.take_placed::<String>("attach");
    let attach = attach.and_then(|(word, place)| match word.as_str() {
        "configuration" => Some(Attach::Configuration),
        "api" => Some(Attach::Api),
        _ => {
            section.fault(
                &place,
                "`connection.attach` has to be \"configuration\" or \"api\"",
            );
            None
        }
    });
    let format = format.and_then(|(word, place)| match word.parse::<Format>() {
        Ok(Format::Generic) => {
            let why =
                "generic packages have no registries: the CodeArtifact API writes and reads them";
            section.fault(&place, why);
            None
        }
        Ok(format) => Some(format),
        Err(error) => {
            let hint = nearest(&word, Format::SERVED.into_iter().map(Format::as_str));
            let hint = hint.map_or_else(String::new, |hint| format!("; did you mean `{hint}`?"));
            section.fault(&place, format!("{error}{hint}"));
            None
        }
    });
    let connection = name
        .zip(format)
        .zip(url)
        .and_then(|(((name, _), format), (url, place))| {
            ConnectionSettings::new(&name, format, &url)
                .map_err(|why| section.fault(&place, format!("`connection.url`: {why}")))
                .ok()
        });
    if auth.is_some() && connection.as_ref().is_some_and(|it| it.auth.is_some()) {
        section.fault(
            &section.place,
            "`connection.url` has a user, and `connection.auth` says who Larder is, too; leave one of them out",
        );
    }
    let place = section.place.clone();
    section.finish();
    let connection = connection.map(|connection| ConnectionSettings {
        auth: auth.or(connection.auth),
        offline,
        ca_file,
        max_age,
        publish_url,
        publish_as_client,
        hosts,
        attach,
        proxy,
        client_cert,
        timeout,
        rate_max,
        ..connection
    })?;
    Some(Written {
        connection,
        place,
        publish_auth: publish_auth.map(|(_, place)| place),
    })
}

/// The ways of saying who Larder is.
const KINDS: [&str; 4] = ["bearer", "basic", "header", "aws_codeartifact"];

/// `{ bearer = SECRET }`, `{ basic = { username = …, password = SECRET } }`,
/// `{ header = { name = …, value = SECRET } }`,
/// `{ aws_codeartifact = { domain = …, owner = …, region = …, endpoint = … } }`.
fn read_auth(section: Section<'_>) -> Option<Auth> {
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
    if section.is_empty() {
        let kinds = KINDS.join("`, `");
        section.fault(
            &section.place,
            format!("`connection.auth` is empty, and Larder would go without credentials; it has one of `{kinds}`"),
        );
    } else if kinds.len() > 1 {
        section.fault(
            &section.place,
            format!(
                "`connection.auth` has `{}`, and a registry is told one thing; leave one",
                kinds.join("` and `")
            ),
        );
    }
    let bearer = section
        .take::<Secret>("bearer")
        .map(|token| Auth::bearer(&token));
    let basic = section.optional_section("basic").and_then(|basic| {
        let username = basic.require::<String>("username");
        let password = basic.require::<Secret>("password");
        basic.finish();
        Some(Auth::basic(&username?.0, &password?.0))
    });
    let header = section.optional_section("header").and_then(|header| {
        let name = header.require::<String>("name");
        let value = header.require::<Secret>("value");
        if let Some((name, place)) = &name
            && HeaderName::from_bytes(name.as_bytes()).is_err()
        {
            header.fault(place, format!("`{name}` is no name of a header"));
        }
        header.finish();
        Some(Auth::Header {
            name: name?.0.to_lowercase(),
            value: value?.0,
        })
    });
    let token = section
        .optional_section("aws_codeartifact")
        .and_then(read_codeartifact);
    section.finish();
    bearer
        .or(basic)
        .or(header)
        .or(token.map(Auth::CodeArtifact))
}

fn read_codeartifact(section: Section<'_>) -> Option<CodeArtifact> {
    let domain = section.require::<String>("domain");
    let owner = section.take::<Account>("owner").map(|account| account.0);
    let region = section.require::<Region>("region");
    let region = region.map(|(Region(region), place)| (region, place));
    let endpoint = endpoint(&section, "codeartifact", region.as_ref());
    section.finish();
    Some(CodeArtifact {
        domain: domain?.0,
        owner,
        region: region?.0,
        endpoint: endpoint?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_with_credentials_is_for_the_configuration_unless_it_says_otherwise() {
        for (url, attach, may) in [
            ("https://npm.example/", None, true),
            ("https://npm.example/", Some(Attach::Configuration), false),
            ("https://ci:secret@npm.example/", None, false),
            ("https://ci:secret@npm.example/", Some(Attach::Api), true),
            // A signature is a credential, too.
            ("https://npm.example/?signature=secret", None, false),
        ] {
            let connection = ConnectionSettings {
                attach,
                ..ConnectionSettings::new("npm", Format::Npm, url).unwrap()
            };
            assert_eq!(connection.may_be_attached_by_api(), may, "{url} {attach:?}");
        }
    }
}
