//! Talking to a Larder that runs already.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::login::ClientLogin;
use crate::airgap::bundle::BundleHead;
use crate::airgap::{ImportReport, Order};
use crate::connection::certificates;
use crate::format::plain;
use crate::package::{Format, PackageId};
use crate::repository::Explanation;
use crate::store::Door;
use crate::telemetry::{self, GRANT_HEADER, LEASE_LASTS, PublishGrant};

/// A client that goes by way of the environment's proxy, as package clients do.
#[allow(
    clippy::disallowed_methods,
    reason = "this asks the Larder that the command line names"
)]
fn elsewhere() -> reqwest::ClientBuilder {
    crate::use_ring();
    reqwest::Client::builder()
}

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
        match version {
            Some(_) => Ok(vec![answer(response).await?]),
            None => answer(response).await,
        }
    }

    /// Its work since it began.
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
        answer(response).await
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

    /// Takes the lease anew before it ends, again and again. Where that fails, it is tried once more
    /// in time.
    pub async fn keep_leased(&self, run: &str, lease: &mut Lease) -> Infallible {
        loop {
            tokio::time::sleep(LEASE_LASTS / 4).await;
            if let Ok(next) = self.lease(run, None).await {
                *lease = next;
            }
        }
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
        answer(response).await
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
        answer(response).await
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
        let response = sent.map_err(|error| {
            let (door, why) = (self.door.path().display(), plain::cause(&error));
            anyhow::anyhow!("the running Larder does not answer at {door}: {why}")
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        anyhow::bail!("{}", text.trim())
    }
}

/// Reads an answer to its end.
async fn answer<T: DeserializeOwned>(response: reqwest::Response) -> anyhow::Result<T> {
    let bytes = response.bytes().await.map_err(|_| {
        anyhow::anyhow!("the running Larder broke off its answer; its log says why")
    })?;
    serde_json::from_slice(&bytes).map_err(|_| {
        anyhow::anyhow!("the running Larder answers something else; is it of this version?")
    })
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

/// How long a Larder may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The client, which trusts these certificates beside the system's.
fn trusting(
    builder: reqwest::ClientBuilder,
    ca: Option<&Path>,
) -> Result<reqwest::ClientBuilder, String> {
    Ok(match ca {
        Some(ca) => builder.tls_certs_merge(certificates(ca)?),
        None => builder,
    })
}

/// How a Larder lets in who reads a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Whoever comes.
    Anyone,
    /// Nobody without a token.
    TokenHolders,
}

/// Asks the Larder at the place who may read the repository there, and whether the login's token
/// may.
///
/// # Errors
/// Where no Larder answers there, the repository is not there, or the token is refused; for people.
pub async fn entry(login: &ClientLogin) -> anyhow::Result<Entry> {
    let (root, repository) = (&login.place.root, &login.place.repository);
    let builder = if login.place.is_near() {
        http()
    } else {
        elsewhere()
    };
    let builder = trusting(builder, login.ca.as_deref()).map_err(anyhow::Error::msg)?;
    let http = builder.timeout(PATIENCE).build()?;
    let live = http.get(format!("{root}/-/live")).send().await;
    let live = live.map_err(|error| unreachable(root, login.ca.is_some(), &error))?;
    let status = live.status();
    if live.text().await.unwrap_or_default().trim() != "live" {
        anyhow::bail!(
            "what answers at {root} is no Larder: it says {status} to /-/live. --address takes an address without a format and a repository"
        );
    }
    // Larder answers this itself, after admission.
    let place = format!("{}-/ping", login.place.of(Format::Npm));
    let asked = http.get(&place).send().await?;
    let entry = if is_refusal(&asked) {
        Entry::TokenHolders
    } else {
        Entry::Anyone
    };
    let answer = match &login.token {
        None => asked,
        Some(token) => http.get(&place).bearer_auth(token.expose()).send().await?,
    };
    let is_refused = login.token.is_some() && is_refusal(&answer);
    let said = answer.bytes().await.unwrap_or_default();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
    let said = said.get("error").and_then(|error| error.as_str());
    let said = said.unwrap_or_default();
    if is_refused {
        anyhow::bail!("{root} does not let the token read repository `{repository}`: {said}");
    }
    if said.contains("there is no repository") {
        anyhow::bail!("{root} says: {said}. --repository names another");
    }
    Ok(entry)
}

fn is_refusal(answer: &reqwest::Response) -> bool {
    matches!(
        answer.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    )
}

/// Why no Larder answered, with what to do.
fn unreachable(root: &str, has_ca: bool, error: &reqwest::Error) -> anyhow::Error {
    let why = plain::cause(error);
    if !why.contains("certificate") {
        return anyhow::anyhow!(
            "no Larder answers at {root} ({why}). `larder serve` starts one there; --address names another"
        );
    }
    let advice = if has_ca {
        "Look whether it was issued by what --ca names, to that name, and is still valid"
    } else {
        "--ca FILE names the authority that issued it"
    };
    anyhow::anyhow!("the certificate of {root} cannot be checked on this machine. {advice}")
}

/// Which of the addresses of a Larder that serves TLS this machine can check the certificate at.
///
/// # Errors
/// Why none of them, for people.
pub async fn trusted(
    address: &str,
    public_url: Option<&Url>,
    ca: Option<&Path>,
) -> Result<String, String> {
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
    let http = trusting(http(), ca)?.timeout(PATIENCE).build();
    let http = http.map_err(|error| error.to_string())?;
    let mut why = None;
    for candidate in candidates.into_iter().flatten() {
        let root = candidate.trim_end_matches('/');
        match http.get(format!("{root}/-/live")).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(root.to_owned()),
            Ok(answer) => why = why.or(Some(format!("it answers {}", answer.status()))),
            Err(error) => why = why.or(Some(plain::cause(&error))),
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
