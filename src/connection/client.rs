//! Requests to one registry: credentials for its own authority alone, redirects followed by
//! hand, retries with backoff, and no more at once than configured.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backon::BackoffBuilder as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::breaker::{Breaker, UpstreamFailure};
use super::cdn_loop::{CDN_LOOP, LoopId};
use super::credential::Credential;
use super::error::{Error, transport};
use super::forward::{Forwarder, forwarder};
use super::opened::Opened;
use super::proxy::Proxies;
use super::reach::Reach;
use super::request::{Refusals, UpstreamRequest};
use super::silence::{Probe, Silence};
use super::throttle::{Throttle, retry_after};
use crate::clock;
use crate::config::{self, ProxySetting};
use crate::format::bounded::Bounded;
use crate::format::{path, plain};
use crate::package::{Format, Location, UpstreamUrl};
use crate::telemetry::{Egress, FetchLabels, Metrics, UpstreamChange};

const REDIRECTS_MAX: usize = 10;

/// The cause where `connection.client_cert` is none. Its text is a secret, and is not repeated.
pub(super) const UNUSABLE_CLIENT_CERT: &str =
    "`client_cert` holds no certificate with its private key in PEM";

/// Hosts beside the registry's own of which is known how they are doing.
const OTHER_HOSTS_MAX: u64 = 256;

/// The shortest wait for an upstream that asks to wait.
const THROTTLED_MIN: Duration = Duration::from_millis(10);

/// Another Larder's sign that it was not our credential that failed: somebody decided.
pub static DECIDER: HeaderName = HeaderName::from_static("larder-decider");

/// How one host is doing.
struct Health {
    host: Host,
    breaker: Breaker,
    throttle: Throttle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Registry,
    /// A host that the registry's documents or redirects lead to.
    Other,
}

impl Health {
    fn new(failures_max: usize, rest: Duration, host: Host) -> Self {
        Self {
            host,
            breaker: Breaker::new(failures_max, rest),
            throttle: Throttle::default(),
        }
    }

    /// Whether the host may be asked just now.
    fn admit(&self) -> Result<(), Error> {
        if let Some(until) = self.throttle.until() {
            let retry_after = until - Instant::now();
            return Err(Error::Throttled { retry_after });
        }
        match self.breaker.resting() {
            Some(retry_after) => Err(Error::Resting { retry_after }),
            None => Ok(()),
        }
    }
}

/// An answer, after redirects.
struct Answered {
    url: Url,
    /// The request's headers.
    asked: HeaderMap,
    response: reqwest::Response,
}

/// Why there is none, and whose fault that is; nobody's where no request was sent.
struct Unanswered {
    error: Error,
    health: Option<Arc<Health>>,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self {
            error,
            health: None,
        }
    }
}

/// A registry outside, with its address, credential, bounds and health.
pub struct Connection {
    /// A label for configuration, rules, reports and errors.
    pub name: String,
    /// The id of the registry that is asked: the key of all that is stored or remembered of it.
    pub registry: String,
    pub format: Format,
    pub url: Url,
    pub offline: bool,
    pub max_age: Option<Duration>,
    credential: Option<Credential>,
    client: reqwest::Client,
    /// Made when the first publish is passed on.
    forwarder: OnceLock<Result<Forwarder, String>>,
    connect_timeout: Duration,
    reach: Reach,
    publish_reach: Reach,
    loop_id: LoopId,
    /// Breaker and throttle of the registry itself.
    health: Arc<Health>,
    silence: Arc<Silence>,
    /// Breakers and throttles of other hosts that documents and redirects lead to, by scheme, host
    /// and port.
    others: moka::sync::Cache<String, Arc<Health>>,
    failures_max: usize,
    rest: Duration,
    /// Bounds on concurrent requests. Assets have a bound of their own, since a download may wait for
    /// a document; with one bound, downloads alone could fill it and wait for ever.
    document_places: Arc<Semaphore>,
    asset_places: Arc<Semaphore>,
    retries: usize,
    /// Where requests a second are bounded.
    pace: Option<DefaultDirectRateLimiter>,
    /// Which of its addresses proxies lead to.
    pub proxies: Proxies,
    config: config::ConnectionSettings,
    metrics: Arc<Metrics>,
    egress: Arc<Egress>,
}

