//! Publishes packages of our own, and takes some of them away again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use serde_json::json;

use super::account::Wrong;
use super::client::{Answer, Ask, COMMAND, Client};
use super::ledger::{Ledger, OWN, Own, Stage};
use super::stock::{Format, GROUP, Version, file_name, filling, metadata, pom};
use crate::support::npm::npm_document;
use crate::support::pypi::{FORM, form};
use crate::support::{Chance, sha1};

/// Packages of our own in each format.
const NAMES: u64 = 10;
/// The largest file that is published.
const LARGEST: u64 = 256 * 1024;

pub struct Publisher {
    pub client: Arc<Client>,
    pub ledger: Arc<Ledger>,
    pub format: Format,
    pub chance: Chance,
    /// The longest pause between two publishes.
    pub pause: Duration,
}

impl Publisher {
    pub async fn run(mut self) {
        loop {
            match self.chance.below(20) {
                0 => self.delete().await,
                1 => self.unlist().await,
                _ => self.publish().await,
            }
            let longest = u64::try_from(self.pause.as_millis()).unwrap();
            let pause = self.chance.below(1 + longest);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn name(&mut self) -> String {
        let number = self.chance.below(NAMES);
        match self.format {
            Format::Npm if number.is_multiple_of(3) => format!("@acme/p-{number}"),
            Format::Nuget => format!("Acme.P{number}"),
            _ => format!("acme-{number}"),
        }
    }

    /// Publishes a version, and again with the same bytes where it is not known what came of it.
    async fn publish(&mut self) {
        let name = self.name();
        let number = format!("1.{}.0", self.ledger.number());
        let filling = filling(&mut self.chance, LARGEST);
        let version = Version::new(self.format, &name, number, &filling);
        let own = self.ledger.enter(self.format, &name, version);
        loop {
            if self.is_taken(&own).await {
                own.becomes(Stage::Acknowledged);
                self.client.account.acknowledged(self.format);
                return;
            }
            // Others give up.
            if self.chance.of_100(30) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends it in the format's way; whether it was acknowledged.
    async fn is_taken(&mut self, own: &Own) -> bool {
        let (format, name) = (self.format, own.name.as_str());
        let (number, bytes) = (own.version.version.as_str(), &own.version.bytes);
        let send = |method, path, body| Ask::send(format, method, path, body);
        let asks = match format {
            Format::Npm => {
                let path = format!("/npm/{OWN}/{}", name.replace('/', "%2f"));
                let mut body: serde_json::Value =
                    serde_json::from_slice(&npm_document(name, number, bytes)).unwrap();
                // A file of a scope is called without it.
                let file = body["_attachments"].as_object_mut().unwrap();
                let attached: Vec<_> = std::mem::take(file).into_iter().collect();
                for (_, value) in attached {
                    file.insert(file_name(format, name, number), value);
                }
                vec![
                    send(Method::PUT, path, body.to_string().into())
                        .with("content-type", "application/json"),
                ]
            }
            Format::Pypi => {
                let body = form(&file_name(format, name, number), bytes, &[]);
                let path = format!("/pypi/{OWN}/");
                vec![send(Method::POST, path, body.into()).with("content-type", FORM)]
            }
            Format::Nuget => {
                let path = format!("/nuget/{OWN}/api/v2/package");
                vec![send(Method::PUT, path, bytes.clone())]
            }
            Format::Maven => {
                let package = format!("/maven/{OWN}/{GROUP}/{name}");
                let file = format!("{package}/{number}/{name}-{number}");
                let put = |path: String, body: Bytes| send(Method::PUT, path, body);
                let end = metadata(name, std::slice::from_ref(&own.version));
                vec![
                    put(format!("{file}.pom"), pom(name, number).into()),
                    put(format!("{file}.jar"), bytes.clone()),
                    put(format!("{file}.jar.sha1"), sha1(bytes).into()),
                    put(format!("{package}/maven-metadata.xml"), end.into()),
                ]
            }
        };
        for ask in asks {
            match self.client.ask(&mut self.chance, &ask).await {
                Some(answer) if matches!(answer.status, 200 | 201) => {
                    self.client.account.verified(format);
                }
                Some(answer) => {
                    self.refused(&answer);
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    /// Only what cannot be done now is refused.
    fn refused(&self, answer: &Answer) {
        if answer.status != 500 && !answer.is_refused() {
            self.client.wrong(Wrong::Odd, "", answer);
        }
    }

    /// Has an operator's command done to one version; whether it says that it is done.
    async fn manage(&mut self, own: &Own, mut command: serde_json::Value) -> bool {
        let (format, name) = (self.format.name(), own.name.to_lowercase());
        let package = match self.format {
            Format::Maven => format!("{format}:{}:{name}", GROUP.replace('/', ".")),
            _ => format!("{format}:{name}"),
        };
        command["repository"] = OWN.into();
        command["package"] = package.into();
        command["versions"] = json!([own.version.version]);
        let body = command.to_string().into();
        let ask = Ask::send(self.format, Method::POST, COMMAND.to_owned(), body);
        let Some(answer) = self.client.ask(&mut self.chance, &ask).await else {
            return false;
        };
        if answer.status != 200 {
            self.refused(&answer);
            return false;
        }
        let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        said["versions"][0] == own.version.version.as_str()
    }

    fn pick(&mut self) -> Option<Arc<Own>> {
        let own = self.ledger.pick(&mut self.chance, self.format)?;
        (own.stage() == Stage::Acknowledged).then_some(own)
    }

    async fn delete(&mut self) {
        let Some(own) = self.pick() else {
            return;
        };
        own.becomes(Stage::Leaving);
        if self.manage(&own, json!({ "command": "delete" })).await {
            own.becomes(Stage::Gone);
            self.client.account.deleted();
        }
    }

    async fn unlist(&mut self) {
        let Some(own) = self.pick() else {
            return;
        };
        own.was_unlisted.store(true, Ordering::Release);
        for status in ["Unlisted", "Published"] {
            self.manage(&own, json!({ "command": "status", "status": status }))
                .await;
        }
    }
}
