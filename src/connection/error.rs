//! Outcomes of asking upstream, by name. Only *absent* may become a 404.

use std::time::Duration;

use super::reach::LeadsInside;
use crate::format::plain;
use crate::problem::{Decider, Kind, Problem};

/// Why there is no answer to use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("upstream does not have it")]
    Absent,
    #[error("upstream had it and has withdrawn it")]
    Gone,
    #[error("upstream refuses it to Larder, with status {status}")]
    Refused { status: u16 },
    /// Another Larder, which says why.
    #[error("upstream denies it: {said}")]
    Denied { said: String },
    /// The service that gives tokens for the registry gave none.
    #[error("CodeArtifact gives no token for it: {cause}")]
    NoToken { cause: String },
    #[error("upstream asks to wait {} s", retry_after.as_secs())]
    Throttled { retry_after: Duration },
    #[error("upstream answers with status {status}")]
    Broken { status: u16 },
    #[error("upstream cannot be reached: {cause}")]
    Unreachable { cause: String },
    /// It was connected to, and broke off before it answered.
    #[error("upstream does not answer: {cause}")]
    Unanswered { cause: String },
    #[error("upstream did not answer in time")]
    TimedOut,
    #[error("upstream failed again and again and is left alone for {} s", retry_after.as_secs())]
    Resting { retry_after: Duration },
    #[error("Larder is offline for it")]
    Offline,
    #[error("upstream redirects without end or to no address")]
    Redirected,
    #[error("the registry names an address that Larder does not fetch (`{scheme}:`)")]
    Unfetchable { scheme: String },
    #[error("the registry is asked over TLS, and names an address by plain http, at {host}")]
    PlainText { host: String },
    #[error(
        "the registry names an address at {host}, which is inside: on this machine, or in a private network"
    )]
    Inside { host: String },
    #[error("the request came back to where it had been")]
    Looped,
    #[error("upstream answers with a body that cannot be used: {0}")]
    Body(String),
    /// It is whole, and something else than what was asked for.
    #[error("upstream answers with what is no document of it ({0})")]
    NoDocument(String),
}

impl Error {
    /// The word in logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::Denied { .. } => "denied",
            Self::NoToken { .. } => "no-token",
            Self::Throttled { .. } => "throttled",
            Self::Broken { .. } => "broken",
            Self::Unreachable { .. } => "unreachable",
            Self::Unanswered { .. } => "unanswered",
            Self::TimedOut => "timed-out",
            Self::Unfetchable { .. } => "unfetchable",
            Self::PlainText { .. } => "plain-text",
            Self::Inside { .. } => "inside",
            Self::Looped => "looped",
            Self::Resting { .. } => "resting",
            Self::Offline => "offline",
            Self::Redirected => "redirected",
            Self::Body(_) => "body",
            Self::NoDocument(_) => "no-document",
        }
    }

    /// Whether the same request may do better in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Broken { status } => *status >= 500 || *status == 408,
            Self::Unreachable { .. } | Self::Unanswered { .. } | Self::TimedOut | Self::Body(_) => {
                true
            }
            _ => false,
        }
    }

    /// Whether the host that was asked is failing.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Unanswered { .. }
                | Self::TimedOut
                | Self::Broken { status: 500.. }
        )
    }

    /// Whether upstream is failing rather than saying no: what is stale may be served then.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        !matches!(self, Self::Absent | Self::Gone | Self::Denied { .. })
    }

    /// The request's failure, where nothing else can be served.
    #[must_use]
    pub fn problem(&self, connection: &str, what: &str) -> Problem {
        let decider = Decider::Connection(connection.to_owned());
        let problem = |kind, message: String| Problem::new(kind, decider.clone(), message);
        match self {
            Self::Absent => problem(Kind::NotFound, format!("{what} is not there")),
            Self::Gone => problem(
                Kind::NotFound,
                format!("{what} was withdrawn by its registry"),
            ),
            Self::Refused { status } => problem(
                Kind::Upstream,
                format!("the registry refuses {what} to Larder (status {status})"),
            )
            .advice("check the connection's `auth`"),
            Self::Denied { said } => problem(Kind::Denied, said.clone()),
            Self::NoToken { .. } => problem(Kind::Upstream, format!("{what} is not here, and {self}"))
                .advice("check AWS's credentials, and `domain`, `owner` and `region` of the connection's `auth`"),
            Self::Throttled { retry_after } | Self::Resting { retry_after } => problem(
                Kind::Unavailable {
                    retry_after: *retry_after,
                },
                format!("{what} is not here, and {self}"),
            )
            .advice("try again then"),
            Self::TimedOut => problem(
                Kind::UpstreamTimeout,
                format!("{what} is not here, and {self}"),
            )
            .advice("try again, or run `larder check`"),
            // Behind an air gap, what is not here does not exist: said at once, and no retry.
            Self::Offline => problem(Kind::NotFound, format!("{what} is not here, and {self}"))
                .advice("`larder wishes` lists what is missing, for `larder warm --wishes` where there is a line"),
            Self::PlainText { .. } => problem(Kind::Upstream, format!("{what} is not here, and {self}"))
                .advice("have the registry name its https addresses (behind a proxy that ends TLS it needs its public URL), or connect to it by http"),
            Self::Inside { host } => problem(Kind::Upstream, format!("{what} is not here, and {self}"))
                .advice(format!("where the registry's files are meant to lie there, add \"{host}\" to the connection's `hosts`")),
            Self::Looped => problem(Kind::Loop, format!("{what} is not here, and {self}"))
                .advice("a Larder is its own upstream: change the connection's `url`"),
            Self::Unfetchable { .. }
            | Self::Broken { .. }
            | Self::Unreachable { .. }
            | Self::Unanswered { .. }
            | Self::Redirected
            | Self::Body(_)
            | Self::NoDocument(_) => problem(Kind::Upstream, format!("{what} is not here, and {self}"))
                .advice("try again, or run `larder check`"),
        }
    }
}

pub(super) fn transport(error: &reqwest::Error) -> Error {
    if let Some(host) = LeadsInside::caused(error) {
        return Error::Inside {
            host: host.to_owned(),
        };
    }
    if error.is_timeout() && !error.is_connect() {
        return Error::TimedOut;
    }
    // The causes say what the sentence does not; the URL, which may be a secret, is left out.
    let cause = std::error::Error::source(error).map(plain::cause);
    let cause = cause.unwrap_or_default();
    if error.is_connect() {
        Error::Unreachable { cause }
    } else if error.is_request() {
        Error::Unanswered { cause }
    } else {
        Error::Body(if cause.is_empty() {
            "it broke off".to_owned()
        } else {
            cause
        })
    }
}
