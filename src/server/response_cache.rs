//! Recent answers, by the bytes of the request: a warm request is answered by one look-up, without
//! routing or parsing. An entry holds the headers and a weak reference to bytes that another cache
//! owns and bounds. It is used only as long as everything that the answer was made from is current.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use moka::sync::Cache;

use super::account::{AnswerAccount, AnswerRecord};
use super::host::Host;
use super::reply::{Answer, Body};
use super::route::{Route, is_npm};
use crate::Larder;
use crate::access::Principal;
use crate::clock;
use crate::package::BlobId;
use crate::repository::ReuseCondition;
use crate::store::WeakBlob;
use crate::store::rendered::Rendered;
use crate::telemetry::Who;

/// Answers to requests with a longer key are not cached.
const KEY_BYTES_MAX: usize = 2048;
/// The use of a blob is noted at most once in this many seconds; eviction needs it no more exactly.
const NOTED_EVERY: i64 = 10;

/// The parts of a request that decide its answer, as bytes (see [`key`]).
pub type Key = Box<[u8]>;

/// An answer that may be given again: until when, and where its bytes are.
pub struct Replay {
    pub reuse: ReuseCondition,
    pub source: HeldBytes,
    /// The blob whose use is noted for eviction.
    pub blob: Option<BlobId>,
}

/// A weak reference to bytes that another cache holds.
pub enum HeldBytes {
    Rendered(Weak<Rendered>),
    Blob(WeakBlob),
}

impl HeldBytes {
    fn body(&self, over_tls: bool) -> Option<Body> {
        match self {
            Self::Rendered(rendered) => Some(Body::whole(rendered.upgrade()?.body.clone())),
            Self::Blob(blob) => {
                let blob = blob.upgrade()?;
                if let Some(bytes) = blob.in_hand() {
                    return Some(Body::whole(bytes.clone()));
                }
                let size = blob.size();
                (!over_tls && blob.has_pages()).then(|| Body::pages(blob, 0, size))
            }
        }
    }
}

struct CachedResponse {
    /// The generation of the configuration under which the answer was made.
    snapshot: u64,
    /// The revision of tokens and policies under which the answer was made.
    access: i64,
    replay: Replay,
    headers: HeaderMap,
    /// When upstream sent or confirmed it, for the header `Age`; seconds since 1970.
    checked_at: i64,
    noted_at: AtomicI64,
    entry: Arc<AnswerRecord>,
}

/// A bounded number of answers.
pub struct ResponseCache {
    answers: Cache<Key, Arc<CachedResponse>, foldhash::fast::RandomState>,
}

/// The key of a request; `None` where its answer may not be shared or is never cached. Another
/// header or another part of the policies that changes an answer must become part of this key.
pub fn key(
    request: &Parts,
    route: &Route<'_>,
    over_tls: bool,
    host: &Host,
    principal: &Principal,
) -> Option<Key> {
    let path = request.uri.path_and_query()?.as_str();
    let headers = &request.headers;
    let is_plain = request.method == Method::GET
        && route.is_shared()
        && path.len() <= KEY_BYTES_MAX
        && ![IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE, IF_RANGE]
            .iter()
            .any(|name| headers.contains_key(name));
    if !is_plain {
        return None;
    }
    let mut key = Vec::with_capacity(path.len() + 160);
    key.push(u8::from(over_tls));
    key.extend_from_slice(path.as_bytes());
    key.push(0);
    key.extend_from_slice(host.as_str().as_bytes());
    for name in [ACCEPT, ACCEPT_ENCODING] {
        key.push(0);
        if let Some(value) = headers.get(name) {
            key.extend_from_slice(value.as_bytes());
        }
    }
    key.push(u8::from(is_npm(headers)));
    key.extend_from_slice(principal.arn().unwrap_or_default().as_bytes());
    (key.len() <= KEY_BYTES_MAX).then(|| key.into())
}

impl ResponseCache {
    #[must_use]
    pub fn new(count_max: usize) -> Self {
        let answers = Cache::builder()
            .max_capacity(count_max as u64)
            .build_with_hasher(foldhash::fast::RandomState::default());
        Self { answers }
    }

    /// The cached answer to a request with this key, if it still holds.
    pub fn replay(
        &self,
        larder: &Arc<Larder>,
        key: &Key,
        uri: &Uri,
        over_tls: bool,
        who: &Who,
        started: Instant,
    ) -> Option<Response<Body>> {
        let cached = self.answers.get(key)?;
        let now = clock::unix_now();
        if cached.snapshot != larder.snapshot_number()
            || cached.access != larder.access.number()
            || !cached.replay.reuse.holds(now)
        {
            return None;
        }
        let body = cached.replay.source.body(over_tls)?;
        if now - cached.noted_at.load(Ordering::Relaxed) >= NOTED_EVERY {
            cached.noted_at.store(now, Ordering::Relaxed);
            if let Some(blob) = cached.replay.blob {
                larder.store.used(blob);
            }
        }
        let account = AnswerAccount {
            larder: Arc::clone(larder),
            entry: Arc::clone(&cached.entry),
            who: who.clone(),
            method: Method::GET,
            uri: uri.clone(),
            started,
            run: None,
        };
        let mut response = Response::new(body.accounted(account));
        let headers = response.headers_mut();
        headers.clone_from(&cached.headers);
        headers.insert(AGE, HeaderValue::from((now - cached.checked_at).max(0)));
        Some(response)
    }

