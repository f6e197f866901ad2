//! For how long a document is fresh, and for how long it may be served while it is stale
//! (RFC 9111, RFC 5861).

use std::time::Duration;

use http::header::{CACHE_CONTROL, EXPIRES};
use http::{HeaderMap, Method, Request, Response};
use http_cache_semantics::{AfterResponse, CacheOptions, CachePolicy};

use super::DocumentFetcher;
use crate::clock;
use crate::connection::{Connection, Opened};
use crate::store::catalog::DocumentRow;

/// The longest that a stale document is served while upstream is asked, whatever upstream says.
const STALE_SECONDS_MAX: u64 = 3600;

/// The time for which upstream lets a cache use a document, and how it is revalidated.
#[derive(Clone, Debug)]
pub(super) struct Validity {
    pub policy: String,
    pub fresh_for: Duration,
    pub stale_for: Duration,
}

impl DocumentFetcher {
    pub(super) fn validity(
        &self,
        connection: &Connection,
        opened: &Opened,
        before: Option<&DocumentRow>,
    ) -> Validity {
        let options = CacheOptions {
            // Our own credentials, our own cache.
            shared: false,
            cache_heuristic: 0.0,
            ..CacheOptions::default()
        };
        let now = clock::system_now();
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(opened.url.as_str())
            .body(())
            .unwrap_or_default();
        request.headers_mut().clone_from(&opened.asked);
        request.headers_mut().remove(http::header::AUTHORIZATION);
        let mut response = Response::builder()
            .status(opened.status)
            .body(())
            .unwrap_or_default();
        response.headers_mut().clone_from(&opened.headers);
        let old = before.and_then(|row| serde_json::from_str::<CachePolicy>(&row.policy).ok());
        let policy = match old {
            Some(old) => match old.after_response(&request, &response, now) {
                AfterResponse::NotModified(policy, _) | AfterResponse::Modified(policy, _) => {
                    policy
                }
            },
            None => CachePolicy::new_options(&request, &response, now, options),
        };
        Validity {
            fresh_for: self.fresh_for(connection, &policy, &opened.headers, before),
            stale_for: stale_for(connection, &opened.headers, before),
            policy: serde_json::to_string(&policy).unwrap_or_default(),
        }
    }

    /// How long a document is fresh from when it was checked: as configured, as upstream says
    /// with this answer or said with the one that it confirms, or a default where it never did.
    fn fresh_for(
        &self,
        connection: &Connection,
        policy: &CachePolicy,
        headers: &HeaderMap,
        before: Option<&DocumentRow>,
    ) -> Duration {
        if let Some(max_age) = connection.max_age {
            return max_age;
        }
        if headers.contains_key(CACHE_CONTROL) || headers.contains_key(EXPIRES) {
            return policy.time_to_live(clock::system_now());
        }
        // One that a publish made old says nothing of the next.
        let before = before.filter(|row| row.fresh_until > 0);
        before.map_or(self.fresh_for, |row| {
            let seconds = row.fresh_until.saturating_sub(row.checked_at);
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        })
    }
}

/// How long upstream lets a stale document be served while it is asked; as with freshness, an
/// answer that says nothing leaves what the one before it said.
fn stale_for(
    connection: &Connection,
    headers: &HeaderMap,
    before: Option<&DocumentRow>,
) -> Duration {
    if connection.max_age.is_some() {
        return Duration::ZERO;
    }
    if !headers.contains_key(CACHE_CONTROL) {
        return Duration::from_secs(before.map_or(0, |row| row.stale_for.unsigned_abs()));
    }
    let said = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|directive| {
            let (name, value) = directive.split_once('=')?;
            let is_it = name.trim().eq_ignore_ascii_case("stale-while-revalidate");
            is_it.then(|| value.trim().trim_matches('"').parse().ok())?
        });
    // Longer than this, and what is served was never asked for again in time.
    Duration::from_secs(said.unwrap_or(0).min(STALE_SECONDS_MAX))
}
