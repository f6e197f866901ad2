//! `POST /-/oidc/token`: an identity token of a CI for one of Larder's.

use http::header::ORIGIN;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answer::Asked;
use super::audit::Line;
use super::reply::{self, Answer};
use super::shared_body::SharedBody;
use crate::access::GET_TOKEN;
use crate::problem::{Decider, Problem};

const BYTES_MAX: u64 = 64 * 1024;

#[derive(Deserialize)]
struct IdentityToken {
    token: String,
}

#[derive(Serialize)]
struct Exchanged {
    token: String,
    expires: Timestamp,
    principal: String,
}

/// Takes `{"token": …}`, and answers with a token, until when it holds, and for whom.
pub async fn answer(
    asked: Asked<'_>,
    body: &SharedBody,
    line: &mut Line,
) -> Result<Answer, Problem> {
    let (larder, snapshot, head) = (asked.larder, asked.snapshot, asked.head());
    if head.headers.contains_key(ORIGIN) {
        return Err(Problem::denied(
            Decider::Larder,
            "pages in a browser get no tokens here",
        ));
    }
    line.action = Some(GET_TOKEN);
    let patience = snapshot.config.upload.stall_timeout;
    let body = asked.bodies.read(body.pieces(), BYTES_MAX, patience);
    let identity: IdentityToken = serde_json::from_slice(&body.await?.bytes)
        .map_err(|_| Problem::invalid("the body has to be {\"token\": \"…\"}"))?;
    let exchanged = larder
        .access
        .exchange(&snapshot.config, &identity.token, head.peer.address);
    let (principal, issued) = exchanged.await?;
    line.principal = principal.to_string();
    line.by = "[[oidc]]".to_owned();
    reply::json(&Exchanged {
        token: issued.token,
        expires: issued.expires,
        principal: principal.to_string(),
    })
}
