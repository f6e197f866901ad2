//! Results page by page: a token names the last of the page before.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{ApiFailure, Call};

/// How many results a page has where the caller does not say.
const PAGE: usize = 100;

/// Which page is asked for.
pub(super) struct Page {
    pub size: usize,
    /// The last of the page before.
    pub after: Option<String>,
}

impl Page {
    pub fn of(call: &Call) -> Result<Self, ApiFailure> {
        let said = call.optional("max-results").map(str::parse::<usize>);
        let size = match said {
            None => PAGE,
            Some(Ok(size)) if (1..=1000).contains(&size) => size,
            Some(_) => return Err(ApiFailure::field("`max-results` has to be from 1 to 1000")),
        };
        Self::with(size, call.optional("next-token"))
    }

    /// Reads the page that is asked for, for operations that have it in the body.
    pub fn of_body(call: &Call) -> Result<Self, ApiFailure> {
        Self::with(
            call.number("maxResults", 1..=1000)?.unwrap_or(PAGE),
            call.word("nextToken"),
        )
    }

    fn with(size: usize, token: Option<&str>) -> Result<Self, ApiFailure> {
        let after = token
            .map(|token| {
                let name = URL_SAFE_NO_PAD.decode(token).ok();
                name.and_then(|name| String::from_utf8(name).ok())
                    .ok_or_else(|| ApiFailure::field("the token is none that was given here"))
            })
            .transpose()?;
        Ok(Self { size, after })
    }

    /// The token for what comes behind the name.
    pub fn token(name: &str) -> Value {
        URL_SAFE_NO_PAD.encode(name).into()
    }

    /// Cuts this page out of all results in their order, and makes the token for the next page.
    pub fn cut<T>(
        &self,
        all: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, Value), ApiFailure> {
        let start = match &self.after {
            None => 0,
            Some(after) => all
                .iter()
                .position(|one| name(one) == after)
                .map(|at| at + 1)
                .ok_or_else(|| {
                    ApiFailure::field("what the token names has gone; begin with the first page")
                })?,
        };
        let is_last = all.len() - start <= self.size;
        let page: Vec<T> = all.into_iter().skip(start).take(self.size).collect();
        let token = match page.last() {
            Some(last) if !is_last => Self::token(name(last)),
            _ => Value::Null,
        };
        Ok((page, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn cut(query: &str) -> Result<(Vec<&'static str>, Value), ApiFailure> {
        let call = Call::read(Some(query), b"").unwrap();
        Page::of(&call)?.cut(ALL.to_vec(), |name| name)
    }

    #[test]
    fn pages_follow_each_other_to_the_last() {
        let mut query = "max-results=2".to_owned();
        let mut pages = Vec::new();
        loop {
            let (page, token) = cut(&query).unwrap();
            pages.push(page);
            let Some(token) = token.as_str() else { break };
            query = format!("max-results=2&next-token={token}");
        }
        assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    }

    #[test]
    fn a_page_is_asked_for_within_bounds_and_by_a_token_of_ours() {
        for query in ["max-results=0", "max-results=1001", "max-results=x"] {
            assert!(cut(query).is_err(), "{query}");
        }
        assert!(cut("next-token=!").is_err());
        let gone = Page::token("z");
        let query = format!("next-token={}", gone.as_str().unwrap());
        assert!(cut(&query).is_err());
        assert_eq!(cut("").unwrap(), (ALL.to_vec(), Value::Null));
    }

    #[test]
    fn a_page_in_the_body_is_bounded_as_well() {
        let page = |body: &str| Page::of_body(&Call::read(None, body.as_bytes()).unwrap());
        assert_eq!(page("").unwrap().size, PAGE);
        assert_eq!(page(r#"{"maxResults":7}"#).unwrap().size, 7);
        assert!(page(r#"{"maxResults":1001}"#).is_err());
    }
}
