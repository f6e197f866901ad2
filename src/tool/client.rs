//! Talking to a Larder that runs already.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::airgap::bundle::BundleHead;
use crate::airgap::{ImportReport, Order};
use crate::package::PackageId;
use crate::problem::root_cause;
use crate::repository::Explanation;
use crate::store::Door;
use crate::telemetry::{self, GRANT_HEADER, PublishGrant};

#[allow(
    clippy::disallowed_methods,
    reason = "this asks the running Larder alone"
)]
fn http() -> reqwest::ClientBuilder {
    crate::use_ring();
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(5))
}

/// A running Larder that takes commands from who owns its data directory.
pub struct ControlClient {
    http: reqwest::Client,
    door: Door,
}

impl ControlClient {
    /// # Errors
    /// Where nobody listens there, or lets this user in.
    pub fn of(directory: &Path) -> anyhow::Result<Self> {
        let knocked = Door::of(directory).and_then(|door| {
            door.knock()?;
            Ok(door)
        });
        let door = knocked.with_context(|| {
            format!(
                "the Larder that holds {} takes commands from its owner alone, by the socket below it, which does not open",
                directory.display()
            )
        })?;
        let http = http().unix_socket(door.reach()).build()?;
        Ok(Self { http, door })
    }

    /// Says why a version is served or not; of the newest ones, where none is named.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub async fn decide(
        &self,
        repository: &str,
        package: &PackageId,
        version: Option<&str>,
    ) -> anyhow::Result<Vec<Explanation>> {
        let package = package.to_string();
        let mut query = vec![("repository", repository), ("package", &package)];
        query.extend(version.map(|version| ("version", version)));
        let response = self.ask(&["decide"], &query).await?;
        let bytes = response.bytes().await?;
        Ok(match version {
            Some(_) => vec![serde_json::from_slice(&bytes)?],
            None => serde_json::from_slice(&bytes)?,
        })
    }

    /// What it did since it began.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn since_start(&self) -> anyhow::Result<telemetry::SinceStart> {
        let response = self.ask(&["since-start"], &[]).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// The counts of a run.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn report(
        &self,
        run: &str,
        repository: &str,
    ) -> anyhow::Result<telemetry::ClosingReport> {
        let response = self
            .ask(&["run", run], &[("repository", repository)])
            .await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Begins a run, and keeps the running Larder alive for it where it is another run's.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn lease(&self, run: &str, grant: Option<&PublishGrant>) -> anyhow::Result<Lease> {
        let mut request = self.http.get(address(&["run", run, "lease"], &[])?);
        if let Some(grant) = grant {
            // A header: addresses are logged.
            request = request.header(GRANT_HEADER, serde_json::to_string(grant)?);
        }
        Ok(Lease(self.answered(request).await?))
    }

    /// Has it carry out a command.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub async fn execute<O: DeserializeOwned>(
        &self,
        command: &impl Serialize,
    ) -> anyhow::Result<O> {
        let response = self.send("command", serde_json::to_vec(command)?).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Has it write a bundle: its head, and the bundle as it comes.
    ///
    /// # Errors
    /// Where it does not answer, or says no.
    pub async fn export(&self, order: &Order) -> anyhow::Result<(BundleHead, reqwest::Response)> {
        let response = self.send("export", serde_json::to_vec(order)?).await?;
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
    ) -> anyhow::Result<ImportReport> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(trusted.iter().map(|key| ("trust", key)))
            .finish();
        let response = self.send(&format!("import?{query}"), bundle).await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    async fn ask(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<reqwest::Response> {
        self.answered(self.http.get(address(path, query)?)).await
    }

    async fn send(
        &self,
        below: &str,
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<reqwest::Response> {
        let request = self
            .http
            .post(format!("{ROOT}{below}"))
            .header("content-type", "application/json")
            .body(body);
        self.answered(request).await
    }

    async fn answered(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<reqwest::Response> {
        let sent = request.send().await;
        let response =
            sent.with_context(|| format!("{} does not answer", self.door.path().display()))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        anyhow::bail!("{}", text.trim())
    }
}

/// The base of addresses on the socket, which has no host.
const ROOT: &str = "http://larder/";

fn address(path: &[&str], query: &[(&str, &str)]) -> Result<Url, url::ParseError> {
    let mut url = Url::parse(ROOT)?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(path);
    }
    url.query_pairs_mut().extend_pairs(query);
    Ok(url)
}

/// Which of the addresses of a Larder that serves TLS this machine can check the certificate at.
///
/// # Errors
/// Why none of them, for people.
pub async fn trusted(address: &str, public_url: Option<&Url>) -> Result<String, String> {
    let by_name = Url::parse(address).ok().and_then(|mut url| {
        let is_near = match url.host()? {
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
            url::Host::Domain(_) => false,
        };
        url.set_host(Some("localhost")).ok()?;
        is_near.then(|| url.to_string())
    });
    let public = public_url.map(ToString::to_string);
    let candidates = [Some(address.to_owned()), by_name, public];
    let mut why = None;
    for candidate in candidates.into_iter().flatten() {
        let root = candidate.trim_end_matches('/');
        let asked = match http().timeout(Duration::from_secs(5)).build() {
            Ok(http) => http.get(format!("{root}/-/live")).send().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(answer) if answer.status().is_success() => return Ok(root.to_owned()),
            Ok(answer) => why = why.or(Some(format!("it answers {}", answer.status()))),
            Err(error) => why = why.or(Some(root_cause(&error).to_string())),
        }
    }
    Err(format!(
        "{address} serves TLS, and its certificate cannot be checked there ({}); clients that do not trust it will fail: say `public_url`, with the name that the certificate is made out to, or have this machine trust who issued it",
        why.unwrap_or_default()
    ))
}

/// Has the running Larder fetch what lies at these addresses, so many at once: a `HEAD` starts a
/// download that nobody has to wait for. What fails will fail for the client too, which tells it.
pub async fn fetch_ahead(addresses: Vec<String>, at_once: usize) {
    let Ok(http) = http().build() else { return };
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