impl Connection {
    /// # Errors
    /// Where a certificate or a credential cannot be used.
    #[allow(clippy::disallowed_methods, reason = "this is the door to registries")]
    pub fn new(
        config: &config::ConnectionSettings,
        registry: &str,
        all: &config::Config,
        metrics: &Arc<Metrics>,
        loop_id: &LoopId,
    ) -> Result<Self, String> {
        let fetch = &all.fetch;
        let reach = Reach::to_read(config);
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(fetch.connect_timeout)
            .read_timeout(config.timeout.unwrap_or(fetch.read_timeout))
            .pool_max_idle_per_host(fetch.per_connection_max)
            .dns_resolver(reach.clone())
            .referer(false);
        match &config.proxy {
            None => {}
            Some(ProxySetting::None) => builder = builder.no_proxy(),
            Some(ProxySetting::At(address)) => {
                let proxy = reqwest::Proxy::all(address.expose());
                let proxy = proxy.map_err(|_| "its proxy cannot be used".to_owned())?;
                builder = builder.no_proxy().proxy(proxy);
            }
        }
        if let Some(client_cert) = &config.client_cert {
            let identity = reqwest::Identity::from_pem(client_cert.expose().as_bytes());
            let identity = identity.map_err(|_| UNUSABLE_CLIENT_CERT.to_owned())?;
            builder = builder.identity(identity);
        }
        if let Some(file) = &config.ca_file {
            builder = builder.tls_certs_merge(certificates(file)?);
        }
        let client = builder.build().map_err(|error| plain::cause(&error))?;
        let credential = config
            .auth
            .as_ref()
            .map(|auth| Credential::new(auth, config.format, &client))
            .transpose()?;
        let places = || Arc::new(Semaphore::new(fetch.per_connection_max));
        Ok(Self {
            name: config.name.clone(),
            registry: registry.to_owned(),
            format: config.format,
            url: config.url.clone(),
            offline: config.offline || all.offline,
            max_age: config.max_age,
            credential,
            client,
            forwarder: OnceLock::new(),
            connect_timeout: fetch.connect_timeout,
            reach,
            publish_reach: Reach::to_publish(config),
            loop_id: loop_id.clone(),
            health: Arc::new(Health::new(fetch.failures_max, fetch.rest, Host::Registry)),
            silence: Arc::new(Silence::new(&config.name)),
            others: moka::sync::Cache::new(OTHER_HOSTS_MAX),
            failures_max: fetch.failures_max,
            rest: fetch.rest,
            document_places: places(),
            asset_places: places(),
            retries: fetch.retries,
            pace: config
                .rate_max
                .map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            proxies: Proxies::of(config),
            config: config.clone(),
            egress: metrics.ledger.egress(&config.name, config.format),
            metrics: Arc::clone(metrics),
        })
    }

    /// Whether it was made of this configuration: then a reload keeps it, pools and moods
    /// included.
    #[must_use]
    pub fn is_of(
        &self,
        config: &config::ConnectionSettings,
        registry: &str,
        offline: bool,
    ) -> bool {
        self.config == *config
            && self.registry == registry
            && self.offline == (config.offline || offline)
    }

    /// The settings of the connection's own that say how it is asked, in words.
    #[must_use]
    pub fn told_settings(&self) -> Vec<String> {
        self.config.told()
    }

    /// Whether upstream throttles or fails at the moment. Prefetching pauses then.
    #[must_use]
    pub fn has_trouble(&self) -> bool {
        self.is_silent()
            || self.health.throttle.until().is_some()
            || self.health.breaker.has_failures()
    }

