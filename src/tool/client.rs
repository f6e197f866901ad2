//! Talking to a Larder that runs already.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::airgap::bundle::Head;
use crate::airgap::{Order, Report};
use crate::package::PackageId;
use crate::repository::Explanation;
use crate::secret::Secret;
use crate::telemetry::{self, GRANT_HEADER, PublishGrant};

fn http() -> anyhow::Result<reqwest::Client> {
    crate::use_ring();
    Ok(reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
        .build()?)
}

async fn get(url: Url) -> anyhow::Result<reqwest::Response> {
    succeed(http()?.get(url)).await
}

async fn succeed(request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
    let response = request
        .send()
        .await
        .context("the running Larder does not answer")?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    anyhow::bail!("the running Larder answers {status}: {}", text.trim())
}

/// # Errors
/// Where the running Larder does not answer, or says no.
pub async fn decide(
    address: &str,
    repository: &str,
    package: &PackageId,
    version: &str,
) -> anyhow::Result<Explanation> {
    let mut url = Url::parse(&format!("{address}/-/decide"))?;
    url.query_pairs_mut()
        .append_pair("repository", repository)
        .append_pair("package", &package.to_string())
        .append_pair("version", version);
    Ok(serde_json::from_slice(&get(url).await?.bytes().await?)?)
}

/// A running Larder that takes commands from who can read its data directory.
pub struct Control {
    http: reqwest::Client,
    address: String,
    secret: Secret,
}

impl Control {
    /// # Errors
    /// Where no client can be made.
    pub fn of(address: String, secret: Secret) -> anyhow::Result<Self> {
        Ok(Self {
            http: http()?,
            address,
            secret,
        })
    }

    /// Has it carry out a command.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub async fn execute<O: DeserializeOwned>(
        &self,
        command: &impl Serialize,
    ) -> anyhow::Result<O> {
        let response = self.send("", serde_json::to_vec(command)?).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Has it write a bundle: its head, and the bundle as it comes.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub async fn export(&self, order: &Order) -> anyhow::Result<(Head, reqwest::Response)> {
        let response = self.send("/export", serde_json::to_vec(order)?).await?;
        let head = response.headers().get("larder-bundle");
        let head = head.context("the running Larder is of another version")?;
        Ok((serde_json::from_slice(head.as_bytes())?, response))
    }

    /// Has it take a bundle in.
    ///
    /// # Errors
    /// Where it does not answer, or refuses it.
    pub async fn import(
        &self,
        bundle: reqwest::Body,
        trusted: &[String],
    ) -> anyhow::Result<Report> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(trusted.iter().map(|key| ("trust", key)))
            .finish();
        let response = self.send(&format!("/import?{query}"), bundle).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    async fn send(
        &self,
        below: &str,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<reqwest::Response> {
        let response = self
            .http
            .post(format!("{}/-/control{below}", self.address))
            .bearer_auth(self.secret.expose())
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .with_context(|| format!("{} does not answer", self.address))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        anyhow::bail!("{}", text.trim())
    }
}

/// # Errors
/// Where the running Larder does not answer.
pub async fn report(
    address: &str,
    run: &str,
    repository: &str,
) -> anyhow::Result<telemetry::Report> {
    let url = Url::parse(&format!("{address}/-/run/{run}?repository={repository}"))?;
    Ok(serde_json::from_slice(&get(url).await?.bytes().await?)?)
}

/// Has the running Larder fetch what lies at these addresses, so many at once: a `HEAD` starts a
/// download that nobody has to wait for. What fails will fail for the client too, which tells it.
pub async fn fetch_ahead(addresses: Vec<String>, at_once: usize) {
    let Ok(http) = http() else { return };
    stream::iter(addresses)
        .for_each_concurrent(at_once, |address| {
            let asked = http.head(address).send();
            async move {
                let _ = asked.await;
            }
        })
        .await;
}

/// Keeps another run's private Larder alive for as long as this is held.
pub struct Lease(#[allow(dead_code, reason = "its connection is the lease")] reqwest::Response);

/// # Errors
/// Where the running Larder does not answer.
pub async fn lease(
    address: &str,
    run: &str,
    grant: Option<&PublishGrant>,
) -> anyhow::Result<Lease> {
    let url = Url::parse(&format!("{address}/-/run/{run}/lease"))?;
    let mut request = http()?.get(url);
    if let Some(grant) = grant {
        // A header: addresses are logged.
        request = request.header(GRANT_HEADER, serde_json::to_string(grant)?);
    }
    Ok(Lease(succeed(request).await?))
}
