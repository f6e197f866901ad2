//! The cache's part in an answer: one word from the fetch to the log, the metrics and
//! `Cache-Status`.

use crate::store::NotKept;

/// How an answer was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Hit,
    Revalidated,
    Miss,
    /// Another's request was under way, and its answer was shared (RFC 9211 §2.6).
    Collapsed,
    /// Upstream failed, this is what was there before.
    Stale,
    /// Upstream is being asked, and lets this be served meanwhile.
    Revalidating,
    /// It passed through, and there is no room to keep it.
    Unkept(NotKept),
}

impl Outcome {
    /// The word in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
            Self::Revalidating => "revalidating",
            Self::Unkept(why) => why.as_str(),
        }
    }

    /// Whether it spared a fetch.
    #[must_use]
    pub fn is_hit(self) -> bool {
        !matches!(self, Self::Miss | Self::Unkept(_))
    }

    /// Whether it was here before anybody asked: what another's fetch brings was not.
    #[must_use]
    pub fn was_here(self) -> bool {
        self.is_hit() && self != Self::Collapsed
    }

    /// The value of `Cache-Status` (RFC 9211) for an answer from `connection`.
    #[must_use]
    pub fn cache_status(self, connection: &str) -> String {
        match self {
            Self::Hit => format!("larder; hit; detail=\"{connection}\""),
            Self::Revalidated => {
                format!("larder; fwd=stale; fwd-status=304; detail=\"{connection}\"")
            }
            Self::Stale => {
                format!("larder; hit; detail=\"{connection}; stale, upstream fails\"")
            }
            Self::Revalidating => {
                format!("larder; hit; detail=\"{connection}; stale, upstream is being asked\"")
            }
            Self::Miss => format!("larder; fwd=uri-miss; stored; detail=\"{connection}\""),
            Self::Collapsed => {
                format!("larder; fwd=uri-miss; collapsed; detail=\"{connection}\"")
            }
            Self::Unkept(why) => {
                let why = why.as_str();
                format!("larder; fwd=uri-miss; detail=\"{connection}; {why}\"")
            }
        }
    }
}
