//! How a request can fail, in the words of the house: no HTTP here.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The innermost cause of an error: itself where nothing caused it.
#[must_use]
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause
}

/// The kind of a failure, as far as a caller would act on it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    NotFound,
    Denied,
    Unauthenticated,
    Invalid,
    /// The path takes others: as an `Allow` header lists them.
    MethodNotAllowed {
        allow: &'static str,
    },
    /// It was asked by a name that is not its own.
    Misdirected,
    Conflict,
    TooLarge,
    /// Upstream's bytes do not match what upstream promised.
    Unverified,
    Upstream,
    UpstreamTimeout,
    /// The request came back to a Larder that it had come through.
    Loop,
    /// Ask again later.
    Unavailable {
        retry_after: Duration,
    },
    /// Too many failed attempts; ask again later.
    TooMany {
        retry_after: Duration,
    },
    Internal,
}

impl Kind {
    /// Whether upstream failed, and said nothing of what was asked for.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::Upstream | Self::UpstreamTimeout | Self::Unavailable { .. }
        )
    }

    /// The word in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Invalid => "invalid",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::Misdirected => "misdirected",
            Self::Conflict => "conflict",
            Self::TooLarge => "too-large",
            Self::Unverified => "unverified",
            Self::Upstream => "upstream",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::Loop => "loop",
            Self::Unavailable { .. } => "unavailable",
            Self::TooMany { .. } => "too-many",
            Self::Internal => "internal",
        }
    }
}

/// The part of the configuration, or Larder itself, that decided that the request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    Rule(String),
    Repository(String),
    Connection(String),
    /// A statement of a policy, in words.
    Policy(String),
    Larder,
}

impl Decider {
    /// Whether the message says already who decided.
    fn is_named_in(&self, message: &str) -> bool {
        match self {
            Self::Rule(name) => message.contains(&format!("rule \"{name}\"")),
            Self::Repository(name) | Self::Connection(name) => {
                message.contains(&format!("`{name}`"))
            }
            Self::Policy(statement) => message.contains(statement),
            Self::Larder => false,
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "rule `{name}`"),
            Self::Repository(name) => write!(f, "repository `{name}`"),
            Self::Connection(name) => write!(f, "connection `{name}`"),
            Self::Policy(statement) => f.write_str(statement),
            Self::Larder => f.write_str("Larder"),
        }
    }
}

/// A request's failure: `message` and `advice` are for the client, `cause` for the log.
#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: Kind,
    pub decider: Decider,
    pub message: String,
    pub advice: Option<String>,
    /// Upstream is away, and before that it said that it does not have this.
    pub was_absent: bool,
    /// Upstream is away, and it is a document of before that does not name this: it may be there by now.
    pub is_doubtful: bool,
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    #[must_use]
    pub fn new(kind: Kind, decider: Decider, message: impl Into<String>) -> Self {
        Self {
            kind,
            decider,
            message: message.into(),
            advice: None,
            was_absent: false,
            is_doubtful: false,
            cause: None,
        }
    }

    #[must_use]
    pub fn not_found(decider: Decider, message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, decider, message)
    }

    #[must_use]
    pub fn denied(decider: Decider, message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, decider, message)
    }

    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, Decider::Larder, message)
    }

    /// Something of Larder's own failed; the client learns that, the log learns what.
    #[must_use]
    pub fn internal(
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Kind::Internal, Decider::Larder, message)
            .advice("the log of this Larder says more")
            .caused_by(cause)
    }

    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says that what upstream cannot be asked for now was absent when it was asked last.
    #[must_use]
    pub fn absent_before(mut self) -> Self {
        self.was_absent = true;
        self
    }

    /// The answer where nobody else may have what upstream did not have before it went away.
    #[must_use]
    pub fn or_absent(self) -> Self {
        if !self.was_absent {
            return self;
        }
        Self {
            kind: Kind::NotFound,
            advice: Some("its registry is away, and said so before".to_owned()),
            ..self
        }
    }

    /// Says that this is known from before an outage alone.
    #[must_use]
    pub fn doubtful(mut self) -> Self {
        self.is_doubtful = true;
        self
    }

    /// The answer where nobody else has what a document of before an outage does not name: clients do
    /// not ask again for what does not exist.
    #[must_use]
    pub fn or_outage(self) -> Self {
        if !self.is_doubtful {
            return self;
        }
        Self {
            kind: Kind::UpstreamTimeout,
            advice: Some("its registry is away, and may have it by now; try again".to_owned()),
            ..self
        }
    }

    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// One sentence for the client: what, who decided, what to do.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.message.clone();
        if !self.decider.is_named_in(&sentence) {
            sentence.push_str(&format!(" ({})", self.decider));
        }
        if let Some(advice) = &self.advice {
            sentence.push_str("; ");
            sentence.push_str(advice);
        }
        sentence
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the request failed")]
    struct Failed(#[source] fmt::Error);

    #[test]
    fn a_sentence_says_once_who_decided() {
        let held = "a 1.0.0 is held back by rule \"new\"";
        let told = Problem::denied(Decider::Rule("new".to_owned()), held).advice("wait");
        assert_eq!(told.sentence(), format!("{held}; wait"));
        let told = Problem::denied(Decider::Rule("old".to_owned()), held).advice("wait");
        assert_eq!(told.sentence(), format!("{held} (rule `old`); wait"));
    }

    #[test]
    fn the_root_cause_is_the_innermost_error_or_the_error_itself() {
        let innermost = fmt::Error.to_string();
        assert_eq!(root_cause(&Failed(fmt::Error)).to_string(), innermost);
        assert_eq!(root_cause(&fmt::Error).to_string(), innermost);
    }
}
