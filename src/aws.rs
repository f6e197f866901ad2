//! Requests that AWS takes: its standard chain of credentials, and Signature Version 4.

use std::fmt;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;
use http::Request;
use tokio::sync::{Mutex, OnceCell};

use crate::clock;
use crate::problem::root_cause;

/// Temporary credentials are asked for anew so long before they end.
const MARGIN: Duration = Duration::from_secs(300);
/// Credentials without an end are read again after so long: a profile may have changed.
const READ_AGAIN: Duration = Duration::from_secs(300);

/// Why a request could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsigned(String);

/// The account whose requests these are: the one that the chain finds in the environment, a
/// profile, a web identity, a container's or an instance's role (AWS SDKs and tools reference
/// guide, "Standardized credential providers").
pub struct AwsAccount {
    region: String,
    /// Made when first needed: most Larders have no business with AWS.
    chain: OnceCell<SharedCredentialsProvider>,
    held: Mutex<Option<Held>>,
}

struct Held {
    credentials: Credentials,
    until: std::time::SystemTime,
}

impl fmt::Debug for AwsAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl AwsAccount {
    #[must_use]
    pub fn new(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            chain: OnceCell::new(),
            held: Mutex::new(None),
        }
    }

    /// Signs a request to a service, whose name is the one in its endpoints (`codeartifact`).
    ///
    /// # Errors
    /// Where the chain finds nobody, or the request is none that can be signed.
    pub async fn sign(
        &self,
        service: &str,
        request: Request<Bytes>,
    ) -> Result<Request<Bytes>, Unsigned> {
        let identity = self.credentials().await?.into();
        let unsigned = |error: &dyn std::error::Error| Unsigned(error.to_string());
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(clock::system_now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let mut request = request;
        let uri = request.uri().to_string();
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(request.body());
        let signable = SignableRequest::new(request.method().as_str(), uri, headers, body)
            .map_err(|error| unsigned(&error))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| unsigned(&error))?
            .into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    async fn credentials(&self) -> Result<Credentials, Unsigned> {
        let mut held = self.held.lock().await;
        let now = clock::system_now();
        if let Some(held) = held.as_ref().filter(|held| held.until > now) {
            return Ok(held.credentials.clone());
        }
        let chain = self
            .chain
            .get_or_try_init(|| chain(self.region.clone()))
            .await?;
        let credentials = chain.provide_credentials().await.map_err(|error| {
            let cause = root_cause(&error);
            Unsigned(format!("AWS's chain of credentials finds nobody: {cause}"))
        })?;
        let until = credentials
            .expiry()
            .map_or(now + READ_AGAIN, |end| end - MARGIN);
        *held = Some(Held {
            credentials: credentials.clone(),
            until,
        });
        Ok(credentials)
    }
}

async fn chain(region: String) -> Result<SharedCredentialsProvider, Unsigned> {
    // With ring, as all of our TLS is.
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .http_client(http)
        .load()
        .await;
    config
        .credentials_provider()
        .ok_or_else(|| Unsigned("AWS's chain of credentials is empty".to_owned()))
}