    /// Whether the registry was lately waited for in vain.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.silence.is_on()
    }

    /// Notes that the registry was waited for in vain.
    pub fn note_silence(&self) {
        self.silence.begin();
    }

    /// The place of the one request that asks whether a silent registry is back; `None` where one is
    /// under way.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        self.silence.probe()
    }

    /// Sends the request; waits and retries until the request's patience ends.
    ///
    /// # Errors
    /// Upstream's failure, classified.
    pub async fn ask(&self, ask: &UpstreamRequest) -> Result<Opened, Error> {
        let deadline = Instant::now() + ask.patience;
        let mut backoff = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(self.retries)
            .with_jitter()
            .build();
        loop {
            let failed = match self.ask_once(ask).await {
                Ok(opened) => return Ok(opened),
                Err(Error::Throttled { retry_after })
                    if Instant::now() + retry_after < deadline =>
                {
                    let wait_ms = retry_after.as_millis();
                    tracing::info!(connection = %self.name, wait_ms, "Connection `{}` was throttled by its registry and waits", self.name);
                    // At least a moment, so that a wait of nothing is no busy loop.
                    tokio::time::sleep(retry_after.max(THROTTLED_MIN)).await;
                    continue;
                }
                Err(error) if !error.may_pass() => return Err(error),
                Err(error) => error,
            };
            match backoff.next() {
                Some(pause) if Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
                _ => return Err(failed),
            }
        }
    }

    async fn ask_once(&self, ask: &UpstreamRequest) -> Result<Opened, Error> {
        if self.offline {
            return Err(Error::Offline);
        }
        let places = if ask.identity {
            &self.asset_places
        } else {
            &self.document_places
        };
        let place = Arc::clone(places)
            .acquire_owned()
            .await
            .map_err(|_| Error::TimedOut)?;
        let mut admitted = Vec::new();
        let mut answer = self.follow(ask, &mut admitted).await;
        if let Ok(answered) = &answer
            && let Some(credential) = self.credential_for(&answered.url)
            && credential.answered(
                answered.response.status(),
                answered.asked.get(AUTHORIZATION),
            )
        {
            answer = self.follow(ask, &mut admitted).await;
        }
        let (health, answer) = match answer {
            Ok(answered) => {
                let health = self.health(&answered.url);
                let denied = answered.response.headers().contains_key(&DECIDER)
                    && denies(&answered.response);
                if denied {
                    let said = said(answered.response).await;
                    (Some(health), Err(Error::Denied { said }))
                } else {
                    (Some(health), self.judge(ask, answered, place))
                }
            }
            Err(Unanswered { error, health }) => (health, Err(error)),
        };
        // Health is `None` where no request was sent: that says nothing about any host.
        if let Some(health) = health {
            match &answer {
                Err(error) if error.is_failing() => {
                    let failure = match error {
                        Error::Unreachable { .. } => UpstreamFailure::Connecting,
                        _ => UpstreamFailure::Resource(ask.url.as_str()),
                    };
                    if health.breaker.failed(failure) && health.host == Host::Registry {
                        self.tell(Some(error.to_string()));
                    }
                }
                Err(Error::Throttled { retry_after }) => health.throttle.hold(*retry_after),
                _ => {
                    // A body is still to come where there is one; its end says that it came.
                    let is_whole = match &answer {
                        Ok(opened) => opened.status == StatusCode::NOT_MODIFIED,
                        Err(_) => true,
                    };
                    if is_whole && health.host == Host::Registry {
                        self.silence.end();
                    }
                    if health.breaker.succeeded() && health.host == Host::Registry {
                        self.tell(None);
                    }
                }
            }
        }
        let outcome = match &answer {
            Ok(opened) if opened.status.is_client_error() => "refused",
            Ok(_) => "found",
            Err(error) => error.as_str(),
        };
        self.metrics
            .fetches
            .get_or_create(&FetchLabels {
                connection: self.name.clone(),
                outcome: outcome.to_owned(),
            })
            .inc();
        answer
    }

    /// The health of the address's host: the registry itself, or a host that its documents and
    /// redirects lead to. The failures of one do not count against the other.
    fn health(&self, url: &Url) -> Arc<Health> {
        if self.reach.is_configured(url) {
            return Arc::clone(&self.health);
        }
        let authority = url.origin().ascii_serialization();
        self.others.get_with(authority, || {
            Arc::new(Health::new(self.failures_max, self.rest, Host::Other))
        })
    }

    fn tell(&self, cause: Option<String>) {
        self.metrics.upstreams.tell(UpstreamChange {
            connection: self.name.clone(),
            cause,
        });
    }

    /// Sends the request, following redirects; the credential goes to our own authority alone. The
    /// hosts that let it through are in `admitted`: none is asked twice whether it may be asked.
    async fn follow(
        &self,
        ask: &UpstreamRequest,
        admitted: &mut Vec<Arc<Health>>,
    ) -> Result<Answered, Unanswered> {
        let mut url = Url::clone(&ask.url);
        for _ in 0..=REDIRECTS_MAX {
            self.reach.admit(&url)?;
            let health = self.health(&url);
            if !admitted.iter().any(|known| Arc::ptr_eq(known, &health)) {
                health.admit()?;
                admitted.push(Arc::clone(&health));
            }
            let headers = self.headers(ask, &url).await?;
            if let Some(pace) = self.pace.as_ref().filter(|_| health.host == Host::Registry) {
                pace.until_ready().await;
            }
            let mut request = self
                .client
                .request(ask.method.clone(), self.signed(&url))
                .headers(headers.clone());
            if let Some((content_type, body)) = &ask.body {
                request = request
                    .header(CONTENT_TYPE, *content_type)
                    .body(body.clone());
            }
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => {
                    let error = transport(&error);
                    // A name that leads inside is its document's fault.
                    let health = error.is_failing().then_some(health);
                    return Err(Unanswered { error, health });
                }
            };
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !moved {
                return Ok(Answered {
                    url,
                    asked: headers,
                    response,
                });
            }
            url = response
                .headers()
                .get(LOCATION)
                .and_then(|location| location.to_str().ok())
                .and_then(|location| url.join(location).ok())
                .ok_or(Error::Redirected)?;
        }
        Err(Error::Redirected.into())
    }

    /// The address with what the connection's own URL has for a query, where it lies below it: it
    /// may be a secret, and is kept out of all that is stored or shown.
    pub(super) fn signed(&self, url: &Url) -> Url {
        let mut signed = url.clone();
        if let Some(own) = &self.config.query
            && self.is_below(url)
        {
            let query = match url.query() {
                Some(query) => format!("{query}&{}", own.expose()),
                None => own.expose().to_owned(),
            };
            signed.set_query(Some(&query));
        }
        signed
    }

    fn is_below(&self, url: &Url) -> bool {
        let own = self.url.path();
        self.url.origin() == url.origin() && url.path().starts_with(path::folder(own))
    }

    async fn headers(&self, ask: &UpstreamRequest, url: &Url) -> Result<HeaderMap, Error> {
        let mut headers = ask.headers.clone();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        headers.insert(CDN_LOOP.clone(), self.loop_header());
        if ask.identity {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(credential) = self.credential_for(url) {
            let (name, value) = credential.header().await?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// The connection's credential, where the address is one that it is meant for.
    fn credential_for(&self, url: &Url) -> Option<&Credential> {
        let credential = self.credential.as_ref();
        credential.filter(|_| self.reach.is_configured(url))
    }

    /// The connection's credential, where a publish may carry it there.
    pub(super) fn publish_credential_for(&self, url: &Url) -> Option<&Credential> {
        let credential = self.credential.as_ref();
        credential.filter(|_| self.publish_reach.is_configured(url))
    }

    /// Where it may publish.
    pub(super) fn publish_reach(&self) -> &Reach {
        &self.publish_reach
    }

    /// Where it may read.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The header that says what a request came through.
    pub(super) fn loop_header(&self) -> HeaderValue {
        self.loop_id.header()
    }

    /// The address of a resource; `None` where it climbs, or where the directory document alone
    /// knows it.
    #[must_use]
    pub fn locate(&self, location: &Location) -> Option<UpstreamUrl> {
        match location {
            Location::Url(url) => Some(UpstreamUrl::named(url.clone())),
            Location::Own(url) => UpstreamUrl::at(&self.url, url),
            Location::Path(path) => path.below(&self.url),
            Location::Beside(path) => path.below(&self.url.join("../").ok()?),
            Location::Service { .. } => None,
        }
    }

    /// Where publishes go, where that was configured.
    #[must_use]
    pub fn publish_url(&self) -> Option<&Url> {
        self.config.publish_url.as_ref()
    }

    /// Whether publishes carry the client's own credentials.
    #[must_use]
    pub fn publishes_as_client(&self) -> bool {
        self.config.publish_as_client
    }

    pub(super) fn forwarder(&self) -> Result<&Forwarder, Error> {
        let made = self
            .forwarder
            .get_or_init(|| forwarder(&self.config, self.connect_timeout, &self.publish_reach));
        made.as_ref().map_err(|cause| Error::Unreachable {
            cause: cause.clone(),
        })
    }

    fn judge(
        &self,
        ask: &UpstreamRequest,
        answered: Answered,
        place: OwnedSemaphorePermit,
    ) -> Result<Opened, Error> {
        let Answered {
            url,
            asked,
            response,
        } = answered;
        let status = response.status();
        let wait = retry_after(response.headers(), clock::system_now());
        match status.as_u16() {
            200 | 304 => {}
            // A part is the whole for nobody who did not ask for one.
            206 if ask.headers.contains_key(RANGE) => {}
            201..=299 if ask.body.is_some() => {}
            404 | 410 if ask.refusals == Refusals::Answer => {}
            404 => return Err(Error::Absent),
            410 => return Err(Error::Gone),
            401 | 403 | 407 | 451 => {
                return Err(Error::Refused {
                    status: status.as_u16(),
                });
            }
            429 => {
                return Err(Error::Throttled {
                    retry_after: wait.unwrap_or(Duration::from_secs(5)),
                });
            }
            503 if wait.is_some() => {
                return Err(Error::Throttled {
                    retry_after: wait.unwrap_or_default(),
                });
            }
            508 => return Err(Error::Looped),
            400..=499 if ask.refusals == Refusals::Answer => {}
            other => return Err(Error::Broken { status: other }),
        }
        self.egress.fetch();
        let is_registry = self.reach.is_configured(&url);
        Ok(Opened {
            silence: is_registry.then(|| Arc::clone(&self.silence)),
            status,
            headers: response.headers().clone(),
            url,
            asked,
            response,
            ahead: None,
            metrics: Arc::clone(&self.metrics),
            egress: Arc::clone(&self.egress),
            _place: place,
        })
    }
}

fn denies(response: &reqwest::Response) -> bool {
    response.status() == StatusCode::FORBIDDEN
}

/// A refusal's words, in whichever shape its format has them, on one line.
async fn said(mut response: reqwest::Response) -> String {
    const BYTES_MAX: u64 = 8192;
    let mut body = Bounded::new(BYTES_MAX);
    while let Ok(Some(piece)) = response.chunk().await
        && body.push(&piece).is_ok()
    {}
    let text = String::from_utf8_lossy(&body.beginning()).into_owned();
    let error = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    let words: Vec<&str> = error
        .as_deref()
        .unwrap_or(&text)
        .split_whitespace()
        .collect();
    words.join(" ").chars().take(600).collect()
}

/// The certificates of a file, in PEM.
///
/// # Errors
/// Why there are none, for people.
#[allow(
    clippy::disallowed_methods,
    reason = "the configuration or the command line names this file"
)]
pub fn certificates(file: &std::path::Path) -> Result<Vec<reqwest::Certificate>, String> {
    let pem = std::fs::read(file)
        .map_err(|error| format!("{} cannot be read: {}", file.display(), plain::io(&error)))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() {
        return Err(format!("{} holds no certificates in PEM", file.display()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigSource, Learned, load};

    #[tokio::test]
    async fn so_many_other_hosts_are_known() {
        crate::use_ring();
        let source = ConfigSource {
            text: "[[connection]]\nname = \"up\"\nformat = \"npm\"\n\
                   url = \"https://npm.registry.example/\"\n"
                .to_owned(),
            ..ConfigSource::default()
        };
        let config = load(&source, &Learned::default()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let connection = &config.connections[0];
        let connection =
            Connection::new(connection, "up", &config, &metrics, &LoopId::default()).unwrap();
        let known = |from: u64, to: u64| {
            for number in from..to {
                let url = format!("https://files-{number}.example/");
                connection.health(&Url::parse(&url).unwrap());
            }
            connection.others.run_pending_tasks();
            connection.others.entry_count()
        };
        assert_eq!(known(0, OTHER_HOSTS_MAX), OTHER_HOSTS_MAX);
        assert_eq!(known(OTHER_HOSTS_MAX, 2 * OTHER_HOSTS_MAX), OTHER_HOSTS_MAX);
    }
}
