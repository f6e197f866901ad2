//! Requests to a registry.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::package::UpstreamUrl;

/// One request.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    pub method: Method,
    pub url: UpstreamUrl,
    pub accept: &'static str,
    /// Validators, ranges.
    pub headers: HeaderMap,
    /// Bytes as they are, without a content coding: what digests are promised of.
    pub identity: bool,
    pub body: Option<(&'static str, Bytes)>,
    /// How long waiting and trying again may take.
    pub patience: Duration,
    pub refusals: Refusals,
}

/// The outcome of an answer whose status says that the request is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusals {
    Error,
    /// An answer with its body, unless credentials or throttling are what it is about.
    Answer,
}

impl UpstreamRequest {
    #[must_use]
    pub fn get(url: UpstreamUrl, accept: &'static str, patience: Duration) -> Self {
        Self {
            method: Method::GET,
            url,
            accept,
            headers: HeaderMap::new(),
            identity: false,
            body: None,
            patience,
            refusals: Refusals::Error,
        }
    }
}
