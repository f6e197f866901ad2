//! `[events]` and `[[target]]`: who is told what happens.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;
use url::Url;

use super::aws::endpoint;
use super::document::{FromValue, Section, Span};
use super::settings::Region;
use crate::event::EventPattern;
use crate::secret::Secret;

#[derive(Clone, Debug, PartialEq)]
pub struct Events {
    /// The envelope's `source`.
    pub source: String,
    /// Deliveries under way to one target.
    pub at_once: usize,
    /// After so many failures an event is put aside.
    pub attempts_max: u32,
    /// How long a target may take to answer.
    pub timeout: Duration,
    /// How long what was delivered is kept for another sending.
    pub keep: Duration,
    pub targets: Vec<EventTarget>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq)]
pub struct EventTarget {
    pub name: String,
    /// None: everything.
    pub pattern: Option<EventPattern>,
    pub to: Destination,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// The envelope, posted, and signed by the Standard Webhooks scheme where there is a secret.
    Webhook { url: Secret, secret: Option<Secret> },
    /// A line of text, as Slack's incoming webhooks take it.
    Slack { url: Secret },
    /// A card, as Teams' webhooks take it.
    Teams { url: Secret },
    /// A bus of EventBridge's.
    EventBridge(EventBus),
    /// A topic of SNS's.
    Sns(Topic),
    /// A line of JSON for each event.
    File(PathBuf),
}

/// A bus of EventBridge's, where AWS's chain of credentials may put events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBus {
    /// Its name or its ARN.
    pub name: String,
    pub region: String,
    /// In the place of the envelope's; none: the envelope's, where EventBridge takes it.
    pub source: Option<String>,
    pub endpoint: Url,
}

/// A topic of SNS's, where AWS's chain of credentials may publish.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub arn: String,
    pub region: String,
    pub endpoint: Url,
}

impl Events {
    pub(super) fn read(section: Section<'_>, targets: Vec<Section<'_>>) -> Self {
        let mut all: Vec<EventTarget> = Vec::new();
        for one in targets {
            let place = one.place.clone();
            let Some(target) = target(one) else { continue };
            if all.iter().any(|it| it.name == target.name) {
                section.fault(&place, format!("there are two targets `{}`", target.name));
            }
            all.push(target);
        }
        let events = Self {
            source: section
                .take("source")
                .unwrap_or_else(|| "aws.codeartifact".to_owned()),
            at_once: section
                .take::<NonZeroUsize>("at_once")
                .map_or(4, NonZeroUsize::get),
            attempts_max: section
                .take::<NonZeroU32>("attempts_max")
                .map_or(16, NonZeroU32::get),
            timeout: section
                .take::<Span>("timeout")
                .map_or(Duration::from_secs(10), |time| time.0),
            keep: section
                .take("keep")
                .unwrap_or(Duration::from_secs(7 * 24 * 3600)),
            targets: all,
        };
        section.finish();
        events
    }
}

/// An address, which may be as secret as a password: who knows it may post there.
struct Address(Secret);

impl FromValue for Address {
    fn from_value(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => Ok(Self(Secret::new(text))),
            None => Secret::from_value(value).map(Self),
        }
    }
}

fn target(section: Section<'_>) -> Option<EventTarget> {
    let name = section.require::<String>("name");
    let pattern = section.take_placed::<String>("pattern");
    let pattern = pattern.and_then(|(text, place)| {
        EventPattern::parse(&text)
            .map_err(|why| section.fault(&place, format!("`target.pattern`: {why}")))
            .ok()
    });
    let secret = section.take_placed::<Secret>("secret");
    let mut found = Vec::new();
    for key in ["webhook", "slack", "teams"] {
        let Some((url, place)) = section.take_placed::<Address>(key) else {
            continue;
        };
        let is_url = Url::parse(url.0.expose())
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !is_url {
            section.fault(
                &place,
                format!("`target.{key}` has to begin with http:// or https:// and a host"),
            );
            continue;
        }
        let url = url.0;
        found.push(match key {
            "webhook" => Destination::Webhook {
                url,
                secret: secret.as_ref().map(|(secret, _)| secret.clone()),
            },
            "slack" => Destination::Slack { url },
            _ => Destination::Teams { url },
        });
    }
    let bus = section.optional_section("eventbridge").and_then(event_bus);
    found.extend(bus.map(Destination::EventBridge));
    let topic = section.optional_section("sns").and_then(topic);
    found.extend(topic.map(Destination::Sns));
    if let Some(file) = section.take::<String>("file") {
        found.push(Destination::File(file.into()));
    }
    let is_signed = matches!(found.as_slice(), [] | [Destination::Webhook { .. }]);
    if !is_signed && let Some((_, place)) = &secret {
        section.fault(
            place,
            "`target.secret` signs what goes to a `webhook` alone",
        );
    }
    let mut found = found.into_iter();
    let to = match (found.next(), found.next()) {
        (Some(to), None) => Some(to),
        _ => {
            section.fault(
                &section.place,
                "a [[target]] has one of `webhook`, `slack`, `teams`, `eventbridge`, `sns` and `file`",
            );
            None
        }
    };
    section.finish();
    Some(EventTarget {
        name: name?.0,
        pattern,
        to: to?,
    })
}

/// `{ region = …, bus = …, source = …, endpoint = … }`.
fn event_bus(section: Section<'_>) -> Option<EventBus> {
    let region = section.require::<Region>("region");
    let region = region.map(|(Region(region), place)| (region, place));
    let name = section.take("bus").unwrap_or_else(|| "default".to_owned());
    let source = section.take("source");
    let endpoint = endpoint(&section, "events", region.as_ref());
    section.finish();
    Some(EventBus {
        name,
        region: region?.0,
        source,
        endpoint: endpoint?,
    })
}

/// `{ topic = ARN, endpoint = … }`; the region is the ARN's.
fn topic(section: Section<'_>) -> Option<Topic> {
    let arn = section.require::<String>("topic");
    let region = arn.as_ref().and_then(|(arn, place)| {
        let parts: Vec<&str> = arn.split(':').collect();
        if let ["arn", _, "sns", region, _, _] = parts.as_slice() {
            return Some(((*region).to_owned(), place.clone()));
        }
        section.fault(place, "`target.sns.topic` has to be the ARN of a topic");
        None
    });
    let endpoint = endpoint(&section, "sns", region.as_ref());
    section.finish();
    Some(Topic {
        arn: arn?.0,
        region: region?.0,
        endpoint: endpoint?,
    })
}
