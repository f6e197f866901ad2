//! One event, sent to one target as that target takes it.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Method, Request};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{Mutex, OnceCell};
use url::{Url, form_urlencoded};

use crate::aws::AwsAccount;
use crate::clock;
use crate::config::{Destination, EventBus, EventTarget, Topic};
use crate::format::bounded::Bounded;
use crate::format::plain;
use crate::secret::Secret;
use crate::store::packages::Delivery;
use crate::task::Tasks;

/// How much of a target's answer is kept.
const SAID_CHARS_MAX: usize = 200;
/// How much of it is read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Sends events.
pub struct Sender {
    /// Made when there is somebody to tell.
    http: OnceCell<reqwest::Client>,
    /// By region; no more of them than targets.
    accounts: Mutex<HashMap<String, Arc<AwsAccount>>>,
    tasks: Tasks,
}

impl Sender {
    #[must_use]
    pub fn new(tasks: &Tasks) -> Self {
        Self {
            http: OnceCell::new(),
            accounts: Mutex::default(),
            tasks: tasks.clone(),
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "targets are asked by a client of their own"
    )]
    async fn http(&self) -> Result<&reqwest::Client, String> {
        let http = self.http.get_or_try_init(|| async {
            // A redirect would carry the event, and its signature, to somebody else.
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
        });
        http.await.map_err(|error| error.to_string())
    }

    async fn post(&self, url: &Secret) -> Result<reqwest::RequestBuilder, String> {
        Ok(self
            .http()
            .await?
            .post(url.expose())
            .header("content-type", "application/json"))
    }

    /// Posts to a service of AWS, signed for whom the chain of credentials finds.
    async fn post_signed(
        &self,
        service: &str,
        region: &str,
        url: &Url,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<(u16, String), String> {
        let account = {
            let mut accounts = self.accounts.lock().await;
            let account = accounts
                .entry(region.to_owned())
                .or_insert_with(|| Arc::new(AwsAccount::new(region)));
            Arc::clone(account)
        };
        let mut request = Request::builder().method(Method::POST).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Bytes::from(body))
            .map_err(|error| error.to_string())?;
        let signed = account.sign(service, request).await;
        let signed = signed.map_err(|error| error.to_string())?;
        let request = reqwest::Request::try_from(signed).map_err(|error| error.to_string())?;
        said(self.http().await?.execute(request).await).await
    }

    /// `PutEvents` (EventBridge API reference).
    async fn put_event(&self, bus: &EventBus, document: &str) -> Result<String, String> {
        let event: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
        let member = |name: &str| event.get(name).unwrap_or(&Value::Null);
        let time = member("time")
            .as_str()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        // Sources that begin with `aws.` are AWS's own there.
        let source = match (&bus.source, member("source").as_str()) {
            (Some(source), _) => source,
            (None, Some(source)) if !source.starts_with("aws.") => source,
            _ => "larder",
        };
        let entries = json!({ "Entries": [{
            "EventBusName": bus.name,
            "Source": source,
            "DetailType": member("detail-type"),
            "Time": time.map(jiff::Timestamp::as_second),
            "Resources": member("resources"),
            "Detail": member("detail").to_string(),
        }] });
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "AWSEvents.PutEvents"),
        ];
        let answer = self.post_signed(
            "events",
            &bus.region,
            &bus.endpoint,
            &headers,
            entries.to_string(),
        );
        let (status, text) = answer.await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        // It answers with 200 also where it took nothing.
        match answer.get("FailedEntryCount").and_then(Value::as_i64) {
            Some(0) if status == 200 => Ok(shortened(status, &text)),
            _ => Err(shortened(status, &text)),
        }
    }

    /// `Publish` (SNS API reference).
    async fn publish(&self, topic: &Topic, one: &Delivery) -> Result<String, String> {
        let mut fields = vec![
            ("Action", "Publish".to_owned()),
            ("Version", "2010-03-31".to_owned()),
            ("TopicArn", topic.arn.clone()),
            ("Message", one.document.clone()),
        ];
        // Where the topic keeps an order, it is that of the events about one subject.
        if topic.arn.ends_with(".fifo") {
            let group = hex::encode(<Sha256 as sha2::Digest>::digest(&one.subject));
            fields.push(("MessageGroupId", group));
            fields.push(("MessageDeduplicationId", one.event.clone()));
        }
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.post_signed("sns", &topic.region, &topic.endpoint, &headers, form);
        let (status, text) = answer.await?;
        taken(status, &text)
    }

    /// Sends one; what the target said.
    pub async fn send(&self, target: &EventTarget, one: &Delivery) -> Result<String, String> {
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
            Destination::EventBridge(bus) => self.put_event(bus, &one.document).await,
            Destination::Sns(topic) => self.publish(topic, one).await,
            Destination::File(path) => {
                let (path, text) = (path.clone(), format!("{}\n", one.document));
                let written = self
                    .tasks
                    .spawn_blocking(move || append(&path, &text))
                    .await;
                match written {
                    Ok(Ok(())) => Ok(String::new()),
                    Ok(Err(error)) => Err(plain::io(&error)),
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<String, String> {
    let (status, text) = said(request.send().await).await?;
    taken(status, &text)
}

/// The status and the words of an answer.
async fn said(answer: reqwest::Result<reqwest::Response>) -> Result<(u16, String), String> {
    // The address may be as secret as a password.
    let mut response = answer.map_err(|error| plain::cause(&error.without_url()))?;
    let mut body = Bounded::new(ANSWER_BYTES_MAX);
    while let Ok(Some(piece)) = response.chunk().await
        && body.push(&piece).is_ok()
    {}
    let text = String::from_utf8_lossy(&body.beginning()).into_owned();
    Ok((response.status().as_u16(), text))
}

fn taken(status: u16, text: &str) -> Result<String, String> {
    let said = shortened(status, text);
    if (200..300).contains(&status) {
        Ok(said)
    } else {
        Err(said)
    }
}

fn shortened(status: u16, text: &str) -> String {
    format!("{status} {}", text.trim())
        .chars()
        .take(SAID_CHARS_MAX)
        .collect()
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

/// The line that a person reads in a chat.
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

    #[tokio::test]
    async fn an_answer_of_a_target_is_read_up_to_its_bound() {
        let read = async |bytes: u64| {
            let body = "x".repeat(usize::try_from(bytes).unwrap());
            let answer = reqwest::Response::from(http::Response::new(body));
            let (status, text) = said(Ok(answer)).await.unwrap();
            (status, text.len() as u64)
        };
        assert_eq!(read(ANSWER_BYTES_MAX).await, (200, ANSWER_BYTES_MAX));
        assert_eq!(read(ANSWER_BYTES_MAX + 1).await, (200, ANSWER_BYTES_MAX));
    }
}
