//! Results page by page: a token names the last of the page before.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::{Call, Failure};

/// How many results a page has where the caller does not say.
const PAGE: usize = 100;

/// Which page is asked for.
pub(super) struct Page {
    pub size: usize,
    /// The last of the page before.
    pub after: Option<String>,
}

impl Page {
    pub fn of(call: &Call) -> Result<Self, Failure> {
        let said = call.optional("max-results").map(str::parse::<usize>);
        let size = match said {
            None => PAGE,
            Some(Ok(size)) if (1..=1000).contains(&size) => size,
            Some(_) => return Err(Failure::field("`max-results` has to be from 1 to 1000")),
        };
        Self::with(size, call.optional("next-token"))
    }

    /// Of the operations that say it in the body.
    pub fn of_body(call: &Call) -> Result<Self, Failure> {
        Self::with(
            call.number("maxResults", 1..=1000)?.unwrap_or(PAGE),
            call.word("nextToken"),
        )
    }

    fn with(size: usize, token: Option<&str>) -> Result<Self, Failure> {
        let after = token
            .map(|token| {
                let name = URL_SAFE_NO_PAD.decode(token).ok();
                name.and_then(|name| String::from_utf8(name).ok())
                    .ok_or_else(|| Failure::field("the token is none that was given here"))
            })
            .transpose()?;
        Ok(Self { size, after })
    }

    /// The token for what comes behind the name.
    pub fn token(name: &str) -> Value {
        URL_SAFE_NO_PAD.encode(name).into()
    }

    /// Of all results in their order, those of this page, and the token for the next.
    pub fn cut<T>(
        &self,
        all: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, Value), Failure> {
        let start = match &self.after {
            None => 0,
            Some(after) => all
                .iter()
                .position(|one| name(one) == after)
                .map(|at| at + 1)
                .ok_or_else(|| {
                    Failure::field("what the token names has gone; begin with the first page")
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
