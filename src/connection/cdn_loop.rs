//! Each request upstream says which Larders it came through (RFC 8586), so that one that comes back
//! is told from others. `Via` would say the same, but servers stop compressing where they see it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::task;

/// The header's name.
pub static CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

/// More Larders than this one behind the other are a circle.
const HOPS_MAX: usize = 32;

/// This Larder's name among those that a request may come through; no two are the same.
#[derive(Clone, Debug)]
pub struct LoopId(String);

impl Default for LoopId {
    fn default() -> Self {
        let mut random = [0; 8];
        // Where the system gives no random bytes, the name is a common one: two of those in a row
        // refuse each other, and nothing goes round.
        let _ = getrandom::fill(&mut random);
        Self(format!("larder-{}", hex::encode(random)))
    }
}

impl LoopId {
    /// Whether a request with these headers has been here before.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut hops = 0;
        headers
            .get_all(&CDN_LOOP)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|hop| {
                hops += 1;
                let id = hop.split(';').next().unwrap_or_default().trim();
                hops > HOPS_MAX || id.eq_ignore_ascii_case(&self.0)
            })
    }

    /// The header of a request that is sent now: those that the client's request came through,
    /// and this Larder.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let own = || HeaderValue::from_str(&self.0).ok();
        task::came_through()
            .and_then(|through| HeaderValue::from_str(&format!("{through}, {}", self.0)).ok())
            .or_else(own)
            .unwrap_or(HeaderValue::from_static("larder"))
    }
}

/// The proxies that a client's request came through, where it names them.
#[must_use]
pub fn hops(headers: &HeaderMap) -> Option<String> {
    let hops: Vec<&str> = headers
        .get_all(&CDN_LOOP)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!hops.is_empty()).then(|| hops.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_comes_back_is_known_whoever_it_came_through_meanwhile() {
        let (one, two) = (LoopId::default(), LoopId::default());
        let sent = HeaderMap::from_iter([(CDN_LOOP.clone(), one.header())]);
        assert!(one.is_in(&sent));
        assert!(!two.is_in(&sent));
        let back = task::through(hops(&sent).unwrap(), async { two.header() }).await;
        let back = HeaderMap::from_iter([(CDN_LOOP.clone(), back)]);
        assert!(one.is_in(&back) && two.is_in(&back));
        let other = HeaderValue::from_static("cdn.example; hops=1");
        assert!(!one.is_in(&HeaderMap::from_iter([(CDN_LOOP.clone(), other)])));
    }

    #[test]
    fn a_request_that_came_through_too_many_is_taken_for_one_that_came_back() {
        let through = |count: usize| {
            let hops = vec!["cdn.example"; count].join(", ");
            HeaderMap::from_iter([(CDN_LOOP.clone(), HeaderValue::from_str(&hops).unwrap())])
        };
        let own = LoopId::default();
        assert!(!own.is_in(&through(HOPS_MAX)));
        assert!(own.is_in(&through(HOPS_MAX + 1)));
    }
}