    /// Remembers an answer that may be given again.
    pub fn keep(
        &self,
        key: Key,
        answer: &mut Answer,
        snapshot: u64,
        access: i64,
        entry: &Arc<AnswerRecord>,
    ) {
        let (Some(replay), Some(cached)) = (answer.replay.take(), &answer.cached) else {
            return;
        };
        let now = clock::unix_now();
        let mut headers = answer.response.headers().clone();
        // Each replay has its own age. With a place for it in the map, a replay's map does not grow.
        headers.insert(AGE, HeaderValue::from(0));
        let cached = CachedResponse {
            snapshot,
            access,
            replay,
            headers,
            checked_at: now.saturating_sub(i64::try_from(cached.age).unwrap_or(0)),
            noted_at: AtomicI64::new(now),
            entry: Arc::clone(entry),
        };
        self.answers.insert(key, Arc::new(cached));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::server::account::RequestSubject;
    use crate::server::route::RunTag;
    use crate::telemetry::Metrics;

    fn request(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn name(request: &Parts, over_tls: bool, principal: &Principal) -> Option<Key> {
        let host = Host::of(request, ([127, 0, 0, 1], 1).into()).unwrap();
        let tag = RunTag::of(&request.headers);
        let route = Route::find(&request.method, request.uri.path(), tag);
        key(request, &route, over_tls, &host, principal)
    }

    #[test]
    fn what_decides_the_answer_is_in_its_name() {
        let named = |path: &str, headers: &[(&str, &str)]| {
            name(&request(path, headers), false, &Principal::Anonymous)
        };
        let plain = named("/npm/public/left-pad", &[("host", "a")]);
        assert!(plain.is_some());
        for (path, headers) in [
            ("/npm/public/right-pad", [("host", "a")].as_slice()),
            ("/npm/public/left-pad?x", &[("host", "a")]),
            ("/npm/public/left-pad", &[("host", "b")]),
            ("/npm/public/left-pad", &[("host", "a"), ("accept", "x")]),
            (
                "/npm/public/left-pad",
                &[("host", "a"), ("accept-encoding", "x")],
            ),
            // npm is told to keep no document that has a notice.
            (
                "/npm/public/left-pad",
                &[("host", "a"), ("user-agent", "npm/11.0.0")],
            ),
        ] {
            assert_ne!(named(path, headers), plain, "{path} {headers:?}");
        }
        let unimportant = [("host", "a"), ("user-agent", "pnpm/11.0.0")];
        assert_eq!(named("/npm/public/left-pad", &unimportant), plain);
        assert_ne!(
            name(
                &request("/npm/public/left-pad", &[("host", "a")]),
                true,
                &Principal::Anonymous
            ),
            plain
        );
        assert_ne!(
            name(
                &request("/npm/public/left-pad", &[("host", "a")]),
                false,
                &Principal::root("111122223333")
            ),
            plain
        );
        assert_ne!(
            named("http://b/npm/public/left-pad", &[("host", "a")]),
            plain
        );
        assert_eq!(
            named("http://a/npm/public/left-pad", &[("host", "b")]),
            plain,
            "the target goes before `Host`"
        );
    }

    #[test]
    fn questions_with_conditions_and_runs_are_answered_anew() {
        for headers in [
            [("if-none-match", "\"x\"")],
            [("range", "bytes=0-1")],
            [("user-agent", "npm/11.0.0 larder-run/7a.public")],
        ] {
            let headers = [headers[0], ("host", "a")];
            let request = request("/npm/public/left-pad", &headers);
            assert_eq!(name(&request, false, &Principal::Anonymous), None);
        }
        assert_eq!(
            name(
                &request("/-/run/7a/npm/public/left-pad", &[("host", "a")]),
                false,
                &Principal::Anonymous
            ),
            None
        );
    }

    #[test]
    fn a_request_with_a_long_name_is_answered_anew() {
        let of = |path_bytes: usize| {
            let path = format!(
                "/npm/public/{}",
                "a".repeat(path_bytes - "/npm/public/".len())
            );
            let request = request(&path, &[("host", "a")]);
            name(&request, false, &Principal::Anonymous).map(|key| key.len())
        };
        let others = of(100).unwrap() - 100;
        assert_eq!(of(KEY_BYTES_MAX - others), Some(KEY_BYTES_MAX));
        assert_eq!(of(KEY_BYTES_MAX - others + 1), None);
    }

    #[test]
    fn so_many_answers_are_remembered() {
        let cache = ResponseCache::new(2);
        let answer = crate::server::reply::json(&1).unwrap();
        let entry = AnswerRecord::new(&Metrics::default(), RequestSubject::default(), &answer);
        let entry = Arc::new(entry);
        for (number, count) in [(0, 1), (1, 2), (2, 2)] {
            let answer = CachedResponse {
                snapshot: 0,
                access: 0,
                replay: Replay {
                    reuse: ReuseCondition::forever(),
                    source: HeldBytes::Rendered(Weak::new()),
                    blob: None,
                },
                headers: HeaderMap::new(),
                checked_at: 0,
                noted_at: AtomicI64::new(0),
                entry: Arc::clone(&entry),
            };
            cache.answers.insert(vec![number].into(), Arc::new(answer));
            cache.answers.run_pending_tasks();
            assert_eq!(cache.answers.entry_count(), count);
        }
    }
}
