//! Deliveries: at least once, events about one subject in their order, with pauses that grow, and
//! put aside after too many failures.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::OnceCell;
use tracing::{info, warn};

use crate::clock;
use crate::config::{Destination, Events, Target};
use crate::secret::Secret;
use crate::store::packages::{Delivery, Packages};
use crate::task::{PAUSE_MAX, Tasks, pause_after};

/// Deliveries that are looked at together.
const BATCH: usize = 256;
/// How much of a target's answer is kept.
const SAID_CHARS_MAX: usize = 200;
/// How often what was delivered long ago is forgotten.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(3600);

/// Tells the targets what happens.
pub struct Deliverer {
    packages: Packages,
    /// Made when there is somebody to tell.
    http: OnceCell<reqwest::Client>,
    events: ArcSwap<Events>,
    tasks: Tasks,
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Deliverer {
    /// Begins to deliver; stops when the tasks do.
    #[must_use]
    pub fn start(packages: &Packages, events: &Events, tasks: &Tasks) -> Arc<Self> {
        let deliverer = Arc::new(Self {
            packages: packages.clone(),
            http: OnceCell::new(),
            events: ArcSwap::from_pointee(events.clone()),
            tasks: tasks.clone(),
        });
        let own = Arc::clone(&deliverer);
        tasks.spawn_until_stop(async move { own.run().await });
        let own = Arc::clone(&deliverer);
        tasks.spawn_until_stop(async move {
            loop {
                let events = own.events.load_full();
                let before = clock::unix_ms_now() - ms(events.keep);
                if !events.targets.is_empty()
                    && let Err(error) = own.packages.forget_delivered(before).await
                {
                    warn!(%error, "What was delivered long ago is still kept");
                }
                tokio::time::sleep(FORGOTTEN_EVERY).await;
            }
        });
        deliverer
    }

    async fn post(&self, url: &Secret) -> Result<reqwest::RequestBuilder, String> {
        let http = self.http.get_or_try_init(|| async {
            // A redirect would carry the event, and its signature, to somebody else.
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
        });
        let http = http.await.map_err(|error| error.to_string())?;
        Ok(http
            .post(url.expose())
            .header("content-type", "application/json"))
    }

    /// Puts other targets in force.
    pub fn reload(&self, events: &Events) {
        self.events.store(Arc::new(events.clone()));
        self.packages.bell().notify_waiters();
    }

    async fn run(self: Arc<Self>) {
        let bell = self.packages.bell();
        loop {
            // What is written from here on rings, whenever that is.
            let rung = bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            let events = self.events.load_full();
            let rounds = events
                .targets
                .iter()
                .map(|target| self.round(&events, target));
            let next: Option<i64> = futures_util::future::join_all(rounds)
                .await
                .into_iter()
                .flatten()
                .min();
            let shared = self.packages.is_shared() && !events.targets.is_empty();
            let longest = if shared {
                Duration::from_secs(2)
            } else {
                PAUSE_MAX
            };
            let left = next.map_or(longest, |at| {
                let left = (at - clock::unix_ms_now()).max(10);
                Duration::from_millis(u64::try_from(left).unwrap_or(10)).min(longest)
            });
            let _ = tokio::time::timeout(left, rung).await;
        }
    }

    /// Delivers what is due to one target; says when something is due next.
    async fn round(&self, events: &Events, target: &Target) -> Option<i64> {
        loop {
            let due = self
                .packages
                .due(&target.name, clock::unix_ms_now(), BATCH)
                .await;
            let due = match due {
                Ok(due) => due,
                Err(error) => {
                    warn!(%error, "Events that wait cannot be read");
                    return Some(clock::unix_ms_now() + ms(PAUSE_MAX));
                }
            };
            if due.is_empty() {
                return self.packages.next_due(&target.name).await.ok().flatten();
            }
            stream::iter(due)
                .for_each_concurrent(events.at_once, |one| async move {
                    self.deliver(events, target, one).await;
                })
                .await;
        }
    }

    async fn deliver(&self, events: &Events, target: &Target, mut one: Delivery) {
        // Another process leaves it alone for as long as this one may take.
        let claimed_until = clock::unix_ms_now() + ms(events.timeout) + 5000;
        let claimed = self
            .packages
            .delivery_is(&one, "waiting", one.attempts, claimed_until, &one.said)
            .await;
        match claimed {
            Ok(true) => one.next_at = claimed_until,
            Ok(false) => return,
            Err(error) => {
                warn!(%error, "An event that waits cannot be claimed");
                return;
            }
        }
        let sent = tokio::time::timeout(events.timeout, self.send(target, &one)).await;
        let sent = sent.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let now = clock::unix_ms_now();
        let attempts = one.attempts.saturating_add(1);
        let (state, next_at, said) = match sent {
            Ok(said) => ("delivered", now, said),
            Err(said) if attempts >= events.attempts_max => {
                warn!(
                    target = target.name,
                    event = one.event,
                    said,
                    "An event is put aside; `larder events replay` sends it again"
                );
                ("dead", now, said)
            }
            Err(said) => {
                info!(
                    target = target.name,
                    event = one.event,
                    said,
                    attempts,
                    "An event was not taken, and is sent again later"
                );
                ("waiting", now + ms(pause_after(one.attempts)), said)
            }
        };
        let noted = self
            .packages
            .delivery_is(&one, state, attempts, next_at, &said);
        if let Err(error) = noted.await {
            warn!(%error, "Whether an event was delivered is not noted: it goes again");
        }
    }

    /// Sends one; what the target said.
    async fn send(&self, target: &Target, one: &Delivery) -> Result<String, String> {
        match &target.to {
            Destination::Webhook { url, secret } => {
                let now = clock::unix_now();
                let mut request = self
                    .post(url)
                    .await?
                    .header("webhook-id", &one.event)
                    .header("webhook-timestamp", now.to_string())
                    .body(one.document.clone());
                if let Some(secret) = secret {
                    let signature = signature(secret, &one.event, now, &one.document);
                    request = request.header("webhook-signature", signature);
                }
                answered(request).await
            }
            Destination::Slack { url } => {
                let body = json!({ "text": line(&one.document) });
                answered(self.post(url).await?.body(body.to_string())).await
            }
            Destination::Teams { url } => {
                let card = json!({
                    "type": "message",
                    "attachments": [{
                        "contentType": "application/vnd.microsoft.card.adaptive",
                        "content": {
                            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                            "type": "AdaptiveCard",
                            "version": "1.4",
                            "body": [{ "type": "TextBlock", "wrap": true, "text": line(&one.document) }],
                        },
                    }],
                });
                answered(self.post(url).await?.body(card.to_string())).await
            }
            Destination::File(path) => {
                let (path, text) = (path.clone(), format!("{}\n", one.document));
                let written = self
                    .tasks
                    .spawn_blocking(move || append(&path, &text))
                    .await;
                match written {
                    Ok(Ok(())) => Ok(String::new()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<String, String> {
    // The address may be as secret as a password.
    let response = request
        .send()
        .await
        .map_err(|error| error.without_url().to_string())?;
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let said: String = format!("{} {}", status.as_u16(), text.trim())
        .chars()
        .take(SAID_CHARS_MAX)
        .collect();
    if status.is_success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the file is the operator's, and none of the store's"
)]
fn append(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)?;
    // In one write, so that lines of several processes do not mix.
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

/// `v1,` and the HMAC of id, time and body (Standard Webhooks, "Signature scheme"). A secret that
/// begins with `whsec_` is base64.
fn signature(secret: &Secret, id: &str, time: i64, body: &str) -> String {
    let text = secret.expose();
    let key = text
        .strip_prefix("whsec_")
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_else(|| text.as_bytes().to_vec());
    #[allow(
        clippy::expect_used,
        reason = "HMAC takes keys of every length (RFC 2104)"
    )]
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// What a person reads in a chat.
fn line(document: &str) -> String {
    let event: Value = serde_json::from_str(document).unwrap_or_default();
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let detail = |name: &str| text(&format!("/detail/{name}"));
    let Some(package) = detail("packageName") else {
        let words = detail("message").or_else(|| text("/resources/0"));
        return format!(
            "{}: {}",
            text("/detail-type").unwrap_or("Larder"),
            words.unwrap_or_default()
        );
    };
    let namespace = detail("packageNamespace").map_or_else(String::new, |it| format!("{it}/"));
    format!(
        "{} {}{package} {}: {} ({}) in {}",
        detail("packageFormat").unwrap_or_default(),
        namespace,
        detail("packageVersion").unwrap_or_default(),
        detail("packageVersionState")
            .or_else(|| detail("message"))
            .unwrap_or_default(),
        detail("operationType").unwrap_or_default(),
        detail("repositoryName").unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_are_signed_by_the_standard_scheme() {
        // The example of the scheme's own libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = signature(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_person_reads_what_happened() {
        let document = json!({ "detail-type": "x", "detail": {
            "packageFormat": "npm", "packageNamespace": "acme", "packageName": "ui", "packageVersion": "1.0.0",
            "packageVersionState": "Published", "operationType": "Created", "repositoryName": "team" } });
        assert_eq!(
            line(&document.to_string()),
            "npm acme/ui 1.0.0: Published (Created) in team"
        );
    }
}
